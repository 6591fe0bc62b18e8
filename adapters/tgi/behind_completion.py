"""Generate replies and streams as OpenAI's text completions.

https://platform.openai.com/docs/api-reference/completions/object
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from adapters.base import Call, Usage, Whole
from adapters.errors import ContainerFault, MalformedReply
from adapters.openai.relay import DONE
from adapters.openai.reply import INVALID_JSON, JudgeError, join_fields
from adapters.tgi.behind_frames import Frame, FrameReader, FrameWire, Stamp, Token, usage_of
from adapters.tgi.behind_generate import FrameGatherer, Generation, prefilled, read_generation, sum_of
from adapters.tgi.behind_request import prompt_of, stops
from adapters.tgi.behind_stops import StopCutter, cut
from adapters.tgi.behind_table import DEFAULT_COMPLETION_TOKENS

_LEAST_LOGPROB = -9999.0
"""What OpenAI and vLLM write for a log probability that no number tells."""

_encode = msgspec.json.Encoder().encode


class _Choice(msgspec.Struct):
    text: str
    finish_reason: str | None = None


class _Counts(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0


class _Completion(msgspec.Struct):
    """A whole reply of TGI's own completions."""

    choices: list[_Choice]
    usage: _Counts


_completion = msgspec.json.Decoder(_Completion).decode


class Facts:
    """What a call says about the form of its completion."""

    __slots__ = ("cap", "echo", "head", "keeps_stop", "logprobs", "stops")

    def __init__(self, call: Call, stamp: Stamp, stops: Sequence[str]) -> None:
        """`stops` are the stop strings that the container leaves in the text."""
        values = call.values
        self.stops = stops
        self.keeps_stop = values.get("include_stop_str_in_output") is True
        self.echo = prompt_of(call) if values.get("echo") else ""
        self.logprobs: int | None = values.get("logprobs")
        self.cap = DEFAULT_COMPLETION_TOKENS if call.max_tokens is None else call.max_tokens
        self.head = {
            "id": _encode(f"cmpl-{stamp.id}"),
            "object": b'"text_completion"',
            "created": _encode(stamp.created_s),
            "model": _encode(call.model),
        }
        """The fields every chunk begins with."""


def decode_completion(call: Call, body: bytes, stamp: Stamp, judge: JudgeError) -> Whole | ContainerFault:
    """Return a whole completion, from a generate reply or one of TGI's own completions.

    Raises:
        MalformedReply: `body` is neither.
    """
    try:
        own = _completion(body)
    except INVALID_JSON:
        read = read_generation(body, judge)
        return read if isinstance(read, ContainerFault) else completion(Facts(call, stamp, stops(call.values)), read[0])
    if not own.choices:
        raise MalformedReply("the reply has no choices")
    choice, facts = own.choices[0], Facts(call, stamp, stops(call.values))
    usage = Usage(own.usage.prompt_tokens, own.usage.completion_tokens)
    text, stopped = cut(choice.text, facts.stops, keeps=facts.keeps_stop)
    finish = finish_reason(choice.finish_reason, usage, facts.cap, stopped=stopped)
    return _reply(facts, text, None, finish, usage)


def completion(facts: Facts, generation: Generation) -> Whole:
    """Return the completion that a generate reply amounts to.

    Raises:
        MalformedReply: it has no details, which are always asked for.
    """
    details = generation.details
    usage = usage_of(details, prompt_tokens=prefilled(generation))
    if details is None or usage is None:
        raise MalformedReply("the reply has no details")
    text, stopped = cut(generation.generated_text, facts.stops, keeps=facts.keeps_stop)
    logprobs: Mapping[str, Any] | None = None
    if facts.logprobs is not None:
        listing = Logprobs()
        tops = details.top_tokens or []
        for at, token in enumerate(details.tokens or ()):
            listing.add(token, tops[at] if at < len(tops) else ())
        logprobs = listing.take()
    return _reply(facts, text, logprobs, finish_reason(details.finish_reason, usage, facts.cap, stopped=stopped), usage)


def finish_reason(told: str | int | None, usage: Usage | None, cap: int, *, stopped: bool) -> str:
    """Return why an answer ended, in OpenAI's words.

    `told` is TGI's word for it. LMI tells none of a whole reply unless a stop string ended it: then the answer either
    met its cap or ended by itself.
    """
    if stopped:
        return "stop"
    if told is None:
        return "length" if usage is not None and usage.completion_tokens >= cap else "stop"
    return "length" if told == "length" else "stop"


def _reply(facts: Facts, text: str, logprobs: Mapping[str, Any] | None, finish: str, usage: Usage) -> Whole:
    choice = {"index": 0, "text": facts.echo + text, "logprobs": logprobs, "finish_reason": finish}
    fields = {**facts.head, "choices": _encode([choice]), "usage": _encode(sum_of(usage))}
    return Whole(join_fields(fields), usage)


class Logprobs:
    """OpenAI's four parallel lists. Special tokens are left out: they are not in the text."""

    __slots__ = ("_lists", "_offset")

    def __init__(self) -> None:
        self._offset = 0
        """Characters of the text so far."""
        self._lists: dict[str, list[Any]] = {}
        self._clear()

    def add(self, token: Token, top: Iterable[Token]) -> None:
        """Add a token and those that were likely in its place."""
        if token.special:
            return
        logprob = _logprob(token)
        self._lists["text_offset"].append(self._offset)
        self._lists["token_logprobs"].append(logprob)
        self._lists["tokens"].append(token.text)
        self._lists["top_logprobs"].append({token.text: logprob} | {likely.text: _logprob(likely) for likely in top})
        self._offset += len(token.text)

    def take(self) -> dict[str, list[Any]]:
        """Return the lists so far, and begin new ones that go on from there."""
        lists = self._lists
        self._clear()
        return lists

    def _clear(self) -> None:
        self._lists = {"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []}


def _logprob(token: Token) -> float:
    return _LEAST_LOGPROB if token.logprob is None else token.logprob


class CompletionRelay(FrameReader):
    """The StreamDecoder of completions over generate: a chunk for each token that is text."""

    __slots__ = ("_call", "_cutter", "_facts", "_head", "_logprobs", "_told", "ended")

    def __init__(self, call: Call, wire: FrameWire, facts: Facts) -> None:
        super().__init__(wire)
        self._call = call
        self._facts = facts
        self._head = join_fields(facts.head)[:-1] + b',"choices":['
        self._cutter = StopCutter(facts.stops, keeps=facts.keeps_stop)
        self._logprobs = None if facts.logprobs is None else Logprobs()
        self._told: list[str] = []
        """The tokens' text so far."""
        self.ended: bool = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events completed by `data`, oldest first, each a whole SSE event."""
        events: list[bytes] = []
        for record in self._splitter.feed(data):
            self._take(record, events)
        self._take_overlong()
        return events

    def end(self) -> list[bytes]:
        """The container's bytes are over: return the last events, `data: [DONE]` if the answer is complete."""
        events: list[bytes] = []
        for record in self._splitter.end():
            self._take(record, events)
        self._take_end()
        return events

    def _take(self, record: bytes, events: list[bytes]) -> None:
        frame = self._read(record)
        if frame is None:
            return
        if self.chunks == 1 and self._facts.echo:
            events.append(self._chunk(self._facts.echo, None, None))
        text = self._text(frame)
        told = self._cutter.feed(text)
        logprobs: dict[str, list[Any]] | None = None
        if self._logprobs is not None:
            self._logprobs.add(frame.token, frame.top_tokens or ())
            logprobs = self._logprobs.take()
        if not self.complete:
            if told or (logprobs and logprobs["tokens"]):
                events.append(self._chunk(told, logprobs, None))
            return
        told += self._cutter.end()
        details = frame.details
        reason = None if details is None else details.finish_reason
        finish = finish_reason(reason, self.usage, self._facts.cap, stopped=self._cutter.stopped)
        events.append(self._chunk(told, logprobs, finish))
        if self._call.include_usage and self.usage is not None:
            events.append(b"data: " + self._head + b'],"usage":' + _encode(sum_of(self.usage)) + b"}\n\n")
        events.append(DONE)
        self.ended = True

    def _text(self, frame: Frame) -> str:
        """Return what a frame adds to the text: its token, and at the end what tokens held back."""
        text = "" if frame.token.special else frame.token.text
        if frame.generated_text is None:
            self._told.append(text)
            return text
        # Bytes of a character that never came to its end are in the whole text only.
        so_far = "".join(self._told)
        return frame.generated_text[len(so_far) :] if frame.generated_text.startswith(so_far) else text

    def _chunk(self, text: str, logprobs: Mapping[str, Any] | None, finish: str | None) -> bytes:
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish}
        return b"data: " + self._head + _encode(choice) + b"]}\n\n"


class CompletionGatherer(FrameGatherer):
    """The Assembler of completions over generate."""

    __slots__ = ("_facts",)

    def __init__(self, wire: FrameWire, limit_bytes: int, facts: Facts) -> None:
        super().__init__(wire, limit_bytes)
        self._facts = facts

    def _whole(self, generation: Generation) -> Whole | None:
        try:
            return completion(self._facts, generation)
        except MalformedReply as error:
            self.malformed = str(error)
            return None
