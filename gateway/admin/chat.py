"""`POST /console/api/chat`: the console's playground, handed on to the gateway itself.

The page and the gateway are on different ports, so to a browser on different origins. One path on the one port that
this gateway listens on is reached through here, and nothing else. The administration's key ends here; the caller's key,
which comes in a header of its own, goes on, and is kept nowhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import aiohttp
from litestar.handlers import asgi
from litestar.handlers.asgi_handlers import ASGIRouteHandler

from gateway.errors import GatewayBusy, MethodNotAllowed, RequestTooLarge

PATH = "/v1/chat/completions"
KEY_HEADER = b"x-console-key"
CONNECT_S = 5.0
READ_BYTES = 1 << 16
"""Held at most for a slow page before reading from the gateway pauses."""
_HANDED_BACK = frozenset((b"content-type", b"retry-after", b"server-timing", b"openai-processing-ms"))


def chat_route(gateway: Callable[[], str], max_body_bytes: int) -> ASGIRouteHandler:
    """Return the handler. `gateway` gives the URL it listens on, without a slash at the end."""

    @asgi("/console/api/chat", copy_scope=False)
    async def chat(scope: Any, receive: Any, send: Any) -> None:
        if scope["method"] != "POST":
            raise MethodNotAllowed("This URL answers POST only.")
        key = dict(scope["headers"]).get(KEY_HEADER)
        body = await _body(receive, max_body_bytes)
        if body is None:
            return
        call = asyncio.create_task(_call(gateway() + PATH, key, body, send))
        left = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait((call, left), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (call, left):
                if not task.done():
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task
        if call.done() and not call.cancelled():
            call.result()

    return chat


async def _call(url: str, key: bytes | None, body: bytes, send: Any) -> None:
    """Make the call and hand its answer on, at the pace that it is taken at.

    Raises:
        GatewayBusy: the gateway does not answer.
    """
    headers = {"content-type": "application/json", "accept-encoding": "identity"}
    if key is not None:  # without one the gateway says what it says to everyone
        headers["authorization"] = f"Bearer {key.decode('latin-1')}"
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_S)
    started = False
    try:
        async with (
            aiohttp.ClientSession(
                timeout=timeout, trust_env=False, auto_decompress=False, read_bufsize=READ_BYTES
            ) as session,
            session.post(url, data=body, headers=headers, allow_redirects=False) as reply,
        ):
            back = [(name.lower(), value) for name, value in reply.raw_headers if _is_handed_back(name.lower())]
            back.append((b"cache-control", b"no-store"))
            await send({"type": "http.response.start", "status": reply.status, "headers": back})
            started = True
            async for chunk in reply.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
    except (aiohttp.ClientError, TimeoutError, ValueError) as error:
        if started:  # the answer is left without its end, and so is seen to be broken
            return
        raise GatewayBusy("The gateway does not answer on its own port.", detail=type(error).__name__) from None


def _is_handed_back(name: bytes) -> bool:
    return name in _HANDED_BACK or name.startswith((b"x-request-id", b"x-ratelimit-", b"x-should-retry"))


async def _body(receive: Any, most: int) -> bytes | None:
    """Return the request's body, None if its caller has left.

    Raises:
        RequestTooLarge: it is longer than `most` bytes.
    """
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        if len(body) > most:
            raise RequestTooLarge(f"The body is larger than {most} bytes.")
        if not message.get("more_body", False):
            return bytes(body)


async def _left(receive: Any) -> None:
    """Return when the page has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
