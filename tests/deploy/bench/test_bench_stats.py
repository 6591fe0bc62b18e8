"""Statistics against samples whose answers are known."""

from __future__ import annotations

import itertools
import random

import pytest

from deploy.bench.arrivals import arrivals
from deploy.bench.histogram import Histogram
from deploy.bench.stats import mann_whitney_p, percentile, percentiles_differ


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        pytest.param([], 0.5, None, id="nothing"),
        pytest.param([3.0], 0.99, 3.0, id="one value"),
        pytest.param([1.0, 2.0, 3.0, 4.0], 0.5, 2.5, id="the median between two"),
        pytest.param([float(n) for n in range(101)], 0.99, 99.0, id="on a value"),
        pytest.param([15.0, 20.0, 35.0, 40.0, 50.0], 0.4, 29.0, id="linear between values, as in NumPy"),
        pytest.param([1.0, 2.0], 1.0, 2.0, id="the largest"),
    ],
)
def test_percentiles(values: list[float], share: float, expected: float | None) -> None:
    assert percentile(values, share) == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        # U is 0 with mean 32 and variance 8·8·17/12: z is 31.5/9.5219.
        pytest.param(range(1, 9), range(9, 17), 0.000939, id="apart"),
        pytest.param(range(1, 9), range(1, 9), 1.0, id="the same"),
        pytest.param([5] * 10, [5] * 10, 1.0, id="all tied"),
        # Fifteen share rank 8: U is 25 with mean 50 and variance 100/12·(21 - 3480/380): z is 24.5/9.934.
        pytest.param([1] * 10, [1] * 5 + [2] * 5, 0.013652, id="half tied"),
    ],
)
def test_mann_whitney(first: list[int], second: list[int], expected: float) -> None:
    p = mann_whitney_p([float(value) for value in first], [float(value) for value in second])
    assert p == pytest.approx(expected, rel=1e-3)


def test_too_few_values_cannot_be_told_apart() -> None:
    assert mann_whitney_p([1.0] * 7, [2.0] * 100) is None
    assert percentiles_differ([1.0] * 100, [2.0] * 100, 0.99) is None


@pytest.mark.parametrize("count", [8, 20])
def test_few_values_that_do_not_differ_are_called_so_no_more_often_than_promised(count: int) -> None:
    chance = random.Random(5)
    told = 0
    for _ in range(2000):
        p = mann_whitney_p(*([chance.gauss(100, 10) for _ in range(count)] for _ in range(2)))
        told += p is not None and p < 0.01
    assert told <= 30  # 20 are promised, with a deviation of 4.5


def test_the_bootstrap_of_a_percentile_tells_a_difference_from_noise() -> None:
    chance = random.Random(5)
    first = sorted(chance.expovariate(1) for _ in range(2000))
    same = sorted(chance.expovariate(1) for _ in range(2000))
    assert percentiles_differ(first, same, 0.99) is False
    assert percentiles_differ(first, [value * 1.5 for value in same], 0.99) is True


def test_a_histogram_is_right_within_a_hundredth() -> None:
    chance = random.Random(2)
    values = sorted(chance.lognormvariate(-4, 1) for _ in range(20_000))
    histogram = Histogram()
    histogram.add(values)
    for share in (0.5, 0.9, 0.99, 0.999):
        exact = percentile(values, share)
        assert exact is not None
        assert histogram.percentile_s(share) == pytest.approx(exact, rel=0.012)
    assert histogram.mean_s == pytest.approx(sum(values) / len(values))
    assert histogram.percentile_s(1.0) == values[-1] == histogram.max_s


def test_histograms_add_up() -> None:
    one, other, both = Histogram(), Histogram(), Histogram()
    one.add([0.001, 0.5])
    other.add([0.0, -1.0, 2.0])
    both.add([0.001, 0.5, 0.0, -1.0, 2.0])
    one.merge(other)
    assert one == both
    assert both.percentile_s(0.4) == 1e-6


def test_an_empty_histogram_has_no_values() -> None:
    assert (Histogram().mean_s, Histogram().percentile_s(0.5)) == (None, None)


def test_constant_arrivals_come_at_even_times() -> None:
    assert list(itertools.islice(arrivals(4, 0, "constant", "s"), 4)) == pytest.approx([0, 0.25, 0.5, 0.75])


def test_the_ramp_raises_the_rate_from_nothing() -> None:
    # In a ramp of 2 s up to 10/s there are 10 calls, the k-th at sqrt(2·k·2/10); then one each 0.1 s.
    times = list(itertools.islice(arrivals(10, 2, "constant", "s"), 13))
    assert times[:3] == pytest.approx([0, 0.63246, 0.89443], abs=1e-4)
    assert times[10:] == pytest.approx([2.0, 2.1, 2.2])


def test_poisson_arrivals_have_their_rate_and_their_spread() -> None:
    times = list(itertools.takewhile(lambda time: time < 200, arrivals(50, 0, "poisson", "seed")))
    assert len(times) == pytest.approx(10_000, rel=0.04)
    gaps = [after - before for before, after in itertools.pairwise(times)]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert deviation == pytest.approx(mean, rel=0.05)  # which tells an exponential distribution from an even one


def test_a_seed_gives_the_same_arrivals_again() -> None:
    def first_of(seed: str) -> list[float]:
        return list(itertools.islice(arrivals(5, 1, "poisson", seed), 20))

    assert first_of("a") == first_of("a") != first_of("b")
