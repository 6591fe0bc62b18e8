"""JSON as pydantic writes it: no spaces, text as UTF-8. Strings are remembered, as tokens come again and again."""

from __future__ import annotations

import json
from typing import Any

_REMEMBERED = 20_000
_LONGEST = 24
_strings: dict[str, bytes] = {}
_encoder = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_spaced = json.JSONEncoder(ensure_ascii=False)


def string(text: str) -> bytes:
    """Return a string's JSON."""
    known = _strings.get(text)
    if known is None:
        known = _encoder.encode(text).encode(errors="replace")
        if len(text) <= _LONGEST and len(_strings) < _REMEMBERED:
            _strings[text] = known
    return known


def value(anything: Any) -> bytes:
    """Return any value's JSON."""
    return _encoder.encode(anything).encode(errors="replace")


def spaced(anything: Any) -> bytes:
    """Return any value's JSON as `json.dumps` writes it, with a space after each comma and colon."""
    return _spaced.encode(anything).encode(errors="replace")
