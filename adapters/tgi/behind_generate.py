"""Generate replies and streams for callers of TGI's own API: whole objects, frames, and frames gathered into an object.

What TGI containers write passes through byte for byte; details that only the gateway had asked for are taken out again.
LMI's differs in places (lmi_inputs.py), so its frames are written anew.
GenerateResponse, Details and StreamResponse in router/src/lib.rs of
https://github.com/huggingface/text-generation-inference.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from adapters.base import Call, Usage, Whole
from adapters.errors import ContainerFault, MalformedReply
from adapters.openai.reply import INVALID_JSON, JudgeError, join_fields
from adapters.tgi.behind_frames import Details, Frame, FrameReader, FrameWire, Token, count, usage_of

_NULL = b"null"

_encode = msgspec.json.Encoder().encode
_raws = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_all_raws = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_values = msgspec.json.Decoder().decode


class Sibling(msgspec.Struct):
    """One of `best_of` that was not the best."""

    generated_tokens: int = 0


class WholeDetails(Details):
    """The details of a whole reply."""

    best_of_sequences: list[Sibling] | None = None
    prefill: list[Any] | None = None
    tokens: list[Token] | None = None
    top_tokens: list[list[Token]] | None = None


class Generation(msgspec.Struct):
    """A whole generate reply."""

    generated_text: str
    details: WholeDetails | None = None


_generation = msgspec.json.Decoder(Generation).decode

Mend = Callable[[Call, Frame, int], bytes]
"""Write a frame anew: the call, the frame and its number from 1 on."""


def wants_details(call: Call) -> bool:
    """Say whether the caller of TGI's API asked for details, with which those of the prompt come along."""
    parameters = call.values.get("parameters") or {}
    return bool(parameters.get("details") or parameters.get("decoder_input_details"))


def wants_prefill(call: Call) -> bool:
    return bool((call.values.get("parameters") or {}).get("decoder_input_details"))


def read_generation(body: bytes, judge: JudgeError) -> tuple[Generation, bytes] | ContainerFault:
    """Return a whole reply and its bytes, without the array that `/invocations` puts around it.

    Raises:
        MalformedReply: `body` is no generate reply.
    """
    try:
        body.decode()  # whatever is skipped below reaches the caller too
        text = _inside_array(body.strip())
        return _generation(text), text
    except INVALID_JSON:
        pass
    try:
        value = _values(body)
    except INVALID_JSON:
        raise MalformedReply("the reply is not valid JSON") from None
    fault = judge(value, 500) if isinstance(value, dict) else None
    if fault is None:
        raise MalformedReply("the reply is JSON, but no generated text")
    return fault


def decode_native(call: Call, body: bytes, judge: JudgeError) -> Whole | ContainerFault:
    """Return a TGI container's whole reply as an object, with no more details than the caller asked for.

    Raises:
        MalformedReply: `body` is no generate reply.
    """
    read = read_generation(body, judge)
    if isinstance(read, ContainerFault):
        return read
    generation, text = read
    details = generation.details
    usage = usage_of(details, prompt_tokens=prefilled(generation))
    if details is not None and usage is not None:
        for sibling in details.best_of_sequences or ():  # generated, too
            usage = Usage(usage.prompt_tokens, usage.completion_tokens + count(sibling.generated_tokens))
    if not wants_details(call):
        text = join_fields({name: value for name, value in _raws(text).items() if name != "details"})
    elif not wants_prefill(call) and details is not None and details.prefill:
        text = join_fields({**_raws(text), "details": _without_prefill(_raws(_raws(text)["details"]))})
    return Whole(text, usage)


def _without_prefill(details: dict[str, msgspec.Raw]) -> bytes:
    fields: dict[str, bytes] = {**details, "prefill": b"[]"}
    if "best_of_sequences" in details:
        siblings = [join_fields({**one, "prefill": b"[]"}) for one in _all_raws(details["best_of_sequences"])]
        fields["best_of_sequences"] = b"[" + b",".join(siblings) + b"]"
    return join_fields(fields)


def prefilled(generation: Generation) -> int:
    """Return how many tokens of the prompt a reply lists; 0 where it lists none."""
    details = generation.details
    return len(details.prefill) if details is not None and details.prefill else 0


class NativeRelay(FrameReader):
    """The StreamDecoder of TGI's own API: each event is one frame, `data:{…}` as TGI writes it."""

    __slots__ = ("_asked", "_call", "_mend", "ended")

    def __init__(self, call: Call, wire: FrameWire, mend: Mend | None = None) -> None:
        """`mend` writes frames anew; without it their bytes are relayed."""
        super().__init__(wire)
        self._call = call
        self._asked = wants_details(call)
        self._mend = mend
        self.ended: bool = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events completed by `data`, oldest first, each a whole SSE event."""
        events: list[bytes] = []
        for record in self._splitter.feed(data):
            self._take(record, events)
        self._take_overlong()
        return events

    def end(self) -> list[bytes]:
        """The container's bytes are over: return the last events."""
        events: list[bytes] = []
        for record in self._splitter.end():
            self._take(record, events)
        self._take_end()
        return events

    def _take(self, record: bytes, events: list[bytes]) -> None:
        frame = self._read(record)
        if frame is None:
            return
        text = self._relayed(record, frame) if self._mend is None else self._mend(self._call, frame, self.chunks)
        events.append(b"data:" + text + b"\n\n")
        self.ended = self.complete

    def _relayed(self, record: bytes, frame: Frame) -> bytes:
        if self.complete and not self._asked:
            record = join_fields({**_raws(record), "details": _NULL})
        if frame.index is None:
            record = b'{"index":%d,' % self.chunks + record.strip()[1:]
        if b"\n" in record or b"\r" in record:  # between tokens; inside strings they are escaped
            record = msgspec.json.format(record, indent=-1)
        return record


class FrameGatherer(FrameReader):
    """Gathers frames; what they make together is a subclass' matter."""

    __slots__ = ("_frames", "_limit", "_size")

    def __init__(self, wire: FrameWire, limit_bytes: int) -> None:
        """`limit_bytes` is the most a reply may hold."""
        super().__init__(wire)
        self._limit = limit_bytes
        self._size = 0
        self._frames: list[Frame] = []

    def feed(self, data: bytes) -> None:
        for record in self._splitter.feed(data):
            self._take(record)
        self._take_overlong()

    def end(self) -> Whole | None:
        """Return the whole reply, or None with `fault` or `malformed` set."""
        for record in self._splitter.end():
            self._take(record)
        self._take_end()
        if self.fault is not None or self.malformed is not None:
            return None
        return self._whole(self._gathered())

    def _take(self, record: bytes) -> None:
        frame = self._read(record)
        if frame is None:
            return
        self._frames.append(frame)
        self._size += len(record)
        if self._size > self._limit:
            self.complete = False
            self._break("the answer is too long")

    def _gathered(self) -> Generation:
        """Return the whole reply that the frames tell in parts."""
        last = self._frames[-1]
        ended = last.details or Details()
        details = WholeDetails(
            finish_reason=ended.finish_reason,
            generated_tokens=max(0, ended.generated_tokens - self._wire.tokens_too_many),
            seed=ended.seed,
            input_length=ended.input_length,
            prefill=[],
            tokens=[frame.token for frame in self._frames],
            top_tokens=[frame.top_tokens or [] for frame in self._frames],
        )
        if not any(details.top_tokens or ()):
            details.top_tokens = []
        return Generation(last.generated_text or "", details if last.details is not None else None)

    @abstractmethod
    def _whole(self, generation: Generation) -> Whole | None:
        """Return the caller's reply, or None with `fault` or `malformed` set."""


class NativeGatherer(FrameGatherer):
    """The Assembler of TGI's own API."""

    __slots__ = ("_write",)

    def __init__(self, wire: FrameWire, limit_bytes: int, write: Callable[[Generation], bytes]) -> None:
        """`write` writes the whole reply."""
        super().__init__(wire, limit_bytes)
        self._write = write

    def _whole(self, generation: Generation) -> Whole:
        return Whole(self._write(generation), self.usage)


def generate_object(call: Call, generation: Generation, finish: str | int | None) -> bytes:
    """Return a whole reply as TGI writes it, from its parts."""
    fields = {"generated_text": _encode(generation.generated_text)}
    details = generation.details
    if wants_details(call) and details is not None:
        parts: dict[str, bytes] = {
            "finish_reason": _encode(finish),
            "generated_tokens": _encode(details.generated_tokens),
            "seed": _encode(details.seed),
            "prefill": _encode(details.prefill if details.prefill and wants_prefill(call) else []),
            "tokens": _encode([token_fields(token) for token in details.tokens or ()]),
        }
        if details.top_tokens:
            parts["top_tokens"] = _encode([[token_fields(token) for token in row] for row in details.top_tokens])
        fields["details"] = join_fields(parts)
    return join_fields(fields)


def token_fields(token: Token) -> Mapping[str, Any]:
    """Return a token in TGI's order of fields."""
    return {"id": token.id, "text": token.text, "logprob": token.logprob, "special": token.special}


def native_object(call: Call, generation: Generation) -> bytes:
    """Return the whole reply that a TGI container's frames make."""
    return generate_object(call, generation, None if generation.details is None else generation.details.finish_reason)


def sum_of(usage: Usage) -> Mapping[str, int]:
    """Return a usage as OpenAI writes it."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def _inside_array(text: bytes) -> bytes:
    if not text.startswith(b"["):
        return text
    items = msgspec.json.decode(text, type=list[msgspec.Raw])
    return bytes(items[0]) if len(items) == 1 else text
