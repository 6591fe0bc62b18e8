"""Tools in a chat: TGI has the model write one call as JSON, under a grammar, and takes that JSON apart.

https://github.com/huggingface/text-generation-inference: router/src/infer/tool_grammar.rs, router/src/chat.rs
"""

from __future__ import annotations

import json
import re
from typing import Any

from deploy.local.engine import bodies, prose, scripts
from deploy.local.engine.conversation import Conversation
from deploy.local.engine.generation import Part
from deploy.local.engine.sampling import Sampling
from deploy.local.engine.tgi.errors import TgiError, tool_error
from deploy.local.engine.tgi.infer import Script
from deploy.local.engine.tgi.release import Release
from deploy.local.engine.tgi.template import Chat

Json = dict[str, Any]

_CUT_VALUE = re.compile(r"(?<![a-z0-9])(?:t(?:ru?)?|f(?:al?s?)?|n(?:ul?)?)$|-$|\d(?:\.|[.\d]*[eE][+-]?)$")
"""A word or number that goes on."""

NO_TOOL = "no_tool"
NOTIFY_ERROR = "notify_error"


def usable(tools: list[Json] | None, choice: str | None, release: Release) -> list[Json]:
    """Return the tools the model has to choose from: none if it is not to call any.

    Raises:
        TgiError: the one it is to call is not there.
    """
    if not tools or choice in (None, "none"):
        return []
    # Up to 2.3, "required" was taken for the name of a tool.
    wanted = choice.partition(":")[2] if choice.startswith("function:") else ""
    if choice == "required" and not release.can_decline:
        wanted = choice
    if not wanted:
        return tools
    if found := [tool for tool in tools if tool["function"]["name"] == wanted][:1]:
        return found
    if release.named_calls:
        raise tool_error(f"Tool with name {wanted} not found")
    raise TgiError("Tool choice not found in tool names", "Tool not found")


def script(tools: list[Json], choice: str, chat: Chat, release: Release) -> Script:
    """Return what the model writes when it has to choose among `tools`."""

    def said(sampling: Sampling, number: int) -> list[Part]:
        dice = scripts.plain_dice(sampling, chat.question, number)
        body = bodies.ChatCompletionRequest.model_construct(
            tools=[_tool(tool) for tool in tools], tool_choice="auto", parallel_tool_calls=False
        )
        seen = Conversation(question=chat.question, results=chat.results)
        calls = scripts.chosen_calls(body, seen, dice)
        if calls:
            name, arguments = calls[0]
            function = {"_name": name} | _object(arguments)
        elif choice == "auto" and release.can_decline:
            said_instead = {} if release.openai_calls else {"content": answer_to(chat, sampling, number)}
            function = {"_name": NO_TOOL} | said_instead
        elif choice == "auto" and release.since(2, 2):
            function = {"_name": NOTIFY_ERROR, "error": answer_to(chat, sampling, number)}
        else:
            first = bodies.ChatCompletionRequest.model_construct(
                tools=[_tool(tool) for tool in tools], tool_choice="required", parallel_tool_calls=False
            )
            name, arguments = scripts.chosen_calls(first, seen, dice)[0]
            function = {"_name": name} | _object(arguments)
        if not release.named_calls:
            del function["_name"]
        return [Part(json.dumps({"function": function}, ensure_ascii=False))]

    return said


def parse(text: str, release: Release) -> tuple[Json | None, str | None]:
    """Return the tool call that a text is, or what it says instead; from 3.2 on both are None if it declines.

    Raises:
        TgiError: the text was cut, or is no call.
    """
    try:
        read = json.loads(text)
    except ValueError as error:
        if not release.since(2, 2):
            raise TgiError(_serde(error), "Input validation error") from None
        raise tool_error(f"Failed to parse generated text: {_serde(error)} {_debug(text)}") from None
    function = dict(read["function"])
    if not release.named_calls:
        return _call("tools", function, release), None
    name = function.pop("_name")
    if name == NO_TOOL and release.can_decline:
        return None, None if release.openai_calls else function["content"]
    return _call(name, function, release), None


def _call(name: str, arguments: Json, release: Release) -> Json:
    """Return a call as a whole reply has it."""
    text = json.dumps(arguments, ensure_ascii=False, separators=(",", ":"))
    key = "arguments" if release.named_calls else "parameters"
    function = {"description": None, "name": name, key: text if release.openai_calls else arguments}
    return {"id": 0 if release.old_schema else "0", "type": "function", "function": function}


def _tool(tool: Json) -> bodies.Tool:
    function = tool["function"]
    parameters = function.get("arguments", function.get("parameters"))
    return bodies.Tool.model_construct(
        function=bodies.FunctionDefinition.model_construct(
            name=function["name"], parameters=parameters if isinstance(parameters, dict) else None
        )
    )


def answer_to(chat: Chat, sampling: Sampling, number: int) -> str:
    """Return what is said to a chat in plain text."""
    if chat.results:
        return prose.tool_answer(chat.results)
    return prose.answer(chat.question, scripts.text_dice(sampling, chat.question, number), sampling.max_tokens)


def _object(arguments: str) -> Json:
    read = json.loads(arguments) if arguments else {}
    return read if isinstance(read, dict) else {}


def _serde(error: ValueError) -> str:
    """Return what serde_json says of text that was cut; Python says where, and that it ended."""
    document = getattr(error, "doc", "")
    return f"EOF while parsing {_open_part(document)} at line 1 column {len(document.encode())}"


def _open_part(text: str) -> str:
    """Return what a cut JSON text is in the middle of."""
    stack: list[str] = []
    inside = escaped = False
    for character in text:
        if inside:
            inside = escaped or character != '"'
            escaped = character == "\\" and not escaped
        elif character == '"':
            inside = True
        elif character in "{[":
            stack.append(character)
        elif character in "}]":
            stack.pop()
    if inside:
        return "a string"
    tail = text.rstrip()
    if not stack or tail.endswith((":", ",")) or _CUT_VALUE.search(text):
        return "a value"
    return "an object" if stack[-1] == "{" else "a list"


def _debug(text: str) -> str:
    """Return a text as Rust's `{:?}` shows it."""
    return json.dumps(text, ensure_ascii=False)
