"""The event stream is damaged: checksums, lengths, headers and cuts. What came before is good, nothing after it is."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from deploy.local import eventstream, faults
from tests.faults.talk import DIALECTS, WORDS, answer_of, events_of, records, says, written
from tests.faults.wire import Caller, chat, request
from tests.faults.world import World

pytestmark = pytest.mark.parametrize("dialect", DIALECTS)

FIRST = [0, 3, 51]
"""Frames that are damaged: the first one, one in the middle, the finish reason's."""


def assert_damaged(
    world: World,
    dialect: str,
    fault: faults.Fault,
    frame: int,
    code: str = "upstream_protocol",
    *,
    beside: Sequence[faults.Fault] = (),
) -> None:
    """Before the first event the failure is a status, after it an error event; either way it is the only attempt."""
    world.begin()
    world.fault(answer_of(dialect), fault, *beside)
    answer = world.ask(chat(dialect, stream=True))
    if frame == 0:
        assert (answer.status, answer.code) == (502, code)
    else:
        assert answer.events[:-1] == events_of(dialect)[:frame]
        assert answer.last_error["code"] == code
    assert len(world.calls()) == 1


@pytest.mark.parametrize("frame", FIRST)
def test_u11_a_flipped_message_checksum_ends_the_stream_before_its_frame(
    world: World, dialect: str, frame: int
) -> None:
    assert_damaged(world, dialect, faults.CrcFlipped(frame=frame), frame)


@pytest.mark.parametrize("frame", FIRST)
def test_u12_a_flipped_prelude_checksum_ends_the_stream_before_its_frame(
    world: World, dialect: str, frame: int
) -> None:
    assert_damaged(world, dialect, faults.CrcFlipped(frame=frame, which="prelude"), frame)


@pytest.mark.parametrize("frame", [2])
def test_u13_a_frame_cut_at_any_offset_is_no_end(world: World, dialect: str, frame: int) -> None:
    whole = eventstream.payload_part(written(dialect, records(WORDS))[frame])
    ways = ("close", "end", "reset")
    for at in range(len(whole)):
        then = ways[at % 3]
        # Between two frames nothing is damaged: then it is the connection that failed, and only if it did.
        code = "upstream_error" if then != "end" else "upstream_protocol"
        if at == 0 and frame == 0 and then != "end":
            continue  # a head without a body: see the resets
        assert_damaged(world, dialect, faults.TruncatedFrame(frame=frame, at=at, then=then), frame, code)  # type: ignore[arg-type]  # one of the three


@pytest.mark.parametrize("frame", FIRST)
@pytest.mark.parametrize("total", [2**31 - 1, 2**32 - 1, 32 * 1024 * 1024])
def test_u14_a_huge_length_is_refused_by_its_prelude(world: World, dialect: str, frame: int, total: int) -> None:
    before = world.rss_bytes()
    endless = faults.Stall(after_frames=frame + 1)  # whoever waits for the rest of the frame waits for good
    assert_damaged(world, dialect, faults.HugeLength(frame=frame, total=total), frame, beside=[endless])
    assert world.rss_bytes() - before < 4 * 1024 * 1024


@pytest.mark.parametrize("frame", FIRST)
@pytest.mark.parametrize(
    "fault",
    [
        pytest.param(faults.BadHeadersLength, id="headers longer than the message"),
        pytest.param(faults.HeaderType, id="unknown header type"),
        pytest.param(faults.NoHeaders, id="no headers"),
    ],
)
def test_u15_headers_that_do_not_parse_end_the_stream(
    world: World, dialect: str, fault: type[faults.FrameFault], frame: int
) -> None:
    assert_damaged(world, dialect, fault(frame=frame), frame)


@pytest.mark.parametrize(
    "harmless",
    [
        pytest.param(faults.ExtraHeaders(frame=3), id="one header of each type"),
        pytest.param(faults.UnknownEvent(frame=3), id="an unknown event"),
        pytest.param(faults.EmptyPart(frame=3), id="an empty part"),
    ],
)
def test_u15_what_the_protocol_allows_changes_nothing(world: World, dialect: str, harmless: faults.Fault) -> None:
    world.fault(answer_of(dialect), harmless)
    assert world.ask(chat(dialect, stream=True)).events == events_of(dialect)


@pytest.mark.parametrize(
    "shape",
    [
        pytest.param([faults.Cut("bytes")], id="a frame for each byte"),
        pytest.param([faults.Chunking("split:1")], id="a chunk for each byte of a frame"),
        pytest.param([faults.Cut("random:7"), faults.Chunking("split:5")], id="cut anywhere, twice"),
        pytest.param([faults.Cut("merge"), faults.Chunking("split:100")], id="one frame in pieces"),
    ],
)
def test_u16_where_bytes_are_split_makes_no_difference(world: World, dialect: str, shape: list[faults.Fault]) -> None:
    world.fault(answer_of(dialect, WORDS[:10]), *shape)
    assert world.ask(chat(dialect, stream=True)).events == events_of(dialect, WORDS[:10])


def test_u17_ten_thousand_frames_in_one_write_come_out_alike_and_hold_nobody_up(world: World, dialect: str) -> None:
    texts = [f"{number} " for number in range(10_000 - 3)]
    pieces = written(dialect, records(texts))
    assert len(pieces) == 10_000
    expected = events_of(dialect, texts)
    longest_s = []
    for _ in range(3):
        world.fault(says(pieces), faults.Chunking("join:10000"))
        with world.asking(chat(dialect, stream=True)) as caller:
            done, waits_s = threading.Event(), [0.0]
            other = threading.Thread(target=_ping_until, args=(done, waits_s, world))
            other.start()
            try:
                answer = caller.answer()
            finally:
                done.set()
                other.join()
        assert answer.events == expected
        longest_s.append(max(waits_s))
    assert min(longest_s) < 0.05


def _ping_until(done: threading.Event, waits_s: list[float], world: World) -> None:
    """Note how long the gateway worked on other things while a caller waited, in its own processor time.

    A try that is too long may be a collection of garbage that fell due: the best one counts.
    """
    with Caller(world.port) as other:
        while not done.is_set():
            began = world.cpu_s()
            other.send(request("GET", "/healthz", key=None))
            assert other.answer(to="GET").status == 200
            waits_s.append(world.cpu_s() - began)


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        pytest.param(faults.ModelStreamError, 504, "upstream_timeout", id="u33-model-stream-error-time"),
        pytest.param(faults.InternalStreamFailure, 502, "upstream_error", id="u34-internal-stream-failure"),
        pytest.param(faults.ErrorFrame, 502, "upstream_error", id="u34-error-frame"),
    ],
)
@pytest.mark.parametrize("after", [0, 1, 20])
def test_u33_u34_an_exception_in_the_stream_follows_what_came_before_it(
    world: World, dialect: str, fault: type[faults.AfterFrames], status: int, code: str, after: int
) -> None:
    world.fault(answer_of(dialect), fault(after_frames=after))
    answer = world.ask(chat(dialect, stream=True))
    if after == 0:
        assert (answer.status, answer.code) == (status, code)
    else:
        assert answer.events[:-1] == events_of(dialect)[:after]
        assert answer.last_error["code"] == code
    assert len(world.calls()) == 1


def test_u33_a_broken_stream_is_told_from_one_that_took_too_long(world: World, dialect: str) -> None:
    world.fault(answer_of(dialect), faults.ModelStreamError(after_frames=5, error_code="StreamBroken"))
    assert world.ask(chat(dialect, stream=True)).last_error["code"] == "upstream_error"
    world.fault(faults.ContainerGone(after_chunks=5))  # which SageMaker reports in the same way
    answer = world.ask(chat(dialect, stream=True))
    assert (len(answer.events), answer.last_error["code"]) == (6, "upstream_error")


def test_u21_an_empty_part_is_nothing_and_an_empty_stream_no_answer(world: World, dialect: str) -> None:
    world.fault(faults.EmptyStream())
    answer = world.ask(chat(dialect, stream=True))
    assert (answer.status, answer.code) == (502, "upstream_protocol")
    world.fault(faults.EmptyStream())
    assembled = world.ask(chat(f"{dialect}-assembled"))
    assert (assembled.status, assembled.code) == (502, "upstream_protocol")
    world.fault(answer_of(dialect), faults.EmptyPart())
    assert world.ask(chat(dialect, stream=True)).events == events_of(dialect)


def test_u21_an_empty_whole_reply_is_no_answer(world: World, dialect: str) -> None:
    world.fault(faults.Reply(chunks=[]))
    answer = world.ask(chat(dialect))
    assert (answer.status, answer.code) == (502, "upstream_protocol")
