"""Pooled HTTP/1.1 connections to the upstream, without a task or a queue per request.

A request is one write; what comes back is handed to a `Sink` as it arrives, joined per read. A connection whose reply
was read to its end goes back to the pool; any other end closes it. There is no cap on their number: SageMaker's own
quotas, and the limits in front of this, decide how many calls run.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import Protocol, cast

import httptools

READ_BYTES = 64 * 1024
# What is read is consumed before the loop goes on, so all connections share one buffer; and as a read brings no more
# than this, a caller who stops reading is never owed more than this beyond what the flow control already counts.
_READ_BUFFER = memoryview(bytearray(READ_BYTES))

MAX_HEAD_BYTES = 64 * 1024
"""Reads that bring so much and still no end of the reply's head end the exchange."""
STALE_WITHIN_S = 2.0
"""A connection that was closed before the request went out says so within a round trip. Later, the request was lost
in another way, and may have been at work."""


class ConnectFailed(Exception):
    """No connection could be made: refused, unreachable, no such host, or no answer in time."""


class TlsFailed(Exception):
    """The upstream's certificate cannot be trusted, or it does not speak TLS."""


class ConnectionDropped(Exception):
    """The connection ended before the reply did."""

    def __init__(self, message: str, *, began: bool, stale: bool) -> None:
        super().__init__(message)
        self.began = began
        """Something of the reply had arrived."""
        self.stale = stale
        """It had been closed while it was idle, before the request reached anyone."""


class BadReply(Exception):
    """The bytes are not an HTTP/1.1 reply."""


class _Unasked(Exception):
    """Another reply follows the one that was asked for."""


class Sink(Protocol):
    """Receives one reply. After `on_end` or `on_error` nothing more is called."""

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        """The status and headers, names in lower case."""

    def on_body(self, data: bytes) -> None:
        """Body bytes, joined per read; never empty."""

    def on_end(self) -> None:
        """The reply is complete."""

    def on_error(self, error: Exception) -> None:
        """ConnectionDropped or BadReply."""


class Connection(asyncio.BufferedProtocol):
    """One upstream connection, serving one request at a time."""

    __slots__ = (
        "_began",
        "_body",
        "_complete",
        "_head_bytes",
        "_headers",
        "_heard",
        "_keep",
        "_parser",
        "_paused",
        "_reused",
        "_sent_at",
        "_sink",
        "_sized",
        "_transport",
        "idle_since",
        "loop",
        "origin",
    )

    _transport: asyncio.Transport
    _parser: httptools.HttpResponseParser

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        # Asked once: asking for the running loop costs a system call each time.
        self.loop = asyncio.get_running_loop()
        self.idle_since = 0.0
        self._sink: Sink | None = None
        self._body: list[bytes] = []
        self._reused = False
        self._keep = False
        self._sized = False
        self._paused = False

    def send(self, head: bytes, body: bytes, sink: Sink) -> None:
        """Write a request; its reply goes to `sink`."""
        self._parser = httptools.HttpResponseParser(self)
        self._sink = sink
        self._headers: list[tuple[bytes, bytes]] = []
        self._head_bytes = 0
        self._heard = False
        self._began = False
        self._complete = False
        self._sent_at = self.loop.time()
        # One write: a small body in the same segment as the head; a large one is copied once.
        self._transport.write(head + body)

    def abort(self) -> None:
        """Drop the connection at once, with whatever is in flight; the sink hears nothing more."""
        self._sink = None
        self._transport.abort()

    def pause(self) -> None:
        """Stop reading from the socket, until `resume` or the reply's end: back-pressure reaches the upstream."""
        if not self._transport.is_closing():
            self._paused = True
            self._transport.pause_reading()

    def resume(self) -> None:
        if not self._transport.is_closing():
            self._paused = False
            self._transport.resume_reading()

    @property
    def usable(self) -> bool:
        return not self._transport.is_closing()

    def close(self) -> None:
        """Close an idle connection."""
        self._transport.close()

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return _READ_BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        sink = self._sink
        if sink is None:  # bytes nobody asked for
            self._transport.abort()
            return
        self._heard = True
        broken = None
        try:
            self._parser.feed_data(_READ_BUFFER[:nbytes])
        except httptools.HttpParserError as error:
            broken = str(error)
        except httptools.HttpParserUpgrade:
            broken = "unexpected upgrade"
        if self._body and self._sink is sink:
            body = self._body
            chunk = body[0] if len(body) == 1 else b"".join(body)
            self._body = []
            sink.on_body(chunk)
        if self._sink is not sink:
            return
        if self._complete:
            # Bytes behind the reply nobody asked for: it is good, but what they answer is not the next request.
            self._keep = self._keep and broken is None
            self._finish(sink)
        elif broken is not None:
            self._fail(BadReply(broken))
        elif not self._began:
            self._head_bytes += nbytes
            if self._head_bytes > MAX_HEAD_BYTES:
                self._fail(BadReply("no end of the head"))

    def eof_received(self) -> None:
        return None

    def connection_lost(self, exc: Exception | None) -> None:
        sink, self._sink = self._sink, None
        self._parser = None  # type: ignore[assignment]  # it refers back to this connection, whose work is done
        self.origin.forget(self)
        if sink is None:
            return
        if self._began and not self._sized and exc is None:  # a reply without a length ends with its connection
            sink.on_end()
            return
        soon = self.loop.time() - self._sent_at < STALE_WITHIN_S
        stale = self._reused and not self._heard and soon
        sink.on_error(ConnectionDropped("the upstream closed the connection", began=self._heard, stale=stale))

    # httptools

    def on_message_begin(self) -> None:
        if self._complete:
            raise _Unasked  # ends the parsing

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._began:  # else a trailer
            self._headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:  # 100 Continue and the like: the real head follows
            self._headers = []
            return
        self._began = True
        headers, self._headers = self._headers, []
        self._sized = any(name in (b"content-length", b"transfer-encoding") for name, _ in headers)
        if self._sink is not None:
            self._sink.on_head(status, headers)

    def on_body(self, body: bytes) -> None:
        self._body.append(body)

    def on_message_complete(self) -> None:
        if self._began:
            self._complete = True
            self._keep = self._parser.should_keep_alive()  # the parser knows only until it has left this message

    # Ends

    def _finish(self, sink: Sink) -> None:
        self._sink = None
        if self._keep and not self._transport.is_closing():
            if self._paused:  # by the reply's last bytes: the next one is another caller's
                self.resume()
            self._reused = True
            self.origin.release(self)
        else:
            self._transport.close()
        sink.on_end()

    def _fail(self, error: Exception) -> None:
        sink, self._sink = self._sink, None
        self._transport.abort()
        if sink is not None:
            sink.on_error(error)


class Origin:
    """One upstream address and its idle connections."""

    def __init__(self, scheme: str, host: str, port: int, *, ssl_context: ssl.SSLContext | None, idle_s: float) -> None:
        self.host = host
        self.port = port
        default = 443 if scheme == "https" else 80
        name = f"[{host}]" if ":" in host else host
        self.authority = name if port == default else f"{name}:{port}"
        """The Host header's value."""
        self._ssl = ssl_context if scheme == "https" else None
        self._idle_s = idle_s
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None

    @property
    def open_connections(self) -> int:
        return len(self._all)

    def take(self) -> Connection | None:
        """Return an idle connection, the most recently used, or None."""
        idle = self._idle
        if not idle:
            return None
        now = idle[-1].loop.time()
        while idle:
            connection = idle.pop()
            if connection.usable and now - connection.idle_since < self._idle_s:
                return connection
            connection.close()
        return None

    async def connect(self, timeout_s: float) -> Connection:
        """Open a connection.

        Raises:
            ConnectFailed: refused, unreachable, unknown host, or `timeout_s` has passed.
            TlsFailed: the handshake failed.
        """
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(self),
                    self.host,
                    self.port,
                    ssl=self._ssl,
                    server_hostname=self.host if self._ssl else None,
                )
        except ssl.SSLError as error:
            raise TlsFailed(getattr(error, "verify_message", None) or error.reason or type(error).__name__) from error
        except (OSError, TimeoutError, UnicodeError) as error:
            raise ConnectFailed(type(error).__name__) from error
        self._all.add(connection)
        return connection

    def release(self, connection: Connection) -> None:
        loop = connection.loop
        connection.idle_since = loop.time()
        self._idle.append(connection)
        if self._sweeper is None:
            self._sweeper = loop.call_later(self._idle_s, self._sweep)

    def forget(self, connection: Connection) -> None:
        self._all.discard(connection)

    def close(self) -> None:
        """Drop every connection."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        self._idle.clear()
        for connection in list(self._all):
            connection.abort()

    def _sweep(self) -> None:
        """Close what has been idle too long; the oldest stand first."""
        loop = asyncio.get_running_loop()
        self._sweeper = None
        oldest = loop.time() - self._idle_s
        kept = [connection for connection in self._idle if connection.idle_since > oldest]
        for connection in self._idle:
            if connection.idle_since <= oldest:
                connection.close()
        self._idle = [connection for connection in kept if connection.usable]
        if self._idle:
            self._sweeper = loop.call_later(max(self._idle[0].idle_since - oldest, 1.0), self._sweep)
