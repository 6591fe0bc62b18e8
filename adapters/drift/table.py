"""How it is written down what a container makes of each field, in each version, and how requests are translated by it.

    Dialect ─▶ Section ─▶ Row ─▶ Cell          vLLM ─▶ "Reasoning" ─▶ include_reasoning ─▶ up to 0.9: refused
                                  └─ Step      what is done to a call that has the field; None: it is sent on as it is

A dialect becomes columns of docs/compatibility.md, each of its rows a row there. A container with tables of its own
needs a `Dialect` of its own, no more: its versions are any integers that grow.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

import msgspec

from adapters.base import Call, Surface
from adapters.errors import UnsupportedParameter

_encode = msgspec.json.Encoder().encode
_values = msgspec.json.Decoder().decode


class Does(StrEnum):
    """What happens to a field."""

    PASSED = "passed"
    """It is sent on as it is, and acted upon."""
    RENAMED = "renamed"
    """Its value is sent under another name."""
    TRANSLATED = "translated"
    """Something else that means the same is sent."""
    IGNORED = "ignored"
    """The answer is the same without it, so it does not matter that the container does not know it."""
    REFUSED = "refused"
    """The call is answered with status 400, because the container would ignore the field or lose what is wrong."""


class Edit:
    """One call on its way to one container: reads as the call, and keeps what is changed to itself."""

    __slots__ = ("call", "raw", "values")

    def __init__(self, call: Call) -> None:
        self.call = call
        self.raw: dict[str, msgspec.Raw] = call.raw
        self.values: dict[str, Any] = call.values

    def put(self, name: str, value: bytes) -> None:
        """Set a field to a JSON value."""
        self._own()
        self.raw[name] = msgspec.Raw(value)
        self.values[name] = _values(value)

    def drop(self, name: str) -> None:
        """Leave a field out; it need not be there."""
        self._own()
        self.raw.pop(name, None)
        self.values.pop(name, None)

    def result(self) -> Call:
        return self.call if self.raw is self.call.raw else replace(self.call, raw=self.raw, values=self.values)

    def _own(self) -> None:
        if self.raw is self.call.raw:
            self.raw, self.values = dict(self.raw), dict(self.values)


Step = Callable[[Edit], None]
"""Translates, or raises UnsupportedParameter. It is called if the call has the field, even if a step dropped it."""


@dataclass(frozen=True, slots=True)
class Cell:
    """What happens to a field in a range of versions."""

    does: Does
    note: str = ""
    """In Markdown: which values this is about, what they become."""
    step: Step | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """One field of one surface, or of both."""

    name: str
    cells: tuple[tuple[int, Cell], ...]
    """The version from which on a cell holds, oldest first; the first one holds for all before it, too."""
    surfaces: frozenset[Surface] = frozenset(Surface)

    def at(self, version: int) -> Cell:
        found = self.cells[0][1]
        for first, cell in self.cells:
            if first <= version:
                found = cell
        return found


@dataclass(frozen=True, slots=True)
class Section:
    """Rows that are read together."""

    title: str
    rows: tuple[Row, ...]


@dataclass(frozen=True, slots=True)
class Dialect:
    """A container's table."""

    title: str
    versions: Mapping[int, str]
    """Every version that is told apart, oldest first, and what it is called."""
    sections: tuple[Section, ...]

    def rows(self, surface: Surface) -> Iterator[Row]:
        return (row for section in self.sections for row in section.rows if surface in row.surfaces)


class Translator:
    """Translates calls for one version of a container."""

    __slots__ = ("_steps",)

    def __init__(self, dialect: Dialect, version: int) -> None:
        self._steps: dict[Surface, dict[str, tuple[int, Step]]] = {
            surface: {
                row.name: (place, step)
                for place, row in enumerate(dialect.rows(surface))
                if (step := row.at(version).step) is not None
            }
            for surface in Surface
        }

    def translate(self, call: Call) -> Call:
        """Return the call as the container has to get it; steps are taken in the order of their rows.

        Raises:
            UnsupportedParameter: the container would ignore a field that changes the answer.
        """
        steps = self._steps[call.surface]
        found = [steps[name] for name in call.values if name in steps]
        if not found:
            return call
        edit = Edit(call)
        for _, step in sorted(found, key=_place):
            step(edit)
        return edit.result()


def _place(numbered: tuple[int, Step]) -> int:
    return numbered[0]


# What most rows are made of.

CHAT, COMPLETIONS = frozenset({Surface.CHAT}), frozenset({Surface.COMPLETIONS})
BOTH = CHAT | COMPLETIONS


def always(names: str, does: Does, note: str = "", surfaces: frozenset[Surface] = BOTH) -> list[Row]:
    """Rows of fields, their names separated by spaces, that need no step in any version."""
    return [Row(name, ((0, Cell(does, note)),), surfaces) for name in names.split()]


def refused(name: str, hint: str = "", *harmless: object) -> Cell:
    """A field that the container would ignore; with one of the values `harmless` it changes nothing and is left out."""

    def step(edit: Edit) -> None:
        if name not in edit.values:
            return
        if edit.values[name] not in harmless:
            raise UnsupportedParameter(f"This model's container does not act upon {name}.{hint and f' {hint}'}", name)
        edit.drop(name)

    shown = " and ".join(f"`{_encode(value).decode()}`" for value in harmless)
    return Cell(Does.REFUSED, shown and f"{shown} ignored", step)


def never(name: str, hint: str = "", *harmless: object, surfaces: frozenset[Surface] = BOTH) -> Row:
    """A field that no version acts upon."""
    return Row(name, ((0, refused(name, hint, *harmless)),), surfaces)


def since(name: str, first: int, *harmless: object, surfaces: frozenset[Surface] = BOTH) -> Row:
    """A field that the container acts upon from a version on."""
    return Row(name, ((0, refused(name, "", *harmless)), (first, Cell(Does.PASSED))), surfaces)


def until(name: str, last: int, surfaces: frozenset[Surface] = BOTH) -> Row:
    """A field that the container acts upon up to a version."""
    return Row(name, ((0, Cell(Does.PASSED)), (last + 1, refused(name))), surfaces)
