"""A web on this machine: names, addresses and pages as a test says, real sockets and real TLS between.

async with Web(certificates) as web:
    web.names["img.example.com"] = ["93.184.216.34"]
    web.pages["https://img.example.com/a.png"] = page(PNG, "image/png")
    fetcher = Fetcher(web.hop(), concurrent=4)

Every address leads to the same two servers of this process, one with TLS; which was meant to be connected to is noted.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import TracebackType
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.media.hop import Hop, Pipe, connect

PUBLIC = "93.184.216.34"
PUBLIC_6 = "2606:2800:220:1:248:1893:25c8:1946"
BOUND_S = 10.0
NAMES = ("img.example.com", "other.example.com", "*.cdn.example.com", PUBLIC)
"""What the good certificate is for."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request that arrived."""

    url: str
    """By the scheme of the server and the Host header."""
    line: str
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class Connection:
    address: str
    port: int
    name: str | None
    """The name its certificate had to have; None without TLS."""


class Talk:
    """The server's side of one request, for pages that misbehave."""

    def __init__(self, asked: Asked, writer: asyncio.StreamWriter, reader: asyncio.StreamReader) -> None:
        self.asked = asked
        self._writer = writer
        self._reader = reader

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def gone(self) -> None:
        """Return once the other side has closed."""
        try:
            await self._reader.read()
        except ConnectionError:
            return


Page = bytes | Callable[[Talk], Awaitable[None]]


def page(body: bytes = b"", content_type: str | None = None, status: str = "200 OK", **headers: str) -> bytes:
    """Return a whole answer; in names of headers `_` stands for `-`."""
    lines = [f"HTTP/1.1 {status}", f"content-length: {len(body)}"]
    lines += [f"content-type: {content_type}"] if content_type is not None else []
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def redirect(location: str, status: str = "302 Found") -> bytes:
    return page(b"moved", "text/html", status, location=location)


@dataclass
class Certificates:
    """A folder with an authority's certificate and some servers'."""

    folder: Path

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "authority.pem"))

    def server(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem")
        return context


def issue(folder: Path) -> Certificates:
    now = datetime.now(UTC)
    authority_key = ec.generate_private_key(ec.SECP256R1())
    authority = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])

    def write(name: str, names: tuple[str, ...], until: datetime) -> None:
        own = name == "authority"
        key = authority_key if own else ec.generate_private_key(ec.SECP256R1())
        subject = authority if own else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = dict.fromkeys(
            ["content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "crl_sign",
             "encipher_only", "decipher_only"], False,
        )  # fmt: skip
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(authority)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=own, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False
            )
            .add_extension(x509.KeyUsage(digital_signature=not own, key_cert_sign=own, **usage), critical=True)
        )
        if names:
            alternatives = [_alternative(each) for each in names]
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        pem = builder.sign(authority_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.pem").write_bytes(pem if own else private + pem)

    later = now + timedelta(days=30)
    write("authority", (), later)
    write("good", (*NAMES, "127.0.0.1", "localhost"), later)
    write("elsewhere", ("elsewhere.example.net",), later)
    write("expired", NAMES, now - timedelta(days=1))
    return Certificates(folder)


def _alternative(name: str) -> x509.GeneralName:
    return x509.IPAddress(ipaddress.ip_address(name)) if name[0].isdigit() else x509.DNSName(name)


@dataclass
class Web:
    """Names, pages, and what was asked of them."""

    certificates: Certificates
    certificate: str = "good"
    names: dict[str, list[str]] = field(default_factory=dict)
    """Name → its addresses; other names do not exist."""
    later: dict[str, list[list[str]]] = field(default_factory=dict)
    """Name → what further look-ups are answered, one after the other, before `names` counts again."""
    pages: dict[str, Page] = field(default_factory=dict)
    refusing: set[str] = field(default_factory=set)
    """Addresses that nobody listens at."""
    plain_only: bool = False
    """Nobody speaks TLS, not even where it is expected."""
    lookups: list[str] = field(default_factory=list)
    connections: list[Connection] = field(default_factory=list)
    asked: list[Asked] = field(default_factory=list)
    asked_for: list[str | None] = field(default_factory=list)
    """Names that TLS was opened with (SNI)."""
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    async def __aenter__(self) -> Self:
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._plain = await asyncio.start_server(lambda r, w: self._serve("http", r, w), "127.0.0.1", 0)
        tls = self.certificates.server(self.certificate)
        tls.sni_callback = lambda _, name, __: self.asked_for.append(name)
        self._tls = await asyncio.start_server(lambda r, w: self._serve("https", r, w), "127.0.0.1", 0, ssl=tls)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._plain.close()
        self._tls.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()

    def hop(self) -> Hop:
        return Hop(self.certificates.client(), self.resolve, self.connect)

    def put(self, url: str, answer: Page, *addresses: str) -> None:
        """Let a page be; its host is at PUBLIC unless addresses are given."""
        host = url.split("/")[2].partition(":")[0]
        self.names.setdefault(host, list(addresses) or [PUBLIC])
        self.pages[url] = answer

    async def resolve(self, host: str, port: int) -> list[str]:
        self.lookups.append(host)
        further = self.later.get(host)
        if further:
            return further.pop(0)
        if host not in self.names:
            raise OSError("no such host")
        return self.names[host]

    async def connect(self, address: str, port: int, tls: ssl.SSLContext | None, name: str) -> Pipe:
        self.connections.append(Connection(address, port, name if tls else None))
        if address in self.refusing:
            raise ConnectionRefusedError
        return await connect("127.0.0.1", self.port(tls=tls is not None and not self.plain_only), tls, name)

    def port(self, *, tls: bool) -> int:
        """Return the port that the web is really served at."""
        port: int = (self._tls if tls else self._plain).sockets[0].getsockname()[1]
        return port

    async def was_asked(self, times: int) -> None:
        async with asyncio.timeout(BOUND_S):
            while len(self.asked) < times:
                self.changed.clear()
                await self.changed.wait()

    async def _serve(self, scheme: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self._writers.add(writer)
        try:
            await self._answer(scheme, reader, writer)
        except (asyncio.IncompleteReadError, asyncio.CancelledError, OSError):
            pass  # the other side has left, or the test is over
        finally:
            writer.close()

    async def _answer(self, scheme: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        line, *lines = head.rstrip().split("\r\n")
        headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
        assert len(headers) == len(lines), "a header came twice"
        asked = Asked(f"{scheme}://{headers['host']}{line.split()[1]}", line, headers)
        self.asked.append(asked)
        self.changed.set()
        answer = self.pages.get(asked.url, page(b"no such page", "text/plain", "404 Not Found"))
        talk = Talk(asked, writer, reader)
        await (talk.send(answer) if isinstance(answer, bytes) else answer(talk))
