"""Generating processes: this one, or several that run the same stage at the same time.

Several are `python -m deploy.bench.workers`, told what to do in lines of JSON on their standard input and answering in
lines on their standard output; keys stay in the environment. Their clocks agree: time.perf_counter() is the machine's.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import Sequence
from typing import Protocol

import msgspec

from deploy.bench.client import BadKey, Client
from deploy.bench.dataset import BadFile
from deploy.bench.eventloop import run
from deploy.bench.loops import Counters, StageRun
from deploy.bench.plan import Plan, Share, Stage
from deploy.bench.prompts import Bodies
from deploy.bench.records import StageData, merged
from deploy.bench.signing import AwsProblem

START_IN_S = 0.2
"""Processes begin a stage together, so long after they are told."""
LINE_LIMIT_BYTES = 1 << 30
REPORT_EVERY_S = 0.25
NOT_POSSIBLE = (BadKey, BadFile, AwsProblem, OSError)
"""What keeps a process from beginning; the text is for the user."""


class WorkerFailed(Exception):
    """A generating process ended by itself; the text is for the user."""


class Workers(Protocol):
    """What runs stages."""

    @property
    def counters(self) -> Counters:
        """How the stage goes, over all processes."""

    async def stage(self, stage: Stage) -> StageData:
        """Run a stage to its end, or until interrupt()."""

    def interrupt(self) -> None:
        """End the stage that runs, and every later one at once."""

    async def aclose(self) -> None:
        """Let everything go."""


class Here:
    """Runs stages in this process."""

    def __init__(self, plan: Plan, share: Share, client: Client) -> None:
        """Raise BadFile if the plan's file cannot be used; `client` is entered already."""
        self._plan, self._share, self._client = plan, share, client
        self._bodies = Bodies(plan)
        self._stop = asyncio.Event()
        self.counters = Counters()

    async def stage(self, stage: Stage, start_at: float | None = None) -> StageData:
        """Run a stage; without `start_at`, from now on."""
        self.counters.done = self.counters.failed = self.counters.output_tokens = 0
        await self._client.resolve()
        start = time.perf_counter() if start_at is None else start_at
        run = StageRun(self._plan, stage, self._share, self._client, self._bodies, self.counters, start)
        return await run.run(self._stop)

    def interrupt(self) -> None:
        self._stop.set()

    async def aclose(self) -> None:
        await self._client.__aexit__(None, None, None)


class Order(msgspec.Struct, forbid_unknown_fields=True):
    """A line to a process."""

    plan: Plan | None = None
    share: Share | None = None
    stage: Stage | None = None
    start_at: float = 0.0
    interrupt: bool = False


class Report(msgspec.Struct, forbid_unknown_fields=True):
    """A line from a process."""

    ready: bool = False
    data: StageData | None = None
    counters: tuple[int, int, int, int] | None = None
    problem: str | None = None


_order = msgspec.json.Decoder(Order).decode
_report = msgspec.json.Decoder(Report).decode
_line = msgspec.json.Encoder().encode


class Processes:
    """Runs stages in several processes."""

    def __init__(self, processes: Sequence[asyncio.subprocess.Process]) -> None:
        self.processes = processes
        self._counts = [Counters() for _ in processes]

    @classmethod
    async def start(cls, plan: Plan, count: int) -> Processes:
        """Return as many processes, ready.

        Raises:
            WorkerFailed: one of them could not begin.
        """
        command = (sys.executable, "-m", "deploy.bench.workers")
        # A session of their own: Ctrl-C is this process' affair, which then tells them.
        started = [
            await asyncio.create_subprocess_exec(
                *command, stdin=-1, stdout=-1, start_new_session=True, limit=LINE_LIMIT_BYTES
            )
            for _ in range(count)
        ]
        workers = cls(started)
        try:
            for index in range(count):
                workers._tell(index, Order(plan=plan, share=Share(index, count)))
            await asyncio.gather(*(workers._next(index, until="ready") for index in range(count)))
        except BaseException:
            await workers.aclose()
            raise
        return workers

    @property
    def counters(self) -> Counters:
        rows = self._counts
        return Counters(
            sum(row.done for row in rows), sum(row.failed for row in rows),
            sum(row.active for row in rows), sum(row.output_tokens for row in rows),
        )  # fmt: skip

    async def stage(self, stage: Stage) -> StageData:
        """Run a stage in all processes at once; WorkerFailed if one of them ends."""
        start_at = time.perf_counter() + START_IN_S
        for index in range(len(self.processes)):
            self._tell(index, Order(stage=stage, start_at=start_at))
        reports = await asyncio.gather(*(self._next(index, until="data") for index in range(len(self.processes))))
        return merged([report.data for report in reports if report.data is not None])

    def interrupt(self) -> None:
        for index in range(len(self.processes)):
            self._tell(index, Order(interrupt=True))

    async def aclose(self) -> None:
        for process in self.processes:
            if process.stdin is not None:
                process.stdin.close()  # which ends it
        for process in self.processes:
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()

    def _tell(self, index: int, order: Order) -> None:
        pipe = self.processes[index].stdin
        if pipe is not None and not pipe.is_closing():
            pipe.write(_line(order) + b"\n")

    async def _next(self, index: int, *, until: str) -> Report:
        pipe = self.processes[index].stdout
        while pipe is not None and (line := await pipe.readline()):
            report = _report(line)
            if report.problem is not None:
                raise WorkerFailed(report.problem)
            if report.counters is not None:
                self._counts[index] = Counters(*report.counters)
            if (until == "ready" and report.ready) or (until == "data" and report.data is not None):
                return report
        raise WorkerFailed("a generating process ended by itself")


async def _child() -> None:
    """Be one of several processes."""
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader(limit=LINE_LIMIT_BYTES)
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    first = _order(await lines.readline())
    if first.plan is None or first.share is None:
        raise ValueError("the first line is not a plan")
    try:
        client = await Client(first.plan.target, first.plan.load).__aenter__()
        worker = Here(first.plan, first.share, client)
        await client.resolve()
    except NOT_POSSIBLE as error:
        _say(Report(problem=str(error)))
        return
    _say(Report(ready=True))
    running: asyncio.Task[None] | None = None
    while line := await lines.readline():
        order = _order(line)
        if order.interrupt:
            worker.interrupt()
        elif order.stage is not None:
            running = asyncio.create_task(_one(worker, order.stage, order.start_at))
    if running is not None:
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
    await worker.aclose()


async def _one(worker: Here, stage: Stage, start_at: float) -> None:
    telling = asyncio.create_task(_tell_counters(worker))
    try:
        data = await worker.stage(stage, start_at)
    except NOT_POSSIBLE as error:
        _say(Report(problem=str(error)))
        return
    finally:
        telling.cancel()
    _say(Report(data=data))


async def _tell_counters(worker: Here) -> None:
    while True:
        await asyncio.sleep(REPORT_EVERY_S)
        now = worker.counters
        _say(Report(counters=(now.done, now.failed, now.active, now.output_tokens)))


def _say(report: Report) -> None:
    sys.stdout.buffer.write(_line(report) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    run(_child())
