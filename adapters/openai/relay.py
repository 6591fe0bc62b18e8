"""A container's stream as the caller's events: one event per chunk, bytes unchanged wherever they can be.

All chunks of a stream start alike, up to and including the model's name. Once that start is known, a chunk in which
nothing ends, which is nearly every one, is recognised without looking at its parts and gets the public start instead.
"""

from __future__ import annotations

from typing import Annotated

import msgspec

from adapters.base import Call, Surface
from adapters.openai.chunks import Chunk, ChunkReader, Wire
from adapters.openai.conform import conform
from adapters.openai.emit import wants_running_usage
from adapters.openai.reply import INVALID_JSON, find_model, join_fields

DONE = b"data: [DONE]\n\n"

_CHOICES = b',"choices":[{'


class _QuietChoice(msgspec.Struct):
    finish_reason: None = None


class _Quiet(msgspec.Struct):
    """A chunk in which no choice ends: decoding any other into this raises."""

    choices: Annotated[list[_QuietChoice], msgspec.Meta(min_length=1)]
    usage: None = None
    error: None = None


_quiet = msgspec.json.Decoder(_Quiet).decode


class EventRelay(ChunkReader):
    """The StreamDecoder of containers that speak OpenAI's chunks."""

    __slots__ = ("_learns", "_mends", "_prefix", "_public_model", "_public_prefix", "_running_usage", "ended")

    def __init__(self, call: Call, wire: Wire, public_model: bytes) -> None:
        """`public_model` is the model's public name as a JSON string."""
        super().__init__(call, wire)
        self._public_model = public_model
        self._running_usage = wants_running_usage(call)
        self._mends = self._running_usage or (
            call.surface is Surface.CHAT
            and (call.values.get("logprobs") is True or call.values.get("tool_choice") == "required")
        )
        """Chunks may break OpenAI's schema, so none is passed unread."""
        self._learns = not self._mends
        self._prefix: bytes | tuple[()] = ()
        """How the container starts each chunk; the empty tuple, with which nothing starts, if unknown or of no use."""
        self._public_prefix = b""
        self.ended: bool = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events completed by `data`, oldest first, each a whole SSE event."""
        splitter = self._splitter
        records = splitter.feed(data)
        events: list[bytes] = []
        if splitter.line_breaks:
            self._forget_prefix()
        prefix, public = self._prefix, self._public_prefix
        skip = len(prefix)
        relayed = 0
        for record in records:
            if record.startswith(prefix):
                try:
                    _quiet(record)
                    if not record.isascii():
                        record.decode()
                except INVALID_JSON:
                    pass
                else:
                    events.append(public + record[skip:] + b"\n\n")
                    relayed += 1
                    continue
            self._take(record, events)
            prefix, public = self._prefix, self._public_prefix
            skip = len(prefix)
        self.chunks += relayed
        if splitter.too_long:
            self._take_overlong()
        return events

    def end(self) -> list[bytes]:
        """The container's bytes are over: return the last events, `data: [DONE]` if the answer is complete."""
        events: list[bytes] = []
        for record in self._splitter.end():
            self._take(record, events)
        self._take_end()
        if self.complete and self.fault is None and self.malformed is None and not self.ended:
            self.ended = True
            events.append(DONE)
        return events

    def _take(self, record: bytes, events: list[bytes]) -> None:
        chunk = self._read(record)
        if chunk is not None and (not chunk.closing or self._call.include_usage):
            events.append(b"data: " + self._public_chunk(chunk) + b"\n\n")
        if self.complete or self._over:
            self._forget_prefix()
        elif chunk is not None and self._learns:
            self._learn_prefix(chunk.record)
        if self._over and self.complete and self.fault is None and not self.ended:
            self.ended = True
            events.append(DONE)

    def _public_chunk(self, chunk: Chunk) -> bytes:
        record, fields, closing = chunk
        model = find_model(record)
        strips = not closing and "usage" in fields and not self._running_usage
        if model is not None and not strips:
            text = record[: model[0]] + self._public_model + record[model[1] :]
        else:
            kept = {name: value for name, value in fields.items() if not (strips and name == "usage")}
            text = join_fields({**kept, "model": self._public_model})
        if b"\n" in text or b"\r" in text:  # between tokens; inside strings they are escaped
            text = msgspec.json.format(text, indent=-1)
        return conform(text) if self._mends or closing else text

    def _learn_prefix(self, record: bytes) -> None:
        model = find_model(record)
        if model is not None and record.startswith(_CHOICES, model[1]) and not self._splitter.line_breaks:
            self._prefix = record[: model[1]] + _CHOICES
            self._public_prefix = b"data: " + record[: model[0]] + self._public_model + _CHOICES
            self._learns = False

    def _forget_prefix(self) -> None:
        self._prefix = ()
        self._learns = False
