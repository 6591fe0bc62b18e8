"""A call in TGI's schema as a text completion, for containers that run vLLM.

parameters.py says what becomes of each parameter; here it is done. What vLLM cannot do is refused, never left out.
Its fields and their defaults: CompletionRequest in vllm/entrypoints/openai/**/protocol.py of 0.8.4 to 0.33, and
vllm/sampling_params.py.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import msgspec

from adapters.base import Call, Surface
from adapters.errors import UnsupportedParameter
from adapters.tgi import grammars
from adapters.tgi.parameters import PARAMETERS, samples

FIRST_SLICE_TOKENS = 1024
"""New tokens of a call that asks for no number and leaves it open how many there is room for: as many TGI's scheduler
grants such a call at first (`DEFAULT_GENERATION_LENGTH` in router/src/validation.rs)."""

_TOKEN_IDS_FROM = 10
"""The first minor version with `return_token_ids`, from its third release on."""
_STRUCTURED_OUTPUTS_FROM = 11
_TRUNCATION_SIDE_FROM = 22
_COLDEST_FROM = 24
"""The first minor version that refuses temperatures above 2."""
_CLAMPS_FROM = 32
"""The first minor version that cuts `max_tokens` to what is left of the context; before, it refuses what exceeds it."""
_SPECIAL_TOKENS = 16
"""More than tokenizers put around a prompt by themselves."""

_encode = msgspec.json.Encoder().encode
_raws = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_OFF = {"top_p": b"1.0", "top_k": b"-1", "min_p": b"0.0"}
"""Sampling fields, and what switches them off; left out, vLLM takes the model's generation_config.json."""
_PENALTIES = {"repetition_penalty": b"1.0", "frequency_penalty": b"0.0", "presence_penalty": b"0.0"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What a generate call wants to know of the completion it is turned into."""

    best_of: int
    """Answers to choose from."""
    copies: bool
    """Nothing is sampled, so one answer stands for all of them."""
    details: bool
    prefill: bool
    """Details of the prompt's tokens, too."""
    top: int
    """Alternatives to each token."""
    seed: int | None
    """As the caller gave it; None where nothing is sampled."""
    prefix: str
    """What comes before the generated text: the prompt, or nothing."""
    ids_only: bool
    """The container gives a token's id in place of its text."""
    streams: bool
    """The container streams, also where the caller wants a whole reply: only so a token has both text and id."""


def plan(call: Call, minor: int, *, stream: bool, token_ids: bool | None = None) -> Plan:
    """Plan a generate call for vLLM 0.`minor`.

    Args:
        stream: the answer is fetched as a stream.
        token_ids: whether the container knows `return_token_ids`, where the minor version does not decide it; without,
            a token has either a text or an id.
    """
    ids_only = minor < _TOKEN_IDS_FROM if token_ids is None else not token_ids
    given = call.values["parameters"]
    prefill = given.get("decoder_input_details") is True
    details = prefill or given.get("details") is True
    sampling = samples(given)
    return Plan(
        best_of=call.choices,
        copies=not sampling,
        details=details,
        prefill=prefill,
        top=given.get("top_n_tokens", 0) if details or call.stream else 0,
        seed=given.get("seed") if sampling else None,
        prefix=call.values["inputs"] if given.get("return_full_text") else "",
        ids_only=ids_only,
        streams=stream or (details and ids_only),
    )


def to_completion(call: Call, minor: int, plan: Plan) -> Call:
    """Return the completion for vLLM 0.`minor`; its reply tells what `plan` wants to know.

    Raises:
        UnsupportedParameter: that version cannot do what a parameter asks.
    """
    given: dict[str, Any] = call.values["parameters"]
    _refuse(call, given, minor, plan)
    raw = _raws(call.raw["parameters"])
    most = call.max_tokens if call.max_tokens is not None else rest_of_window(call, minor)
    fields: dict[str, bytes] = {"prompt": call.raw["inputs"], "max_tokens": _encode(most)}
    fields |= {name: raw.get(name, off) for name, off in _PENALTIES.items()}
    if plan.copies:
        fields["temperature"] = b"0.0"
    else:
        fields["temperature"] = raw.get("temperature", b"1.0")
        fields |= {name: raw.get(name, off) for name, off in _OFF.items()}
        if plan.seed is not None:
            fields["seed"] = _encode(plan.seed % 2**63)
        if plan.best_of > 1:
            fields["n"] = _encode(plan.best_of)
    if given.get("stop"):
        fields |= {"stop": raw["stop"], "include_stop_str_in_output": b"true"}
    kept = _truncated_to(call)
    if kept is not None:
        fields["truncate_prompt_tokens"] = _encode(kept)
        if minor >= _TRUNCATION_SIDE_FROM:
            fields["truncation_side"] = b'"left"'
    if "grammar" in given:
        fields |= _constraint(given["grammar"], minor)
    if plan.details or call.stream:
        fields["logprobs"] = _encode(max(plan.top, 1))
        # Said in both cases, as the server may have a default of its own.
        fields["return_tokens_as_token_ids"] = b"true" if plan.ids_only else b"false"
        if not plan.ids_only:
            fields["return_token_ids"] = b"true"
        if plan.prefill:
            fields["echo"] = b"true"
    elif plan.best_of > 1 and not plan.copies:
        fields["logprobs"] = b"1"
    return replace(
        call,
        surface=Surface.COMPLETIONS,
        raw={name: msgspec.Raw(value) for name, value in fields.items()},
        values={name: msgspec.json.decode(value) for name, value in fields.items()},
        stream=plan.streams,
        include_usage=True,
        choices=1 if plan.copies else plan.best_of,
        max_tokens=most,
    )


def rest_of_window(call: Call, minor: int) -> int:
    """Return how many new tokens to ask for where the caller does not say.

    TGI's answer is: what the prompt leaves of the model's context. Here the prompt's tokens are not known. Yet a token
    stands for at least one byte of the prompt, so that so many are left for certain; a long prompt would leave nothing
    by that count, and then it is FIRST_SLICE_TOKENS, or what is left if three bytes make a token.
    """
    window = call.context_length
    if window is None:
        return FIRST_SLICE_TOKENS
    if minor >= _CLAMPS_FROM:
        return window
    kept = _truncated_to(call)
    certain = window - (_most_tokens(call) if kept is None else kept)
    if certain >= min(FIRST_SLICE_TOKENS, window // 2):
        return certain
    likely = window - (_most_tokens(call) // 3 if kept is None else kept)
    return max(min(FIRST_SLICE_TOKENS, likely), _SPECIAL_TOKENS)


def _most_tokens(call: Call) -> int:
    """Return more tokens than the prompt has."""
    return len(call.values["inputs"].encode()) + _SPECIAL_TOKENS


def _truncated_to(call: Call) -> int | None:
    """Return how many tokens of the prompt are to be kept; None if it surely has no more.

    Then it had better not be said: vLLM 0.16 to 0.31 reserve so many beside `max_tokens`, whatever the prompt has.
    """
    kept: int | None = call.values["parameters"].get("truncate")
    return None if kept is None or kept >= _most_tokens(call) else kept


def _refuse(call: Call, given: dict[str, Any], minor: int, plan: Plan) -> None:
    for name in given:
        if not PARAMETERS[name].supported and given[name] is not False:
            raise UnsupportedParameter(f"`{name}` is not supported by this model's container", name)
    if call.values.get("images"):
        raise UnsupportedParameter(
            "images in `inputs` are not supported by this model's container: use /v1/chat/completions", "inputs"
        )
    if plan.prefill and plan.ids_only:
        raise UnsupportedParameter(
            "`decoder_input_details` == true is not supported by this version of the model's container",
            "decoder_input_details",
        )
    if minor >= _COLDEST_FROM and given.get("temperature", 1) > 2:
        raise UnsupportedParameter("`temperature` must be <= 2.0 for this model's container", "temperature")
    if "" in given.get("stop", ()):
        raise UnsupportedParameter("`stop` sequences cannot be empty for this model's container", "stop")


def _constraint(grammar: dict[str, Any], minor: int) -> dict[str, bytes]:
    """Return the field that constrains the answer."""
    regex = grammar["type"] == "regex"
    kind, value = ("regex", grammar["value"]) if regex else ("json", grammars.schema(grammar))
    if minor < _STRUCTURED_OUTPUTS_FROM:
        return {f"guided_{kind}": _encode(value)}
    return {"structured_outputs": _encode({kind: value})}
