"""The time limits of one exchange, on a clock that jumps."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway.config.models import Timeouts
from gateway.sagemaker.watchdog import Watchdog
from tests.sagemaker.virtual import VirtualLoop, now, run

Step = tuple[float, str]
"""When, and which of the watchdog's methods is called."""


def limits(first_byte_s: float = 10, gap_s: float = 3, total_s: float = 60) -> Timeouts:
    return Timeouts(connect_s=1, first_byte_s=first_byte_s, gap_s=gap_s, total_s=total_s)


async def bites(timeouts: Timeouts, steps: list[Step]) -> list[tuple[float, str]]:
    """Return when the watchdog called, and for which limit."""
    calls: list[tuple[float, str]] = []
    watchdog = Watchdog(timeouts, lambda which: calls.append((round(now(), 6), which)))
    for at, method in steps:
        await asyncio.sleep(at - now())
        getattr(watchdog, method)()
    await asyncio.sleep(1_000)
    return calls


def touches(every: float, until: float) -> list[Step]:
    return [(round(every * n, 6), "touch") for n in range(1, int(until / every) + 1)]


@pytest.mark.parametrize(("timeouts", "steps", "bite"), [
    pytest.param(limits(), [], (10.0, "first_byte"), id="not a byte"),
    pytest.param(limits(), [(4, "touch")], (7.0, "gap"), id="one byte, then silence"),
    pytest.param(limits(), [(9.9, "touch")], (12.9, "gap"), id="a byte just in time"),
    pytest.param(limits(gap_s=20), [(9.9, "touch")], (29.9, "gap"), id="a gap longer than the wait for the first byte"),
    pytest.param(limits(100, 1, 900), [(50, "touch")], (51.0, "gap"), id="a gap over before the first limit would be"),
    pytest.param(limits(), touches(2.9, 59), (60.0, "total"), id="slow but alive until the total"),
    pytest.param(limits(), touches(2.9, 30), (32.0, "gap"), id="slow but alive, then silence"),
    pytest.param(limits(first_byte_s=90), [], (60.0, "total"), id="a total shorter than the wait for the first byte"),
    pytest.param(limits(gap_s=90), [(1, "touch")], (60.0, "total"), id="a total shorter than the gap"),
    pytest.param(limits(), [(4, "pause")], (60.0, "total"), id="paused for good before the first byte"),
    pytest.param(limits(), [(1, "touch"), (2, "pause")], (60.0, "total"), id="paused for good"),
    pytest.param(limits(), [(1, "touch"), (2, "pause"), (50, "resume")], (53.0, "gap"), id="silence after a pause"),
    pytest.param(limits(), [(4, "pause"), (30, "resume")], (40.0, "first_byte"), id="no first byte after a pause"),
    pytest.param(limits(), [(4, "pause"), (59, "resume")], (60.0, "total"), id="the total goes on in a pause"),
    pytest.param(
        limits(),
        [(1, "touch"), (2, "pause"), (2.1, "resume"), (2.2, "pause"), (2.3, "resume")],
        (5.3, "gap"),
        id="short pauses",
    ),
    pytest.param(
        limits(), [(1, "touch"), *((float(n), m) for n in range(2, 55, 2) for m in ("resume", "pause"))],
        (60.0, "total"), id="a reader that comes and goes",
    ),
    pytest.param(
        limits(), [(1, "touch"), (3.9, "pause"), (4.5, "resume"), (5, "touch")], (8.0, "gap"), id="a pause over a check"
    ),
])  # fmt: skip
def test_the_first_limit_that_is_passed_is_called_once(
    timeouts: Timeouts, steps: list[Step], bite: tuple[float, str]
) -> None:
    assert run(bites(timeouts, steps)) == [bite]


@pytest.mark.parametrize("steps", [
    pytest.param([(0, "stop")], id="at once"),
    pytest.param([(9.9, "stop")], id="before the first byte"),
    pytest.param([(1, "touch"), (3.9, "stop")], id="in a gap"),
    pytest.param([(1, "touch"), (2, "pause"), (59, "stop")], id="in a pause"),
    pytest.param([(1, "touch"), (2, "stop"), (2, "touch"), (3, "pause"), (4, "resume")], id="and late news"),
    pytest.param([(1, "stop"), (2, "stop")], id="twice"),
])  # fmt: skip
def test_a_stopped_watchdog_never_calls(steps: list[Step]) -> None:
    assert run(bites(limits(), steps)) == []


def test_news_after_the_bite_changes_nothing() -> None:
    assert run(bites(limits(), [(11, "touch"), (12, "pause"), (13, "resume"), (14, "stop")])) == [(10.0, "first_byte")]


def test_activity_sets_no_timer_of_its_own() -> None:
    async def main() -> int:
        loop = cast(VirtualLoop, asyncio.get_running_loop())
        watchdog = Watchdog(limits(gap_s=5, total_s=600), lambda which: None)
        watchdog.touch()
        before, naps = loop.timers, 1_000
        for _ in range(naps):
            await asyncio.sleep(0.01)
            watchdog.touch()
        watchdog.stop()
        return loop.timers - before - naps

    assert run(main()) <= 4  # ten seconds in gaps of five
