"""Chats as a TGI container's `/invocations` takes them, where it does.

ChatRequest and Message in router/src/lib.rs, and router/src/infer/{chat_template,tool_grammar}.rs of
https://github.com/huggingface/text-generation-inference. All of a message is text to TGI's templates: parts are joined,
and calls of tools are written as JSON (its pull request 3036).
"""

from __future__ import annotations

from typing import Any

import msgspec

from adapters.base import Call
from adapters.errors import UnsupportedParameter
from adapters.openai.reply import join_fields
from adapters.tgi import behind_table as table
from adapters.tgi.behind_request import U64, check_options, grammar, stops, top_tokens
from adapters.tgi.behind_table import Version, admit

_SAME = frozenset({"temperature", "top_p", "frequency_penalty", "logprobs", "tool_prompt"})
"""Fields that go as they are."""
_ONLY_MODEL = b'"tgi"'
"""The name by which TGI takes its model without an adapter; versions before 2.2 demand one."""
_NO_PARAMETERS: dict[str, Any] = {"type": "object", "properties": {}}

_encode = msgspec.json.Encoder().encode
_raws = msgspec.json.Decoder(list[msgspec.Raw]).decode


def chat_body(call: Call, version: Version, *, adapter: str | None, stream: bool) -> bytes:
    """Return the body of a chat.

    Raises:
        UnsupportedParameter: this version would ignore or garble a field.
    """
    values = call.values
    fields = {"messages": _messages(call, version)}
    for name in sorted(admit(values, table.CHAT, version)):
        if name in _SAME:
            fields[name] = bytes(call.raw[name])
    _add_sampling(call, version, fields)
    _add_tools(call, version, fields)
    if "response_format" in values and not table.is_neutral(values["response_format"], table.CHAT["response_format"]):
        if "tools" in fields:
            raise UnsupportedParameter(
                "This model's container takes either tools or response_format, not both.", "response_format"
            )
        fields["response_format"] = grammar(values["response_format"], "response_format")
    fields["model"] = _ONLY_MODEL if adapter is None else _encode(adapter)
    if values.get("seed") is not None:
        fields["seed"] = b"%d" % (values["seed"] & U64)
    if stream:
        check_options(call)
        fields["stream"] = b"true"
        fields["stream_options"] = b'{"include_usage":true}'
    return join_fields(fields)


def _add_sampling(call: Call, version: Version, fields: dict[str, bytes]) -> None:
    values = call.values
    if call.max_tokens is not None:
        fields["max_tokens"] = b"%d" % call.max_tokens
    if strings := stops(values):
        fields["stop"] = _encode(strings)
    if values.get("temperature") == 0:
        if version < (2, 0):
            raise UnsupportedParameter(
                "This model's container always samples in chats: temperature must be above 0.", "temperature"
            )
        fields.pop("top_p", None)  # TGI would sample for its sake
    if values.get("logprobs"):
        asked = top_tokens(values.get("top_logprobs") or 0, "top_logprobs")
        if not asked and version < table.BARE_LOGPROBS:
            asked = 1
        if asked:
            fields["top_logprobs"] = b"%d" % asked


def _add_tools(call: Call, version: Version, fields: dict[str, bytes]) -> None:
    """Add the tools a model may call. To forbid them is to leave them out, which is what TGI does, too."""
    values = call.values
    choice: Any = values.get("tool_choice", "auto")
    if not values.get("tools") or choice == "none":
        fields.pop("tool_prompt", None)
        return
    fields["tools"] = _tools(call)
    if isinstance(choice, dict):
        choice = choice["function"]["name"]
        if choice in ("auto", "none", "required"):
            if version < table.TOOL_CHOICE_OBJECT:
                raise UnsupportedParameter(
                    f"This model's container takes {choice!r} for no function's name.", "tool_choice"
                )
            choice = {"type": "function", "function": {"name": choice}}
    elif choice == "required" and version < table.TOOL_CHOICE_OBJECT:
        raise UnsupportedParameter(
            "This model's container cannot be made to call just any tool: name one in tool_choice, or leave it out.",
            "tool_choice",
        )
    # Older versions take no choice at all for none.
    fields["tool_choice"] = _encode(choice)


def _tools(call: Call) -> bytes:
    """Return the tools; TGI demands parameters of each, OpenAI does not."""
    tools: list[bytes] = []
    for tool, raw in zip(call.values["tools"], _raws(call.raw["tools"]), strict=True):
        function = tool["function"]
        if function.get("parameters") is None:
            raw = msgspec.Raw(_encode({**tool, "function": {**function, "parameters": _NO_PARAMETERS}}))
        tools.append(bytes(raw))
    return b"[" + b",".join(tools) + b"]"


def _messages(call: Call, version: Version) -> bytes:
    """Return the messages, each byte for byte unless this version would misread it."""
    given = call.values["messages"]
    mended = [_mended(message, f"messages[{at}]", version) for at, message in enumerate(given)]
    if all(message is None for message in mended):
        return bytes(call.raw["messages"])
    raws = _raws(call.raw["messages"])
    texts = (bytes(raw) if message is None else _encode(message) for raw, message in zip(raws, mended, strict=True))
    return b"[" + b",".join(texts) + b"]"


def _mended(message: dict[str, Any], path: str, version: Version) -> dict[str, Any] | None:
    """Return a message as TGI has to have it, None if it is so already.

    Raises:
        UnsupportedParameter: a part of it means nothing to TGI.
    """
    for name in ("function_call", "audio"):
        if message.get(name) is not None:
            raise UnsupportedParameter(f"This model's container does not act upon {path}.{name}.", f"{path}.{name}")
    content: Any = message.get("content")
    only_text = content is None or isinstance(content, str)
    if isinstance(content, list):
        only_text = _check_parts(content, f"{path}.content", version)
    if message.get("tool_calls"):
        if not only_text:
            raise UnsupportedParameter(
                f"This model's container takes no images beside calls of tools: {path}.", f"{path}.content"
            )
        return _with_calls(message, _joined(content), version)
    if content is None:
        return {**message, "content": ""}
    if only_text and isinstance(content, list) and version < table.IMAGE_PARTS:
        return {**message, "content": _joined(content)}
    return None


def _with_calls(message: dict[str, Any], text: str, version: Version) -> dict[str, Any]:
    """Return a message that calls tools. TGI reads its calls only if there is no content, and not even an empty one."""
    rest = {name: value for name, value in message.items() if name not in ("content", "tool_calls")}
    if not text and version >= table.TOOL_MESSAGES:
        return {**rest, "tool_calls": message["tool_calls"]}
    written = _encode(message["tool_calls"]).decode()
    return {**rest, "content": f"{text}\n{written}" if text else written}


def _check_parts(parts: list[Any], path: str, version: Version) -> bool:
    """Check the parts of a content; return whether all of them are text."""
    only_text = True
    for at, part in enumerate(parts):
        kind = part["type"]
        if kind == "image_url" and version >= table.IMAGE_PARTS:
            only_text = False
        elif kind != "text":
            raise UnsupportedParameter(
                f"This model's container takes no parts of type {kind[:64]!r}.", f"{path}[{at}].type"
            )
    return only_text


def _joined(content: str | list[Any] | None) -> str:
    if isinstance(content, list):
        return "".join(part["text"] for part in content)
    return content or ""
