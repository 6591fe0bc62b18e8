"""Which lane a call takes."""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.routing.balancer import Balancer
from gateway.routing.lane import Lane

NOTHING: Any = None  # what a lane leads to does not matter here


def lanes(*weights: int) -> list[Lane]:
    return [Lane(NOTHING, NOTHING, weight) for weight in weights]


def chosen(balancer: Balancer, among: list[Lane], count: int) -> list[int]:
    """Return the positions of the next `count` lanes."""
    return [among.index(balancer.choose([])) for _ in range(count)]


@pytest.mark.parametrize(("weights", "order"), [
    pytest.param([1], "0000", id="the only one"),
    pytest.param([7], "0000", id="the only one, whatever its weight"),
    pytest.param([1, 1], "01010101", id="in turns"),
    pytest.param([5, 1, 1], "00102000010200", id="spread as nginx spreads it"),
    pytest.param([1, 0, 1], "020202", id="a weight of 0 is out"),
    pytest.param([0, 3], "1111", id="the only one left"),
])  # fmt: skip
def test_order(weights: list[int], order: str) -> None:
    among = lanes(*weights)
    assert chosen(Balancer(among), among, len(order)) == [int(position) for position in order]


WEIGHTS = st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any)


@given(weights=WEIGHTS)
def test_in_every_period_each_lane_is_chosen_by_its_weight(weights: list[int]) -> None:
    among = lanes(*weights)
    balancer = Balancer(among)
    expected = {position: weight for position, weight in enumerate(weights) if weight}
    for _ in range(3):
        assert Counter(chosen(balancer, among, sum(weights))) == expected


def test_a_heavy_lane_is_not_chosen_in_one_long_row() -> None:
    among = lanes(10, 10, 10)
    rows = [len(list(row)) for _, row in groupby(chosen(Balancer(among), among, 30))]
    assert max(rows) == 1


@given(weights=WEIGHTS, data=st.data())
def test_a_lane_that_was_tried_comes_again_only_if_no_other_is_left(weights: list[int], data: st.DataObject) -> None:
    among = lanes(*weights)
    balancer, usable = Balancer(among), [lane for lane in among if lane.weight]
    for _ in range(20):
        tried = data.draw(st.lists(st.sampled_from(among), unique_by=id))
        lane = balancer.choose(tried)
        assert lane in usable
        left = [each for each in usable if each not in tried]
        assert not left or lane in left


def test_every_lane_gets_its_turn_before_one_is_tried_again() -> None:
    among = lanes(100, 1, 1)
    balancer, tried = Balancer(among), list[Lane]()
    for _ in range(3):
        tried.append(balancer.choose(tried))
    assert {id(lane) for lane in tried} == {id(lane) for lane in among}
    assert balancer.choose(tried) in among


def test_proportions_hold_after_a_time_of_failures() -> None:
    among = lanes(3, 1)
    balancer = Balancer(among)
    for _ in range(1_000):
        balancer.choose([among[0]])  # everything goes past the first
    counts = Counter(chosen(balancer, among, 400))
    assert abs(counts[0] - 300) <= 4


def test_equal_lanes_are_told_apart() -> None:
    twins = lanes(1, 1)
    balancer = Balancer(twins)
    assert balancer.choose([twins[0]]) is twins[1]
    assert balancer.choose([twins[1]]) is twins[0]
