"""The statistics of a report, in plain Python: percentiles, and whether two samples differ by more than chance.

Percentiles are linear between order statistics (definition 7 of Hyndman and Fan, as in NumPy). Samples are compared by
the test of Mann and Whitney with the normal approximation and its correction for ties, tails by a bootstrap.
https://en.wikipedia.org/wiki/Mann-Whitney_U_test · https://en.wikipedia.org/wiki/Bootstrapping_(statistics)
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

RESAMPLES = 2_000


def percentile(ordered: Sequence[float], share: float) -> float | None:
    """Return the percentile of values in ascending order, `share` from 0 to 1; None without any value."""
    if not ordered:
        return None
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (position - below)


def mann_whitney_p(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Return how likely samples so different are by chance, two-sided; None if a sample has fewer than 8 values.

    Below 8 the normal approximation is not good enough.
    """
    m, n = len(first), len(second)
    if min(m, n) < 8:
        return None
    pooled = sorted([(value, 0) for value in first] + [(value, 1) for value in second])
    rank_sum, ties, at = 0.0, 0.0, 0
    while at < len(pooled):
        end = at
        while end < len(pooled) and pooled[end][0] == pooled[at][0]:
            end += 1
        mean_rank = (at + 1 + end) / 2
        rank_sum += mean_rank * sum(1 for _, which in pooled[at:end] if which == 0)
        ties += (end - at) ** 3 - (end - at)
        at = end
    total = m + n
    u = rank_sum - m * (m + 1) / 2
    variance = m * n / 12 * (total + 1 - ties / (total * (total - 1)))
    if variance <= 0:
        return 1.0
    z = max(0.0, abs(u - m * n / 2) - 0.5) / math.sqrt(variance)
    return math.erfc(z / math.sqrt(2))


def percentiles_differ(first: Sequence[float], second: Sequence[float], share: float, seed: int = 0) -> bool | None:
    """Tell whether the 99% bootstrap interval of the difference of two percentiles leaves out 0.

    Samples are in ascending order; None if too few values lie beyond the percentile.
    """
    if min(len(first), len(second)) * min(share, 1 - share) < 5:
        return None
    chance = random.Random(seed)  # noqa: S311 - statistics are no secrets

    def resampled(ordered: Sequence[float]) -> float:
        # The k-th smallest of n draws from n values has the index floor(n·B), B being beta distributed: that is the
        # percentile of a whole resample for one draw.
        n = len(ordered)
        k = min(n, max(1, round(share * (n - 1)) + 1))
        return ordered[min(n - 1, int(n * chance.betavariate(k, n - k + 1)))]

    return _leaves_out_zero([resampled(second) - resampled(first) for _ in range(RESAMPLES)])


def _leaves_out_zero(differences: list[float]) -> bool:
    differences.sort()
    low, high = percentile(differences, 0.005), percentile(differences, 0.995)
    return low is not None and high is not None and (low > 0 or high < 0)
