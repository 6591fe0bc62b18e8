"""One stage of a run, in one process: calls in a closed loop or an open one, and what they came to.

Closed: each caller makes its next call when its last one has ended, so a slow endpoint is asked less. Open: calls are
due at times that do not depend on the endpoint, and are timed from when they were due, so that no wait is left out
("coordinated omission": https://www.scylladb.com/2021/04/22/on-coordinated-omission/).
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec

from deploy.bench.arrivals import arrivals
from deploy.bench.client import Client
from deploy.bench.histogram import Histogram
from deploy.bench.plan import Plan, Share, Stage
from deploy.bench.prompts import Bodies
from deploy.bench.records import CallRecord, Generator, StageData
from deploy.bench.watch import Watch

TOO_LATE_S = 0.25
"""A call that is due may begin so long after the stage's end; later it counts as never begun."""
FAILED_PAUSE_S = 0.05
"""From the beginning of a failed call to its caller's next one, at least: an endpoint that is down is not flooded."""


@dataclass(slots=True)
class Counters:
    """How a stage goes; read while it runs."""

    done: int = 0
    failed: int = 0
    active: int = 0
    output_tokens: int = 0


class StageRun:
    """A stage that runs once."""

    def __init__(
        self,
        plan: Plan,
        stage: Stage,
        share: Share,
        client: Client,
        bodies: Bodies,
        counters: Counters,
        start_at: float,
    ) -> None:
        """`start_at` is when the ramp begins, by time.perf_counter(), the same for all processes."""
        load = plan.load
        self._plan, self._stage, self._share = plan, stage, share
        self._client, self._bodies, self._counters = client, bodies, counters
        self._start = start_at
        self._zero = start_at + load.ramp_s + load.warmup_s
        self._end = self._zero + load.duration_s if load.duration_s is not None else math.inf
        self._calls: list[CallRecord] = []
        self._gaps = Histogram()
        self._generator = Generator()
        self._tasks: set[asyncio.Task[CallRecord | None]] = set()
        self._room = asyncio.Event()
        self._full_until = 0.0

    async def run(self, stop: asyncio.Event) -> StageData:
        """Run to the end, or until `stop`; calls that are under way then are given up."""
        reconnects = self._client.reconnects
        watch = Watch()
        watching = asyncio.create_task(self._watch(watch))
        main = asyncio.create_task(self._closed() if self._stage.loop == "closed" else self._open())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait({main, stopped}, return_when=asyncio.FIRST_COMPLETED)
        interrupted, unfinished = not main.done(), 0
        if interrupted:
            unfinished = self._client.abandon()
        now = time.perf_counter()
        await _end(main, stopped, watching, *self._tasks)
        await watch.stop()
        if main.done() and not main.cancelled():
            main.result()  # a mistake of ours is no interruption
        self._generator.cpu, self._generator.lag = [watch.cpu_share], watch.lag
        self._generator.reconnects = self._client.reconnects - reconnects
        self._counters.active = 0
        return StageData(
            self._window_s(now),
            self._calls,
            self._gaps,
            self._generator,
            unfinished=unfinished,
            interrupted=interrupted,
        )

    def _window_s(self, now: float) -> float:
        if math.isfinite(self._end):
            return max(0.0, min(self._end, now) - self._zero)
        return max((call.ended_s for call in self._calls), default=0.0)

    async def _watch(self, watch: Watch) -> None:
        await _until(self._zero)
        watch.start()
        if math.isfinite(self._end):
            await _until(self._end)
            await watch.stop()

    # --- closed ---

    async def _closed(self) -> None:
        callers = int(self._stage.level)
        mine = range(self._share.index, callers, self._share.of)
        requests = self._plan.load.requests
        # Of a number of requests each process has the part of its callers, or one without callers would hold some back.
        before = sum(len(range(index, callers, self._share.of)) for index in range(self._share.index))
        left = math.inf
        if requests is not None:
            left = requests * (before + len(mine)) // callers - requests * before // callers
        self._left = left
        async with asyncio.TaskGroup() as group:
            for caller in mine:
                group.create_task(self._caller(caller, callers))

    async def _caller(self, caller: int, callers: int) -> None:
        await _until(self._start + self._plan.load.ramp_s * caller / callers)
        number = caller
        while time.perf_counter() < self._end:
            body = self._bodies.body(self._stage, number)
            if time.perf_counter() >= self._zero:
                if self._left < 1:
                    return
                self._left -= 1
            call = await self._call(body, None)
            if call is not None and not call.ok and (left := FAILED_PAUSE_S - call.e2e_s) > 0:
                await asyncio.sleep(left)
            number += callers

    # --- open ---

    async def _open(self) -> None:
        load = self._plan.load
        limit = max(1, self._share.part(load.max_outstanding))
        seed = f"{self._plan.seed}:{self._stage.index}:arrivals"
        measured = 0
        for number, offset in enumerate(arrivals(self._stage.level, load.ramp_s, load.arrivals, seed)):
            due = self._start + offset
            if due >= self._end or (due >= self._zero and measured == load.requests):
                break
            measured += due >= self._zero
            # Every process goes through the same schedule, and takes its own calls of it.
            if number % self._share.of == self._share.index:
                await self._due(number, due, limit)
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def _due(self, number: int, due: float, limit: int) -> None:
        """Begin a call when it is due, or as soon after as there is room."""
        latest = self._end + TOO_LATE_S
        measured = due >= self._zero
        if time.perf_counter() <= latest:
            body = self._bodies.body(self._stage, number)
            await _until(due)
            if len(self._tasks) >= limit:
                await self._wait_for_room(limit, latest)
                self._full_until = time.perf_counter()
            # Those that came due while others waited were held back with them.
            self._generator.held_back += measured and due < self._full_until
            if time.perf_counter() <= latest and len(self._tasks) < limit:
                self._spawn(self._call(body, due))
                return
        self._generator.never_begun += measured

    def _spawn(self, call: Coroutine[None, None, CallRecord | None]) -> None:
        task = asyncio.create_task(call)
        self._tasks.add(task)
        task.add_done_callback(self._gone)

    def _gone(self, task: asyncio.Task[CallRecord | None]) -> None:
        self._tasks.discard(task)
        self._room.set()

    async def _wait_for_room(self, limit: int, latest: float) -> None:
        while len(self._tasks) >= limit and (left := latest - time.perf_counter()) > 0:
            self._room.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if math.isinf(left) else left):
                    await self._room.wait()

    # --- both ---

    async def _call(self, body: bytes, intended: float | None) -> CallRecord | None:
        """Make a call and keep its record; None if it was given up with the run."""
        counters = self._counters
        counters.active += 1
        try:
            call, answer = await self._client.call(body, intended)
        finally:
            counters.active -= 1
        if answer.error == "abandoned":
            return None
        counters.done += 1
        counters.failed += not call.ok
        counters.output_tokens += call.output_tokens
        if call.ok and call.intended_s >= self._zero:
            self._gaps.add(answer.gaps)
        self._calls.append(_from(call, self._zero))
        return call


def _from(call: CallRecord, zero: float) -> CallRecord:
    """Return the call with times from `zero` on, to the microsecond."""
    return msgspec.structs.replace(
        call,
        intended_s=round(call.intended_s - zero, 6),
        began_s=round(call.began_s - zero, 6),
        first_s=None if call.first_s is None else round(call.first_s - zero, 6),
        last_s=None if call.last_s is None else round(call.last_s - zero, 6),
        ended_s=round(call.ended_s - zero, 6),
        longest_gap_s=round(call.longest_gap_s, 6),
    )


async def _until(moment: float) -> None:
    """Sleep until then; always lets others run once."""
    await asyncio.sleep(0)
    # Again, as timers of some event loops are a millisecond early.
    while (left := moment - time.perf_counter()) > 0:  # noqa: ASYNC110 - it waits for the clock, not for an event
        await asyncio.sleep(left)


async def _end(*tasks: asyncio.Task[Any]) -> None:
    """Cancel what still runs, and wait for it."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
