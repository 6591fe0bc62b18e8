"""The local engine behind an adapter, without anything between them: a call goes in, the caller's answer comes out.

Given a dialect such as `lmi15` or `vllm-0.9`, each function answers a chat or, with `prompt`, a text completion.
"""

from __future__ import annotations

import asyncio
import functools
import json
import re
from typing import Any

from adapters.base import Adapter, Call, Whole
from adapters.errors import ContainerFault
from adapters.registry import make
from deploy.local.container import ContainerRequest
from deploy.local.engine import build
from tests.adapters.calls import DONE, chat, completion, relayed

DIALECTS = (
    "lmi15", "lmi16", "lmi17", "lmi18", "lmi20", "lmi23", "lmi27", "vllm-0.8", "vllm-0.9", "vllm-0.11", "vllm-0.33",
)  # fmt: skip


def minor_of(dialect: str) -> int:
    """Return the minor version of a dialect's vLLM."""
    return build(dialect).dialect.vllm[1]


@functools.cache
def adapter_of(dialect: str) -> Adapter:
    kind, version = re.fullmatch(r"(lmi|vllm)-?([\d.]+)", dialect).groups()  # type: ignore[union-attr]  # all match
    return make(kind, version)


def call_of(**fields: Any) -> Call:
    return completion(**fields) if "prompt" in fields else chat(**fields)


def exchanged(dialect: str, call: Call, *, stream: bool, options: dict[str, Any] | None = None) -> tuple[int, bytes]:
    """Return status and bytes of the container's reply."""
    body = adapter_of(dialect).encode(call, stream=stream)

    async def exchange() -> tuple[int, bytes]:
        request = ContainerRequest(body, {"content-type": "application/json"})
        reply = await build(dialect, **options or {}).invoke(request)
        if isinstance(reply.body, bytes):
            return reply.status, reply.body
        return reply.status, b"".join([part async for part in reply.body])

    return asyncio.run(exchange())


def whole(dialect: str, **fields: Any) -> Any:
    """Return the whole reply a caller gets, decoded."""
    call = call_of(**fields)
    status, data = exchanged(dialect, call, stream=False)
    assert status == 200, data
    reply = adapter_of(dialect).decode_whole(call, data)
    assert isinstance(reply, Whole), reply
    return json.loads(reply.body)


def assembled(dialect: str, **fields: Any) -> Any:
    """Return the same, gathered from a stream."""
    call = call_of(**fields)
    status, data = exchanged(dialect, call, stream=True)
    assert status == 200, data
    assembler = adapter_of(dialect).assembler(call)
    assembler.feed(data)
    reply = assembler.end()
    assert reply is not None, (assembler.fault, assembler.malformed)
    return json.loads(reply.body)


def streamed(dialect: str, **fields: Any) -> list[Any]:
    """Return the chunks a caller gets, decoded."""
    call = call_of(**{**fields, "stream": True})
    status, data = exchanged(dialect, call, stream=True)
    assert status == 200, data
    decoder = adapter_of(dialect).stream_decoder(call)
    *events, last = relayed(decoder, [data])
    assert last == DONE, (decoder.fault, decoder.malformed)
    return [json.loads(event.removeprefix(b"data: ")) for event in events]


def failed(dialect: str, options: dict[str, Any] | None = None, **fields: Any) -> ContainerFault:
    """Return the fault of a call that the container refuses."""
    call = call_of(**fields)
    status, data = exchanged(dialect, call, stream=call.stream, options=options)
    assert status >= 400, data
    return adapter_of(dialect).decode_error(status, data, call)
