"""What puts log lines on a file descriptor: in batches, in order, whole, and never at the expense of calls.

Lines are handed to a thread, which writes them a moment later, and at once where one is urgent. What reads them may be
slow, or gone: then lines wait, up to a bound, and further ones are dropped, counted and told about.

Several processes may share the descriptor. A write of at most PIPE_BUF bytes to a pipe is never mixed with others',
so that no write is larger and none ends inside a line, but for a single line that is longer.
https://man7.org/linux/man-pages/man7/pipe.7.html
"""

from __future__ import annotations

import contextlib
import os
import select
import stat
import threading
from collections.abc import Callable, Iterable, Iterator

DELAY_S = 0.1
"""How long a line may wait for others to be written with."""
BATCH_BYTES = 262_144
"""So much is written without waiting for more."""
PENDING_BYTES = 1_048_576
"""Of lines that wait for a slow reader."""
URGENT_BYTES = 131_072
"""Kept free for urgent ones."""
WHOLE_BYTES = min(select.PIPE_BUF, 4096)
CLOSE_S = 2.0
"""What a reader gets at the end to take what is left."""


class LineWriter:
    """Writes lines to one descriptor."""

    def __init__(self, fd: int, *, tell: Callable[[int], None], shared: bool = True) -> None:
        """Begin to write.

        Args:
            tell: writes a line that says how many were dropped, once lines are taken again.
            shared: other processes write to the descriptor, too.
        """
        self._fd = fd
        self._tell = tell
        # After each write this thread wants the interpreter back from a busy loop: that costs more than the write.
        self._most_bytes = WHOLE_BYTES if shared and not stat.S_ISREG(os.fstat(fd).st_mode) else PENDING_BYTES
        # What is collected as garbage may log, in whatever thread and at whatever point: in the midst of `put`, too.
        self._lock = threading.RLock()
        self._lines: list[bytes] = []
        self._pending_bytes = 0
        """Of what waits, and what is being written."""
        self._lost = 0
        self._closed = False
        self._some = _Signal()
        self._now = _Signal()
        self.on_drop: Callable[[int], None] | None = None
        """Told of every number of lines that were dropped, from whatever thread."""
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()

    def put(self, line: bytes, *, urgent: bool = False) -> None:
        """Take a line, without its end. Never waits for the reader."""
        size = len(line) + 1
        with self._lock:
            waiting = self._pending_bytes + size
            if waiting > PENDING_BYTES and not (urgent and waiting <= PENDING_BYTES + URGENT_BYTES):
                self._lost += 1
            else:
                first = not self._lines
                self._lines.append(line)
                self._pending_bytes += size
                if first:
                    self._some.set()
                if urgent or waiting >= BATCH_BYTES:
                    self._now.set()
                return
        if self.on_drop is not None:
            self.on_drop(1)

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what is left, for as long as that; later lines may be lost."""
        with self._lock:
            self._closed = True
        self._now.set()
        self._some.set()
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            self._some.wait()
            self._now.wait(DELAY_S)
            with self._lock:
                lines, self._lines = self._lines, []
                lost, self._lost = self._lost, 0
                self._some.clear()
                self._now.clear()
            taken = 0
            for count, piece in pieces(lines, self._most_bytes):
                if self._write(piece):
                    taken += count
                else:
                    self._drop(count)
                with self._lock:
                    self._pending_bytes -= len(piece)
            if lost and taken:
                self._tell(lost)
            with self._lock:
                if not taken:
                    self._lost += lost
                if not self._closed:
                    continue
                if not self._lines:
                    return
                self._some.set()
                self._now.set()

    def _write(self, piece: bytes) -> bool:
        """Write it all, however long that takes; say whether somebody has taken it."""
        while piece:
            try:
                piece = piece[os.write(self._fd, piece) :]
            except BlockingIOError:  # somebody who shares the descriptor wants it so
                select.select([], [self._fd], [], 1.0)
            except OSError:  # nobody reads, or the disk is full; it may be otherwise later
                return False
        return True

    def _drop(self, count: int) -> None:
        with self._lock:
            self._lost += count
        if self.on_drop is not None:
            self.on_drop(count)


class _Signal:
    """Wakes the one thread that waits for it. Unlike an Event it may be set by what interrupts its own setting."""

    def __init__(self) -> None:
        self._unset = threading.Lock()
        self._unset.acquire()

    def set(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is set
            self._unset.release()

    def clear(self) -> None:
        self._unset.acquire(blocking=False)

    def wait(self, timeout_s: float = -1) -> None:
        """Return once it was set, or after that long; it is unset then."""
        self._unset.acquire(timeout=timeout_s)


def pieces(lines: Iterable[bytes], most_bytes: int) -> Iterator[tuple[int, bytes]]:
    """Yield what is written at once, no larger unless a single line is, and how many lines that is."""
    piece: list[bytes] = []
    size = 0
    for line in lines:
        if piece and size + len(line) + 1 > most_bytes:
            yield len(piece), b"".join(piece)
            piece, size = [], 0
        piece.append(line + b"\n")
        size += len(line) + 1
    if piece:
        yield len(piece), b"".join(piece)
