"""What users write for amounts, and what they are told when it is wrong."""

from __future__ import annotations

import random
import re

import pytest

from deploy.bench.amounts import distribution, duration_s, levels, service_level


@pytest.mark.parametrize(
    ("text", "low", "high", "shown"),
    [
        pytest.param("512", 512, 512, "512", id="fixed"),
        pytest.param("fixed:7", 7, 7, "7", id="fixed by name"),
        pytest.param("uniform:100:200", 100, 200, "uniform:100:200", id="uniform"),
        pytest.param("normal:100:5", 60, 140, "normal:100:5", id="normal"),
        pytest.param("normal:10:1000:5:20", 5, 20, "normal:10:1000:5:20", id="normal within bounds"),
        pytest.param("lognormal:100:0.1", 60, 170, "lognormal:100:0.1", id="lognormal"),
        pytest.param("lognormal:100:5", 1, 1_000_000, "lognormal:100:5", id="lognormal as wide as it may be"),
    ],
)
def test_draws_keep_to_their_distribution(text: str, low: int, high: int, shown: str) -> None:
    found = distribution(text)
    draws = [found.draw(random.Random(seed)) for seed in range(500)]
    assert low <= min(draws) <= max(draws) <= high
    assert str(found) == shown
    assert draws == [distribution(shown).draw(random.Random(seed)) for seed in range(500)]


def test_draws_have_the_center_that_was_asked_for() -> None:
    chance = random.Random(1)
    for text, center in (("uniform:1:199", 100), ("normal:100:10", 100), ("lognormal:100:0.5", 100)):
        ordered = sorted(distribution(text).draw(chance) for _ in range(4001))
        assert abs(ordered[2000] - center) < 8, text


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("", "is not N, uniform:", id="nothing"),
        pytest.param("many", "is not N, uniform:", id="a word"),
        pytest.param("-5", "is not N, uniform:", id="a negative number"),
        pytest.param("uniform:5", "is not N, uniform:", id="too few parts"),
        pytest.param("normal:5:1:2", "is not N, uniform:", id="one bound"),
        pytest.param("poisson:5:1", "is not N, uniform:", id="an unknown kind"),
        pytest.param("normal:nan:1", "is not N, uniform:", id="no number at all"),
        pytest.param("uniform:20:10", "the lower end is above the upper", id="ends the wrong way round"),
        pytest.param("0", "amounts are from 1 to 1,000,000 tokens", id="zero"),
        pytest.param("2000000", "amounts are from 1 to 1,000,000 tokens", id="too many"),
        pytest.param("normal:5:-1", "the spread in 'normal:5:-1' is out of range", id="a negative spread"),
    ],
)
def test_a_wrong_distribution_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        distribution(text)


def test_levels() -> None:
    assert levels("1,2, 4", whole=True) == (1.0, 2.0, 4.0)
    assert levels("0.5,2", whole=False) == (0.5, 2.0)


@pytest.mark.parametrize(
    ("text", "whole", "said"),
    [
        pytest.param("1,2,", True, "'' is no number of callers above 0", id="nothing after a comma"),
        pytest.param("0", True, "'0' is no number of callers above 0", id="nobody"),
        pytest.param("1.5", True, "'1.5' is no number of callers above 0", id="half a caller"),
        pytest.param("-1", False, "'-1' is no rate above 0", id="a negative rate"),
        pytest.param("nan", False, "'nan' is no rate above 0", id="no number"),
        pytest.param("4,4", True, "'4,4' names a level twice", id="twice"),
    ],
)
def test_wrong_levels_are_refused(text: str, whole: bool, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        levels(text, whole=whole)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("500ms", 0.5), ("30", 30.0), ("1.5s", 1.5), ("5m", 300.0), ("2h", 7200.0), ("250us", 0.00025)],
)
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "5 days", "-1s", "1e3"])
def test_a_wrong_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no duration such as 500ms, 30s or 5m"):
        duration_s(text)


def test_a_service_level() -> None:
    assert service_level("ttft=500ms, itl=0.05") == {"ttft": 0.5, "itl": 0.05}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        pytest.param("ttft", "'ttft' is not NAME=DURATION with one of ttft, itl, tpot, gap, e2e", id="no time"),
        pytest.param("speed=1s", "'speed=1s' is not NAME=DURATION", id="unknown"),
        pytest.param("e2e=1s,e2e=2s", "'e2e' is given twice", id="twice"),
        pytest.param("e2e=soon", "'soon' is no duration", id="no duration"),
    ],
)
def test_a_wrong_service_level_is_refused(text: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        service_level(text)
