"""How a run goes, on standard error: a bar of rich's on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TextIO

from deploy.bench.loops import Counters
from deploy.bench.plan import Load, Stage
from deploy.bench.table import level

PLAIN_EVERY_S = 10.0


class Progress(Protocol):
    """Told of a run's course."""

    def begins(self, stage: Stage) -> None:
        """A stage begins."""

    def goes(self, counters: Counters) -> None:
        """It goes on; called several times a second."""

    def say(self, line: str) -> None:
        """Show a line that stays."""


class Lines:
    """Plain lines, few enough for a log."""

    def __init__(self, load: Load, stages: int, out: TextIO) -> None:
        self._load, self._stages, self._out = load, stages, out

    def begins(self, stage: Stage) -> None:
        self._name = f"stage {stage.index + 1} of {self._stages} ({named(stage)})"
        self._shown = time.monotonic()
        self.say(f"{self._name} begins")

    def goes(self, counters: Counters) -> None:
        if time.monotonic() - self._shown >= PLAIN_EVERY_S:
            self._shown = time.monotonic()
            self.say(f"{self._name}: {counted(counters)}")

    def say(self, line: str) -> None:
        self._out.write(f"{line}\n")
        self._out.flush()


def named(stage: Stage) -> str:
    """Return a level in words."""
    return f"concurrency {level(stage)}" if stage.loop == "closed" else f"{stage.level:g} requests/s"


def counted(counters: Counters) -> str:
    """Return the counts in words."""
    return f"{counters.done} calls ended, {counters.failed} of them failed, {counters.active} under way"


@contextmanager
def progress(load: Load, stages: int) -> Iterator[Progress]:
    """Yield what is told of the course of a run."""
    if not sys.stderr.isatty():
        yield Lines(load, stages, sys.stderr)
        return
    try:
        from deploy.bench.bar import bar
    except ImportError:  # rich comes with the extra `deploy`
        yield Lines(load, stages, sys.stderr)
        return
    with bar(load, stages) as shown:
        yield shown
