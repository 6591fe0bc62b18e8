"""The bar of a terminal, by rich."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from deploy.bench.loops import Counters
from deploy.bench.plan import Load, Stage
from deploy.bench.progress import counted, named


class Bar:
    """One bar for the stage that runs."""

    def __init__(self, load: Load, stages: int, shown: Progress) -> None:
        self._load, self._stages, self._shown = load, stages, shown
        self._task = shown.add_task("", total=1.0, counts="")

    def begins(self, stage: Stage) -> None:
        self._began = time.monotonic()
        text = f"{stage.index + 1}/{self._stages} {named(stage)}"
        self._shown.reset(self._task, description=text, total=1.0, counts="")

    def goes(self, counters: Counters) -> None:
        load = self._load
        if load.duration_s is not None:
            share = (time.monotonic() - self._began) / (load.ramp_s + load.warmup_s + load.duration_s)
        else:
            share = counters.done / (load.requests or 1)
        self._shown.update(self._task, completed=min(1.0, share), counts=counted(counters))

    def say(self, line: str) -> None:
        self._shown.console.print(line, markup=False, highlight=False)


@contextmanager
def bar(load: Load, stages: int) -> Iterator[Bar]:
    """Yield a bar that is there until this is left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[counts]}"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as shown:
        yield Bar(load, stages, shown)
