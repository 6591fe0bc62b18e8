"""The callers' side alone: GatewayProtocol on a port of its own, answering in ways a test decides."""

from __future__ import annotations

import asyncio
import contextlib
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

import uvicorn
import uvloop
from uvicorn.server import ServerState

from gateway.http.protocol import Frontend, GatewayProtocol, HotRoute, connection_of

T = TypeVar("T")
WAIT_S = 5.0
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "uvloop": uvloop.new_event_loop,
    "asyncio": asyncio.new_event_loop,
}


def run(loop: str, main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on a loop of that kind, not longer than `WAIT_S` several times over."""

    async def bounded() -> T:
        async with asyncio.timeout(4 * WAIT_S):
            return await main

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        return runner.run(bounded())


class Front:
    """A listening port."""

    def __init__(self, port: int, state: ServerState) -> None:
        self.port = port
        self._state = state
        self.seen: list[weakref.ref[GatewayProtocol]] = []
        """Every connection there ever was, if it still exists."""

    @property
    def open_connections(self) -> int:
        return len(self._state.connections)

    @property
    def running(self) -> int:
        """Requests with a task at work for them."""
        return len(self._state.tasks)

    async def until(self, wanted: Callable[[], bool]) -> None:
        """Return when it is so, for what no event announces."""
        async with asyncio.timeout(WAIT_S):
            while not wanted():  # noqa: ASYNC110 - what is waited for has no event
                await asyncio.sleep(0.001)

    async def caller(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def exchange(self, *pieces: bytes) -> bytes:
        """Send the pieces, each in a write of its own, and return all that comes back until the connection ends."""
        reader, writer = await self.caller()
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
        received = await rest(reader)
        writer.close()
        return received


async def rest(reader: asyncio.StreamReader) -> bytes:
    """Return what still comes, whether the connection ends by FIN or by RST."""
    received = bytearray()
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(WAIT_S):
            while piece := await reader.read(1 << 16):
                received += piece
    return bytes(received)


async def plain_app(scope: Any, receive: Any, send: Any) -> None:
    """An ASGI application that answers its path, without looking at a body."""
    body = scope["path"].encode()
    length = (b"content-length", b"%d" % len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [length]})
    await send({"type": "http.response.body", "body": body})


async def echo(scope: Any, receive: Any) -> None:
    """A hot route that answers with the body it got."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            break
    connection_of(scope).answer(200, b"", body)


@contextlib.asynccontextmanager
async def serving(
    *, app: Any = plain_app, hot: dict[str, HotRoute] | None = None, keep_alive_s: float = 75, **limits: Any
) -> AsyncIterator[Front]:
    """Listen with these limits of `Frontend`; `/echo` is a hot route always."""
    state = ServerState()
    config = uvicorn.Config(app, ws="none", log_config=None, access_log=False)
    config.timeout_keep_alive = keep_alive_s  # type: ignore[assignment]  # whole seconds are long for a test
    config.load()
    front = Front(0, state)

    class Protocol(GatewayProtocol):
        __slots__ = ()
        frontend = Frontend(hot_routes={"/echo": echo, **(hot or {})}, **limits)

    def make() -> Protocol:
        protocol = Protocol(config=config, server_state=state, app_state={})
        front.seen.append(weakref.ref(protocol))
        return protocol

    server = await asyncio.get_running_loop().create_server(make, "127.0.0.1", 0)
    front.port = server.sockets[0].getsockname()[1]
    try:
        yield front
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.abort()
        await front.until(lambda: not state.connections)
