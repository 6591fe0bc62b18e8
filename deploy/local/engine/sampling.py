"""How long an answer may get and what ends it, checked as vLLM checks it.

https://github.com/vllm-project/vllm: vllm/sampling_params.py, vllm/renderers/params.py (0.18 on) and
vllm/entrypoints/openai/serving_engine.py (before)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from deploy.local.engine.bodies import ChatCompletionRequest, CompletionRequest, SamplingBody
from deploy.local.engine.dialect import Dialect
from deploy.local.engine.refusal import Refusal, bad_value
from deploy.local.engine.tokens import VOCABULARY_SIZE

MAX_LOGPROBS = 20
MAX_SEQUENCES = 16_384


@dataclass(frozen=True, slots=True)
class Sampling:
    """What one prompt's answers keep to."""

    temperature: float
    seed: int
    max_tokens: int
    min_tokens: int = 0
    ignore_eos: bool = False
    stops: tuple[str, ...] = ()
    keep_stop: bool = False
    stop_ids: frozenset[int] = frozenset()


def settle(body: SamplingBody, prompt_tokens: int, dialect: Dialect, window_tokens: int) -> Sampling:
    """Return what the answers to a prompt of that length, which fits the window, keep to.

    Raises:
        Refusal: a parameter is out of its range.
    """
    wanted = _wanted_tokens(body)
    room = window_tokens - prompt_tokens
    sampling = Sampling(
        temperature=1.0 if body.temperature is None else body.temperature,
        seed=body.seed or 0,
        max_tokens=room if wanted is None else min(wanted, room),
        min_tokens=body.min_tokens,
        ignore_eos=body.ignore_eos,
        stops=tuple(body.stops),
        keep_stop=body.include_stop_str_in_output,
        stop_ids=frozenset(body.stop_token_ids or ()),
    )
    if isinstance(body, CompletionRequest) and body.echo and wanted == 0:
        return sampling
    _check_ranges(body, sampling, dialect)
    _check_logprobs(body, dialect)
    return sampling


def check_window(body: SamplingBody, prompt_tokens: int, dialect: Dialect, window_tokens: int) -> None:
    """Refuse a prompt that does not fit the window, in the words of the release."""
    wanted = _wanted_tokens(body)
    if not dialect.since(0, 10):
        _check_window_of_0_8(wanted, prompt_tokens, window_tokens)
    elif not dialect.since(0, 18):
        _check_window_of_0_12(wanted, prompt_tokens, dialect, window_tokens)
    else:
        _check_window_of_0_18(body, wanted, prompt_tokens, dialect, window_tokens)


def _wanted_tokens(body: SamplingBody) -> int | None:
    if isinstance(body, ChatCompletionRequest):
        return body.token_limit
    return body.max_tokens if isinstance(body, CompletionRequest) else None


def _check_window_of_0_8(wanted: int | None, prompt_tokens: int, window_tokens: int) -> None:
    head = f"This model's maximum context length is {window_tokens} tokens. However, you requested "
    if wanted is None:
        if prompt_tokens >= window_tokens:
            raise Refusal(f"{head}{prompt_tokens} tokens in the messages, Please reduce the length of the messages.")
    elif prompt_tokens + wanted > window_tokens:
        raise Refusal(
            f"{head}{wanted + prompt_tokens} tokens ({prompt_tokens} in the messages, {wanted} in the completion). "
            "Please reduce the length of the messages or completion."
        )


def _check_window_of_0_12(wanted: int | None, prompt_tokens: int, dialect: Dialect, window_tokens: int) -> None:
    named = dialect.since(0, 14)
    if prompt_tokens >= window_tokens:
        raise bad_value(
            f"This model's maximum context length is {window_tokens} tokens. However, your request has "
            f"{prompt_tokens} input tokens. Please reduce the length of the input messages.",
            "input_tokens",
            prompt_tokens,
            named=named,
        )
    if wanted is not None and prompt_tokens + wanted > window_tokens:
        raise bad_value(
            f"'max_tokens' or 'max_completion_tokens' is too large: {wanted}. This model's maximum context length is "
            f"{window_tokens} tokens and your request has {prompt_tokens} input tokens ({wanted} > {window_tokens}"
            f" - {prompt_tokens}).",
            "max_tokens",
            wanted,
            named=named,
        )


def _check_window_of_0_18(
    body: SamplingBody, wanted: int | None, prompt_tokens: int, dialect: Dialect, window_tokens: int
) -> None:
    # Since 0.27 an answer is cut at the window's end; before, prompt and answer had to fit it together.
    clamps = dialect.since(0, 27)
    output = wanted or 0
    if output > window_tokens:
        named_limit = isinstance(body, ChatCompletionRequest) and body.max_completion_tokens is not None
        name = "max_completion_tokens" if named_limit else "max_tokens"
        # Releases before 0.27 wrote the limit's own name twice.
        limit = window_tokens if clamps else f"max_total_tokens={window_tokens}"
        raise bad_value(
            f"{name}={output} cannot be greater than max_model_len={limit}. Please request fewer output tokens.",
            name,
            output,
        )
    room = window_tokens if clamps else window_tokens - output
    if prompt_tokens <= room:
        return
    # The tokenizer stops one token past what fits.
    counted = min(prompt_tokens, room + 1)
    head = f"This model's maximum context length is {window_tokens} tokens. However, "
    if clamps:
        message = (
            f"{head}your prompt contains at least {counted} input tokens, which exceeds this limit even without any "
            "output tokens. Please reduce the length of the input prompt."
        )
    else:
        message = (
            f"{head}you requested {output} output tokens and your prompt contains at least {counted} input tokens, "
            f"for a total of at least {counted + output} tokens. Please reduce the length of the input prompt or the "
            "number of requested output tokens."
        )
    raise bad_value(message, "input_tokens", counted)


def _check_ranges(body: SamplingBody, sampling: Sampling, dialect: Dialect) -> None:
    n = body.choices
    if n < 1:
        raise Refusal(f"n must be at least 1, got {n}.")
    if n > MAX_SEQUENCES:
        raise Refusal(
            f"n must be at most {MAX_SEQUENCES}, got {n}. To increase this limit, set the VLLM_MAX_N_SEQUENCES "
            "environment variable."
        )
    for name, penalty in (("presence", body.presence_penalty), ("frequency", body.frequency_penalty)):
        if penalty is not None and not -2 <= penalty <= 2:
            raise Refusal(f"{name}_penalty must be in [-2, 2], got {penalty}.")
    if body.repetition_penalty is not None and body.repetition_penalty <= 0:
        raise Refusal(f"repetition_penalty must be greater than zero, got {body.repetition_penalty}.")
    named = dialect.since(0, 14)
    heat = sampling.temperature
    if not math.isfinite(heat):
        raise bad_value(f"temperature must be a finite number, got {heat}.", "temperature", heat, named=named)
    if heat < 0:
        raise bad_value(f"temperature must be non-negative, got {heat}.", "temperature", heat, named=named)
    if heat > 2 and dialect.since(0, 27):
        raise bad_value(f"temperature must be in [0, 2], got {heat}.", "temperature", heat)
    if body.top_p is not None and not 0 < body.top_p <= 1:
        raise bad_value(f"top_p must be in (0, 1], got {body.top_p}.", "top_p", body.top_p, named=named)
    _check_top_k(body.top_k, dialect)
    if body.min_p is not None and not 0 <= body.min_p <= 1:
        raise Refusal(f"min_p must be in [0, 1], got {body.min_p}.")
    limit = sampling.max_tokens
    if limit < 1:
        raise bad_value(f"max_tokens must be at least 1, got {limit}.", "max_tokens", limit, named=named)
    if body.min_tokens < 0:
        raise Refusal(f"min_tokens must be greater than or equal to 0, got {body.min_tokens}.")
    if body.min_tokens > limit:
        raise Refusal(f"min_tokens must be less than or equal to max_tokens={limit}, got {body.min_tokens}.")
    if "" in sampling.stops:
        raise Refusal("stop cannot contain an empty string.")
    if heat < 1e-5 and n > 1:
        raise Refusal(f"n must be 1 when using greedy sampling, got {n}.")


def _check_top_k(top_k: int | None, dialect: Dialect) -> None:
    if top_k is None:
        return
    if not dialect.since(0, 10) and (top_k < -1 or top_k == 0):
        raise Refusal(f"top_k must be -1 (disable), or at least 1, got {top_k}.")
    if top_k < -1:
        raise Refusal(f"top_k must be 0 (disable), or at least 1, got {top_k}.")


def _check_logprobs(body: SamplingBody, dialect: Dialect) -> None:
    named = dialect.since(0, 14)
    for what, name, wanted in (
        ("sample", "logprobs", wanted_logprobs(body)),
        ("prompt", "prompt_logprobs", body.prompt_logprobs),
    ):
        wanted = VOCABULARY_SIZE if wanted == -1 else wanted
        if wanted is not None and wanted > MAX_LOGPROBS:
            raise bad_value(
                f"Requested {what} logprobs of {wanted}, which is greater than max allowed: {MAX_LOGPROBS}",
                name,
                wanted,
                named=named,
            )


def wanted_logprobs(body: SamplingBody) -> int | None:
    """Return how many alternatives each token is to be listed with, or None for no list."""
    if isinstance(body, ChatCompletionRequest):
        return (body.top_logprobs or 0) if body.logprobs else None
    return body.logprobs if isinstance(body, CompletionRequest) else None
