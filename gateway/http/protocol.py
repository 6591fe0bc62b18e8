"""The callers' HTTP/1.1 connections: uvicorn's httptools protocol, with the edges a public gateway needs.

Added to uvicorn's: time limits for headers and bodies, OpenAI's envelope for requests that are no HTTP, a half-closed
caller still gets its answer, a caller who left is noticed at once, and answers written in one piece without the ASGI
message dance, which on the hot routes costs more than the answer itself. Litestar's own routes use ASGI as ever.
"""

from __future__ import annotations

import asyncio
import socket
from http import HTTPStatus
from typing import Any, Protocol, cast

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from gateway.errors import GatewayError
from gateway.http.arriving import MAX_PIPELINED, SCOPE_KEY, ArrivingProtocol, Frontend, HotRoute, nothing

__all__ = ["MAX_PIPELINED", "Frontend", "GatewayProtocol", "HotRoute", "Listener", "connection_of", "header_lines"]

PROBE_GAPS_S = tuple(0.02 * 2**n for n in range(8))
"""Between probes; their sum is more than any round trip takes."""
LINGER_S = 1.0
_UNSENT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)  # Linux and macOS


class Listener(Protocol):
    """Whoever answers the current request."""

    def on_gone(self) -> None:
        """The caller has left; nothing more can be written."""

    def on_pause(self) -> None:
        """The caller reads more slowly than we write."""

    def on_resume(self) -> None: ...

    def probe(self) -> None:
        """Write something harmless, if anything may be written now: a caller who left will answer with a reset."""


class GatewayProtocol(ArrivingProtocol):
    """One caller's connection."""

    __slots__ = ("_chunked", "_eof", "_listener", "_unread_timer", "active", "refused")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.active: RequestResponseCycle | None = None
        """The request being answered; with pipelining not the newest one, which is `cycle`."""
        self.refused: GatewayError | None = None
        """What the request being answered was answered with below the application."""
        self._listener: Listener | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._eof = False
        self._chunked = True

    # Who answers

    def listen(self, listener: Listener | None) -> None:
        """Tell `listener` what happens to this connection, until another or None takes its place."""
        self._listener = listener
        if listener is None:
            return
        if self.transport.is_closing() or self._answering().disconnected:
            self.loop.call_soon(self._tell_gone, listener)
        elif self._eof:
            self._probe(0)

    def _tell_gone(self, listener: Listener) -> None:
        if self._listener is listener:
            listener.on_gone()

    @property
    def write_paused(self) -> bool:
        return self.flow.write_paused

    # Answers

    def respond(self, status: int, headers: bytes, body: bytes) -> None:
        """Write a whole answer. `headers` are complete lines; length, date and connection are added."""
        cycle = self._answering()
        close = not cycle.keep_alive or cycle.more_body
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        self.transport.write(
            b"%b%b%bcontent-length: %d\r\n%b\r\n%b"
            % (
                STATUS_LINE[status],
                self._default_headers(),
                headers,
                len(body),
                b"connection: close\r\n" if close else b"",
                b"" if cycle.scope["method"] == "HEAD" else body,
            )
        )
        self._complete(close=close)

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """Like `respond`, if the request can still be answered: its caller may have left, or have been refused."""
        if self.answerable:
            self.respond(status, headers, body)

    @property
    def answerable(self) -> bool:
        """A request is waiting for its answer, and nothing of one has been written."""
        active = self.active
        return not (active is None or active.response_started or active.disconnected or self.transport.is_closing())

    def begin(self, headers: bytes) -> None:
        """Write the head of a streamed 200."""
        cycle = self._answering()
        cycle.response_started = True
        cycle.waiting_for_100_continue = False
        self._chunked = cycle.scope["http_version"] == "1.1"
        if not self._chunked or cycle.more_body:
            cycle.keep_alive = False
        self.transport.write(
            b"%b%b%b%b%b\r\n"
            % (
                STATUS_LINE[200],
                self._default_headers(),
                headers,
                b"transfer-encoding: chunked\r\n" if self._chunked else b"",
                b"" if cycle.keep_alive else b"connection: close\r\n",
            )
        )

    def write(self, data: bytes) -> None:
        """Write a piece of a streamed answer."""
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def finish(self, *, clean: bool = True) -> None:
        """End a streamed answer; one that is not clean is cut, so that no caller takes it for complete."""
        if clean and self._chunked:
            self.transport.write(b"0\r\n\r\n")
        self._complete(close=not clean or not self._answering().keep_alive)

    def cut(self) -> None:
        """Drop the connection at once, unsent bytes included."""
        self.transport.abort()

    def _complete(self, *, close: bool) -> None:
        cycle = self._answering()
        self._listener = None
        cycle.response_complete = True
        cycle.message_event.set()
        if close:
            if cycle.more_body or self._discarding:
                self._linger()
            else:
                self._close()
        cycle.on_response()
        cycle.on_response = nothing

    def _answering(self) -> RequestResponseCycle:
        if self.active is None:
            raise RuntimeError("no request is being answered")
        return self.active

    def _default_headers(self) -> bytes:
        return b"".join([b"%b: %b\r\n" % pair for pair in self.server_state.default_headers])

    def _linger(self) -> None:
        """Close, but read a little of what is still coming: a reset would destroy the answer on its way."""
        self._stop_slow_timer()
        self._discarding = True
        self.pipeline.clear()
        if self.transport.can_write_eof() and not self.transport.is_closing():
            self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(LINGER_S, self._close)

    def _close(self) -> None:
        """Close once everything written has gone out; a caller who does not take it gets no more time than usual."""
        if self.transport.get_write_buffer_size():
            self.loop.call_later(self.frontend.write_timeout_s, self.transport.abort)
        self.transport.close()

    def on_response_complete(self) -> None:
        if self.flow.write_paused and not self.transport.is_closing():
            # The caller does not read its answers: it gets no more of them until it does.
            self.flow.pause_reading()
            self._unread_timer = self.loop.call_later(self.frontend.write_timeout_s, self.transport.abort)
            return
        super().on_response_complete()

    def timeout_keep_alive_handler(self) -> None:
        if self.transport.get_write_buffer_size():
            self.transport.abort()
        else:
            super().timeout_keep_alive_handler()

    # What arrives

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        transport.set_write_buffer_limits(self.frontend.write_buffer_bytes)
        connected = transport.get_extra_info("socket")
        if connected is not None and _UNSENT is not None:
            # What the system holds for a slow caller would else be megabytes, and back-pressure late.
            connected.setsockopt(socket.IPPROTO_TCP, _UNSENT, self.frontend.write_buffer_bytes)
        self.timeout_keep_alive_task = self.loop.call_later(self.timeout_keep_alive, self.timeout_keep_alive_handler)

    def shutdown(self) -> None:
        if self.active is not None and not self.active.response_complete:
            self.active.keep_alive = False
        super().shutdown()
        self.frontend.on_shutdown()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        self.active = cycle
        path = cycle.scope["path"]
        hot = self.frontend.hot_routes.get(path) or self.frontend.below(path)
        if hot is None or app is not self.app:
            super()._start_asgi_task(cycle, app)
            return
        task = self.loop.create_task(hot(cycle.scope, cycle.receive))
        task.add_done_callback(self.tasks.discard)
        self.tasks.add(task)

    def eof_received(self) -> bool | None:  # type: ignore[override]  # asyncio lets it say "keep the writing half"
        active = self.active
        if active is None or active.response_complete or (self._receiving and not self._discarding):
            return None
        if self.cycle.scope["http_version"] != "1.1":
            return None
        # Either the caller has closed its writing half and waits, or it is gone: only writing can tell.
        self._eof = True
        self.cycle.keep_alive = False
        self._probe(0)
        return True

    def _probe(self, number: int) -> None:
        listener = self._listener
        if listener is None or self.transport.is_closing():
            return
        listener.probe()
        if number < len(PROBE_GAPS_S):
            # One write draws the reset, and a later one, a round trip away, notices it.
            self.loop.call_later(PROBE_GAPS_S[number], self._probe, number + 1)

    def interim(self) -> None:
        """Write `100 Continue`, which any HTTP/1.1 client skips; only before the answer has begun."""
        if not self._answering().response_started:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_slow_timer()
        self._stop_unread_timer()
        if self.active is not None and not self.active.response_complete:
            self.active.disconnected = True
        super().connection_lost(exc)
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.on_gone()
        # What refers back to this connection would keep it, and much else, until a full garbage collection.
        self.active = self.cycle = self.scope = None  # type: ignore[assignment]  # uvicorn has no word for "over"

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._listener is not None:
            self._listener.on_pause()

    def resume_writing(self) -> None:
        super().resume_writing()
        if self._listener is not None:
            self._listener.on_resume()
        if self._unread_timer is not None:
            self._stop_unread_timer()
            super().on_response_complete()

    # Refusals below HTTP

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _refuse(self, error: GatewayError) -> None:
        """Answer below the application, if nothing else is being answered, and close."""
        if self.transport.is_closing() or self._discarding:
            return
        active = self.active
        if active is not None and not active.response_complete:
            if self.cycle is not active or self._in_headers:
                # What came after an unanswered request is no request: answer that one, then close.
                active.keep_alive = False
                self._discarding = True
                self.pipeline.clear()
                self._stop_slow_timer()
                return
            if active.response_started:
                self.transport.close()
                return
            self.refused = error
            active.disconnected = True
            active.response_started = active.response_complete = True
            active.message_event.set()
        elif self._receiving and not self._in_headers:
            self._close()  # what is wrong belongs to a request that has had its answer
            return
        body = error.body()
        phrase = HTTPStatus(error.status).phrase
        self.transport.write(
            f"HTTP/1.1 {error.status} {phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n".encode()
            + body
        )
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.on_gone()
        self._linger()


def connection_of(scope: Any) -> GatewayProtocol:
    """Return the connection a request came in on.

    Raises:
        RuntimeError: the application is not served by this protocol.
    """
    connection = scope.get(SCOPE_KEY)
    if connection is None:
        raise RuntimeError("the gateway's routes need its own HTTP protocol: start it with `lmi-gateway serve`")
    return cast("GatewayProtocol", connection)


def header_lines(pairs: list[tuple[str, str]]) -> bytes:
    """Return complete header lines. Values come from the gateway itself or are checked before."""
    return "".join([f"{name}: {value}\r\n" for name, value in pairs]).encode("latin-1")
