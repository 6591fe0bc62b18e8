"""What a stage comes to: rates, percentiles, goodput, errors, cost, and whether the generator was the limit.

Latencies are of the complete calls that were due in the measured window; rates are of what happened inside it: of a
call that began before the window, or ended after it, they count the part that lies inside. (Counting calls that ended
in the window instead would leave the rate of long calls to chance.)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

import msgspec

from deploy.bench.histogram import Histogram
from deploy.bench.plan import Stage
from deploy.bench.records import CallRecord, StageData
from deploy.bench.stats import percentile

SHARES = (0.5, 0.9, 0.95, 0.99)
CPU_LIMIT = 0.85
"""A process that uses more of a core has no time to look at its sockets when it should."""
LATE_LIMIT_S = 0.02
TIMES: Mapping[str, Callable[[CallRecord], float | None]] = {
    "ttft": lambda call: call.ttft_s,
    "itl": lambda call: call.itl_s,
    "tpot": lambda call: call.tpot_s,
    "gap": lambda call: call.longest_gap_s if call.chunks > 1 else None,
    "e2e": lambda call: call.e2e_s,
}
"""What a service level may speak of, by call, in seconds."""


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Percentiles in seconds; None without a value."""

    mean: float | None = None
    p50: float | None = None
    p90: float | None = None
    p95: float | None = None
    p99: float | None = None
    max: float | None = None


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What the endpoint costs, in any currency."""

    per_instance_hour: float
    instances: int = 1


class Summary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stage in figures; times in seconds, rates per second."""

    stage: Stage
    window_s: float
    complete: bool
    """The stage ran to its end."""
    calls: int
    """Due in the window."""
    succeeded: int
    failed: int
    errors: dict[str, int]
    """Failed calls by kind."""
    unfinished: int
    requests_per_s: float
    errors_per_s: float
    input_tokens_per_s: float
    output_tokens_per_s: float
    goodput_per_s: float | None
    """Complete calls per second within the service level; None without one."""
    goodput_share: float | None
    """Of all calls that were due, those that failed or never began included."""
    ttft: Spread
    itl: Spread
    """Over every gap between pieces of text."""
    tpot: Spread
    e2e: Spread
    lateness: Spread
    """Of the beginnings of calls: the generator's own delay, all 0 in a closed loop."""
    input_tokens: float | None
    """Mean of a call, by the container's usage."""
    output_tokens: float | None
    estimated_share: float
    """Of the calls whose output tokens are an estimate."""
    outstanding_mean: float
    """Calls due and not ended, over the window."""
    outstanding_max: int
    cost_per_million_output_tokens: float | None
    cost_per_million_tokens: float | None
    cpu: tuple[float, ...]
    lag: Spread
    held_back: int
    never_begun: int
    reconnects: int
    generator_limits: tuple[str, ...]
    """Why the figures may be the generator's and not the endpoint's; empty if nothing speaks for it."""


def summarize(stage: Stage, data: StageData, slo: Mapping[str, float], price: Price | None) -> Summary:
    """Return the figures of a stage; `slo` is seconds by the names of TIMES."""
    window = data.window_s
    due = [call for call in data.calls if call.intended_s >= 0]
    good = [call for call in due if call.ok]
    inside = [(call, share_between(call, 0.0, window)) for call in data.calls]
    requests = _rate(sum(share for call, share in inside if call.ok), window)
    input_rate = _rate(sum(share * (call.input_tokens or 0) for call, share in inside if call.ok), window)
    output_rate = _rate(sum(tokens_between(call, 0.0, window) for call in data.calls if call.ok), window)
    within = sum(meets(call, slo) for call in good)
    told = [call.input_tokens for call in good if call.input_tokens is not None]
    outstanding_mean, outstanding_max = outstanding(data.calls, window)
    lateness = _spread(call.began_s - call.intended_s for call in due)
    return Summary(
        stage=stage,
        window_s=window,
        complete=not data.interrupted,
        calls=len(due),
        succeeded=len(good),
        failed=len(due) - len(good),
        errors=dict(Counter(call.error for call in due if call.error is not None).most_common()),
        unfinished=data.unfinished,
        requests_per_s=requests,
        errors_per_s=_rate(sum(share for call, share in inside if not call.ok), window),
        input_tokens_per_s=input_rate,
        output_tokens_per_s=output_rate,
        goodput_per_s=_rate(sum(share for call, share in inside if call.ok and meets(call, slo)), window)
        if slo
        else None,
        goodput_share=within / (len(due) + data.generator.never_begun) if slo and due else None,
        ttft=_spread(call.ttft_s for call in good),
        itl=_counted(data.gaps),
        tpot=_spread(call.tpot_s for call in good),
        e2e=_spread(call.e2e_s for call in good),
        lateness=lateness,
        input_tokens=sum(told) / len(told) if told else None,
        output_tokens=sum(call.output_tokens for call in good) / len(good) if good else None,
        estimated_share=sum(call.estimated for call in good) / len(good) if good else 0.0,
        outstanding_mean=outstanding_mean,
        outstanding_max=outstanding_max,
        cost_per_million_output_tokens=_cost(price, output_rate),
        cost_per_million_tokens=_cost(price, output_rate + input_rate if told else 0.0),
        cpu=tuple(round(share, 4) for share in data.generator.cpu),
        lag=_counted(data.generator.lag),
        held_back=data.generator.held_back,
        never_begun=data.generator.never_begun,
        reconnects=data.generator.reconnects,
        generator_limits=tuple(limits(data, lateness)),
    )


def limits(data: StageData, lateness: Spread) -> list[str]:
    """Return what speaks for the generator having been the limit, as phrases."""
    found = []
    busiest = max(data.generator.cpu, default=0.0)
    if busiest > CPU_LIMIT:
        found.append(f"a generating process used {busiest:.0%} of a core")
    if (lag := data.generator.lag.percentile_s(0.99)) is not None and lag > LATE_LIMIT_S:
        found.append(f"its event loop ran {lag * 1000:.0f} ms late (p99)")
    if lateness.p99 is not None and lateness.p99 > LATE_LIMIT_S and not data.generator.held_back:
        found.append(f"calls began {lateness.p99 * 1000:.0f} ms late (p99)")
    if data.generator.held_back:
        found.append(f"{data.generator.held_back} calls waited, as --max-outstanding was reached")
    if data.generator.never_begun:
        found.append(f"{data.generator.never_begun} calls that were due never began")
    return found


def meets(call: CallRecord, slo: Mapping[str, float]) -> bool:
    """Return whether a complete call kept to the service level; a time that it does not have is kept."""
    return all((value := TIMES[name](call)) is None or value <= limit for name, limit in slo.items())


def tokens_between(call: CallRecord, begin: float, end: float) -> float:
    """Return how many of the call's output tokens came in [begin, end], taking its stream as even."""
    if call.first_s is None or call.last_s is None or call.last_s <= call.first_s:
        return call.output_tokens * share_between(call, begin, end)
    overlap = min(end, call.last_s) - max(begin, call.first_s)
    return call.output_tokens * max(0.0, overlap) / (call.last_s - call.first_s)


def share_between(call: CallRecord, begin: float, end: float) -> float:
    """Return which part of the call, from 0 to 1, lay in [begin, end]."""
    overlap = min(end, call.ended_s) - max(begin, call.began_s)
    length = call.ended_s - call.began_s
    return max(0.0, overlap) / length if length > 0 else float(begin <= call.ended_s < end)


def outstanding(calls: Iterable[CallRecord], window: float) -> tuple[float, int]:
    """Return how many calls were due and not ended: the mean over the window, and the most."""
    events = sorted([(call.intended_s, 1) for call in calls] + [(call.ended_s, -1) for call in calls])
    now = area = most = 0.0
    before = 0.0
    for moment, change in events:
        if moment > 0 and before < window:
            area += now * (min(moment, window) - before)
            before = min(moment, window)
        now += change
        if 0 <= moment <= window:
            most = max(most, now)
    return (area / window if window > 0 else 0.0), int(most)


def _spread(values: Iterable[float | None]) -> Spread:
    ordered = sorted(value for value in values if value is not None)
    if not ordered:
        return Spread()
    p50, p90, p95, p99 = (percentile(ordered, share) for share in SHARES)
    return Spread(sum(ordered) / len(ordered), p50, p90, p95, p99, ordered[-1])


def _counted(histogram: Histogram) -> Spread:
    p50, p90, p95, p99 = (histogram.percentile_s(share) for share in SHARES)
    return Spread(histogram.mean_s, p50, p90, p95, p99, histogram.max_s if histogram.total else None)


def _rate(count: float, window_s: float) -> float:
    return count / window_s if window_s > 0 else 0.0


def _cost(price: Price | None, tokens_per_s: float) -> float | None:
    if price is None or tokens_per_s <= 0:
        return None
    return price.per_instance_hour * price.instances / (tokens_per_s * 3600) * 1e6
