"""The callers' connections: limits, time, refusals, leaving, and what is left of a connection when it is over."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import re
import socket
import struct
from collections.abc import Callable
from typing import Any

import pytest

from gateway.http.protocol import MAX_PIPELINED, GatewayProtocol, connection_of
from tests.http.front import LOOPS, Front, rest, run, serving

STATUS = re.compile(rb"HTTP/1\.1 (\d{3}) ")
GET = b"GET /%b HTTP/1.1\r\nhost: a\r\n\r\n"
LAST = b"GET /last HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    """The gateway runs on uvloop; whoever embeds it may use asyncio's own."""
    return str(request.param)


def statuses(received: bytes) -> list[int]:
    return [int(status) for status in STATUS.findall(received)]


def echoed(body: bytes, *lines: bytes) -> bytes:
    head = [b"POST /echo HTTP/1.1", b"host: a", b"content-length: %d" % len(body), *lines, b"", b""]
    return b"\r\n".join(head) + body


class Waiting:
    """A hot route whose answer waits until the test lets it go; it knows what happens to its caller meanwhile."""

    def __init__(self) -> None:
        self.connections: list[GatewayProtocol] = []
        self.asked = asyncio.Event()
        self.gone = asyncio.Event()
        self.log: list[str] = []

    async def __call__(self, scope: Any, receive: Any) -> None:
        connection = connection_of(scope)
        self.connections.append(connection)
        connection.listen(self)
        self.asked.set()

    def on_gone(self) -> None:
        self.log.append("gone")
        self.gone.set()

    def on_pause(self) -> None:
        self.log.append("pause")

    def on_resume(self) -> None:
        self.log.append("resume")

    def probe(self) -> None:
        self.log.append("probe")
        self.connections[-1].interim()


class Listening:
    """Listens, and is all that holds on to its connection; until the caller is gone."""

    def __init__(self, connection: GatewayProtocol) -> None:
        self.connection: GatewayProtocol | None = connection
        connection.listen(self)

    def on_gone(self) -> None:
        self.connection = None

    def on_pause(self) -> None:
        """Nothing is written."""

    def on_resume(self) -> None:
        """Nothing is written."""

    def probe(self) -> None:
        if self.connection is not None:
            self.connection.interim()


def resetting(writer: asyncio.StreamWriter) -> None:
    """Close with RST."""
    connected = writer.get_extra_info("socket")
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


# Heads


@pytest.mark.parametrize(
    ("size", "status"),
    [
        pytest.param(900, 200, id="within"),
        pytest.param(1100, 431, id="over"),
        pytest.param(100_000, 431, id="far over"),
    ],
)
@pytest.mark.parametrize("pieces", [1, 3, 50])
def test_a_head_has_a_limit_however_it_arrives(loop: str, size: int, status: int, pieces: int) -> None:
    sent = b"GET /a HTTP/1.1\r\nhost: a\r\nconnection: close\r\nx-a: %b\r\n\r\n" % (b"a" * (size - 60))

    async def main() -> bytes:
        async with serving(max_header_bytes=1000) as front:
            step = len(sent) // pieces + 1
            return await front.exchange(*(sent[start : start + step] for start in range(0, len(sent), step)))

    received = run(loop, main())
    assert statuses(received) == [status]
    if status == 431:
        assert b'"code":"headers_too_large"' in received
        assert b"connection: close" in received


def test_many_small_requests_in_one_read_are_no_large_head(loop: str) -> None:
    """The read ends inside a head, after more bytes than a head may have."""

    async def main() -> bytes:
        async with serving(max_header_bytes=200) as front:
            batch = GET % b"a" * 20
            return await front.exchange(batch + LAST[:10], LAST[10:])

    assert statuses(run(loop, main())) == [200] * 21


def test_a_large_body_and_the_next_head_in_one_read_are_no_large_head(loop: str) -> None:
    async def main() -> bytes:
        async with serving(max_header_bytes=200) as front:
            return await front.exchange(echoed(b"x" * 5000) + LAST[:10], LAST[10:])

    assert statuses(run(loop, main())) == [200, 200]


def test_a_head_without_end_is_refused_at_the_limit_and_not_later(loop: str) -> None:
    async def main() -> tuple[bytes, int]:
        async with serving(max_header_bytes=1000) as front:
            reader, writer = await front.caller()
            writer.write(b"GET /a HTTP/1.1\r\nhost: a\r\nx-a: ")
            sent = 0
            await front.until(lambda: front.open_connections == 1)
            with contextlib.suppress(ConnectionError):
                while not reader._buffer:  # type: ignore[attr-defined]  # whether something has come, without waiting
                    writer.write(b"a" * 100)
                    sent += 100
                    await asyncio.sleep(0.002)
            received = await rest(reader)
            writer.close()
            return received, sent

    received, sent = run(loop, main())
    assert statuses(received) == [431]
    assert sent < 20_000


# Time


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        pytest.param(b"GET /a HTTP/1.1\r\nhost", b"headers", id="a head"),
        pytest.param(b"G", b"headers", id="the first byte of a head"),
        pytest.param(echoed(b"12345")[:-1], b"body", id="a body"),
        pytest.param(GET % b"a" + b"GET /b", b"headers", id="the next head"),
    ],
)
def test_what_is_never_finished_is_given_up(loop: str, sent: bytes, message: bytes) -> None:
    async def main() -> tuple[bytes, float]:
        async with serving(header_timeout_s=0.05, body_timeout_s=0.05) as front:
            began = asyncio.get_running_loop().time()
            received = await front.exchange(sent)
            return received, asyncio.get_running_loop().time() - began

    received, took_s = run(loop, main())
    assert statuses(received)[-1:] == [408]
    assert b"The request's %b did not arrive in time." % message in received
    assert 0.04 < took_s < 2


def test_a_connection_on_which_nothing_comes_is_closed_without_a_word(loop: str) -> None:
    async def main() -> bytes:
        async with serving(keep_alive_s=0.05) as front:
            return await front.exchange()

    assert run(loop, main()) == b""


def test_a_connection_that_idles_after_an_answer_is_closed(loop: str) -> None:
    async def main() -> bytes:
        async with serving(keep_alive_s=0.05) as front:
            return await front.exchange(GET % b"a")

    received = run(loop, main())
    assert statuses(received) == [200]
    assert b"connection: close" not in received


def test_a_slow_body_is_not_cut_by_the_heads_limit(loop: str) -> None:
    async def main() -> bytes:
        async with serving(header_timeout_s=0.05, body_timeout_s=5) as front:
            reader, writer = await front.caller()
            sent = echoed(b"12345", b"connection: close")
            writer.write(sent[:-3])
            await asyncio.sleep(0.1)  # longer than a head may take
            writer.write(sent[-3:])
            received = await rest(reader)
            writer.close()
            return received

    assert run(loop, main()).endswith(b"\r\n\r\n12345")


# Bodies


def test_a_caller_who_expects_it_is_told_to_go_on(loop: str) -> None:
    async def main() -> tuple[bytes, bytes]:
        async with serving() as front:
            reader, writer = await front.caller()
            sent = echoed(b"12345", b"expect: 100-continue", b"connection: close")
            writer.write(sent[:-5])
            interim = await reader.readuntil(b"\r\n\r\n")
            writer.write(sent[-5:])
            received = await rest(reader)
            writer.close()
            return interim, received

    interim, received = run(loop, main())
    assert interim == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert statuses(received) == [200]


def test_an_answer_before_the_body_closes_and_is_not_lost(loop: str) -> None:
    """The caller goes on sending: a plain close would reset the connection under the answer."""

    async def refuse(scope: Any, receive: Any) -> None:
        connection_of(scope).answer(413, b"", b"too much")

    async def main() -> bytes:
        async with serving(hot={"/refuse": refuse}) as front:
            head = b"POST /refuse HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000\r\n\r\n"
            return await front.exchange(head, *[b"x" * 10_000] * 100)

    received = run(loop, main())
    assert statuses(received) == [413]
    assert received.endswith(b"\r\nconnection: close\r\n\r\ntoo much")


def test_who_goes_on_sending_after_a_refusal_is_cut(loop: str) -> None:
    async def main() -> int:
        async with serving() as front:
            reader, writer = await front.caller()
            writer.write(b"\x00\r\n\r\n")
            sent = 0
            with contextlib.suppress(ConnectionError):
                while sent < 100_000_000:
                    writer.write(b"x" * 100_000)
                    await writer.drain()
                    sent += 100_000
            await rest(reader)
            writer.close()
            return sent

    assert run(loop, main()) < 50_000_000


# Answers


def test_an_answer_to_head_has_no_body(loop: str) -> None:
    async def main() -> bytes:
        async with serving() as front:
            return await front.exchange(b"HEAD /echo HTTP/1.1\r\nhost: a\r\n\r\n" + LAST)

    received = run(loop, main())
    assert statuses(received) == [200, 200]
    assert received.count(b"content-length: 0\r\n\r\nHTTP/1.1") == 1


@pytest.mark.parametrize(
    ("first", "expected"),
    [
        pytest.param(
            b"GET /s HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n", b"2\r\nab\r\n1\r\nc\r\n0\r\n\r\n", id="1.1"
        ),
        pytest.param(b"GET /s HTTP/1.0\r\n\r\n", b"abc", id="1.0"),
    ],
)
def test_a_stream_is_chunked_where_that_is_understood(loop: str, first: bytes, expected: bytes) -> None:
    async def stream(scope: Any, receive: Any) -> None:
        connection = connection_of(scope)
        connection.begin(b"x-a: b\r\n")
        connection.write(b"ab")
        connection.write(b"c")
        connection.finish()

    async def main() -> bytes:
        async with serving(hot={"/s": stream}) as front:
            return await front.exchange(first)

    head, _, body = run(loop, main()).partition(b"\r\n\r\n")
    assert body == expected
    assert b"\r\nx-a: b" in head
    assert b"\r\nconnection: close" in head
    assert (b"transfer-encoding: chunked" in head) == (expected != b"abc")


def test_a_stream_that_is_cut_has_no_last_chunk(loop: str) -> None:
    async def stream(scope: Any, receive: Any) -> None:
        connection = connection_of(scope)
        connection.begin(b"")
        connection.write(b"ab")
        connection.finish(clean=False)

    async def main() -> bytes:
        async with serving(hot={"/s": stream}) as front:
            return await front.exchange(GET % b"s")

    assert run(loop, main()).endswith(b"\r\n\r\n2\r\nab\r\n")


def test_an_answer_that_comes_too_late_is_none(loop: str) -> None:
    async def main() -> bool:
        waiting = Waiting()
        async with serving(hot={"/wait": waiting}) as front:
            _, writer = await front.caller()
            writer.write(GET % b"wait")
            await waiting.asked.wait()
            writer.close()
            await waiting.gone.wait()
            (connection,) = waiting.connections
            connection.answer(200, b"", b"late")
            return connection.answerable

    assert run(loop, main()) is False


# Several requests


def test_hot_and_ordinary_routes_answer_in_the_order_of_their_requests(loop: str) -> None:
    async def main() -> bytes:
        async with serving() as front:
            return await front.exchange(GET % b"one" + echoed(b"two") + GET % b"three" + echoed(b"four") + LAST)

    bodies = re.findall(rb"\r\n\r\n(/?\w+?)(?=HTTP|$)", run(loop, main()))
    assert bodies == [b"/one", b"two", b"/three", b"four", b"/last"]


def test_more_than_may_wait_are_not_taken(loop: str) -> None:
    async def main() -> tuple[bytes, int]:
        waiting = Waiting()
        async with serving(hot={"/wait": waiting}) as front:
            reader, writer = await front.caller()
            writer.write(GET % b"wait" + GET % b"a" * 1000)
            await waiting.asked.wait()
            (connection,) = waiting.connections
            held = len(connection.pipeline)
            connection.answer(200, b"", b"")
            received = await rest(reader)
            writer.close()
            return received, held

    received, held = run(loop, main())
    assert held == MAX_PIPELINED
    assert statuses(received) == [200] * (1 + MAX_PIPELINED)


def test_who_does_not_read_its_answers_is_not_read_either(loop: str) -> None:
    """Only what one read brings waits here, whatever the caller goes on to send; and at last it is cut."""

    async def large(scope: Any, receive: Any) -> None:
        asked.append(1)
        connection_of(scope).answer(200, b"", b"x" * 100_000)

    asked: list[int] = []

    async def main() -> tuple[int, int]:
        async with serving(hot={"/large": large}, write_timeout_s=0.3) as front:
            raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.setblocking(False)
            with raw:
                await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", front.port))
                sent = 0
                with contextlib.suppress(ConnectionError):
                    while front.open_connections or not sent:
                        with contextlib.suppress(BlockingIOError):
                            sent += raw.send(GET % b"large" * 10)
                        await asyncio.sleep(0.01)
            return len(asked), sent

    answered, sent = run(loop, main())
    assert 1 <= answered <= 10
    assert sent > 0


@pytest.mark.parametrize("close", [b"", b"connection: close\r\n"], ids=["kept", "closed"])
def test_an_answer_nobody_takes_does_not_keep_its_connection(loop: str, close: bytes) -> None:
    async def large(scope: Any, receive: Any) -> None:
        connection_of(scope).answer(200, b"", b"x" * 10_000_000)

    async def main() -> None:
        async with serving(hot={"/large": large}, write_timeout_s=0.1) as front:
            reader, writer = await front.caller()
            reader._transport.pause_reading()  # type: ignore[attr-defined]  # what asyncio would read by itself
            writer.write(b"GET /large HTTP/1.1\r\nhost: a\r\n" + close + b"\r\n")
            await front.until(lambda: front.open_connections == 1)
            await front.until(lambda: front.open_connections == 0)
            writer.close()

    run(loop, main())


def test_a_small_answer_nobody_takes_does_not_keep_it_either(loop: str) -> None:
    """It is below what would stop the writing, so that only the idle time ends it."""

    async def small(scope: Any, receive: Any) -> None:
        connection = connection_of(scope)
        # As when the caller's machine takes nothing: what is written stays here.
        connection.transport.write(b"x" * 4_000_000)
        connection.answer(200, b"", b"x")

    async def main() -> None:
        async with serving(hot={"/small": small}, keep_alive_s=0.1, write_buffer_bytes=100_000_000) as front:
            raw = socket.socket()
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            raw.setblocking(False)
            with raw:
                await asyncio.get_running_loop().sock_connect(raw, ("127.0.0.1", front.port))
                raw.send(GET % b"small")
                await front.until(lambda: front.open_connections == 1)
                await front.until(lambda: front.open_connections == 0)

    run(loop, main())


# Leaving


@pytest.mark.parametrize("leave", [asyncio.StreamWriter.close, resetting], ids=["close", "reset"])
def test_a_caller_who_leaves_is_noticed_while_nothing_is_written(
    loop: str, leave: Callable[[asyncio.StreamWriter], None]
) -> None:
    async def main() -> float:
        waiting = Waiting()
        async with serving(hot={"/wait": waiting}) as front:
            _, writer = await front.caller()
            writer.write(GET % b"wait")
            await waiting.asked.wait()
            began = asyncio.get_running_loop().time()
            leave(writer)
            await waiting.gone.wait()
            return asyncio.get_running_loop().time() - began

    assert min(run(loop, main()) for _ in range(3)) < 0.1


def test_a_half_closed_caller_who_leaves_much_later_is_noticed(loop: str) -> None:
    """Round trips of a second and more: the reset comes long after the gateway first asked whether anybody is there."""

    async def main() -> tuple[float, list[str]]:
        waiting = Waiting()
        async with serving(hot={"/wait": waiting}) as front:
            reader, writer = await front.caller()
            writer.write(GET % b"wait")
            writer.write_eof()
            for _ in range(5):
                await reader.readuntil(b"\r\n\r\n")  # 0.3 seconds
            began = asyncio.get_running_loop().time()
            resetting(writer)
            await waiting.gone.wait()
            return asyncio.get_running_loop().time() - began, waiting.log

    took_s, log = run(loop, main())
    assert took_s < 1
    assert log[:5] == ["probe"] * 5
    assert log[-1] == "gone"


def test_a_half_closed_caller_is_answered_and_then_closed(loop: str) -> None:
    async def main() -> bytes:
        waiting = Waiting()
        async with serving(hot={"/wait": waiting}) as front:
            reader, writer = await front.caller()
            writer.write(GET % b"wait")
            writer.write_eof()
            interim = await reader.readuntil(b"\r\n\r\n")
            waiting.connections[0].answer(200, b"", b"done")
            received = interim + await rest(reader)
            writer.close()
            return received

    received = run(loop, main())
    assert statuses(received)[-1] == 200
    assert set(statuses(received)[:-1]) == {100}
    assert received.endswith(b"connection: close\r\n\r\ndone")


def test_a_listener_that_comes_after_the_caller_left_is_told(loop: str) -> None:
    async def main() -> list[str]:
        waiting, left = Waiting(), asyncio.Event()

        async def late(scope: Any, receive: Any) -> None:
            waiting.asked.set()
            await left.wait()
            connection_of(scope).listen(waiting)

        async with serving(hot={"/late": late}) as front:
            _, writer = await front.caller()
            writer.write(GET % b"late")
            await waiting.asked.wait()
            resetting(writer)
            await asyncio.sleep(0.05)
            left.set()
            await waiting.gone.wait()
            return waiting.log

    assert run(loop, main()) == ["gone"]


def test_a_connection_that_is_over_leaves_nothing_behind(loop: str) -> None:
    """No task, and no object that only a garbage collection would find."""

    async def main() -> tuple[int, int, int]:
        asked = asyncio.Event()

        async def wait(scope: Any, receive: Any) -> None:
            Listening(connection_of(scope))
            asked.set()

        async with serving(hot={"/wait": wait}) as front:
            base = len(asyncio.all_tasks())
            gc.collect()
            gc.disable()
            try:
                await _leave_in_every_way(front, asked)
                await front.until(lambda: front.running == 0 and front.open_connections == 0)
                await asyncio.sleep(0.05)
                alive = sum(connection() is not None for connection in front.seen)
            finally:
                gc.enable()
            return alive, len(asyncio.all_tasks()) - base, len(front.seen)

    alive, tasks, seen = run(loop, main())
    assert (tasks, seen) == (0, 60)
    assert alive == 0


async def _leave_in_every_way(front: Front, asked: asyncio.Event) -> None:
    for number in range(60):
        reader, writer = await front.caller()
        if number % 3 == 0:
            writer.write(LAST)
            await rest(reader)
        elif number % 3 == 1:
            writer.write(GET % b"wait")
            await asked.wait()
        else:
            writer.write(echoed(b"12345")[:-1])
        asked.clear()
        if number % 2:
            resetting(writer)
        else:
            writer.close()


def test_every_connection_is_told_that_the_server_stops(loop: str) -> None:
    async def main() -> tuple[list[str], bytes]:
        told: list[str] = []
        waiting = Waiting()
        async with serving(hot={"/wait": waiting}, on_shutdown=lambda: told.append("stop")) as front:
            reader, writer = await front.caller()
            writer.write(GET % b"wait")
            await waiting.asked.wait()
            (connection,) = waiting.connections
            connection.shutdown()
            connection.answer(200, b"", b"done")
            received = await rest(reader)
            writer.close()
            return told, received

    told, received = run(loop, main())
    assert told == ["stop"]
    assert received.endswith(b"connection: close\r\n\r\ndone")


def test_without_its_protocol_a_route_says_what_is_missing() -> None:
    with pytest.raises(RuntimeError, match="lmi-gateway serve"):
        connection_of({"type": "http"})


def test_a_body_that_waits_for_an_earlier_answer_is_not_called_slow(loop: str) -> None:
    """It is the gateway that does not read it."""
    limit_s, body = 0.05, b"x" * 300_000

    async def main() -> bytes:
        waiting = Waiting()
        async with serving(hot={"/wait": waiting}, body_timeout_s=limit_s) as front:
            reader, writer = await front.caller()
            head = b"POST /echo HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: %d\r\n\r\n" % len(body)
            writer.write(GET % b"wait" + head + body)
            await waiting.asked.wait()
            await front.until(lambda: waiting.connections[0].flow.read_paused)
            over = asyncio.Event()
            asyncio.get_running_loop().call_later(4 * limit_s, over.set)
            await over.wait()
            waiting.connections[0].answer(200, b"", b"first")
            received = await rest(reader)
            writer.close()
            return received

    received = run(loop, main())
    assert received.count(b"HTTP/1.1 200 OK") == 2
    assert received.endswith(body)
