"""What several workers have counted: each in files of its own in one folder, added up for a scrape.

The files are prometheus-client's, and survive their worker: what it has counted stays counted, whichever way it ended.
Its gauges do not: the supervisor takes those away at once, and whoever scrapes. Beside them each worker keeps a file
of examples, which prometheus-client cannot share.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import msgspec

from gateway.telemetry.exposition import Exemplars, Family, Labels, Line, Source, Steps
from gateway.telemetry.values import Distribution, Exemplar

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
RESTARTS = "gateway_worker_restarts", "Workers that died and were replaced."
NOTE = "note.json"
ENTRIES_A_TURN = 500
_LENGTH = struct.Struct("i")
_NUMBERS = struct.Struct("dd")


class Note(NamedTuple):
    """Which files count: `departed.py`."""

    generation: int = 0
    """Of the file of those that have died."""
    gone: Sequence[str] = ()
    """Ids of workers whose files are in it already."""

    @property
    def name(self) -> str:
        """What its files have in place of a worker's id."""
        return f"departed-{self.generation}"

    def files(self, folder: Path) -> list[Path]:
        """Return the files to add up."""
        found = []
        for path in sorted(folder.glob("*.db")):
            whose = path.stem.rpartition("_")[2]
            if whose not in self.gone and (not whose.startswith("departed-") or whose == self.name):
                found.append(path)
        return found


class _Entry(NamedTuple):
    """What a key in a file says."""

    metric: str
    help: str
    name: str
    labels: Labels
    series: Labels
    """The labels without `le`."""
    bound: float | None


_entries: dict[bytes, _Entry] = {}


def of_folder(folder: Path) -> Source:
    """Return the source of all workers together."""

    def gather(families: list[Family]) -> Steps:
        forget_the_dead(folder)
        kinds: dict[str, str] = {}
        values: dict[bytes, float] = {}
        note = None
        while note != (now := note_of(folder)):  # else a worker's file was taken over while it was read
            note = now
            kinds.clear()
            values.clear()
            for path in note.files(folder):
                kind, _, mode = path.stem.rpartition("_")[0].partition("_")
                for seen, (key, value) in enumerate(read_values(path), 1):
                    before = values.get(key)
                    if before is None:
                        kinds.setdefault(_entry(key).metric, kind)
                        values[key] = value
                    elif mode == "livemin":
                        values[key] = min(before, value)
                    elif mode == "livemax":
                        values[key] = max(before, value)
                    else:
                        values[key] = before + value
                    if seen % ENTRIES_A_TURN == 0:
                        yield
                yield
        grouped: dict[str, list[tuple[_Entry, float]]] = {}
        for seen, (key, value) in enumerate(values.items(), 1):
            entry = _entry(key)
            grouped.setdefault(entry.metric, []).append((entry, value))
            if seen % ENTRIES_A_TURN == 0:
                yield
        for metric, found in grouped.items():
            lines: list[Line] = []
            families.append(Family(metric, kinds[metric], found[0][0].help, lines))
            if kinds[metric] == "histogram":
                yield from _add_histogram(lines, found)
            else:
                lines += [Line(entry.name, entry.labels, value) for entry, value in found]
            yield

    return gather


def note_of(folder: Path) -> Note:
    """Return the note in a folder; while no worker has died there is none."""
    try:
        return msgspec.json.decode((folder / NOTE).read_bytes(), type=Note)
    except FileNotFoundError:
        return Note()


def forget_the_dead(folder: Path, *pids: int) -> None:
    """Take these workers, and all that are gone, out of the gauges; their counters stay counted."""
    for path in folder.glob("gauge_live*_*.db"):
        pid = path.stem.rpartition("_")[2]
        if int(pid) in pids or (not Path("/proc", pid).exists() and Path("/proc/self").exists()):
            path.unlink(missing_ok=True)


def keep_exemplars(folder: Path, distributions: Iterable[Distribution]) -> None:
    """Write this worker's examples to its file, whole or not at all."""
    path = folder / f"exemplars_{os.getpid()}.json"
    found = [
        (series.name, series.labels, bound, example)
        for series in distributions
        for bound, example in list(series.exemplars.items())
    ]
    draft = path.with_suffix(f".{threading.get_ident()}")
    draft.write_bytes(msgspec.json.encode(found))
    draft.replace(path)


def exemplars_of(folder: Path) -> Exemplars:
    """Return the newest example of each bucket among all workers'."""
    newest: Exemplars = {}
    for path in folder.glob("exemplars_*.json"):
        with contextlib.suppress(FileNotFoundError):
            kept = msgspec.json.decode(path.read_bytes(), type=list[tuple[str, dict[str, str], str, Exemplar]])
            merge_exemplars(newest, kept)
    return newest


def exemplars_in(distributions: Iterable[Distribution]) -> Exemplars:
    """Return the examples of one process."""
    found: Exemplars = {}
    for series in distributions:
        merge_exemplars(
            found, [(series.name, series.labels, bound, kept) for bound, kept in list(series.exemplars.items())]
        )
    return found


def merge_exemplars(newest: Exemplars, kept: Iterable[tuple[str, dict[str, str], str, Exemplar]]) -> None:
    for name, labels, bound, example in kept:
        key = f"{name}_bucket", _with_bound(labels.items(), bound)
        if key not in newest or newest[key].at < example.at:
            newest[key] = example


def read_values(path: Path) -> Iterator[tuple[bytes, float]]:
    """Yield keys and values of a file as it is now, none if it is gone or has only just been made."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    used = _LENGTH.unpack_from(data)[0] if len(data) >= 8 else 0
    at, end = 8, min(used, len(data))
    while at < end:
        length = _LENGTH.unpack_from(data, at)[0]
        key = data[at + 4 : at + 4 + length]
        at += 4 + length + 8 - (length + 4) % 8
        yield key, _NUMBERS.unpack_from(data, at)[0]
        at += 16


def _entry(key: bytes) -> _Entry:
    found = _entries.get(key)
    if found is None:
        metric, name, labels, text = msgspec.json.decode(key, type=tuple[str, str, dict[str, str], str])
        every = tuple(sorted(labels.items()))
        bound = labels.pop("le", None)
        found = _entries[key] = _Entry(
            metric, text, name, every, tuple(sorted(labels.items())), None if bound is None else float(bound)
        )
    return found


def _add_histogram(lines: list[Line], found: list[tuple[_Entry, float]]) -> Steps:
    """Add buckets that add up, as the formats have them; the files count each by itself."""
    series: dict[Labels, list[tuple[float, Labels, float]]] = {}
    sums: dict[Labels, float] = {}
    for seen, (entry, value) in enumerate(found, 1):
        if entry.bound is None:
            sums[entry.series] = value
        else:
            series.setdefault(entry.series, []).append((entry.bound, entry.labels, value))
        if seen % ENTRIES_A_TURN == 0:
            yield
    name = found[0][0].metric
    bucket, count, total = f"{name}_bucket", f"{name}_count", f"{name}_sum"
    for labels, buckets in series.items():
        so_far = 0.0
        for _, with_bound, value in sorted(buckets):
            so_far += value
            lines.append(Line(bucket, with_bound, so_far))
        lines.append(Line(count, labels, so_far))
        lines.append(Line(total, labels, sums.get(labels, 0.0)))
        if len(lines) % ENTRIES_A_TURN < len(buckets):
            yield


def _with_bound(labels: Iterable[tuple[str, str]], bound: str) -> Labels:
    return tuple(sorted((*labels, ("le", bound))))
