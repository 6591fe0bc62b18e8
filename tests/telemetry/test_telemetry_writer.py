"""Log lines on their way to a descriptor: whole, in order, and never waited for."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from gateway.telemetry import writer as writing
from gateway.telemetry.writer import PENDING_BYTES, URGENT_BYTES, WHOLE_BYTES, LineWriter, pieces

WAIT_S = 10.0


class Pipe:
    """A pipe whose reader reads when it is told to."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        self.told: list[int] = []
        self.dropped = 0
        self.writer = LineWriter(self.write_fd, tell=self.tell)
        self.writer.on_drop = self.count

    def tell(self, lines: int) -> None:
        self.told.append(lines)
        self.writer.put(b"dropped %d" % lines, urgent=True)

    def count(self, lines: int) -> None:
        self.dropped += lines

    def lines(self, until: bytes) -> list[bytes]:
        """Read up to and with the line `until`."""
        found = b""
        end = time.monotonic() + WAIT_S
        while until not in found.split(b"\n"):
            assert select.select([self.read_fd], [], [], end - time.monotonic())[0], found[-200:]
            found += os.read(self.read_fd, 1 << 20)
        return found.split(b"\n")[:-1]

    def close(self) -> None:
        for fd in (self.read_fd, self.write_fd):
            with suppress(OSError):
                os.close(fd)


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    pipe = Pipe()
    yield pipe
    os.close(pipe.read_fd)
    pipe.writer.close()
    pipe.close()


def test_lines_come_out_in_order(pipe: Pipe) -> None:
    for number in range(3000):
        pipe.writer.put(b"line %d" % number, urgent=number % 100 == 0)
    assert pipe.lines(b"line 2999") == [b"line %d" % number for number in range(3000)]


@pytest.mark.parametrize(("shared", "largest"), [(True, WHOLE_BYTES), (False, 60_000)])
def test_what_others_write_to_as_well_gets_small_pieces(
    monkeypatch: pytest.MonkeyPatch, shared: bool, largest: int
) -> None:
    monkeypatch.setattr(writing, "DELAY_S", 60.0)
    written: list[int] = []

    def write(_: LineWriter, piece: bytes) -> bool:
        written.append(len(piece))
        return True

    monkeypatch.setattr(LineWriter, "_write", write)
    read_fd, write_fd = os.pipe()
    try:
        writer = LineWriter(write_fd, tell=print, shared=shared)
        for _ in range(600):
            writer.put(b"x" * 99)
        writer.close()
    finally:
        os.close(read_fd)
        os.close(write_fd)
    assert sum(written) == 60_000
    assert largest - 99 <= max(written) <= largest


def test_a_line_waits_for_others_but_an_urgent_one_does_not(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "DELAY_S", 60.0)
    pipe.writer.put(b"first")
    assert not select.select([pipe.read_fd], [], [], 0.05)[0]
    pipe.writer.put(b"failed", urgent=True)
    assert pipe.lines(b"failed") == [b"first", b"failed"]


def test_many_lines_do_not_wait_either(pipe: Pipe, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "DELAY_S", 60.0)
    for _ in range(262):
        pipe.writer.put(b"x" * 1000)
    pipe.writer.put(b"y" * 1000)
    assert len(pipe.lines(b"y" * 1000)) == 263


def test_a_line_is_written_soon_although_nothing_follows(pipe: Pipe) -> None:
    began = time.monotonic()
    pipe.writer.put(b"alone")
    assert pipe.lines(b"alone") == [b"alone"]
    assert time.monotonic() - began < 2.0


def test_a_reader_who_stops_costs_lines_and_no_time(pipe: Pipe) -> None:
    line = b"y" * 999
    began = time.thread_time()
    for _ in range(4000):
        pipe.writer.put(line)
    pipe.writer.put(b"urgent", urgent=True)
    assert time.thread_time() - began < 1.0
    in_pipe = 65_536 + WHOLE_BYTES
    assert 4000 - (PENDING_BYTES + in_pipe) // 1000 <= pipe.dropped <= 4000 - PENDING_BYTES // 1000
    lines = pipe.lines(b"dropped %d" % pipe.dropped)
    assert lines.count(line) == 4000 - pipe.dropped
    assert lines[-2:] == [b"urgent", b"dropped %d" % pipe.dropped]
    assert pipe.told == [pipe.dropped]
    pipe.writer.put(b"again")
    assert pipe.lines(b"again") == [b"again"]


def test_room_for_urgent_lines_has_an_end_too(pipe: Pipe) -> None:
    for _ in range(4000):
        pipe.writer.put(b"z" * 999, urgent=True)
    assert 4000 - pipe.dropped <= (PENDING_BYTES + URGENT_BYTES + 65_536 + WHOLE_BYTES) // 1000 + 1


def test_a_reader_who_is_gone_is_no_reason_to_stop() -> None:
    pipe = Pipe()
    os.close(pipe.read_fd)
    counted = threading.Event()
    pipe.writer.on_drop = lambda lines: counted.set()
    for _ in range(5):
        counted.clear()
        pipe.writer.put(b"into the void", urgent=True)
        assert counted.wait(WAIT_S)
    assert pipe.told == []
    pipe.writer.close()
    pipe.close()


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: Pipe) -> None:
    os.set_blocking(pipe.write_fd, False)
    for number in range(500):
        pipe.writer.put(b"%0999d" % number)
    pipe.writer.put(b"end", urgent=True)
    assert pipe.lines(b"end")[:-1] == [b"%0999d" % number for number in range(500)]


def test_closing_writes_what_is_left() -> None:
    pipe = Pipe()
    pipe.writer.put(b"last")
    pipe.writer.close()
    assert os.read(pipe.read_fd, 100) == b"last\n"
    pipe.close()


def test_closing_does_not_wait_for_ever(pipe: Pipe) -> None:
    for _ in range(100):
        pipe.writer.put(b"w" * 1000)
    began = time.monotonic()
    pipe.writer.close(0.1)
    assert time.monotonic() - began < 2.0


@pytest.mark.parametrize(
    ("lines", "written"),
    [
        pytest.param([], [], id="none"),
        pytest.param([b"a", b"b"], [(2, b"a\nb\n")], id="together"),
        pytest.param([b"aaa", b"bbb", b"c"], [(2, b"aaa\nbbb\n"), (1, b"c\n")], id="as many as fit"),
        pytest.param([b"a", b"b" * 20, b"c"], [(1, b"a\n"), (1, b"b" * 20 + b"\n"), (1, b"c\n")], id="one too long"),
    ],
)
def test_pieces_end_where_lines_do(lines: list[bytes], written: list[tuple[int, bytes]]) -> None:
    assert list(pieces(lines, 8)) == written


class Interrupted(list[bytes]):
    """Lines among which another one comes while one is put: garbage was collected, and logged."""

    def __init__(self, put: Callable[[], None]) -> None:
        super().__init__()
        self._put: Callable[[], None] | None = put

    def append(self, line: bytes) -> None:
        super().append(line)
        put, self._put = self._put, None
        if put is not None:
            put()


def test_what_logs_in_the_midst_of_a_line_is_written_too(pipe: Pipe) -> None:
    writer = pipe.writer
    writer._lines = Interrupted(lambda: writer.put(b"inner", urgent=True))
    putting = threading.Thread(target=writer.put, args=(b"outer",), daemon=True)
    putting.start()
    putting.join(WAIT_S)
    assert not putting.is_alive()
    assert pipe.lines(b"inner") == [b"outer", b"inner"]
    writer.put(b"last", urgent=True)
    assert pipe.lines(b"last") == [b"last"]
    writer.close()
    assert writer._pending_bytes == 0


WRITES = """
import sys
from gateway.telemetry.writer import LineWriter
writer = LineWriter(2, tell=print)
for number in range(2000):
    writer.put((f"{sys.argv[1]} {number} ".encode()) + sys.argv[1].encode() * (number % 900))
writer.close(10)
"""


@pytest.mark.parametrize("into", ["pipe", "file"])
def test_lines_of_several_processes_are_never_mixed(into: str, tmp_path: Path) -> None:
    read_fd, write_fd = os.pipe() if into == "pipe" else (-1, os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT))
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITES, name], stderr=write_fd, cwd=Path(__file__).parents[2])
        for name in "abc"
    ]
    os.close(write_fd)
    found = b""
    if into == "pipe":
        while piece := os.read(read_fd, 1 << 16):
            found += piece
        os.close(read_fd)
    assert [process.wait(20) for process in processes] == [0, 0, 0]
    found = found or (tmp_path / "log").read_bytes()
    wanted = {f"{name} {number} {name * (number % 900)}" for name in "abc" for number in range(2000)}
    assert set(found.decode().splitlines()) == wanted
