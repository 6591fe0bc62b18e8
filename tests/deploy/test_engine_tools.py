"""Tools: when one is called, with what, how the whole reply tells it, and what happens to results."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.local.engine import build
from tests.deploy.test_engine_calls import answer, ask, chunks, said

pytestmark = pytest.mark.anyio

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "unit": {"type": "string", "enum": ["celsius", "fahrenheit"]}},
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


def asked(text: str, **more: Any) -> dict[str, Any]:
    """Return a chat with both tools."""
    return {"messages": [{"role": "user", "content": text}], "tools": [WEATHER, TIME], "temperature": 0, **more}


def calls(message: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return the names and the arguments of a message's calls."""
    found = message.get("tool_calls") or []
    return [(call["function"]["name"], json.loads(call["function"]["arguments"])) for call in found]


PARIS = ("get_weather", {"city": "Paris", "unit": "celsius"})
ZONE = ("get_time", {"zone": "Europe/Paris"})


@pytest.mark.parametrize(
    ("text", "more", "expected", "content", "finish"),
    [
        pytest.param("weather", {}, [PARIS], None, "tool_calls", id="a word of the name"),
        pytest.param("What TIME is it?", {}, [ZONE], None, "tool_calls", id="another tool's word"),
        pytest.param(
            "weather in New York please",
            {},
            [("get_weather", {"city": "New York", "unit": "celsius"})],
            None,
            "tool_calls",
            id="a place that is named",
        ),
        pytest.param("Use a tool.", {}, [PARIS], None, "tool_calls", id="any tool: the first"),
        pytest.param("both", {}, [PARIS, ZONE], None, "tool_calls", id="two calls"),
        pytest.param("both", {"parallel_tool_calls": False}, [PARIS], None, "tool_calls", id="one call at a time"),
        pytest.param("look", {}, [PARIS], "Let me look that up.\n", "tool_calls", id="text before the call"),
        pytest.param("hello", {}, [], "Hello! How can I help you today?", "stop", id="no tool wanted"),
        pytest.param("hello", {"tool_choice": "required"}, [PARIS], "", "tool_calls", id="required all the same"),
        pytest.param("hello", {"tool_choice": NAMED}, [ZONE], "", "stop", id="named"),
        pytest.param("both", {"tool_choice": "required"}, [PARIS, ZONE], "", "tool_calls", id="two required"),
    ],
)
@pytest.mark.parametrize("dialect", ["lmi17", "lmi27", "vllm"])
async def test_calls_of_a_whole_reply(
    dialect: str, text: str, more: dict[str, Any], expected: Any, content: str | None, finish: str
) -> None:
    choice = (await answer(build(dialect), asked(text, **more)))["choices"][0]
    assert calls(choice["message"]) == expected
    assert (choice["message"]["content"], choice["finish_reason"]) == (content, finish)


@pytest.mark.parametrize(
    ("dialect", "choice", "finish"),
    [
        ("lmi15", NAMED, "stop"),
        ("lmi15", "required", "stop"),
        ("lmi16", NAMED, "stop"),
        ("lmi16", "required", "stop"),
        ("lmi17", "required", "tool_calls"),
        ("lmi28", NAMED, "stop"),
    ],
)
async def test_old_releases_finish_forced_calls_with_stop(dialect: str, choice: Any, finish: str) -> None:
    made = (await answer(build(dialect), asked("hello", tool_choice=choice)))["choices"][0]
    assert len(made["message"]["tool_calls"]) == 1
    assert made["finish_reason"] == finish


@pytest.mark.parametrize("dialect", ["lmi15", "lmi17", "lmi25", "lmi27", "lmi28", "vllm"])
@pytest.mark.parametrize("choice", ["auto", "required", NAMED])
async def test_a_stream_adds_up_to_the_whole_reply(dialect: str, choice: Any) -> None:
    body = asked("both", tool_choice=choice)
    whole = (await answer(build(dialect), body))["choices"][0]["message"]
    names: dict[int, str] = {}
    arguments: dict[int, str] = {}
    for record in await chunks(build(dialect), body):
        for call in record["choices"][0]["delta"].get("tool_calls", []) if record["choices"] else []:
            function = call["function"]
            names.setdefault(call["index"], function.get("name"))
            arguments[call["index"]] = arguments.get(call["index"], "") + function.get("arguments", "")
    assert [(names[index], json.loads(text)) for index, text in arguments.items()] == calls(whole)


async def test_a_tool_called_twice_where_there_is_but_one() -> None:
    body = {**asked("both"), "tools": [WEATHER]}
    message = (await answer(build("vllm"), body))["choices"][0]["message"]
    assert calls(message) == [PARIS, PARIS]
    assert len({call["id"] for call in message["tool_calls"]}) == 2


@pytest.mark.parametrize("choice", ["none", None])
async def test_tool_choice_none_is_answered_with_text(choice: str | None) -> None:
    made = (await answer(build("vllm"), asked("weather", tool_choice=choice)))["choices"][0]
    assert "tool_calls" not in made["message"]
    assert made["message"]["content"].startswith('You wrote "weather".')


async def test_results_are_quoted() -> None:
    messages = [
        {"role": "user", "content": "Weather and time in Paris?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "call_1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}},
                {"id": "call_2", "type": "function", "function": {"name": "get_time", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": '{"degrees": 21, "note": "é\\n"}'},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "noon"}]},
    ]
    body = {"messages": messages, "tools": [WEATHER, TIME]}
    text = 'The get_weather tool answered: {"degrees": 21, "note": "é\\n"} The get_time tool answered: noon'
    for dialect in ("lmi15", "lmi27", "vllm"):
        made = (await answer(build(dialect), body))["choices"][0]
        assert (made["message"]["content"], made["finish_reason"]) == (text, "stop")
        assert said(await chunks(build(dialect), body)) == text


async def test_a_new_question_after_results_may_call_again() -> None:
    messages = [
        {"role": "user", "content": "weather"},
        {"role": "tool", "tool_call_id": "x", "content": "sunny"},
        {"role": "user", "content": "and the time?"},
    ]
    made = (await answer(build("vllm"), {"messages": messages, "tools": [TIME]}))["choices"][0]
    assert calls(made["message"])[0][0] == "get_time"


async def test_a_tool_without_parameters_gets_an_empty_object() -> None:
    tools = [{"type": "function", "function": {"name": "ping"}}]
    body = {"messages": [{"role": "user", "content": "ping"}], "tools": tools}
    message = (await answer(build("lmi27"), body))["choices"][0]["message"]
    assert calls(message) == [("ping", {})]


@pytest.mark.parametrize("dialect", ["lmi27", "vllm"])
async def test_a_call_that_is_cut_stays_text_in_a_whole_reply(dialect: str) -> None:
    made = (await answer(build(dialect), asked("weather", max_tokens=8)))["choices"][0]
    assert made["message"]["content"] == '<tool_call>\n{"name": "get_'
    assert not made["message"].get("tool_calls")
    assert made["finish_reason"] == "length"


@pytest.mark.parametrize(("dialect", "finish"), [("lmi27", "tool_calls"), ("vllm", "length")])
async def test_a_call_that_is_cut_leaves_half_its_arguments_in_a_stream(dialect: str, finish: str) -> None:
    whole = (await answer(build(dialect), asked("weather")))["usage"]["completion_tokens"]
    records = await chunks(build(dialect), asked("weather", max_tokens=whole - 6))
    found = [record["choices"][0] for record in records]
    fragments = [call["function"] for choice in found for call in choice["delta"].get("tool_calls", [])]
    arguments = "".join(function.get("arguments", "") for function in fragments)
    assert '{"city": "Paris", "unit": "celsius"}'.startswith(arguments)
    assert '{"city"' in arguments
    assert found[-1]["finish_reason"] == finish


async def test_a_named_tool_keeps_cut_arguments_while_it_is_bare_json() -> None:
    made = (await answer(build("lmi27"), asked("hello", tool_choice=NAMED, max_tokens=3)))["choices"][0]
    assert made["message"]["tool_calls"][0]["function"] == {"name": "get_time", "arguments": '{"zone'}
    assert made["finish_reason"] == "length"


async def test_a_broken_call_is_text_in_whole_and_a_call_in_a_stream() -> None:
    made = (await answer(build("vllm"), asked("broken")))["choices"][0]
    assert made["message"]["content"] == (
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Par\n</tool_call>'
    )
    assert made["finish_reason"] == "stop"
    records = await chunks(build("vllm"), asked("broken"))
    assert records[-1]["choices"][0]["finish_reason"] == "tool_calls"


NO_PARSER = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'


@pytest.mark.parametrize(
    ("dialect", "choice", "status", "text"),
    [
        ("lmi15", "auto", 400, NO_PARSER),
        ("lmi16", "auto", 424, "Async Inference Failure service.invoke_handler_async() failure"),
        ("lmi18", "auto", 500, f"error=ErrorInfo(message={NO_PARSER!r}, type='BadRequestError', param=None, code=400)"),
        ("lmi27", "auto", 500, f"error=ErrorInfo(message={NO_PARSER!r}, type='BadRequestError', param=None, code=400)"),
        ("vllm", "auto", 400, NO_PARSER),
        ("vllm", "required", 400, 'tool_choice="required" requires --tool-call-parser to be set'),
        ("vllm", NAMED, 400, 'tool_choice=function "get_time" requires --tool-call-parser to be set'),
    ],
)
async def test_without_a_parser_a_choice_is_an_error(dialect: str, choice: Any, status: int, text: str) -> None:
    reply = await ask(build(dialect, tool_parser=False), asked("weather", tool_choice=choice))
    assert isinstance(reply.body, bytes)
    body = json.loads(reply.body)
    error = body.get("error", body.get("message"))
    assert reply.status == status
    assert (error["message"] if isinstance(error, dict) else error) == text


@pytest.mark.parametrize("choice", ["required", NAMED])
async def test_old_releases_need_no_parser_for_a_forced_call(choice: Any) -> None:
    made = (await answer(build("lmi17", tool_parser=False), asked("weather", tool_choice=choice)))["choices"][0]
    assert len(made["message"]["tool_calls"]) == 1


async def test_choices_call_with_ids_of_their_own() -> None:
    body = asked("weather", n=2, seed=1) | {"temperature": 1}
    records = await chunks(build("vllm"), body)
    ids = {
        choice["index"]: call["id"]
        for record in records
        for choice in record["choices"]
        for call in choice["delta"].get("tool_calls", [])
        if "id" in call
    }
    assert set(ids) == {0, 1}
    assert ids[0] != ids[1]
