"""Connecting: what refuses, hangs or cannot be trusted, and how long that takes."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from gateway.sagemaker.endpoints import Origins
from gateway.sagemaker.http1 import READ_BYTES, ConnectFailed, Origin, TlsFailed
from tests.sagemaker.peer import (
    BOUND_S,
    Ear,
    Peer,
    PeerConnection,
    anyio_backend,
    ask,
    asked,
    greets,
    reply,
    until,
    within,
)

__all__ = ["anyio_backend"]  # the fixture: both event loops
pytestmark = pytest.mark.anyio


# --- no connection -------------------------------------------------------------------------------------------------


def origin_of(port: int, host: str = "127.0.0.1") -> Origin:
    return Origin("http", host, port, ssl_context=None, idle_s=60.0)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def test_a_refused_connection_fails_at_once() -> None:
    origin = origin_of(free_port())
    with pytest.raises(ConnectFailed, match=r"^ConnectionRefusedError$"):
        await origin.connect(BOUND_S)
    assert origin.open_connections == 0


@pytest.fixture
def full() -> Iterator[int]:
    """Return the port of a server that answers no SYN: its backlog is full."""
    with ExitStack() as sockets:
        server = sockets.enter_context(socket.socket())
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        for _ in range(4):
            filler = sockets.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(server.getsockname())
        yield server.getsockname()[1]


async def test_a_connection_nobody_answers_fails_at_its_time_limit(full: int) -> None:
    origin = origin_of(full)
    began = time.monotonic()
    with pytest.raises(ConnectFailed, match=r"^TimeoutError$"):
        await origin.connect(0.1)
    assert 0.09 < time.monotonic() - began < 0.5
    assert origin.open_connections == 0


async def test_a_cancelled_connect_leaves_no_connection(full: int) -> None:
    origin = origin_of(full)
    connecting = asyncio.ensure_future(origin.connect(BOUND_S))
    await asyncio.sleep(0.01)
    connecting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await connecting
    assert origin.open_connections == 0


@pytest.mark.parametrize("host", [
    pytest.param("no-such-host.invalid", id="a name that does not exist"),
    pytest.param("a" * 64 + ".invalid", id="a name that cannot exist"),
    pytest.param("a..invalid", id="an empty label"),
])  # fmt: skip
async def test_an_unknown_host_fails(host: str) -> None:
    origin = origin_of(80, host)
    with pytest.raises(ConnectFailed):
        await origin.connect(BOUND_S)
    assert origin.open_connections == 0


class TestSlowNames:
    """On asyncio's own loop, as uvloop's look-ups cannot be slowed down from here."""

    @pytest.fixture
    def anyio_backend(self) -> str:
        return "asyncio"

    async def test_a_slow_name_server_holds_up_neither_the_loop_nor_the_limit(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answer = threading.Event()

        def look_up(*_: Any, **__: Any) -> Any:
            assert answer.wait(BOUND_S)
            raise socket.gaierror(socket.EAI_NONAME, "unknown")

        monkeypatch.setattr(socket, "getaddrinfo", look_up)
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0.005)
                ticks += 1

        ticking = asyncio.ensure_future(tick())
        began = time.monotonic()
        with pytest.raises(ConnectFailed, match=r"^TimeoutError$"):
            await origin_of(80, "slow.invalid").connect(0.1)
        took = time.monotonic() - began
        answer.set()
        ticking.cancel()
        assert took < 0.5
        assert ticks >= 5


# --- TLS -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Certificates:
    """Files of a certificate authority and of what it, or another, has signed."""

    folder: Path

    @property
    def ca(self) -> Path:
        return self.folder / "ca.pem"

    def server(self, name: str) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem")
        return context

    def client(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))


def usage_of(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    now = datetime.now(UTC)

    def issue(
        name: str, *, issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey] | None, hosts: list[str], until: datetime
    ) -> tuple[x509.Name, ec.EllipticCurvePrivateKey]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        by, by_key = issuer or (subject, key)
        addresses: list[x509.GeneralName] = [
            x509.IPAddress(ipaddress.ip_address(host)) if host[0].isdigit() else x509.DNSName(host) for host in hosts
        ]
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(by)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=30))
            .not_valid_after(until)
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
            # What RFC 5280 asks for, and Python 3.13 by default.
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(by_key.public_key()), critical=False)
            .add_extension(usage_of(authority=issuer is None), critical=True)
        )
        if addresses:
            builder = builder.add_extension(x509.SubjectAlternativeName(addresses), critical=False)
        pem = builder.sign(by_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        (folder / f"{name}.pem").write_bytes(private + pem)
        return subject, key

    later, here = now + timedelta(days=30), ["127.0.0.1", "localhost"]
    authority = issue("ca", issuer=None, hosts=[], until=later)
    stranger = issue("stranger", issuer=None, hosts=[], until=later)
    issue("good", issuer=authority, hosts=here, until=later)
    issue("expired", issuer=authority, hosts=here, until=now - timedelta(days=1))
    issue("elsewhere", issuer=authority, hosts=["runtime.invalid", "127.0.0.2"], until=later)
    issue("untrusted", issuer=stranger, hosts=here, until=later)
    issue("self-signed", issuer=None, hosts=here, until=later)
    return Certificates(folder)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
async def test_a_trusted_certificate_is_spoken_to_and_its_connection_kept(
    certificates: Certificates, host: str
) -> None:
    async with Peer(greets, tls=certificates.server("good")) as peer:
        origin = peer.origin(host=host, tls=certificates.client())
        for _ in range(3):
            assert (await asked(origin)).body == b"1"
        assert peer.accepted == 1
        origin.close()


@pytest.mark.parametrize(("certificate", "detail"), [
    pytest.param("expired", "certificate has expired", id="expired"),
    pytest.param("elsewhere", "IP address mismatch, certificate is not valid for '127.0.0.1'.", id="for another host"),
    pytest.param("untrusted", "unable to get local issuer certificate", id="signed by a stranger"),
    pytest.param("self-signed", "self-signed certificate", id="signed by itself"),
])  # fmt: skip
async def test_a_certificate_that_cannot_be_trusted_ends_it_before_a_byte_of_the_request(
    certificates: Certificates, certificate: str, detail: str
) -> None:
    async with Peer(greets, tls=certificates.server(certificate)) as peer:
        origin = peer.origin(tls=certificates.client())
        with pytest.raises(TlsFailed) as caught:
            await origin.connect(BOUND_S)
        assert str(caught.value) == detail
        assert (peer.requests, origin.open_connections) == ([], 0)


async def test_a_name_that_is_not_the_certificates_is_refused(certificates: Certificates) -> None:
    async with Peer(greets, tls=certificates.server("elsewhere")) as peer:
        with pytest.raises(TlsFailed, match="Hostname mismatch"):
            await peer.origin(host="localhost", tls=certificates.client()).connect(BOUND_S)


async def test_a_peer_without_tls_is_refused_and_never_spoken_to_in_plain_text(certificates: Certificates) -> None:
    received: list[bytes] = []

    async def script(peer: PeerConnection) -> None:
        await peer.send(reply(b"plain"))
        received.append(await peer.gone())

    async with Peer(script) as peer:
        origin = peer.origin(tls=certificates.client())
        with pytest.raises(TlsFailed):
            await origin.connect(BOUND_S)
        await until(lambda: len(received) == 1)
        assert peer.accepted == 1
        assert received[0].startswith(b"\x16\x03")  # a handshake record
        assert b"POST" not in received[0]


async def test_a_handshake_without_an_answer_fails_at_the_time_limit_of_connecting(certificates: Certificates) -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.gone()

    async with Peer(script) as peer:
        origin = peer.origin(tls=certificates.client())
        with pytest.raises(ConnectFailed, match=r"^TimeoutError$"):
            await origin.connect(0.1)
        assert origin.open_connections == 0


async def test_a_peer_that_leaves_during_the_handshake_is_no_connection(certificates: Certificates) -> None:
    async def script(peer: PeerConnection) -> None:
        peer.close()

    async with Peer(script) as peer:
        with pytest.raises(ConnectFailed):
            await peer.origin(tls=certificates.client()).connect(BOUND_S)


async def test_a_pause_reaches_a_peer_behind_tls(certificates: Certificates) -> None:
    size, stuck = 24 * 2**20, asyncio.Event()

    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(reply(b"", length=size))
        for _ in range(size // 2**20):
            sending = asyncio.ensure_future(peer.send(bytes(2**20)))
            done, _ = await asyncio.wait([sending], timeout=0.2)
            if not done:
                stuck.set()
            await sending
        await peer.gone()

    async with Peer(script, tls=certificates.server("good")) as peer:
        origin = peer.origin(tls=certificates.client())
        connection = await origin.connect(BOUND_S)
        ear = Ear(then=lambda _: None if stuck.is_set() else connection.pause())
        connection.send(b"POST / HTTP/1.1\r\ncontent-length: 0\r\n\r\n", b"", ear)
        await within(stuck.wait())
        assert sum(map(len, ear.pieces)) <= READ_BYTES
        connection.resume()
        await within(ear.over.wait())
        assert sum(map(len, ear.pieces)) == size
        origin.close()


async def test_an_abort_behind_tls_closes_the_socket_at_once(certificates: Certificates) -> None:
    gone = asyncio.Event()

    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.gone()
        gone.set()

    async with Peer(script, tls=certificates.server("good")) as peer:
        origin = peer.origin(tls=certificates.client())
        connection, ear = await ask(origin)
        await peer.request_arrived(1)
        connection.abort()
        await within(gone.wait(), 0.1)
        await until(lambda: origin.open_connections == 0)
        assert not ear.over.is_set()


# --- from settings to connections ----------------------------------------------------------------------------------


async def test_one_pool_for_each_address_with_the_authorities_of_the_settings(certificates: Certificates) -> None:
    origins = Origins(ca_bundle=certificates.ca, idle_s=60.0)
    async with Peer(greets, tls=certificates.server("good")) as safe, Peer(greets) as plain:
        for peer in (safe, plain, safe, plain):
            assert (await asked(origins.get(peer.url))).body == b"1"
        assert origins.get(safe.url) is origins.get(safe.url)
        assert (safe.accepted, plain.accepted, origins.open_connections) == (1, 1, 2)
        origins.close()
        await until(lambda: origins.open_connections == 0)


async def test_without_a_bundle_the_machines_own_authorities_count(certificates: Certificates) -> None:
    async with Peer(greets, tls=certificates.server("good")) as peer:
        with pytest.raises(TlsFailed):
            await Origins(ca_bundle=None, idle_s=60.0).get(peer.url).connect(BOUND_S)


@pytest.mark.parametrize(("url", "authority", "address"), [
    pytest.param("https://host.invalid", "host.invalid", ("host.invalid", 443), id="https"),
    pytest.param("https://host.invalid:443", "host.invalid", ("host.invalid", 443), id="its port named"),
    pytest.param("https://host.invalid:8443", "host.invalid:8443", ("host.invalid", 8443), id="another port"),
    pytest.param("http://host.invalid", "host.invalid", ("host.invalid", 80), id="http"),
    pytest.param("http://host.invalid:443", "host.invalid:443", ("host.invalid", 443), id="https' port over http"),
    pytest.param("http://[::1]:8080", "[::1]:8080", ("::1", 8080), id="IPv6"),
    pytest.param("http://[::1]", "[::1]", ("::1", 80), id="IPv6 without a port"),
])  # fmt: skip
def test_addresses(url: str, authority: str, address: tuple[str, int]) -> None:
    origin = Origins(ca_bundle=None, idle_s=60.0).get(url)
    assert (origin.authority, (origin.host, origin.port)) == (authority, address)
