"""One request for one URL: to a checked address, over a connection that is used once.

Nothing of the gateway's own goes along: no proxy of the environment, no cookie, no key, no referrer. What answers is
read up to a limit, as HTTP/1.1 (https://www.rfc-editor.org/rfc/rfc9112) and never decompressed.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import httptools

from adapters.openai.urls import Remote
from gateway.media.addresses import Network, may_connect
from gateway.media.faults import FetchFault, Outcome

MAX_HEAD_BYTES = 32 * 1024
READ_BYTES = 256 * 1024
CONNECT_TIMEOUT_S = 5.0
"""For each address of a host: the next one is tried after it, within the time the whole fetch has."""
_COMMON_HEADERS = (
    "user-agent: lmi-gateway\r\naccept: image/*, audio/*, video/*, */*;q=0.1\r\naccept-encoding: identity\r\n"
    "connection: close\r\n"
)

Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Connect = Callable[[str, int, ssl.SSLContext | None, str], Awaitable[Pipe]]
"""Address, port, how to speak TLS if so, the name its certificate must have → a connection. Raises OSError."""
Resolve = Callable[[str, int], Awaitable[list[str]]]
"""Name, port → addresses. Raises OSError."""


@dataclass(slots=True)
class Answer:
    """What a host answered."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    """Names in lower case; of several of one name the last."""
    body: bytes = b""


async def connect(address: str, port: int, tls: ssl.SSLContext | None, name: str) -> Pipe:
    """Connect to this very address; `name` is what the certificate must be for."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        await loop.sock_connect(sock, (address, port))
        return await asyncio.open_connection(
            sock=sock, limit=READ_BYTES, ssl=tls, server_hostname=name if tls else None
        )
    except BaseException:
        sock.close()
        raise


class Hop:
    """Asks hosts."""

    def __init__(self, tls: ssl.SSLContext, resolve: Resolve, connect: Connect = connect) -> None:
        self._tls = tls
        self._resolve = resolve
        self._connect = connect

    async def get(
        self,
        remote: Remote,
        *,
        allowed: tuple[Network, ...],
        wanted: Callable[[Answer], bool],
        max_bytes: int,
        conditions: str = "",
    ) -> Answer:
        """Return what a host answers to a GET, with its body if the head is `wanted`.

        Args:
            allowed: networks that may be connected to besides the public internet.
            conditions: further header lines.

        Raises:
            FetchFault: some address of the host may not be connected to, none answered, or the answer is no HTTP, is
                cut short or over `max_bytes`.
        """
        reader, writer = await self._open(remote, allowed)
        try:
            head = f"GET {remote.target} HTTP/1.1\r\nhost: {remote.authority}\r\n{_COMMON_HEADERS}{conditions}\r\n"
            writer.write(head.encode())
            return await _read(reader, wanted, max_bytes)
        except (OSError, EOFError, httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            raise FetchFault(Outcome.UNREACHABLE, f"broken answer: {type(error).__name__}") from error
        finally:
            writer.transport.abort()

    async def _open(self, remote: Remote, allowed: tuple[Network, ...]) -> Pipe:
        addresses = await self._addresses(remote)
        # A host with one address inside is no public host, whichever address would be tried first.
        if not addresses or not all(may_connect(address, allowed) for address in addresses):
            raise FetchFault(Outcome.REFUSED, "an address that may not be connected to" if addresses else "no address")
        tls = self._tls if remote.scheme == "https" else None
        failure: Exception | None = None
        for address in addresses:
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    return await self._connect(address, remote.port, tls, remote.host)
            except OSError as error:  # TimeoutError and ssl.SSLError among them
                failure = error
        raise FetchFault(Outcome.UNREACHABLE, f"no connection: {type(failure).__name__}") from failure

    async def _addresses(self, remote: Remote) -> list[str]:
        if remote.is_address:
            return [remote.host]
        try:
            return list(dict.fromkeys(await self._resolve(remote.host, remote.port)))
        except (OSError, UnicodeError) as error:
            raise FetchFault(Outcome.UNREACHABLE, f"no such host: {type(error).__name__}") from error


async def _read(reader: asyncio.StreamReader, wanted: Callable[[Answer], bool], max_bytes: int) -> Answer:
    reading = _Reading()
    head_bytes = 0
    judged = False
    while not reading.complete:
        data = await reader.read(READ_BYTES)
        if not data:
            if reading.ends_with_connection:
                break
            raise EOFError
        reading.parser.feed_data(data)
        if not reading.head_complete:
            head_bytes += len(data)
            if head_bytes > MAX_HEAD_BYTES:
                raise FetchFault(Outcome.UNREACHABLE, "no end of the head")
            continue
        if not judged:
            judged = True
            if not wanted(reading.answer):
                return reading.answer
            if int(reading.answer.headers.get("content-length", "0")) > max_bytes:
                raise FetchFault(Outcome.TOO_LARGE, "by its content-length")
        if reading.size > max_bytes:
            raise FetchFault(Outcome.TOO_LARGE, "by its body")
    reading.answer.body = b"".join(reading.parts)
    return reading.answer


class _Reading:
    """httptools' callbacks."""

    def __init__(self) -> None:
        self.parser = httptools.HttpResponseParser(self)
        self.answer = Answer()
        self.parts: list[bytes] = []
        self.size = 0
        self.head_complete = False
        self.complete = False

    @property
    def ends_with_connection(self) -> bool:
        """The head has come, and said nothing of the length of the body."""
        sized = {"content-length", "transfer-encoding"} & set(self.answer.headers)
        return self.head_complete and not sized

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.head_complete:  # else a trailer
            self.answer.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        status = self.parser.get_status_code()
        if status < 200:  # 100 Continue and the like: the real head follows
            self.answer.headers.clear()
            return
        self.answer.status = status
        self.head_complete = True

    def on_body(self, data: bytes) -> None:
        self.parts.append(data)
        self.size += len(data)

    def on_message_complete(self) -> None:
        self.complete = self.head_complete
