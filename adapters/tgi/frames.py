"""A completion's stream as TGI's: an event per token, or gathered into TGI's whole reply.

Fields and their order: `StreamResponse` in router/src/lib.rs of
https://github.com/huggingface/text-generation-inference. TGI writes `data:` without a space and no `[DONE]`: the event
of the last token has `generated_text`, and ends the answer.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from adapters.base import StreamDecoder, Usage, Whole
from adapters.errors import ContainerFault
from adapters.openai.relay import DONE
from adapters.openai.reply import INVALID_JSON
from adapters.tgi.completion import Plan
from adapters.tgi.reply import Answer, generation
from adapters.tgi.tokens import Logprobs, Step, Token, TokenReader, finish_reason

_encode = msgspec.json.Encoder().encode
_HEAD, _TAIL = len(b"data: "), len(b"\n\n")


class _StreamDetails(msgspec.Struct):
    finish_reason: str
    generated_tokens: int
    seed: int | None
    input_length: int


class _Frame(msgspec.Struct):
    index: int
    token: Token
    top_tokens: list[Token] | UnsetType = UNSET
    generated_text: str | None = None
    details: _StreamDetails | None = None


class _Choice(msgspec.Struct):
    index: int = 0
    text: str = ""
    finish_reason: str | None = None
    stop_reason: str | int | None = None
    logprobs: Logprobs | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None


class _Chunk(msgspec.Struct):
    choices: list[_Choice]


_chunk = msgspec.json.Decoder(_Chunk).decode


class _Reading:
    """What relaying a stream and gathering one have in common: the container's decoder, and what its chunks say."""

    def __init__(self, inner: StreamDecoder, plan: Plan) -> None:
        """`inner` decodes the stream of the completion, with its usage."""
        self.usage: Usage | None = None
        self.chunks: int = 0
        self.complete: bool = False
        self.fault: ContainerFault | None = None
        self.malformed: str | None = None
        self.dropped: int = 0
        self.ended: bool = False
        self._inner = inner
        self._plan = plan
        self._broken: str | None = None
        """What is wrong with a chunk that the container's decoder let pass."""

    def _look(self) -> None:
        """Take over what the container's decoder knows by now; what goes wrong after the end is no one's concern."""
        inner = self._inner
        self.usage, self.chunks, self.dropped = inner.usage, inner.chunks, inner.dropped
        self.complete = inner.complete and self._broken is None
        if not self.ended:
            self.fault = inner.fault if self._broken is None else None
            self.malformed = self._broken or inner.malformed

    def _read(self, event: bytes) -> list[_Choice]:
        """Return the choices of an event of the completion; none in the one with the usage."""
        try:
            return _chunk(event[_HEAD:-_TAIL]).choices
        except INVALID_JSON:
            self._broken = "a chunk of the stream has a field of the wrong type"
            return []

    def _steps(self, reader: TokenReader, choice: _Choice) -> list[Step]:
        if choice.finish_reason is not None:
            reader.finish = finish_reason(choice.finish_reason, choice.stop_reason)
        return reader.take(choice.text, None if self._plan.ids_only else choice.token_ids, choice.logprobs)


class GenerateDecoder(_Reading):
    """The StreamDecoder of generate calls."""

    def __init__(self, inner: StreamDecoder, plan: Plan) -> None:
        super().__init__(inner, plan)
        self._reader = TokenReader(plan.top)
        self._index = 0
        self._prompt_tokens = 0
        self._last: Step | None = None
        """The last token, until the usage is known, which its event tells."""

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events completed by `data`, oldest first, each a whole SSE event."""
        events = self._translate(self._inner.feed(data))
        self._look()
        return events

    def end(self) -> list[bytes]:
        """The container's bytes are over: return the last events."""
        events = self._translate(self._inner.end())
        if self._inner.complete and self._broken is None:
            self._finish(events)
        self._look()
        return events

    def _translate(self, chunks: list[bytes]) -> list[bytes]:
        events: list[bytes] = []
        for chunk in chunks:
            if self.ended or self._broken is not None:
                break
            if chunk == DONE:
                self._finish(events)
                continue
            choices = self._read(chunk)
            for choice in choices:
                self._take(choice, events)
            if not choices and self._inner.usage is not None:
                self._finish(events)
        if self._inner.fault is not None and self._inner.complete:
            self._finish(events)  # it came after the last token: nothing is missing
        return events

    def _take(self, choice: _Choice, events: list[bytes]) -> None:
        if choice.prompt_token_ids:
            self._prompt_tokens = len(choice.prompt_token_ids)
        steps = self._steps(self._reader, choice)
        if self._reader.finish is not None:
            self._last = steps.pop() if steps else self._last or self._reader.end()
        for step in steps:
            events.append(self._event(step))

    def _event(self, step: Step, text: str | None = None, details: _StreamDetails | None = None) -> bytes:
        self._index += 1
        frame = _Frame(self._index, step.token, step.top or UNSET, text, details)
        return b"data:" + _encode(frame) + b"\n\n"

    def _finish(self, events: list[bytes]) -> None:
        """Return the last token's event, if the answer has ended and it is not out yet."""
        finish = self._reader.finish
        if self._last is None or finish is None or self.ended:
            return
        details = None
        if self._plan.details:
            usage = self._inner.usage
            details = _StreamDetails(
                finish,
                usage.completion_tokens if usage is not None else self._reader.count,
                self._plan.seed,
                usage.prompt_tokens if usage is not None else self._prompt_tokens,
            )
        events.append(self._event(self._last, self._plan.prefix + self._reader.text, details))
        self.ended = True


class GenerateAssembler(_Reading):
    """The Assembler of generate calls."""

    def __init__(self, inner: StreamDecoder, plan: Plan, *, limit_bytes: int) -> None:
        """`limit_bytes` is the most the chunks of a reply may hold."""
        super().__init__(inner, plan)
        self._limit = limit_bytes
        self._size = 0
        self._readers: dict[int, TokenReader] = {}
        self._steps_of: dict[int, list[Step]] = {}

    @property
    def over(self) -> bool:
        """Nothing that follows matters: the end mark has come, or what went wrong."""
        return self._inner.ended or self.fault is not None or self.malformed is not None

    def feed(self, data: bytes) -> None:
        self._gather(self._inner.feed(data))
        self._look()

    def end(self) -> Whole | None:
        """Return the whole reply, or None with `fault` or `malformed` set."""
        self._gather(self._inner.end())
        self._look()
        if self.fault is not None or self.malformed is not None:
            return None
        answers = [self._answer(index) for index in sorted(self._readers)]
        return Whole(generation(self._plan, answers, self.usage), self.usage)

    def _gather(self, chunks: list[bytes]) -> None:
        for chunk in chunks:
            if chunk == DONE or self._broken is not None:
                continue
            self._size += len(chunk)
            if self._size > self._limit:
                self._broken = "the answer is too long"
                return
            for choice in self._read(chunk):
                reader = self._readers.setdefault(choice.index, TokenReader(self._plan.top))
                self._steps_of.setdefault(choice.index, []).extend(self._steps(reader, choice))

    def _answer(self, index: int) -> Answer:
        steps = self._steps_of[index]
        # Without a finish reason an answer has ended by itself: vLLM up to 0.9 may leave it out.
        finish = self._readers[index].finish or "eos_token"
        logprobs = [step.token.logprob for step in steps]
        return Answer(self._readers[index].text, finish, steps, logprobs=logprobs)
