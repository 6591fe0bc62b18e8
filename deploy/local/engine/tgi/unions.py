"""Shapes that are one of several: serde's untagged and tagged enums, and values made of others.

https://github.com/serde-rs/serde: serde/src/private/de.rs, serde_derive/src/de.rs
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from deploy.local.engine.tgi.jsonreader import Path, Problem, Reader
from deploy.local.engine.tgi.shapes import Shape, Text, closed


@dataclass(frozen=True, slots=True)
class OneOf(Shape):
    """The first of several shapes that fits, as serde's untagged enums have it."""

    name: str
    shapes: tuple[Shape, ...]

    def read(self, reader: Reader, path: Path) -> Any:
        """Return the value; no position is known for one that fits nowhere but the end of what it is in."""
        return self.of(reader.value(path), path)

    def of(self, value: Any, path: Path) -> Any:
        """Return the value as the first shape that takes it."""
        for shape in self.shapes:
            try:
                return shape.of(value, path)
            except Problem:
                continue
        raise Problem(f"data did not match any variant of untagged enum {self.name}", path)


@dataclass(frozen=True, slots=True)
class Turned(Shape):
    """A value that is made of another one, or refused with words of its own."""

    inner: Shape
    turn: Callable[[Any], Any]
    """Raises ValueError with what is wrong."""

    def read(self, reader: Reader, path: Path) -> Any:
        """Return what the value is turned into."""
        return self._turned(self.inner.read(reader, path), path)

    def of(self, value: Any, path: Path) -> Any:
        """Return what a buffered value is turned into."""
        return self._turned(self.inner.of(value, path), path)

    def _turned(self, value: Any, path: Path) -> Any:
        try:
            return self.turn(value)
        except ValueError as error:
            raise Problem(str(error), path) from None


@dataclass(frozen=True, slots=True)
class Tagged(Shape):
    """`{"type": …, "value": …}`: the type decides what the value has to be."""

    name: str
    variants: Mapping[str, Shape]
    aliases: Mapping[str, str]
    """Other names of variants, which serde's texts do not list."""

    def wants(self) -> str:
        """Return what serde says was expected."""
        return f"adjacently tagged enum {self.name}"

    def read(self, reader: Reader, path: Path) -> tuple[str, Any]:
        """Return the type and its value."""
        first = reader.peek()
        if first != ord("{"):
            if first == ord("["):
                raise reader.settle(Problem(f"invalid type: sequence, expected {self.wants()}", path))
            raise reader.settle(self._wrong(reader.value(path), path))
        kind: str | None = None
        found: list[Any] = []
        held: list[Any] = []
        try:
            for key in reader.keys(path):
                inside = (*path, key)
                if (key == "type" and kind is not None) or (key == "value" and (held or found)):
                    raise Problem(f"duplicate field `{key}`", path)
                reader.colon(path)
                if key == "type":
                    kind = self._kind(Text("variant identifier").read(reader, inside), inside, reader)
                elif key != "value":
                    reader.ignore(inside)
                elif kind is None:
                    held = [reader.value(inside)]
                else:
                    found = [self.variants[kind].read(reader, inside)]
        except Problem as problem:
            raise closed(reader, problem) from None
        try:
            if kind is not None and held:
                found = [self.variants[kind].of(held[0], path)]
            return self._completed(kind, found, path)
        except Problem as problem:
            raise reader.settle(problem) from None

    def of(self, value: Any, path: Path) -> tuple[str, Any]:
        """Return the type of a buffered object and its value."""
        if not isinstance(value, dict):
            raise self._wrong(value, path)
        kind = self._kind(Text().of(value["type"], path), path) if "type" in value else None
        found = [self.variants[kind].of(value["value"], path)] if kind is not None and "value" in value else []
        return self._completed(kind, found, path)

    def _kind(self, kind: str, path: Path, reader: Reader | None = None) -> str:
        kind = self.aliases.get(kind, kind)
        if kind in self.variants:
            return kind
        known = [f"`{name}`" for name in self.variants]
        listed = " or ".join(known) if len(known) == 2 else f"one of {', '.join(known)}"
        problem = Problem(f"unknown variant `{kind}`, expected {listed}", path)
        raise problem if reader is None else reader.settle(problem)

    @staticmethod
    def _completed(kind: str | None, found: list[Any], path: Path) -> tuple[str, Any]:
        if kind is None or not found:
            raise Problem(f"missing field `{'type' if kind is None else 'value'}`", path)
        return kind, found[0]
