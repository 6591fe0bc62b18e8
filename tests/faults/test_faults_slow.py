"""Callers who send or read so slowly that each of them costs something: hundreds at once."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import statistics
import time
from collections.abc import AsyncIterator, Iterator

import pytest

from deploy.local import Container, ContainerReply, ContainerRequest, Endpoint
from deploy.local.engine import build
from deploy.local.scripted import ScriptedContainer
from tests.faults.talk import record
from tests.faults.wire import CHAT, Answer, Caller, chat, request
from tests.faults.world import World, running_world
from tests.support.stack import KEY, model

HEADER_TIMEOUT_S = 0.8
BODY_TIMEOUT_S = 0.8
WRITE_TIMEOUT_S = 6.0
IMPATIENT_S = 0.8
READERS = 200
BURST = 50
"""Events of 20 KB: four times of what may be held for one reader."""
SENDERS = 300
HELD_BYTES = 256 * 1024
"""The most a stream may hold for a caller who does not read."""


class Flood:
    """A container that talks as fast as it is heard: for ever, or for so many events, after which it is just silent."""

    def __init__(self, events: int | None = None) -> None:
        self._events = events

    async def ping(self) -> int:
        return 200

    async def invoke(self, request: ContainerRequest) -> ContainerReply:
        return ContainerReply(200, {"content-type": "text/event-stream"}, self._talk())

    async def _talk(self) -> AsyncIterator[bytes]:
        event = b"data: " + record({"content": "x" * 20_000}) + b"\n\n"
        for _ in itertools.count() if self._events is None else range(self._events):
            yield event
        await asyncio.Event().wait()

    async def aclose(self) -> None:
        """Nothing is open."""


def big() -> ScriptedContainer:
    """Return a container whose every whole reply has nearly a million bytes."""
    message = {"role": "assistant", "content": "x" * 900_000}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    whole = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "x", "choices": [choice]}
    return ScriptedContainer(json.dumps({**whole, "usage": usage}).encode())


@contextlib.contextmanager
def slow_running(**settings: float) -> Iterator[World]:
    entries = [model("vllm", "vllm", "0.33", unary="invoke"), model("flood", "vllm", "0.33")]
    entries.append(model("burst", "vllm", "0.33"))
    entries.append(model("big", "vllm", "0.33", unary="invoke"))
    containers: dict[str, Container | Endpoint] = {
        "vllm": build("vllm-0.33"),
        "flood": Flood(),
        "burst": Flood(BURST),
        "big": big(),
    }
    with running_world(containers, entries, **settings) as world:
        for _ in range(20):  # what is allocated once is no one's memory
            assert world.ask(chat("vllm")).status == 200
        yield world


@pytest.fixture(scope="module")
def slow_world() -> Iterator[World]:
    with slow_running(
        header_timeout_s=HEADER_TIMEOUT_S, body_timeout_s=BODY_TIMEOUT_S, write_timeout_s=WRITE_TIMEOUT_S
    ) as world:
        yield world


@pytest.fixture
def world(slow_world: World) -> Iterator[World]:
    slow_world.begin()
    yield slow_world
    slow_world.settle()


def median_s(world: World) -> float:
    """Return the median time of a few whole calls on one connection."""
    taken = []
    with world.caller() as caller:
        for _ in range(15):
            began = time.monotonic()
            caller.send(request("POST", CHAT, chat("vllm")))
            assert caller.answer().status == 200
            taken.append(time.monotonic() - began)
    return statistics.median(taken)


def frames_sent(world: World) -> int:
    return sum(call.frames_sent for call in world.calls() if call.endpoint == "burst")


def test_c05_readers_who_read_nothing_hold_little_disturb_nobody_and_are_cut(world: World) -> None:
    alone_s = min(median_s(world) for _ in range(3))
    slow_readers = world.counted("gateway_stream_endings_total", ending="slow_reader")
    resident = world.rss_bytes()
    world.begin()
    readers = [world.asking(chat("burst", stream=True), receive_buffer_bytes=4096) for _ in range(READERS)]
    # Everyone is answered until what may be held is held; then SageMaker is not listened to either.
    world.until(lambda: frames_sent(world) >= READERS)

    def stopped() -> bool:
        before = frames_sent(world)
        median_s(world)
        return frames_sent(world) == before

    world.until(stopped)
    assert world.counted("gateway_calls_in_flight") == READERS
    assert world.rss_bytes() - resident <= READERS * HELD_BYTES
    assert min(median_s(world) for _ in range(5)) <= 2 * alone_s
    world.until(lambda: world.counted("gateway_calls_in_flight") == 0, timeout_s=3 * WRITE_TIMEOUT_S)
    assert world.counted("gateway_stream_endings_total", ending="slow_reader") - slow_readers == READERS
    for call in world.calls():
        if call.endpoint == "burst":
            assert world.local.call_ended(call.n).hung_up_ms is not None
    for reader in readers:
        reader.rest()  # it ends only because the connection was cut


@pytest.fixture(scope="module")
def shared_impatient_world() -> Iterator[World]:
    with slow_running(write_timeout_s=IMPATIENT_S) as world:
        yield world


@pytest.fixture
def impatient_world(shared_impatient_world: World) -> Iterator[World]:
    """A gateway that waits for nobody."""
    shared_impatient_world.begin()
    yield shared_impatient_world
    shared_impatient_world.settle()


def test_c05_a_reader_who_reads_slowly_is_not_cut(impatient_world: World) -> None:
    with impatient_world.asking(chat("flood", stream=True), receive_buffer_bytes=4096) as reader:
        began = time.monotonic()
        while time.monotonic() - began < 2 * IMPATIENT_S:
            assert reader.socket.recv(16384)
            time.sleep(0.02)


def test_c05_a_caller_who_reads_no_answer_gets_no_more_of_them(impatient_world: World) -> None:
    """Requests one after another on one connection, whose answers nobody takes."""
    resident = impatient_world.rss_bytes()
    one = request("POST", CHAT, b"{}", key=None)
    caller = impatient_world.caller(receive_buffer_bytes=4096, timeout_s=2 * IMPATIENT_S)
    sent = 0
    with contextlib.suppress(OSError):  # it is not read any more, or has been cut
        while sent < 100_000_000:
            caller.send(one * 30)
            sent += 30 * len(one)
    assert sent < 100_000_000
    assert impatient_world.rss_bytes() - resident < 8 * 1024 * 1024


def test_c05_a_whole_reply_that_nobody_takes_is_cut(impatient_world: World) -> None:
    world = impatient_world
    before = world.counted("gateway_calls_total", code="ok")
    for number in range(10):
        caller = world.asking(chat("big"), receive_buffer_bytes=4096)
        if number % 2:
            caller.half_close()
    world.until(lambda: world.counted("gateway_calls_total", code="ok") == before + 10)
    assert world.open_files() >= world.base_files + 10
    world.until(lambda: world.open_files() <= world.base_files, timeout_s=IMPATIENT_S + 2)


def test_c07_headers_that_trickle_are_cut_and_disturb_nobody(world: World) -> None:
    alone_s = min(median_s(world) for _ in range(3))
    head = request("POST", CHAT, chat("vllm"))[:60]
    began = time.monotonic()
    callers = [world.caller() for _ in range(SENDERS)]
    for caller in callers:
        caller.send(head[:-2])
    assert min(median_s(world) for _ in range(5)) <= 2 * alone_s
    for caller in callers:
        caller.send(head[-2:-1])  # one byte more gives no more time
    assert_all_timed_out(callers, "headers")
    assert HEADER_TIMEOUT_S <= time.monotonic() - began < HEADER_TIMEOUT_S + 1.0


def test_c07_bodies_that_trickle_are_cut_and_disturb_nobody(world: World) -> None:
    alone_s = min(median_s(world) for _ in range(3))
    whole = request("POST", CHAT, chat("vllm"))
    began = time.monotonic()
    callers = [world.caller() for _ in range(SENDERS)]
    for caller in callers:
        caller.send(whole[:-20])
    assert min(median_s(world) for _ in range(5)) <= 2 * alone_s
    for caller in callers:
        caller.send(whole[-20:-19])
    assert_all_timed_out(callers, "body")
    assert BODY_TIMEOUT_S <= time.monotonic() - began < BODY_TIMEOUT_S + 1.0


def assert_all_timed_out(callers: list[Caller], what: str) -> None:
    for caller in callers:
        answer: Answer = caller.answer()
        assert (answer.status, answer.code) == (408, "request_timeout")
        assert answer.error["message"] == f"The request's {what} did not arrive in time."
        assert answer.header("connection") == "close"
        assert caller.rest() == b""


def test_c07_a_body_that_trickles_after_its_refusal_gets_no_second_answer(world: World) -> None:
    with world.caller() as caller:
        caller.send(b"POST /nowhere HTTP/1.1\r\nhost: a\r\ncontent-length: 1000000000000\r\n\r\nstart")
        assert caller.answer().status == 404
        caller.send(b"more")
        assert caller.rest() == b""


def test_c07_a_key_is_asked_for_before_a_body(world: World) -> None:
    with world.caller() as caller:
        caller.send(request("POST", CHAT, chat("vllm"), key=f"{KEY[:-1]}x")[:-20])
        answer = caller.answer()
        assert (answer.status, answer.code, answer.header("connection")) == (401, "invalid_api_key", "close")
