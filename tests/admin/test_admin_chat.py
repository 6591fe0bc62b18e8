"""POST /console/api/chat: what goes on to the gateway, what comes back, and what a page that leaves puts an end to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from gateway.admin.server import AdminServer
from gateway.auth.keys import digest, new_key
from gateway.config.load import parse
from gateway.http.inside import Inside

pytestmark = pytest.mark.anyio
ADMIN, KEY = new_key(), new_key()
HEADERS = {"authorization": f"Bearer {ADMIN}", "x-console-key": KEY, "content-type": "application/json"}
BOUND_S = 10
Answering = Callable[["Upstream", asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Upstream:
    """What stands in for the gateway's own port, and what has come there."""

    url: str = ""
    heads: list[str] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    written: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)
    gone: asyncio.Event = field(default_factory=asyncio.Event)


async def whole(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(
        b"HTTP/1.1 429 Too Many Requests\r\ncontent-type: application/json\r\nretry-after: 3\r\n"
        b"x-request-id: req_1\r\nx-ratelimit-limit-requests: 5\r\nserver-timing: gateway;dur=1\r\n"
        b"set-cookie: a=b\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 2\r\n\r\n{}"
    )
    await writer.drain()


async def endless(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Write an answer as fast as it is taken, until the other end leaves."""
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    event = b"data: " + b"x" * 8192 + b"\n\n"
    try:
        while True:
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))
            await writer.drain()
            upstream.written += len(event)
    except OSError:
        upstream.gone.set()


async def broken(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
    writer.write(b"5\r\ndata:\r\n")
    await writer.drain()


async def silent(upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()
    upstream.gone.set()


@asynccontextmanager
async def standing(answer: Answering) -> AsyncIterator[tuple[Upstream, httpx.AsyncClient]]:
    """Start an upstream, and an administration of a gateway that seems to listen there."""
    upstream = Upstream()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            upstream.heads.append(head)
            length = next(line.split(": ")[1] for line in head.split("\r\n") if line.lower().startswith("content-len"))
            upstream.bodies.append(await reader.readexactly(int(length)))
            upstream.asked.set()
            await answer(upstream, reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    upstream.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    with administration(upstream.url) as url:
        async with httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=BOUND_S) as client:
            yield upstream, client
    server.close()


class administration:  # noqa: N801 - a context manager, as a function would be
    def __init__(self, gateway: str) -> None:
        text = f"""
settings: {{admin_port: 0, admin_key_digest: '{digest(ADMIN)}', max_body_bytes: 4096}}
models: [{{name: llama, deployments: [{{endpoint: e, region: us-east-1, container: lmi, version: 27}}]}}]
"""
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.setblocking(False)
        self._server = AdminServer(parse(text.encode(), "gateway.yaml", {}), self._listener, Inside(gateway))

    def __enter__(self) -> str:
        self._server.start()
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self._server.stop()


PATH = "/console/api/chat"


async def test_the_callers_key_goes_on_and_the_administrations_does_not() -> None:
    async with standing(whole) as (upstream, client):
        more = {"cookie": "a=b", "x-forwarded-for": "1.2.3.4", "x-api-key": ADMIN, "x-console-path": "/admin/keys"}
        await client.post(f"{PATH}?model=x", content=b'{"model": "llama"}', headers=more)
    (head,) = upstream.heads
    lines = head.lower().split("\r\n")
    assert lines[0] == "post /v1/chat/completions http/1.1"
    assert f"authorization: bearer {KEY}".lower() in lines
    assert ADMIN not in head
    assert not [line for line in lines if line.startswith(("cookie", "x-"))]
    assert upstream.bodies == [b'{"model": "llama"}']


async def test_the_answer_comes_back_with_what_the_page_shows() -> None:
    async with standing(whole) as (_, client):
        answer = await client.post(PATH, content=b"{}")
    assert (answer.status_code, answer.content) == (429, b"{}")
    assert answer.headers["retry-after"] == "3"
    assert answer.headers["server-timing"] == "gateway;dur=1"
    assert (answer.headers["x-request-id"], answer.headers["x-ratelimit-limit-requests"]) == ("req_1", "5")
    assert answer.headers["cache-control"] == "no-store"
    assert not {"set-cookie", "location"} & set(answer.headers)


async def test_without_a_key_the_gateway_is_asked_without_one() -> None:
    async with standing(whole) as (upstream, client):
        del client.headers["x-console-key"]
        await client.post(PATH, content=b"{}")
    assert "authorization" not in upstream.heads[0].lower()


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS"])
async def test_it_answers_post_only(method: str) -> None:
    async with standing(whole) as (upstream, client):
        answer = await client.request(method, PATH)
    assert (answer.status_code, upstream.heads) == (405, [])


@pytest.mark.parametrize("path", [f"{PATH}/models", f"{PATH}/../../../v1/models", "/console/api/models", "/v1/models"])
async def test_no_other_path_of_the_gateway_is_reached(path: str) -> None:
    async with standing(whole) as (upstream, client):
        answer = await client.post(path, content=b"{}")
    assert (answer.status_code, upstream.heads) == (404, [])


async def test_a_body_has_a_limit() -> None:
    async with standing(whole) as (upstream, client):
        answer = await client.post(PATH, content=b"x" * 4097)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
        assert upstream.heads == []
        assert (await client.post(PATH, content=b"x" * 4096)).status_code == 429


async def test_a_gateway_that_does_not_answer_is_told() -> None:
    with administration("http://127.0.0.1:1") as url:
        async with httpx.AsyncClient(base_url=url, headers=HEADERS, timeout=BOUND_S) as client:
            answer = await client.post(PATH, content=b"{}")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "gateway_busy")


async def test_a_page_that_reads_nothing_holds_the_answer_up_and_leaving_ends_it() -> None:
    async with standing(endless) as (upstream, client):
        async with client.stream("POST", PATH, content=b"{}") as answer:
            assert (await anext(answer.aiter_raw()))[:6] == b"data: "
            before = -1
            async with asyncio.timeout(BOUND_S):
                while before != upstream.written:  # until all buffers on the way are full
                    before = upstream.written
                    await asyncio.sleep(0.3)
            assert upstream.written < 64 << 20
        async with asyncio.timeout(BOUND_S):
            await upstream.gone.wait()


async def test_a_page_that_leaves_before_the_answer_ends_the_call() -> None:
    async with standing(silent) as (upstream, client):
        asking = asyncio.create_task(client.post(PATH, content=b"{}"))
        async with asyncio.timeout(BOUND_S):
            await upstream.asked.wait()
        asking.cancel()
        async with asyncio.timeout(BOUND_S):
            await upstream.gone.wait()


async def test_an_answer_without_its_end_is_seen_to_be_broken() -> None:
    async with standing(broken) as (_, client):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(PATH, content=b"{}")


async def test_no_key_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    async with standing(broken) as (_, client):
        with pytest.raises(httpx.RemoteProtocolError):
            await client.post(PATH, content=b'{"secret": "words"}')
    said: list[Any] = [vars(record) for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert said
    assert not [each for each in said if KEY in str(each) or ADMIN in str(each) or "words" in str(each)]
