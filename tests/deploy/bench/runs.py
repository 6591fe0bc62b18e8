"""Runs made up for tests of reports, call by call from a seed."""

from __future__ import annotations

import random

from deploy.bench.amounts import distribution
from deploy.bench.histogram import Histogram
from deploy.bench.plan import Load, Plan, Prompts, Stage, Target
from deploy.bench.records import CallRecord, Generator, StageData
from deploy.bench.runfile import Environment, Run, StageResult
from deploy.bench.summary import summarize

WINDOW_S = 20.0


def made_up(label: str, pace: float = 1.0, levels: tuple[int, ...] = (1, 4, 16), seed: int = 0) -> Run:
    """Return a run whose calls take about `pace` times 0.2 s to the first token and 1 s in all."""
    chance = random.Random(seed)
    stages = []
    for index, level in enumerate(levels):
        stage, data = Stage(index, "closed", level), StageData(WINDOW_S, [], Histogram(), Generator(cpu=[0.1]))
        data.generator.lag.add([0.001] * 100)
        for _ in range(level):
            at = 0.0
            while at < WINDOW_S:
                first, length = chance.gauss(0.2, 0.01) * pace, chance.gauss(1.0, 0.03) * pace
                data.gaps.add([(length - first) / 10] * 10)
                data.calls.append(
                    CallRecord(at, at, at + first, at + length, at + length, 50, 11, False, 11, 0.1, None)
                )
                at += length
        stages.append(StageResult(stage, summarize(stage, data, {}, None), data))
    target = Target("openai", "http://127.0.0.1:1", "/v1/chat/completions", "m")
    plan = Plan(
        target, Prompts(distribution("20"), distribution("5")), Load(WINDOW_S, None, 0, 0),
        tuple(item.stage for item in stages),
    )  # fmt: skip
    environment = Environment("0", "3.12.1", "Linux", "x86_64", 2, True, 1)
    return Run(label, "2026-01-02T03:04:05+00:00", "2026-01-02T03:05:05+00:00", True, plan, environment, stages)
