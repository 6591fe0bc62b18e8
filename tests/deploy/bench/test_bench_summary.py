"""Figures of stages whose calls are written down: every number can be worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.bench.histogram import Histogram
from deploy.bench.plan import Stage
from deploy.bench.records import CallRecord, Generator, StageData, merged
from deploy.bench.summary import Price, Summary, outstanding, share_between, summarize, tokens_between

STAGE = Stage(0, "closed", 2)


def call(
    intended: float, first: float | None, last: float | None, ended: float, tokens: int = 11, error: str | None = None,
    began: float | None = None, estimated: bool = False,
) -> CallRecord:  # fmt: skip
    return CallRecord(
        intended, intended if began is None else began, first, last, ended, 100, tokens, estimated, tokens, 0.3, error
    )


def stage(*calls: CallRecord, window_s: float = 10.0, **generator: Any) -> StageData:
    gaps = Histogram()
    gaps.add([0.1] * 10)
    return StageData(window_s, list(calls), gaps, Generator(**generator))


def summary(data: StageData, slo: dict[str, float] | None = None, price: Price | None = None) -> Summary:
    return summarize(STAGE, data, slo or {}, price)


def test_a_stage_in_figures() -> None:
    calls = [call(at, at + 0.5, at + 1.5, at + 2.0) for at in (0.0, 2.0, 4.0, 6.0)]
    failed = call(8.0, None, None, 9.0, tokens=0, error="http_429")
    found = summary(stage(*calls, failed), {"ttft": 0.6, "e2e": 2.0}, Price(3.6, 2))
    assert (found.calls, found.succeeded, found.failed, found.errors) == (5, 4, 1, {"http_429": 1})
    assert (found.requests_per_s, found.errors_per_s) == pytest.approx((0.4, 0.1))
    assert (found.output_tokens_per_s, found.input_tokens_per_s) == pytest.approx((4.4, 40.0))
    assert (found.ttft.p50, found.e2e.p99, found.e2e.max) == pytest.approx((0.5, 2.0, 2.0))
    assert found.tpot.mean == pytest.approx(0.1)
    assert found.itl.p50 == pytest.approx(0.1, rel=0.01)
    assert (found.input_tokens, found.output_tokens) == (100, 11)
    assert (found.goodput_per_s, found.goodput_share) == pytest.approx((0.4, 0.8))
    # 7.2 an hour for 4.4 × 3600 output tokens an hour.
    assert found.cost_per_million_output_tokens == pytest.approx(454.545, rel=1e-4)
    assert found.cost_per_million_tokens == pytest.approx(45.045, rel=1e-4)


def test_goodput_leaves_out_what_misses_any_part_of_the_service_level() -> None:
    quick, late = call(0, 0.2, 1.2, 1.3), call(2, 3.0, 3.5, 3.6)
    halting = call(4, 4.1, 6.1, 6.2)  # 11 pieces in 2 s
    found = summary(stage(quick, late, halting), {"ttft": 0.5, "itl": 0.15})
    assert found.goodput_share == pytest.approx(1 / 3)


def test_calls_that_never_began_kept_to_no_service_level() -> None:
    found = summary(stage(call(0, 0.2, 1.2, 1.3), never_begun=3), {"ttft": 0.5})
    assert found.goodput_share == 0.25


def test_without_a_service_level_there_is_no_goodput() -> None:
    assert summary(stage(call(0, 1, 2, 3))).goodput_per_s is None


def test_warm_up_counts_for_the_rates_alone() -> None:
    # Half of its text, and of itself, lies in the window.
    found = summary(stage(call(-2.0, -1.0, 1.0, 2.0, tokens=20)))
    assert (found.calls, found.succeeded, found.ttft.p50) == (0, 0, None)
    assert found.requests_per_s == pytest.approx(0.05)
    assert found.output_tokens_per_s == pytest.approx(1.0)


def test_latencies_count_from_when_a_call_was_due() -> None:
    found = summary(stage(call(1.0, 4.5, 5.0, 5.5, began=4.0)))
    assert (found.ttft.p50, found.e2e.p50, found.lateness.max) == pytest.approx((3.5, 4.5, 3.0))


@pytest.mark.parametrize(
    ("begin", "end", "tokens"),
    [
        pytest.param(0, 10, 10.0, id="all of it"),
        pytest.param(2, 3, 5.0, id="half of it"),
        pytest.param(5, 6, 0.0, id="nothing of it"),
    ],
)
def test_tokens_are_spread_over_the_stream(begin: float, end: float, tokens: float) -> None:
    assert tokens_between(call(1, 2, 4, 4.1, tokens=10), begin, end) == pytest.approx(tokens)


def test_tokens_of_a_whole_answer_are_spread_over_the_call() -> None:
    whole = call(1, None, None, 5, tokens=8)
    assert tokens_between(whole, 3, 9) == pytest.approx(4.0)
    assert share_between(whole, 0, 2) == pytest.approx(0.25)


def test_outstanding_calls_are_those_due_and_not_ended() -> None:
    calls = [call(0, 1, 2, 4), call(2, 3, 3, 4), call(6, 7, 7, 12)]
    # 1 for 2 s, 2 for 2 s, none for 2 s, 1 for the last 4 of 10 s.
    assert outstanding(calls, 10.0) == pytest.approx((1.0, 2))


@pytest.mark.parametrize(
    ("generator", "said"),
    [
        pytest.param({"cpu": [0.2, 0.9]}, "a generating process used 90% of a core", id="processor"),
        pytest.param({"held_back": 3}, "3 calls waited, as --max-outstanding was reached", id="held back"),
        pytest.param({"never_begun": 2}, "2 calls that were due never began", id="never begun"),
    ],
)
def test_a_generator_at_its_limit_is_told(generator: dict[str, Any], said: str) -> None:
    assert summary(stage(call(0, 1, 2, 3), **generator)).generator_limits == (said,)


def test_a_late_event_loop_is_told() -> None:
    lag = Histogram()
    lag.add([0.05] * 10)
    (said,) = summary(stage(call(0, 1, 2, 3), lag=lag)).generator_limits
    assert said == "its event loop ran 50 ms late (p99)"


def test_late_beginnings_are_told() -> None:
    (said,) = summary(stage(call(0, 1, 2, 3, began=0.1))).generator_limits
    assert said == "calls began 100 ms late (p99)"


def test_a_generator_that_keeps_up_is_no_limit() -> None:
    assert summary(stage(call(0, 1, 2, 3), cpu=[0.5])).generator_limits == ()


def test_estimates_are_told() -> None:
    found = summary(stage(call(0, 1, 2, 3, estimated=True), call(0, 1, 2, 3)))
    assert found.estimated_share == pytest.approx(0.5)


def test_an_empty_stage_has_figures_too() -> None:
    found = summary(stage(window_s=0.0), {"ttft": 1.0}, Price(1.0))
    assert (found.calls, found.requests_per_s, found.goodput_share, found.cost_per_million_tokens) == (
        0,
        0.0,
        None,
        None,
    )


def test_processes_are_one_stage() -> None:
    first, second = stage(call(2, 3, 4, 5), cpu=[0.1], held_back=1), stage(call(1, 2, 3, 4), window_s=11, cpu=[0.2])
    second.interrupted, second.unfinished = True, 4
    whole = merged([first, second])
    assert [record.intended_s for record in whole.calls] == [1, 2]
    assert (whole.window_s, whole.generator.cpu, whole.generator.held_back) == (11, [0.1, 0.2], 1)
    assert (whole.gaps.total, whole.interrupted, whole.unfinished) == (20, True, 4)
