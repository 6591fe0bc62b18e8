"""The last calls of a process, where another thread or another process can read them while they are written.

A ring of slots in memory, or in a file that is mapped into memory, for each serving process. A call is one JSON line
(`lines.py`) in one slot, written in one piece, with a checksum: a slot that is read while it is written is seen not to
be whole, and nobody ever waits for anybody.
"""

from __future__ import annotations

import mmap
import os
import re
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

from gateway.telemetry.events import CallRecord
from gateway.telemetry.lines import encode, line_of, told

SLOTS = 512
SLOT_BYTES = 2048
"""Of a call's line and its head; longer ones are kept without their attempts and details."""
NEW_RINGS = 64
"""Of more processes than these, only those that began last are read; `departed.py` keeps few of those that died."""

_RING = struct.Struct("<8sIIQQ")
"""Of a ring: a mark, the slots, their size, the number of the newest call, and the same with every bit turned."""
_MARK = b"lmicalls"
_NEWEST = struct.Struct("<QQ")
_NEWEST_AT = _RING.size - _NEWEST.size
_TURNED = (1 << 64) - 1
_TRIES = 100
"""At a number that is just being written."""
_SLOT = struct.Struct("<IIQ")
"""Of a slot: the checksum of all that follows, the line's length, and the call's number, from 1 on."""
_REST = struct.Struct("<IQ")
_CURSOR = re.compile(r"[0-9]{1,10}\.[0-9]{1,19}(-[0-9]{1,10}\.[0-9]{1,19})*", re.ASCII)


class RecentCalls:
    """The ring of this process: a Sink."""

    def __init__(
        self,
        path: Path | None = None,
        *,
        slots: int = SLOTS,
        slot_bytes: int = SLOT_BYTES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Make a ring at `path`, or in the memory of this process alone. `clock` returns Unix seconds.

        Raises:
            OSError: there is no room for it.
        """
        size = _RING.size + slots * slot_bytes
        if path is None:
            self.memory = mmap.mmap(-1, size)
        else:
            path.unlink(missing_ok=True)  # of a process that had this one's id: whoever reads it keeps what it had
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.ftruncate(descriptor, size)
                self.memory = mmap.mmap(descriptor, size)
            finally:
                os.close(descriptor)
        self.memory[: _RING.size] = _RING.pack(_MARK, slots, slot_bytes, 0, _TURNED)
        self._slots = slots
        self._slot_bytes = slot_bytes
        self._clock = clock
        self._number = 0

    def take(self, record: CallRecord) -> None:
        now = self._clock()
        data = told(record, now)
        if len(data) > self._slot_bytes - _SLOT.size:
            line = line_of(record, now)
            line.tries = line.detail = None
            data = encode(line)
        self.put(data)

    def put(self, line: bytes) -> None:
        """Keep one call's line; one that is longer than a slot is not kept."""
        size = len(line)
        if size > self._slot_bytes - _SLOT.size:
            return
        self._number = number = self._number + 1
        at = _RING.size + (number - 1) % self._slots * self._slot_bytes
        rest = _REST.pack(size, number) + line
        self.memory[at : at + _SLOT.size + size] = crc32(rest).to_bytes(4, "little") + rest
        # Not by pack_into, which would write zeros first.
        self.memory[_NEWEST_AT : _RING.size] = _NEWEST.pack(number, number ^ _TURNED)


class Seen(NamedTuple):
    """What a look at the rings has found."""

    lines: list[bytes]
    """Of each ring, its calls from oldest to newest."""
    cursor: str
    """To be given at the next look, for what has come since."""
    missed: int
    """Calls that came and went between two looks."""


def look(rings: Mapping[int, mmap.mmap], cursor: str | None) -> Seen:
    """Return the calls that have come since `cursor`; without one, or with one that is none, all there are.

    Args:
        rings: process id → ring.
    """
    known = _positions(cursor)
    lines: list[bytes] = []
    positions: dict[int, int] = {}
    missed = 0
    for process, memory in rings.items():
        after = known.get(process)
        positions[process], lost = _read(memory, after or 0, lines)
        missed += lost if after is not None else 0
    return Seen(lines, "-".join(f"{process}.{newest}" for process, newest in positions.items()), missed)


def rings_of(folder: Path) -> Iterator[tuple[int, mmap.mmap]]:
    """Yield the rings of the processes that write to a folder, to be closed by whoever reads them."""
    found = sorted(folder.glob("calls_*.ring"), key=_age, reverse=True)[:NEW_RINGS]
    for path in found:
        try:
            with path.open("rb") as file:
                yield int(path.stem.partition("_")[2]), mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):  # it has just been made and is empty, or is being removed
            continue


def ring_path(folder: Path, process: int | None = None) -> Path:
    """Return where a process' ring belongs; this one's, if not another's."""
    return folder / f"calls_{process or os.getpid()}.ring"


def _age(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _positions(cursor: str | None) -> dict[int, int]:
    if cursor is None or not _CURSOR.fullmatch(cursor):
        return {}
    return {int(process): int(newest) for process, _, newest in (part.partition(".") for part in cursor.split("-"))}


def _read(memory: mmap.mmap, after: int, lines: list[bytes]) -> tuple[int, int]:
    """Add the calls after number `after` to `lines`; return the newest number, and how many are gone."""
    if len(memory) < _RING.size:
        return after, 0
    for _ in range(_TRIES):
        mark, slots, slot_bytes, newest, turned = _RING.unpack_from(memory)
        if newest ^ _TURNED == turned:
            break
    else:
        return after, 0
    if mark != _MARK or len(memory) < _RING.size + slots * slot_bytes:
        return 0, 0
    if newest < after:  # another process has got the id of the one that was read before
        after = 0
    oldest = max(after, newest - slots) + 1
    missed = oldest - after - 1
    for number in range(oldest, newest + 1):
        at = _RING.size + (number - 1) % slots * slot_bytes
        slot = memory[at : at + slot_bytes]
        checksum, size, found = _SLOT.unpack_from(slot)
        if found == number and checksum == crc32(slot[4 : _SLOT.size + size]):
            lines.append(slot[_SLOT.size : _SLOT.size + size])
        else:  # the writer has come round, and is just here
            missed += 1
    return newest, missed
