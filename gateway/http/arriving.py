"""What callers send: bytes in, requests out, within limits of size and time.

Beyond what uvicorn and httptools see to: heads that could be read in two ways are refused, heads and bodies have to
arrive in time, requests to speak another protocol are ignored, and no more than a few requests wait on a connection.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.errors import GatewayError, HeadersTooLarge, MalformedHttp, RequestTimeout
from gateway.http.heads import BadHead, check_head, head_bytes, without_upgrade

SCOPE_KEY = "lmi_gateway.connection"
MAX_PIPELINED = 32
"""Requests that wait for an earlier one's answer; a connection that brings more is closed after theirs."""
LINGER_BYTES = 4 * 1024 * 1024
"""What is read, and thrown away, of a connection that is being closed."""

HotRoute = Callable[[Any, Any], Coroutine[Any, Any, Any]]
"""Takes the scope and `receive`. What it returns may go on answering after it."""


def nothing() -> None:
    """Takes the place of a callback that has served, or that nobody needs."""


@dataclass(slots=True)
class Frontend:
    """What every connection of the process shares; set once, before the first connection."""

    header_timeout_s: float = 10.0
    body_timeout_s: float = 30.0
    max_header_bytes: int = 65536
    write_buffer_bytes: int = 65536
    write_timeout_s: float = 30.0
    hot_routes: dict[str, HotRoute] = field(default_factory=dict)
    """Handlers by exact path that answer on the connection itself, without the application in between."""
    hot_folders: dict[str, HotRoute] = field(default_factory=dict)
    """The same by how a path begins, slash included, for paths that are no `hot_routes`."""
    on_shutdown: Callable[[], None] = nothing
    """Called when the server begins to stop, once for each open connection."""
    on_force: Callable[[], None] = nothing
    """Called when it is told to stop a second time, and so at once."""
    cut_calls: Callable[[], int] = int
    """Returns how many calls have been ended because the time for running ones was over."""

    def below(self, path: str) -> HotRoute | None:
        """Return the handler of the folder that `path` is in."""
        for folder, route in self.hot_folders.items():
            if path.startswith(folder):
                return route
        return None


class ArrivingProtocol(HttpToolsProtocol):
    """The receiving half of a caller's connection."""

    __slots__ = (
        "_begun",
        "_discarded",
        "_discarding",
        "_head_bytes",
        "_in_headers",
        "_read_bytes",
        "_receiving",
        "_slow_timer",
        "_upgrading",
    )

    frontend: ClassVar[Frontend] = Frontend()

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._receiving = False
        self._in_headers = False
        self._upgrading = False
        self._begun = 0
        self._read_bytes = 0
        self._head_bytes = 0
        self._slow_timer: asyncio.TimerHandle | None = None
        self._discarding = False
        self._discarded = 0

    @abstractmethod
    def _refuse(self, error: GatewayError) -> None:
        """Answer below the application, if nothing else is being answered, and close."""

    def data_received(self, data: bytes) -> None:
        if self._discarding:
            self._discarded += len(data)
            if self._discarded > LINGER_BYTES:
                self.transport.abort()
            return
        self._unset_keepalive_if_required()
        amid = self._receiving
        self._begun = 0
        self._read_bytes = len(data)
        self._feed(data)
        if not self._receiving:
            if self._slow_timer is not None:
                self._stop_slow_timer()
        elif not self.transport.is_closing() and not self._discarding:
            # How much of this read belongs to a head that began in its middle is not known: that counts from the next.
            if self._in_headers and self._begun <= (not amid):
                self._head_bytes += len(data)
            self._watch_slow()

    def _feed(self, data: bytes) -> None:
        rest, head = memoryview(data), b""
        while True:
            try:
                if head:
                    self.parser.feed_data(head)
                self.parser.feed_data(rest)
            except httptools.HttpParserUpgrade as upgrade:
                rest = rest[upgrade.args[0] :]
                head = without_upgrade(self.parser.get_method(), self.url, self.parser.get_http_version(), self.headers)
                self.parser = httptools.HttpRequestParser(self)
                self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn sets it
            except httptools.HttpParserError:
                self._refuse(MalformedHttp("The request is not valid HTTP/1.1."))
                return
            else:
                return

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._receiving = self._in_headers = True
        self._upgrading = False
        self._begun += 1
        self._head_bytes = 0
        cast("dict[str, Any]", self.scope)[SCOPE_KEY] = self

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._in_headers:  # a trailer: nothing that is said after the body may count as said before it
            return
        name = name.lower()
        if name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        parser = self.parser
        check_head(parser.get_http_version(), self.headers)
        most = self.frontend.max_header_bytes
        if self._head_bytes + self._read_bytes > most and head_bytes(self.url, self.headers) > most:
            self._refuse_head()
            raise BadHead("size")
        if parser.should_upgrade():
            if parser.get_method() == b"CONNECT":
                raise BadHead("method")
            self._upgrading = True  # the parser stops here, and `_feed` begins anew
            return
        if len(self.pipeline) >= MAX_PIPELINED:
            newest, _ = self.pipeline[0]
            newest.keep_alive = False
            self._discarding = True
            raise BadHead("pipeline")
        super().on_headers_complete()  # which raises for a URL that does not parse
        self._in_headers = False
        self._stop_slow_timer()
        if self.pipeline:
            self.flow.resume_reading()  # to notice when the caller leaves; uvicorn would leave it unread

    def on_message_complete(self) -> None:
        if self._upgrading:
            return
        self._receiving = False
        super().on_message_complete()

    # Limits

    def _watch_slow(self) -> None:
        if self._in_headers and self._head_bytes > self.frontend.max_header_bytes:
            self._refuse_head()
        elif self._slow_timer is None:
            limit_s = self.frontend.header_timeout_s if self._in_headers else self.frontend.body_timeout_s
            self._slow_timer = self.loop.call_later(limit_s, self._too_slow)

    def _stop_slow_timer(self) -> None:
        if self._slow_timer is not None:
            self._slow_timer.cancel()
            self._slow_timer = None

    def _too_slow(self) -> None:
        self._slow_timer = None
        if self.flow.read_paused:  # it is not read while an earlier request is answered: that is not its fault
            self._watch_slow()
            return
        what = "headers" if self._in_headers else "body"
        self._refuse(RequestTimeout(f"The request's {what} did not arrive in time."))

    def _refuse_head(self) -> None:
        self._refuse(HeadersTooLarge(f"The request's head is over {self.frontend.max_header_bytes} bytes."))
