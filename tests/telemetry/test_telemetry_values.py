"""Updates past prometheus-client's own leave what those would have left: alone, with several processes, and forked."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from gateway.telemetry.values import Distribution, Slots, slot

BOUNDS = (0.001, 0.01, 0.1, 1.0)
OBSERVED = (0.0, 0.001, 0.0010001, 0.05, 0.1, 1.0, 1.5, 300.0)
PROCESS = """
import os, sys
from pathlib import Path
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess
from gateway.telemetry.values import Distribution, Slots, slot
{body}
registry = CollectorRegistry()
multiprocess.MultiProcessCollector(registry)
sys.stdout.write(generate_latest(registry).decode())
"""
BOTH = """
ours, theirs = CollectorRegistry(), CollectorRegistry()
for prefix, registry in (("ours", ours), ("theirs", theirs)):
    calls = Counter(f"{prefix}_calls_total", "Calls.", ["model"], registry=registry)
    running = Gauge(f"{prefix}_running", "Running.", registry=registry, multiprocess_mode="livesum")
    took = Histogram(f"{prefix}_took", "Took.", ["model"], buckets=(0.001, 0.01, 0.1, 1.0), registry=registry)
    if prefix == "ours":
        series, going, taking = Slots(calls), slot(running), Distribution(took.labels("m"))
        # so many series that the file has to grow, more than once
        for n in range(2000):
            series[f"m{n}"].add(1.0)
        series["m0"].add(2.5); going.add(3.0); going.add(-1.0); going.set(7.0)
        for value in OBSERVED: taking.observe(value)
        taking.merge([1, 0, 2, 0, 3], 12.5)
    else:
        for n in range(2000):
            calls.labels(f"m{n}").inc()
        calls.labels("m0").inc(2.5); running.inc(3.0); running.dec(1.0); running.set(7.0)
        for value in OBSERVED: took.labels("m").observe(value)
        for value, times in ((0.0005, 1), (0.05, 2), (4.13333333333333, 3)):
            for _ in range(times): took.labels("m").observe(value)
"""


def run(body: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROCESS.format(body=body.replace("OBSERVED", repr(OBSERVED)))],
        capture_output=True,
        text=True,
        timeout=60,
        env={"PROMETHEUS_MULTIPROC_DIR": str(folder), "PATH": "/usr/bin:/bin", "PYTHONPATH": ":".join(sys.path)},
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def samples(text: str, prefix: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        if line.startswith(f"{prefix}_"):
            name, _, value = line.removeprefix(f"{prefix}_").rpartition(" ")
            found[name] = round(float(value), 9)
    return found


def test_with_files_both_ways_of_counting_leave_the_same(tmp_path: Path) -> None:
    text = run(BOTH, tmp_path)
    ours, theirs = samples(text, "ours"), samples(text, "theirs")
    assert len(ours) > 2000
    took = {name for name in ours if name.startswith("took_sum")}
    assert {name: value for name, value in ours.items() if name not in took} == {
        name: value for name, value in theirs.items() if name not in took
    }
    assert ours['took_sum{model="m"}'] == round(sum(OBSERVED) + 12.5, 9)
    assert ours['calls_total{model="m0"}'] == 3.5
    assert ours['calls_total{model="m1999"}'] == 1.0
    assert ours["running"] == 7.0


def test_a_fork_counts_in_files_of_its_own(tmp_path: Path) -> None:
    text = run(
        """
registry = CollectorRegistry()
series = Slots(Counter("a_total", "A.", ["model"], registry=registry))
taking = Distribution(Histogram("h", "H.", buckets=(0.1,), registry=registry))
series["m"].add(5.0); taking.observe(0.05)
child = os.fork()
series["m"].add(1.0 if child else 10.0); taking.observe(0.05 if child else 1.0)
series["n"].add(1.0 if child else 100.0)
if child:
    assert os.waitpid(child, 0)[1] == 0
    names = sorted(path.name for path in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).iterdir())
    both = [f"{kind}_{pid}.db" for kind in ("counter", "histogram") for pid in (os.getpid(), child)]
    assert names == sorted(both), names
else:
    os._exit(0)
""",
        tmp_path,
    )
    assert samples(text, "a") == {'total{model="m"}': 16.0, 'total{model="n"}': 101.0}
    assert samples(text, "h") == {'bucket{le="0.1"}': 2.0, 'bucket{le="+Inf"}': 3.0, "count": 3.0, "sum": 1.1}


def test_a_process_that_is_only_started_leaves_no_files(tmp_path: Path) -> None:
    """uvloop runs what is to run after a fork in what will be another program: it must not count as a worker."""
    run(
        """
import asyncio, sys, uvloop
registry = CollectorRegistry()
Gauge("valid", "V.", registry=registry, multiprocess_mode="livemin").set(1)
series = Slots(Counter("a_total", "A.", ["model"], registry=registry))
series["m"].add(5.0)
async def main():
    other = await asyncio.create_subprocess_exec(sys.executable, "-c", "input()", stdin=-1)
    names = sorted(path.name for path in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).iterdir())
    assert names == [f"counter_{os.getpid()}.db", f"gauge_livemin_{os.getpid()}.db"], names
    await other.communicate(b"\\n")
uvloop.run(main())
series["m"].add(1.0)
""",
        tmp_path,
    )


@pytest.mark.parametrize("seed", range(3))
def test_alone_both_ways_of_counting_leave_the_same(seed: int) -> None:
    chance = random.Random(seed)
    ours, theirs = CollectorRegistry(), CollectorRegistry()
    series = Slots(Counter("calls_total", "Calls.", ["model", "code"], registry=ours), "m")
    counter = Counter("calls_total", "Calls.", ["model", "code"], registry=theirs)
    taking = Distribution(Histogram("took", "Took.", buckets=BOUNDS, registry=ours))
    took = Histogram("took", "Took.", buckets=BOUNDS, registry=theirs)
    going = slot(Gauge("running", "Running.", registry=ours))
    running = Gauge("running", "Running.", registry=theirs)
    for _ in range(500):
        code, amount, value = chance.choice("abc"), chance.random() * 9, chance.choice(OBSERVED)
        series[code].add(amount)
        counter.labels("m", code).inc(amount)
        taking.observe(value)
        took.observe(value)
        going.add(1.0)
        running.inc()
    going.set(2.0)
    running.set(2.0)
    left, right = (
        [line for line in generate_latest(registry).decode().splitlines() if "_created" not in line]
        for registry in (ours, theirs)
    )
    assert left == right


def test_a_mark_is_the_newest_of_its_bucket() -> None:
    taking = Distribution(Histogram("took", "Took.", ["m"], buckets=BOUNDS, registry=CollectorRegistry()).labels("x"))
    taking.mark(0.05, "1" * 32)
    taking.mark(0.1, "2" * 32)
    taking.mark(5.0, "3" * 32)
    assert {bound: (kept.trace_id[0], kept.value) for bound, kept in taking.exemplars.items()} == {
        "0.1": ("2", 0.1),
        "+Inf": ("3", 5.0),
    }
    assert (taking.name, taking.labels) == ("took", {"m": "x"})
