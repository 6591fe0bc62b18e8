"""Tools: called or not, one or two, streamed in fragments, and their results sent back."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.support.callers import Answer, Caller
from tests.support.stack import Local

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Say what the weather is like.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["c", "f"]}},
            "required": ["city"],
        },
    },
}
TIME = {
    "type": "function",
    "function": {
        "name": "get_time",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
    },
}
NAMED = {"type": "function", "function": {"name": "get_time"}}


def called(answer: Answer) -> list[tuple[str, dict[str, Any]]]:
    """Return the tools called, with their arguments parsed."""
    calls = answer.only.tools
    assert all(call.id for call in calls)
    assert len({call.id for call in calls}) == len(calls), "two calls have one id"
    return [(call.name, json.loads(call.arguments)) for call in calls]


def test_a_tool_is_called_where_it_helps(caller: Caller, dialect: str) -> None:
    answer = caller.chat(dialect, "weather in Rome?", tools=[WEATHER, TIME], tool_choice="auto", temperature=0)
    assert called(answer) == [("get_weather", {"city": "Rome", "unit": "c"})]
    assert (answer.only.text, answer.only.finish) == ("", "tool_calls")


def test_without_a_choice_tools_are_called_where_they_help(caller: Caller, dialect: str, local: Local) -> None:
    answer = caller.chat(dialect, "weather in Rome?", tools=[WEATHER], temperature=0)
    assert called(answer) == [("get_weather", {"city": "Rome", "unit": "c"})]
    assert local.last_body()["tools"] == [WEATHER]


def test_no_tool_is_called_where_none_helps(caller: Caller, dialect: str) -> None:
    choice = caller.chat(dialect, "count to 3", tools=[WEATHER, TIME], tool_choice="auto").only
    assert (choice.text, choice.tools, choice.finish) == ("1, 2, 3", [], "stop")


def test_no_tool_is_called_if_the_caller_wants_none(caller: Caller, dialect: str) -> None:
    choice = caller.chat(dialect, "weather in Rome?", tools=[WEATHER], tool_choice="none").only
    assert choice.text.startswith('You wrote "weather in Rome?".')
    assert (choice.tools, choice.finish) == ([], "stop")


def test_a_required_tool_is_called(caller: Caller, dialect: str) -> None:
    answer = caller.chat(dialect, "hello", tools=[WEATHER, TIME], tool_choice="required", temperature=0)
    assert called(answer) == [("get_weather", {"city": "Paris", "unit": "c"})]
    assert (answer.only.text, answer.only.finish) == ("", "tool_calls")


def test_a_named_tool_is_called(caller: Caller, dialect: str) -> None:
    answer = caller.chat(dialect, "hello", tools=[WEATHER, TIME], tool_choice=NAMED, temperature=0)
    assert called(answer) == [("get_time", {"zone": "Europe/Paris"})]
    assert (answer.only.text, answer.only.finish) == ("", "stop")  # as vLLM has it, and OpenAI too


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_two_tools_are_called_at_once(caller: Caller, dialect: str, choice: str) -> None:
    answer = caller.chat(dialect, "both", tools=[WEATHER, TIME], tool_choice=choice, temperature=0)
    both = [("get_weather", {"city": "Paris", "unit": "c"}), ("get_time", {"zone": "Europe/Paris"})]
    assert called(answer) == both
    assert answer.only.finish == "tool_calls"


def test_each_choice_calls_its_own_tools(caller: Caller, dialect: str) -> None:
    answer = caller.chat(dialect, "both", tools=[WEATHER, TIME], n=2)
    names = [[call.name for call in choice.tools] for choice in answer.choices]
    assert names == [["get_weather", "get_time"]] * 2
    ids = [call.id for choice in answer.choices for call in choice.tools]
    assert len(set(ids)) == 4
    for choice in answer.choices:
        assert json.loads(choice.tools[0].arguments)["city"] == "Paris"
        assert choice.finish == "tool_calls"


def test_something_is_said_before_a_call(caller: Caller, dialect: str) -> None:
    answer = caller.chat(dialect, "look up the weather in Oslo", tools=[WEATHER], temperature=0)
    assert answer.only.text.strip() == "Let me look that up."
    assert called(answer) == [("get_weather", {"city": "Oslo", "unit": "c"})]


def test_a_thinking_model_calls_tools(caller: Caller, dialect: str) -> None:
    thinking = {"chat_template_kwargs": {"enable_thinking": True}}
    answer = caller.chat(dialect, "weather in Rome?", tools=[WEATHER], temperature=0, extra_body=thinking)
    assert called(answer) == [("get_weather", {"city": "Rome", "unit": "c"})]
    assert set(answer.only.thoughts.values()) == {"\nI need the get_weather tool.\n"}


@pytest.mark.parametrize("dialect", ["lmi20", "lmi27", "vllm"])
def test_calls_are_kept_to_one_if_asked_to(caller: Caller, dialect: str) -> None:
    answer = caller.chat(dialect, "both", tools=[WEATHER, TIME], parallel_tool_calls=False, temperature=0)
    assert called(answer) == [("get_weather", {"city": "Paris", "unit": "c"})]


@pytest.mark.parametrize("dialect", ["lmi15", "vllm-0.9", "vllm-0.11"])
def test_calls_that_cannot_be_kept_to_one_are_refused(caller: Caller, dialect: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        caller.chat(dialect, "both", tools=[WEATHER, TIME], parallel_tool_calls=False)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "parallel_tool_calls")


def test_results_are_sent_back(caller: Caller, dialect: str, local: Local) -> None:
    messages: list[dict[str, Any]] = [{"role": "user", "content": "both"}]
    asked = caller.chat(dialect, messages, tools=[WEATHER, TIME], temperature=0)
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in asked.only.tools
    ]
    messages.append({"role": "assistant", "content": None, "tool_calls": calls})
    for call, result in zip(calls, ["21 °C ☀", "08:15"], strict=True):
        messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
    said = caller.chat(dialect, messages, tools=[WEATHER, TIME]).only
    assert said.text == "The get_weather tool answered: 21 °C ☀ The get_time tool answered: 08:15"
    assert (said.tools, said.finish) == ([], "stop")
    assert local.last_body()["messages"] == messages


def test_arguments_come_in_fragments(client: openai.OpenAI, dialect: str) -> None:
    created: Any = client.chat.completions.create
    messages = [{"role": "user", "content": "weather in Rome?"}]
    with created(model=dialect, messages=messages, tools=[WEATHER], stream=True) as stream:
        parts = [part for chunk in stream for part in chunk.choices[0].delta.tool_calls or ()]
    fragments = [part.function.arguments for part in parts if part.function.arguments]
    assert len(fragments) > 3
    assert json.loads("".join(fragments))["city"] == "Rome"
    assert [part.function.name for part in parts if part.function.name] == ["get_weather"]


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_the_stream_helper_assembles_calls(client: openai.OpenAI, dialect: str, choice: str) -> None:
    helper: Any = client.chat.completions.stream
    messages = [{"role": "user", "content": "both"}]
    arguments: dict[Any, str] = {}
    with helper(model=dialect, messages=messages, tools=[WEATHER, TIME], tool_choice=choice, temperature=0) as stream:
        for event in stream:
            if event.type == "tool_calls.function.arguments.delta":
                arguments[event.index] = arguments.get(event.index, "") + event.arguments_delta
        final = stream.get_final_completion()
    calls = final.choices[0].message.tool_calls
    assert [(call.function.name, json.loads(call.function.arguments)) for call in calls] == [
        ("get_weather", {"city": "Paris", "unit": "c"}),
        ("get_time", {"zone": "Europe/Paris"}),
    ]
    assert list(arguments.values()) == [call.function.arguments for call in calls]
    assert final.choices[0].finish_reason == "tool_calls"


def test_arguments_that_end_too_early_are_not_mended(caller: Caller, dialect: str) -> None:
    choice = caller.chat(dialect, "broken", tools=[WEATHER], temperature=0).only
    if caller.variant == "-invoke":
        # vLLM's parser reads a whole answer at once: what it cannot read stays text.
        assert choice.text.startswith('<tool_call>\n{"name": "get_weather", "arguments": {"city": "Par')
        assert (choice.tools, choice.finish) == ([], "stop")
    else:
        assert [(call.name, call.arguments.strip()) for call in choice.tools] == [("get_weather", '{"city": "Par')]
        assert choice.finish == "tool_calls"
