"""Schemas and grammars that lead back to themselves without ever saying anything.

`{"$ref": "#"}` and `root ::= root` make vLLM 0.32 fail with status 500 instead of refusing them. A schema may well
refer to itself further inside, as that of a tree does: only references to the very same value count.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping
from itertools import zip_longest
from typing import Any, TypeVar

K = TypeVar("K", bound=Hashable)

_MARK = b'"$ref"'
_CHOICES = ("anyOf", "oneOf")
_RULE = re.compile(r"^[ \t]*[?!]?([A-Za-z_][\w-]*)(?:\.\d+)?[ \t]*(?:::=|:(?!:))", re.MULTILINE)
"""The start of a rule: `name ::=` in EBNF, `name:` in Lark."""
_NAMES = re.compile(r"[\w|\s-]+", re.ASCII)
"""What a rule of nothing but other rules consists of."""


def refers_in_circles(schema: object, text: bytes) -> bool:
    """Say whether some part of a JSON schema is defined by nothing but itself; `text` is the schema as JSON."""
    if _MARK not in text:
        return False
    needs: dict[int, list[list[int]]] = {}
    for node in _objects(schema):
        groups = []
        if isinstance(node.get("$ref"), str):
            groups.append([id(_resolved(schema, node["$ref"]))])
        groups += [[id(part)] for part in _parts(node, "allOf")]
        groups += [[id(part) for part in _parts(node, name)] for name in _CHOICES if _parts(node, name)]
        if groups:
            needs[id(node)] = groups
    return bool(_unfounded(needs))


def derives_in_circles(grammar: str) -> bool:
    """Say whether some rule of an EBNF or Lark grammar leads to nothing but itself."""
    starts = list(_RULE.finditer(grammar))
    needs: dict[str, list[list[str]]] = {}
    for start, following in zip_longest(starts, starts[1:]):
        body = grammar[start.end() : len(grammar) if following is None else following.start()]
        if _NAMES.fullmatch(body) and body.strip():
            needs[start[1]] = [[name.strip() for name in body.split("|")]]
    return bool(_unfounded(needs))


def _unfounded(needs: Mapping[K, list[list[K]]]) -> set[K]:
    """Return what never comes to stand on its own feet.

    Each key of `needs` stands once, in each of its groups, some member does; what is no key stands from the start.
    """
    waiting: dict[K, int] = {}
    waits_on: defaultdict[K, list[tuple[K, int]]] = defaultdict(list)
    standing: list[K] = []
    for key, groups in needs.items():
        open_groups = [at for at, group in enumerate(groups) if all(member in needs for member in group)]
        waiting[key] = len(open_groups)
        for at in open_groups:
            for member in set(groups[at]):
                waits_on[member].append((key, at))
        if not open_groups:
            standing.append(key)
    met: set[tuple[K, int]] = set()
    while standing:
        for waiter in waits_on[standing.pop()]:
            if waiter not in met:
                met.add(waiter)
                waiting[waiter[0]] -= 1
                if not waiting[waiter[0]]:
                    standing.append(waiter[0])
    return {key for key, count in waiting.items() if count}


def _objects(schema: object) -> Iterable[dict[str, Any]]:
    level: list[Any] = [schema]
    while level:
        node = level.pop()
        if isinstance(node, dict):
            yield node
            level += node.values()
        elif isinstance(node, list):
            level += node


def _parts(node: dict[str, Any], name: str) -> list[Any]:
    parts = node.get(name)
    return parts if isinstance(parts, list) else []


def _resolved(document: object, reference: str) -> object:
    """Return what a JSON pointer such as `#/$defs/a` leads to; None if it leads nowhere or outside."""
    head, *steps = reference.split("/")
    found: Any = document if head == "#" else None
    for step in steps:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(found, dict):
            found = found.get(step)
        elif isinstance(found, list) and step.isdecimal() and len(step) < 7 and int(step) < len(found):
            found = found[int(step)]
        else:
            return None
    return found
