"""What each field of a request must be, and which fields must fit together.

Types and ranges are OpenAI's and vLLM's own (https://platform.openai.com/docs/api-reference/chat/create,
vllm/sampling_params.py); caps.py holds what is this project's.
"""

from __future__ import annotations

from typing import Any

from adapters.base import Surface
from adapters.openai import caps
from adapters.openai import structures as shape
from adapters.openai.checks import (
    INT64,
    Rule,
    integer,
    is_array,
    is_boolean,
    is_object,
    is_string,
    number,
    pattern,
    short,
    stop,
    strings,
    token_ids,
)
from adapters.openai.refusal import wrong_value

_COMMON: dict[str, Rule] = {
    "n": integer(1, cap=caps.MAX_N),
    "max_tokens": integer(0, INT64[1]),
    "temperature": number(0, 2),
    "top_p": number(0, 1, above_low=True),
    "presence_penalty": number(-2, 2),
    "frequency_penalty": number(-2, 2),
    "stop": stop,
    "seed": integer(*INT64),
    "user": is_string,
    "logit_bias": shape.logit_bias,
    "stream_options": shape.stream_options,
    "response_format": shape.response_format,
    "best_of": integer(1, cap=caps.MAX_BEST_OF),
    "use_beam_search": is_boolean,
    "top_k": integer(-1, INT64[1]),
    "min_p": number(0, 1),
    "repetition_penalty": number(0, 1e6, above_low=True),
    "length_penalty": number(-1e6, 1e6),
    "min_tokens": integer(0, INT64[1]),
    "ignore_eos": is_boolean,
    "include_stop_str_in_output": is_boolean,
    "skip_special_tokens": is_boolean,
    "spaces_between_special_tokens": is_boolean,
    "add_special_tokens": is_boolean,
    "echo": is_boolean,
    "return_tokens_as_token_ids": is_boolean,
    "return_token_ids": is_boolean,
    "truncate_prompt_tokens": integer(-1, INT64[1]),
    "stop_token_ids": token_ids,
    "allowed_token_ids": token_ids,
    "logprob_token_ids": token_ids,
    "bad_words": strings(caps.MAX_BAD_WORDS, caps.MAX_BAD_WORD_CHARS),
    "prompt_logprobs": integer(cap=caps.MAX_LOGPROBS),
    "structured_outputs": shape.structured_outputs,
    "structural_tag": shape.structural_tag,
    "guided_json": shape.schema,
    "guided_regex": pattern,
    "guided_grammar": shape.grammar,
    "guided_whitespace_pattern": pattern,
    "guided_choice": shape.choice,
    "thinking_token_budget": integer(-1, INT64[1]),
    "truncation_side": shape.one_of("left", "right"),
    "repetition_detection": is_object,
    "return_token_offsets": is_boolean,
    "return_weight_versions": is_boolean,
    "routed_experts_prompt_start": integer(0, INT64[1]),
    "stream_interval": integer(1, INT64[1]),
    "watermarking": is_boolean,
}
RULES: dict[Surface, dict[str, Rule]] = {
    Surface.CHAT: _COMMON
    | {
        "max_completion_tokens": integer(1, INT64[1]),
        "max_tokens": integer(1, INT64[1]),
        "logprobs": is_boolean,
        "top_logprobs": integer(cap=caps.MAX_LOGPROBS),
        "tools": shape.tools,
        "tool_choice": shape.tool_choice,
        "parallel_tool_calls": is_boolean,
        "reasoning_effort": is_string,
        "chat_template_kwargs": shape.template_kwargs,
        "include_reasoning": is_boolean,
        "return_prompt_text": is_boolean,
        "return_assistant_tokens_mask": is_boolean,
        "add_generation_prompt": is_boolean,
        "continue_final_message": is_boolean,
        "documents": is_array,
        "metadata": is_object,
        "modalities": is_array,
        "store": is_boolean,
    },
    Surface.COMPLETIONS: _COMMON
    | {"prompt": shape.prompt, "logprobs": integer(cap=caps.MAX_LOGPROBS), "suffix": is_string},
}
"""The rules of every surface. `stream` and `model` are checked on reading, `messages` in content.py."""


_CONSTRAINTS = frozenset(
    {"guided_json", "guided_regex", "guided_choice", "guided_grammar", "structured_outputs", "structural_tag"}
)
"""vLLM's own fields that hold an answer to some form."""
_ALL_CONSTRAINTS = _CONSTRAINTS | {"response_format"}


def check_together(surface: Surface, values: dict[str, Any]) -> None:
    """Check the fields that depend on one another, each already right by itself.

    Raises:
        BadRequest: a container would refuse the combination.
    """
    if values.get("stream_options") is not None and values.get("stream") is not True:
        raise wrong_value("stream_options", "can only be set together with stream: true")
    if values.get("stream") is True and values.get("prompt_logprobs"):
        raise wrong_value("prompt_logprobs", "cannot be combined with stream: true")
    if values.get("n", 1) > 1 and values.get("temperature") == 0 and not values.get("use_beam_search"):
        raise wrong_value("n", "must be 1 when temperature is 0")
    if "best_of" in values and values["best_of"] < values.get("n", 1):
        raise wrong_value("best_of", "must be at least n")
    if not _ALL_CONSTRAINTS.isdisjoint(values):
        _check_constraints(values)
    least, most = values.get("min_tokens", 0), values.get("max_completion_tokens", values.get("max_tokens"))
    if most is not None and least > most:
        raise wrong_value("min_tokens", f"must be at most the {most} tokens the answer may have, not {short(least)}")
    if surface is Surface.COMPLETIONS:
        if values.get("max_tokens") == 0 and values.get("echo") is not True:
            raise wrong_value("max_tokens", "must be at least 1, not 0, unless the prompt is echoed")
        return
    if values.get("top_logprobs") and values.get("logprobs") is not True:
        raise wrong_value("top_logprobs", "can only be set together with logprobs: true")
    choice = values.get("tool_choice", "none")
    if choice == "none":
        return
    tools = values.get("tools", [])
    if not tools and (choice != "auto" or "tools" not in values):
        raise wrong_value("tool_choice", "can only be set together with tools")
    if isinstance(choice, dict):
        name = choice["function"]["name"]
        if all(tool["function"]["name"] != name for tool in tools):
            raise wrong_value("tool_choice.function.name", "must be the name of one of the tools")


def without_effect(values: dict[str, Any]) -> tuple[str, ...]:
    """Return the fields of a chat with `tools` that say nothing beside others, and that some versions stumble over.

    An empty list of tools is none, and an answer that has to be a tool call has no text that could have a format.
    """
    if not values["tools"]:
        return "tools", "tool_choice", "parallel_tool_calls"
    return () if values.get("tool_choice", "auto") in ("auto", "none") else ("response_format",)


def _check_constraints(values: dict[str, Any]) -> None:
    given = [name for name in values if name in _CONSTRAINTS]
    if values.get("response_format", {}).get("type", "text") != "text":
        given.append("response_format")
    if len(given) > 1:
        raise wrong_value(given[1], f"cannot be combined with {given[0]}")
    if given and given[0] in _CONSTRAINTS and values.get("tool_choice", "auto") not in ("auto", "none"):
        raise wrong_value(given[0], "cannot be combined with a tool_choice that demands a tool call")
