"""Two runs side by side: by how much one is better, and whether that is more than chance.

Medians of calls are judged by the test of Mann and Whitney over the calls (1%), rates by the same over slices of the
window, 99th percentiles by the bootstrap's 99% interval over the calls. All of this is about chance within the two
runs, and takes calls as independent of one another: what changes between a run and the next (neighbours, warm caches,
another instance) only more runs can show. Of figures that do not differ one in a hundred is called different.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from deploy.bench import stats
from deploy.bench.records import CallRecord, StageData
from deploy.bench.runfile import Run, StageResult
from deploy.bench.summary import TIMES, share_between, tokens_between
from deploy.bench.table import Rows, level, milliseconds, number

SLICES = 20
"""At most; each is as long as the median call at least, or neighbours would be alike."""
LIKELY = 0.01
HOW = (
    "Better is positive. * is beyond the noise within the runs (1%): Mann-Whitney over calls for p50 and over slices of"
    " the window for rates, a bootstrap over calls for p99; ? is too few values to tell. One run each cannot tell what"
    " changes from run to run."
)


class Difference(msgspec.Struct, frozen=True):
    """One figure of two runs."""

    name: str
    before: float | None
    after: float | None
    improvement: float | None
    """In percent of `before`; positive is better."""
    beyond_noise: bool | None
    """None: too few values to tell."""


class LevelComparison(msgspec.Struct, frozen=True):
    """What both runs measured at one level."""

    level: str
    differences: tuple[Difference, ...]


def doubts(before: Run, after: Run) -> list[str]:
    """Return why a comparison may not be one of endpoints, a sentence each."""
    first, second = before.plan, after.plan
    asked = {
        "API": (first.target.api, second.target.api),
        "streaming": (first.target.stream, second.target.stream),
        "prompts": (first.prompts, second.prompts),
        "arrivals": (first.load.arrivals, second.load.arrivals),
    }
    found = []
    if differing := [name for name, (one, other) in asked.items() if one != other]:
        found.append(f"The two runs were not asked the same: they differ in {', '.join(differing)}.")
    for name, run in (("before", before), ("after", after)):
        if limited := [level(item.stage) for item in run.summaries if item.generator_limits]:
            found.append(f"At {', '.join(limited)} of the run {name} the generator may have been the limit.")
    return found


def compare(before: Run, after: Run) -> list[LevelComparison]:
    """Return the levels that both runs have, in the order of `after`."""
    known = {(result.stage.loop, result.stage.level): result for result in before.stages}
    pairs = [(known.get((result.stage.loop, result.stage.level)), result) for result in after.stages]
    return [LevelComparison(level(new.stage), tuple(_differences(old, new))) for old, new in pairs if old is not None]


def _differences(old: StageResult, new: StageResult) -> list[Difference]:
    first, second = old.summary, new.summary
    found = [
        _rate("requests/s", first.requests_per_s, second.requests_per_s, old.data, new.data, share_between),
        _rate(
            "output tok/s", first.output_tokens_per_s, second.output_tokens_per_s, old.data, new.data, tokens_between
        ),
    ]
    for name, title in (("ttft", "TTFT"), ("itl", "mean ITL"), ("e2e", "e2e")):
        mine, theirs = _values(old.data, name), _values(new.data, name)
        medians = stats.percentile(mine, 0.5), stats.percentile(theirs, 0.5)
        found.append(_difference(f"{title} p50", *medians, -1, _apart(mine, theirs)))
        tails = stats.percentile(mine, 0.99), stats.percentile(theirs, 0.99)
        found.append(_difference(f"{title} p99", *tails, -1, stats.percentiles_differ(mine, theirs, 0.99)))
    return found


def _rate(
    name: str,
    before: float,
    after: float,
    old: StageData,
    new: StageData,
    amount: Callable[[CallRecord, float, float], float],
) -> Difference:
    return _difference(name, before, after, 1, _apart(_slices(old, amount), _slices(new, amount)))


def _apart(mine: Sequence[float], theirs: Sequence[float]) -> bool | None:
    p = stats.mann_whitney_p(mine, theirs)
    return None if p is None else p < LIKELY


def _slices(data: StageData, amount: Callable[[CallRecord, float, float], float]) -> list[float]:
    """Return the rate in each slice of the window."""
    usual_s = stats.percentile(_values(data, "e2e"), 0.5)
    count = min(SLICES, int(data.window_s / usual_s)) if usual_s else 0
    if count < 1:
        return []
    length = data.window_s / count
    totals = [0.0] * count
    for call in data.calls:
        if not call.ok:
            continue
        # A call adds to the slices it was under way in, and to no others.
        low = max(0, int(min(call.began_s, call.ended_s) / length))
        high = min(count - 1, int(call.ended_s / length))
        for index in range(low, high + 1):
            totals[index] += amount(call, index * length, (index + 1) * length)
    return [total / length for total in totals]


def _values(data: StageData, name: str) -> list[float]:
    read = TIMES[name]
    return sorted(
        value for call in data.calls if call.ok and call.intended_s >= 0 and (value := read(call)) is not None
    )


def _difference(name: str, before: float | None, after: float | None, sign: int, noise: bool | None) -> Difference:
    improvement = None
    if before and after is not None:
        improvement = sign * (after - before) / before * 100 + 0.0  # so that nothing is -0
    return Difference(name, before, after, improvement, noise)


def compare_table(levels: Sequence[LevelComparison]) -> Rows:
    """Return the heading and a row for each level and figure; times in milliseconds."""
    rows = [["level", "figure", "before", "after", "improvement"]]
    for item in levels:
        for difference in item.differences:
            if difference.before is None and difference.after is None:
                continue
            show = number if difference.name.endswith("/s") else milliseconds
            rows.append(
                [item.level, difference.name, show(difference.before), show(difference.after), improvement(difference)]
            )
    return rows


def improvement(difference: Difference) -> str:
    """Return the percentage with its mark."""
    if difference.improvement is None:
        return "–"
    mark = {True: " *", False: "  ", None: " ?"}[difference.beyond_noise]
    return f"{difference.improvement:+.1f}%{mark}"
