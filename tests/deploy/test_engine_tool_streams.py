"""How each release streams a tool call: chosen by the model, named by the caller, or required.

The bytes were derived from the releases' sources: https://github.com/vllm-project/vllm, the stream generators of
vllm/entrypoints/openai/**/serving*.py and the hermes tool parser, their deltas dumped by pydantic with exclude_unset.
Recordings of 0.23.0 and 0.32.0 agree.
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from deploy.local.engine import build
from tests.deploy.test_engine_calls import ask

pytestmark = pytest.mark.anyio

TOOL = {
    "type": "function",
    "function": {"name": "t", "parameters": {"type": "object", "properties": {"a": {"const": "b"}}, "required": ["a"]}},
}
BODY = {"messages": [{"role": "user", "content": "call t"}], "tools": [TOOL], "stream": True, "temperature": 0}

AUTO: dict[str, tuple[str | None, list[str]]] = {
    "lmi15 lmi16": (
        "tool_calls",
        [
            '{"tool_calls":[{"id":"ID","type":"function","index":0,"function":{"name":"t"}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\": \\""}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":"b"}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":"\\"}"}}]}',
            '{"content":""}',
        ],
    ),
    "lmi17 lmi18 lmi19 lmi20": (
        "tool_calls",
        [
            '{"reasoning_content":null,"tool_calls":[{"id":"ID","type":"function","index":0,"function":{"name":"t"}}]}',
            '{"reasoning_content":null,"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\": \\""}}]}',
            '{"reasoning_content":null,"tool_calls":[{"index":0,"function":{"arguments":"b"}}]}',
            '{"reasoning_content":null,"tool_calls":[{"index":0,"function":{"arguments":"\\"}"}}]}',
            '{"content":"","reasoning_content":null}',
        ],
    ),
    "lmi21 lmi22 lmi23": (
        "tool_calls",
        [
            '{"tool_calls":[{"id":"ID","type":"function","index":0,"function":{"name":"t"}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":"{\\"a\\": \\""}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":"b"}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":"\\"}"}}]}',
            '{"content":""}',
        ],
    ),
    "lmi24 lmi25 lmi26 lmi27 lmi28 vllm-0.32 vllm": (
        "tool_calls",
        [
            '{"content":null,"tool_calls":[{"id":"ID","type":"function","index":0,"function":{"name":"t"}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"{\\""}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"a"}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"\\":"}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":" \\""}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"b"}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"\\"}"}}]}',
            "{}",
        ],
    ),
}

NAMED: dict[str, tuple[str | None, list[str]]] = {
    "lmi15": (
        "stop",
        [
            '{"tool_calls":[{"index":0,"function":{"name":"t","arguments":"{\\""}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":"t","arguments":"a"}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":"t","arguments":"\\":"}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":"t","arguments":" \\""}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":"t","arguments":"b"}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":"t","arguments":"\\"}"}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":"t","arguments":""}}]}',
        ],
    ),
    "lmi16": (
        "tool_calls",
        [
            '{"tool_calls":[{"id":"ID","type":"function","index":0,"function":{"name":"t","arguments":"{\\""}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":"a"}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":"\\":"}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":" \\""}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":"b"}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":"\\"}"}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":""}}]}',
        ],
    ),
    "lmi17 lmi18 lmi19 lmi20": (
        "stop",
        [
            '{"reasoning_content":null,"tool_calls":[{"id":"ID","type":"function","index":0,"function":{"name":"t","arguments":"{\\""}}]}',
            '{"reasoning_content":null,"tool_calls":[{"index":0,"function":{"arguments":"a"}}]}',
            '{"reasoning_content":null,"tool_calls":[{"index":0,"function":{"arguments":"\\":"}}]}',
            '{"reasoning_content":null,"tool_calls":[{"index":0,"function":{"arguments":" \\""}}]}',
            '{"reasoning_content":null,"tool_calls":[{"index":0,"function":{"arguments":"b"}}]}',
            '{"reasoning_content":null,"tool_calls":[{"index":0,"function":{"arguments":"\\"}"}}]}',
            '{"reasoning_content":null,"tool_calls":[{"index":0,"function":{"arguments":""}}]}',
        ],
    ),
    "lmi21 lmi22 lmi23 lmi24 lmi25 lmi26 lmi27": (
        "stop",
        [
            '{"tool_calls":[{"id":"ID","type":"function","index":0,"function":{"name":"t","arguments":"{\\""}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":"a"}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":"\\":"}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":" \\""}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":"b"}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":"\\"}"}}]}',
            '{"tool_calls":[{"index":0,"function":{"arguments":""}}]}',
        ],
    ),
    "lmi28 vllm-0.32 vllm": (
        "stop",
        [
            '{"content":null,"tool_calls":[{"id":"ID","type":"function","index":0,"function":{"name":"t"}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"{\\""}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"a"}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"\\":"}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":" \\""}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"b"}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"\\"}"}}]}',
            "{}",
        ],
    ),
}

REQUIRED: dict[str, tuple[str | None, list[str]]] = {
    "lmi15": (
        None,
        [
            '{"tool_calls":[{"type":"function","index":0,"function":{"name":"t","arguments":"{\\""}}]}',
            '{"tool_calls":[{"type":"function","index":0,"function":{"name":null,"arguments":"a"}}]}',
            '{"tool_calls":[{"type":"function","index":0,"function":{"name":null,"arguments":"\\":"}}]}',
            '{"tool_calls":[{"type":"function","index":0,"function":{"name":null,"arguments":" \\""}}]}',
            '{"tool_calls":[{"type":"function","index":0,"function":{"name":null,"arguments":"b"}}]}',
            '{"tool_calls":[{"type":"function","index":0,"function":{"name":null,"arguments":"\\"}"}}]}',
        ],
    ),
    "lmi16": (
        "tool_calls",
        [
            '{"tool_calls":[{"id":"ID","type":"function","index":0,"function":{"name":"t","arguments":"{\\""}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":null,"arguments":"a"}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":null,"arguments":"\\":"}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":null,"arguments":" \\""}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":null,"arguments":"b"}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":null,"arguments":"\\"}"}}]}',
            "{}",
        ],
    ),
    "lmi17 lmi18 lmi19 lmi20": (
        "tool_calls",
        [
            '{"reasoning_content":null,"tool_calls":[{"id":"ID","type":"function","index":0,"function":{"name":"t","arguments":"{\\""}}]}',
            '{"reasoning_content":null,"tool_calls":[{"index":0,"function":{"name":null,"arguments":"a"}}]}',
            '{"reasoning_content":null,"tool_calls":[{"index":0,"function":{"name":null,"arguments":"\\":"}}]}',
            '{"reasoning_content":null,"tool_calls":[{"index":0,"function":{"name":null,"arguments":" \\""}}]}',
            '{"reasoning_content":null,"tool_calls":[{"index":0,"function":{"name":null,"arguments":"b"}}]}',
            '{"reasoning_content":null,"tool_calls":[{"index":0,"function":{"name":null,"arguments":"\\"}"}}]}',
            '{"reasoning_content":null}',
        ],
    ),
    "lmi21 lmi22 lmi23 lmi24 lmi25 lmi26 lmi27": (
        "tool_calls",
        [
            '{"tool_calls":[{"id":"ID","type":"function","index":0,"function":{"name":"t","arguments":"{\\""}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":null,"arguments":"a"}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":null,"arguments":"\\":"}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":null,"arguments":" \\""}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":null,"arguments":"b"}}]}',
            '{"tool_calls":[{"index":0,"function":{"name":null,"arguments":"\\"}"}}]}',
            "{}",
        ],
    ),
    "lmi28 vllm-0.32 vllm": (
        "tool_calls",
        [
            '{"content":null,"tool_calls":[{"id":"ID","type":"function","index":0,"function":{"name":"t"}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"{\\""}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"a"}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"\\":"}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":" \\""}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"b"}}]}',
            '{"content":null,"tool_calls":[{"index":0,"function":{"arguments":"\\"}"}}]}',
            "{}",
        ],
    ),
}


def each(table: dict[str, tuple[str | None, list[str]]]) -> list[Any]:
    """Return every release of a table with what it expects."""
    return [
        pytest.param(release, *expected, id=release)
        for releases, expected in table.items()
        for release in releases.split()
    ]


async def streamed(release: str, choice: Any, **options: object) -> tuple[str | None, list[str]]:
    """Return the finish reason and the deltas after the first, the call's id taken out."""
    reply = await ask(build(release, **options), {**BODY, "tool_choice": choice})
    assert isinstance(reply.body, bytes)
    found = re.findall(r'"delta":(.*),"logprobs":null,"finish_reason":(null|"\w+")', reply.body.decode())
    deltas = [re.sub(r"chatcmpl-tool-[0-9a-f]+", "ID", delta) for delta, _ in found]
    last = found[-1][1]
    return None if last == "null" else last.strip('"'), deltas[1:]


@pytest.mark.parametrize(("release", "finish", "deltas"), each(AUTO))
async def test_a_call_the_model_chose(release: str, finish: str | None, deltas: list[str]) -> None:
    assert await streamed(release, "auto") == (finish, deltas)


@pytest.mark.parametrize(("release", "finish", "deltas"), each(NAMED))
async def test_a_call_of_a_named_tool(release: str, finish: str | None, deltas: list[str]) -> None:
    assert await streamed(release, {"type": "function", "function": {"name": "t"}}) == (finish, deltas)


@pytest.mark.parametrize(("release", "finish", "deltas"), each(REQUIRED))
async def test_a_call_that_was_required(release: str, finish: str | None, deltas: list[str]) -> None:
    assert await streamed(release, "required") == (finish, deltas)


async def test_ids_can_be_repeated_in_every_delta() -> None:
    _, deltas = await streamed("lmi15", "auto", repeat_tool_ids=True)
    calls = [delta for delta in deltas if "tool_calls" in delta]
    assert len(calls) == 4
    assert all('{"id":"ID","type":"function","index":0,' in call for call in calls)
