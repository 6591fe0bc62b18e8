"""The ring of recent calls: what is read is whole and in order, what is not is counted, whoever writes meanwhile."""

from __future__ import annotations

import json
import multiprocessing
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.base import Usage
from gateway.telemetry import recent
from gateway.telemetry.events import CallRecord, Try
from gateway.telemetry.recent import RecentCalls, Seen, look, ring_path, rings_of


def ring(path: Path | None = None, *, slots: int = 4, slot_bytes: int = 1024) -> RecentCalls:
    return RecentCalls(path, slots=slots, slot_bytes=slot_bytes, clock=lambda: 1_700_000_000.5)


def seen(calls: RecentCalls, cursor: str | None = None) -> Seen:
    return look({1: calls.memory}, cursor)


def record(**fields: Any) -> CallRecord:
    return CallRecord("chat", "req_1", 0.0, **fields)


def test_a_call_is_its_line() -> None:
    calls = ring()
    calls.take(record(model="llama", key_id="app", code="upstream_error", status=502, seconds=0.25, usage=Usage(3, 4)))
    (line,) = seen(calls).lines
    fields = json.loads(line)
    assert (fields["time"], fields["model"], fields["key"]) == ("2023-11-14T22:13:20.500Z", "llama", "app")
    assert (fields["code"], fields["status"], fields["total_ms"]) == ("upstream_error", 502, 250.0)
    assert (fields["prompt_tokens"], fields["completion_tokens"]) == (3, 4)


def test_a_look_tells_what_has_come_since_the_last() -> None:
    calls = ring()
    assert seen(calls) == Seen([], "1.0", 0)
    calls.put(b"one")
    calls.put(b"two")
    assert seen(calls) == Seen([b"one", b"two"], "1.2", 0)
    assert seen(calls, "1.2") == Seen([], "1.2", 0)
    calls.put(b"three")
    assert seen(calls, "1.2") == Seen([b"three"], "1.3", 0)


def test_the_oldest_make_room_and_are_missed_by_who_has_looked_before() -> None:
    calls = ring(slots=4)
    for number in range(1, 8):
        calls.put(b"%d" % number)
    assert seen(calls) == Seen([b"4", b"5", b"6", b"7"], "1.7", 0)
    assert seen(calls, "1.1") == Seen([b"4", b"5", b"6", b"7"], "1.7", 2)


@pytest.mark.parametrize("cursor", ["", "1", "1.", "x.1", "1.1-", "1.1,2.2", "1.-1", "1.1\n", "9" * 40, "../1.1"])
def test_a_cursor_that_is_none_is_as_without_one(cursor: str) -> None:
    calls = ring()
    calls.put(b"one")
    assert seen(calls, cursor) == Seen([b"one"], "1.1", 0)


def test_a_cursor_of_another_process_with_the_same_id_begins_anew() -> None:
    calls = ring()
    calls.put(b"one")
    assert seen(calls, "1.900") == Seen([b"one"], "1.1", 0)


def test_what_is_too_long_loses_its_attempts_and_details_or_is_left_out() -> None:
    calls = ring(slot_bytes=700)
    tries = [Try("a" * 60, 0.0, None, 0.1, "upstream_error", 500) for _ in range(5)]
    calls.take(record(model="llama", tries=tries, detail="d" * 700))
    (line,) = seen(calls).lines
    fields = json.loads(line)
    assert fields["model"] == "llama"
    assert not {"tries", "detail"} & set(fields)
    calls.take(record(model="m" * 700))
    assert seen(calls, "1.1") == Seen([], "1.1", 0)


def test_a_slot_that_is_just_being_written_is_not_read() -> None:
    calls = ring()
    calls.put(b"one")
    calls.put(b"two")
    at = bytes(calls.memory).index(b"one")
    calls.memory[at : at + 1] = b"x"
    assert seen(calls, "1.0") == Seen([b"two"], "1.2", 1)


def test_processes_have_rings_of_their_own_in_one_folder(tmp_path: Path) -> None:
    mine = ring(ring_path(tmp_path))
    other = ring(tmp_path / "calls_7.ring")
    mine.put(b"mine")
    other.put(b"other")
    (tmp_path / "calls_8.ring").write_bytes(b"")
    (tmp_path / "calls_9.ring").write_bytes(b"no ring at all, though something long enough to be looked at")
    (tmp_path / "calls_x.ring").write_bytes(b"no process")
    found = dict(rings_of(tmp_path))
    lines, cursor, missed = look(found, None)
    assert (sorted(lines), missed) == ([b"mine", b"other"], 0)
    assert {f"{os.getpid()}.1", "7.1", "9.0"} == set(cursor.split("-"))
    assert look(found, cursor).lines == []
    assert (tmp_path / "calls_7.ring").stat().st_mode & 0o777 == 0o600


def test_a_ring_takes_the_place_of_one_that_a_process_of_the_same_id_has_left(tmp_path: Path) -> None:
    old = ring(tmp_path / "calls_7.ring")
    old.put(b"old")
    ring(tmp_path / "calls_7.ring").put(b"new")
    assert look(dict(rings_of(tmp_path)), None).lines == [b"new"]
    assert seen(old).lines == [b"old"], "who has it open reads on"


def test_only_the_newest_rings_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recent, "NEW_RINGS", 2)
    for number in range(4):
        path = tmp_path / f"calls_{number + 1}.ring"
        ring(path).put(b"%d" % number)
        os.utime(path, (number, number))
    assert sorted(look(dict(rings_of(tmp_path)), None).lines) == [b"2", b"3"]


def write_many(path: str, ready: Any, stop: Any) -> None:
    calls = RecentCalls(Path(path), slots=8, slot_bytes=256)
    ready.set()
    number = 0
    while not stop.is_set():
        number += 1
        calls.put(b"%08d" % number * (1 + number % 29))


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Path]:
    context = multiprocessing.get_context("spawn")
    ready, stop = context.Event(), context.Event()
    path = tmp_path / "calls_1.ring"
    process = context.Process(target=write_many, args=(str(path), ready, stop))
    process.start()
    try:
        assert ready.wait(20)
        yield tmp_path
    finally:
        stop.set()
        process.join(20)
        assert process.exitcode == 0


def test_what_another_process_writes_at_the_same_time_is_read_whole_or_not_at_all(writer: Path) -> None:
    rings = dict(rings_of(writer))
    cursor, read, missed = "1.0", 0, 0
    while read < 20_000:
        lines, cursor, lost = look(rings, cursor)
        missed += lost
        read += len(lines)
        numbers = [int(line[:8]) for line in lines]
        assert lines == [b"%08d" % number * (1 + number % 29) for number in numbers]
        assert numbers == sorted(set(numbers))
    assert cursor == f"1.{read + missed}", "every call is read, or counted as missed"


def test_a_thread_reads_while_this_one_writes() -> None:
    calls, stop = ring(slots=8), threading.Event()
    wrong: list[bytes] = []

    def read() -> None:
        cursor = None
        while not stop.is_set():
            lines, cursor, _ = look({1: calls.memory}, cursor)
            wrong.extend(line for line in lines if len(set(line)) != 1)

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(50_000):
        calls.put(b"abcdefghij"[number % 10 : number % 10 + 1] * (1 + number % 200))
    stop.set()
    reader.join(20)
    assert wrong == []
