"""Records of usage: what they say, and what becomes of them while their destination takes them or does not."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from adapters.base import Usage
from gateway.telemetry import usage
from gateway.telemetry.events import CallRecord, Trace
from gateway.telemetry.usage import UsageRecords

WAIT_S = 10.0


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(usage, "LONGEST_WAIT_S", 0.02)


class Shelf:
    """A destination that does as it is told."""

    def __init__(self) -> None:
        self.answers: list[Callable[[Sequence[bytes]], tuple[list[bytes], str]] | Exception] = []
        """What the next writes do; then everything is taken."""
        self.writes: list[int] = []
        self.taken: list[dict[str, Any]] = []
        self.always: Exception | None = None
        self.held = threading.Event()
        self.held.set()
        self.writing = threading.Event()
        self.closed = threading.Event()
        self.aborted = threading.Event()
        self.some = threading.Condition()

    def write(self, lines: Sequence[bytes]) -> tuple[list[bytes], str]:
        self.writing.set()
        self.held.wait()
        self.writes.append(len(lines))
        answer = self.answers.pop(0) if self.answers else self.always
        if isinstance(answer, Exception):
            raise answer
        left, reason = answer(lines) if answer else ([], "")
        with self.some:
            self.taken += [json.loads(line) for line in lines if line not in left]
            self.some.notify_all()
        return left, reason

    def close(self) -> None:
        self.closed.set()

    def abort(self) -> None:
        self.aborted.set()

    def until(self, count: int) -> list[str]:
        with self.some:
            assert self.some.wait_for(lambda: len(self.taken) >= count, WAIT_S), self.taken
        return [record["request_id"] for record in self.taken]


class Counted(dict[str, int]):
    def __init__(self) -> None:
        super().__init__()
        self.changed = threading.Condition()

    def __call__(self, outcome: str, records: int) -> None:
        with self.changed:
            self[outcome] = self.get(outcome, 0) + records
            self.changed.notify_all()

    def until(self, wanted: dict[str, int]) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: self == wanted, WAIT_S), self


def call(request_id: str = "req_1", **fields: Any) -> CallRecord:
    made = CallRecord("chat", request_id, 5.0, key_id="app", model="llama", lane="llama-70b", seconds=0.812, status=200)
    made.usage = made.charged = Usage(120, 310)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


def records(shelf: Shelf, count: Counted, **options: Any) -> UsageRecords:
    made = UsageRecords(shelf, count=count, **{"gathers_s": 0.01, "buffer_bytes": 65_536, "retry_s": 60.0, **options})
    made.start()
    return made


def one(monkeypatch: pytest.MonkeyPatch, record: CallRecord) -> dict[str, Any]:
    monkeypatch.setattr("secrets.token_hex", lambda size: "ab" * size)
    monkeypatch.setattr("time.time", lambda: 1_790_000_000.25)
    shelf, count = Shelf(), Counted()
    made = records(shelf, count)
    made.take(record)
    made.close()
    return shelf.taken[0]


BASE = {
    "id": "abababababababab-1",
    "time": "2026-09-21T14:13:20.250Z",
    "request_id": "req_1",
    "key": "app",
    "model": "llama",
    "deployment": "llama-70b",
    "surface": "chat",
    "stream": False,
    "code": "ok",
    "status": 200,
    "prompt_tokens": 120,
    "cached_tokens": 0,
    "completion_tokens": 310,
    "total_ms": 812.0,
}


@pytest.mark.parametrize(
    ("record", "told"),
    [
        pytest.param(call(), BASE, id="a call"),
        pytest.param(
            call(team="search", money=1_250_001, trace=Trace("0" * 31 + "1", "1" * 16, None, True)),
            {**BASE, "team": "search", "money": 1.250001, "trace_id": "0" * 31 + "1"},
            id="with a team, prices and a trace",
        ),
        pytest.param(
            call(usage=None, charged=Usage(12, 7), code="cancelled"),
            {**BASE, "code": "cancelled", "prompt_tokens": 12, "completion_tokens": 7, "estimated": True},
            id="left before the container had counted",
        ),
        pytest.param(
            call(usage=None, charged=Usage(0, 0), code="upstream_error", status=502, money=0),
            {**BASE, "code": "upstream_error", "status": 502, "prompt_tokens": 0, "completion_tokens": 0, "money": 0.0},
            id="failed, and charged nothing",
        ),
    ],
)
def test_the_fields_of_a_record(monkeypatch: pytest.MonkeyPatch, record: CallRecord, told: dict[str, Any]) -> None:
    assert one(monkeypatch, record) == told


def test_calls_that_were_not_admitted_have_no_record() -> None:
    shelf, count = Shelf(), Counted()
    made = records(shelf, count)
    made.take(call(charged=None, usage=None, code="rate_limit_exceeded", status=429))
    made.close()
    assert (shelf.taken, count) == ([], {})


def test_ids_differ_although_callers_choose_the_same_request_id() -> None:
    shelf, count = Shelf(), Counted()
    made, other = records(shelf, count), records(shelf, count)
    for _ in range(50):
        made.take(call("chosen"))
        other.take(call("chosen"))
    made.close()
    other.close()
    assert len({record["id"] for record in shelf.taken}) == 100


def test_what_comes_together_is_written_together_and_in_order() -> None:
    shelf, count = Shelf(), Counted()
    made = records(shelf, count, gathers_s=60.0)
    for number in range(40):
        made.take(call(str(number)))
    made.close()
    assert shelf.writes == [40]
    assert [record["request_id"] for record in shelf.taken] == [str(number) for number in range(40)]
    assert count == {"written": 40}
    assert shelf.closed.is_set()


def test_a_destination_that_is_down_is_tried_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    shelf, count = Shelf(), Counted()
    shelf.answers = [ConnectionRefusedError("secret text"), ConnectionRefusedError("secret text")]
    made = records(shelf, count)
    made.take(call())
    assert shelf.until(1) == ["req_1"]
    count.until({"written": 1})
    made.close()
    assert shelf.writes == [1, 1, 1]
    assert [(record.message, vars(record).get("reason")) for record in caplog.records] == [
        ("usage records cannot be written", "ConnectionRefusedError"),
        ("usage records are written again", None),
    ]
    assert "secret" not in caplog.text


def test_only_what_was_not_taken_is_tried_again() -> None:
    shelf, count = Shelf(), Counted()
    shelf.answers = [lambda lines: (list(lines[1:3]), "ServiceUnavailableException"), lambda lines: ([lines[1]], "x")]
    made = records(shelf, count, gathers_s=0.2)
    for name in "abcd":
        made.take(call(name))
    assert shelf.until(4) == ["a", "d", "b", "c"]
    made.close()
    assert shelf.writes == [4, 2, 1]
    assert count == {"written": 4}


def test_records_are_given_up_after_a_while_and_later_ones_are_not(caplog: pytest.LogCaptureFixture) -> None:
    shelf, count = Shelf(), Counted()
    shelf.always = OSError(28, "No space left on device")
    made = records(shelf, count, retry_s=0.05)
    made.take(call("lost"))
    count.until({"failed": 1})
    shelf.always = None
    made.take(call("kept"))
    assert shelf.until(1) == ["kept"]
    made.close()
    assert count == {"failed": 1, "written": 1}
    assert ("usage records are lost", 1) in [(record.message, vars(record).get("records")) for record in caplog.records]


def test_memory_has_a_bound_and_what_is_over_it_is_counted() -> None:
    shelf, count = Shelf(), Counted()
    shelf.held.clear()
    made = records(shelf, count)
    for number in range(1000):
        made.take(call(f"req_{number:04d}"))
    shelf.held.set()
    made.close()
    size = 65_536 // 300
    assert size * 0.7 < count["written"] < size * 1.3
    assert count["written"] + count["dropped"] == 1000
    assert [record["request_id"] for record in shelf.taken] == [f"req_{n:04d}" for n in range(count["written"])]


def test_there_is_room_again_once_records_are_written() -> None:
    shelf, count = Shelf(), Counted()
    made = records(shelf, count)
    for round_ in range(20):
        for number in range(100):
            made.take(call(f"{round_}-{number}"))
        shelf.until((round_ + 1) * 100)
        count.until({"written": (round_ + 1) * 100})
    made.close()
    assert count == {"written": 2000}


def test_a_call_does_not_wait_for_a_slow_destination() -> None:
    shelf, count = Shelf(), Counted()
    shelf.held.clear()
    made = records(shelf, count, buffer_bytes=1 << 20)
    made.take(call())
    assert shelf.writing.wait(WAIT_S)
    began = time.monotonic()
    for _ in range(1000):
        made.take(call())
    assert time.monotonic() - began < 1.0
    shelf.held.set()
    made.close()
    assert count == {"written": 1001}


def test_closing_has_a_bound_and_tells_what_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    shelf, count = Shelf(), Counted()
    shelf.held.clear()
    made = records(shelf, count)
    made.take(call("being written"))
    assert shelf.writing.wait(WAIT_S)
    made.take(call("waiting"))
    began = time.monotonic()
    made.close(0.1)
    assert time.monotonic() - began < 2.0
    assert shelf.aborted.is_set()
    assert count == {"dropped": 2}
    assert [(record.message, vars(record)["records"]) for record in caplog.records] == [("usage records are lost", 2)]
    shelf.held.set()


def test_closing_tries_again_what_fails_at_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "CLOSING_WAIT_S", 0.01)
    shelf, count = Shelf(), Counted()
    shelf.answers = [OSError(), OSError(), OSError()]
    made = records(shelf, count, gathers_s=60.0)
    made.take(call())
    made.close()
    assert (shelf.writes, count) == ([1, 1, 1, 1], {"written": 1})


def test_closing_in_the_moment_that_a_batch_is_taken_is_not_overlooked() -> None:
    """The thread has just seen that there is more time, and is about to wait for more records."""
    shelf, count = Shelf(), Counted()
    made = records(shelf, count, gathers_s=60.0)
    closer, begun = threading.Thread(target=made.close), threading.Event()

    class Closing(threading.Event):
        def is_set(self) -> bool:
            found = super().is_set()
            if closer.ident is None and threading.current_thread() is made._thread:
                closer.start()
                begun.set()
                made._some.clear()
                made._some.wait(0.2)  # this thread has the lock: until it has let go, nothing may be said to it
            return found

    made._closing = Closing()
    for _ in range(2):
        made.take(call())
    made._now.set()
    assert begun.wait(WAIT_S)
    closer.join(2.0)
    assert not closer.is_alive()
    assert (shelf.closed.is_set(), count) == (True, {"written": 2})
