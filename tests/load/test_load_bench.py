"""`make bench` runs: it measures several kinds of load and meets no error. How fast this machine is proves nothing."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BOUND_S = 60
FIGURES = re.compile(
    r"^(?P<profile>\w+) .+? (?P<cpu_us>[\d.]+) µs/(?P<unit>request|chunk) .*?(?P<rate>[\d,]+)/s"
    r" +[+-][\d.]+ +[+-][\d.]+ +(?P<memory_mb>[\d.]+)$",
    re.MULTILINE,
)


@pytest.mark.skipif(sys.platform != "linux", reason="the bench reads a process' CPU time and memory from /proc")
def test_the_bench_has_figures_for_each_profile_and_no_errors() -> None:
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "tests.load.bench",
            "--seconds",
            "0.3",
            "--profiles",
            "unary,burst,paced64,memory,redis,telemetry",
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=BOUND_S,
    )
    assert (run.returncode, run.stderr) == (0, "")
    rows = [found.groupdict() for found in FIGURES.finditer(run.stdout)]
    assert [(row["profile"], row["unit"]) for row in rows] == [
        ("unary", "request"),
        ("burst", "chunk"),
        ("paced64", "chunk"),
        ("memory", "request"),
        ("redis", "request"),
    ], run.stdout
    assert "ERRORS" not in run.stdout
    added = re.findall(
        r"^telemetry .+? [+-][\d.]+ µs/(request|chunk) +≤ (\d+)  [\d.]+ with it, [\d.]+", run.stdout, re.M
    )
    assert added == [("request", "15"), ("chunk", "2")], run.stdout
    for row in rows:
        assert float(row["cpu_us"]) > 0
        assert int(row["rate"].replace(",", "")) > 0
        assert float(row["memory_mb"]) > 0
