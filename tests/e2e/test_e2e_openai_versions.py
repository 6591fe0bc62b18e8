"""What differs from version to version, unseen by callers: tools, thoughts and structured output in every spelling."""

from __future__ import annotations

import json
import re
from typing import Any

import openai
import pytest

from tests.support.callers import REASONING_FIELDS, Answer, Caller
from tests.support.full_stack import DIALECTS, FURTHER_DIALECTS, PARSERLESS
from tests.support.stack import Local

EVERY = sorted(DIALECTS | FURTHER_DIALECTS)
CITY = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
ZONE = {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}
TIME = {"type": "function", "function": {"name": "get_time", "parameters": ZONE}}
NAMED = {"type": "function", "function": {"name": "get_time"}}
ROME, PARIS = ("get_weather", {"city": "Rome"}), ("get_weather", {"city": "Paris"})
ZONED = ("get_time", {"zone": "Europe/Paris"})
THINKING = {"chat_template_kwargs": {"enable_thinking": True}}


@pytest.fixture(params=["invoked", "gathered", "streamed"])
def way(request: pytest.FixtureRequest, client: openai.OpenAI) -> Caller:
    """Call for whole replies, fetched in one piece or as a stream, or for streams."""
    variant = {"invoked": "-invoke", "gathered": "-stream", "streamed": ""}[request.param]
    return Caller(client, stream=request.param == "streamed", variant=variant)


def called(answer: Answer) -> list[list[tuple[str, Any]]]:
    """Return the tools that each choice calls, with their arguments."""
    calls = [call for choice in answer.choices for call in choice.tools]
    assert all(call.id.startswith("chatcmpl-tool-") for call in calls)
    assert len({call.id for call in calls}) == len(calls), "two calls have one id"
    return [[(call.name, json.loads(call.arguments)) for call in choice.tools] for choice in answer.choices]


# What is asked → the tools each choice calls, and how it ends.
ASKED: dict[str, tuple[str, dict[str, Any], list[Any], str]] = {
    "auto": ("weather in Rome?", {}, [[ROME]], "tool_calls"),
    "auto, two": ("both", {"tool_choice": "auto"}, [[PARIS, ZONED]], "tool_calls"),
    "none": ("weather in Rome?", {"tool_choice": "none"}, [[]], "stop"),
    "required, two": ("both", {"tool_choice": "required"}, [[PARIS, ZONED]], "tool_calls"),
    "named": ("hello", {"tool_choice": NAMED}, [[ZONED]], "stop"),
    "one at once": ("hello", {"tool_choice": NAMED, "parallel_tool_calls": False}, [[ZONED]], "stop"),
    "an empty list": ("hello", {"tools": [], "tool_choice": "auto"}, [[]], "stop"),
    "after thoughts": ("weather in Rome?", {"extra_body": THINKING}, [[ROME]], "tool_calls"),
}


@pytest.mark.parametrize("dialect", EVERY)
def test_tools(way: Caller, dialect: str) -> None:
    for name, (question, fields, tools, finish) in ASKED.items():
        answer = way.chat(dialect, question, **{"tools": [WEATHER, TIME], "temperature": 0, **fields})
        assert called(answer) == tools, name
        assert [choice.finish for choice in answer.choices] == [finish] * len(tools), name


@pytest.mark.parametrize("dialect", EVERY)
@pytest.mark.parametrize(("choice", "finish"), [("auto", "tool_calls"), ("required", "tool_calls"), (NAMED, "stop")])
def test_tools_of_several_choices(client: openai.OpenAI, dialect: str, choice: Any, finish: str) -> None:
    answer = Caller(client, stream=True).chat(
        dialect, "what is the time?", tools=[WEATHER, TIME], tool_choice=choice, n=3, seed=2
    )
    assert [[name for name, _ in calls] for calls in called(answer)] == [["get_time"]] * 3
    assert {choice.finish for choice in answer.choices} == {finish}


@pytest.mark.parametrize("dialect", EVERY)
@pytest.mark.parametrize("choice", ["auto", "required", NAMED])
def test_a_call_begins_with_all_that_names_it_and_goes_on_with_its_arguments(
    client: openai.OpenAI, dialect: str, choice: Any
) -> None:
    created: Any = client.chat.completions.create
    messages = [{"role": "user", "content": "time?"}]
    with created(model=dialect, messages=messages, tools=[TIME], tool_choice=choice, stream=True) as stream:
        first, *later = [part for chunk in stream for part in chunk.choices[0].delta.tool_calls or ()]
    assert (first.index, first.type, first.function.name) == (0, "function", "get_time")
    assert first.id.startswith("chatcmpl-tool-")
    assert {(part.index, part.id, part.type, part.function.name) for part in later} == {(0, None, None, None)}
    json.loads("".join(part.function.arguments or "" for part in (first, *later)))


@pytest.mark.parametrize("dialect", EVERY)
def test_thoughts_come_and_go_under_both_names(way: Caller, dialect: str, local: Local) -> None:
    history = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "a", "reasoning_content": "b"}]
    choice = way.chat(dialect, [*history, {"role": "user", "content": "hello"}], extra_body=THINKING).only
    assert set(choice.thoughts) == set(REASONING_FIELDS)
    assert len(set(choice.thoughts.values())) == 1
    renamed = dialect in ("lmi17", "lmi18", "lmi20", "lmi23", "vllm-0.11")
    assert local.last_body()["messages"][1][REASONING_FIELDS[not renamed]] == "b"


SCHEMA = {"type": "object", "properties": {"kind": {"enum": ["sun", "rain"]}}, "required": ["kind"]}
LARK = 'root ::= "yes" | "no"'
FORMATTED = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True}}
SPELLINGS: list[tuple[dict[str, Any], str]] = [
    ({"guided_regex": "[ab]{3}"}, "[ab]{3}"),
    ({"guided_choice": ["yes", "no"]}, "yes|no"),
    ({"guided_json": SCHEMA, "guided_whitespace_pattern": " ?"}, r'\{"kind": ?"(sun|rain)"\}'),
    ({"guided_grammar": LARK}, "yes|no"),
    ({"structured_outputs": {"regex": "[ab]{3}"}}, "[ab]{3}"),
    ({"structured_outputs": {"choice": ["yes", "no"]}}, "yes|no"),
    ({"structured_outputs": {"json": SCHEMA}}, r'\{"kind": ?"(sun|rain)"\}'),
    ({"structured_outputs": {"grammar": LARK}}, "yes|no"),
    ({"structured_outputs": {"json_object": True}}, r"\{.*\}"),
    ({"response_format": FORMATTED}, r'\{"kind": ?"(sun|rain)"\}'),
    ({"response_format": {"type": "json_object"}}, r"\{.*\}"),
]


@pytest.mark.parametrize("dialect", EVERY)
def test_structured_output_in_every_spelling(client: openai.OpenAI, dialect: str) -> None:
    whole, stream = Caller(client, stream=False, variant="-invoke"), Caller(client, stream=True)
    for fields, pattern in SPELLINGS:
        for answer in (
            stream.chat(dialect, "well?", extra_body=fields),
            whole.completion(dialect, "well?", extra_body=fields, max_tokens=200),
        ):
            assert re.fullmatch(pattern, answer.only.text, re.DOTALL), (fields, answer.only.text)


@pytest.mark.parametrize("dialect", EVERY)
def test_two_forms_at_once_are_refused(client: openai.OpenAI, dialect: str) -> None:
    both = {"guided_regex": "a", "structured_outputs": {"choice": ["b"]}}
    with pytest.raises(openai.BadRequestError) as caught:
        Caller(client, stream=False).chat(dialect, "well?", extra_body=both)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "structured_outputs")


@pytest.mark.parametrize("dialect", EVERY)
def test_fields_that_change_nothing_do_no_harm(client: openai.OpenAI, dialect: str) -> None:
    harmless = {
        "best_of": 1, "include_reasoning": True, "return_token_ids": False, "truncation_side": "left", "top_k": 0,
        "verbosity": "medium", "store": True, "metadata": {"a": "b"}, "service_tier": "auto", "modalities": ["text"],
    }  # fmt: skip
    caller = Caller(client, stream=False)
    assert caller.chat(dialect, "repeat: c", extra_body=harmless, max_completion_tokens=9).only.text == "c"


@pytest.mark.parametrize("dialect", PARSERLESS)
def test_a_container_without_a_tool_parser_says_so(client: openai.OpenAI, dialect: str) -> None:
    created: Any = client.chat.completions.create
    for stream in (False, True):
        messages = [{"role": "user", "content": "weather?"}]
        with pytest.raises(openai.BadRequestError, match="without a tool parser") as caught:
            created(model=f"parserless-{dialect}", messages=messages, tools=[WEATHER], stream=stream)
        lost = ("upstream_rejected", None)
        assert (caught.value.code, caught.value.param) == (
            lost if dialect == "lmi16" else ("unsupported_parameter", "tools")
        )
