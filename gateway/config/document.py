"""YAML text as a tree of nodes that know their place, with nothing interpreted that an operator did not write.

YAML 1.1 would read `version: 0.10` as the number 0.1 and the name `no` as false (https://yaml.org/type/bool.html),
so scalars stay text here; the type of the field decides what the text means.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import yaml
from yaml.nodes import Node, ScalarNode, SequenceNode

from gateway.config.kinds import Loc
from gateway.config.problems import ConfigError, Problem, masked, path_of, shown

MAX_DEPTH = 32
MAX_VALUES = 50_000
"""Values of the tree after aliases are expanded: a few nested aliases can otherwise stand for billions."""

_TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
_NULLS = ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True, slots=True)
class Place:
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Scalar:
    place: Place
    text: str
    """As written, after unquoting."""
    quoted: bool

    @property
    def null(self) -> bool:
        return not self.quoted and self.text in _NULLS


@dataclass(frozen=True, slots=True)
class Sequence:
    place: Place
    items: tuple[Value, ...]


@dataclass(frozen=True, slots=True)
class Mapping:
    place: Place
    entries: dict[str, tuple[Place, Value]]
    """Key → where the key is, and its value."""


Value = Scalar | Sequence | Mapping


def read_document(data: bytes, source: str) -> tuple[Mapping, list[Problem]]:
    """Return the one mapping that `data` holds, and what is wrong with it that leaves the rest readable.

    Raises:
        ConfigError: the text is not one YAML mapping in UTF-8.
    """
    text = _decoded(data, source)
    node, tags = _composed(text, source)
    reader = _Reader(source, tags)
    value = reader.value(node, ())
    if isinstance(value, Mapping):
        return value, reader.problems
    if isinstance(value, Scalar) and value.null:
        raise ConfigError([Problem(0, 0, "", "the file is empty", source)])
    kind = "a list" if isinstance(value, Sequence) else "text"
    raise ConfigError(
        [
            Problem(
                value.place.line,
                value.place.column,
                "",
                f"expected a mapping with the key models, found {kind}",
                source,
            )
        ]
    )


def _decoded(data: bytes, source: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - data.rfind(b"\n", 0, error.start)
        raise ConfigError([Problem(line, column, "", "the file is not UTF-8 text", source)]) from None


class _Loader(yaml.SafeLoader):
    """Composes nodes only; remembers explicit tags, which nodes do not, and refuses deep nesting before Python does."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.tags: dict[int, str] = {}
        self._depth = 0

    def compose_node(self, parent: Node | None, index: object) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML's stubs leave it untyped
        tag = getattr(event, "tag", None)
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise yaml.MarkedYAMLError(problem=_TOO_DEEP, problem_mark=event.start_mark)
        node = super().compose_node(parent, index)  # type: ignore[arg-type]  # the stubs want an int, PyYAML passes key nodes too
        self._depth -= 1
        if node is not None and tag not in (None, "!"):
            self.tags[id(node)] = str(tag)
        return node


def _composed(text: str, source: str) -> tuple[Node, dict[int, str]]:
    loader = _loader(text, source)
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or loader.get_mark()
        words = masked(" ".join(filter(None, (error.context, error.problem))).replace("\n", " "))
        if "'\\t'" in words:
            words = "tabs cannot indent YAML; use spaces"
    except (ValueError, OverflowError):
        # PyYAML's scanner lets "\UFFFFFFFF" and the like escape as what chr() raises.
        mark, words = loader.get_mark(), "an escape is out of range"
    else:
        if node is None:
            raise ConfigError([Problem(0, 0, "", "the file is empty", source)])
        return node, loader.tags
    raise ConfigError([Problem(mark.line + 1, mark.column + 1, "", f"not valid YAML: {words}", source)])


def _loader(text: str, source: str) -> _Loader:
    try:
        return _Loader(text)
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        message = f"not valid YAML: the character U+{ord(text[error.position]):04X} is not allowed"
        raise ConfigError([Problem(line, column, "", message, source)]) from None


class _Reader:
    """Nodes to values: aliases expanded, merges applied, duplicate keys and tags reported."""

    def __init__(self, source: str, tags: dict[int, str]) -> None:
        self.problems: list[Problem] = []
        self._source = source
        self._tags = tags
        self._open: set[int] = set()
        self._values = 0

    def value(self, node: Node, loc: Loc) -> Value:
        place = _place(node)
        self._values += 1
        if self._values > MAX_VALUES:
            raise ConfigError([self._problem(place, loc, f"aliases expand to more than {MAX_VALUES} values")])
        if id(node) in self._open:
            raise ConfigError([self._problem(place, loc, "an alias refers to a value that contains it")])
        if len(self._open) >= MAX_DEPTH:
            raise ConfigError([self._problem(place, loc, _TOO_DEEP)])
        if id(node) in self._tags:
            tag = self._tags[id(node)].replace("tag:yaml.org,2002:", "!!", 1)
            self.problems.append(
                self._problem(place, loc, f"YAML tags are not supported, found {shown(tag)}; write the value alone")
            )
        self._open.add(id(node))
        try:
            if isinstance(node, ScalarNode):
                return Scalar(place, node.value, quoted=bool(node.style))
            if isinstance(node, SequenceNode):
                return Sequence(place, tuple(self.value(item, (*loc, at)) for at, item in enumerate(node.value)))
            return Mapping(place, self._entries(node, loc))
        finally:
            self._open.discard(id(node))

    def _entries(self, node: Node, loc: Loc) -> dict[str, tuple[Place, Value]]:
        own: dict[str, tuple[Place, Value]] = {}
        merged: dict[str, tuple[Place, Value]] = {}
        first: dict[str, int] = {}
        for key, child in node.value:
            place = _place(key)
            if not isinstance(key, ScalarNode):
                self.problems.append(self._problem(place, loc, "expected text as a key, found a list or mapping"))
                continue
            name = key.value
            if name in first:
                self.problems.append(self._problem(place, (*loc, name), f"this key is already on line {first[name]}"))
                continue
            first[name] = place.line
            if name == "<<" and not key.style:
                for source in self._merge_sources(child, loc):
                    for inherited, entry in source.entries.items():
                        merged.setdefault(inherited, entry)
            else:
                own[name] = (place, self.value(child, (*loc, name)))
        return {**merged, **own}

    def _merge_sources(self, node: Node, loc: Loc) -> Iterator[Mapping]:
        """https://yaml.org/type/merge.html: one mapping, or a list of them of which the first has a key's word."""
        for source in node.value if isinstance(node, SequenceNode) else [node]:
            value = self.value(source, loc)
            if isinstance(value, Mapping):
                yield value
            else:
                self.problems.append(
                    self._problem(_place(source), (*loc, "<<"), "expected a mapping to merge, such as *name")
                )

    def _problem(self, place: Place, loc: Loc, message: str) -> Problem:
        return Problem(place.line, place.column, path_of(loc), message, self._source)


def _place(node: Node) -> Place:
    return Place(node.start_mark.line + 1, node.start_mark.column + 1)
