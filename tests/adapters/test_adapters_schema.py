"""What callers get from every version of every container, held against OpenAI's own description of its API.

The containers are the local engine's; each kind of request is answered whole, as a stream, and gathered from a stream.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from adapters.base import Adapter, Call, Surface, Whole
from adapters.openai.request import check, read
from adapters.registry import make
from deploy.local.container import ContainerRequest
from deploy.local.engine import Engine, build
from tests.adapters.calls import IMAGES
from tests.support.openai_schema import Kind, validate

LMI = [(f"lmi{version}", "lmi", str(version)) for version in range(15, 29)]
VLLM = [(f"vllm-0.{minor}", "vllm", f"0.{minor}") for minor in range(8, 34)]
PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
TOOLS = [
    {
        "type": "function",
        "function": {
            "name": f"get_{what}",
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
        },
    }
    for what in ("weather", "time")
]
FORMAT = {
    "type": "json_schema",
    "json_schema": {"name": "s", "schema": {"type": "object", "properties": {"n": {"type": "integer"}}}},
}


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


def of_tools(text: str, choice: Any = "auto", **fields: Any) -> dict[str, Any]:
    return chat(text, tools=TOOLS, tool_choice=choice, **fields)


NAMED = {"type": "function", "function": {"name": "get_weather"}}
THINKING = {"chat_template_kwargs": {"enable_thinking": True}}
PICTURE = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
REQUESTS: dict[str, dict[str, Any]] = {
    "plain": chat("hello"),
    "several bytes a character": chat("emoji"),
    "three choices": chat("tell me", n=3, seed=4, temperature=1),
    "a tool": of_tools("weather in Rome"),
    "two tools": of_tools("both in Rome"),
    "text and a tool": of_tools("look at the weather"),
    "no tool": of_tools("hello"),
    "tools not to be used": of_tools("weather", "none"),
    "a required tool": of_tools("hello", "required"),
    "two required tools": of_tools("both", "required"),
    "a named tool": of_tools("hello", NAMED),
    "a named tool, two choices": of_tools("hello", NAMED, n=2, temperature=1),
    "a broken tool": of_tools("broken weather"),
    "a tool cut short": of_tools("weather in Rome", max_tokens=6),
    "log probabilities": chat("hello", logprobs=True),
    "alternatives": chat("hello", logprobs=True, top_logprobs=3),
    "alternatives with tools": of_tools("weather", logprobs=True, top_logprobs=2),
    "a schema": chat("json", response_format=FORMAT),
    "json": chat("json", response_format={"type": "json_object"}),
    "thoughts": chat("hello", **THINKING),
    "thoughts cut short": chat("hello", max_tokens=3, **THINKING),
    "thoughts and a tool": of_tools("weather", **THINKING),
    "a stop word": chat("count to 9", stop=["4"]),
    "cut short": chat("count to 50", max_tokens=7),
    "a picture": {"messages": [{"role": "user", "content": PICTURE}]},
    "completion": {"prompt": "count to 3", "max_tokens": 50},
    "completion cut short": {"prompt": "count to 50", "max_tokens": 5},
    "completion stopped": {"prompt": "count to 9", "max_tokens": 50, "stop": ["4"]},
    "echo": {"prompt": "count to 3", "echo": True},
    "echo alone": {"prompt": "count to 3", "echo": True, "max_tokens": 0},
    "echo with probabilities": {"prompt": "count to 3", "echo": True, "logprobs": 2},
    "prompts": {"prompt": ["count to 3", "hello"]},
    "prompts, choices, probabilities": {"prompt": ["count to 3", "hello"], "n": 2, "temperature": 1, "logprobs": 2},
    "token ids": {"prompt": [104, 105], "logprobs": 0},
}
STREAMS: dict[str, dict[str, Any]] = {
    "": {},
    " with usage": {"stream_options": {"include_usage": True}},
    " with running usage": {"stream_options": {"include_usage": True, "continuous_usage_stats": True}},
}


def call_of(fields: dict[str, Any], **more: Any) -> Call:
    surface = Surface.CHAT if "messages" in fields else Surface.COMPLETIONS
    return check(read(surface, json.dumps({"model": "public", **fields, **more}).encode()), IMAGES)


def kind_of(call: Call, *, chunk: bool = False) -> Kind:
    if call.surface is Surface.CHAT:
        return "chunk" if chunk else "chat"
    return "completion chunk" if chunk else "completion"


async def answered(engine: Engine, body: bytes) -> list[bytes]:
    """Return the container's answer in the pieces it gives it in."""
    reply = await engine.invoke(ContainerRequest(body, {"content-type": "application/json"}))
    assert reply.status == 200, reply.body
    if isinstance(reply.body, bytes):
        return [reply.body]
    pieces: AsyncIterator[bytes] = reply.body
    return [piece async for piece in pieces]


async def check_whole(engine: Engine, adapter: Adapter, fields: dict[str, Any]) -> None:
    call = call_of(fields)
    (reply,) = await answered(engine, adapter.encode(call, stream=False))
    whole = adapter.decode_whole(call, reply)
    assert isinstance(whole, Whole), whole
    validate(kind_of(call), json.loads(whole.body))


async def check_gathered(engine: Engine, adapter: Adapter, fields: dict[str, Any]) -> None:
    call = call_of(fields)
    assembler = adapter.assembler(call)
    for piece in await answered(engine, adapter.encode(call, stream=True)):
        assembler.feed(piece)
    whole = assembler.end()
    assert whole is not None, (assembler.fault, assembler.malformed)
    validate(kind_of(call), json.loads(whole.body))


async def check_stream(engine: Engine, adapter: Adapter, fields: dict[str, Any]) -> None:
    call = call_of(fields, stream=True)
    decoder = adapter.stream_decoder(call)
    events: list[bytes] = []
    for piece in await answered(engine, adapter.encode(call, stream=True)):
        events += decoder.feed(piece)
    events += decoder.end()
    assert (decoder.fault, decoder.malformed, events[-1]) == (None, None, b"data: [DONE]\n\n")
    for event in events[:-1]:
        validate(kind_of(call, chunk=True), json.loads(event.removeprefix(b"data: ")))


@pytest.mark.parametrize("request_", REQUESTS.values(), ids=REQUESTS)
@pytest.mark.parametrize(("dialect", "container", "version"), LMI + VLLM, ids=[name for name, *_ in LMI + VLLM])
def test_every_answer_is_as_openai_describes_it(
    dialect: str, container: str, version: str, request_: dict[str, Any]
) -> None:
    engine, adapter = build(dialect), make(container, version)

    async def ask_in_every_way() -> None:
        await check_whole(engine, adapter, request_)
        await check_gathered(engine, adapter, request_)
        for options in STREAMS.values():
            await check_stream(engine, adapter, {**request_, **options})

    asyncio.run(ask_in_every_way())
