"""The `message` of a whole chat reply: thoughts, text and tool calls taken apart as the parsers would.

https://github.com/vllm-project/vllm: vllm/parser/abstract_parser.py, vllm/tool_parsers/hermes_tool_parser.py
"""

from __future__ import annotations

from typing import Any

from deploy.local.engine.bodies import ChatCompletionRequest
from deploy.local.engine.deltas import new_id, tool_style
from deploy.local.engine.dialect import Dialect
from deploy.local.engine.generation import ARGUMENTS, CONTENT, THOUGHT, Step
from deploy.local.engine.scripts import BROKEN

Json = dict[str, Any]


def of(steps: list[Step], body: ChatCompletionRequest, dialect: Dialect) -> tuple[Json, bool]:
    """Return an answer's message, and whether it calls tools."""
    thoughts = _text(steps, THOUGHT)
    content, calls = _answer(steps, body, dialect)
    if thoughts and not content and not calls:
        content = None  # The thoughts were cut.
    hidden = dialect.since(0, 10, 2) and not body.include_reasoning
    reasoning = dict.fromkeys(dialect.reasoning_fields, None if hidden else thoughts or None)
    if not dialect.since(0, 10):
        return {"role": "assistant", **reasoning, "content": content, "tool_calls": calls}, bool(calls)
    message: Json = {
        "role": "assistant",
        "content": content,
        "refusal": None,
        "annotations": None,
        "audio": None,
        "function_call": None,
    }
    if calls or not dialect.since(0, 26):
        message["tool_calls"] = calls
    return message | reasoning, bool(calls)


def _answer(steps: list[Step], body: ChatCompletionRequest, dialect: Dialect) -> tuple[str | None, list[Json]]:
    """Return the content and the tool calls."""
    style = tool_style(body, dialect)
    content = _text(steps, CONTENT)
    if not style:
        return content, []
    said = _arguments(steps)
    complete = steps[-1].finish == "stop" and steps[-1].stop_reason is None
    if style == "named":
        said = said or {0: (body.named_tool or "", "")}
    elif not complete or any(text == BROKEN for _, text in said.values()):
        said = {}
    calls = [
        {
            "id": new_id(dialect, "chatcmpl-tool-"),
            "type": "function",
            "function": {"name": name, "arguments": text},
        }
        for name, text in said.values()
    ]
    if style != "parsed":
        return "", calls
    if not calls:
        return _raw(steps), []  # What the parser cannot read stays text, markup and all.
    return (content if content.strip() else None) if body.tool_choice == "auto" else "", calls


def _arguments(steps: list[Step]) -> dict[int, tuple[str, str]]:
    """Return each call's tool and the text of its arguments, as far as it was said."""
    said: dict[int, tuple[str, str]] = {}
    for step in steps:
        for run in step.runs:
            if run.part.kind == ARGUMENTS:
                before = said.get(run.part.call, ("", ""))[1]
                said[run.part.call] = run.part.tool, before + run.text
    return said


def _text(steps: list[Step], kind: str) -> str:
    return "".join([run.text for step in steps for run in step.runs if run.part.kind == kind])


def _raw(steps: list[Step]) -> str:
    """Return all the text that is no thought."""
    runs = [run for step in steps for run in step.runs if run.part.kind != THOUGHT]
    return "".join([run.text for run in runs if run.part.text not in ("<think>", "</think>")])
