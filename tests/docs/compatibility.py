"""The tables of docs/compatibility.md, made from the tables that requests are translated by.

Every dialect of DIALECTS gives columns: neighbouring versions that treat all fields of a section alike share one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby

from adapters.base import Call, Surface
from adapters.drift.table import Dialect, Row
from adapters.drift.vllm import VLLM
from adapters.lmi import VLLM_MINOR
from adapters.openai.request import FieldPolicy, check, read
from adapters.openai.toolcalls import call_mends

Rows = list[list[str]]
Key = tuple[str, frozenset[Surface]]
"""What a line of a table is about: a field, of these surfaces."""

DIALECTS: dict[str, tuple[Dialect, Mapping[int, int]]] = {"vLLM": (VLLM, {v: lmi for lmi, v in VLLM_MINOR.items()})}
"""Name → the dialect, and version → the LMI version that holds it."""
ABSENT = "–"


def slug(title: str) -> str:
    """Return a section's title as the name of its table."""
    return re.sub(r"[^a-z]+", "-", title.lower()).strip("-")


def sections() -> list[str]:
    """Return the titles of all sections, in order."""
    return list(dict.fromkeys(section.title for dialect, _ in DIALECTS.values() for section in dialect.sections))


def fields(title: str) -> Rows:
    """Return the table of one section, its head first."""
    keys: list[Key] = []
    columns: list[tuple[str, dict[Key, str]]] = []
    for name, (dialect, lmi) in DIALECTS.items():
        rows = [row for section in dialect.sections if section.title == title for row in section.rows]
        keys += [(row.name, row.surfaces) for row in rows if (row.name, row.surfaces) not in keys]
        for versions in alike(dialect.versions, partial(cells, rows)):
            columns.append((heading(name, dialect, versions, lmi), cells(rows, versions[0])))
    named: dict[tuple[frozenset[Surface], tuple[str, ...]], list[str]] = {}
    for name, surfaces in keys:
        said = tuple(found.get((name, surfaces), ABSENT) for _, found in columns)
        named.setdefault((surfaces, said), []).append(name)
    lines = [[label(names, surfaces), *said] for (surfaces, said), names in named.items()]
    return [["Field", *(head for head, _ in columns)], *lines]


def cells(rows: Iterable[Row], version: int) -> dict[Key, str]:
    found = {}
    for row in rows:
        cell = row.at(version)
        found[row.name, row.surfaces] = f"{cell.does} ({cell.note})" if cell.note else str(cell.does)
    return found


def label(names: Iterable[str], surfaces: frozenset[Surface]) -> str:
    listed = ", ".join(f"`{name}`" for name in names)
    if surfaces >= {Surface.CHAT, Surface.COMPLETIONS}:
        return listed
    return f"{listed} of {'chats' if Surface.CHAT in surfaces else 'completions'}"


def alike(versions: Iterable[int], of: Callable[[int], object]) -> list[list[int]]:
    """Return the versions in groups of neighbours for which `of` gives the same."""
    return [list(group) for _, group in groupby(versions, of)]


def heading(name: str, dialect: Dialect, versions: Sequence[int], lmi: Mapping[int, int]) -> str:
    first, last = dialect.versions[versions[0]], dialect.versions[versions[-1]]
    newest = versions[-1] == list(dialect.versions)[-1]
    if len(versions) == len(dialect.versions):
        return f"{name}, every version"
    span = f"{first} on" if newest else first if first == last else f"{first} to {last}"
    inside = [lmi[version] for version in versions if version in lmi]
    if inside:
        span += f" (LMI {inside[0]}" + (f" to {inside[-1]})" if len(inside) > 1 else ")")
    return f"{name} {span}"


def answers(_: Rows) -> Rows:
    """Return what is mended in answers, by asking for the mends of a call of each kind in each version."""
    dialect, lmi = DIALECTS["vLLM"]
    kept = "as it is"
    columns = alike(dialect.versions, mended)
    lines = [[what, *(kept for _ in columns)] for what in mended(8)]
    for at, versions in enumerate(columns, 1):
        for line in lines:
            line[at] = mended(versions[0])[line[0]] or kept
    return [["In the answer", *(heading("vLLM", dialect, versions, lmi) for versions in columns)], *lines]


def mended(minor: int) -> dict[str, str]:
    """Return what is done to the parts of an answer; a part that is left alone has an empty text."""
    auto, required = call_mends(asking("auto"), minor), call_mends(asking("required"), minor)
    named, several = call_mends(asking(NAMED), minor), call_mends(asking(NAMED, n=2), minor)
    return {
        "id, type and name of streamed tool calls": "once each, ids made up where none came"
        if auto and auto.deltas
        else "",
        "`finish_reason` of a required tool call": told(required.finish if required else {}),
        "`finish_reason` of a named tool call, streamed": told(named.finish if named else {}),
        "number of a named tool call, several choices": "0" if several and several.one_each else "",
    }


NAMED = {"type": "function", "function": {"name": "f"}}


def told(finish: Mapping[str, str]) -> str:
    return ", ".join(f"`{given}` becomes `{meant}`" for given, meant in finish.items())


def asking(choice: object, **more: object) -> Call:
    """Return a chat that has a tool."""
    body = {"model": "m", "messages": [{"role": "user", "content": "a"}], "tools": [NAMED], "tool_choice": choice}
    return check(read(Surface.CHAT, json.dumps(body | more).encode()), FieldPolicy())
