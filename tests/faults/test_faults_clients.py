"""Callers who leave, who stop reading, and who only half close."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from deploy.local import faults
from deploy.local.engine import build
from tests.faults.inside import running_inside
from tests.faults.talk import DIALECTS, answer_of, events_of
from tests.faults.wire import CHAT, Caller, NoAnswer, chat, request
from tests.faults.world import World
from tests.support.stack import config, model, running_local

PROMPT_MS = 100.0
"""From a caller's leaving to its call's end at SageMaker."""
TRIES = 5
"""The best of them counts: others use this machine, too."""

both = pytest.mark.parametrize("dialect", DIALECTS)
STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
LEAVING: dict[str, Callable[[Caller], None]] = {"close": Caller.close, "reset": Caller.reset}
leaving = pytest.mark.parametrize("leave", [pytest.param(leave, id=name) for name, leave in LEAVING.items()])


def ms_to_hang_up(world: World, caller: Caller, leave: Callable[[Caller], None]) -> float:
    """Let the caller leave and return how long it took until the call was over at SageMaker."""
    call = world.next_call()
    began = time.monotonic()
    leave(caller)
    ended = world.local.call_ended(call.n)
    assert ended.hung_up_ms is not None
    return ended.hung_up_ms - call.ms_since_start(began)


@both
@STREAMS
@leaving
def test_c01_c02_a_caller_who_leaves_before_the_first_token_ends_the_call(
    world: World, dialect: str, stream: bool, leave: Callable[[Caller], None]
) -> None:
    cancelled = world.counted("gateway_calls_total", model=dialect, code="cancelled")
    taken = []
    for _ in range(TRIES):
        world.begin()
        world.fault(faults.Delay())
        taken.append(ms_to_hang_up(world, world.asking(chat(dialect, stream=stream)), leave))
        assert len(world.calls()) == 1
        if taken[-1] <= PROMPT_MS:
            break
    assert min(taken) <= PROMPT_MS
    world.settle()
    counted = world.counted("gateway_calls_total", model=dialect, code="cancelled") - cancelled
    assert counted == len(taken)


@both
@leaving
def test_c02_a_caller_of_an_assembled_reply_ends_the_call_by_leaving(
    world: World, dialect: str, leave: Callable[[Caller], None]
) -> None:
    taken = []
    for _ in range(TRIES):
        world.begin()
        world.fault(answer_of(dialect), faults.Stall(after_frames=3))
        caller = world.asking(chat(f"{dialect}-assembled"))
        world.local.run(world.local.server.call_sent_frames(world.next_call().n, 3))
        taken.append(ms_to_hang_up(world, caller, leave))
        if taken[-1] <= PROMPT_MS:
            break
    assert min(taken) <= PROMPT_MS


@both
@STREAMS
def test_c02_a_caller_who_leaves_with_another_request_waiting_ends_the_call(
    world: World, dialect: str, stream: bool
) -> None:
    taken = []
    for _ in range(TRIES):
        world.begin()
        world.fault(faults.Delay())
        caller = world.asking(chat(dialect, stream=stream))
        caller.send(request("GET", "/v1/models"))
        taken.append(ms_to_hang_up(world, caller, Caller.close))
        if taken[-1] <= PROMPT_MS:
            break
    assert min(taken) <= PROMPT_MS


@both
@leaving
def test_c03_a_caller_who_leaves_in_mid_stream_ends_the_call(
    world: World, dialect: str, leave: Callable[[Caller], None]
) -> None:
    taken = []
    for _ in range(TRIES):
        world.begin()
        world.fault(answer_of(dialect), faults.Stall(after_frames=5))
        caller = world.asking(chat(dialect, stream=True))
        caller.until(events_of(dialect)[4])
        taken.append(ms_to_hang_up(world, caller, leave))
        if taken[-1] <= PROMPT_MS:
            break
    assert min(taken) <= PROMPT_MS


@leaving
def test_c03_fifty_who_leave_in_mid_stream_leave_nothing_behind(world: World, leave: Callable[[Caller], None]) -> None:
    world.fault(answer_of("vllm"), times=None)
    world.fault(faults.Stall(after_frames=5), times=None)
    callers = [world.asking(chat("vllm", stream=True)) for _ in range(50)]
    for caller in callers:
        caller.until(events_of("vllm")[4])
    assert world.counted("gateway_calls_in_flight") == 50
    for caller in callers:
        leave(caller)
    for call in world.calls():
        world.local.call_ended(call.n)
    assert [call.hung_up_ms is not None for call in world.calls()] == [True] * 50
    world.settle()
    began = time.monotonic()
    assert world.ask(chat("vllm", stream=True)).events[-1] == b"[DONE]"
    assert time.monotonic() - began < 0.5


def test_c03_no_task_outlives_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Callers who leave at every stage of a call."""
    with (
        running_local({"vllm": build("vllm-0.33")}) as local,
        running_inside(monkeypatch, config(local.url, model("vllm", "vllm", "0.33"))) as inside,
    ):
        base = inside.tasks()
        local.add_fault(faults.Delay(), operation="InvokeEndpoint", times=None)
        local.add_fault(faults.Stall(after_frames=5), times=None)
        body = request("POST", CHAT, chat("vllm", "count to 50", stream=True))
        whole = request("POST", CHAT, chat("vllm", "count to 50"))
        callers = []
        for number in range(100):
            callers.append(Caller(inside.port))
            callers[-1].send([body, whole, body[:-5], whole[:50]][number % 4])
        for caller in callers[::4]:
            caller.until(b"data: ")
        local.call_started(50)
        assert inside.tasks() > base
        for number, caller in enumerate(callers):
            LEAVING["close" if number % 8 < 4 else "reset"](caller)
        for number in range(1, 51):
            local.call_ended(number)
        deadline = time.monotonic() + 5
        while inside.tasks() > base:
            assert time.monotonic() < deadline


@both
def test_c04_leaving_after_the_last_event_is_no_failure(world: World, dialect: str) -> None:
    ok = world.counted("gateway_calls_total", model=dialect, code="ok")
    complete = world.counted("gateway_stream_endings_total", model=dialect, ending="complete")
    world.fault(answer_of(dialect), faults.Stall(after_frames=10_000))  # at the end: the reply itself does not end
    with world.asking(chat(dialect, stream=True)) as caller:
        caller.until(b"data: [DONE]\n\n")
    world.settle()
    assert world.counted("gateway_calls_total", model=dialect, code="ok") == ok + 1
    assert world.counted("gateway_stream_endings_total", model=dialect, ending="complete") == complete + 1


@both
@STREAMS
@pytest.mark.parametrize("silence_s", [0.0, 0.15])
def test_c06_a_caller_who_half_closes_gets_its_answer(
    world: World, dialect: str, stream: bool, silence_s: float
) -> None:
    world.fault(answer_of(dialect) if stream else faults.Delay(silence_s))
    if stream:
        world.fault(faults.Delay(silence_s))
    with world.asking(chat(dialect, stream=stream)) as caller:
        caller.half_close()
        answer = caller.answer()
        assert answer.status == 200
        assert set(answer.interim) <= {100}
        if silence_s:  # else the head may have been written before the half-close was seen
            assert answer.header("connection") == "close"
        assert answer.complete
        assert answer.events == events_of(dialect) if stream else answer.text
        assert caller.rest() == b""


@both
def test_c06_a_caller_who_half_closes_in_mid_stream_gets_the_rest(world: World, dialect: str) -> None:
    world.fault(answer_of(dialect), faults.Stall(after_frames=5, s=0.15))
    with world.asking(chat(dialect, stream=True)) as caller:
        head = caller.until(b"\r\n\r\n")
        begun = caller.until(events_of(dialect)[4] + b"\n\n\r\n")
        caller.half_close()
        rest = caller.rest()
    assert head.startswith(b"HTTP/1.1 200")
    text = b"".join(_unchunked(begun + rest))
    assert [event for event in text.split(b"\n\n") if event.startswith(b"data: ")] == [
        b"data: " + event for event in events_of(dialect)
    ]


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        pytest.param(request("GET", "/healthz", key=None), 200, id="health"),
        pytest.param(request("GET", "/v1/models"), 200, id="models"),
        pytest.param(request("GET", "/nowhere"), 404, id="no such path"),
        pytest.param(request("POST", CHAT, chat("vllm"), key=None), 401, id="no key"),
        pytest.param(request("POST", CHAT, b"{"), 400, id="no JSON"),
        pytest.param(request("GET", "/healthz") + request("POST", CHAT, chat("vllm")), 200, id="two requests"),
    ],
)
def test_c06_half_closing_at_once_costs_nobody_an_answer(world: World, sent: bytes, status: int) -> None:
    for _ in range(20):
        with world.caller() as caller:
            caller.send(sent)
            caller.half_close()
            answers = [caller.answer(to="GET") for _ in range(sent.count(b"HTTP/1.1\r\n"))]
            assert {answer.status for answer in answers} == {status}
            assert caller.rest() == b""


@both
def test_c06_half_of_a_request_is_none(world: World, dialect: str) -> None:
    whole = request("POST", CHAT, chat(dialect))
    for cut in (10, whole.index(b"\r\n\r\n") + 2, len(whole) - 1):
        with world.caller() as caller:
            caller.send(whole[:cut])
            caller.half_close()
            with pytest.raises(NoAnswer):
                caller.answer()
    assert world.calls() == []


def test_c06_a_half_closed_caller_who_leaves_later_is_noticed(world: World) -> None:
    """A reset that comes long after the end of what the caller sent, as from across the world."""
    world.fault(faults.Delay())
    caller = world.asking(chat("vllm"))
    world.next_call()
    caller.half_close()
    interim = [caller.head()[0] for _ in range(4)]  # the gateway asks whether anybody is there, less and less often
    assert interim == [100] * 4
    taken = ms_to_hang_up(world, caller, Caller.reset)
    assert taken < 1_000


def _unchunked(data: bytes) -> list[bytes]:
    chunks = []
    while data:
        size, _, data = data.partition(b"\r\n")
        chunks.append(data[: int(size, 16)])
        data = data[int(size, 16) + 2 :]
    return chunks
