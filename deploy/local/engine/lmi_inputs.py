"""The schema of `inputs` and `parameters`, which LMI turns into a completion and back.

https://github.com/deepjavalibrary/djl-serving: engines/python/setup/djl_python/lmi_vllm/request_response_utils.py
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from deploy.local.engine import jsontext, tokens
from deploy.local.engine.completions import CompletionJob
from deploy.local.engine.job import Record, rounds_of, stream_error
from deploy.local.engine.logprobs import chance
from deploy.local.presets import shape_a

DEFAULT_MAX_TOKENS = 30


def to_completion(payload: dict[str, Any]) -> tuple[dict[str, Any], bool, bool]:
    """Return a completion's body, whether details are asked for, and whether a stream's end repeats the prompt."""
    parameters: Any = payload.get("parameters", {})
    if not hasattr(parameters, "pop"):
        raise AttributeError(f"{type(parameters).__name__!r} object has no attribute 'pop'")
    parameters = dict(parameters)
    body: dict[str, Any] = {
        "prompt": payload.pop("inputs"),
        "model": payload.pop("model"),
        "max_tokens": parameters.pop("max_new_tokens", DEFAULT_MAX_TOKENS),
        "echo": parameters.pop("return_full_text", False),
        "truncate_prompt_tokens": parameters.pop("truncate", None),
        "n": parameters.pop("top_n_tokens", 1),
        "ignore_eos": parameters.pop("ignore_eos_token", False),
        "stream": payload.pop("stream", False),
    }
    repeats_prompt = False
    if body["stream"]:
        body |= {
            "logprobs": 1,
            "return_tokens_as_token_ids": True,
            "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        }
        repeats_prompt = bool(body.pop("echo"))
    details = bool(parameters.pop("details", False))
    if details:
        body |= {"logprobs": 1, "return_tokens_as_token_ids": True}
        if parameters.pop("decoder_input_details", False):
            body["prompt_logprobs"] = 1
    sampled = parameters.pop("do_sample", None)
    if sampled is not None and not sampled:
        parameters["temperature"] = 0.0
    return body | parameters, details, repeats_prompt


@dataclass(slots=True)
class InputsJob:
    """An answered `inputs`; of several choices only the first is told."""

    inner: CompletionJob
    details: bool
    repeats_prompt: bool
    broken: bool = False
    """Whether the stream ended early, so that nothing follows its last record."""

    @property
    def streams(self) -> bool:
        """Whether the request asked for a stream."""
        return self.inner.streams

    @property
    def fails_after(self) -> int | None:
        """After how many tokens the engine dies, or None if it does not."""
        return self.inner.fails_after

    @property
    def rounds(self) -> int:
        """How many tokens the longest choice has."""
        return self.inner.rounds

    def whole(self) -> bytes:
        """Return the reply's JSON: an object, where the real TGI has a list."""
        job = self.inner
        reply: dict[str, Any] = {"generated_text": job.text_of(0)}
        if self.details:
            listed = job.logprobs_of(0)
            prompt = job.prompt_logprobs_of(0) or []
            reply["details"] = {
                # LMI fills it from vLLM's stop_reason: null unless a stop string ended the answer.
                "finish_reason": job.choices[0][-1].stop_reason,
                "generated_tokens": job.completion_tokens,
                "seed": job.body.seed,
                "prefill": [_prefill(entry) for entry in prompt if entry is not None],
                "tokens": [] if listed is None else [_token(*pair) for pair in _named(listed)],
            }
        return jsontext.spaced(reply)

    def records(self) -> Iterator[Record]:
        """Give one record for each token; the empty one at the end stands for the usage."""
        job = self.inner
        said: list[str] = []
        waited = -1
        for number, index, step in rounds_of(job.choices):
            if job.fails_after is not None and number >= job.fails_after:
                self.broken = True
                yield 1, stream_error(job.reply.dialect, chat=False)
                return
            said.append(step.text)
            record: dict[str, Any] = {
                "index": index,
                "token": {"id": step.token, "text": step.text, "logprob": chance(step.token, number)},
                "generated_text": None,
                "details": None,
            }
            due, waited = number - waited, number
            if step.finish is not None:
                prompt = job.prompt_of(index)
                if self.repeats_prompt and not isinstance(job.body.prompt, str):
                    # The formatter adds a list to a text, and its exception ends the body without a line break.
                    self.broken = True
                    yield due, shape_a(424, 'can only concatenate list (not "str") to list').body
                    return
                record["generated_text"] = (prompt.text if self.repeats_prompt else "") + "".join(said)
                if self.details:
                    record["details"] = {
                        "finish_reason": step.finish,
                        "seed": job.body.seed,
                        "generated_tokens": number + 2,  # LMI counts one too many.
                        "input_length": len(prompt.ids),
                    }
            yield due, jsontext.spaced(record)
        yield 0, b""


def _named(listed: dict[str, list[Any]]) -> list[tuple[int, float | None]]:
    ids = [int(name.partition(":")[2]) for name in listed["tokens"]]
    return list(zip(ids, listed["token_logprobs"], strict=True))


def _token(token: int, logprob: float | None) -> dict[str, Any]:
    return {"id": token, "text": tokens.spell(token), "logprob": logprob}


def _prefill(entry: dict[str, Any]) -> dict[str, Any]:
    token, known = next(iter(entry.items()))
    return {"id": int(token), "text": known["decoded_token"], "logprob": known["logprob"]}
