"""One connection to Redis: commands of one turn of the loop leave together, answers come back in order.

Nothing here waits longer than it is told to: an answer that is late ends the connection, because nobody knows what
became of the commands on it. redis-py sees to addresses and options; it is not on the path of calls, where its own
connection would cost several times as much as the script itself. Replies are parsed by hiredis.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from typing import Any, cast

import hiredis
from redis.connection import parse_url

from gateway.limits.script import command

GRACE_S = 0.002
OnReply = Callable[[Any], None]
"""Takes a reply, which may be a `hiredis.ReplyError`, or the Lost that took its place."""


class Lost(Exception):
    """The connection is gone, or was given up; whether Redis took the command is not known. The text says why."""


class Address:
    """Where a Redis is, and how it is spoken to: a URL as redis-py reads it.

    `redis://[user:password@]host[:port][/db]`, `rediss://…` over TLS, `unix:///path`.
    """

    def __init__(self, url: str, *, ca_file: str | None = None) -> None:
        options: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]  # redis-py has no types here
        self.host: str = options.get("host", "localhost")
        self.port: int = options.get("port", 6379)
        self.path: str | None = options.get("path")
        self.database: int = options.get("db", 0)
        self.username: str | None = options.get("username")
        self.password: str | None = options.get("password")
        self.tls = ssl.create_default_context(cafile=ca_file) if url.startswith("rediss://") else None

    def at(self, host: str, port: int) -> Address:
        """Return the same for another node of the cluster."""
        other = object.__new__(Address)
        for name, value in vars(self).items():
            setattr(other, name, value)
        other.host, other.port, other.path = host or self.host, port, None
        return other

    def greeting(self) -> list[bytes]:
        """Return the commands that begin a connection."""
        greeting = []
        if self.password is not None:
            user = [] if self.username is None else [self.username.encode()]
            greeting.append(command([b"AUTH", *user, self.password.encode()]))
        if self.database:
            greeting.append(command([b"SELECT", b"%d" % self.database]))
        return greeting

    def __repr__(self) -> str:
        return f"Address({self.path or f'{self.host}:{self.port}'})"


class Wire(asyncio.Protocol):
    """A connection; `lost` tells when it is over, once, and why."""

    def __init__(self, loop: asyncio.AbstractEventLoop, timeout_s: float, lost: Callable[[Wire, str], None]) -> None:
        self._loop = loop
        self._timeout_s = timeout_s
        self._on_lost = lost
        self._reader = hiredis.Reader()
        self._transport: asyncio.Transport | None = None
        self._out: list[bytes] = []
        self._waiting: deque[tuple[float, OnReply]] = deque()
        self._watch: asyncio.TimerHandle | None = None
        self._late = False
        self._over = False
        self.latency_s = 0.0
        """How long the newest answer took."""

    @property
    def waiting(self) -> int:
        """Commands without an answer yet."""
        return len(self._waiting)

    def send(self, encoded: bytes, on_reply: OnReply) -> None:
        """Send a command with all others of this turn; `on_reply` is called once, from the loop."""
        if self._over:
            self._loop.call_soon(on_reply, Lost("closed"))
            return
        if not self._out:
            self._loop.call_soon(self._flush)
        self._out.append(encoded)
        self._waiting.append((self._loop.time(), on_reply))

    def close(self, reason: str = "closed") -> None:
        """Give the connection up; whoever waits is told."""
        if self._over:
            return
        self._over = True
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()
        waiting, self._waiting = self._waiting, deque()
        self._on_lost(self, reason)
        for _, on_reply in waiting:
            on_reply(Lost(reason))

    def _flush(self) -> None:
        out, self._out = self._out, []
        if self._over or self._transport is None or not out:
            return
        self._transport.write(out[0] if len(out) == 1 else b"".join(out))
        if self._watch is None:
            self._watch = self._loop.call_later(self._timeout_s, self._look)

    def _look(self) -> None:
        """End a connection whose oldest answer is late. One timer, however many commands."""
        self._watch = None
        if not self._waiting:
            return
        due = self._waiting[0][0] + self._timeout_s
        if self._loop.time() < due:
            self._late = False
            self._watch = self._loop.call_at(due, self._look)
        elif self._late:
            self.close("timeout")
        else:
            # If this process was busy, the answer may be there and unread: libuv runs timers before it reads.
            self._late = True
            self._watch = self._loop.call_later(GRACE_S, self._look)

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._late = False
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not False:
                if not self._waiting:
                    self.close("protocol")
                    return
                sent, on_reply = self._waiting.popleft()
                self.latency_s = self._loop.time() - sent
                on_reply(reply)
                if self._over:
                    return
        except hiredis.ProtocolError:
            self.close("protocol")

    def connection_lost(self, exc: Exception | None) -> None:
        self.close("closed")


async def connect(
    address: Address, timeout_s: float, lost: Callable[[Wire, str], None], loop: asyncio.AbstractEventLoop
) -> Wire:
    """Return a connection that has been greeted.

    Raises:
        Lost: there is none; the reason is `refused`, `timeout`, `auth` or the first word of Redis' own.
    """

    def make() -> Wire:
        return Wire(loop, timeout_s, lost)

    try:
        async with asyncio.timeout(max(timeout_s, 0.5)):
            if address.path is not None:
                _, wire = await loop.create_unix_connection(make, address.path)
            else:
                _, wire = await loop.create_connection(make, address.host, address.port, ssl=address.tls)
    except (OSError, TimeoutError) as error:
        raise Lost("timeout" if isinstance(error, TimeoutError) else "refused") from error
    for encoded in address.greeting():
        reply = await ask(wire, encoded, loop)
        if isinstance(reply, hiredis.ReplyError):
            wire.close("auth")
            raise Lost(reason_of(reply))
    return wire


async def ask(wire: Wire, encoded: bytes, loop: asyncio.AbstractEventLoop) -> Any:
    """Send one command and return its answer, an error of Redis' as a value.

    Raises:
        Lost: there is none.
    """
    answer: asyncio.Future[Any] = loop.create_future()

    def on_reply(reply: Any) -> None:
        if answer.done():
            return
        if isinstance(reply, Lost):
            answer.set_exception(reply)
        else:
            answer.set_result(reply)

    wire.send(encoded, on_reply)
    return await answer


_REASONS = frozenset(
    ("noauth", "wrongpass", "noperm", "readonly", "masterdown", "oom", "misconf", "loading", "clusterdown", "tryagain")
)


def reason_of(error: Exception) -> str:
    """Return a word for what Redis says: a metric label, so from a list."""
    word = str(error).partition(" ")[0].lower()
    if word == "-err" or "max number of clients" in str(error):
        return "maxclients" if "max number of clients" in str(error) else "error"
    return word if word in _REASONS else "error"
