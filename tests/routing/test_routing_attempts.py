"""How often the gateway may try again, and how long it waits before."""

from __future__ import annotations

import pytest

from gateway.routing.attempts import RetryBudget, backoff_s


def first(budget: RetryBudget, count: int) -> None:
    for _ in range(count):
        budget.first_attempt()


def granted(budget: RetryBudget, asked: int = 100) -> int:
    return sum(budget.spend() for _ in range(asked))


@pytest.mark.parametrize(("quiet", "allowed"), [
    pytest.param(0, 3, id="at the start"),
    pytest.param(1_000_000, 3, id="no saving up"),
])  # fmt: skip
def test_the_reserve(quiet: int, allowed: int) -> None:
    budget = RetryBudget()
    first(budget, quiet)
    assert granted(budget) == allowed


@pytest.mark.parametrize(("calls", "allowed"), [(0, 0), (9, 0), (10, 1), (19, 1), (20, 2), (29, 2), (30, 3), (500, 3)])
def test_ten_calls_earn_one_further_attempt(calls: int, allowed: int) -> None:
    budget = RetryBudget()
    granted(budget)
    first(budget, calls)
    assert granted(budget) == allowed


@pytest.mark.parametrize("calls", [100, 1_000, 12_345])
def test_if_every_call_fails_a_tenth_is_tried_again(calls: int) -> None:
    budget, further = RetryBudget(), 0
    for _ in range(calls):
        budget.first_attempt()
        further += granted(budget)
    assert further == 3 + (calls - 1) // 10  # the first call found the reserve full


def test_what_was_not_granted_costs_nothing() -> None:
    budget = RetryBudget()
    granted(budget, 1_000_000)
    first(budget, 10)
    assert [budget.spend(), budget.spend()] == [True, False]


@pytest.mark.parametrize(("attempt", "most"), [(2, 0.2), (3, 0.4), (4, 0.8), (5, 1.6)])
def test_the_wait_doubles_and_is_spread_from_none_to_all_of_it(attempt: int, most: float) -> None:
    waits = [backoff_s(attempt) for _ in range(2_000)]
    assert 0.0 <= min(waits) < 0.05 * most
    assert 0.95 * most < max(waits) <= most
