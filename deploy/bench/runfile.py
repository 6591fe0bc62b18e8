"""A run as a file of JSON, which every report is made from: docs/bench.md describes it.

The schema has a number. A reader refuses numbers it does not know; fields are only added under the same number.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path
from typing import Literal

import msgspec

from deploy.bench.eventloop import has_uvloop
from deploy.bench.plan import Plan, Stage
from deploy.bench.records import COLUMNS, StageData
from deploy.bench.summary import Price, Summary, summarize

SCHEMA: Literal["lmi-bench/1"] = "lmi-bench/1"
MAX_BYTES = 4 << 30


class BadRun(Exception):
    """The file is no run; the text is for the user."""


class Environment(msgspec.Struct, frozen=True):
    """What generated the load: no names of machines or people."""

    version: str
    python: str
    system: str
    machine: str
    cpus: int
    uvloop: bool
    processes: int


class StageResult(msgspec.Struct):
    """A stage: what it was, its figures, and every call."""

    stage: Stage
    summary: Summary
    data: StageData


class Run(msgspec.Struct):
    """A whole run."""

    label: str
    started_at: str
    """ISO 8601, UTC."""
    ended_at: str
    complete: bool
    """Every stage ran to its end."""
    plan: Plan
    environment: Environment
    stages: list[StageResult]
    schema: Literal["lmi-bench/1"] = SCHEMA
    slo: dict[str, float] = {}
    """Seconds by name."""
    price: Price | None = None
    columns: tuple[str, ...] = COLUMNS
    """What the columns of `calls` are."""

    @property
    def summaries(self) -> list[Summary]:
        return [result.summary for result in self.stages]


class _Head(msgspec.Struct):
    schema: str = ""


def environment(processes: int) -> Environment:
    """Return what is to be known about this machine."""
    try:
        version = importlib.metadata.version("lmi-gateway")
    except importlib.metadata.PackageNotFoundError:
        version = "unknown"
    return Environment(
        version, platform.python_version(), platform.system(), platform.machine(), os.cpu_count() or 0,
        has_uvloop(), processes,
    )  # fmt: skip


def write(run: Run, path: Path) -> None:
    """Write the run; OSError if that is not possible."""
    path.write_bytes(msgspec.json.encode(run) + b"\n")


def read(path: Path) -> Run:
    """Read a run.

    Raises:
        BadRun: there is none.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadRun(f"{path}: too large for a run")
        data = path.read_bytes()
    except OSError as error:
        raise BadRun(f"{path}: {error.strerror}") from None
    try:
        schema = msgspec.json.decode(data, type=_Head).schema
        if schema != SCHEMA:
            raise BadRun(f"{path}: its schema is {schema[:40]!r}, and not {SCHEMA!r}")
        return msgspec.json.decode(data, type=Run)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadRun(f"{path}: not the file of a run: {error}") from None


def judged(run: Run, slo: dict[str, float] | None, price: Price | None) -> Run:
    """Return the run with its figures made anew for another service level or price; None keeps the run's own."""
    slo = run.slo if slo is None else slo
    price = run.price if price is None else price
    stages = [
        StageResult(result.stage, summarize(result.stage, result.data, slo, price), result.data)
        for result in run.stages
    ]
    return msgspec.structs.replace(run, stages=stages, slo=slo, price=price)
