"""A request that has arrived, and the answer to it: whole, chunked, or broken off on purpose."""

from __future__ import annotations

import email.utils
import fcntl
import http
import socket
import struct
import termios
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import asyncio

    from deploy.local.http1 import Connection

Then = Literal["keep", "close", "close on next", "reset on next"]
"""What happens to the connection after an answer, unannounced."""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, read to its end."""

    method: str
    target: str
    """Path and query as sent."""
    headers: tuple[tuple[str, str], ...]
    """Names in lower case, in the order sent."""
    body: bytes
    oversized: bool
    """The body passed the limit; it is not kept."""
    peer: str
    """The client's address."""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> str:
        return self.target.partition("?")[2]


class Reply:
    """The answer to one request. Unfinished when the handler returns, it ends in a reset."""

    def __init__(self, connection: Connection, *, keep_alive: bool) -> None:
        self._connection = connection
        self._chunked = False
        self.keep_alive = keep_alive
        self.started = False
        self.finished = False
        self.then: Then = "keep"

    @property
    def client_left_at(self) -> float | None:
        """When the client left before the answer was finished, on the monotonic clock; else None."""
        return None if self.finished else self._connection.lost_at

    def start(self, status: int, headers: Iterable[tuple[str, str]], *, length: int | None, body: bytes = b"") -> None:
        """Write the head, chunked when `length` is None, and with it the first bytes of the body."""
        try:
            reason = http.HTTPStatus(status).phrase
        except ValueError:
            reason = "Unknown"
        lines = [f"HTTP/1.1 {status} {reason}", *(f"{name}: {value}" for name, value in headers)]
        lines.append(f"Date: {email.utils.formatdate(usegmt=True)}")
        lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
        if not self.keep_alive:
            lines.append("Connection: close")
        self.started, self._chunked = True, length is None
        head = "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n"
        self._connection.transport.write(head + self._framed(body))

    async def write(self, data: bytes) -> None:
        """Write some of the body: one HTTP chunk if the answer is chunked.

        Raises:
            ConnectionError: the client has left.
        """
        self.write_raw(self._framed(data))
        await self._connection.drain()

    def write_raw(self, data: bytes) -> None:
        """Write bytes outside any framing.

        Raises:
            ConnectionError: the client has left.
        """
        if self._connection.transport.is_closing():
            raise ConnectionResetError("the client has left")
        if data:
            self._connection.transport.write(data)

    def end(self) -> None:
        """Finish the body."""
        if self._chunked:
            self.write_raw(b"0\r\n\r\n")
        self.finished = True

    def send(self, status: int, headers: Iterable[tuple[str, str]], body: bytes) -> None:
        """Answer at once and whole."""
        self.start(status, headers, length=len(body), body=body)
        self.finished = True

    async def hang_up(self, *, reset: bool) -> None:
        """Let what was written arrive, then end the connection with RST or FIN, the answer finished or not."""
        if reset:
            await self._connection.delivered()
        self._connection.end(reset=reset)

    def mark_control(self) -> None:
        """Leave this connection out of the counts."""
        self._connection.mark_control()

    def _framed(self, data: bytes) -> bytes:
        if not self._chunked or not data:
            return data
        return b"%x\r\n%b\r\n" % (len(data), data)


def set_reset_on_close(transport: asyncio.Transport) -> None:
    """Make the coming close send RST instead of FIN."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        with suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def unacknowledged_bytes(transport: asyncio.Transport) -> int:
    """Return how many written bytes the peer's machine has not acknowledged; a reset would throw them away."""
    buffered = transport.get_write_buffer_size()
    sock = transport.get_extra_info("socket")
    if buffered or sock is None:
        return buffered
    with suppress(OSError):
        (queued,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
        return int(queued)
    return 0
