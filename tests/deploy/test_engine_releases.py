"""The fields of each release's replies and chunks: every LMI release from 15 to 28, and the vLLM container.

The expected bytes were written by the response models of the vLLM releases themselves (pydantic, their
`model_dump_json`), from https://github.com/vllm-project/vllm: vllm/entrypoints/openai/**/protocol.py at 0.8.4, 0.10.2,
0.11.1, 0.16.0, 0.20.1, 0.23.0, 0.26.0, 0.32.0 and 0.33.0.
"""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from deploy.local.engine import build
from tests.deploy.test_engine_calls import ask

pytestmark = pytest.mark.anyio

CHAT = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0, "request_id": "x"}
COMPLETION = {"prompt": "hello", "temperature": 0, "request_id": "x"}


WHOLE_CHATS = {
    "lmi15": (
        '{"index":0,"message":{"role":"assistant","reasoning_content":null,'
        '"content":"Hello! How can I help you today?","tool_calls":[]},"logprobs":null,'
        '"finish_reason":"stop","stop_reason":null}],"usage":{"prompt_tokens":13,"total_tokens":23,'
        '"completion_tokens":10,"prompt_tokens_details":null},"prompt_logprobs":null}'
    ),
    "lmi16": (
        '{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today?",'
        '"refusal":null,"annotations":null,"audio":null,"function_call":null,"tool_calls":[],'
        '"reasoning_content":null},"logprobs":null,"finish_reason":"stop","stop_reason":null,'
        '"token_ids":null}],"service_tier":null,"system_fingerprint":null,'
        '"usage":{"prompt_tokens":13,"total_tokens":23,"completion_tokens":10,'
        '"prompt_tokens_details":null},"prompt_logprobs":null,"prompt_token_ids":null,'
        '"kv_transfer_params":null}'
    ),
    "lmi17 lmi18 lmi19 lmi20": (
        '{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today?",'
        '"refusal":null,"annotations":null,"audio":null,"function_call":null,"tool_calls":[],'
        '"reasoning":null,"reasoning_content":null},"logprobs":null,"finish_reason":"stop",'
        '"stop_reason":null,"token_ids":null}],"service_tier":null,"system_fingerprint":null,'
        '"usage":{"prompt_tokens":13,"total_tokens":23,"completion_tokens":10,'
        '"prompt_tokens_details":null},"prompt_logprobs":null,"prompt_token_ids":null,'
        '"kv_transfer_params":null}'
    ),
    "lmi21 lmi22 lmi23 lmi24 lmi25": (
        '{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today?",'
        '"refusal":null,"annotations":null,"audio":null,"function_call":null,"tool_calls":[],'
        '"reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null,'
        '"token_ids":null}],"service_tier":null,"system_fingerprint":null,'
        '"usage":{"prompt_tokens":13,"total_tokens":23,"completion_tokens":10,'
        '"prompt_tokens_details":null},"prompt_logprobs":null,"prompt_token_ids":null,'
        '"kv_transfer_params":null}'
    ),
    "lmi26 lmi27": (
        '{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today?",'
        '"refusal":null,"annotations":null,"audio":null,"function_call":null,"tool_calls":[],'
        '"reasoning":null},"logprobs":null,"finish_reason":"stop","stop_reason":null,'
        '"token_ids":null,"routed_experts":null}],"service_tier":null,'
        '"system_fingerprint":"FINGERPRINT","usage":{"prompt_tokens":13,"total_tokens":23,'
        '"completion_tokens":10,"prompt_tokens_details":null},"prompt_logprobs":null,'
        '"prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null}'
    ),
    "lmi28": (
        '{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today?",'
        '"refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null},'
        '"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null,'
        '"routed_experts":null}],"service_tier":null,"system_fingerprint":"FINGERPRINT",'
        '"usage":{"prompt_tokens":13,"total_tokens":23,"completion_tokens":10,'
        '"prompt_tokens_details":null},"prompt_logprobs":null,"prompt_token_ids":null,'
        '"prompt_text":null,"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}'
    ),
    "vllm-0.32": (
        '{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today?",'
        '"refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null},'
        '"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null,'
        '"routed_experts":null}],"service_tier":null,"system_fingerprint":"FINGERPRINT",'
        '"usage":{"prompt_tokens":13,"total_tokens":23,"completion_tokens":10,'
        '"prompt_tokens_details":null,"completion_tokens_details":{"reasoning_tokens":0}},'
        '"prompt_logprobs":null,"prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null,'
        '"ec_transfer_params":null,"metrics":null}'
    ),
    "vllm": (
        '{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today?",'
        '"refusal":null,"annotations":null,"audio":null,"function_call":null,"reasoning":null},'
        '"logprobs":null,"finish_reason":"stop","stop_reason":null,"token_ids":null,'
        '"routed_experts":null,"weight_versions":null}],"service_tier":null,'
        '"system_fingerprint":"FINGERPRINT","usage":{"prompt_tokens":13,"total_tokens":23,'
        '"completion_tokens":10,"prompt_tokens_details":null,'
        '"completion_tokens_details":{"reasoning_tokens":0}},"prompt_logprobs":null,'
        '"prompt_token_ids":null,"prompt_text":null,"kv_transfer_params":null,'
        '"ec_transfer_params":null,"metrics":null}'
    ),
}
"""What follows `"choices":[` in a whole chat reply to "hello"."""

WHOLE_COMPLETIONS = {
    "lmi15": (
        '{"index":0,"text":"Hello! How can I help you today?","logprobs":null,"finish_reason":"stop",'
        '"stop_reason":null,"prompt_logprobs":null}],"usage":{"prompt_tokens":1,"total_tokens":11,'
        '"completion_tokens":10,"prompt_tokens_details":null}}'
    ),
    "lmi16 lmi17 lmi18 lmi19 lmi20 lmi21 lmi22 lmi23 lmi24 lmi25": (
        '{"index":0,"text":"Hello! How can I help you today?","logprobs":null,"finish_reason":"stop",'
        '"stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null}],'
        '"service_tier":null,"system_fingerprint":null,"usage":{"prompt_tokens":1,"total_tokens":11,'
        '"completion_tokens":10,"prompt_tokens_details":null},"kv_transfer_params":null}'
    ),
    "lmi26 lmi27": (
        '{"index":0,"text":"Hello! How can I help you today?","logprobs":null,"finish_reason":"stop",'
        '"stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,'
        '"routed_experts":null}],"service_tier":null,"system_fingerprint":"FINGERPRINT",'
        '"usage":{"prompt_tokens":1,"total_tokens":11,"completion_tokens":10,'
        '"prompt_tokens_details":null},"kv_transfer_params":null}'
    ),
    "lmi28": (
        '{"index":0,"text":"Hello! How can I help you today?","logprobs":null,"finish_reason":"stop",'
        '"stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,'
        '"routed_experts":null}],"service_tier":null,"system_fingerprint":"FINGERPRINT",'
        '"usage":{"prompt_tokens":1,"total_tokens":11,"completion_tokens":10,'
        '"prompt_tokens_details":null},"kv_transfer_params":null,"ec_transfer_params":null,'
        '"metrics":null}'
    ),
    "vllm-0.32": (
        '{"index":0,"text":"Hello! How can I help you today?","logprobs":null,"finish_reason":"stop",'
        '"stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,'
        '"routed_experts":null}],"service_tier":null,"system_fingerprint":"FINGERPRINT",'
        '"usage":{"prompt_tokens":1,"total_tokens":11,"completion_tokens":10,'
        '"prompt_tokens_details":null,"completion_tokens_details":null},"kv_transfer_params":null,'
        '"ec_transfer_params":null,"metrics":null}'
    ),
    "vllm": (
        '{"index":0,"text":"Hello! How can I help you today?","logprobs":null,"finish_reason":"stop",'
        '"stop_reason":null,"token_ids":null,"prompt_logprobs":null,"prompt_token_ids":null,'
        '"routed_experts":null,"weight_versions":null}],"service_tier":null,'
        '"system_fingerprint":"FINGERPRINT","usage":{"prompt_tokens":1,"total_tokens":11,'
        '"completion_tokens":10,"prompt_tokens_details":null,"completion_tokens_details":null},'
        '"kv_transfer_params":null,"ec_transfer_params":null,"metrics":null}'
    ),
}
"""The same of a whole completion."""

ROLES = {
    "lmi15": '{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}]}',
    "lmi16": (
        '{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],'
        '"prompt_token_ids":null}'
    ),
    "lmi17 lmi18 lmi19 lmi20": (
        '{"index":0,"delta":{"role":"assistant","content":"","reasoning_content":null},'
        '"logprobs":null,"finish_reason":null}],"prompt_token_ids":null}'
    ),
    "lmi21 lmi22 lmi23 lmi24 lmi25": (
        '{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],'
        '"prompt_token_ids":null}'
    ),
    "lmi26 lmi27 lmi28 vllm-0.32 vllm": (
        '{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}],'
        '"prompt_token_ids":null,"prompt_text":null}'
    ),
}
"""The same of a chat's first chunk."""

THOUGHTS = {
    "lmi15": '{"index":0,"delta":{"reasoning_content":"\\n"},"logprobs":null,"finish_reason":null}]}',
    "lmi16": (
        '{"index":0,"delta":{"reasoning_content":"\\n"},"logprobs":null,"finish_reason":null,"token_ids":null}]}'
    ),
    "lmi17 lmi18 lmi19 lmi20": (
        '{"index":0,"delta":{"reasoning":"\\n","reasoning_content":"\\n"},"logprobs":null,'
        '"finish_reason":null,"token_ids":null}]}'
    ),
    "lmi21 lmi22 lmi23 lmi24 lmi25 lmi26 lmi27 lmi28 vllm-0.32": (
        '{"index":0,"delta":{"reasoning":"\\n"},"logprobs":null,"finish_reason":null,"token_ids":null}]}'
    ),
    "vllm": (
        '{"index":0,"delta":{"reasoning":"\\n"},"logprobs":null,"finish_reason":null,'
        '"token_ids":null}],"kv_transfer_params":null}'
    ),
}
"""The same of a chunk of reasoning."""

CONTENTS = {
    "lmi15": '{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null}]}',
    "lmi16": ('{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null,"token_ids":null}]}'),
    "lmi17 lmi18 lmi19 lmi20": (
        '{"index":0,"delta":{"content":"Hello","reasoning_content":null},"logprobs":null,'
        '"finish_reason":null,"token_ids":null}]}'
    ),
    "lmi21 lmi22 lmi23 lmi24 lmi25 lmi26 lmi27 lmi28 vllm-0.32": (
        '{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null,"token_ids":null}]}'
    ),
    "vllm": (
        '{"index":0,"delta":{"content":"Hello"},"logprobs":null,"finish_reason":null,'
        '"token_ids":null}],"kv_transfer_params":null}'
    ),
}
"""The same of a chunk of content."""

USAGES = {
    "lmi15 lmi16 lmi17 lmi18 lmi19 lmi20 lmi21 lmi22 lmi23 lmi24 lmi25": (
        '],"usage":{"prompt_tokens":13,"total_tokens":23,"completion_tokens":10}}'
    ),
    "lmi26 lmi27 lmi28": (
        '],"usage":{"prompt_tokens":13,"total_tokens":23,"completion_tokens":10},"system_fingerprint":"FINGERPRINT"}'
    ),
    "vllm-0.32 vllm": (
        '],"usage":{"prompt_tokens":13,"total_tokens":23,"completion_tokens":10,'
        '"completion_tokens_details":{"reasoning_tokens":0}},"system_fingerprint":"FINGERPRINT"}'
    ),
}
"""The same of the chunk of usage at a chat's end."""

COMPLETIONS = {
    "lmi15": ('{"index":0,"text":"Hello","logprobs":null,"finish_reason":null,"stop_reason":null}],"usage":null}'),
    "lmi16 lmi17 lmi18 lmi19 lmi20 lmi21 lmi22 lmi23 lmi24 lmi25": (
        '{"index":0,"text":"Hello","logprobs":null,"finish_reason":null,"stop_reason":null,'
        '"prompt_token_ids":null,"token_ids":null}],"usage":null}'
    ),
    "lmi26 lmi27 lmi28 vllm-0.32": (
        '{"index":0,"text":"Hello","logprobs":null,"finish_reason":null,"stop_reason":null,'
        '"prompt_token_ids":null,"token_ids":null}]}'
    ),
    "vllm": (
        '{"index":0,"text":"Hello","logprobs":null,"finish_reason":null,"stop_reason":null,'
        '"prompt_token_ids":null,"token_ids":null,"weight_versions":null}],"kv_transfer_params":null}'
    ),
}
"""The same of a chunk of a completion."""


def each(table: dict[str, str]) -> list[Any]:
    """Return every release of a table with what it expects."""
    return [
        pytest.param(release, expected, id=release)
        for releases, expected in table.items()
        for release in releases.split()
    ]


async def lines(release: str, body: Any) -> list[str]:
    """Return what follows `"choices":[` in each JSON of an answer, the fingerprint's name taken out."""
    reply = await ask(build(release), body)
    assert isinstance(reply.body, bytes)
    found = [line.removeprefix("data: ") for line in reply.body.decode().splitlines() if '"choices":[' in line]
    version = ".".join(map(str, build(release).dialect.vllm))
    return [line.partition('"choices":[')[2].replace(f"vllm-{version}-10ca1e11", "FINGERPRINT") for line in found]


@pytest.mark.parametrize(("release", "expected"), each(WHOLE_CHATS))
async def test_the_fields_of_a_whole_chat(release: str, expected: str) -> None:
    assert await lines(release, CHAT) == [expected]


@pytest.mark.parametrize(("release", "expected"), each(WHOLE_COMPLETIONS))
async def test_the_fields_of_a_whole_completion(release: str, expected: str) -> None:
    assert await lines(release, COMPLETION) == [expected]


@pytest.mark.parametrize(("release", "expected"), each(ROLES))
async def test_the_fields_of_a_chats_first_chunk(release: str, expected: str) -> None:
    assert (await lines(release, {**CHAT, "stream": True}))[0] == expected


@pytest.mark.parametrize(("release", "expected"), each(CONTENTS))
async def test_the_fields_of_a_chunk_of_content(release: str, expected: str) -> None:
    assert (await lines(release, {**CHAT, "stream": True}))[1] == expected


@pytest.mark.parametrize(("release", "expected"), each(THOUGHTS))
async def test_the_fields_of_a_chunk_of_reasoning(release: str, expected: str) -> None:
    body = {**CHAT, "stream": True, "chat_template_kwargs": {"enable_thinking": True}}
    assert (await lines(release, body))[1] == expected


@pytest.mark.parametrize(("release", "expected"), each(USAGES))
async def test_the_fields_of_a_chats_usage(release: str, expected: str) -> None:
    body = {**CHAT, "stream": True, "stream_options": {"include_usage": True}}
    assert (await lines(release, body))[-1] == expected


@pytest.mark.parametrize(("release", "expected"), each(COMPLETIONS))
async def test_the_fields_of_a_chunk_of_a_completion(release: str, expected: str) -> None:
    assert (await lines(release, {**COMPLETION, "stream": True}))[0] == expected


SILENT_TOKENS = {
    # Up to 0.21 a token without text is a chunk without text: half a character, and the end.
    "lmi15": ["", "é", "!", ""],
    "lmi20": ["", "é", "!", ""],
    "lmi25": ["", "é", "!", ""],
    # Since then a parser has nothing to tell and there is no chunk; the end is an empty delta.
    "lmi26": ["é", "!", None],
    "lmi28": ["é", "!", None],
    "vllm": ["é", "!", None],
}


@pytest.mark.parametrize(("release", "contents"), SILENT_TOKENS.items())
async def test_a_token_without_text(release: str, contents: list[str | None]) -> None:
    body = {"messages": [{"role": "user", "content": "repeat: é!"}], "stream": True}
    found = [json.loads(f"[{line.partition(']')[0]}]")[0] for line in await lines(release, body)]
    assert [choice["delta"].get("content") for choice in found[1:]] == contents
    assert found[-1]["finish_reason"] == "stop"


async def test_without_a_parser_every_token_is_a_chunk() -> None:
    engine = build("vllm", tool_parser=False, reasoning_parser=False)
    reply = await ask(engine, {"messages": [{"role": "user", "content": "repeat: é!"}], "stream": True})
    assert isinstance(reply.body, bytes)
    assert re.findall(rb'"delta":(\{[^}]*\})', reply.body)[1:] == [
        b'{"content":""}',
        '{"content":"é"}'.encode(),
        b'{"content":"!"}',
        b'{"content":""}',
    ]


@pytest.mark.parametrize(
    ("release", "chat", "tool"),
    [
        ("lmi15", r"chatcmpl-[0-9a-f]{32}", r"chatcmpl-tool-[0-9a-f]{32}"),
        ("lmi17", r"chatcmpl-[0-9a-f]{32}", r"chatcmpl-tool-[0-9a-f]{32}"),
        ("lmi18", r"chatcmpl-[0-9a-f]{16}", r"chatcmpl-tool-[0-9a-f]{16}"),
        ("vllm", r"chatcmpl-[0-9a-f]{16}", r"chatcmpl-tool-[0-9a-f]{16}"),
    ],
)
async def test_ids_are_as_long_as_the_release_makes_them(release: str, chat: str, tool: str) -> None:
    tools = [{"type": "function", "function": {"name": "get_weather"}}]
    body = {"messages": [{"role": "user", "content": "weather"}], "tools": tools}
    reply = await ask(build(release), body)
    assert isinstance(reply.body, bytes)
    made = json.loads(reply.body)
    assert re.fullmatch(chat, made["id"])
    assert re.fullmatch(tool, made["choices"][0]["message"]["tool_calls"][0]["id"])


@pytest.mark.parametrize(("release", "counted"), [("lmi15", True), ("lmi22", True), ("lmi23", False), ("vllm", False)])
async def test_empty_stream_options_meant_usage_until_0_17(release: str, counted: bool) -> None:
    last = (await lines(release, {**CHAT, "stream": True, "stream_options": {}}))[-1]
    assert last.startswith("]") is counted
