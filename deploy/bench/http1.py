"""HTTP/1.1 for many paced streams at once: a connection is an asyncio protocol on httptools' parser, with no task.

An exchange ends in a future; the pieces of its answer are handed to its Answer where they arrive, with the time.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from typing import cast
from urllib.parse import urlsplit

import httptools

from deploy.bench.answers import Answer

Clock = Callable[[], float]


class Exchange:
    """One request and its answer."""

    __slots__ = ("activity", "answer", "answered", "began", "connection", "ended", "future")

    def __init__(self, answer: Answer, began: float, future: asyncio.Future[None]) -> None:
        self.answer, self.began, self.future = answer, began, future
        self.activity = began
        """When bytes last came, or the exchange began."""
        self.answered = False
        """A byte of the answer has come."""
        self.ended = began
        self.connection: Connection | None = None

    def finish(self, now: float) -> None:
        """The answer has ended by HTTP."""
        if not self.future.done():
            self.ended = now
            self.answer.ended(now)
            self.future.set_result(None)

    def fail(self, kind: str, now: float) -> None:
        """End the exchange with this error, unless it has one; its connection is no longer of use."""
        if not self.future.done():
            self.ended = now
            self.answer.error = self.answer.error or kind
            self.future.set_result(None)
        if self.connection is not None:
            self.connection.close()


class Connection(asyncio.Protocol):
    """A connection that is kept alive: one exchange at a time."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._exchange: Exchange | None = None
        self._transport: asyncio.Transport | None = None
        self.usable = False
        self.used = False

    def send(self, request: bytes, exchange: Exchange) -> None:
        """Write a request; its exchange ends by itself."""
        assert self._transport is not None  # noqa: S101 - asyncio calls connection_made before it hands this out
        self._parser = httptools.HttpResponseParser(self)
        self._exchange = exchange
        self._sized = False
        self._headers_done = False
        exchange.connection = self
        self._transport.write(request)

    def close(self) -> None:
        self.usable = False
        if self._transport is not None:
            self._transport.abort()

    # --- asyncio ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self.usable = True

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:
            self.close()  # nobody asked
            return
        self._now = exchange.activity = self._clock()
        exchange.answered = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            exchange.fail("malformed_http", self._now)
            return
        if exchange.answer.error is not None:
            exchange.fail(exchange.answer.error, self._now)

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, error: Exception | None) -> None:
        self.usable = False
        exchange, self._exchange = self._exchange, None
        if exchange is None or exchange.future.done():
            return
        now = self._clock()
        if self._headers_done and not self._sized and error is None:
            exchange.finish(now)  # a body without a length ends where the connection does
        else:
            exchange.fail("stream_cut" if self._headers_done else "connection_closed", now)

    # --- httptools ---

    def on_status(self, _: bytes) -> None:
        if self._exchange is not None:
            self._exchange.answer.status = self._parser.get_status_code()

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._sized = True
        elif name == b"x-amzn-errortype" and self._exchange is not None:
            self._exchange.answer.amz_error = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        self._headers_done = self._parser.get_status_code() >= 200
        if self._exchange is not None:
            self._exchange.answer.status = self._parser.get_status_code()  # an empty reason calls no on_status

    def on_body(self, body: bytes) -> None:
        if self._exchange is not None:
            self._exchange.answer.feed(body, self._now)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if not self._headers_done or exchange is None:
            return  # an interim answer, 1xx
        self._exchange = None
        if not self._parser.should_keep_alive():
            self.close()
        exchange.finish(self._now)


class Pool:
    """Connections to one origin, the last used first; addresses of its host are taken in turn."""

    def __init__(self, origin: str, clock: Clock, *, tls: ssl.SSLContext | None, connect_timeout_s: float) -> None:
        parts = urlsplit(origin)
        self._host, self._tls = parts.hostname or "", tls if parts.scheme == "https" else None
        self._port = parts.port or (443 if self._tls else 80)
        self._clock, self._timeout_s = clock, connect_timeout_s
        self._idle: list[Connection] = []
        self._addresses: list[tuple[int, str]] = []

    async def resolve(self) -> None:
        """Look the host up, so that no call pays for it.

        Raises:
            OSError: it has no address.
        """
        found = await asyncio.get_running_loop().getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM)
        self._addresses = list(dict.fromkeys((family, str(where[0])) for family, _, _, _, where in found))

    async def take(self, *, fresh: bool = False) -> Connection:
        """Return a connection that is open as far as is known.

        Raises:
            OSError, TimeoutError: there is no connecting.
        """
        while self._idle and not fresh:
            connection = self._idle.pop()
            if connection.usable:
                connection.used = True
                return connection
        if not self._addresses:
            await self.resolve()
        async with asyncio.timeout(self._timeout_s):
            for last in reversed(range(len(self._addresses))):
                where = self._addresses.pop(0)
                self._addresses.append(where)
                try:
                    return await self._connected(*where)
                except ssl.SSLError:
                    raise
                except OSError:
                    # `localhost` has two addresses on most machines, and servers often listen on one. A host is down
                    # where none of them answers.
                    if not last:
                        raise
        raise OSError("the host has no address")

    async def _connected(self, family: int, address: str) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self._clock),
            address,
            self._port,
            family=family,
            ssl=self._tls,
            server_hostname=self._host if self._tls else None,
        )
        return connection

    def give_back(self, connection: Connection) -> None:
        if connection.usable:
            self._idle.append(connection)

    async def aclose(self) -> None:
        for connection in self._idle:
            connection.close()
        self._idle.clear()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0)  # so that aborted transports are let go of
