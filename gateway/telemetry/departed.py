"""What becomes of the numbers of workers that have died: their gauges end, and their counters go into one file of all.

Else a worker that cannot live would fill the folder, and each scrape would read all that is left of its predecessors.
A scrape that runs meanwhile counts each of them once: a note says which of the files are the ones to read, and whoever
finds another note at the end than at the beginning reads again (`shared.py`).
"""

from __future__ import annotations

import os
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from gateway.telemetry.recent import ring_path
from gateway.telemetry.shared import NOTE, RESTARTS, Note, forget_the_dead, note_of, read_values

SUMMED = ("counter", "histogram")
KEPT_RINGS = 8
"""Of the last calls of so many workers: the newest that died."""


class Departed:
    """The supervisor's hand in the folder of its workers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0
        self._rings: deque[tuple[Path, int]] = deque()
        """Of those that have died, and when they last changed: another worker may come to have the same id."""

    def take(self, *pids: int) -> None:
        """Count workers that are replaced, and take over what they have counted. They must have ended."""
        forget_the_dead(self._folder, *pids)
        self._fold(pids)
        self._count += len(pids)
        name, text = RESTARTS
        key = mmap_key(name, f"{name}_total", [], [], text)
        _write(self._folder / f"counter_{os.getpid()}.db", {key.encode(): float(self._count)})
        self._forget_calls(pids)

    def _forget_calls(self, pids: tuple[int, ...]) -> None:
        """Remove the last calls of those that have died long ago: else they would take the place of the living's."""
        for pid in pids:
            path = ring_path(self._folder, pid)
            if path.exists():
                self._rings.append((path, path.stat().st_mtime_ns))
        while len(self._rings) > KEPT_RINGS:
            path, changed = self._rings.popleft()
            if path.exists() and path.stat().st_mtime_ns == changed:
                path.unlink()

    def _fold(self, pids: tuple[int, ...]) -> None:
        folder, before = self._folder, note_of(self._folder)
        names = [str(pid) for pid in pids]
        after = before.generation + 1
        gone: list[Path] = [folder / f"exemplars_{name}.json" for name in names]
        for kind in SUMMED:
            old = [folder / f"{kind}_{name}.db" for name in (before.name, *names)]
            sums: dict[bytes, float] = {}
            for path in old:
                for key, value in read_values(path):
                    sums[key] = sums.get(key, 0.0) + value
            _write(folder / f"{kind}_{Note(after).name}.db", sums)
            gone += old
        self._tell(Note(after, names))
        for path in gone:
            path.unlink(missing_ok=True)
        self._tell(Note(after))  # another worker may come to have the same id

    def _tell(self, note: Note) -> None:
        draft = self._folder / "note.new"
        draft.write_bytes(msgspec.json.encode(note))
        draft.replace(self._folder / NOTE)


def _write(path: Path, values: dict[bytes, float]) -> None:
    """Write a file as prometheus-client's workers have them."""
    file: Any = MmapedDict(str(path))  # type: ignore[no-untyped-call]  # prometheus-client has none
    for key, value in values.items():
        file.write_value(key.decode(), value, 0.0)
    file.close()
