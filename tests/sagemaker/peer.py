"""A peer on a real socket whose every connection plays a script, for what no honest server would do."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self, TypeVar, cast

import pytest

from gateway.sagemaker.http1 import Connection, Origin

T = TypeVar("T")
BOUND_S = 10.0
"""No test waits longer for anything."""


HEAD = b"POST /x HTTP/1.1\r\nhost: peer\r\ncontent-length: 2\r\n\r\n"
BODY = b"{}"


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """The gateway runs on uvloop, embedded it may run on asyncio's own loop: sockets behave a little differently."""
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


@dataclass(frozen=True, slots=True)
class Request:
    line: str
    headers: dict[str, str]
    """Names in lower case."""
    body: bytes
    connection: int
    """1 for the first connection that was accepted."""


class PeerConnection:
    """One accepted connection."""

    def __init__(self, peer: Peer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int) -> None:
        self._peer, self._reader, self._writer = peer, reader, writer
        self.number = number

    async def request(self) -> Request:
        """Read one request, or raise IncompleteReadError if the other side has closed."""
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        assert len(headers) == len(lines), "a header came twice"
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        request = Request(line, headers, body, self.number)
        self._peer.requests.append(request)
        self._peer.changed.set()
        return request

    async def send(self, *pieces: bytes) -> None:
        """Send pieces one by one, each on its way before the next."""
        for piece in pieces:
            self._writer.write(piece)
            await self._writer.drain()

    async def gone(self) -> bytes:
        """Return what still came once the other side has closed, in whichever way."""
        try:
            return await self._reader.read()
        except ConnectionResetError:
            return b""

    def close(self) -> None:
        """Close with FIN."""
        self._writer.close()

    def half_close(self) -> None:
        """Send FIN, and go on reading."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Close with RST."""
        # By a second descriptor, as uvloop's own object does not let options be set.
        with socket.socket(fileno=os.dup(self._writer.get_extra_info("socket").fileno())) as same:
            same.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._writer.transport.abort()


Script = Callable[[PeerConnection], Awaitable[object]]


class Peer:
    """Listens on a free port and runs `script` for each connection. Leaving raises what a script raised."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None) -> None:
        self._script, self._tls = script, tls
        self.accepted = 0
        self.requests: list[Request] = []
        self.changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._failures: list[Exception] = []
        self._server: asyncio.Server
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks)
        for writer in self._writers:
            writer.close()
        if self._failures:
            raise self._failures[0]

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def origin(self, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None, idle_s: float = 60.0) -> Origin:
        """Return a pool of connections to this peer."""
        return Origin("https" if tls else "http", host, self.port, ssl_context=tls, idle_s=idle_s)

    async def request_arrived(self, count: int) -> Request:
        """Return request number `count` once it is there."""
        async with asyncio.timeout(BOUND_S):
            while len(self.requests) < count:
                self.changed.clear()
                await self.changed.wait()
        return self.requests[count - 1]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        task = cast("asyncio.Task[None]", asyncio.current_task())
        self._tasks.append(task)
        self._writers.append(writer)
        try:
            async with asyncio.timeout(BOUND_S):
                await self._script(PeerConnection(self, reader, writer, self.accepted))
        except (asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            pass  # the other side has left, or the test is over
        except Exception as error:
            self._failures.append(error)


def reply(body: bytes = b"", *headers: str, status: str = "200 OK", length: int | None = None) -> bytes:
    """Return an HTTP/1.1 reply with a content-length."""
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body) if length is None else length}"]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def chunked(*chunks: bytes, headers: tuple[str, ...] = (), end: bool = True, status: str = "200 OK") -> bytes:
    """Return an HTTP/1.1 reply in chunks."""
    lines = [f"HTTP/1.1 {status}", *headers, "Transfer-Encoding: chunked"]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + b"".join(map(chunk, chunks)) + (b"0\r\n\r\n" if end else b"")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


async def within(wanted: Awaitable[T], timeout_s: float = BOUND_S) -> T:
    """Await something that must happen soon."""
    async with asyncio.timeout(timeout_s):
        return await wanted


async def until(holds: Callable[[], bool]) -> None:
    """Let the loop turn until something holds that no event tells of."""
    async with asyncio.timeout(BOUND_S):
        while not holds():  # noqa: ASYNC110 - what is waited for happens inside the code under test
            await asyncio.sleep(0.001)


async def settled() -> None:
    """Give whatever is still to happen the time to happen."""
    for _ in range(20):
        await asyncio.sleep(0.001)


async def greets(peer: PeerConnection) -> None:
    while True:
        await peer.request()
        await peer.send(reply(b"%d" % peer.number))


class Ear:
    """A sink that writes down what it hears, and objects to anything after the end."""

    def __init__(self, then: Callable[[bytes], None] | None = None) -> None:
        self.heads: list[tuple[int, dict[bytes, bytes]]] = []
        self.pieces: list[bytes] = []
        self.ended = False
        self.error: Exception | None = None
        self.over = asyncio.Event()
        self.reading = asyncio.Event()
        self._then = then

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def status(self) -> int | None:
        return self.heads[0][0] if len(self.heads) == 1 else None

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        assert not self.over.is_set()
        self.heads.append((status, dict(headers)))

    def on_body(self, data: bytes) -> None:
        assert data
        assert not self.over.is_set()
        self.pieces.append(data)
        self.reading.set()
        if self._then is not None:
            self._then(data)

    def on_end(self) -> None:
        assert not self.over.is_set()
        self.ended = True
        self.over.set()

    def on_error(self, error: Exception) -> None:
        assert not self.over.is_set()
        self.error = error
        self.over.set()


async def ask(origin: Origin, ear: Ear | None = None) -> tuple[Connection, Ear]:
    """Send a request over a pooled connection or a new one."""
    ear = ear or Ear()
    connection = origin.take() or await origin.connect(BOUND_S)
    connection.send(HEAD, BODY, ear)
    return connection, ear


async def asked(origin: Origin) -> Ear:
    """Send a request and return what was heard when it was over."""
    _, ear = await ask(origin)
    await within(ear.over.wait())
    return ear
