"""A completion's whole reply as TGI's: `{"generated_text": …}`, with `details` where they were asked for.

Fields and their order: `GenerateResponse` and what is below it in router/src/lib.rs of
https://github.com/huggingface/text-generation-inference; the choice between several answers: `generate_best_of` in
router/src/infer/mod.rs.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from msgspec import UNSET, UnsetType

from adapters.base import Usage, Whole
from adapters.errors import MalformedReply
from adapters.openai.reply import INVALID_JSON
from adapters.tgi.completion import Plan
from adapters.tgi.tokens import Logprobs, PrefillToken, Step, Token, TokenReader, finish_reason

_F32_MIN = -3.4028234663852886e38
_encode = msgspec.json.Encoder().encode


class _Sequence(msgspec.Struct):
    generated_text: str
    finish_reason: str
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[Token]
    top_tokens: list[list[Token]] | UnsetType = UNSET


class _Details(msgspec.Struct):
    finish_reason: str
    generated_tokens: int
    seed: int | None
    prefill: list[PrefillToken]
    tokens: list[Token]
    best_of_sequences: list[_Sequence] | UnsetType = UNSET
    top_tokens: list[list[Token]] | UnsetType = UNSET


class _Generation(msgspec.Struct):
    generated_text: str
    details: _Details | UnsetType = UNSET


class _Choice(msgspec.Struct):
    text: str
    finish_reason: str
    stop_reason: str | int | None = None
    logprobs: Logprobs | None = None
    token_ids: list[int] | None = None
    prompt_token_ids: list[int] | None = None


class _Completion(msgspec.Struct):
    choices: list[_Choice]


_completion = msgspec.json.Decoder(_Completion).decode


@dataclass(slots=True)
class Answer:
    """One answer of those to choose from."""

    text: str
    finish_reason: str
    steps: list[Step] = field(default_factory=list)
    prefill: list[PrefillToken] = field(default_factory=list)
    logprobs: list[float | None] = field(default_factory=list)

    @property
    def likelihood(self) -> float:
        """The mean of its tokens' log-probabilities; of no tokens less than any."""
        known = [logprob for logprob in self.logprobs if logprob is not None]
        return sum(known) / len(known) if known else _F32_MIN


def translate(plan: Plan, whole: Whole) -> Whole:
    """Return TGI's reply for a completion's.

    Raises:
        MalformedReply: the completion does not tell what was asked for.
    """
    try:
        choices = _completion(whole.body).choices
    except INVALID_JSON:
        raise MalformedReply("the reply has a field of the wrong type") from None
    return Whole(generation(plan, [_read(plan, choice) for choice in choices], whole.usage), whole.usage)


def generation(plan: Plan, answers: list[Answer], usage: Usage | None) -> bytes:
    """Return TGI's reply for the answers a container gave: at least one."""
    if plan.copies:
        answers = answers[:1] * plan.best_of
    best = 0
    if len(answers) > 1:
        highest = _F32_MIN
        for place, answer in enumerate(answers):
            if answer.likelihood > highest:
                best, highest = place, answer.likelihood
    chosen = answers[best]
    made = _Generation(plan.prefix + chosen.text)
    if plan.details:
        others = [_sequence(plan, answer) for place, answer in enumerate(answers) if place != best]
        told = _sequence(plan, chosen)
        count = usage.completion_tokens if usage is not None and len(answers) == 1 else told.generated_tokens
        made.details = _Details(
            told.finish_reason,
            count,
            told.seed,
            told.prefill,
            told.tokens,
            others if plan.best_of > 1 else UNSET,
            told.top_tokens,
        )
    return _encode(made)


def _sequence(plan: Plan, answer: Answer) -> _Sequence:
    return _Sequence(
        generated_text=plan.prefix + answer.text,
        finish_reason=answer.finish_reason,
        generated_tokens=len(answer.steps),
        seed=plan.seed,
        prefill=answer.prefill,
        tokens=[step.token for step in answer.steps],
        top_tokens=[step.top for step in answer.steps] if plan.top and answer.steps else UNSET,
    )


def _read(plan: Plan, choice: _Choice) -> Answer:
    logprobs = choice.logprobs
    answer = Answer(choice.text, finish_reason(choice.finish_reason, choice.stop_reason))
    if logprobs is not None:
        answer.logprobs = logprobs.token_logprobs or []
    if not plan.details:
        return answer
    if logprobs is None:
        raise MalformedReply("the reply lacks the tokens that were asked for")
    reader = TokenReader(plan.top)
    reader.finish = answer.finish_reason
    if plan.prefill:
        answer.prefill = _prefill(choice.prompt_token_ids, logprobs)
        reader.learn([token.id for token in answer.prefill], [token.text for token in answer.prefill])
        cut = len(answer.prefill)
        logprobs = Logprobs(
            (logprobs.tokens or [])[cut:], (logprobs.token_logprobs or [])[cut:], (logprobs.top_logprobs or [])[cut:]
        )
        answer.logprobs = logprobs.token_logprobs or []
    answer.steps = reader.take(choice.text, choice.token_ids, logprobs)
    return answer


def _prefill(ids: list[int] | None, logprobs: Logprobs) -> list[PrefillToken]:
    """Return the prompt's tokens, which an echo puts before the answer's; the first has no probability."""
    names, values = logprobs.tokens or [], logprobs.token_logprobs or []
    if ids is None or len(names) < len(ids) or len(values) < len(ids):
        raise MalformedReply("the reply lacks the prompt's tokens that were asked for")
    return [PrefillToken(*found) for found in zip(ids, names, values, strict=False)]
