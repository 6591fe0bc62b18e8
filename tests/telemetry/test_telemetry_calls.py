"""From the record of a call to the metrics."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.base import Usage
from gateway.telemetry.events import GAP_BUCKETS_S, CallRecord, Gaps, Trace, Try
from gateway.telemetry.prometheus import PrometheusTelemetry

TRACE = Trace("a" * 32, "b" * 16, None, sampled=True)


def record(*tries: Try, **fields: Any) -> CallRecord:
    return CallRecord("chat", "r", 100.0, model="m", lane="d", tries=list(tries), **fields)


def tried(began: float, head: float | None, ended: float, code: str = "ok", lane: str = "d") -> Try:
    return Try(lane, began, head, ended, code, 200)


def counted(*records: CallRecord) -> dict[str, float]:
    """Return name and labels of every sample that is not zero, but for buckets, to its value."""
    telemetry = PrometheusTelemetry()
    for one in records:
        telemetry.call_began()
        for attempt in one.tries:
            telemetry.attempt_began(one.model, attempt.lane)
            telemetry.attempt(one.model, attempt.lane, attempt.code, lasts=one.stream and attempt.code == "ok")
        telemetry.call_ended(one)
    return samples(telemetry)


def samples(telemetry: PrometheusTelemetry) -> dict[str, float]:
    found = {}
    for metric in telemetry.registry.collect():
        for sample in metric.samples:
            if "_bucket" not in sample.name and sample.value:
                labels = ",".join(sample.labels.values())
                found[f"{sample.name.removeprefix('gateway_')}{{{labels}}}"] = round(sample.value, 6)
    return found


def phases(found: dict[str, float]) -> dict[str, float]:
    return {
        name.removeprefix("phase_seconds_sum{m,").removesuffix("}"): value
        for name, value in found.items()
        if name.startswith("phase_seconds_sum")
    }


@pytest.mark.parametrize(
    ("one", "parts"),
    [
        pytest.param(
            record(tried(100.5, 102.0, 102.5), seconds=3.0, upstream_s=2.0),
            {"gateway": 1.0, "reply": 2.0},
            id="a whole reply",
        ),
        pytest.param(
            record(tried(102.5, 103.0, 104.5), seconds=5.0, upstream_s=2.0, queue_s=2.25),
            {"gateway": 0.75, "queue": 2.25, "reply": 2.0},
            id="a whole reply after a wait",
        ),
        pytest.param(
            record(tried(100.5, 101.0, 102.0), seconds=9.0, upstream_s=1.5, first_event_s=2.0, stream=True),
            {"gateway": 0.5, "sagemaker": 0.5, "first_token": 1.0, "decoding": 7.0},
            id="a stream",
        ),
        pytest.param(
            record(
                tried(100.5, 101.0, 101.25, "upstream_error"),
                tried(101.5, None, 102.5, "upstream_timeout"),
                tried(103.0, 103.5, 104.0),
                seconds=6.0,
                upstream_s=2.75,
                first_event_s=4.0,
                stream=True,
            ),
            # what all attempts took is SageMaker's, and what lay between them the gateway's
            {"gateway": 1.25, "sagemaker": 2.0, "first_token": 0.75, "decoding": 2.0},
            id="a stream at the third attempt",
        ),
        pytest.param(
            record(tried(100.5, None, 103.0, "cancelled"), seconds=3.0, upstream_s=2.5, code="cancelled", stream=True),
            {"gateway": 0.5, "sagemaker": 2.5},
            id="a stream that was left before its head",
        ),
        pytest.param(
            record(seconds=2.0, queue_s=1.75, code="cancelled"), {"gateway": 0.25, "queue": 1.75}, id="a wait"
        ),
        pytest.param(record(seconds=2.0, code="invalid_request"), {}, id="refused"),
    ],
)
def test_the_phases_add_up_to_the_whole_time(one: CallRecord, parts: dict[str, float]) -> None:
    found = phases(counted(one))
    assert found == parts
    assert sum(found.values()) == (one.seconds if parts else 0)


def test_a_stream_in_all_its_metrics() -> None:
    counts = [0] * (len(GAP_BUCKETS_S) + 1)
    counts[0], counts[4], counts[-1] = 2, 1, 1
    one = record(
        tried(100.5, 101.0, 102.0),
        seconds=9.0,
        upstream_s=1.5,
        first_event_s=2.0,
        stream=True,
        ending="complete",
        decoding_s=4.0,
        gaps=Gaps(counts, 4.0, 3.5),
        usage=Usage(7, 5, 2),
        events=5,
    )
    found = counted(one)
    assert {name: value for name, value in found.items() if not name.startswith(("phase", "build", "workers"))} == {
        "calls_total{chat,m,ok}": 1,
        "call_seconds_count{chat,m}": 1,
        "call_seconds_sum{chat,m}": 9.0,
        "time_to_first_token_seconds_count{chat,m}": 1,
        "time_to_first_token_seconds_sum{chat,m}": 2.0,
        "inter_token_seconds_count{m}": 4,
        "inter_token_seconds_sum{m}": 4.0,
        "time_per_output_token_seconds_count{m}": 1,
        "time_per_output_token_seconds_sum{m}": 1.0,
        "overhead_seconds_count{chat}": 1,
        "overhead_seconds_sum{chat}": 0.5,
        "tokens_total{m,prompt}": 7,
        "tokens_total{m,completion}": 5,
        "tokens_total{m,cached}": 2,
        "stream_endings_total{m,complete}": 1,
        "upstream_attempts_total{m,d,ok}": 1,
    }


def test_what_is_in_flight_is_until_the_stream_ends() -> None:
    telemetry = PrometheusTelemetry()
    telemetry.call_began()
    telemetry.attempt_began("m", "e")
    telemetry.attempt("m", "e", "upstream_error")
    telemetry.attempt_began("m", "d")
    telemetry.attempt("m", "d", "ok", lasts=True)
    found = samples(telemetry)
    assert (found["calls_in_flight{}"], found["upstream_in_flight{m,d}"]) == (1, 1)
    assert "upstream_in_flight{m,e}" not in found
    telemetry.call_ended(record(tried(100.0, 100.5, 101.0), stream=True, first_event_s=1.0, seconds=2.0))
    assert not {name for name in samples(telemetry) if "in_flight" in name}


@pytest.mark.parametrize(
    ("one", "stage", "avoided"),
    [
        pytest.param(record(asked_tokens=50, stops=True), "waiting", None, id="before any attempt"),
        pytest.param(
            record(tried(100.0, None, 101.0, "cancelled"), asked_tokens=50, stops=True), "whole", 50, id="whole reply"
        ),
        pytest.param(
            record(tried(100.0, None, 101.0, "cancelled"), asked_tokens=50, stops=True, stream=True),
            "before_first_token",
            50,
            id="before the first event",
        ),
        pytest.param(
            record(tried(100, 101, 102), asked_tokens=50, stops=True, stream=True, first_event_s=2.0, events=12),
            "streaming",
            38,
            id="in mid-stream",
        ),
        pytest.param(
            record(tried(100, 101, 102), asked_tokens=50, stream=True, first_event_s=2.0, events=12),
            "streaming",
            None,
            id="where the container goes on generating",
        ),
        pytest.param(
            record(tried(100, 101, 102), stops=True, stream=True, first_event_s=2.0, events=12),
            "streaming",
            None,
            id="without a bound",
        ),
        pytest.param(
            record(tried(100, 101, 102), asked_tokens=5, stops=True, stream=True, first_event_s=2.0, events=12),
            "streaming",
            None,
            id="all that was asked for has come",
        ),
    ],
)
def test_callers_who_leave(one: CallRecord, stage: str, avoided: int | None) -> None:
    one.code = "cancelled"
    found = counted(one)
    assert {name for name in found if name.startswith("cancellations")} == {f"cancellations_total{{m,{stage}}}"}
    assert found.get("tokens_avoided_total{m}") == avoided
    assert "upstream_attempts_total{m,d,cancelled}" not in found


def test_keys_have_series_only_if_they_ask_for_them() -> None:
    quiet = record(key_id="quiet", usage=Usage(1, 2, 0))
    loud = [record(key_id="loud", measured=True, usage=Usage(1, 2, 0)) for _ in range(2)]
    refused = record(key_id="loud", measured=True, code="rate_limit_exceeded")
    found = counted(quiet, *loud, refused)
    assert {name: value for name, value in found.items() if name.startswith("key_")} == {
        "key_calls_total{loud,ok}": 2,
        "key_calls_total{loud,rate_limit_exceeded}": 1,
        "key_tokens_total{loud,prompt}": 2,
        "key_tokens_total{loud,completion}": 4,
    }


def test_retries_credentials_and_workers() -> None:
    telemetry = PrometheusTelemetry()
    telemetry.retried("m", "other")
    telemetry.retried("m", "same")
    telemetry.credentials_failed("default")
    telemetry.upstream(3, {"default": (True, None), "role": (False, 1_800_000_000.0)})
    found = samples(telemetry)
    assert found["upstream_retries_total{m,other}"] == found["upstream_retries_total{m,same}"] == 1
    assert found["credentials_refresh_failures_total{default}"] == 1
    assert found["credentials_expire_timestamp_seconds{role}"] == 1_800_000_000
    assert "credentials_expire_timestamp_seconds{default}" not in found
    assert found["workers{}"] == 1
    assert "worker_restarts_total{}" not in found


@pytest.mark.parametrize(
    ("trace", "marked"),
    [
        pytest.param(TRACE, {"gateway_call_seconds", "gateway_time_to_first_token_seconds"}, id="sampled"),
        pytest.param(Trace("a" * 32, "b" * 16, None, sampled=False), set(), id="not sampled"),
        pytest.param(None, set(), id="none"),
    ],
)
def test_examples_are_of_sampled_traces(trace: Trace | None, marked: set[str]) -> None:
    telemetry = PrometheusTelemetry()
    gaps = Gaps([0] * (len(GAP_BUCKETS_S) + 1))
    one = record(tried(100, 101, 102), stream=True, first_event_s=2.0, seconds=3.0, gaps=gaps, trace=trace)
    telemetry.attempt_began("m", "d")
    telemetry.call_ended(one)
    assert {series.name for series in telemetry.marked if series.exemplars} == marked
    gaps.counts[3], gaps.longest_s = 1, 0.009
    telemetry.call_ended(one)
    with_gaps = {series.name for series in telemetry.marked if series.exemplars}
    assert with_gaps == marked | ({"gateway_inter_token_seconds"} if marked else set())
