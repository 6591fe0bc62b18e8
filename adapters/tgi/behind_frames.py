"""Streams of generate, from TGI containers and LMI's schema of `inputs`: a frame for each token, the last of which has
the whole text. This is the part that is the same whatever becomes of the frames.

StreamResponse in router/src/lib.rs of https://github.com/huggingface/text-generation-inference, and
vllm_stream_output_formatter's TGI form in lmi_vllm/request_response_utils.py of
https://github.com/deepjavalibrary/djl-serving.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec

from adapters.base import Usage
from adapters.errors import ContainerFault
from adapters.openai.chunks import Splitter
from adapters.openai.reply import INVALID_JSON, MAX_TOKENS, JudgeError

_values = msgspec.json.Decoder().decode


class Stamp(NamedTuple):
    """What a reply is called that its container leaves without a name."""

    id: str
    """Hexadecimal digits, other ones for every reply."""
    created_s: int
    """Unix seconds."""


NewStamp = Callable[[], Stamp]
"""Adapters know no clock and no chance, so both are given to them."""


class Token(msgspec.Struct):
    """A token as it was generated; LMI says neither `special` nor, of some, an id."""

    text: str
    id: int | None = None
    logprob: float | None = None
    special: bool = False


class Details(msgspec.Struct):
    """What is known at the end."""

    finish_reason: str | int | None = None
    """LMI's whole replies have vLLM's stop_reason here: a stop string or token, null for every other end."""
    generated_tokens: int = 0
    seed: int | None = None
    input_length: int | None = None
    """Tokens of the prompt; TGI tells them from 2.3 on."""


class Frame(msgspec.Struct):
    """One token of a stream; the last has a text."""

    token: Token
    index: int | None = None
    """From 1 on; missing in TGI 1.0. LMI puts the choice's index there."""
    top_tokens: list[Token] | None = None
    generated_text: str | None = None
    details: Details | None = None


_frame = msgspec.json.Decoder(Frame).decode


@dataclass(frozen=True, slots=True)
class FrameWire:
    """How a container writes such a stream."""

    splitter: Callable[[], Splitter]
    judge: JudgeError
    unglue: Callable[[bytes], tuple[bytes, bytes] | None]
    """Cut a record that is not JSON into what came before and an error object glued to it; None if it is not so."""
    tokens_too_many: int = 0
    """How much higher than the truth `generated_tokens` is."""


class FrameReader:
    """Takes records one by one and keeps what they say about the answer as a whole."""

    __slots__ = ("_over", "_splitter", "_wire", "chunks", "complete", "dropped", "fault", "malformed", "usage")

    def __init__(self, wire: FrameWire) -> None:
        self.usage: Usage | None = None
        self.chunks: int = 0
        self.complete: bool = False
        self.fault: ContainerFault | None = None
        self.malformed: str | None = None
        self.dropped: int = 0
        self._wire = wire
        self._splitter = wire.splitter()
        self._over = False
        """The last frame, a fault or malformed bytes have come: nothing that follows matters."""

    @property
    def over(self) -> bool:
        """Nothing that follows matters: the last frame has come, or what went wrong."""
        return self._over

    def _read(self, record: bytes) -> Frame | None:
        """Take one record; return its frame, None if there is nothing to hand on."""
        if self._over:
            self.dropped += bool(record) and self.complete
            return None
        if not record:  # LMI's blank lines; they also end a stream that broke off, so they say nothing
            return None
        try:
            frame = _frame(record)
            if not record.isascii():
                record.decode()  # values that nobody here reads reach the caller, too
        except INVALID_JSON:
            return self._read_other(record)
        self.chunks += 1
        if frame.generated_text is not None:
            self.complete = self._over = True
            self.usage = usage_of(frame.details, self._wire.tokens_too_many)
        return frame

    def _read_other(self, record: bytes) -> Frame | None:
        """Take a record that is no frame: an error, perhaps glued to a frame."""
        frame: Frame | None = None
        try:
            value: Any = _values(record)
        except INVALID_JSON:
            parts = self._wire.unglue(record)
            if parts is None:
                self._break("a record of the stream is not valid JSON")
                return None
            before, error = parts
            frame = self._read_glued(before)
            if self._over:
                return frame
            value = _values(error)
        fault = self._wire.judge(value, 500) if isinstance(value, dict) else None
        if fault is None:
            self._break("a record of the stream is JSON, but no token")
        else:
            self.fault = fault
            self._over = True
        return frame

    def _read_glued(self, record: bytes) -> Frame | None:
        try:
            _frame(record)
        except INVALID_JSON:  # the frame was cut before the error was written
            return None
        return self._read(record)

    def _take_overlong(self) -> None:
        if self._splitter.too_long and not self._over:
            self._break("a record of the stream is too long")

    def _take_end(self) -> None:
        """The bytes are over: judge what is missing."""
        self._take_overlong()
        if not self._over:
            self._break("the stream ended before the answer did" if self.chunks else "the stream holds no answer")

    def _break(self, what: str) -> None:
        """Give the stream up."""
        self._over = True
        self.malformed = what


def usage_of(details: Details | None, too_many: int = 0, prompt_tokens: int = 0) -> Usage | None:
    """Return the counts in `details`; `prompt_tokens` is what is known of the prompt besides."""
    if details is None:
        return None
    told = prompt_tokens if details.input_length is None else details.input_length
    return Usage(count(told), count(details.generated_tokens - too_many))


def count(tokens: int) -> int:
    """Return a count as a container gives it, fit for a counter: one that cannot be true is taken for zero."""
    return tokens if 0 <= tokens <= MAX_TOKENS else 0


def never_glued(_: bytes) -> None:
    """Find no error behind a record: server-sent events are not glued."""
