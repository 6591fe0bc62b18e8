"""Thoughts before an answer: when there are any, which field has them in which release, and how they are streamed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.local.engine import build
from tests.deploy.test_engine_calls import answer, ask, chunks, said

pytestmark = pytest.mark.anyio

HELLO = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0}
THINKING = {**HELLO, "chat_template_kwargs": {"enable_thinking": True}}
THOUGHTS = "\nThe user greets me. I greet back.\n"
GREETING = "Hello! How can I help you today?"

FIELDS = {
    "lmi15": ["reasoning_content"],
    "lmi16": ["reasoning_content"],
    "lmi17": ["reasoning", "reasoning_content"],
    "lmi19": ["reasoning", "reasoning_content"],
    "lmi21": ["reasoning"],
    "lmi27": ["reasoning"],
    "vllm": ["reasoning"],
}


def thoughts(records: list[Any], field: str) -> str:
    """Return the thoughts a stream adds up to."""
    deltas = [choice["delta"] for record in records for choice in record["choices"]]
    return "".join(delta.get(field) or "" for delta in deltas)


@pytest.mark.parametrize(("dialect", "fields"), FIELDS.items())
async def test_each_release_has_its_fields(dialect: str, fields: list[str]) -> None:
    message = (await answer(build(dialect), THINKING))["choices"][0]["message"]
    assert {name: value for name, value in message.items() if "reasoning" in name} == dict.fromkeys(fields, THOUGHTS)
    assert message["content"] == f"\n\n{GREETING}"
    records = await chunks(build(dialect), THINKING)
    deltas = [record["choices"][0]["delta"] for record in records]
    assert [name for name in deltas[1] if "reasoning" in name] == fields
    assert [thoughts(records, field) for field in fields] == [THOUGHTS] * len(fields)
    assert said(records) == f"\n\n{GREETING}"
    last_thought = max(place for place, delta in enumerate(deltas) if delta.get(fields[0]))
    first_word = next(place for place, delta in enumerate(deltas) if delta.get("content"))
    assert last_thought < first_word


@pytest.mark.parametrize(
    ("dialect", "options", "more", "thinks"),
    [
        pytest.param("vllm", {}, {}, False, id="unless told to, no"),
        pytest.param("vllm", {"thinking": True}, {}, True, id="a model that always does"),
        pytest.param("vllm", {}, {"chat_template_kwargs": {"enable_thinking": True}}, True, id="told to"),
        pytest.param(
            "vllm", {"thinking": True}, {"chat_template_kwargs": {"enable_thinking": False}}, False, id="told not to"
        ),
        pytest.param("vllm", {}, {"chat_template_kwargs": {"other": 1}}, False, id="other template arguments"),
        pytest.param("vllm", {}, {"reasoning_effort": "low"}, True, id="effort"),
        pytest.param("vllm", {"thinking": True}, {"reasoning_effort": "none"}, False, id="no effort"),
        pytest.param(
            "vllm",
            {},
            {"reasoning_effort": "high", "chat_template_kwargs": {"enable_thinking": False}},
            False,
            id="the template goes before effort",
        ),
        pytest.param("lmi15", {}, {"reasoning_effort": "low"}, False, id="0.8 knows no effort"),
        pytest.param("lmi16", {}, {"reasoning_effort": "low"}, True, id="0.10 does"),
    ],
)
async def test_when_it_thinks(dialect: str, options: dict[str, Any], more: dict[str, Any], thinks: bool) -> None:
    message = (await answer(build(dialect, **options), {**HELLO, **more}))["choices"][0]["message"]
    assert message[FIELDS[dialect][0]] == (THOUGHTS if thinks else None)
    assert message["content"] == (f"\n\n{GREETING}" if thinks else GREETING)


@pytest.mark.parametrize(
    ("dialect", "known"),
    [
        ("lmi22", "'low', 'medium' or 'high'"),
        ("lmi23", "'none', 'low', 'medium' or 'high'"),
        ("lmi26", "'none', 'minimal', 'low', 'medium', 'high', 'xhigh' or 'max'"),
    ],
)
async def test_an_unknown_effort_names_those_a_release_knows(dialect: str, known: str) -> None:
    reply = await ask(build(dialect), {**HELLO, "reasoning_effort": "most"})
    assert isinstance(reply.body, bytes)
    assert reply.status == 500
    assert f"reasoning_effort\n  Input should be {known} [type=literal_error," in json.loads(reply.body)["message"]


async def test_without_a_parser_thoughts_are_text() -> None:
    engine = build("lmi27", reasoning_parser=False)
    message = (await answer(engine, THINKING))["choices"][0]["message"]
    assert message["reasoning"] is None
    assert message["content"] == f"<think>{THOUGHTS}</think>\n\n{GREETING}"
    assert said(await chunks(engine, THINKING)) == message["content"]


async def test_thoughts_that_are_cut_leave_no_content() -> None:
    choice = (await answer(build("vllm"), {**THINKING, "max_tokens": 4}))["choices"][0]
    assert choice["message"]["content"] is None
    assert choice["message"]["reasoning"] == "\nThe user"
    assert choice["finish_reason"] == "length"


async def test_thoughts_can_be_kept_back() -> None:
    body = {**THINKING, "include_reasoning": False}
    message = (await answer(build("vllm"), body))["choices"][0]["message"]
    assert (message["reasoning"], message["content"]) == (None, f"\n\n{GREETING}")
    records = await chunks(build("vllm"), body)
    assert thoughts(records, "reasoning") == ""
    assert said(records) == f"\n\n{GREETING}"


async def test_thoughts_are_counted() -> None:
    usage = (await answer(build("vllm"), THINKING))["usage"]
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 11}
    streamed = await chunks(build("vllm"), {**THINKING, "stream_options": {"include_usage": True}})
    assert streamed[-1]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 11}
    assert streamed[-1]["usage"]["completion_tokens"] == usage["completion_tokens"] == 24
    plain = (await answer(build("vllm", reasoning_parser=False), THINKING))["usage"]
    assert plain["completion_tokens_details"] is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("weather", "\nI need the get_weather tool.\n"),
        ("both", "\nI need two tools.\n"),
        ("one two three", "\nThe user wrote 3 words. I answer in plain text.\n"),
    ],
)
async def test_thoughts_go_by_what_follows(text: str, expected: str) -> None:
    tool = {"type": "function", "function": {"name": "get_weather"}}
    body = {**THINKING, "messages": [{"role": "user", "content": text}], "tools": [tool]}
    choice = (await answer(build("vllm"), body))["choices"][0]
    assert choice["message"]["reasoning"] == expected
    assert bool(choice["message"].get("tool_calls")) == (text != "one two three")
