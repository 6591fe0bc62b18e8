"""The checks vLLM makes on a body before its fields have types: combinations that exclude each other.

Up to 0.26 their errors are ValueErrors, which pydantic wraps; later they are vLLM's own and reach the caller as they
are. https://github.com/vllm-project/vllm: the `mode="before"` validators of vllm/entrypoints/openai/**/protocol.py
"""

from __future__ import annotations

from typing import Any, NoReturn

from deploy.local.engine.dialect import Dialect
from deploy.local.engine.refusal import bad_value

Json = dict[str, Any]

GUIDED = ("guided_json", "guided_regex", "guided_choice", "guided_grammar")
CONSTRAINTS = ("json", "regex", "choice")
ALL_CONSTRAINTS = (*CONSTRAINTS, "grammar", "json_object", "structural_tag")
USAGE = 'Correct usage: `{"type": "function", "function": {"name": "my_function"}}`'


def unknown_fields(dialect: Dialect) -> frozenset[str]:
    """Return the fields a release does not know, so that it ignores them."""
    absent: set[str] = set()
    if dialect.since(0, 12):
        absent.update(GUIDED)
    if not dialect.since(0, 11):
        absent.add("structured_outputs")
    if not dialect.since(0, 10, 2):
        absent.update(("return_token_ids", "include_reasoning", "reasoning_effort"))
    return frozenset(absent)


def chat(data: Json, dialect: Dialect) -> Json:
    """Return `data` as the fields will read it, or refuse it."""
    _response_format(data, dialect)
    _stream_options(data, dialect)
    _logprobs(data, dialect, "top_logprobs", all_since=(0, 11))
    if data.get("top_logprobs") and not data.get("logprobs"):
        _refuse(dialect, "when using `top_logprobs`, `logprobs` must be set to true.", "top_logprobs")
    _constraints(data, dialect)
    _tools(data, dialect)
    if data.get("continue_final_message") and data.get("add_generation_prompt"):
        _refuse(dialect, "Cannot set both `continue_final_message` and `add_generation_prompt` to True.")
    return data


def completion(data: Json, dialect: Dialect) -> Json:
    """Return `data` as the fields will read it, or refuse it."""
    _response_format(data, dialect)
    _constraints(data, dialect)
    _logprobs(data, dialect, "logprobs", all_since=(0, 27))
    _stream_options(data, dialect)
    prompt = data.get("prompt")
    if prompt is None or (prompt == "" and dialect.since(0, 10)):
        _refuse(dialect, "Either prompt or prompt_embeds must be provided and non-empty.", "prompt", since=(0, 23))
    return data


def _response_format(data: Json, dialect: Dialect) -> None:
    chosen = data.get("response_format")
    if not dialect.since(0, 18):
        return
    if isinstance(chosen, dict) and chosen.get("type") == "json_schema" and chosen.get("json_schema") is None:
        _refuse(
            dialect,
            "When response_format type is 'json_schema', the 'json_schema' field must be provided.",
            "response_format",
        )


def _stream_options(data: Json, dialect: Dialect) -> None:
    if data.get("stream_options") and not data.get("stream"):
        _refuse(dialect, "Stream options can only be defined when `stream=True`.", "stream_options")


def _logprobs(data: Json, dialect: Dialect, field: str, *, all_since: tuple[int, int]) -> None:
    """Check `prompt_logprobs` and `field`; since a release each, -1 asks for the whole vocabulary."""
    for name in ("prompt_logprobs", field):
        value = data.get(name)
        if value is not None and not isinstance(value, int | float):
            _refuse(dialect, f"`{name}` must be an integer.", name, value)
    wanted = data.get("prompt_logprobs") or 0
    if data.get("stream") and (wanted > 0 or (wanted == -1 and dialect.since(0, 11))):
        _refuse(dialect, "`prompt_logprobs` are not available when `stream=True`.", "prompt_logprobs")
    for name, since in (("prompt_logprobs", (0, 11)), (field, all_since)):
        value = data.get(name) or 0
        or_all = " or -1" if dialect.since(*since) else ""
        if value < 0 and not (value == -1 and or_all):
            _refuse(dialect, f"`{name}` must be a positive value{or_all}.", name, value)


def _constraints(data: Json, dialect: Dialect) -> None:
    tool_choice = data.get("tool_choice", "none")
    if sum(data.get(name) is not None for name in GUIDED[:3]) > 1:
        _refuse(
            dialect,
            "You can only use one kind of guided decoding ('guided_json', 'guided_regex' or 'guided_choice').",
        )
    structured = data.get("structured_outputs")
    if not isinstance(structured, dict):
        return
    count = sum(structured.get(name) is not None for name in CONSTRAINTS)
    if count > 1:
        _refuse(
            dialect,
            "You can only use one kind of constraints for structured outputs ('json', 'regex' or 'choice').",
        )
    # Until 0.23 the check asked for more than one, and so never came to this.
    if count and dialect.since(0, 23) and tool_choice not in ("none", "auto", "required"):
        _refuse(dialect, "You can only either use constraints for structured outputs or tools, not both.")


def structured_outputs(values: Json, dialect: Dialect) -> None:
    """Refuse structured_outputs with several constraints or none; `values` are all its fields in vLLM's order."""
    if not dialect.since(0, 18):
        place = list(values).index("json_object") + 1
        values = dict([*list(values.items())[:place], ("disable_fallback", False), *list(values.items())[place:]])
    count = sum(values[name] is not None for name in ALL_CONSTRAINTS)
    told = {**values, "_backend": None, "_backend_was_auto": False}
    if count > 1:
        _refuse(
            dialect, f"You can only use one kind of structured outputs constraint but multiple are specified: {told}"
        )
    if count < 1 and dialect.since(0, 16):
        _refuse(dialect, f"You must use one kind of structured outputs constraint but none are specified: {told}")


def _tools(data: Json, dialect: Dialect) -> None:
    """Fill in `tool_choice` as vLLM does: tools without a choice mean auto."""
    tools = data.get("tools")
    if tools == [] and dialect.since(0, 20):
        _refuse(
            dialect,
            "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely.",
            "tools",
            since=(0, 23),
        )
    if "tool_choice" not in data and tools:
        data["tool_choice"] = "auto"
    choice = data.get("tool_choice")
    if choice in (None, "none"):
        return
    if tools is None:
        _refuse(dialect, "When using `tool_choice`, `tools` must be set.", "tool_choice", since=(0, 23))
    if not isinstance(choice, dict):
        if choice not in ("auto", "required"):
            _refuse(
                dialect,
                f"Invalid value for `tool_choice`: {choice}! "
                'Only named tools, "none", "auto" or "required" are supported.',
                "tool_choice",
                since=(0, 23),
            )
        return
    function = choice.get("function")
    if not isinstance(function, dict):
        _refuse(
            dialect,
            f"Invalid value for `function`: `{function}` in `tool_choice`! {USAGE}",
            "tool_choice.function",
            since=(0, 23),
        )
    if "name" not in function:
        _refuse(
            dialect,
            f"Expected field `name` in `function` in `tool_choice`! {USAGE}",
            "tool_choice.function.name",
            since=(0, 23),
        )
    name = function["name"]
    if not isinstance(name, str) or not name:
        _refuse(
            dialect,
            f"Invalid `name` in `function`: `{name}` in `tool_choice`! {USAGE}",
            "tool_choice.function.name",
            since=(0, 23),
        )
    if name not in _tool_names(tools):
        _refuse(
            dialect,
            "The tool specified in `tool_choice` does not match any of the specified `tools`",
            "tool_choice",
            since=(0, 23),
        )


def _tool_names(tools: object) -> list[object]:
    if not isinstance(tools, list):
        return []
    functions = [tool.get("function") for tool in tools if isinstance(tool, dict)]
    return [function.get("name") for function in functions if isinstance(function, dict)]


def _refuse(
    dialect: Dialect,
    message: str,
    parameter: str | None = None,
    value: object = None,
    *,
    since: tuple[int, int] = (0, 14),
) -> NoReturn:
    """Refuse a body; `since` which release the message names the parameter."""
    refusal = bad_value(message, parameter, value, named=dialect.since(*since))
    if dialect.validation_is_final:
        raise refusal
    raise ValueError(refusal.message)
