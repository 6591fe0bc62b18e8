"""The way to SageMaker fails: connections that break, silence, bytes that trickle, and connections gone stale."""

from __future__ import annotations

import time

import pytest

from deploy.local import faults
from tests.faults.talk import DIALECTS, WORDS, answer_of, events_of
from tests.faults.wire import CHAT, Answer, chat, request
from tests.faults.world import World

pytestmark = pytest.mark.parametrize("dialect", DIALECTS)


def assert_failed_after(answer: Answer, expected: list[bytes], code: str) -> None:
    """The caller has these events, byte for byte, then one error event, and no `[DONE]`."""
    assert answer.events[:-1] == expected
    assert answer.last_error["code"] == code


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
class TestResetBeforeAnyByte:
    def test_u05_a_reset_before_any_byte_is_retried(self, world: World, dialect: str, stream: bool) -> None:
        world.earn_retries()
        world.fault(faults.Reset())
        answer = world.ask(chat(dialect, stream=stream))
        assert answer.status == 200
        assert [call.status for call in world.calls()] == [None, 200]

    def test_u05_a_second_reset_is_the_answer(self, world: World, dialect: str, stream: bool) -> None:
        world.earn_retries()
        before = world.counted("gateway_upstream_attempts_total", model=dialect, code="upstream_error")
        resent = world.counted("gateway_upstream_resent_total")
        world.fault(faults.Reset(), times=None)
        answer = world.ask(chat(dialect, stream=stream))
        assert (answer.status, answer.code) == (502, "upstream_error")
        assert world.counted("gateway_upstream_attempts_total", model=dialect, code="upstream_error") == before + 2
        # A kept-alive connection that is reset was stale, as far as anybody can tell, and has cost no attempt.
        assert len(world.calls()) == 2 + world.counted("gateway_upstream_resent_total") - resent

    def test_u05_retries_stop_when_their_budget_is_spent(self, world: World, dialect: str, stream: bool) -> None:
        world.earn_retries()
        before = world.counted("gateway_upstream_attempts_total", model=dialect)
        world.fault(faults.ServiceUnavailable(), times=None)
        for _ in range(20):
            assert world.ask(chat(dialect, stream=stream)).code == "upstream_unavailable"
        # Three at once after a quiet time, then one for ten calls: 30 tokens and one more a call, ten a retry.
        attempts = world.counted("gateway_upstream_attempts_total", model=dialect) - before
        assert attempts == len(world.calls()) == 20 + 4


@pytest.mark.parametrize("how", [faults.Reset, faults.Close], ids=["reset", "closed"])
def test_u06_u07_a_connection_lost_in_mid_stream_delivers_what_came_and_says_so(
    world: World, dialect: str, how: type[faults.Breaking]
) -> None:
    for frames in range(1, len(WORDS) + 1):
        world.begin()
        world.fault(answer_of(dialect), how(after_frames=frames))
        answer = world.ask(chat(dialect, stream=True))
        assert_failed_after(answer, events_of(dialect)[:frames], "upstream_error")
        (call,) = world.calls()
        assert call.frames_sent == frames


@pytest.mark.parametrize("frames", [1, 2, 25, 51])
def test_u07_a_stream_that_ends_well_but_too_soon_is_no_answer(world: World, dialect: str, frames: int) -> None:
    world.fault(answer_of(dialect), faults.Close(after_frames=frames, ended=True))
    answer = world.ask(chat(dialect, stream=True))
    assert_failed_after(answer, events_of(dialect)[:frames], "upstream_protocol")
    assert len(world.calls()) == 1


def test_u07_a_whole_reply_cut_short_is_no_answer(world: World, dialect: str) -> None:
    world.fault(faults.Close(after_bytes=50))
    answer = world.ask(chat(dialect))
    assert (answer.status, answer.code) == (502, "upstream_error")
    assert len(world.calls()) == 1


def test_u07_an_assembled_reply_cut_short_is_no_answer(world: World, dialect: str) -> None:
    world.fault(answer_of(dialect), faults.Close(after_frames=20, ended=True))
    answer = world.ask(chat(f"{dialect}-assembled"))
    assert (answer.status, answer.code) == (502, "upstream_protocol")
    assert len(world.calls()) == 1


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_u08_silence_before_the_first_byte_is_a_timeout(world: World, dialect: str, stream: bool) -> None:
    world.fault(faults.Delay())
    began = time.monotonic()
    answer = world.ask(chat(f"{dialect}-hasty", stream=stream))
    assert (answer.status, answer.code) == (504, "upstream_timeout")
    assert 0.4 <= time.monotonic() - began < 1.4
    (call,) = world.calls()  # the model may be at work: another attempt would double it
    assert world.local.call_ended(call.n).hung_up_ms is not None


def test_u09_silence_in_mid_stream_is_a_timeout(world: World, dialect: str) -> None:
    world.fault(answer_of(dialect), faults.Stall(after_frames=7))
    began = time.monotonic()
    answer = world.ask(chat(f"{dialect}-hasty", stream=True))
    assert_failed_after(answer, events_of(f"{dialect}-hasty")[:7], "upstream_timeout")
    assert 0.3 <= time.monotonic() - began < 1.3
    (call,) = world.calls()
    assert world.local.call_ended(call.n).hung_up_ms is not None


def test_u10_a_slow_stream_is_not_silent(world: World, dialect: str) -> None:
    """Bytes come singly, and records take longer than a silence may last."""
    world.fault(answer_of(dialect, ["slow"]), faults.Drip(interval_s=0.001))
    began = time.monotonic()
    answer = world.ask(chat(f"{dialect}-hasty", stream=True))
    assert answer.events == events_of(f"{dialect}-hasty", ["slow"])
    assert time.monotonic() - began > 0.6


def test_u10_a_slow_stream_ends_at_the_total_limit(world: World, dialect: str) -> None:
    world.fault(answer_of(dialect), faults.Drip(interval_s=0.005, bytes=8))
    began = time.monotonic()
    answer = world.ask(chat(f"{dialect}-brief", stream=True))
    delivered = len(answer.events) - 1
    assert delivered >= 1
    assert_failed_after(answer, events_of(f"{dialect}-brief")[:delivered], "upstream_timeout")
    assert 0.8 <= time.monotonic() - began < 1.8
    (call,) = world.calls()
    assert world.local.call_ended(call.n).hung_up_ms is not None


@pytest.mark.parametrize(
    "stale",
    [
        pytest.param(faults.CloseIdle(), id="closed while idle"),
        pytest.param(faults.CloseIdle(when="next_request"), id="closed as the request arrives"),
        pytest.param(faults.CloseIdle(when="next_request", reset=True), id="reset as the request arrives"),
    ],
)
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_u41_no_caller_notices_a_stale_connection(
    world: World, dialect: str, stale: faults.CloseIdle, stream: bool
) -> None:
    resent = world.counted("gateway_upstream_resent_total")
    world.fault(stale, times=None)
    with world.caller() as caller:
        for _ in range(20):
            caller.send(request("POST", CHAT, chat(dialect, stream=stream)))
            answer = caller.answer()
            assert (answer.status, answer.complete) == (200, True)
    if stale.when == "next_request":
        assert world.counted("gateway_upstream_resent_total") - resent >= 19
    assert len(world.calls()) == 20
