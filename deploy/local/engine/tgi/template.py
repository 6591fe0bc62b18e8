"""A chat as one text, by a ChatML template, and what of it the answer goes by.

https://github.com/huggingface/text-generation-inference: router/src/infer/chat_template.rs
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from deploy.local.engine import jsontext
from deploy.local.engine.conversation import NO_THOUGHTS
from deploy.local.engine.options import Options
from deploy.local.engine.tgi.errors import TgiError
from deploy.local.engine.tgi.release import Release

Json = dict[str, Any]

TOOL_PROMPT = (
    "\nGiven the functions available, please respond with a JSON for a function call with its proper arguments that "
    "best answers the given prompt. Respond in the format {name: function name, parameters: dictionary of argument "
    "name and its value}.Do not use variables.\n"
)
OLD_TOOL_PROMPT = "\nBased on the conversation, please choose the most appropriate tool to use: "


@dataclass(slots=True)
class Chat:
    """A chat after its template."""

    text: str = ""
    question: str = ""
    """The last thing the user wrote, without what the template adds."""
    results: list[tuple[str, str]] = field(default_factory=list)
    """What tools answered since: their names and texts."""


def apply(messages: list[Json], tools: list[Json] | None, prompt: str, release: Release, options: Options) -> Chat:
    """Return the text of a chat; `tools` are shown to the model, and `prompt` is added to its last message.

    Raises:
        TgiError: the model has no template.
    """
    if not options.chat_template:
        raise TgiError("Template error: template not found", "template_error")
    chat = Chat()
    parts: list[str] = []
    if tools:
        listed = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools)
        parts.append(f"<|im_start|>system\n# Tools\n\n{listed}<|im_end|>\n")
    called: list[str] = []
    for place, message in enumerate(messages):
        text, shown = _texts(message)
        added = f"\n---\n{prompt}" if tools and place == len(messages) - 1 else ""
        parts.append(f"<|im_start|>{message['role']}\n{shown}{added}<|im_end|>\n")
        if message["role"] == "tool":
            # TGI drops the id of the call, so that results can only be told by their order.
            name = message["name"] or (called.pop(0) if called else "last")
            chat.results.append((name, text))
            continue
        called = [call["function"]["name"] for call in message.get("tool_calls") or ()]
        chat.results.clear()
        if message["role"] == "user":
            chat.question = text
    parts.append(f"<|im_start|>assistant\n{'' if options.thinking else NO_THOUGHTS}")
    chat.text = "".join(parts)
    return chat


def _texts(message: Json) -> tuple[str, str]:
    """Return what a message says, and how the template shows it."""
    content = message.get("content")
    if content is None:
        calls = message.get("tool_calls")
        return "", jsontext.value(calls).decode() if calls else ""
    if isinstance(content, str):
        return content, content
    shown = [part["text"] if part["type"] == "text" else f"![]({part['image_url']['url']})" for part in content]
    return "\n".join(part["text"] for part in content if part["type"] == "text"), "".join(shown)
