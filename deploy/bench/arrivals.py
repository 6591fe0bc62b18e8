"""When the calls of an open loop are due, from a seed and nothing else.

A Poisson process is one of rate 1 with its clock bent: the k-th arrival is where the expected number of calls reaches
the sum of k exponential draws. The ramp bends the same clock. https://en.wikipedia.org/wiki/Poisson_point_process
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from typing import Literal


def arrivals(rate: float, ramp_s: float, kind: Literal["poisson", "constant"], seed: str) -> Iterator[float]:
    """Yield for ever when calls are due, in seconds from the start; the rate rises from 0 within `ramp_s`."""
    chance = random.Random(seed)  # noqa: S311 - a schedule is no secret
    expected = 0.0
    while True:
        if kind == "poisson":
            expected += chance.expovariate(1.0)
        yield _time_at(expected, rate, ramp_s)
        if kind == "constant":
            expected += 1.0


def _time_at(expected: float, rate: float, ramp_s: float) -> float:
    """Return when so many calls are expected to have been due."""
    in_ramp = rate * ramp_s / 2
    if expected < in_ramp:
        return math.sqrt(2 * expected * ramp_s / rate)
    return ramp_s + (expected - in_ramp) / rate
