"""What is said to a request, decided before the first token: thoughts, then text, a constrained text, or tool calls."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from deploy.local.engine import grammars, patterns, prose, schemas
from deploy.local.engine.bodies import ChatCompletionRequest, SamplingBody, Tool
from deploy.local.engine.conversation import Conversation
from deploy.local.engine.dialect import Dialect
from deploy.local.engine.dice import Dice, FirstChoice
from deploy.local.engine.generation import ARGUMENTS, CONTENT, MARK, NAME, THOUGHT, Part, Script
from deploy.local.engine.options import Options
from deploy.local.engine.refusal import Origin, Refusal
from deploy.local.engine.sampling import Sampling

ANY_OBJECT = {"type": "object", "properties": {"answer": {"type": "string"}, "degrees": {"type": "integer"}}}
"""What response_format json_object is answered with, unless the prompt says otherwise."""

BROKEN = '{"city": "Par'
"""The arguments of a call that the model does not finish writing."""

_ASKS_FOR_TOOL = re.compile(r"\b(tools?|functions?|call)\b", re.IGNORECASE)


def thinks(body: ChatCompletionRequest, options: Options) -> bool:
    """Return whether an answer begins with thoughts."""
    asked = (body.chat_template_kwargs or {}).get("enable_thinking")
    if isinstance(asked, bool):
        return asked
    if body.reasoning_effort is not None:
        return body.reasoning_effort != "none"
    return options.thinking


def of_completion(body: SamplingBody, question: str, sampling: Sampling, index: int) -> Script:
    """Return what is said to a raw prompt; `index` counts its choices."""
    constrained = _constrained(body, question, plain_dice(sampling, question, index))
    if constrained is not None:
        return Script((Part(constrained),))
    text = prose.answer(question, text_dice(sampling, question, index), sampling.max_tokens)
    return Script((Part(text),), _endless(sampling, question, index))


def of_chat(
    body: ChatCompletionRequest,
    chat: Conversation,
    sampling: Sampling,
    index: int,
    dialect: Dialect,
    options: Options,
) -> Script:
    """Return what is said to a chat; `index` counts its choices."""
    question = chat.question
    plain = plain_dice(sampling, question, index)
    calls = chosen_calls(body, chat, plain)
    thoughts = thoughts_of(question, [name for name, _ in calls], options) if thinks(body, options) else ()
    if calls:
        opening = prose.LOOKING if _look(question) and body.tool_choice == "auto" else ""
        space = "\n\n" if thoughts and body.tool_choice == "auto" else ""
        return Script((*thoughts, *_call_parts(body, calls, space + opening, dialect)))
    constrained = _constrained(body, question, plain)
    if constrained is not None:
        return Script((*thoughts, Part(constrained)))
    if chat.results:
        text = prose.tool_answer(chat.results)
    elif chat.pictures:
        text = prose.seen_images([str(picture) for picture in chat.pictures], question)
    else:
        text = prose.answer(question, text_dice(sampling, question, index), sampling.max_tokens)
    gap = (Part("\n\n"),) if thoughts else ()
    return Script((*thoughts, *gap, Part(text)), _endless(sampling, question, index))


def thoughts_of(question: str, tools: list[str], options: Options) -> tuple[Part, ...]:
    text = prose.reasoning(question, tools)
    kind, mark = (THOUGHT, MARK) if options.reasoning_parser else (CONTENT, CONTENT)
    return Part("<think>", mark, special=True), Part(text, kind), Part("</think>", mark, special=True)


# --- Tools -----------------------------------------------------------------------------------------------------------


def chosen_calls(body: ChatCompletionRequest, chat: Conversation, dice: Dice) -> list[tuple[str, str]]:
    """Return the tools to call and their arguments as JSON."""
    tools = body.tools or []
    if not tools or body.tool_choice in (None, "none"):
        return []
    question = chat.question
    if body.named_tool is not None:
        chosen = [tool for tool in tools if tool.function.name == body.named_tool][:1]
    elif body.tool_choice == "auto" and (chat.results or not _wanted(tools, question)):
        return []
    else:
        chosen = _wanted(tools, question)[:1] or tools[:1]
        if _both(question) and body.parallel_tool_calls is not False:
            chosen = tools[:2] if len(tools) > 1 else tools * 2
    if body.tool_choice == "auto" and question.strip().lower() == "broken":
        return [(chosen[0].function.name, "")]
    return [(tool.function.name, _arguments(tool, dice, question)) for tool in chosen]


def _wanted(tools: list[Tool], question: str) -> list[Tool]:
    """Return the tools a question is about: it has a word of a tool's name, or asks for tools at all."""
    words = set(re.findall(r"[a-z]{3,}", question.lower()))
    generic = {"get", "set", "the", "list", "find", "search", "and"}
    named = [tool for tool in tools if words & (set(re.findall(r"[a-z]{3,}", tool.function.name.lower())) - generic)]
    if named:
        return named
    asked = _ASKS_FOR_TOOL.search(question) or _both(question) or _look(question)
    return tools if asked or question.strip().lower() == "broken" else []


def _arguments(tool: Tool, dice: Dice, question: str) -> str:
    parameters: Any = tool.function.parameters
    return schemas.write(parameters, dice, question) if parameters else "{}"


def _call_parts(
    body: ChatCompletionRequest, calls: list[tuple[str, str]], opening: str, dialect: Dialect
) -> Iterator[Part]:
    if opening:
        yield Part(opening)
    bare = not dialect.tools_by_parser
    if bare and body.named_tool is not None:
        name, arguments = calls[0]
        yield Part(arguments, ARGUMENTS, 0, name)
        return
    if bare and body.tool_choice == "required":
        for place, (name, arguments) in enumerate(calls):
            head = f'{", " if place else "["}{{"name": {json.dumps(name)}, "parameters": '
            yield Part(head, NAME, place, name)
            yield Part(arguments, ARGUMENTS, place, name)
            yield Part("}", MARK, place)
        yield Part("]", MARK, len(calls) - 1)
        return
    for place, (name, arguments) in enumerate(calls):
        if place:
            yield Part("\n", MARK, place)
        yield Part("<tool_call>", MARK, place, special=True)
        yield Part(f'\n{{"name": {json.dumps(name, ensure_ascii=False)}', NAME, place, name)
        yield Part(', "arguments": ', MARK, place)
        yield Part(arguments or BROKEN, ARGUMENTS, place, name)
        yield Part("}\n" if arguments else "\n", MARK, place)
        yield Part("</tool_call>", MARK, place, special=True)


def _both(question: str) -> bool:
    return re.search(r"\bboth\b", question, re.IGNORECASE) is not None


def _look(question: str) -> bool:
    return re.search(r"\blook\b", question, re.IGNORECASE) is not None


# --- Constraints -----------------------------------------------------------------------------------------------------


def _constrained(body: SamplingBody, question: str, dice: Dice) -> str | None:
    """Return a text within the request's constraint, or None if it has none."""
    kind, value = _constraint(body)
    if kind == "json":
        return schemas.write(_read_schema(value), dice, question)
    if kind == "regex":
        return patterns.matching(value, dice)
    if kind == "choice":
        if not value:
            raise Refusal("Grammar error: choice must have at least one alternative")
        return str(dice.pick(value))
    if kind == "grammar":
        return grammars.write(value, dice)
    if kind == "json_object":
        lowered = question.strip().lower()
        return prose.JSON if lowered == "json" else schemas.write(ANY_OBJECT, dice, question)
    return None


def _read_schema(value: Any) -> Any:
    """Return a schema that may have come as text."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except ValueError as error:
        raise Refusal(f"Grammar error: {error}") from error


def _constraint(body: SamplingBody) -> tuple[str, Any]:
    chosen = body.response_format
    if chosen is not None and chosen.type == "json_object":
        return "json_object", True
    if chosen is not None and chosen.type == "json_schema":
        if chosen.json_schema is None:  # An assertion of releases that do not check it earlier.
            raise Refusal("", origin=Origin.CRASH, status=500, kind="InternalServerError")
        schema = chosen.json_schema.json_schema
        return ("json_object", True) if schema is None else ("json", schema)
    outputs = body.structured_outputs
    candidates: list[tuple[str, Any]] = [
        ("json", body.guided_json),
        ("regex", body.guided_regex),
        ("choice", body.guided_choice),
        ("grammar", body.guided_grammar),
    ]
    if outputs is not None:
        candidates += [
            ("json", outputs.json_),
            ("regex", outputs.regex),
            ("choice", outputs.choice),
            ("grammar", outputs.grammar),
            ("json_object", outputs.json_object or None),
        ]
    return next(((kind, value) for kind, value in candidates if value is not None), ("", None))


# --- Chance ----------------------------------------------------------------------------------------------------------


def text_dice(sampling: Sampling, question: str, index: int) -> Dice:
    """Return the dice of free text: without temperature only the prompt decides."""
    return Dice(question) if sampling.temperature == 0 else Dice(question, sampling.seed, index)


def plain_dice(sampling: Sampling, question: str, index: int) -> Dice:
    """Return the dice of constrained text: without temperature the plainest choice."""
    return FirstChoice() if sampling.temperature == 0 else Dice(question, sampling.seed, index)


def _endless(sampling: Sampling, question: str, index: int) -> tuple[object, ...]:
    """Return the seed of what follows an answer that may not end."""
    return (question,) if sampling.temperature == 0 else (question, sampling.seed, index)
