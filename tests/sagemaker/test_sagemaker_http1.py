"""One upstream connection: replies of every shape, cut everywhere; ends of every kind; what goes back to the pool."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from gateway.sagemaker import http1
from gateway.sagemaker.http1 import BadReply, Connection, ConnectionDropped, Origin
from tests.sagemaker.peer import (
    BODY,
    BOUND_S,
    HEAD,
    Ear,
    Peer,
    PeerConnection,
    anyio_backend,
    ask,
    asked,
    chunk,
    chunked,
    greets,
    reply,
    until,
    within,
)

__all__ = ["anyio_backend"]  # the fixture: both event loops
pytestmark = pytest.mark.anyio

# --- replies, cut everywhere ---------------------------------------------------------------------------------------


class Wire(asyncio.Transport):
    """A transport without a socket, for bytes that come exactly as cut."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed: str | None = None
        self.reading = True

    def write(self, data: Any) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closed is not None

    def close(self) -> None:
        self.closed = self.closed or "closed"

    def abort(self) -> None:
        self.closed = self.closed or "aborted"

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


def read(connection: Connection, data: bytes) -> None:
    """Let one read bring `data`."""
    connection.get_buffer(-1)[: len(data)] = data
    connection.buffer_updated(len(data))


def heard(pieces: Iterable[bytes], *, then_closed: bool = False) -> tuple[Ear, Wire, Origin]:
    """Return what becomes of a reply that arrives in these pieces."""
    wire, ear = Wire(), Ear()
    origin = Origin("http", "peer", 80, ssl_context=None, idle_s=60.0)
    connection = Connection(origin)
    connection.connection_made(wire)
    connection.send(HEAD, BODY, ear)
    assert wire.written == HEAD + BODY
    for piece in pieces:
        if piece and not wire.is_closing():
            read(connection, piece)
    if then_closed and not wire.is_closing():
        connection.eof_received()
        connection.connection_lost(None)
    return ear, wire, origin


def every_cut(data: bytes) -> list[list[bytes]]:
    return [
        [data],
        [data[i : i + 1] for i in range(len(data))],
        *([data[:at], data[at:]] for at in range(1, len(data))),
    ]


LENGTH, CHUNKED = ("content-length",), ("transfer-encoding",)
REPLIES = [
    pytest.param(reply(b"hello"), 200, b"hello", True, id="a length"),
    pytest.param(reply(b""), 200, b"", True, id="length 0"),
    pytest.param(chunked(b"he", b"l", b"lo"), 200, b"hello", True, id="chunks"),
    pytest.param(chunked(), 200, b"", True, id="no chunk"),
    pytest.param(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\nTrailer: x\r\n\r\n",
        200,
        b"hello",
        True,
        id="chunks with an extension and a trailer",
    ),
    pytest.param(reply(b"no", status="424 Failed Dependency"), 424, b"no", True, id="an error"),
    pytest.param(reply(b"no", status="530 "), 530, b"no", True, id="a status without a phrase"),
    pytest.param(b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True, id="204 has no body"),
    pytest.param(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b"", True, id="304 has no body"),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + reply(b"hello"), 200, b"hello", True, id="100, then the reply"),
    pytest.param(
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" * 3 + reply(b"hello"), 200, b"hello", True, id="103 thrice"
    ),
    pytest.param(reply(b"hello", "Connection: close"), 200, b"hello", False, id="a length, closing"),
    pytest.param(chunked(b"hello", headers=("Connection: close",)), 200, b"hello", False, id="chunks, closing"),
    pytest.param(b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", False, id="HTTP/1.0"),
]


@pytest.mark.parametrize(("wire", "status", "body", "kept"), REPLIES)
async def test_a_reply_is_the_same_however_it_is_cut(wire: bytes, status: int, body: bytes, kept: bool) -> None:
    for pieces in every_cut(wire):
        ear, transport, _ = heard(pieces)
        assert (ear.status, ear.body, ear.ended, ear.error) == (status, body, True, None)
        assert transport.closed == (None if kept else "closed")


@pytest.mark.parametrize("head", [
    pytest.param(b"HTTP/1.1 200 OK\r\n\r\n", id="HTTP/1.1"),
    pytest.param(b"HTTP/1.1 200 OK\r\nConnection: keep-alive\r\n\r\n", id="that says it stays open"),
    pytest.param(b"HTTP/1.0 200 OK\r\n\r\n", id="HTTP/1.0"),
])  # fmt: skip
async def test_a_reply_without_a_length_ends_with_its_connection(head: bytes) -> None:
    for pieces in every_cut(head + b"hello"):
        ear, _, _ = heard(pieces)
        assert (ear.status, ear.body, ear.ended, ear.error) == (200, b"hello", False, None)
        ear, _, _ = heard(pieces, then_closed=True)
        assert (ear.status, ear.body, ear.ended, ear.error) == (200, b"hello", True, None)


async def test_what_one_read_brings_is_handed_on_in_one_piece() -> None:
    ear, _, _ = heard([chunked(b"a", b"b", b"c", end=False), chunk(b"d") + chunk(b"e") + b"0\r\n\r\n"])
    assert ear.pieces == [b"abc", b"de"]


async def test_header_names_come_in_lower_case_and_values_as_they_are() -> None:
    ear, _, _ = heard([reply(b"", "X-Amzn-ErrorType:  ModelError", "x-MIXED: \xe9")])
    assert ear.heads == [(200, {b"x-amzn-errortype": b"ModelError", b"x-mixed": b"\xe9", b"content-length": b"0"})]


OK = "HTTP/1.1 200 OK\r\n"


@pytest.mark.parametrize("wire", [
    pytest.param("hello there\r\n\r\n", id="no HTTP"),
    pytest.param("\x15\x03\x01\x00\x02\x02\x46", id="a TLS alert"),
    pytest.param("HTTP/3.1 200 OK\r\n\r\n", id="another version"),
    pytest.param("HTTP/1.1 OK\r\n\r\n", id="no status"),
    pytest.param(OK + "Content-Length: five\r\n\r\nhello", id="a length in words"),
    pytest.param(OK + "Content-Length: -5\r\n\r\nhello", id="a negative length"),
    pytest.param(OK + "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", id="two lengths"),
    pytest.param(OK + "Content-Length: 99999999999999999999\r\n\r\n", id="a length no number holds"),
    pytest.param(OK + "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", id="a length and chunks"),
    pytest.param(OK + "Transfer-Encoding: chunked\r\n\r\nxyz\r\n", id="a chunk size that is no number"),
    pytest.param(OK + "Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", id="a chunk size no number holds"),
    pytest.param(OK + "no colon\r\n\r\n", id="a header without a colon"),
    pytest.param(OK + "a\0b: c\r\n\r\n", id="a NUL in a name"),
    pytest.param(OK + "a: b\0c\r\n\r\n", id="a NUL in a value"),
    pytest.param("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n", id="an upgrade"),
])  # fmt: skip
async def test_what_is_no_reply_is_told_from_one_however_it_is_cut(wire: str) -> None:
    for pieces in every_cut(wire.encode("latin-1")):
        ear, transport, _ = heard(pieces)
        assert isinstance(ear.error, BadReply)
        assert transport.closed == "aborted"


async def test_what_came_before_a_bad_chunk_is_handed_on_first() -> None:
    wire = chunked(b"one", b"two", end=False) + b"xyz\r\n"
    for pieces in every_cut(wire):
        ear, transport, _ = heard(pieces)
        assert ear.body == b"onetwo"
        assert isinstance(ear.error, BadReply)
        assert transport.closed == "aborted"


async def test_trailers_are_passed_over_and_take_no_room() -> None:
    connection, ear = Connection(Origin("http", "peer", 80, ssl_context=None, idle_s=60.0)), Ear()
    connection.connection_made(Wire())
    connection.send(HEAD, BODY, ear)
    read(connection, chunked(b"hello", end=False) + b"0\r\n")
    for _ in range(100):
        read(connection, b"trailer: x\r\n" * 100)
    assert connection._headers == []
    read(connection, b"\r\n")
    assert (ear.body, ear.ended, len(ear.heads)) == (b"hello", True, 1)


@pytest.mark.parametrize("flood", [
    pytest.param(b"a: " + b"x" * 1000 + b"\r\n", id="headers"),
    pytest.param(b"x" * 1000, id="one header"),
    pytest.param(b"\r\nHTTP/1.1 100 Continue\r\n" + b"a: b\r\n" * 100, id="interim replies"),
])  # fmt: skip
async def test_a_head_without_end_is_cut_off(flood: bytes) -> None:
    ear, transport, _ = heard([OK.encode() + b"b: ", *[flood] * 200])
    assert isinstance(ear.error, BadReply)
    assert transport.closed == "aborted"


async def test_a_head_of_the_allowed_size_passes() -> None:
    wire = reply(b"hello", *["a: " + "x" * 1000] * 60)
    ear, _, _ = heard([wire[i : i + 1024] for i in range(0, len(wire), 1024)])
    assert (ear.status, ear.body) == (200, b"hello")


@pytest.mark.parametrize(
    "wire", [reply(b"hello"), chunked(b"hello"), chunked(b"hello", headers=("Connection: close",))]
)
@pytest.mark.parametrize("more", [
    pytest.param(reply(b"smuggled"), id="another reply"),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" + reply(b"smuggled"), id="an interim reply and another"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Le", id="the beginning of another"),
    pytest.param(b"H", id="a byte"),
    pytest.param(b"<html>", id="a page"),
])  # fmt: skip
async def test_bytes_behind_a_reply_spoil_its_connection_and_nothing_else(wire: bytes, more: bytes) -> None:
    for pieces in every_cut(wire + more):
        ear, transport, origin = heard(pieces)
        assert (ear.status, ear.body, ear.ended, ear.error) == (200, b"hello", True, None)
        assert transport.closed is not None
        assert origin.take() is None


# --- real sockets: ends --------------------------------------------------------------------------------------------


async def test_a_kept_connection_serves_the_next_request() -> None:
    async def script(peer: PeerConnection) -> None:
        while True:
            await peer.request()
            await peer.send(reply(b"hello"))

    async with Peer(script) as peer:
        origin = peer.origin()
        first, ear = await ask(origin)
        await within(ear.over.wait())
        for _ in range(3):
            again, ear = await ask(origin)
            await within(ear.over.wait())
            assert again is first
            assert ear.body == b"hello"
        assert (peer.accepted, origin.open_connections) == (1, 1)
        assert [(request.line, request.body) for request in peer.requests] == [("POST /x HTTP/1.1", BODY)] * 4
        origin.close()


async def test_running_requests_have_a_connection_each_and_the_latest_idle_one_is_used_first() -> None:
    async def script(peer: PeerConnection) -> None:
        while True:
            await peer.request()
            await peer.send(reply(b"%d" % peer.number))

    async with Peer(script) as peer:
        origin = peer.origin()
        ears = [Ear() for _ in range(3)]
        for connection, ear in [(await origin.connect(BOUND_S), ear) for ear in ears]:
            connection.send(HEAD, BODY, ear)
        for ear in ears:
            await within(ear.over.wait())
        assert sorted(ear.body for ear in ears) == [b"1", b"2", b"3"]
        assert (peer.accepted, origin.open_connections) == (3, 3)
        latest = (await asked(origin)).body
        assert [(await asked(origin)).body for _ in range(3)] == [latest] * 3
        assert peer.accepted == 3
        origin.close()


Play = Callable[[PeerConnection], Any]


async def closes(peer: PeerConnection) -> None:
    peer.close()


async def resets(peer: PeerConnection) -> None:
    peer.reset()


async def dropped(how: Play, before: bytes) -> tuple[Ear, Origin]:
    """Return what is heard of a reply that breaks off after some bytes, all of them read before."""
    go = asyncio.Event()

    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(before)
        await go.wait()
        await how(peer)

    async with Peer(script) as peer:
        origin = peer.origin()
        connection, ear = await ask(origin)
        if before:
            await until(lambda: connection._heard)
        go.set()
        await within(ear.over.wait())
        return ear, origin


@pytest.mark.parametrize("how", [pytest.param(closes, id="fin"), pytest.param(resets, id="rst")])
@pytest.mark.parametrize(("before", "began"), [
    pytest.param(b"", False, id="before any byte"),
    pytest.param(b"H", True, id="after one byte"),
    pytest.param(b"HTTP/1.1 200 OK\r\nConte", True, id="inside the head"),
    pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", True, id="after an interim reply"),
    pytest.param(reply(b"", length=5), True, id="after the head"),
    pytest.param(reply(b"hel", length=5), True, id="inside a body with a length"),
    pytest.param(chunked(b"hel", end=False), True, id="between chunks"),
    pytest.param(chunked(b"hel", end=False) + b"5\r\nab", True, id="inside a chunk"),
    pytest.param(chunked(b"hel", end=False) + b"0\r\n", True, id="before the last line"),
])  # fmt: skip
async def test_a_connection_that_ends_early_is_reported(how: Play, before: bytes, began: bool) -> None:
    ear, origin = await dropped(how, before)
    assert isinstance(ear.error, ConnectionDropped)
    assert (ear.error.began, ear.error.stale) == (began, False)
    assert ear.body == (b"hel" if b"hel" in before else b"") + (b"ab" if before.endswith(b"ab") else b"")
    assert origin.open_connections == 0


async def test_a_reply_without_a_length_that_is_reset_is_not_whole() -> None:
    ear, _ = await dropped(resets, b"HTTP/1.1 200 OK\r\n\r\nhel")
    assert ear.body == b"hel"
    assert isinstance(ear.error, ConnectionDropped)


@pytest.mark.parametrize("how", [pytest.param(closes, id="fin"), pytest.param(resets, id="rst")])
async def test_a_kept_connection_that_ends_as_the_next_request_comes_was_stale(how: Play) -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(reply(b"hello"))
        await peer.request()
        await how(peer)

    async with Peer(script) as peer:
        origin = peer.origin()
        await asked(origin)
        ear = await asked(origin)
        assert isinstance(ear.error, ConnectionDropped)
        assert (ear.error.began, ear.error.stale) == (False, True)
        assert (peer.accepted, origin.open_connections) == (1, 0)


async def test_a_kept_connection_is_not_stale_once_a_byte_of_the_reply_came() -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(reply(b"hello"))
        await peer.request()
        await peer.send(b"HTTP/1.1")
        peer.close()

    async with Peer(script) as peer:
        origin = peer.origin()
        await asked(origin)
        ear = await asked(origin)
        assert isinstance(ear.error, ConnectionDropped)
        assert (ear.error.began, ear.error.stale) == (True, False)


async def test_a_kept_connection_that_ends_later_was_not_stale(monkeypatch: pytest.MonkeyPatch) -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(reply(b"hello"))
        await peer.request()
        peer.close()

    monkeypatch.setattr(http1, "STALE_WITHIN_S", -1.0)  # so that any time is later
    async with Peer(script) as peer:
        origin = peer.origin()
        await asked(origin)
        ear = await asked(origin)
        assert isinstance(ear.error, ConnectionDropped)
        assert (ear.error.began, ear.error.stale) == (False, False)


async def test_a_connection_the_peer_closed_while_idle_is_not_used_again() -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(reply(b"%d" % peer.number))
        if peer.number == 1:
            peer.close()

    async with Peer(script) as peer:
        origin = peer.origin()
        assert (await asked(origin)).body == b"1"
        await until(lambda: origin.open_connections == 0)
        assert (await asked(origin)).body == b"2"
        origin.close()


async def test_bytes_on_an_idle_connection_close_it() -> None:
    speak = asyncio.Event()

    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(reply(b"%d" % peer.number))
        await speak.wait()
        if peer.number == 1:
            await peer.send(reply(b"smuggled"))
        await peer.gone()

    async with Peer(script) as peer:
        origin = peer.origin()
        assert (await asked(origin)).body == b"1"
        speak.set()
        await until(lambda: origin.open_connections == 0)
        assert (await asked(origin)).body == b"2"
        origin.close()


async def test_an_abort_closes_the_socket_at_once_and_silences_the_sink() -> None:
    gone = asyncio.Event()

    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(chunked(b"hello", end=False))
        assert await peer.gone() == b""
        gone.set()

    async with Peer(script) as peer:
        origin = peer.origin()
        connection, ear = await ask(origin)
        await within(ear.reading.wait())
        connection.abort()
        for _ in range(3):
            await asyncio.sleep(0)
        assert origin.open_connections == 0
        await within(gone.wait(), 0.1)
        assert not ear.over.is_set()


async def test_an_abort_out_of_a_callback_ends_the_exchange_there() -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(chunked(b"hello") + reply(b"smuggled"))
        await peer.gone()

    async with Peer(script) as peer:
        origin = peer.origin()
        connection = await origin.connect(BOUND_S)
        ear = Ear(then=lambda _: connection.abort())
        connection.send(HEAD, BODY, ear)
        await until(lambda: origin.open_connections == 0)
        assert ear.body == b"hello"
        assert not ear.over.is_set()
        assert origin.take() is None


async def test_a_sink_that_fails_ends_its_own_exchange_only() -> None:
    told: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: told.append(context))

    async def script(peer: PeerConnection) -> None:
        while True:
            await peer.request()
            await peer.send(reply(b"hello"))

    def fail(data: bytes) -> None:
        raise RuntimeError("a defect")

    async with Peer(script) as peer:
        origin = peer.origin()
        _, ear = await ask(origin, Ear(then=fail))
        await within(ear.over.wait())
        assert isinstance(ear.error, ConnectionDropped)
        assert [str(context["exception"]) for context in told] == ["a defect"]
        assert origin.open_connections == 0
        assert (await asked(origin)).body == b"hello"
        origin.close()


# --- the pool ------------------------------------------------------------------------------------------------------


async def test_what_was_idle_too_long_is_not_used_again() -> None:
    async with Peer(greets) as peer:
        origin = peer.origin()
        first, ear = await ask(origin)
        await within(ear.over.wait())
        first.idle_since -= 60.0
        assert (await asked(origin)).body == b"2"
        await until(lambda: origin.open_connections == 1)
        origin.close()


async def test_the_sweep_closes_what_was_idle_too_long_without_being_asked() -> None:
    async with Peer(greets) as peer:
        origin = peer.origin(idle_s=0.05)
        await asked(origin)
        assert origin.open_connections == 1
        await until(lambda: origin.open_connections == 0)
        assert origin.take() is None


async def test_the_sweep_spares_what_is_younger_and_comes_again_for_it() -> None:
    async with Peer(greets) as peer:
        origin = peer.origin(idle_s=60.0)
        ears = [Ear() for _ in range(3)]
        for connection, ear in [(await origin.connect(BOUND_S), ear) for ear in ears]:
            connection.send(HEAD, BODY, ear)
            await within(ear.over.wait())
        oldest = origin._idle[0]
        oldest.idle_since -= 60.0
        origin._sweep()
        await until(lambda: origin.open_connections == 2)
        assert not oldest.usable
        assert origin._sweeper is not None
        left = 60.0 - (asyncio.get_running_loop().time() - origin._idle[0].idle_since)
        assert origin._sweeper.when() - asyncio.get_running_loop().time() == pytest.approx(left, abs=0.5)
        origin.close()


async def test_closing_the_pool_drops_idle_and_running_connections() -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.request()
        if peer.number == 1:
            await peer.send(reply(b"hello"))
        await peer.gone()

    async with Peer(script) as peer:
        origin = peer.origin()
        _, ear = await ask(origin)
        _, running = await ask(origin)
        await within(ear.over.wait())
        assert origin.open_connections == 2
        origin.close()
        await until(lambda: origin.open_connections == 0)
        assert origin.take() is None
        assert not running.over.is_set()


# --- back-pressure -------------------------------------------------------------------------------------------------


async def test_a_pause_reaches_the_peer_and_a_resume_brings_the_rest() -> None:
    size, stuck = 48 * 2**20, asyncio.Event()

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

    async with Peer(script) as peer:
        origin = peer.origin()
        connection = await origin.connect(BOUND_S)
        ear = Ear(then=lambda _: None if stuck.is_set() else connection.pause())
        connection.send(HEAD, BODY, ear)
        await within(stuck.wait())
        assert sum(map(len, ear.pieces)) <= http1.READ_BYTES
        connection.resume()
        await within(ear.over.wait())
        assert sum(map(len, ear.pieces)) == size
        assert max(map(len, ear.pieces)) <= http1.READ_BYTES
        origin.close()


async def test_a_connection_paused_by_the_last_bytes_of_its_reply_reads_for_the_next_request() -> None:
    async with Peer(greets) as peer:
        origin = peer.origin()
        connection = await origin.connect(BOUND_S)
        ear = Ear(then=lambda _: connection.pause())
        connection.send(HEAD, BODY, ear)
        await within(ear.over.wait())
        assert (await asked(origin)).body == b"1"
        origin.close()


async def test_pausing_and_resuming_a_connection_that_is_gone_does_nothing() -> None:
    async with Peer(closes) as peer:
        connection = await peer.origin().connect(BOUND_S)
        await until(lambda: not connection.usable)
        connection.pause()
        connection.resume()


async def test_connections_share_a_buffer_but_never_bytes() -> None:
    count, rounds = 12, 40

    async def script(peer: PeerConnection) -> None:
        request = await peer.request()
        await peer.send(chunked(end=False))
        for _ in range(rounds):
            await peer.send(chunk(request.body * 700))
            await asyncio.sleep(0)  # the others' turn
        await peer.send(b"0\r\n\r\n")

    async with Peer(script) as peer:
        origin = peer.origin()
        ears = []
        for number in range(count):
            ear, connection = Ear(), await origin.connect(BOUND_S)
            connection.send(HEAD, b"%02d" % number, ear)
            ears.append(ear)
        for number, ear in enumerate(ears):
            await within(ear.over.wait())
            assert ear.body == b"%02d" % number * 700 * rounds
        assert sum(len(ear.pieces) for ear in ears) > count
        origin.close()
