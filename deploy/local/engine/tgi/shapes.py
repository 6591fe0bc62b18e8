"""What a request has to look like, and serde's words for what does not.

A shape reads its value from JSON text, with the position of what is wrong, or takes one that was buffered, as serde
does for untagged enums. https://github.com/serde-rs/serde: serde/src/de/{mod,impls}.rs, serde_derive/src/de.rs
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from deploy.local.engine.tgi.jsonreader import Object, Path, Problem, Reader

REQUIRED: Final = object()
"""The default of a field that must be there."""


class Shape(ABC):
    """A kind of value."""

    def wants(self) -> str:
        """Return what serde says was expected."""
        return "any value"

    def read(self, reader: Reader, path: Path) -> Any:
        """Return the next value of the document.

        Raises:
            Problem: it is not of this shape.
        """
        first = reader.peek()
        if first is not None and first in b"{[":
            raise reader.settle(Problem(f"invalid type: {_kind(first)}, expected {self.wants()}", path))
        value = reader.value(path)
        try:
            return self.of(value, path)
        except Problem as problem:
            raise reader.settle(problem) from None

    @abstractmethod
    def of(self, value: Any, path: Path) -> Any:
        """Return a buffered value as this shape; see `read`."""

    def _wrong(self, value: Any, path: Path) -> Problem:
        return Problem(f"invalid type: {_unexpected(value)}, expected {self.wants()}", path)


@dataclass(frozen=True, slots=True)
class Text(Shape):
    """A string."""

    what: str = "a string"

    def wants(self) -> str:
        """Return what serde says was expected."""
        return self.what

    def of(self, value: Any, path: Path) -> str:
        """Return the string."""
        if isinstance(value, str):
            return value
        raise self._wrong(value, path)


class Flag(Shape):
    """A boolean."""

    def wants(self) -> str:
        """Return what serde says was expected."""
        return "a boolean"

    def of(self, value: Any, path: Path) -> bool:
        """Return the boolean."""
        if isinstance(value, bool):
            return value
        raise self._wrong(value, path)


@dataclass(frozen=True, slots=True)
class Whole(Shape):
    """An integer within its type's bounds."""

    type: str
    least: int
    most: int

    def wants(self) -> str:
        """Return what serde says was expected."""
        return self.type

    def of(self, value: Any, path: Path) -> int:
        """Return the integer."""
        if isinstance(value, bool) or not isinstance(value, int):
            raise self._wrong(value, path)
        if not self.least <= value <= self.most:
            raise Problem(f"invalid value: integer `{value}`, expected {self.wants()}", path)
        return value


class Real(Shape):
    """A number."""

    def wants(self) -> str:
        """Return what serde says was expected."""
        return "f32"

    def of(self, value: Any, path: Path) -> float:
        """Return the number."""
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self._wrong(value, path)
        return float(value)


class Anything(Shape):
    """Any JSON."""

    def read(self, reader: Reader, path: Path) -> Any:
        """Return the next value, whatever it is."""
        return reader.value(path)

    def of(self, value: Any, path: Path) -> Any:
        """Return the value."""
        return value


@dataclass(frozen=True, slots=True)
class Maybe(Shape):
    """A value or null."""

    inner: Shape

    def read(self, reader: Reader, path: Path) -> Any:
        """Return the value, or None for null."""
        if reader.peek() == ord("n"):
            return reader.ident(path)
        return self.inner.read(reader, path)

    def of(self, value: Any, path: Path) -> Any:
        """Return the value, or None for null."""
        return None if value is None else self.inner.of(value, path)


@dataclass(frozen=True, slots=True)
class Many(Shape):
    """A list of values."""

    inner: Shape

    def wants(self) -> str:
        """Return what serde says was expected."""
        return "a sequence"

    def read(self, reader: Reader, path: Path) -> list[Any]:
        """Return the list."""
        first = reader.peek()
        if first != ord("["):
            if first == ord("{"):
                raise reader.settle(Problem(f"invalid type: map, expected {self.wants()}", path))
            raise reader.settle(self._wrong(reader.value(path), path))
        made: list[Any] = []
        try:
            for place in reader.elements(path):
                made.append(self.inner.read(reader, (*path, place)))
        except Problem as problem:
            raise closed(reader, problem) from None
        return made

    def of(self, value: Any, path: Path) -> list[Any]:
        """Return the list."""
        if not isinstance(value, list):
            raise self._wrong(value, path)
        return [self.inner.of(one, (*path, place)) for place, one in enumerate(value)]


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a record."""

    shape: Shape
    default: Any = REQUIRED
    """A value, or a function that makes one."""
    alias: str = ""


@dataclass(frozen=True, slots=True)
class Record(Shape):
    """An object with known members; others are ignored, or make up its `rest`."""

    name: str
    fields: Mapping[str, Field]
    rest: Shape | None = None
    """The shape of all members together that are not in `fields`; its members are the record's too."""

    def wants(self) -> str:
        """Return what serde says was expected."""
        return f"struct {self.name}"

    def read(self, reader: Reader, path: Path) -> dict[str, Any]:
        """Return the members by name, defaults included."""
        first = reader.peek()
        if first != ord("{"):
            if first == ord("["):
                return self._read_list(reader, path)
            raise reader.settle(self._wrong(reader.value(path), path))
        made, rest = Object(), Object()
        names = {name or key: key for key, field in self.fields.items() for name in (key, field.alias)}
        try:
            for key in reader.keys(path):
                name = names.get(key)
                if name in made:
                    raise Problem(f"duplicate field `{name}`", path)
                reader.colon(path)
                if name is None:
                    if self.rest is None:
                        reader.ignore((*path, key))
                    else:
                        rest[key] = reader.value((*path, key))
                else:
                    made[name] = self.fields[name].shape.read(reader, (*path, key))
        except Problem as problem:
            raise closed(reader, problem) from None
        try:
            return self._completed(made, rest, path)
        except Problem as problem:
            raise reader.settle(problem) from None

    def _read_list(self, reader: Reader, path: Path) -> dict[str, Any]:
        """Return the members of a list that has them in order."""
        made = Object()
        names = list(self.fields)
        try:
            for place in reader.elements(path):
                if place == len(names):
                    reader.fail_at_peek("trailing characters", path)
                made[names[place]] = self.fields[names[place]].shape.read(reader, (*path, place))
            return self._completed(made, Object(), path)
        except Problem as problem:
            raise closed(reader, problem) from None

    def of(self, value: Any, path: Path) -> dict[str, Any]:
        """Return the members of a buffered object, or of a list that has them in order."""
        if isinstance(value, list):
            if len(value) > len(self.fields):
                raise Problem("trailing characters", path)
            value = dict(zip(self.fields, value, strict=False))
        elif not isinstance(value, dict):
            raise self._wrong(value, path)
        elif isinstance(value, Object) and value.twice & set(self.fields):
            raise Problem(f"duplicate field `{min(value.twice)}`", path)
        made, rest = Object(), Object()
        names = {name or key: key for key, field in self.fields.items() for name in (key, field.alias)}
        for key, one in value.items():
            if (name := names.get(key)) is None:
                rest[key] = one
            elif name in made:
                raise Problem(f"duplicate field `{name}`", path)
            else:
                made[name] = self.fields[name].shape.of(one, (*path, key))
        return self._completed(made, rest, path)

    def _completed(self, made: Object, rest: Object, path: Path) -> dict[str, Any]:
        whole: dict[str, Any] = {}
        for name, field in self.fields.items():
            if name in made:
                whole[name] = made[name]
            elif field.default is REQUIRED:
                raise Problem(f"missing field `{name}`", path)
            else:
                whole[name] = field.default() if callable(field.default) else field.default
        return whole if self.rest is None else whole | self.rest.of(rest, path)


def closed(reader: Reader, problem: Problem) -> Problem:
    """Return a problem found inside an object or list; serde_json looks for its end before it takes the position."""
    if not problem.placed:
        reader.close()
    return reader.settle(problem)


def _kind(first: int) -> str:
    return "map" if first == ord("{") else "sequence"


def _unexpected(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return f"boolean `{str(value).lower()}`"
    if isinstance(value, int):
        return f"integer `{value}`"
    if isinstance(value, float):
        digits = format(Decimal(repr(value)), "f")
        return f"floating point `{digits if '.' in digits else digits + '.0'}`"
    if isinstance(value, str):
        return f"string {json.dumps(value, ensure_ascii=False)}"
    return "sequence" if isinstance(value, list) else "map"
