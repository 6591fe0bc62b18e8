"""`GET /admin/live`: what the console shows, as numbers that only grow, and the calls that ended since the last look.

What is per second, and what a quantile is, the page computes from two answers. `/admin/live/history` are the samples of
the last minutes, so that a page that has just been opened knows them, too. Nothing here runs on the loop that serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import struct
from collections import deque
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, TypedDict

import msgspec
from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler
from prometheus_client import Metric
from prometheus_client.multiprocess import MultiProcessCollector

from gateway.http.inside import Inside
from gateway.telemetry.recent import Seen, look, rings_of
from gateway.telemetry.shared import forget_the_dead, note_of

log = logging.getLogger(__name__)

SERIES = {
    "calls": "gateway_calls_total",
    "in_flight": "gateway_calls_in_flight",
    "call_seconds": "gateway_call_seconds",
    "first_token_seconds": "gateway_time_to_first_token_seconds",
    "inter_token_seconds": "gateway_inter_token_seconds",
    "overhead_seconds": "gateway_overhead_seconds",
    "tokens": "gateway_tokens_total",
    "attempts": "gateway_upstream_attempts_total",
    "attempts_in_flight": "gateway_upstream_in_flight",
    "limit_decisions": "gateway_limit_decisions_total",
    "waiting": "gateway_limit_waiting",
    "redis_up": "gateway_redis_up",
    "credentials": "gateway_credentials_valid",
    "workers": "gateway_workers",
    "worker_restarts": "gateway_worker_restarts_total",
}
"""The page's name of a series → the metric."""
SAMPLE_S = 5.0
HISTORY_S = 300.0
MAX_HISTORY_BYTES = 8 << 20
FRESH_S = 0.5
"""For so long an answer to one page serves the others, too."""
MAX_CALLS = 500
"""Of one answer."""
TRIES = 3
"""At files of workers that come and go meanwhile."""

_SUFFIXES = ("", "_bucket", "_sum")
_SAMPLES = {name + suffix: (key, suffix) for key, name in SERIES.items() for suffix in _SUFFIXES}


class Series(TypedDict, total=False):
    """One metric."""

    labels: list[str]
    le: list[str]
    """Of a histogram: the upper bounds of its buckets, as Prometheus writes them, `+Inf` last."""
    series: list[list[Any]]
    """The values of its labels, and the value; of a histogram the cumulative counts of its buckets, and the sum."""


class Live:
    """Looks at the metrics and the last calls of the process that serves, or of its workers."""

    def __init__(self, inside: Inside, clock: Callable[[], float]) -> None:
        """`clock` returns Unix seconds."""
        self._inside = inside
        self._clock = clock
        self._history: deque[bytes] = deque(maxlen=int(HISTORY_S / SAMPLE_S))
        self._fresh: tuple[float, bytes] = (float("-inf"), b"")
        self._sampling: asyncio.Task[None] | None = None

    def sample(self) -> bytes:
        """Return the metrics of now, as one JSON object: `at` in Unix seconds, and `metrics`."""
        at, known = self._fresh
        if monotonic() - at < FRESH_S:
            return known
        sample = msgspec.json.encode({"at": self._clock(), "metrics": series_of(families(self._inside))})
        self._fresh = monotonic(), sample
        return sample

    @property
    def history(self) -> list[bytes]:
        """The samples of the last minutes, oldest first."""
        return list(self._history)

    def recent(self, cursor: str | None) -> Seen:
        """Return the calls that have ended since `cursor`."""
        inside = self._inside
        if inside.recent is not None:
            return look({os.getpid(): inside.recent}, cursor)
        if inside.folder is None:
            return Seen([], "", 0)
        rings = dict(rings_of(inside.folder))
        try:
            return look(rings, cursor)
        finally:
            for ring in rings.values():
                ring.close()

    async def start(self) -> None:
        """Begin to sample."""
        self._sampling = asyncio.create_task(self._sample_often())

    async def stop(self) -> None:
        if self._sampling is not None:
            self._sampling.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._sampling

    async def _sample_often(self) -> None:
        while True:
            try:
                self._history.append(self.sample())
            except Exception as error:  # the next sample may be better: a worker may just have begun its file
                log.error("unexpected error", exc_info=error)
            while sum(map(len, self._history)) > MAX_HISTORY_BYTES:
                self._history.popleft()
            await asyncio.sleep(SAMPLE_S)


def live_routes(live: Live) -> list[HTTPRouteHandler]:
    """Return the handlers."""

    @get("/admin/live")
    async def now(request: Request[Any, Any, Any]) -> Response[bytes]:
        cursor = request.query_params.get("cursor")
        seen = live.recent(cursor)
        lines = newest(seen.lines, MAX_CALLS)
        unseen = seen.missed + (0 if cursor is None else len(seen.lines) - len(lines))
        # The lines and the sample are JSON already.
        body = b'%b,"calls":[%b],"cursor":%b,"missed":%d}' % (
            live.sample()[:-1],
            b",".join(lines),
            msgspec.json.encode(seen.cursor),
            unseen,
        )
        return _json(body)

    @get("/admin/live/history")
    async def history() -> Response[bytes]:
        return _json(b'{"samples":[%b]}' % b",".join(live.history))

    return [now, history]


def _json(body: bytes) -> Response[bytes]:
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})


def newest(lines: list[bytes], most: int) -> list[bytes]:
    """Return the newest calls of several rings, oldest first: every line begins with its time."""
    return sorted(lines)[-most:]


def families(inside: Inside) -> Iterable[Metric]:
    """Return the metrics of one process, or those of several workers added up."""
    if inside.registry is not None:
        chosen: Iterable[Metric] = inside.registry.restricted_registry(_SAMPLES).collect()
        return chosen
    if inside.folder is None:
        return ()
    forget_the_dead(inside.folder)
    tries = TRIES
    while True:
        note, merged = note_of(inside.folder), None
        with contextlib.suppress(FileNotFoundError, struct.error):  # of a worker that has ended since, or just begins
            files = [str(path) for path in note.files(inside.folder)]
            merged = MultiProcessCollector.merge(files)  # type: ignore[no-untyped-call]  # no annotation
        if merged is not None and note == note_of(inside.folder):
            found: Iterable[Metric] = merged
            return found
        tries -= 1
        if not tries:
            raise RuntimeError("workers come and go too fast")


def series_of(metrics: Iterable[Metric]) -> dict[str, Series]:
    """Return the metrics under the page's names; those that there are not are left out."""
    found: dict[str, Series] = {}
    rows: dict[tuple[str, tuple[str, ...]], list[Any]] = {}
    for metric in metrics:
        for sample in metric.samples:
            chosen = _SAMPLES.get(sample.name)
            if chosen is None:
                continue
            key, suffix = chosen
            labels = {name: value for name, value in sample.labels.items() if name != "le"}
            names = sorted(labels)
            series = found.setdefault(key, {"labels": names, "series": []})
            values = tuple(labels[name] for name in names)
            row = rows.get((key, values))
            if row is None:
                row = rows[key, values] = [values, sample.value] if suffix == "" else [values, [], 0.0]
                series["series"].append(row)
            if suffix == "_sum":
                row[2] = sample.value
            elif suffix == "_bucket":
                row[1].append(sample.value)
                bounds = series.setdefault("le", [])
                if len(bounds) < len(row[1]):
                    bounds.append(sample.labels["le"])
    return found
