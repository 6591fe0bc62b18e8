"""Which fault acts on which call, and what a fault may not be."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from deploy.local import faults
from deploy.local.faultlist import FaultList
from deploy.local.members import STREAM, WHOLE, Operation


def taken(waiting: FaultList, operation: Operation = WHOLE, endpoint: str = "chat") -> list[str]:
    return [fault.kind for fault in waiting.take(endpoint, operation).faults]


def test_a_fault_acts_once_unless_told_otherwise() -> None:
    waiting = FaultList()
    waiting.add(faults.Throttle())
    assert [taken(waiting) for _ in range(2)] == [["throttle"], []]
    waiting.add(faults.Throttle(), times=2)
    assert [taken(waiting) for _ in range(3)] == [["throttle"], ["throttle"], []]
    waiting.add(faults.Throttle(), times=None)
    assert [taken(waiting) for _ in range(5)] == [["throttle"]] * 5


def test_faults_of_one_role_act_one_call_after_the_other() -> None:
    waiting = FaultList()
    for fault in (faults.Throttle(), faults.InternalFailure(), faults.Reset()):
        waiting.add(fault)
    assert [taken(waiting) for _ in range(4)] == [["throttle"], ["internal_failure"], ["reset"], []]


def test_faults_of_different_roles_act_together() -> None:
    waiting = FaultList()
    for fault in (
        faults.Delay(s=1),
        faults.Stall(after_frames=1),
        faults.CrcFlipped(),
        faults.Cut(mode="bytes"),
        faults.Chunking(mode="split:1"),
        faults.RetryAfter(value="1"),
        faults.ResponseHeader(name="a", value="b"),
        faults.CloseIdle(),
        faults.Reply(chunks=[]),
    ):
        waiting.add(fault)
    assert taken(waiting, STREAM) == [
        "delay",
        "stall",
        "crc_flipped",
        "cut",
        "chunking",
        "retry_after",
        "response_header",
        "close_idle",
        "reply",
    ]


def test_faults_of_the_stream_wait_for_a_call_that_gets_that_far() -> None:
    waiting = FaultList()
    for fault in (
        faults.Reset(after_frames=1),
        faults.Reply(chunks=[]),
        faults.RetryAfter(value="1"),
        faults.Throttle(),
    ):
        waiting.add(fault)
    assert taken(waiting, STREAM) == ["retry_after", "throttle"]
    assert taken(waiting, STREAM) == ["reset", "reply"]


def test_a_fault_waits_for_its_endpoint_and_operation() -> None:
    waiting = FaultList()
    waiting.add(faults.Throttle(), endpoint="other")
    waiting.add(faults.InternalFailure(), operation="InvokeEndpointWithResponseStream")
    waiting.add(faults.Reset(after_bytes=1))
    waiting.add(faults.Reset(after_frames=1))
    assert taken(waiting, WHOLE) == ["reset"]
    assert taken(waiting, WHOLE) == []
    assert taken(waiting, STREAM) == ["internal_failure"]
    assert taken(waiting, STREAM) == ["reset"]
    assert taken(waiting, WHOLE, "other") == ["throttle"]
    assert waiting.waiting() == []


def test_chance_is_repeatable_and_what_it_spares_is_not_counted() -> None:
    def run() -> str:
        waiting = FaultList()
        waiting.add(faults.Throttle(), times=10, probability=0.25, seed=7)
        return "".join("x" if taken(waiting) else "." for _ in range(100))

    first = run()
    assert first == run()
    assert first.count("x") == 10
    assert "." in first[: first.rindex("x")]


def test_faults_can_be_removed_and_cleared() -> None:
    waiting = FaultList()
    first = waiting.add(faults.Throttle())
    waiting.add(faults.InternalFailure())
    plan = waiting.take("chat", STREAM)
    assert waiting.remove(first) is False  # It acted, so it is gone.
    assert [item.fault.kind for item in waiting.waiting()] == ["internal_failure"]
    assert not plan.cleared.is_set()
    waiting.clear()
    assert plan.cleared.is_set()
    assert waiting.waiting() == []
    assert not waiting.take("chat", STREAM).cleared.is_set()
    assert waiting.remove(waiting.add(faults.Throttle())) is True


BAD = [
    pytest.param({"kind": "explode"}, "unknown fault kind 'explode': use one of access_denied, aws_error, ", id="kind"),
    pytest.param({}, "unknown fault kind None: use one of access_denied, ", id="no kind"),
    pytest.param(
        {"kind": "throttle", "frames": 1},
        "throttle: Object contains unknown field `frames`",
        id="unknown option",
    ),
    pytest.param({"kind": "stall"}, "stall: Object missing required field `after_frames`", id="missing option"),
    pytest.param(
        {"kind": "reset", "after_frames": "2"},
        "reset: Expected `int | null`, got `str` - at `$.after_frames`",
        id="type",
    ),
    pytest.param(
        {"kind": "reset", "after_frames": 1, "after_bytes": 1},
        "reset: reset takes after_frames (streams) or after_bytes (whole answers), not both",
        id="two counts",
    ),
    pytest.param({"kind": "model_error"}, "model_error: model_error needs either a status or a preset", id="no status"),
    pytest.param(
        {"kind": "model_error", "status": 500, "preset": "lmi15.unroutable"},
        "model_error: model_error needs either a status or a preset",
        id="status and preset",
    ),
    pytest.param(
        {"kind": "model_error", "preset": "lmi14.unroutable"},
        "model_error: unknown preset 'lmi14.unroutable': versions are lmi15 to lmi27",
        id="preset's version",
    ),
    pytest.param(
        {"kind": "model_error", "preset": "lmi15.bored"},
        "model_error: unknown preset 'lmi15.bored': situations are invalid_body, malformed_json, ",
        id="preset's situation",
    ),
    pytest.param(
        {"kind": "model_error", "preset": "lmi15.stream_engine_died"},
        "model_error: preset 'lmi15.stream_engine_died' belongs into a running stream: use reply_tail",
        id="preset of a stream",
    ),
    pytest.param({"kind": "reply"}, "reply: reply needs either chunks or chunks_base64", id="reply of nothing"),
    pytest.param({"kind": "reply", "chunks_base64": ["?"]}, "reply: ", id="no base64"),
    pytest.param(
        {"kind": "reply_tail", "after_chunks": 1},
        "reply_tail: reply_tail needs either a text or a preset",
        id="no tail",
    ),
    pytest.param({"kind": "cut", "mode": "thin"}, "cut: unknown cut 'thin': use one of as-written, bytes, ", id="cut"),
    pytest.param(
        {"kind": "chunking", "mode": "split"}, "chunking: unknown chunking 'split': use one of frame, ", id="chunking"
    ),
]


@pytest.mark.parametrize(("options", "message"), BAD)
def test_bad_faults_say_what_is_wrong(options: Mapping[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        FaultList().add(options)
    assert str(caught.value).startswith(message)


BAD_ENVELOPES = [
    pytest.param({"operation": "Invoke"}, "unknown operation 'Invoke'", id="operation"),
    pytest.param({"operation": "InvokeEndpoint"}, "crc_flipped cannot act on InvokeEndpoint", id="wrong operation"),
    pytest.param({"times": 0}, "times must be at least 1, or null for every call", id="times"),
    pytest.param({"probability": 0.0}, "probability must be above 0 and at most 1", id="no chance"),
    pytest.param({"probability": 1.1}, "probability must be above 0 and at most 1", id="more than certain"),
]


@pytest.mark.parametrize(("envelope", "message"), BAD_ENVELOPES)
def test_bad_envelopes_say_what_is_wrong(envelope: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        FaultList().add(faults.CrcFlipped(), **envelope)  # type: ignore[arg-type]  # the values are what is tested


@pytest.mark.parametrize("kind", sorted(faults.kinds()))
def test_every_kind_is_documented_in_the_table(kind: str) -> None:
    assert faults.__doc__ is not None
    assert kind in faults.__doc__.replace("\n", " ").split()
    assert faults.kinds()[kind].__doc__
