"""From a generate request to its answers: what the router asks of the model, whoever asked the router.

https://github.com/huggingface/text-generation-inference: router/src/infer/mod.rs
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

from deploy.local.engine import conversation, patterns, prose, schemas, scripts
from deploy.local.engine.generation import Part
from deploy.local.engine.options import Options
from deploy.local.engine.refusal import Refusal
from deploy.local.engine.sampling import Sampling
from deploy.local.engine.tgi import pictures
from deploy.local.engine.tgi.answers import Answer, speak
from deploy.local.engine.tgi.errors import TgiError, failed, invalid, overloaded
from deploy.local.engine.tgi.release import Release
from deploy.local.engine.tgi.validation import MAX_BEST_OF, Valid, check_best_of, validate

Json = dict[str, Any]
Script = Callable[[Sampling, int], Iterable[Part]]
"""What is said, by the dice it is said with and the number of the answer."""

UNASKED_SEED = 0x9E3779B97F4A7C15
"""What is told of the seed of an answer that nobody gave one: it takes all 64 bits, as TGI's random ones do. The
answer is that of seed 0, and so it is if this number is asked for."""


@dataclass(frozen=True, slots=True)
class Generate:
    """What is to be generated."""

    inputs: str
    parameters: Json
    script: Script | None = None
    """What the model says, or None for what the inputs ask for."""
    question: str | None = None
    """What the inputs ask, where a template hides it."""


@dataclass(slots=True)
class Inference:
    """The model behind the router."""

    release: Release
    options: Options
    running: Callable[[], int] = field(default=lambda: 0)
    """How many answers are being generated."""

    def generate(self, request: Generate) -> Answer:
        """Return one answer.

        Raises:
            TgiError: there is none.
        """
        if self.running() >= self.options.max_concurrent_requests:
            raise overloaded()
        return self._answer(request, validate(request.inputs, request.parameters, self.release, self.options), 0)

    def best_of(self, request: Generate, count: int) -> tuple[Answer, list[Answer]]:
        """Return the likeliest of several answers, and the others."""
        check_best_of(count)
        if self.running() >= self.options.max_concurrent_requests:
            raise overloaded()
        valid = validate(request.inputs, request.parameters, self.release, self.options)
        answers = [self._answer(request, valid, number) for number in range(count)]
        best = max(range(count), key=lambda number: answers[number].mean_logprob())
        return answers[best], answers[:best] + answers[best + 1 :]

    def _answer(self, request: Generate, valid: Valid, number: int) -> Answer:
        question = request.question
        if question is None:
            question = conversation.question_of(valid.inputs)
        seed, number, told = _dice(valid, number)
        sampling = Sampling(1.0 if valid.sampled else 0.0, seed, valid.most_tokens)
        try:
            script = request.script or _script(valid, question)
            parts = list(script(sampling, number))
        except Refusal as refusal:
            raise _refused(refusal, valid) from refusal
        answer = speak(parts, most_tokens=valid.most_tokens, stops=valid.stops, seed=told, prompt=valid.prompt)
        point = prose.failure_point(question)
        point = self.options.fail_after_tokens if point is None else point
        if point is None or point > len(answer.said):
            return answer
        return replace(answer, fails_after=point)


def _dice(valid: Valid, number: int) -> tuple[int, int, int | None]:
    """Return the seed of the dice, the number of the answer they are for, and the seed that is told."""
    if not valid.sampled:
        return 0, number, None
    if valid.seed is None:
        return 0, number, UNASKED_SEED + number
    if UNASKED_SEED <= valid.seed < UNASKED_SEED + MAX_BEST_OF:
        return 0, valid.seed - UNASKED_SEED, valid.seed
    return valid.seed, number, valid.seed


def _script(valid: Valid, question: str) -> Script:
    """Return what a raw prompt is answered with."""

    def said(sampling: Sampling, number: int) -> list[Part]:
        if (constrained := within(valid, question, sampling, number)) is not None:
            return [Part(constrained)]
        if valid.pictures:
            return [Part(prose.seen_images(list(map(str, valid.pictures)), pictures.without(question)))]
        return [Part(prose.answer(question, scripts.text_dice(sampling, question, number), sampling.max_tokens))]

    return said


def within(valid: Valid, question: str, sampling: Sampling, number: int) -> str | None:
    """Return a text within the request's grammar, or None if it has none."""
    if valid.grammar is None:
        return None
    kind, value = valid.grammar
    dice = scripts.plain_dice(sampling, question, number)
    return patterns.matching(value, dice) if kind == "regex" else schemas.write(value, dice, question)


def _refused(refusal: Refusal, valid: Valid) -> TgiError:
    """Return what TGI says of a grammar it cannot use: its router compiles schemas, its model server patterns."""
    reason = refusal.message.removeprefix("Grammar error: ")
    if valid.grammar is not None and valid.grammar[0] == "json":
        return invalid(f"cannot compile regex from schema: {reason}")
    return failed(reason)
