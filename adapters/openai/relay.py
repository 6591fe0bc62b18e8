"""A container's stream as the caller's events: one event per chunk, bytes unchanged wherever they can be.

All chunks of a stream start alike, up to and including the model's name. Once that start is known, a chunk in which
nothing ends, which is nearly every one, is recognised without looking at its parts and gets the public start instead.
Thoughts get their second name on the way.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated

import msgspec

from adapters.base import Call, Surface
from adapters.openai.chunks import Chunk, ChunkReader, Wire
from adapters.openai.conform import conform
from adapters.openai.emit import wants_running_usage
from adapters.openai.reply import INVALID_JSON, find_model, join_fields
from adapters.openai.thoughts import both_names, has_thoughts
from adapters.openai.toolcalls import StreamedCalls, missing_finish

DONE = b"data: [DONE]\n\n"

_CHOICES = b',"choices":[{'
_encode = msgspec.json.Encoder().encode


class _ThinkingChoice(msgspec.Struct):
    finish_reason: None = None


class _Thinking(msgspec.Struct):
    """A chunk in which no choice ends: decoding any other into this raises."""

    choices: Annotated[list[_ThinkingChoice], msgspec.Meta(min_length=1)]
    usage: None = None
    error: None = None


class _QuietDelta(msgspec.Struct):
    reasoning: None = None
    reasoning_content: None = None


class _QuietChoice(msgspec.Struct):
    delta: _QuietDelta | None = None
    finish_reason: None = None


class _Quiet(msgspec.Struct):
    """The same without thoughts."""

    choices: Annotated[list[_QuietChoice], msgspec.Meta(min_length=1)]
    usage: None = None
    error: None = None


_quiet: Callable[[bytes], object] = msgspec.json.Decoder(_Quiet).decode
_thinking: Callable[[bytes], object] = msgspec.json.Decoder(_Thinking).decode


class EventRelay(ChunkReader):
    """The StreamDecoder of containers that speak OpenAI's chunks."""

    __slots__ = (
        "_calls",
        "_check",
        "_learns",
        "_mends",
        "_prefix",
        "_public_model",
        "_public_prefix",
        "_running_usage",
        "ended",
    )

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
        mends = wire.mends(call)
        self._calls = StreamedCalls(mends) if mends is not None else None
        """Mends the tool calls of an older version: again no chunk is passed unread."""
        self._learns = not self._mends and mends is None
        self._check = _quiet
        """What a chunk that is passed on has to fit: no thoughts until some have come."""
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
        check = self._check
        relayed = 0
        for record in records:
            if record.startswith(prefix):
                try:
                    check(record)
                    if not record.isascii():
                        record.decode()
                except INVALID_JSON:
                    pass
                else:
                    rest = record[skip:] if check is _quiet else both_names(record[skip:])
                    events.append(public + rest + b"\n\n")
                    relayed += 1
                    continue
            self._take(record, events)
            prefix, public, check = self._prefix, self._public_prefix, self._check
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
        if chunk is not None:
            if chunk.closing and self.complete and self._wire.usage_completes:
                self._add_missing_ends(chunk, events)
            if not chunk.closing or self._call.include_usage:
                events.append(b"data: " + self._public_chunk(chunk) + b"\n\n")
        if self.complete or self._over:
            self._forget_prefix()
        elif chunk is not None and self._learns:
            self._learn_prefix(chunk.record)
        if self._over and self.complete and self.fault is None and not self.ended:
            self.ended = True
            events.append(DONE)

    def _add_missing_ends(self, closing: Chunk, events: list[bytes]) -> None:
        """Add the last chunk of each choice that the container has left without one."""
        head = {name: closing.fields[name] for name in ("id", "object", "created") if name in closing.fields}
        for number in sorted(set(range(self._call.choices)) - self._finished):
            called = self._calls is not None and self._calls.called(number)
            reason = missing_finish(self._call, self.usage, called=called)
            end = _encode([{"index": number, "delta": {}, "logprobs": None, "finish_reason": reason}])
            events.append(b"data: " + join_fields({**head, "model": self._public_model, "choices": end}) + b"\n\n")
            self._finished.add(number)

    def _public_chunk(self, chunk: Chunk) -> bytes:
        record, fields, closing = self._with_calls_mended(chunk)
        model = find_model(record)
        strips = not closing and "usage" in fields and not self._running_usage
        if model is not None and not strips:
            text = record[: model[0]] + self._public_model + record[model[1] :]
        else:
            kept = {name: value for name, value in fields.items() if not (strips and name == "usage")}
            text = join_fields({**kept, "model": self._public_model})
        if b"\n" in text or b"\r" in text:  # between tokens; inside strings they are escaped
            text = msgspec.json.format(text, indent=-1)
        if has_thoughts(text):
            self._check = _thinking
            text = both_names(text)
        return conform(text) if self._mends or closing else text

    def _with_calls_mended(self, chunk: Chunk) -> Chunk:
        if self._calls is None or chunk.closing:
            return chunk
        try:
            fields = self._calls.mend(chunk.fields)
        except INVALID_JSON:
            return chunk
        return Chunk(join_fields(fields), fields, closing=False)

    def _learn_prefix(self, record: bytes) -> None:
        model = find_model(record)
        if model is not None and record.startswith(_CHOICES, model[1]) and not self._splitter.line_breaks:
            self._prefix = record[: model[1]] + _CHOICES
            self._public_prefix = b"data: " + record[: model[0]] + self._public_model + _CHOICES
            self._learns = False

    def _forget_prefix(self) -> None:
        self._prefix = ()
        self._learns = False
