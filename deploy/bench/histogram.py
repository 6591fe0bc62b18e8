"""Durations counted in buckets 1% wide: as many as one likes in little memory, and addable across processes.

The idea is HdrHistogram's (http://hdrhistogram.org/), with a logarithm in place of its two levels of buckets.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

import msgspec

WIDTH = 1.01
_PER_LOG = 1 / math.log(WIDTH)
SMALLEST_S = 1e-6
"""What is shorter counts as this long."""


class Histogram(msgspec.Struct, forbid_unknown_fields=True):
    """Counts by bucket; bucket k holds durations from 1 µs × 1.01^k on."""

    counts: dict[int, int] = {}
    total: int = 0
    sum_s: float = 0.0
    max_s: float = 0.0

    def add(self, durations_s: Iterable[float]) -> None:
        """Count durations in seconds; negative ones are 0."""
        counts, log = self.counts, math.log
        for value in durations_s:
            key = int(log(value / SMALLEST_S) * _PER_LOG) if value > SMALLEST_S else 0
            counts[key] = counts.get(key, 0) + 1
            self.total += 1
            if value > 0:
                self.sum_s += value
                if value > self.max_s:
                    self.max_s = value

    def merge(self, other: Histogram) -> None:
        """Add what another one counted."""
        for key, count in other.counts.items():
            self.counts[key] = self.counts.get(key, 0) + count
        self.total += other.total
        self.sum_s += other.sum_s
        self.max_s = max(self.max_s, other.max_s)

    @property
    def mean_s(self) -> float | None:
        """The exact mean; None without any duration."""
        return self.sum_s / self.total if self.total else None

    def percentile_s(self, share: float) -> float | None:
        """Return the duration that `share` (0 to 1) of all do not exceed, within 1%; None without any."""
        if not self.total:
            return None
        wanted, seen = max(1, math.ceil(share * self.total)), 0
        for key in sorted(self.counts):
            seen += self.counts[key]
            if seen >= wanted:
                # The middle of the bucket, but never beyond what was really measured.
                return min(SMALLEST_S * WIDTH ** (key + 0.5), self.max_s) if key else min(SMALLEST_S, self.max_s)
        return self.max_s
