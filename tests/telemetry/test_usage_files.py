"""Records of usage in a file that is rotated, and on standard output."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.telemetry.usage_files import FileDestination, StdoutDestination

HOUR = 3600
NOON = 1_790_000_000 // HOUR * HOUR + 60
"""2026-09-21T14:01:00Z"""


class Clock:
    def __init__(self) -> None:
        self.now = float(NOON)

    def __call__(self) -> float:
        return self.now


def destination(path: Path, clock: Clock, *, rotate_bytes: int = 10_000, rotate_s: int = HOUR) -> FileDestination:
    return FileDestination(path, rotate_bytes=rotate_bytes, rotate_s=rotate_s, clock=clock)


def dated(path: Path, at: float) -> None:
    os.utime(path, (at, at))


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in sorted(folder.iterdir())}


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_records_are_lines_of_a_file_that_others_may_not_read(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "usage.jsonl"
    there = destination(path, clock)
    assert there.write([b"1", b"2"]) == ([], "")
    dated(path, NOON)
    assert there.write([b"3"]) == ([], "")
    there.close()
    assert contents(tmp_path) == {"usage.jsonl": "1\n2\n3\n"}
    assert path.stat().st_mode & 0o007 == 0


def test_a_file_that_is_there_is_continued(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "usage.jsonl"
    path.write_text("before\n")
    dated(path, NOON)
    destination(path, clock).write([b"after"])
    assert contents(tmp_path) == {"usage.jsonl": "before\nafter\n"}


def test_half_a_line_that_a_crash_left_stays_apart(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "usage.jsonl"
    path.write_text('{"id":"ha')
    dated(path, NOON)
    destination(path, clock).write([b"after"])
    assert contents(tmp_path) == {"usage.jsonl": '{"id":"ha\nafter\n'}


def test_a_file_is_put_aside_before_it_would_be_too_large(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "usage.jsonl"
    there = destination(path, clock, rotate_bytes=10)
    for text in (b"1234567", b"89", b"abcdefghijklmnop", b"q"):
        there.write([text])
        dated(path, NOON)
    assert contents(tmp_path) == {
        "usage.20260921T140100Z-1.jsonl": "89\n",
        "usage.20260921T140100Z-2.jsonl": "abcdefghijklmnop\n",
        "usage.20260921T140100Z.jsonl": "1234567\n",
        "usage.jsonl": "q\n",
    }


@pytest.mark.parametrize(
    ("last", "now", "files"),
    [
        pytest.param(NOON, NOON + 100, 1, id="within the hour"),
        pytest.param(NOON, NOON - 61, 2, id="the clock went back an hour"),
        pytest.param(NOON - 61, NOON, 2, id="a new hour"),
        pytest.param(NOON - 86_400, NOON, 2, id="another day"),
    ],
)
def test_a_file_holds_one_span_of_time(tmp_path: Path, clock: Clock, last: float, now: float, files: int) -> None:
    path = tmp_path / "usage.jsonl"
    path.write_text("before\n")
    dated(path, last)
    clock.now = now
    destination(path, clock).write([b"after"])
    assert len(contents(tmp_path)) == files
    assert path.read_text().endswith("after\n")


def test_a_file_that_somebody_moved_or_removed_is_begun_anew(tmp_path: Path, clock: Clock) -> None:
    path = tmp_path / "usage.jsonl"
    there = destination(path, clock)
    there.write([b"1"])
    path.rename(tmp_path / "moved")
    there.write([b"2"])
    path.unlink()
    there.write([b"3"])
    assert contents(tmp_path) == {"moved": "1\n", "usage.jsonl": "3\n"}


def no_room(real: Callable[[int, bytes], int]) -> Callable[[int, bytes], int]:
    """Return a write that takes five bytes, and then finds the disk full."""
    calls = []

    def write(fd: int, data: bytes) -> int:
        calls.append(fd)
        if len(calls) > 1:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, bytes(data)[:5])

    return write


def test_a_full_disk_leaves_no_half_record(tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "usage.jsonl"
    there = destination(path, clock)
    there.write([b"before"])
    dated(path, NOON)
    with monkeypatch.context() as patch:
        patch.setattr("os.write", no_room(os.write))
        assert there.write([b"record one", b"record two"]) == (
            [b"record one", b"record two"],
            "No space left on device",
        )
    assert path.read_text() == "before\n"
    dated(path, NOON)
    assert there.write([b"record one", b"record two"]) == ([], "")
    assert path.read_text() == "before\nrecord one\nrecord two\n"


def nothing(path: Path) -> None:
    """Make nothing."""


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        pytest.param(nothing, "No such file or directory", id="no such folder"),
        pytest.param(Path.mkdir, "Is a directory", id="a folder"),
        pytest.param(os.mkfifo, "not a regular file", id="something else"),
    ],
)
def test_what_cannot_be_written_says_why_without_its_path(
    tmp_path: Path, clock: Clock, made: Callable[[Path], object], reason: str
) -> None:
    path = tmp_path / "sub" / "usage.jsonl"
    if made is not nothing:
        path.parent.mkdir()
        made(path)
    assert destination(path, clock).write([b"1"]) == ([b"1"], reason)


WRITES = """
import sys
from pathlib import Path
from gateway.telemetry.usage_files import FileDestination
there = FileDestination(Path(sys.argv[2]), rotate_bytes=10_000, rotate_s=3600)
for number in range(300):
    left, reason = there.write([f'{{"id":"{sys.argv[1]}-{number}-{part}"}}'.encode() for part in range(5)])
    assert not left, reason
"""


def test_several_processes_share_a_file_and_its_rotation(tmp_path: Path) -> None:
    path = tmp_path / "usage.jsonl"
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITES, name, str(path)], cwd=Path(__file__).parents[2])
        for name in "abc"
    ]
    assert [process.wait(30) for process in processes] == [0, 0, 0]
    files = contents(tmp_path)
    ids = [json.loads(line)["id"] for text in files.values() for line in text.splitlines()]
    assert sorted(ids) == sorted(
        f"{name}-{number}-{part}" for name in "abc" for number in range(300) for part in range(5)
    )
    assert len(files) > 4
    assert all(len(text) <= 10_000 for text in files.values())


def test_standard_output_gets_lines_and_says_what_it_did_not_take() -> None:
    read_fd, write_fd = os.pipe()
    there = StdoutDestination(write_fd)
    lines = [b"%0999d" % number for number in range(20)]
    assert there.write(lines) == ([], "")
    assert os.read(read_fd, 1 << 16) == b"\n".join([*lines, b""])
    os.close(read_fd)
    assert there.write(lines) == (lines, "Broken pipe")
    os.close(write_fd)


def test_standard_output_is_waited_for() -> None:
    read_fd, write_fd = os.pipe()
    lines = [b"%0999d" % number for number in range(300)]
    found: list[object] = []
    writer = threading.Thread(target=lambda: found.append(StdoutDestination(write_fd).write(lines)))
    writer.start()
    text = b""
    while len(text) < 300_000:
        text += os.read(read_fd, 1 << 16)
    writer.join(10)
    assert found == [([], "")]
    assert text.splitlines() == lines
    os.close(read_fd)
    os.close(write_fd)
