"""A small HTTP/1.1 server whose answers can be broken on purpose.

Web frameworks mend what a handler gets wrong: they finish chunks, match lengths, close politely. Here a handler owns
the connection while it answers, so it can also stop in mid-chunk, reset, or leave a connection to go stale.
https://www.rfc-editor.org/rfc/rfc9112
"""

from __future__ import annotations

import asyncio
import http
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable
from typing import cast

import httptools

from deploy.local.httpreply import Reply, Request, Then, set_reset_on_close, unacknowledged_bytes

log = logging.getLogger(__name__)

MAX_HEAD_BYTES = 128 * 1024
MAX_PIPELINED = 16
LINGER_S = 5.0
"""How long a refused, oversized body is still read, so that its sender gets to read the refusal."""
DELIVERY_S = 2.0
"""How long a reset waits for what was written before it to reach the peer."""
Handler = Callable[[Request, Reply], Awaitable[None]]


class HttpServer:
    """Listens, and calls `handler` once for each request; a client that leaves cancels the call."""

    def __init__(self, handler: Handler, *, max_body_bytes: int, idle_timeout_s: float) -> None:
        self.handler = handler
        self.max_body_bytes = max_body_bytes
        self.idle_timeout_s = idle_timeout_s
        self.connections: set[Connection] = set()
        self.accepted = 0
        self._server: asyncio.Server | None = None
        self.closed = False

    async def start(self, host: str, port: int) -> int:
        """Listen and return the port.

        Raises:
            OSError: the address is taken or not of this machine.
        """
        loop = asyncio.get_running_loop()
        self.closed = False
        self._server = await loop.create_server(lambda: Connection(self), host, port, backlog=2048)
        address = self._server.sockets[0].getsockname()
        return int(address[1])

    async def aclose(self) -> None:
        """Stop listening, cut every connection and wait for the calls on them to end."""
        self.closed = True
        if self._server is not None:
            self._server.close()
        tasks = [task for connection in list(self.connections) if (task := connection.abort()) is not None]
        if tasks:
            await asyncio.wait(tasks, timeout=LINGER_S)


class Connection(asyncio.Protocol):
    """One client's connection: requests in, one at a time to the handler, in order."""

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._waiting: deque[tuple[Request, bool]] = deque()
        self._task: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._then: Then = "keep"
        self._expects_end = False
        """The answer is out, but the rest of an oversized body is still coming in."""
        self._head_bytes = 0
        self._reset_request()
        self.transport: asyncio.Transport
        self.is_control = False
        """The connection served the control route, so it is none of the clients under test."""
        self.ours = False
        """The server ended the connection, so its end is no hang-up."""
        self.lost_at: float | None = None
        """When the client left, on the monotonic clock (a loop's own may be coarser)."""

    # --- asyncio.Protocol ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        if self._server.closed:
            self.abort()
            return
        self._server.connections.add(self)
        self._server.accepted += 1
        self._arm(self._server.idle_timeout_s)

    def data_received(self, data: bytes) -> None:
        if self._then in ("close on next", "reset on next"):
            self._leave(reset=self._then == "reset on next")
            return
        self._disarm()
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            return  # The request is answered as if it had not asked to upgrade, and the connection closed.
        except httptools.HttpParserError:
            self._refuse(400)
            return
        self._head_bytes = self._head_bytes + len(data) if self._in_head else 0
        if self._head_bytes > MAX_HEAD_BYTES:
            self._refuse(431)
        elif self._task is None and not self.transport.is_closing():
            self._arm(self._server.idle_timeout_s)

    def eof_received(self) -> bool:
        # A client of this service that stops sending has left; waiting for its RST would cost a write.
        return False

    def pause_writing(self) -> None:
        self._writable = self._loop.create_future()

    def resume_writing(self) -> None:
        waiter, self._writable = self._writable, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._disarm()
        self._waiting.clear()
        self.resume_writing()
        if not self.ours:
            self.lost_at = time.monotonic()
            if self._task is not None:
                self._task.cancel()

    # --- httptools callbacks ---

    def on_message_begin(self) -> None:
        self._reset_request()
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._headers.append((name.decode("latin-1").lower(), value.decode("latin-1")))

    def on_headers_complete(self) -> None:
        self._in_head = False
        headers = dict(self._headers)
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._server.max_body_bytes:
            self._dispatch(oversized=True)
        elif headers.get("expect", "").lower() == "100-continue":
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def on_body(self, body: bytes) -> None:
        if self._dispatched:
            return
        self._body.append(body)
        self._body_bytes += len(body)
        if self._body_bytes > self._server.max_body_bytes:
            self._dispatch(oversized=True)

    def on_message_complete(self) -> None:
        self._complete = True
        if not self._dispatched:
            self._dispatch(oversized=False)
        elif self._expects_end:
            self._leave()

    # --- calls ---

    def _reset_request(self) -> None:
        self._target = b""
        self._headers: list[tuple[str, str]] = []
        self._body: list[bytes] = []
        self._body_bytes = 0
        self._in_head = self._dispatched = self._complete = False

    def _dispatch(self, *, oversized: bool) -> None:
        self._dispatched = True
        peer = self.transport.get_extra_info("peername") or ("",)
        request = Request(
            method=self._parser.get_method().decode("latin-1"),
            target=self._target.decode("latin-1"),
            headers=tuple(self._headers),
            body=b"" if oversized else b"".join(self._body),
            oversized=oversized,
            peer=str(peer[0]),
        )
        self._body = []
        keep_alive = self._parser.should_keep_alive() and not self._parser.should_upgrade() and not oversized
        self._waiting.append((request, keep_alive))
        if len(self._waiting) >= MAX_PIPELINED:
            self.transport.pause_reading()
        self._next()

    def _next(self) -> None:
        if self._task is None and self._waiting and not self.transport.is_closing():
            request, keep_alive = self._waiting.popleft()
            self._task = self._loop.create_task(self._call(request, Reply(self, keep_alive=keep_alive)))

    async def _call(self, request: Request, reply: Reply) -> None:
        try:
            await self._server.handler(request, reply)
        except ConnectionError:
            self.transport.abort()
        except Exception:
            log.exception("a handler failed")
            self._leave(reset=True)
        finally:
            self._task = None
        if self.transport.is_closing():
            return
        if not reply.finished:
            self._leave(reset=True)
            return
        self._then = reply.then
        if reply.then == "close" or not reply.keep_alive:
            self._close_when_read()
            return
        if len(self._waiting) < MAX_PIPELINED:
            self.transport.resume_reading()
        self._arm(self._server.idle_timeout_s)
        self._next()

    def _close_when_read(self) -> None:
        # Closing with unread bytes resets the connection, and the client may lose the answer.
        if self._complete or not self._dispatched:
            self._leave()
        else:
            self._expects_end = True
            self._arm(LINGER_S)

    def _refuse(self, status: int) -> None:
        if self._task is None:
            reason = http.HTTPStatus(status).phrase
            self.transport.write(
                f"HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode()
            )
        self._leave()

    def mark_control(self) -> None:
        """Count this connection as none of the clients under test."""
        if not self.is_control:
            self.is_control = True
            self._server.accepted -= 1

    # --- ending ---

    def abort(self) -> asyncio.Task[None] | None:
        """Cut the connection; return the call that was running on it, cancelled."""
        self.ours = True
        self.transport.abort()
        if self._task is not None:
            self._task.cancel()
        return self._task

    def _leave(self, *, reset: bool = False) -> None:
        self.ours = True
        self._disarm()
        if reset:
            set_reset_on_close(self.transport)
            self.transport.abort()
        else:
            self.transport.close()

    def _arm(self, delay_s: float) -> None:
        self._disarm()
        self._timer = self._loop.call_later(delay_s, self._leave)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def drain(self) -> None:
        """Wait until the client has taken enough for more to be written."""
        if self._writable is not None:
            await asyncio.shield(self._writable)

    async def delivered(self) -> None:
        """Wait until the client's machine has acknowledged all that was written, at most DELIVERY_S."""
        deadline = self._loop.time() + DELIVERY_S
        while not self.transport.is_closing() and unacknowledged_bytes(self.transport):
            if self._loop.time() > deadline:
                return
            await asyncio.sleep(0.001)

    def end(self, *, reset: bool) -> None:
        """End the connection from this side: FIN after what was written, or RST."""
        self._leave(reset=reset)
