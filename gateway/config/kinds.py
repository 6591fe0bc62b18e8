"""What a field of the configuration accepts, read from its type: for conversion, messages and documentation."""

from __future__ import annotations

import types
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from annotated_types import Ge, GroupedMetadata, Gt, Le, MaxLen, MinLen
from pydantic import BaseModel, ConfigDict, model_validator
from pydantic.fields import FieldInfo

Loc = tuple[str | int, ...]
"""Where a value is: ("models", 0, "deployments", 1, "region")."""


@dataclass(frozen=True, slots=True)
class Expected:
    """Metadata of a text type: what it accepts, to follow the word "expected"."""

    words: str
    secret: bool = False
    """A wrong value is not repeated in the message."""


class Section(BaseModel):
    """A mapping of the configuration: unknown keys are refused, values are frozen, docstrings are the documentation."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, use_attribute_docstrings=True, hide_input_in_errors=True, validate_default=True
    )

    @classmethod
    def faults(cls, data: dict[str, Any]) -> Iterator[tuple[Loc, str]]:
        """Yield what is wrong between the fields: where, and a message.

        `data` is plain values by field name. Fields that are absent, or wrong in themselves, are missing from it;
        a wrong entry of a list is None.
        """
        yield from ()

    @model_validator(mode="after")
    def _without_faults(self) -> Self:
        for _, message in self.faults(self.model_dump()):
            raise ValueError(message)
        return self


@dataclass(frozen=True, slots=True)
class Kind:
    """What one field accepts."""

    shape: Literal["text", "integer", "number", "switch", "choice", "path", "list", "mapping"]
    words: str
    """To follow "expected": `a whole number from 0 to 1000`."""
    optional: bool = False
    secret: bool = False
    choices: tuple[str, ...] = ()
    item: Kind | None = None
    section: type[Section] | None = None

    def at(self, loc: Loc) -> Kind:
        """Return the kind of the value at `loc` below this one."""
        kind = self
        for step in loc:
            if isinstance(step, int) and kind.item:
                kind = kind.item
            elif isinstance(step, str) and kind.section and step in (fields := kinds(kind.section)):
                kind = fields[step]
            else:
                break
        return kind


@lru_cache
def kinds(section: type[Section]) -> dict[str, Kind]:
    """Return what each field of `section` accepts."""
    return {name: kind_of(info.annotation, info.metadata) for name, info in section.model_fields.items()}


def kind_of(annotation: Any, metadata: list[Any] | tuple[Any, ...] = ()) -> Kind:
    """Return what a field of this type accepts.

    Raises:
        TypeError: no configuration value can have this type.
    """
    origin = get_origin(annotation)
    if origin is Annotated:
        annotation, *inner = get_args(annotation)
        return kind_of(annotation, [*inner, *metadata])
    if origin in (Union, types.UnionType):
        members = [member for member in get_args(annotation) if member is not type(None)]
        if len(members) == 1:
            return replace(kind_of(members[0], metadata), optional=True)
    facts = list(_flat(metadata))
    if origin is Literal:
        choices = tuple(str(choice) for choice in get_args(annotation))
        return Kind("choice", f"one of {', '.join(choices)}", choices=choices)
    if origin is tuple:
        least = next((fact.min_length for fact in facts if isinstance(fact, MinLen)), 0)
        words = "a list with at least one entry" if least else "a list"
        return Kind("list", words, item=kind_of(get_args(annotation)[0]))
    if annotation is bool:
        return Kind("switch", "true or false")
    if annotation is int:
        return Kind("integer", "a whole number" + _bounds(facts))
    if annotation is float:
        return Kind("number", "a number" + _bounds(facts))
    if annotation is str:
        said = next((fact for fact in facts if isinstance(fact, Expected)), Expected("text" + _lengths(facts)))
        return Kind("text", said.words, secret=said.secret)
    if annotation is Path:
        return Kind("path", "the path of a file")
    if isinstance(annotation, type) and issubclass(annotation, Section):
        return Kind("mapping", "a mapping", section=annotation)
    raise TypeError(f"no configuration value can have the type {annotation!r}")


def _flat(metadata: list[Any] | tuple[Any, ...]) -> Iterator[Any]:
    # The outermost annotation comes last and its Expected wins, so the order is reversed.
    for fact in reversed(metadata):
        if isinstance(fact, FieldInfo):
            yield from _flat(fact.metadata)
        elif isinstance(fact, GroupedMetadata):
            yield from fact
        else:
            yield fact


def _bounds(facts: list[Any]) -> str:
    ge = next((fact.ge for fact in facts if isinstance(fact, Ge)), None)
    gt = next((fact.gt for fact in facts if isinstance(fact, Gt)), None)
    le = next((fact.le for fact in facts if isinstance(fact, Le)), None)
    if ge is not None and le is not None:
        return f" from {ge} to {le}"
    if le is None:
        return f" of at least {ge}" if ge is not None else f" above {gt}" if gt is not None else ""
    return f" above {gt} and at most {le}" if gt is not None else f" of at most {le}"


def _lengths(facts: list[Any]) -> str:
    least = next((fact.min_length for fact in facts if isinstance(fact, MinLen)), 0)
    most = next((fact.max_length for fact in facts if isinstance(fact, MaxLen)), None)
    if most is None:
        return f" of at least {least} characters" if least else ""
    return f" of {least} to {most} characters" if least else f" of at most {most} characters"
