"""How busy the generator itself is: its processor, and how late its event loop runs."""

from __future__ import annotations

import asyncio
import contextlib
import time

from deploy.bench.histogram import Histogram

SAMPLE_EVERY_S = 0.01


class Watch:
    """Watches this process between start() and stop()."""

    def __init__(self) -> None:
        self.lag = Histogram()
        self.cpu_share = 0.0
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._began_s, self._cpu_s = time.perf_counter(), time.process_time()
        self._task = asyncio.create_task(self._sample())

    async def stop(self) -> None:
        """Take the sums; nothing if it was never started."""
        if self._task is None:
            return
        passed_s = time.perf_counter() - self._began_s
        self.cpu_share = (time.process_time() - self._cpu_s) / passed_s if passed_s > 0 else 0.0
        self._task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task
        self._task = None

    async def _sample(self) -> None:
        while True:
            before = time.perf_counter()
            await asyncio.sleep(SAMPLE_EVERY_S)
            self.lag.add((time.perf_counter() - before - SAMPLE_EVERY_S,))
