"""A model's thoughts under both of the names that clients look for.

vLLM up to 0.10 writes them as `reasoning_content`, from 0.16 on as `reasoning`, in between as both
(ChatMessage and DeltaMessage in vllm/entrypoints/openai/**/protocol.py). Callers get both from every version; a null
stays as it is.

Adding bytes is exact: the quotes of a JSON string's content are escaped, so `"reasoning":"` can only be a field, and no
other object of a chat completion has a text of that name.
"""

from __future__ import annotations

import re

NAMES = ("reasoning", "reasoning_content")

_MARK = b'"reasoning'
_FIELD = re.compile(rb'"reasoning(_content)?"[ \t\r\n]*+:[ \t\r\n]*+("[^"\\]*+(?:\\.[^"\\]*+)*+")', re.DOTALL)
_OTHER: dict[bytes | None, bytes] = {None: b',"reasoning_content":', b"_content": b',"reasoning":'}


def has_thoughts(text: bytes) -> bool:
    """Say whether a chat completion, or one of its chunks, holds thoughts, under whichever name."""
    return _next(text, 0) is not None


def both_names(text: bytes) -> bytes:
    """Return a chat completion, or one of its chunks, with its thoughts under both names.

    A container writes all messages of a reply alike, so a reply that uses both names is right already.
    """
    found = _next(text, 0)
    if found is None:
        return text
    name, done = found[1], 0
    pieces: list[bytes] = []
    while found is not None:
        if found[1] != name:
            return text
        pieces += (text[done : found.end()], _OTHER[name], found[2])
        done = found.end()
        found = _next(text, done)
    pieces.append(text[done:])
    return b"".join(pieces)


def _next(text: bytes, position: int) -> re.Match[bytes] | None:
    """Return the next field from `position` on: finding bytes is faster than searching by the expression."""
    while (position := text.find(_MARK, position)) >= 0:
        found = _FIELD.match(text, position)
        if found is not None:
            return found
        position += len(_MARK)
    return None
