"""The HTTP server below the local SageMaker: keep-alive, pipelining, bad requests, limits, endings."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from deploy.local.http1 import Handler, HttpServer
from deploy.local.httpreply import Reply, Request

pytestmark = pytest.mark.anyio

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def echo(request: Request, reply: Reply) -> None:
    """Answer with what arrived."""
    text = f"{request.method} {request.path} {request.query} {request.body.decode()} {request.oversized}"
    reply.send(200, [("X-Peer", request.peer)], text.encode())


@asynccontextmanager
async def serving(
    handler: Handler = echo, *, max_body_bytes: int = 1000, idle_timeout_s: float = 30.0
) -> AsyncIterator[tuple[HttpServer, int]]:
    server = HttpServer(handler, max_body_bytes=max_body_bytes, idle_timeout_s=idle_timeout_s)
    port = await server.start("127.0.0.1", 0)
    try:
        yield server, port
    finally:
        await server.aclose()


async def exchange(port: int, request: bytes) -> bytes:
    """Send bytes and return everything until the server closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    try:
        return await asyncio.wait_for(reader.read(), 10)
    finally:
        writer.close()


def bodies(received: bytes) -> list[bytes]:
    """Return the bodies of answers with a Content-Length."""
    found = []
    while received:
        head, _, rest = received.partition(b"\r\n\r\n")
        length = next(int(line[16:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length: "))
        found.append(rest[:length])
        received = rest[length:]
    return found


CLOSE = b"Connection: close\r\n\r\n"


async def test_pipelined_requests_are_answered_in_order() -> None:
    requests = b"".join(b"POST /%d?q=1 HTTP/1.1\r\nContent-Length: 2\r\n\r\nb%d" % (n, n) for n in range(9))
    async with serving() as (_, port):
        received = await exchange(port, requests + b"GET /last HTTP/1.1\r\n" + CLOSE)
    assert bodies(received) == [
        *(f"POST /{n} q=1 b{n} False".encode() for n in range(9)),
        b"GET /last   False",
    ]


async def test_many_pipelined_requests_wait_unread() -> None:
    requests = b"GET /x HTTP/1.1\r\n\r\n" * 99 + b"GET /last HTTP/1.1\r\n" + CLOSE
    async with serving() as (_, port):
        assert len(bodies(await exchange(port, requests))) == 100


async def test_a_request_may_arrive_byte_by_byte() -> None:
    request = b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n" + CLOSE + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for byte in request:
            writer.write(bytes([byte]))
            await writer.drain()
        assert bodies(await asyncio.wait_for(reader.read(), 10)) == [b"POST /a  abcde False"]
        writer.close()


async def test_expect_100_continue_is_honoured() -> None:
    async with serving() as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 2\r\nExpect: 100-continue\r\n" + CLOSE)
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(b"hi")
        assert bodies(await asyncio.wait_for(reader.read(), 10)) == [b"POST /  hi False"]
        writer.close()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(b"\x16\x03\x01\x02\x00\x01\x00", b"400 Bad Request", id="TLS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"400 Bad Request", id="HTTP/2"),
        pytest.param(b"nonsense\r\n\r\n", b"400 Bad Request", id="nonsense"),
        pytest.param(
            b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", b"400 Bad Request", id="two lengths"
        ),
        pytest.param(
            b"GET / HTTP/1.1\r\nX: " + b"x" * 200_000, b"431 Request Header Fields Too Large", id="a head without end"
        ),
    ],
)
async def test_bad_requests_are_refused(request_: bytes, status: bytes) -> None:
    async with serving() as (server, port):
        received = await exchange(port, request_)
        assert received.startswith(b"HTTP/1.1 " + status + b"\r\n")
        assert server.connections == set()


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001, id="declared"),
        pytest.param(
            b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n" + b"x" * 1001 + b"\r\n0\r\n\r\n",
            id="chunked",
        ),
    ],
)
async def test_an_oversized_body_is_thrown_away_and_the_connection_closed(request_: bytes) -> None:
    async with serving() as (_, port):
        received = await exchange(port, request_)
    assert bodies(received) == [b"POST /   True"]
    assert b"Connection: close" in received


async def test_an_upgrade_is_not_made() -> None:
    async with serving() as (_, port):
        received = await exchange(port, b"GET /a HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
    assert bodies(received) == [b"GET /a   False"]
    assert b"Connection: close" in received


async def test_an_oversized_body_is_answered_before_it_is_sent() -> None:
    async with serving() as (server, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST / HTTP/1.1\r\nContent-Length: 1000000000000\r\n\r\nstart")
        assert (await asyncio.wait_for(reader.readuntil(b"True"), 10)).startswith(b"HTTP/1.1 200 OK")
        assert len(server.connections) == 1  # What may still come is read, so that no RST overtakes the answer.
        writer.close()


async def test_an_idle_connection_is_closed() -> None:
    async with serving(idle_timeout_s=0.05) as (_, port):
        received = await exchange(port, b"GET / HTTP/1.1\r\n\r\n")
        assert bodies(received) == [b"GET /   False"]
        assert await exchange(port, b"") == b""


async def test_a_handler_that_fails_costs_the_connection_and_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def fail(request: Request, reply: Reply) -> None:
        raise KeyError("x")

    async with serving(fail) as (_, port):
        with pytest.raises(ConnectionResetError):
            await exchange(port, b"GET / HTTP/1.1\r\n\r\n")
    assert [(record.levelno, record.message) for record in caplog.records] == [(logging.ERROR, "a handler failed")]


async def test_an_answer_that_is_not_finished_ends_in_a_reset() -> None:
    async def half(request: Request, reply: Reply) -> None:
        reply.start(200, [], length=None)

    async with serving(half) as (_, port):
        with pytest.raises(ConnectionResetError):
            await exchange(port, b"GET / HTTP/1.1\r\n\r\n")


async def test_a_client_that_leaves_cancels_its_call() -> None:
    cancelled, started = asyncio.Event(), asyncio.Event()
    left: list[float | None] = []

    async def wait(request: Request, reply: Reply) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            left.append(reply.client_left_at)
            cancelled.set()

    async with serving(wait) as (server, port):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await asyncio.wait_for(started.wait(), 5)
        writer.close()
        await asyncio.wait_for(cancelled.wait(), 5)
        assert left[0] is not None
        assert server.connections == set()


async def test_a_slow_reader_holds_up_the_writer() -> None:
    written = 0
    blocked = asyncio.Event()

    async def flood(request: Request, reply: Reply) -> None:
        nonlocal written
        reply.start(200, [], length=None)
        for _ in range(1000):
            asyncio.get_running_loop().call_soon(blocked.set)
            await reply.write(b"x" * 65_536)
            blocked.clear()
            written += 1
        reply.end()

    async with serving(flood) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n" + CLOSE)
        await reader.readexactly(1)
        await asyncio.wait_for(blocked.wait(), 5)
        before = written
        assert before < 1000
        received = await asyncio.wait_for(reader.read(), 20)
        assert len(received) > 1000 * 65_536
        assert written == 1000
        writer.close()


async def test_closing_the_server_ends_running_calls() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def wait(request: Request, reply: Reply) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with serving(wait) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await asyncio.wait_for(started.wait(), 5)
    assert ended.is_set()
    assert await reader.read() == b""
    writer.close()
