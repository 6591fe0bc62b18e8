"""What scrapers get: both formats, alone and from several workers' files, with examples, holding nobody up."""

from __future__ import annotations

import asyncio
import gc
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.mmap_dict import MmapedDict, mmap_key
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from gateway.telemetry.departed import Departed
from gateway.telemetry.events import CallRecord, Gaps, Trace, Try
from gateway.telemetry.exposition import OPENMETRICS, TEXT, Family, of_registry, text, wants_openmetrics
from gateway.telemetry.prometheus import PrometheusTelemetry, scrape_folder
from gateway.telemetry.recent import RecentCalls, ring_path
from gateway.telemetry.shared import ENTRIES_A_TURN, Note, exemplars_of, forget_the_dead, of_folder
from gateway.telemetry.values import Exemplar

PROMETHEUS = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    "application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)
WORKER = """
import asyncio, sys
from gateway.telemetry.events import GAP_BUCKETS_S, CallRecord, Gaps, Trace, Try
from gateway.telemetry.prometheus import PrometheusTelemetry
from adapters.base import Usage
telemetry = PrometheusTelemetry()
number = int(sys.argv[1])
for n in range(number):
    telemetry.call_began()
    telemetry.attempt_began("m", "d")
    record = CallRecord("chat", "r", 0.0, model="m", lane="d", stream=True, first_event_s=0.3, seconds=float(number))
    record.tries.append(Try("d", 0.0, 0.1, 0.3, "ok", 200))
    record.usage, record.gaps = Usage(3, 2), Gaps([1] * (len(GAP_BUCKETS_S) + 1), 9.0, 3.0)
    record.trace = Trace(f"{number:032x}", "b" * 16, None, sampled=True)
    telemetry.attempt("m", "d", "ok", lasts=True)
    telemetry.call_ended(record)
telemetry.call_began()
telemetry.upstream(number, {"default": (True, 1000.0 * number)})
telemetry.share_exemplars()
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Three processes that have counted 1, 2 and 3 calls."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(number)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        for number in (1, 2, 3)
    ]
    try:
        for process in running:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
        yield running
    finally:
        for process in running:
            process.kill()
            process.communicate()


def values(folder: Path) -> dict[str, float]:
    body, _ = asyncio.run(scrape_folder(folder))
    return {
        f"{sample.name.removeprefix('gateway_')}{{{','.join(sample.labels.values())}}}": sample.value
        for metric in parse_text(body.decode())
        for sample in metric.samples
    }


def test_a_registry_is_written_as_prometheus_client_writes_it() -> None:
    registry = CollectorRegistry()
    counter = Counter("a_total", 'Back\\slash, "quotes"\nand a line.', ["z", "b"], registry=registry)
    counter.labels('say "hi"', "back\\slash").inc(1.5)
    counter.labels("two\nlines", "ü").inc(10_000_000)
    Gauge("g", "G.", registry=registry).set(-0.25)
    histogram = Histogram("h_seconds", "H.", ["model"], buckets=(0.005, 1, 60), registry=registry)
    histogram.labels("m").observe(0.5)
    body, kind = asyncio.run(text(of_registry(registry), dict, ""))
    assert (body, kind) == (generate_latest(registry), TEXT)
    body, kind = asyncio.run(text(of_registry(registry), dict, OPENMETRICS))
    assert (body, kind) == (generate_openmetrics(registry), OPENMETRICS)  # type: ignore[no-untyped-call]  # likewise


@pytest.mark.parametrize(
    ("accept", "wanted"),
    [
        pytest.param("", False, id="nothing"),
        pytest.param("*/*", False, id="anything"),
        pytest.param("text/plain", False, id="text"),
        pytest.param("application/openmetrics-text", True, id="openmetrics"),
        pytest.param(PROMETHEUS, True, id="what Prometheus sends"),
        pytest.param("application/openmetrics-text;q=0.2, text/plain;q=0.5", False, id="text rather"),
        pytest.param("application/openmetrics-text; q=0", False, id="not at all"),
        pytest.param("APPLICATION/OpenMetrics-Text ; Version=1.0.0", True, id="other capitals"),
        pytest.param("application/openmetrics-text;q=lots", False, id="no number"),
        pytest.param(",;,q=;", False, id="nonsense"),
    ],
)
def test_the_accept_header_decides(accept: str, wanted: bool) -> None:
    assert wants_openmetrics(accept) is wanted


@pytest.mark.usefixtures("workers")
def test_workers_are_added_up(tmp_path: Path) -> None:
    found = values(tmp_path)
    assert found["calls_total{ok,m,chat}"] == 6
    assert found["call_seconds_sum{m,chat}"] == 1 + 4 + 9
    assert found["call_seconds_count{m,chat}"] == 6
    assert found["call_seconds_bucket{+Inf,m,chat}"] == 6
    assert found["call_seconds_bucket{1.0,m,chat}"] == 1
    assert found["call_seconds_bucket{2.5,m,chat}"] == 3
    assert found["inter_token_seconds_count{m}"] == 6 * 18
    assert found["tokens_total{prompt,m}"] == 18
    assert found["calls_in_flight{}"] == 3
    assert found["upstream_in_flight{d,m}"] == 0
    assert found["upstream_connections{}"] == 6
    assert found["credentials_expire_timestamp_seconds{default}"] == 1000, "the earliest"
    assert found["workers{}"] == 3
    assert found["worker_restarts_total{}"] == 0


def test_a_dead_worker_leaves_its_counters_and_takes_its_gauges(
    workers: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    before = values(tmp_path)
    workers[2].kill()
    workers[2].wait()
    found = values(tmp_path)
    assert found["calls_total{ok,m,chat}"] == 6
    assert (found["calls_in_flight{}"], found["upstream_connections{}"], found["workers{}"]) == (2, 3, 2)
    departed = Departed(tmp_path)
    departed.take(workers[2].pid)
    after = values(tmp_path)
    assert after.pop("worker_restarts_total{}") == 1
    assert {name: found[name] for name in after} == after
    assert not list(tmp_path.glob(f"*_{workers[2].pid}.*"))

    workers[1].kill()
    workers[1].wait()
    departed.take(workers[1].pid)
    last = values(tmp_path)
    assert last["worker_restarts_total{}"] == 2
    assert (last["calls_in_flight{}"], last["workers{}"]) == (1, 1)
    for name in ("calls_total{ok,m,chat}", "call_seconds_sum{m,chat}", "inter_token_seconds_count{m}"):
        assert last[name] == before[name]
    assert len(list(tmp_path.glob("*_departed-*.db"))) == 2


def test_the_supervisor_knows_a_dead_worker_before_its_process_is_gone(
    workers: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    forget_the_dead(tmp_path, workers[1].pid)
    assert values(tmp_path)["workers{}"] == 2


def test_a_scrape_in_the_midst_of_a_take_over_counts_everybody_once(
    workers: list[subprocess.Popen[str]], tmp_path: Path
) -> None:
    families: list[Family] = []
    steps = of_folder(tmp_path)(families)
    next(steps)  # it has read one file
    workers[0].kill()
    workers[0].wait()
    Departed(tmp_path).take(workers[0].pid)
    for _ in steps:
        pass
    (calls,) = [family for family in families if family.name == "gateway_calls"]
    assert [line.value for line in calls.lines] == [6.0]


def test_files_of_those_who_have_been_taken_over_are_not_counted_again(tmp_path: Path) -> None:
    names = ("counter_1.db", "counter_2.db", "counter_departed-1.db", "counter_departed-2.db", "gauge_livesum_2.db")
    for name in names:
        (tmp_path / name).touch()
    assert [path.name for path in Note().files(tmp_path)] == ["counter_1.db", "counter_2.db", "gauge_livesum_2.db"]
    assert [path.name for path in Note(2, ["1"]).files(tmp_path)] == [
        "counter_2.db",
        "counter_departed-2.db",
        "gauge_livesum_2.db",
    ]


def test_of_the_dead_the_last_calls_of_a_few_are_kept_and_nothing_of_the_living_is_lost(tmp_path: Path) -> None:
    departed = Departed(tmp_path)
    living, again = 4_000_001, 4_000_002
    for pid in (living, again):
        RecentCalls(ring_path(tmp_path, pid), slots=1)
    departed.take(again)
    RecentCalls(ring_path(tmp_path, again), slots=1)  # of a new worker that has got the same id
    for pid in range(5_000_000, 5_000_040):
        RecentCalls(ring_path(tmp_path, pid), slots=1)
        departed.take(pid)
    left = {int(path.stem.partition("_")[2]) for path in tmp_path.glob("calls_*.ring")}
    assert left == {living, again, *range(5_000_032, 5_000_040)}


def test_a_file_that_has_only_just_been_made_is_no_trouble(tmp_path: Path) -> None:
    (tmp_path / "counter_1.db").touch()
    (tmp_path / f"gauge_livesum_{os.getpid()}.db").write_bytes(bytes(65536))
    assert values(tmp_path) == {}


@pytest.mark.usefixtures("workers")
def test_examples_of_all_workers_are_in_the_openmetrics_text(tmp_path: Path) -> None:
    body, kind = asyncio.run(scrape_folder(tmp_path, PROMETHEUS))
    assert kind == OPENMETRICS
    families = {metric.name: metric for metric in parse_openmetrics(body.decode())}  # type: ignore[no-untyped-call]  # prometheus-client has no annotation
    examples = {
        (sample.labels["le"], int(sample.exemplar.labels["trace_id"], 16), sample.exemplar.value)
        for sample in families["gateway_call_seconds"].samples
        if sample.exemplar is not None
    }
    assert examples == {("1.0", 1, 1.0), ("2.5", 2, 2.0), ("5.0", 3, 3.0)}
    (gap,) = [s for s in families["gateway_inter_token_seconds"].samples if s.exemplar is not None]
    assert gap.labels == {"model": "m", "le": "+Inf"}
    assert b"trace_id" not in asyncio.run(scrape_folder(tmp_path))[0]


def test_of_examples_for_the_same_bucket_the_newest_counts(tmp_path: Path) -> None:
    for pid, at in ((1, 50.0), (2, 70.0), (3, 60.0)):
        (tmp_path / f"exemplars_{pid}.json").write_text(f'[["h", {{"m": "x"}}, "0.5", ["{pid}", 0.4, {at}]]]')
    assert exemplars_of(tmp_path) == {("h_bucket", (("le", "0.5"), ("m", "x"))): Exemplar("2", 0.4, 70.0)}


def test_alone_examples_are_there_at_once() -> None:
    telemetry = PrometheusTelemetry()
    telemetry.attempt_began("m", "d")
    one = CallRecord("chat", "r", 0.0, model="m", lane="d", stream=True, first_event_s=0.3, seconds=2.0, gaps=Gaps([0]))
    one.tries.append(Try("d", 0.0, 0.1, 0.3, "ok", 200))
    one.trace, one.gaps = Trace("c" * 32, "d" * 16, None, sampled=True), None
    telemetry.call_ended(one)
    body, _ = asyncio.run(telemetry.scrape(PROMETHEUS))
    families = {metric.name: metric for metric in parse_openmetrics(body.decode())}  # type: ignore[no-untyped-call]  # prometheus-client has no annotation
    for name, value in (("gateway_call_seconds", 2.0), ("gateway_time_to_first_token_seconds", 0.3)):
        (example,) = [sample.exemplar for sample in families[name].samples if sample.exemplar is not None]
        assert (example.labels, example.value) == ({"trace_id": "c" * 32}, value)


def test_a_large_scrape_leaves_turns_to_others() -> None:
    registry = CollectorRegistry()
    for number in range(10):
        histogram = Histogram(f"h{number}", "H.", ["model"], registry=registry)
        for model in range(60):
            histogram.labels(f"m{model}").observe(1)

    async def scraped() -> tuple[int, float, float]:
        turns, longest = 0, 0.0
        began = now = last = time.perf_counter()
        scrape = asyncio.create_task(text(of_registry(registry), dict, ""))
        while not scrape.done():
            await asyncio.sleep(0)
            now = time.perf_counter()
            turns, longest, last = turns + 1, max(longest, now - last), now
        assert scrape.result()[0].count(b"\n") > 10_000
        return turns, longest, now - began

    gc.collect()
    gc.freeze()  # as the gateway does: else a collection of everything the tests have made falls into this
    try:
        turns, longest, total = asyncio.run(scraped())
    finally:
        gc.unfreeze()
    assert turns > 60
    assert longest < max(total / 4, 0.02), "no single piece is most of it"


def test_a_large_folder_leaves_turns_to_others(tmp_path: Path) -> None:
    for pid in (os.getpid(), os.getppid()):
        file: Any = MmapedDict(str(tmp_path / f"histogram_{pid}.db"))  # type: ignore[no-untyped-call]  # as it is
        for model in range(300):
            for bound in range(20):
                key = mmap_key("h", "h_bucket", ["model", "le"], [f"m{model}", f"{bound}.0"], "H.")
                file.write_value(key, 1.0, 0.0)
        file.close()
    families: list[Family] = []
    turns = sum(1 for _ in of_folder(tmp_path)(families))
    (family,) = families
    assert len(family.lines) == 300 * 22
    assert {line.value for line in family.lines if line.name == "h_count"} == {40.0}
    assert turns >= 2 * 6000 / ENTRIES_A_TURN + 2 * 6000 / ENTRIES_A_TURN
