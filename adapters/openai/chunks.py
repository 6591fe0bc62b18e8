"""A container's stream of completion chunks, up to the point where it is over: the part that is the same for relaying
a stream and for gathering one into a whole reply.

The end of the bytes is no end of an answer: SageMaker's event stream has no end event, and a cut stream just stops.
An answer is complete when each of its choices has a finish reason, or the container has sent its end mark.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import msgspec

from adapters.base import Call, Surface, Usage
from adapters.errors import ContainerFault
from adapters.openai.reply import INVALID_JSON, JudgeError, judge_finish, judge_model, read_usage
from adapters.openai.toolcalls import CallMends

_CHUNK_OBJECTS = {Surface.CHAT: "chat.completion.chunk", Surface.COMPLETIONS: "text_completion"}

_raws = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_values = msgspec.json.Decoder().decode
_text = msgspec.json.Decoder(str).decode


class _Choice(msgspec.Struct):
    index: int = 0
    finish_reason: str | None = None


_choices = msgspec.json.Decoder(list[_Choice]).decode


class Splitter(Protocol):
    """Cuts bytes into records: adapters/framing."""

    line_breaks: bool
    too_long: bool

    def feed(self, chunk: bytes) -> list[bytes]: ...
    def end(self) -> list[bytes]: ...


class Chunk(NamedTuple):
    """A record that holds a completion chunk."""

    record: bytes
    fields: Mapping[str, bytes]
    closing: bool
    """It has no choices, only what is known at the end, such as usage."""


@dataclass(frozen=True, slots=True)
class Wire:
    """How a dialect writes a stream."""

    splitter: Callable[[], Splitter]
    end_mark: bytes
    """The record after the last chunk."""
    end_mark_completes: bool
    """The end mark alone says that the answer is complete; otherwise some choice must have finished, too."""
    usage_completes: bool
    """The chunk with the usage does, too: vLLM up to 0.10.0 may leave out the chunk with the finish reason."""
    judge: JudgeError
    unglue: Callable[[bytes], tuple[bytes, bytes] | None]
    """Cut a record that is not JSON into what came before and an error object glued to it; None if it is not so."""
    answers_as: str | None = None
    """The model that has to answer, by the container's name for it; None leaves that to the container."""
    mends: Callable[[Call], CallMends | None] = lambda call: None
    """What the container gets wrong about the tools of a call; None if it is nothing."""


class ChunkReader:
    """Takes records one by one and keeps what they say about the answer as a whole."""

    __slots__ = (
        "_call",
        "_finished",
        "_over",
        "_splitter",
        "_wire",
        "chunks",
        "complete",
        "dropped",
        "fault",
        "malformed",
        "usage",
    )

    def __init__(self, call: Call, wire: Wire) -> None:
        self.usage: Usage | None = None
        self.chunks: int = 0
        self.complete: bool = False
        self.fault: ContainerFault | None = None
        self.malformed: str | None = None
        self.dropped: int = 0
        self._call = call
        self._wire = wire
        self._splitter = wire.splitter()
        self._finished: set[int] = set()
        """Indices of the choices with a finish reason."""
        self._over = False
        """The end mark, a fault or malformed bytes have come: nothing that follows matters."""

    @property
    def over(self) -> bool:
        """Nothing that follows matters: the end mark has come, or what went wrong."""
        return self._over

    def _read(self, record: bytes) -> Chunk | None:
        """Take one record; return it if it is a chunk to hand on, None if there is nothing to hand on."""
        if self._over:
            self._drop(record)
            return None
        if record == self._wire.end_mark:
            self._take_end_mark()
            return None
        try:
            fields = _raws(record)
        except INVALID_JSON:
            return self._read_invalid(record)
        error = fields.get("error")
        if "choices" not in fields or (error is not None and _values(error) is not None):
            self._take_error(record)
            return None
        return self._read_chunk(record, fields)

    def _read_chunk(self, record: bytes, fields: dict[str, msgspec.Raw]) -> Chunk | None:
        try:
            choices = _choices(fields["choices"])
            kind = _text(fields["object"]) if "object" in fields else None
            if not record.isascii():
                record.decode()  # values that nobody here reads reach the caller, too
        except INVALID_JSON:
            self._break("a record of the stream is no completion chunk")
            return None
        if kind is not None and kind != _CHUNK_OBJECTS[self._call.surface]:
            self._break("a record of the stream is a completion of another kind")
            return None
        if self._wire.answers_as is not None:
            self.fault = judge_model(fields.get("model"), self._wire.answers_as)
            if self.fault is not None:
                self._over = True
                return None
        if not choices:
            usage = read_usage(fields["usage"]) if "usage" in fields else None
            if usage is not None:
                self.usage = usage
                if self._finished or (self.chunks and self._wire.usage_completes):
                    self.complete = True
            return Chunk(record, fields, closing=True)
        if self.complete:
            self.dropped += 1
            return None
        for choice in choices:
            if choice.finish_reason is not None:
                self.fault = judge_finish(choice.finish_reason)
                if self.fault is not None:
                    self._over = True
                    return None
                self._finished.add(choice.index)
        self.complete = len(self._finished) >= self._call.choices
        self.chunks += 1
        return Chunk(record, fields, closing=False)

    def _read_invalid(self, record: bytes) -> Chunk | None:
        """Take a record that is not JSON: an error may be glued to it, and a whole chunk come before that."""
        parts = self._wire.unglue(record)
        if parts is None:
            self._break("a record of the stream is not valid JSON")
            return None
        before, error = parts
        chunk: Chunk | None = None
        try:
            fields = _raws(before)
        except INVALID_JSON:  # the chunk was cut before the error was written
            fields = {}
        if "choices" in fields:
            chunk = self._read_chunk(before, fields)
        if not self._over:
            self._take_error(error)
        return chunk

    def _take_error(self, record: bytes) -> None:
        try:
            value = _values(record)
            fault = self._wire.judge(value, 500) if isinstance(value, dict) else None
        except INVALID_JSON:
            fault = None
        if fault is None:
            self._break("a record of the stream is JSON, but no completion chunk")
        else:
            self.fault = fault
            self._over = True

    def _take_end_mark(self) -> None:
        if self._wire.end_mark_completes and self.chunks:
            self.complete = True
        if self.complete:
            self._over = True

    def _take_end(self) -> None:
        """The bytes are over: judge what is missing."""
        self._take_overlong()
        if not self.complete and not self._over:
            self._break("the stream ended before the answer did" if self.chunks else "the stream holds no answer")

    def _take_overlong(self) -> None:
        if self._splitter.too_long and not self._over:
            self._break("a record of the stream is too long")

    def _drop(self, record: bytes) -> None:
        """Count a record after the end, unless it is the end mark that follows an error."""
        if record and (self.complete or record != self._wire.end_mark):
            self.dropped += 1

    def _break(self, what: str) -> None:
        """Give the stream up, unless all that a caller needs has come."""
        self._over = True
        if self.complete:
            self.dropped += 1
        else:
            self.malformed = what
