"""The media of a prompt: where in `messages` they stand, and how another URL takes the place of one.

Only the strings that change are written anew; every other byte of the caller's JSON stays as it is.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from adapters.base import Call

Kind = Literal["image", "audio", "video"]

_raw_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_raw_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_UP_TO_ITEM = re.compile(rb"[ \t\r\n]*[\[,][ \t\r\n]*")
_UP_TO_VALUE = re.compile(rb'[ \t\r\n]*[{,][ \t\r\n]*"[^"\\]*+(?:\\.[^"\\]*+)*+"[ \t\r\n]*:[ \t\r\n]*', re.DOTALL)
_encode = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True, eq=False)
class MediaPart:
    """One image, sound or film of a checked call. Equal only to itself: its text may have millions of letters."""

    kind: Kind
    message: int
    part: int
    keys: tuple[str, ...]
    """From the part to the string that holds the URL or the base64 text."""
    text: str
    """That string."""
    remote: bool
    """It is a URL to fetch; else it is a data: URL, base64 text, or a URL for the container."""
    media_type: str | None = None
    """What an image's own bytes say it is; None for what has not been looked at."""

    @property
    def path(self) -> str:
        """As errors name it: `messages[0].content[1].image_url.url`."""
        return f"messages[{self.message}].content[{self.part}].{'.'.join(self.keys)}"

    @property
    def inline(self) -> bool:
        """It is an image whose bytes are in the call."""
        return self.kind == "image" and self.text.startswith("data:")


def with_texts(call: Call, texts: Mapping[MediaPart, str]) -> Call:
    """Return the call with other strings in place of those of some parts, and nothing else changed.

    Args:
        texts: part of this call → its new string.
    """
    if not texts:
        return call
    messages = bytes(call.raw["messages"])
    pieces: list[bytes | memoryview] = []
    view, done = memoryview(messages), 0
    for part, (start, end) in _spans(messages, sorted(texts, key=_place)):
        pieces += (view[done:start], _encode(texts[part]))
        done = end
    pieces.append(view[done:])
    return dataclasses.replace(
        call,
        raw=call.raw | {"messages": msgspec.Raw(b"".join(pieces))},
        values=call.values | {"messages": _values(call.values["messages"], texts)},
        media=tuple(
            dataclasses.replace(part, text=texts[part], remote=False) if part in texts else part for part in call.media
        ),
    )


def _place(part: MediaPart) -> tuple[int, int]:
    return part.message, part.part


def _values(messages: list[Any], texts: Mapping[MediaPart, str]) -> list[Any]:
    """Return the decoded messages with the new strings; what does not change is shared with the old ones."""
    messages = list(messages)
    for part, text in texts.items():
        message = messages[part.message] = dict(messages[part.message])
        content = message["content"] = list(message["content"])
        inner = content[part.part] = dict(content[part.part])
        for key in part.keys[:-1]:
            inner[key] = inner = dict(inner[key])
        inner[part.keys[-1]] = text
    return messages


def _spans(messages: bytes, parts: list[MediaPart]) -> Iterator[tuple[MediaPart, tuple[int, int]]]:
    """Yield each part with where its string stands; parts in order. Each message is gone through once."""
    todo = iter(parts)
    part = next(todo, None)
    for number, message in enumerate(_items(messages, 0, len(messages))):
        if part is None:
            return
        if part.message != number:
            continue
        for inner, span in enumerate(_items(messages, *_field(messages, *message, "content"))):
            if part is not None and (part.message, part.part) == (number, inner):
                for key in part.keys:
                    span = _field(messages, *span, key)
                yield part, span
                part = next(todo, None)


def _items(text: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield where the items of the array at `start` stand."""
    for raw in _raw_list(memoryview(text)[start:end]):
        found = _UP_TO_ITEM.match(text, start)
        assert found is not None  # noqa: S101 - a decoder has found the item there
        start = found.end() + len(raw)
        yield found.end(), start


def _field(text: bytes, start: int, end: int, name: str) -> tuple[int, int]:
    """Return where a field's value of the object at `start` stands. No name occurs twice: that has been checked."""
    for key, raw in _raw_object(memoryview(text)[start:end]).items():
        found = _UP_TO_VALUE.match(text, start)
        assert found is not None  # noqa: S101 - a decoder has found the field there
        start = found.end() + len(raw)
        if key == name:
            return found.end(), start
    raise KeyError(name)
