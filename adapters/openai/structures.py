"""Rules for the fields that are structures: prompts, tools, formats and constraints."""

from __future__ import annotations

import msgspec

from adapters.openai import caps
from adapters.openai.checks import Rule, all_token_ids, at_most, is_boolean, number, pattern, strings
from adapters.openai.circles import derives_in_circles, refers_in_circles
from adapters.openai.refusal import BadRequest, wrong_type, wrong_value
from adapters.openai.reply import INVALID_JSON

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder().decode

# Arguments of the template call itself, and of the tokenizer behind it:
# https://huggingface.co/docs/transformers/main_classes/tokenizer#transformers.PreTrainedTokenizer.apply_chat_template
_TEMPLATE_ARGUMENTS = frozenset(
    {
        "chat_template",
        "tokenize",
        "tools",
        "documents",
        "conversation",
        "messages",
        "add_generation_prompt",
        "continue_final_message",
        "padding",
        "truncation",
        "max_length",
        "tokenizer_kwargs",
    }
)
_BIAS = number(-100, 100)
_TGI_FORMATS = frozenset({"json", "json_object", "json_schema", "regex"})
_FORMATS = frozenset({"text", "json_object", "json_schema", "structural_tag"})

_strings = strings(caps.MAX_CHOICE_STRINGS, caps.MAX_CHOICE_CHARS)


def choice(value: object, path: str, lifted: frozenset[str]) -> None:
    _strings(value, path, lifted)
    if not value:
        raise wrong_value(path, "must not be empty")


def grammar(value: object, path: str, lifted: frozenset[str]) -> None:
    """A grammar in EBNF or Lark's notation, as the container's engine compiles it."""
    pattern(value, path, lifted)
    if isinstance(value, str):
        if not value.strip():
            raise wrong_value(path, "must not be empty")
        if derives_in_circles(value):
            raise wrong_value(path, "must not have a rule that leads to nothing but itself")


def schema(value: object, path: str, lifted: frozenset[str]) -> None:
    """A JSON schema, as an object or as its text: bounded in size and depth, since the engine compiles it."""
    if not isinstance(value, dict | str | bool):
        raise wrong_type(path, "an object", value)
    if path.partition("[")[0].partition(".")[0] in lifted:
        return
    if isinstance(value, str):
        at_most(len(value), caps.MAX_SCHEMA_BYTES, path, "characters", lifted)
        try:
            value = _decode(value)
        except INVALID_JSON:
            value = None
        if not isinstance(value, dict):
            raise wrong_value(path, "must be a JSON object, or one as text")
    _bounded(value, path, lifted)
    _no_circles(value, path)


def structural_tag(value: object, path: str, lifted: frozenset[str]) -> None:
    if not isinstance(value, str):
        raise wrong_type(path, "a string", value)
    schema(value, path, lifted)


def _bounded(value: object, path: str, lifted: frozenset[str]) -> None:
    at_most(len(_encode(value)), caps.MAX_SCHEMA_BYTES, path, "bytes", lifted)
    if _deeper(value, caps.MAX_SCHEMA_DEPTH):
        raise wrong_value(path, f"must be nested at most {caps.MAX_SCHEMA_DEPTH} levels deep")


def _no_circles(value: object, path: str) -> None:
    if refers_in_circles(value, _encode(value)):
        raise wrong_value(path, "must not have a $ref that leads to nothing but itself")


def logit_bias(value: object, path: str, lifted: frozenset[str]) -> None:
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    at_most(len(value), caps.MAX_LOGIT_BIAS, path, "entries", lifted)
    for token, bias in value.items():
        if not (token.isascii() and token.isdigit() and len(token) <= 10):
            raise wrong_value(path, f"must have token ids as names, not {token[:32]!r}")
        _BIAS(bias, f"{path}.{token}", lifted)


def one_of(*allowed: str) -> Rule:
    """Build a rule for a string that is one of several."""

    def rule(value: object, path: str, _: frozenset[str]) -> None:
        if value not in allowed:
            raise wrong_value(path, f"must be {' or '.join(allowed)}")

    return rule


def stream_options(value: object, path: str, lifted: frozenset[str]) -> None:
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    for name in ("include_usage", "continuous_usage_stats"):
        if value.get(name) is not None:
            is_boolean(value[name], f"{path}.{name}", lifted)


def tools(value: object, path: str, lifted: frozenset[str]) -> None:
    if not isinstance(value, list):
        raise wrong_type(path, "an array", value)
    at_most(len(value), caps.MAX_TOOLS, path, "tools", lifted)
    for position, tool in enumerate(value):
        _function(tool, f"{path}[{position}]")
        parameters = tool["function"].get("parameters")
        if parameters is not None:
            if not isinstance(parameters, dict):
                raise wrong_type(f"{path}[{position}].function.parameters", "an object", parameters)
            schema(parameters, f"{path}[{position}].function.parameters", lifted)


def tool_choice(value: object, path: str, _: frozenset[str]) -> None:
    if isinstance(value, str):
        if value not in ("none", "auto", "required"):
            raise wrong_value(path, "must be none, auto, required or an object naming a function")
    elif isinstance(value, dict):
        _function(value, path)
    else:
        raise wrong_type(path, "a string or an object", value)


def _function(value: object, path: str) -> None:
    """Check `{"type": "function", "function": {"name": …}}`."""
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    if value.get("type") != "function":
        raise wrong_value(f"{path}.type", "must be 'function'")
    function = value.get("function")
    if not isinstance(function, dict):
        raise wrong_type(f"{path}.function", "an object", function)
    name = function.get("name")
    if not isinstance(name, str):
        raise wrong_type(f"{path}.function.name", "a string", name)
    if not name:
        raise wrong_value(f"{path}.function.name", "must not be empty")


def response_format(value: object, path: str, lifted: frozenset[str]) -> None:
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    kind = value.get("type")
    if not isinstance(kind, str):
        raise wrong_type(f"{path}.type", "a string", kind)
    if "value" in value and kind in _TGI_FORMATS:
        _format_of_tgi(kind, value["value"], f"{path}.value", lifted)
        return
    if kind not in _FORMATS and path not in lifted:
        raise wrong_value(f"{path}.type", f"must be one of {', '.join(sorted(_FORMATS))}")
    if path not in lifted:
        _bounded(value, path, lifted)
    if kind == "json_schema":
        inner = value.get("json_schema")
        if not isinstance(inner, dict):
            raise wrong_type(f"{path}.json_schema", "an object", inner)
        if not isinstance(inner.get("name"), str):
            raise wrong_type(f"{path}.json_schema.name", "a string", inner.get("name"))
        if not isinstance(inner.get("schema"), dict):
            raise wrong_type(f"{path}.json_schema.schema", "an object", inner.get("schema"))
        if path not in lifted:
            _no_circles(inner["schema"], f"{path}.json_schema.schema")


def _format_of_tgi(kind: str, value: object, path: str, lifted: frozenset[str]) -> None:
    """Check what TGI has under `value`: a pattern, a schema, or an object with a schema."""
    if kind == "regex":
        pattern(value, path, lifted)
    elif kind == "json_schema":
        if not isinstance(value, dict):
            raise wrong_type(path, "an object", value)
        schema(value.get("schema"), f"{path}.schema", lifted)
    elif value is not None:
        schema(value, path, lifted)


_INSIDE: dict[str, Rule] = {
    "json": schema,
    "regex": pattern,
    "choice": choice,
    "grammar": grammar,
    "json_object": is_boolean,
    "structural_tag": structural_tag,
}
"""What an answer can be held to by `structured_outputs`: one of these."""
_OPTIONS: dict[str, Rule] = {
    "whitespace_pattern": pattern,
    "disable_any_whitespace": is_boolean,
    "disable_additional_properties": is_boolean,
}


def structured_outputs(value: object, path: str, lifted: frozenset[str]) -> None:
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    held_to: list[str] = []
    for name, inner in value.items():
        where = f"{path}.{name[:64]}"
        rule = _INSIDE.get(name) or _OPTIONS.get(name)
        if rule is None and path not in lifted:
            raise BadRequest(f"The field {where} is not allowed.", where, "parameter_not_allowed")
        if rule is None or inner is None:
            continue
        rule(inner, where, lifted)
        if name in _INSIDE:
            held_to.append(name)
    if value.get("json_object") is False:
        raise wrong_value(f"{path}.json_object", "must be true")
    if len(held_to) > 1:
        raise wrong_value(path, f"must not hold both {held_to[0]} and {held_to[1]}")
    if not held_to and path not in lifted:
        raise wrong_value(path, f"must hold one of {', '.join(_INSIDE)}")


def template_kwargs(value: object, path: str, lifted: frozenset[str]) -> None:
    """Switches such as enable_thinking, never the arguments of the template call (CVE-2025-62426)."""
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)
    if path in lifted:
        return
    at_most(len(value), caps.MAX_TEMPLATE_KWARGS, path, "entries", lifted)
    for name, switch in value.items():
        where = f"{path}.{name[:64]}"
        if name in _TEMPLATE_ARGUMENTS or name.startswith(("return_", "_")):
            raise BadRequest(f"The field {where} is not allowed.", where, "parameter_not_allowed")
        if isinstance(switch, dict | list):
            raise wrong_type(where, "a boolean, a number, a string or null", switch)
        if isinstance(switch, str):
            at_most(len(switch), caps.MAX_TEMPLATE_VALUE_CHARS, where, "characters", lifted)


def prompt(value: object, path: str, _: frozenset[str]) -> None:
    """A string, strings, token ids, or lists of token ids."""
    if not isinstance(value, str | list):
        raise wrong_type(path, "a string or an array", value)
    if not value:
        raise wrong_value(path, "must not be empty")
    if isinstance(value, str):
        return
    first = value[0]
    if isinstance(first, str):
        for position, one in enumerate(value):
            if not isinstance(one, str):
                raise wrong_type(f"{path}[{position}]", "a string, as the prompts before it", one)
    elif isinstance(first, list):
        for position, one in enumerate(value):
            if not isinstance(one, list):
                raise wrong_type(f"{path}[{position}]", "an array, as the prompts before it", one)
            if not one:
                raise wrong_value(f"{path}[{position}]", "must not be empty")
            all_token_ids(one, f"{path}[{position}]")
    else:
        all_token_ids(value, path)


def _deeper(value: object, levels: int) -> bool:
    """Say whether arrays and objects are nested more than `levels` deep; the value is known not to be very deep."""
    if not isinstance(value, dict | list):
        return False
    if levels == 0:
        return True
    return any(_deeper(inner, levels - 1) for inner in (value.values() if isinstance(value, dict) else value))
