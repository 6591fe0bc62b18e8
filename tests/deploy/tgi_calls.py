"""Calls of an imitated TGI, for the tests of it."""

from __future__ import annotations

import json
import re
from typing import Any

from deploy.local.container import ContainerReply, ContainerRequest
from deploy.local.engine import Engine

CHAT, COMPLETION = "/v1/chat/completions", "/v1/completions"
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}


async def post(
    engine: Engine, body: Any, path: str | None = None, *, content_type: str | None = "application/json"
) -> ContainerReply:
    """Call /invocations, or one of TGI's own routes."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = ContainerRequest(data, {} if content_type is None else {"content-type": content_type})
    return await (engine.invoke(request) if path is None else engine.post(path, request))


async def told(reply: ContainerReply) -> str:
    """Return a reply's body with the time it was created at taken out."""
    body = reply.body if isinstance(reply.body, bytes) else b"".join([chunk async for chunk in reply.body])
    return re.sub(r'"created":\d+', '"created":0', body.decode())


async def text(engine: Engine, body: Any, path: str | None = None) -> str:
    """Return the body of a reply."""
    return await told(await post(engine, body, path))


async def answer(engine: Engine, body: Any, path: str | None = None) -> Any:
    """Return what a whole reply says."""
    reply = await post(engine, body, path)
    assert reply.status == 200, reply
    return json.loads(await told(reply))


async def frames(engine: Engine, body: Any, path: str | None = None) -> list[Any]:
    """Return what a stream's events say; [DONE] is that text."""
    reply = await post(engine, body, path)
    assert reply.status == 200, reply
    events = (await told(reply)).split("\n\n")
    assert events.pop() == ""
    payloads = [re.sub("^data: ?", "", event) for event in events]
    return [payload if payload == "[DONE]" else json.loads(payload) for payload in payloads]


def user(*texts: str) -> list[dict[str, str]]:
    """Return the messages of a user."""
    return [{"role": "user", "content": one} for one in texts]
