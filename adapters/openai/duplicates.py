"""Fields that occur twice in one JSON object.

A decoder keeps the last of two equal names, another reader might keep the first: then what was checked is not what is
acted upon. So bodies with such fields are refused wherever a check matters.
"""

from __future__ import annotations

import json
import re

import msgspec

from adapters.openai.refusal import BadRequest

_UP_TO_VALUE = re.compile(rb'[ \t\r\n]*[{,][ \t\r\n]*"[^"\\]*+(?:\\.[^"\\]*+)*+"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_END = re.compile(rb"[ \t\r\n]*\}[ \t\r\n]*")


def duplicate_name(text: bytes, raw: dict[str, msgspec.Raw]) -> str | None:
    """Return a name that occurs twice in the JSON object `text`, or None; `raw` is what a decoder kept of its fields.

    Walking the text value by value meets exactly the fields the decoder kept, unless a name is double.
    """
    # No shorter text holds what was kept: per field two quotes, a colon and a comma, or the closing brace for the last.
    if len(text) == sum(map(len, raw.values())) + sum(map(len, raw)) + 4 * len(raw) + 1:
        return None
    position = 0
    for value in raw.values():
        name = _UP_TO_VALUE.match(text, position)
        if name is None or not text.startswith(value, name.end()):
            return _first_double(text)
        position = name.end() + len(value)
    if raw and _END.fullmatch(text, position) is None:
        return _first_double(text)
    return None


def twice(path: str) -> BadRequest:
    path = path[:128]
    return BadRequest(f"The field {path} occurs twice.", path, "duplicate_parameter")


def _first_double(text: bytes) -> str | None:
    """Find the name the slow way, by a decoder that tells of every field; the text is known to be valid JSON."""
    fields: list[tuple[str, object]] = []

    def keep(pairs: list[tuple[str, object]]) -> None:
        nonlocal fields
        fields = pairs  # objects are told innermost first, so the last one is the outermost

    json.loads(text, object_pairs_hook=keep, parse_int=str, parse_float=str)
    seen: set[str] = set()
    for name, _ in fields:
        if name in seen:
            return name
        seen.add(name)
    return None
