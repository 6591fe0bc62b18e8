"""Records of usage on this machine: a file that is rotated, or standard output.

Several processes may write the same file: each write and each rotation happens under a lock of that very file, and who
finds that its file was put aside opens the new one.
https://man7.org/linux/man-pages/man2/flock.2.html
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from gateway.telemetry.writer import WHOLE_BYTES, pieces

MODE = 0o640


class FileDestination:
    """Appends to a file, and puts it aside when it is large or the time it is for is over."""

    def __init__(self, path: Path, *, rotate_bytes: int, rotate_s: int, clock: Callable[[], float] = time.time) -> None:
        """`clock` returns Unix seconds."""
        self._path = path
        self._rotate_bytes = rotate_bytes
        self._rotate_s = rotate_s
        self._clock = clock
        self._fd = -1

    def write(self, lines: Sequence[bytes]) -> tuple[list[bytes], str]:
        """Append all of them, or none."""
        data = b"\n".join([*lines, b""])
        try:
            self._open_locked()
            found = os.fstat(self._fd)
            if found.st_size and self._due(found, len(data)):
                os.rename(self._path, self._aside())
                self._close()
                self._open_locked()
                found = os.fstat(self._fd)
            self._append(data, found.st_size)
        except OSError as error:
            self._close()
            return list(lines), errno_name(error)
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        return [], ""

    def close(self) -> None:
        self._close()

    def abort(self) -> None:
        """A disk cannot be told to fail."""

    def _append(self, data: bytes, size: int) -> None:
        if size and os.pread(self._fd, 1, size - 1) != b"\n":  # of a process that was killed, or had no room
            data = b"\n" + data
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
            os.fdatasync(self._fd)
        except OSError:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, size)  # no half record stays: all will be written again
            raise

    def _due(self, found: os.stat_result, more_bytes: int) -> bool:
        if found.st_size + more_bytes > self._rotate_bytes:
            return True
        return int(found.st_mtime // self._rotate_s) != int(self._clock() // self._rotate_s)

    def _aside(self) -> Path:
        """Return a name that is free for what has been written; who holds the lock is alone in looking for one."""
        at = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(self._clock()))
        number = 0
        while True:
            further = f"-{number}" if number else ""
            path = self._path.with_name(f"{self._path.stem}.{at}{further}{self._path.suffix}")
            if not path.exists():
                return path
            number += 1

    def _open_locked(self) -> None:
        """Have the file that now has the name, locked."""
        while True:
            if self._fd < 0:
                self._fd = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, MODE)
                if not stat.S_ISREG(os.fstat(self._fd).st_mode):
                    raise OSError(errno.EINVAL, "not a regular file")
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            own = os.fstat(self._fd)
            with contextlib.suppress(FileNotFoundError):
                there = os.stat(self._path)
                if (own.st_dev, own.st_ino) == (there.st_dev, there.st_ino):
                    return
            self._close()

    def _close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class StdoutDestination:
    """Writes to standard output, in writes that other processes' cannot be mixed with."""

    def __init__(self, fd: int = 1) -> None:
        self._fd = fd

    def write(self, lines: Sequence[bytes]) -> tuple[list[bytes], str]:
        done = 0
        try:
            for count, piece in pieces(lines, WHOLE_BYTES):
                left = piece
                while left:
                    left = left[os.write(self._fd, left) :]
                done += count
        except OSError as error:
            return list(lines[done:]), errno_name(error)
        return [], ""

    def close(self) -> None:
        """It is not ours to close."""

    def abort(self) -> None:
        """Who reads it cannot be told to."""


def errno_name(error: OSError) -> str:
    """Return what went wrong in words of the system's, without the path."""
    return error.strerror or type(error).__name__
