"""A manifest's text as plain values, each with its place, so that whatever is wrong can be shown where it stands.

YAML 1.1 takes `version: 0.10` for a number and `no` for false (https://yaml.org/type/bool.html): here every scalar is
the text that was written. What it means, the field says; where no field does, `meaning` does.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import yaml

Loc: TypeAlias = tuple[str | int, ...]
MAX_BYTES = 1 << 20
MAX_NODES = 20_000
"""Aliases count as often as they are used."""
SHOWN_CHARACTERS = 60


SECRET_VALUE = re.compile(r"(hf_[A-Za-z0-9]{20,}|sk-[A-Za-z0-9_-]{20,}|(AKIA|ASIA)[A-Z0-9]{16})")
"""What tokens of the hub, API keys and AWS' key ids look like."""


class Bare(str):
    """Text that stood without quotes, and so may mean a number, true, false or null."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong."""

    source: str
    """The file."""
    line: int
    """From 1; 0 where it is about the whole file."""
    path: str
    """`components[0].model.id`."""
    message: str

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}" if self.line else self.source
        return ": ".join(part for part in (place, self.path, self.message) if part)


class ManifestError(Exception):
    """A manifest cannot be used; `problems` says all that is wrong with it, from the top."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        super().__init__("\n".join(map(str, self.problems)))


@dataclass(slots=True)
class Text:
    """One manifest, read but not yet understood."""

    source: str
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[Loc, int] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)

    def add(self, loc: Loc, message: str) -> None:
        """Note that `message` is wrong with what stands at `loc`, or with what should."""
        found = next((self.lines[loc[:end]] for end in range(len(loc), 0, -1) if loc[:end] in self.lines), 0)
        self.problems.append(Problem(self.source, found, _safe(written(loc)), _safe(message)))


def read(data: bytes, source: str) -> Text:
    """Return what the file says; a key that is there twice is among its problems.

    Raises:
        ManifestError: it is not one YAML mapping in UTF-8.
    """
    if len(data) > MAX_BYTES:
        raise ManifestError([Problem(source, 0, "", f"larger than {MAX_BYTES} bytes")])
    try:
        root = yaml.compose(data.decode(), yaml.SafeLoader)
    except UnicodeDecodeError:
        raise ManifestError([Problem(source, 0, "", "not UTF-8 text")]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        words = " ".join(filter(None, (error.context, error.problem)))
        line = mark.line + 1 if mark else 0
        raise ManifestError([Problem(source, line, "", f"not valid YAML: {words}")]) from None
    except (yaml.YAMLError, ValueError, RecursionError):
        raise ManifestError([Problem(source, 0, "", "not valid YAML")]) from None
    text = _Reading(Text(source)).read(root)
    if not text.values:
        raise ManifestError([Problem(source, 0, "", "expected a mapping with the keys of a manifest, found none")])
    return text


class _Reading:
    def __init__(self, text: Text) -> None:
        self._text = text
        self._nodes = 0

    def read(self, root: yaml.Node | None) -> Text:
        if isinstance(root, yaml.MappingNode):
            self._text.values = self._value(root, ())
        return self._text

    def _value(self, node: yaml.Node, loc: Loc) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES or len(loc) > MAX_DEPTH:
            self._text.add(loc, "nested too deep, or too many values")
            raise ManifestError(self._text.problems)
        if loc:
            self._text.lines.setdefault(loc, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return dict(self._entries(node, loc))
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, (*loc, at)) for at, child in enumerate(node.value)]
        if getattr(node, "style", None):
            return str(node.value)
        return None if node.value in ("", "~", "null") else Bare(node.value)

    def _entries(self, node: yaml.MappingNode, loc: Loc) -> Iterator[tuple[str, Any]]:
        seen: set[str] = set()
        for key, child in node.value:
            name = str(key.value) if isinstance(key, yaml.ScalarNode) else "?"
            self._text.lines[(*loc, name)] = key.start_mark.line + 1
            if name in seen or name in ("?", "<<"):
                wrong = (
                    "is here twice" if name in seen else "is no key: a manifest has neither merges nor mappings as keys"
                )
                self._text.add((*loc, name), wrong)
                continue
            seen.add(name)
            yield name, self._value(child, (*loc, name))


MAX_DEPTH = 24
_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def meaning(value: Any) -> Any:
    """Return `value` as JSON has it: bare true, false and numbers as what they mean, everything else as it is."""
    if isinstance(value, dict):
        return {key: meaning(child) for key, child in value.items()}
    if isinstance(value, list):
        return [meaning(child) for child in value]
    if isinstance(value, Bare):
        if value.lower() in ("true", "false"):
            return value.lower() == "true"
        if _NUMBER.fullmatch(value):
            return json.loads(value)
        return str(value)
    return value


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the one of `known` that `word` was most likely meant to be."""
    folded = {_folded(name): name for name in known}
    found = difflib.get_close_matches(_folded(word), folded, n=1)
    return folded[found[0]] if found else None


def _folded(name: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name[:100]).lower().replace("-", "_")


def hinted(word: str, known: Iterable[str]) -> str:
    """Return `; did you mean 'x'?`, or nothing."""
    near = nearest(word, known)
    return f"; did you mean {near!r}?" if near else ""


def _safe(text: str) -> str:
    """Return `text` on one line, without anything that looks like a secret."""
    return " ".join(SECRET_VALUE.sub("…", text).split())


def shown(value: Any) -> str:
    """Return `value` for a message, on one line and not too long."""
    if isinstance(value, dict | list):
        return "a mapping" if isinstance(value, dict) else "a list"
    if value is None:
        return "nothing"
    text = str(value)
    return repr(text if len(text) <= SHOWN_CHARACTERS else text[: SHOWN_CHARACTERS - 1] + "…")


def written(loc: Loc) -> str:
    """Return `loc` as messages have it."""
    steps = (f"[{step}]" if isinstance(step, int) else f".{step}" for step in loc)
    return "".join(steps).removeprefix(".")
