"""Running streams: how they fail, how long they may take, how they are held up, and when a request is sent again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from deploy.local import eventstream, faults
from deploy.local.faults import Fault
from gateway.errors import GatewayError, UpstreamError, UpstreamProtocol, UpstreamTimeout, UpstreamUnavailable
from gateway.sagemaker.http1 import Connection, Origin
from tests.sagemaker.peer import Peer, PeerConnection, anyio_backend, chunked, reply, settled, until, within
from tests.sagemaker.target import PATIENT, Called, Listener, event_stream, local, origin_of, part
from tests.sagemaker.test_sagemaker_connect import full

__all__ = ["anyio_backend", "full"]  # the fixtures: both event loops, and a server that answers nothing

pytestmark = pytest.mark.anyio

BOTH = pytest.mark.parametrize("operation", ["whole", "stream"])
PARTS = [b"one", b"two", b"three"]


# --- how a stream ends ---------------------------------------------------------------------------------------------

DROPPED, CUT = "connection dropped", "stream cut inside a message"
ENDINGS = [
    pytest.param(faults.Close(after_frames=2, ended=True), b"onetwo", None, None, id="the upstream says it is over"),
    pytest.param(faults.EmptyStream(), b"", None, None, id="empty"),
    pytest.param(faults.EmptyPart(frame=1), b"onetwothree", None, None, id="with an empty part"),
    pytest.param(faults.UnknownEvent(frame=1), b"onetwothree", None, None, id="with an unknown event"),
    pytest.param(faults.ExtraHeaders(frame=1), b"onetwothree", None, None, id="with a header of every type"),
    pytest.param(faults.Close(after_frames=2), b"onetwo", UpstreamError, DROPPED, id="closed"),
    pytest.param(faults.Close(after_frames=0), b"", UpstreamError, DROPPED, id="closed before the first frame"),
    pytest.param(faults.Reset(after_frames=2), b"onetwo", UpstreamError, DROPPED, id="reset"),
    pytest.param(faults.TruncatedFrame(frame=2, at=5), b"onetwo", UpstreamProtocol, CUT, id="cut in a prelude"),
    pytest.param(faults.TruncatedFrame(frame=2, at=40), b"onetwo", UpstreamProtocol, CUT, id="cut in the headers"),
    pytest.param(
        faults.TruncatedFrame(frame=2, at=40, then="close"), b"onetwo", UpstreamError, DROPPED, id="cut and closed"
    ),
    pytest.param(
        faults.CrcFlipped(frame=2), b"onetwo", UpstreamProtocol, "message checksum mismatch", id="a wrong checksum"
    ),
    pytest.param(
        faults.CrcFlipped(frame=2, which="prelude"), b"onetwo", UpstreamProtocol, "prelude checksum mismatch",
        id="a wrong checksum of a prelude",
    ),
    pytest.param(
        faults.HugeLength(frame=2), b"onetwo", UpstreamProtocol, "message length out of bounds", id="a huge length"
    ),
    pytest.param(
        faults.BadHeadersLength(frame=2), b"onetwo", UpstreamProtocol, "message length out of bounds",
        id="headers longer than their frame",
    ),
    pytest.param(
        faults.HeaderType(frame=2), b"onetwo", UpstreamProtocol, "headers do not parse", id="an unknown header type"
    ),
    pytest.param(faults.NoHeaders(frame=2), b"onetwo", UpstreamProtocol, "no message type", id="no headers"),
    pytest.param(
        faults.ModelStreamError(after_frames=2), b"onetwo", UpstreamTimeout,
        "ModelStreamError ModelInvocationTimeExceeded", id="the model took too long",
    ),
    pytest.param(
        faults.ModelStreamError(after_frames=2, error_code="StreamBroken"), b"onetwo", UpstreamError,
        "ModelStreamError StreamBroken", id="the model's stream broke",
    ),
    pytest.param(
        faults.ModelStreamError(after_frames=0, error_code="StreamBroken"), b"", UpstreamError,
        "ModelStreamError StreamBroken", id="the model's stream broke at once",
    ),
    pytest.param(
        faults.InternalStreamFailure(after_frames=2), b"onetwo", UpstreamError, "InternalStreamFailure",
        id="SageMaker failed",
    ),
    pytest.param(
        faults.ErrorFrame(after_frames=2), b"onetwo", UpstreamError, "InternalError", id="an error without a model"
    ),
]  # fmt: skip


@pytest.mark.parametrize("chunking", ["frame", "join:100"])
@pytest.mark.parametrize(("fault", "received", "kind", "detail"), ENDINGS)
async def test_what_came_before_the_end_is_delivered_then_the_reason_once(
    fault: Fault, received: bytes, kind: type[GatewayError] | None, detail: str | None, chunking: str
) -> None:
    async with local(PARTS, chunking=chunking) as sagemaker:
        sagemaker.add_fault(fault)
        called = Called(origin_of(sagemaker.url))
        listener = await called.streamed()
        if kind is not None:
            assert isinstance(listener.error, kind)
            assert (listener.error.detail, listener.error.retryable) == (detail, False)
        assert (listener.received, listener.ended) == (received, kind is None)
        call = await sagemaker.call_ended(1)
        assert (len(sagemaker.calls), call.faults, called.resent) == (1, (fault.kind,), [])
        assert (await called.streamed()).received == b"onetwothree"


@pytest.mark.parametrize("then", ["a bad chunk in the same read", "a bad chunk in the next"])
async def test_a_broken_chunk_ends_the_stream_after_what_came_before(then: str) -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.request()
        if then.endswith("same read"):
            await peer.send(event_stream(b"one", end=False) + b"not-a-size\r\n")
        else:
            await peer.send(event_stream(b"one", end=False))
            await within(listener.reading.wait())
            await peer.send(b"not-a-size\r\n")
        await peer.gone()

    listener = Listener()
    async with Peer(script) as peer:
        await Called(peer.origin()).target.stream(b"{}", "req_1", listener)
        await within(listener.over.wait())
        assert listener.received == b"one"
        assert isinstance(listener.error, UpstreamProtocol)


async def test_every_cut_inside_a_frame_is_reported() -> None:
    whole = eventstream.payload_part(b"payload")
    async with local([b"payload"]) as sagemaker:
        called = Called(origin_of(sagemaker.url))
        for at in range(1, len(whole)):
            sagemaker.add_fault(faults.TruncatedFrame(at=at))
            listener = await called.streamed()
            assert isinstance(listener.error, UpstreamProtocol), at
            assert (listener.error.detail, listener.received) == (CUT, b""), at
        assert sagemaker.accepted == 1  # the HTTP reply was whole each time


@pytest.mark.parametrize("cut", ["as-written", "bytes", "random:1:9"])
@pytest.mark.parametrize("chunking", ["frame", "join:100", "split:1", "split:7"])
async def test_a_stream_is_the_same_however_it_is_cut(cut: str, chunking: str) -> None:
    text = "h\u00e9\U0001f600\n".encode() * 20
    async with local([text], cut=cut, chunking=chunking) as sagemaker:
        listener = await Called(origin_of(sagemaker.url)).streamed()
        assert (listener.received, listener.error) == (text, None)


async def test_ten_thousand_frames_in_one_write_hold_the_loop_for_moments_only() -> None:
    payloads = [b"%d\n" % number for number in range(10_000)]
    stream = b"".join(map(eventstream.payload_part, payloads))
    longest = 0.0

    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(chunked(stream, headers=(f"Content-Type: {eventstream.CONTENT_TYPE}",)))
        await peer.gone()

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - before)

    async with Peer(script) as peer:
        called, listener = Called(origin := peer.origin()), Listener()
        await called.target.stream(b"{}", "req_1", listener)
        await peer.request_arrived(1)
        watching = asyncio.ensure_future(watch())
        await within(listener.over.wait())
        watching.cancel()
        assert listener.received == b"".join(payloads)
        assert longest < 0.05  # of this thread's own processor time
        origin.close()


# --- time ----------------------------------------------------------------------------------------------------------


async def timed_out(called: Called, operation: str) -> tuple[str | None, float]:
    """Return which limit a call passed, and after how many seconds."""
    began = time.monotonic()
    error = await called.failure(operation)
    assert isinstance(error, UpstreamTimeout)
    assert not error.retryable
    return error.detail, time.monotonic() - began


@BOTH
async def test_connecting_takes_no_longer_than_its_limit(operation: str, full: int) -> None:
    called = Called(Origin("http", "127.0.0.1", full, ssl_context=None, idle_s=60.0), timeouts={"connect_s": 0.1})
    call = called.whole() if operation == "whole" else called.streamed()
    began = time.monotonic()
    with pytest.raises(UpstreamUnavailable, match="no capacity") as caught:
        await call
    assert caught.value.retryable
    assert 0.09 < time.monotonic() - began < 0.6


@BOTH
async def test_waiting_for_the_first_byte_takes_no_longer_than_its_limit(operation: str) -> None:
    async with local() as sagemaker:
        sagemaker.add_fault(faults.Delay())
        called = Called(origin_of(sagemaker.url), timeouts={"first_byte_s": 0.1, "gap_s": 0.02})
        detail, took = await timed_out(called, operation)
        assert detail == "timeout first_byte"
        assert 0.09 < took < 0.6
        assert (await sagemaker.call_ended(1)).hung_up_ms is not None
        assert len(sagemaker.calls) == 1


@BOTH
async def test_a_head_alone_is_not_the_first_byte(operation: str) -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(event_stream(end=False))
        await peer.gone()

    async with Peer(script) as peer:
        called = Called(peer.origin(), timeouts={"first_byte_s": 0.15, "gap_s": 0.02})
        detail, took = await timed_out(called, operation)
        assert detail == "timeout first_byte"
        assert took > 0.14


@BOTH
async def test_silence_after_the_first_byte_takes_no_longer_than_a_gap(operation: str) -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(event_stream(b"one", end=False))
        assert await peer.gone() == b""

    async with Peer(script) as peer:
        called = Called(origin := peer.origin(), timeouts={"gap_s": 0.1})
        detail, took = await timed_out(called, operation)
        assert detail == "timeout gap"
        assert 0.09 < took < 0.6
        await until(lambda: origin.open_connections == 0)
        assert len(peer.requests) == 1


async def test_a_stall_in_mid_stream_delivers_what_came_before() -> None:
    async with local(PARTS) as sagemaker:
        sagemaker.add_fault(faults.Stall(after_frames=2))
        listener = await Called(origin_of(sagemaker.url), timeouts={"gap_s": 0.1}).streamed()
        assert (listener.received, type(listener.error)) == (b"onetwo", UpstreamTimeout)
        assert (await sagemaker.call_ended(1)).hung_up_ms is not None


@BOTH
async def test_slow_but_alive_is_cut_by_no_gap(operation: str) -> None:
    async with local(b"x" * 400) as sagemaker:
        sagemaker.add_fault(faults.Drip(interval_s=0.01, bytes=10))
        called = Called(origin_of(sagemaker.url), timeouts={"first_byte_s": 0.25, "gap_s": 0.25})
        began = time.monotonic()
        assert await called.failure(operation) is None
        assert time.monotonic() - began > 0.35


@BOTH
async def test_slow_but_alive_is_cut_by_the_total(operation: str) -> None:
    async with local(b"x" * 4_000) as sagemaker:
        sagemaker.add_fault(faults.Drip(interval_s=0.02, bytes=10))
        detail, took = await timed_out(Called(origin_of(sagemaker.url), timeouts={"total_s": 0.3}), operation)
        assert detail == "timeout total"
        assert 0.29 < took < 0.9


# --- back-pressure -------------------------------------------------------------------------------------------------


async def test_a_paused_stream_reads_nothing_and_no_gap_passes() -> None:
    size, stuck = 24 * 2**20, asyncio.Event()
    piece = part(b"x" * 2**20)

    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(event_stream(end=False))
        for _ in range(size // 2**20):
            sending = asyncio.ensure_future(peer.send(piece))
            done, _ = await asyncio.wait([sending], timeout=0.3)
            if not done:
                stuck.set()
            await sending
        await peer.send(b"0\r\n\r\n")
        await peer.gone()

    async with Peer(script) as peer:
        called = Called(origin := peer.origin(), timeouts={"gap_s": 0.2})
        listener = Listener()
        stream = await called.target.stream(b"{}", "req_1", listener)
        await within(listener.reading.wait())
        before = len(listener.received)
        stream.pause()
        stream.pause()
        await within(stuck.wait())  # longer than a gap may be
        assert len(listener.received) == before
        assert not listener.over.is_set()
        stream.resume()
        stream.resume()
        await within(listener.over.wait())
        assert (len(listener.received), listener.ended) == (size, True)
        origin.close()


async def test_the_total_goes_on_while_paused() -> None:
    async with local(PARTS) as sagemaker:
        sagemaker.add_fault(faults.Stall(after_frames=1))
        listener = Listener()
        called = Called(origin_of(sagemaker.url), timeouts={"gap_s": 0.05, "total_s": 0.3})
        stream = await called.target.stream(b"{}", "req_1", listener)
        stream.pause()
        await within(listener.over.wait())
        assert isinstance(listener.error, UpstreamTimeout)
        assert listener.error.detail == "timeout total"


async def test_a_stream_paused_by_its_last_bytes_leaves_a_connection_that_works() -> None:
    async with local(PARTS, chunking="join:100") as sagemaker:
        called = Called(origin_of(sagemaker.url))
        listener = Listener(then=lambda _: stream.pause())
        stream = await called.target.stream(b"{}", "req_1", listener)
        await within(listener.over.wait())
        assert listener.ended
        assert (await called.streamed()).received == b"onetwothree"
        assert sagemaker.accepted == 1


# --- sent again ----------------------------------------------------------------------------------------------------


def closes(peer: PeerConnection) -> None:
    peer.close()


def resets(peer: PeerConnection) -> None:
    peer.reset()


def stale(how: Callable[[PeerConnection], None], *, then: Any = None) -> Any:
    """Return a script: the first connection answers once, then ends as the second request comes; later ones `then`."""

    async def script(peer: PeerConnection) -> None:
        request = await peer.request()
        if peer.number > 1 and then is not None:
            await then(peer)
            return
        await peer.send(event_stream(b"%d" % peer.number) if "stream" in request.line else reply(b"%d" % peer.number))
        await peer.request()
        how(peer)

    return script


HOW = pytest.mark.parametrize("how", [pytest.param(closes, id="fin"), pytest.param(resets, id="rst")])


@BOTH
@HOW
async def test_a_request_on_a_stale_connection_is_sent_once_more_on_a_new_one(
    operation: str, how: Callable[[PeerConnection], None]
) -> None:
    async with Peer(stale(how)) as peer:
        called = Called(origin := peer.origin())
        assert await called.whole(b"first") == b"1"
        if operation == "whole":
            assert await called.whole(b"second") == b"2"
        else:
            assert (await called.streamed(b"second")).received == b"2"
        assert [(request.connection, request.body) for request in peer.requests] == [
            (1, b"first"), (1, b"second"), (2, b"second")
        ]  # fmt: skip
        assert peer.requests[1].line == peer.requests[2].line
        assert peer.requests[1].headers == peer.requests[2].headers
        assert called.resent == ["chat"]
        origin.close()


@BOTH
async def test_the_local_sagemaker_may_close_idle_connections_as_it_likes(operation: str) -> None:
    async with local() as sagemaker:
        called = Called(origin_of(sagemaker.url))
        for fault in (
            faults.CloseIdle("next_request"),
            faults.CloseIdle("next_request", reset=True),
            faults.CloseIdle("at_once"),
        ):
            sagemaker.add_fault(fault)
            assert await called.failure(operation) is None
            assert await called.failure(operation) is None
        assert len(sagemaker.calls) == 6


@BOTH
async def test_a_request_is_sent_again_only_once(operation: str) -> None:
    async def drops(peer: PeerConnection) -> None:
        peer.close()

    async with Peer(stale(closes, then=drops)) as peer:
        called = Called(peer.origin())
        await called.whole()
        error = await called.failure(operation)
        assert isinstance(error, UpstreamError)
        assert error.retryable
        assert (len(peer.requests), peer.accepted, called.resent) == (3, 2, ["chat"])


@BOTH
async def test_a_kept_connection_that_answered_a_byte_is_not_stale(operation: str) -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(reply(b"1"))
        await peer.request()
        await peer.send(b"HTTP/1.1 ")
        peer.close()

    async with Peer(script) as peer:
        called = Called(peer.origin())
        await called.whole()
        error = await called.failure(operation)
        assert isinstance(error, UpstreamError)
        assert (error.retryable, len(peer.requests), called.resent) == (False, 2, [])


class SlowOrigin(Origin):
    """A pool whose second connection takes as long as the test wants."""

    gate: asyncio.Event | None = None

    async def connect(self, timeout_s: float) -> Connection:
        if self.gate is not None:
            await self.gate.wait()
        return await super().connect(timeout_s)


async def sending_again(peer: Peer, listener: Listener, **timeouts: float) -> tuple[SlowOrigin, asyncio.Event, Any]:
    """Return a stream whose request went out on a stale connection, and which waits for a new one."""
    origin = SlowOrigin("http", "127.0.0.1", peer.port, ssl_context=None, idle_s=60.0)
    called = Called(origin, timeouts=PATIENT | timeouts)
    await called.whole()
    origin.gate = asyncio.Event()
    stream = await called.target.stream(b"{}", "req_1", listener)
    await until(lambda: called.resent == ["chat"])
    return origin, origin.gate, stream


async def test_a_stream_aborted_while_it_is_sent_again_sends_nothing() -> None:
    async with Peer(stale(closes)) as peer:
        origin, gate, stream = await sending_again(peer, listener := Listener())
        stream.abort()
        gate.set()
        await settled()
        assert (len(peer.requests), origin.open_connections, listener.over.is_set()) == (2, 0, False)


async def test_a_stream_whose_time_passes_while_it_is_sent_again_sends_nothing() -> None:
    async with Peer(stale(closes)) as peer:
        origin, gate, _ = await sending_again(peer, listener := Listener(), first_byte_s=0.1)
        await within(listener.over.wait())
        assert isinstance(listener.error, UpstreamTimeout)
        gate.set()
        await settled()
        assert (len(peer.requests), origin.open_connections) == (2, 0)


async def test_a_stream_paused_while_it_is_sent_again_stays_paused() -> None:
    async with Peer(stale(closes)) as peer:
        origin, gate, stream = await sending_again(peer, listener := Listener())
        stream.pause()
        gate.set()
        await peer.request_arrived(3)
        await settled()
        assert listener.received == b""
        stream.resume()
        await within(listener.over.wait())
        assert (listener.received, listener.error) == (b"2", None)
        origin.close()


@BOTH
async def test_no_new_connection_for_a_request_sent_again_is_unavailable(operation: str) -> None:
    async with Peer(stale(closes)) as peer:
        called = Called(peer.origin())
        await called.whole()
        peer._server.close()
        error = await called.failure(operation)
        assert isinstance(error, UpstreamUnavailable)
        assert (error.retryable, len(peer.requests)) == (True, 2)
