"""Calls as a TGI container's `/invocations` takes them: generate, which every version has, and the newer ones'
completions. Chats are in behind_chat_request.py.

`/invocations` has the defaults of TGI's route `/`, so what depends on the container's configuration there is said
always. From router/src/{lib,server,validation}.rs of https://github.com/huggingface/text-generation-inference.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from adapters.base import Call
from adapters.errors import UnsupportedParameter
from adapters.openai.emit import wants_running_usage
from adapters.openai.reply import join_fields
from adapters.tgi import behind_table as table
from adapters.tgi.behind_table import Version, admit, unsupported

_SAME = frozenset(
    {"temperature", "top_p", "top_k", "typical_p", "repetition_penalty", "frequency_penalty", "watermark"}
)
"""Fields of a completion that go as they are."""
_SAMPLES = frozenset({"temperature", "top_k", "top_p", "typical_p"})
"""Each of these makes generate sample, whatever `do_sample` says."""
_AS_COMPLETION = frozenset(
    {
        "model",
        "prompt",
        "max_tokens",
        "temperature",
        "top_p",
        "seed",
        "stop",
        "frequency_penalty",
        "repetition_penalty",
        "include_stop_str_in_output",
        "echo",
        "stream",
    }
)
"""Fields that TGI's own completions know. They tell no log probabilities, but the number of the prompt's tokens."""
U64 = 2**64 - 1

_encode = msgspec.json.Encoder().encode
_raws = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def native_body(call: Call, version: Version, *, adapter: str | None, stream: bool) -> bytes:
    """Return the body of a call of TGI's own API.

    Raises:
        UnsupportedParameter: this version would ignore a parameter.
    """
    values = call.values["parameters"]
    raw = _raws(call.raw["parameters"])
    parameters = {name: bytes(raw[name]) for name in admit(values, table.GENERATE, version)}
    if "grammar" in parameters:
        parameters["grammar"] = grammar(values["grammar"], "grammar")
    parameters.setdefault("return_full_text", b"false")
    if adapter is not None:
        parameters.setdefault("adapter_id", _encode(adapter))
    return _generate(bytes(call.raw["inputs"]), parameters, version, stream=stream)


def completion_as_generate(call: Call, version: Version, *, adapter: str | None, stream: bool) -> bytes:
    """Return the body of a text completion in generate's terms.

    Raises:
        UnsupportedParameter: generate has nothing that would answer the same.
    """
    values = call.values
    parameters = {"max_new_tokens": b"%d" % _max_tokens(call), "return_full_text": b"false"}
    admitted = set(_admitted(call, version))
    parameters["do_sample"] = b"true"
    if values.get("temperature") == 0:
        parameters["do_sample"] = b"false"
        admitted -= _SAMPLES
    for name in admitted:
        if name in _SAME:
            parameters[name] = bytes(call.raw[name])
        elif name == "seed":
            parameters[name] = b"%d" % (values[name] & U64)
        elif name == "stop":
            parameters[name] = _encode(stops(values))
        elif name == "logprobs":
            parameters["top_n_tokens"] = b"%d" % top_tokens(values[name], name)
        elif name == "truncate_prompt_tokens":
            parameters["truncate"] = _truncate(values[name])
        elif name == "response_format":
            parameters["grammar"] = grammar(values[name], name)
    if adapter is not None:
        parameters["adapter_id"] = _encode(adapter)
    return _generate(_encode(prompt_of(call)), parameters, version, stream=stream)


def fits_completions(call: Call, version: Version) -> bool:
    """Say whether TGI's own completions answer this text completion exactly, whole.

    Raises:
        UnsupportedParameter: nothing of TGI's does.
    """
    values = call.values
    if version < table.ALL_SCHEMAS or values.get("logprobs") is not None:
        return False
    return _AS_COMPLETION.issuperset(admit(values, table.COMPLETIONS, version))


def completion_body(call: Call, version: Version, *, adapter: str | None) -> bytes:
    """Return the body of a whole text completion in the terms of TGI's own completions.

    Raises:
        UnsupportedParameter: the container would ignore or garble a field.
    """
    values = call.values
    fields = {"prompt": _encode(prompt_of(call)), "max_tokens": b"%d" % _max_tokens(call)}
    for name in sorted(_admitted(call, version)):
        if name in ("temperature", "top_p", "frequency_penalty", "repetition_penalty"):
            fields[name] = bytes(call.raw[name])
        elif name == "stop" and stops(values):
            fields[name] = _encode(stops(values))
    if values.get("temperature") == 0:
        fields.pop("top_p", None)
    if adapter is not None:
        fields["model"] = _encode(adapter)
    if values.get("seed") is not None:
        fields["seed"] = b"%d" % (values["seed"] & U64)
    return join_fields(fields)


def prompt_of(call: Call) -> str:
    """Return the one prompt of a text completion.

    Raises:
        UnsupportedParameter: there are several, or it is given as token ids.
    """
    prompt = call.values["prompt"]
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt
    if isinstance(prompt[0], str):
        raise UnsupportedParameter("This model's container takes one prompt: make a call for each.", "prompt")
    raise UnsupportedParameter("This model's container takes a prompt as text, not as token ids.", "prompt")


def stops(values: Mapping[str, Any]) -> list[str]:
    """Return the stop strings of a call.

    Raises:
        UnsupportedParameter: they are too many.
    """
    given = values.get("stop")
    strings = [given] if isinstance(given, str) else given or []
    if len(strings) > table.MAX_STOPS:
        raise UnsupportedParameter(
            f"This model's container takes at most {table.MAX_STOPS} stop strings, not {len(strings)}.", "stop"
        )
    return strings


def top_tokens(asked: int, param: str) -> int:
    """Return `asked`, the likely tokens to tell for each one generated.

    Raises:
        UnsupportedParameter: they are too many.
    """
    if asked < 0 or asked > table.MAX_TOP_TOKENS:
        raise UnsupportedParameter(
            f"This model's container tells at most {table.MAX_TOP_TOKENS} likely tokens, not {asked}.", param
        )
    return asked


def grammar(value: object, param: str) -> bytes:
    """Return TGI's grammar of a response format, as OpenAI or TGI itself writes it.

    Raises:
        UnsupportedParameter: TGI has no such grammar.
    """
    kind = value.get("type") if isinstance(value, dict) else None
    given: Any = value
    if kind == "json_schema":
        # OpenAI names the schema below json_schema, TGI's newest versions below value.
        inner = given.get("json_schema", given.get("value"))
        schema = inner.get("schema") if isinstance(inner, dict) else None
        if schema is not None:
            return _encode({"type": "json", "value": schema})
    elif kind in ("json", "json_object") and given.get("value") is not None:
        return _encode({"type": "json", "value": given["value"]})
    elif kind == "regex" and isinstance(given.get("value"), str):
        return _encode({"type": "regex", "value": given["value"]})
    if kind in ("json", "json_object", "json_schema"):
        raise UnsupportedParameter(f"This model's container makes JSON only by a schema: name one in {param}.", param)
    raise unsupported(f"{param}.type", "Use json_schema.")


def check_options(call: Call) -> None:
    """Pass a call's `stream_options`.

    Raises:
        UnsupportedParameter: every chunk is to have usage.
    """
    if wants_running_usage(call):
        raise UnsupportedParameter(
            "This model's container tells the usage at the end of a stream only: leave out continuous_usage_stats.",
            "stream_options",
        )


def _admitted(call: Call, version: Version) -> list[str]:
    """Check what does not depend on the form a completion is sent in; return the names to send."""
    values = call.values
    admitted = admit(values, table.COMPLETIONS, version)
    check_options(call)
    if values.get("echo") and values.get("logprobs") is not None:
        raise UnsupportedParameter(
            "This model's container tells no log probabilities of the prompt: leave out echo or logprobs.", "echo"
        )
    return admitted


def _max_tokens(call: Call) -> int:
    if call.max_tokens == 0:
        raise UnsupportedParameter("This model's container generates at least one token.", "max_tokens")
    return table.DEFAULT_COMPLETION_TOKENS if call.max_tokens is None else call.max_tokens


def _truncate(tokens: int) -> bytes:
    if tokens < 1:
        raise UnsupportedParameter(
            "This model's container truncates a prompt to a number of tokens above 0.", "truncate_prompt_tokens"
        )
    return b"%d" % tokens


def _generate(inputs: bytes, parameters: dict[str, bytes], version: Version, *, stream: bool) -> bytes:
    """Return a generate body; it always asks for details, with which the gateway counts tokens."""
    parameters["details"] = b"true"
    if not stream and version < table.NO_PREFILL:
        parameters["decoder_input_details"] = b"true"
    if stream:
        parameters.pop("decoder_input_details", None)
    ordered = {name: parameters[name] for name in sorted(parameters, key=lambda name: (name == "seed", name))}
    fields = {"inputs": inputs, "parameters": join_fields(ordered)}
    if stream:
        fields["stream"] = b"true"
    return join_fields(fields)
