"""TGI's /v1/completions.

https://github.com/huggingface/text-generation-inference: router/src/server.rs (completions)
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from deploy.local.engine import jsontext
from deploy.local.engine.job import Record
from deploy.local.engine.tgi import openai
from deploy.local.engine.tgi.answers import Answer
from deploy.local.engine.tgi.errors import SHARD_DIED, TgiError, failed
from deploy.local.engine.tgi.infer import Generate, Inference

Json = dict[str, Any]

MAX_PROMPTS = 4


@dataclass(slots=True)
class CompletionJob:
    """Answered raw prompts; a prompt without an answer has the error that its stream consists of."""

    inference: Inference
    streams: bool
    shows_prefill: bool
    prompts: list[str]
    results: list[Answer | TgiError]
    created: int = field(default_factory=openai.now_s)

    @property
    def ends_with_done(self) -> bool:
        """Whether [DONE] follows the records."""
        return self.inference.release.ends_with_done

    @property
    def answers(self) -> list[Answer]:
        """The answers there are."""
        return [result for result in self.results if isinstance(result, Answer)]

    @property
    def fails_after(self) -> int | None:
        """After how many tokens the model server dies, or None if it does not."""
        return min((one.fails_after for one in self.answers if one.fails_after is not None), default=None)

    @property
    def rounds(self) -> int:
        """How many tokens the longest answer has."""
        return max((len(answer.said) for answer in self.answers), default=0)

    @property
    def characters(self) -> int:
        """How many characters were sent in."""
        return sum(map(len, self.prompts))

    def whole(self) -> bytes:
        """Return the reply's JSON."""
        release = self.inference.release
        choices = [
            _choice(number, answer.text, openai.finish_reason(answer, release))
            for number, answer in enumerate(self.answers)
        ]
        knows = openai.knows_prompts(release, shows_prefill=self.shows_prefill)
        return self._final(choices, openai.usage(self.answers, knows_prompt=knows))

    def records(self) -> Iterator[Record]:
        """Give the records of all prompts, a token of each in turn."""
        release = self.inference.release
        failing = self.fails_after
        for place in range(max(self.rounds, 1)):
            due = 1
            for number, result in enumerate(self.results):
                if isinstance(result, TgiError):
                    if place == 0:
                        yield 0, openai.stream_error(result, release)
                    continue
                if failing is not None and place >= failing:
                    if place == failing and failing < len(result.said):
                        yield due, openai.stream_error(failed(SHARD_DIED), release)
                        due = 0
                    continue
                if place >= len(result.said):
                    continue
                yield due, self._chunk(number, result, place)
                due = 0

    def _chunk(self, number: int, answer: Answer, place: int) -> bytes:
        text = answer.said[place].text
        if place == len(answer.said) - 1 and self.inference.release.counts_in_streams:
            return self._final([_choice(number, text, answer.finish)], openai.usage([answer]))
        choices = [_choice(number, text, "")]
        made = self._head() | {"created": self.created, "choices": choices}
        return jsontext.value(made | self._model())

    def _final(self, choices: list[Json], usage: Json) -> bytes:
        made = self._head() | {"created": self.created} | self._model()
        return jsontext.value(made | {"choices": choices, "usage": usage})

    def _head(self) -> Json:
        tagged = {"object": "text_completion", "id": ""}
        return {"id": "", "object": "text_completion"} if self.inference.release.old_schema else tagged

    def _model(self) -> Json:
        inference = self.inference
        return {
            "model": inference.options.served_name,
            "system_fingerprint": openai.fingerprint(inference.release),
        }


def read(body: Json, inference: Inference, *, shows_prefill: bool) -> CompletionJob:
    """Return the answers to a completion's prompts.

    Raises:
        TgiError: there are none; a stream has all errors but those of its body inside.
    """
    release = inference.release
    if body["suffix"] is not None:
        raise TgiError(
            "Suffix is not supported and can be achieved by preprocessing the prompt.", "suffix not supported"
        )
    prompts = body["prompt"] if isinstance(body["prompt"], list) else [body["prompt"]]
    if len(prompts) > MAX_PROMPTS:
        raise TgiError(
            f"Number of prompts exceeds the maximum allowed batch size of {MAX_PROMPTS}", "batch size exceeded"
        )
    asked = openai.parameters(body, release) | {"repetition_penalty": body["repetition_penalty"]}
    results: list[Answer | TgiError] = []
    for prompt in prompts:
        try:
            results.append(inference.generate(Generate(prompt, asked)))
        except TgiError as error:
            if not body["stream"]:
                raise
            results.append(error)
    return CompletionJob(inference, body["stream"], shows_prefill, prompts, results)


def _choice(number: int, text: str, finish: str) -> Json:
    return {"index": number, "text": text, "logprobs": None, "finish_reason": finish}
