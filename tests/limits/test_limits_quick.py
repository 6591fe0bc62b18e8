"""Random histories through the quick ledger and the pure one: the same verdicts, step by step."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.limits.gcra import DAY_MS, MINUTE_MS, Ledger
from gateway.limits.quick import Bound, QuickLedger
from gateway.limits.rules import Amounts, Kind, Rule, Taken, Verdict
from tests.limits.world import RULES

START_MS = 1_790_000_000_000
WAITS_MS = (0, 1, 7, 999, 5_000, 8_571, 60_000, 3_600_000, DAY_MS, 31 * DAY_MS)
STEPS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from(WAITS_MS)),
    st.tuples(st.just("wait"), st.sampled_from([-1, -900, -1_001, -3_600_000])),
    st.tuples(
        st.just("reserve"),
        st.sets(st.integers(0, len(RULES) - 1)),
        st.sampled_from([0, 1, 40, 100, 249, 250, 251, 3000]),
        st.sampled_from([0, 1, 300, 1000]),
    ),
    st.tuples(
        st.just("settle"), st.integers(0, 5), st.sampled_from([0, 1, 39, 150, 700]), st.sampled_from([0, 5, 400])
    ),
)


class Twin:
    """The same history in both."""

    def __init__(self, *, sweeping: bool) -> None:
        self.oracle, self.quick = Ledger(), QuickLedger()
        self.sweeping = sweeping
        self.now = START_MS
        self.bound: dict[tuple[Rule, ...], Bound] = {}
        self.open: list[tuple[tuple[Rule, ...], Verdict, Amounts]] = []

    def reserve(self, rules: tuple[Rule, ...], ask: Amounts) -> None:
        self.oracle.renew(self.now, "process", 10**12)
        if self.sweeping:
            self.quick._limit = 0  # so that every new set of rules lets go of what is at rest
            self.bound.clear()
        bound = self.bound.setdefault(rules, Bound(rules))
        verdict = self.quick.reserve(self.now, bound, ask)
        assert verdict == self.oracle.reserve(self.now, "process", rules, ask)
        if verdict.admitted:
            self.open.append((rules, verdict, ask))
        self.same_looks()

    def settle(self, at: int, used: Amounts) -> None:
        if self.open:
            rules, verdict, ask = self.open.pop(at % len(self.open))
            self.oracle.renew(self.now, "process", 10**12)
            self.quick.settle(self.now, self.bound.get(rules) or Bound(rules), verdict, ask, used)
            self.oracle.settle(self.now, "process", rules, verdict, ask, used)
            self.same_looks()

    def same_looks(self) -> None:
        held = self.oracle.held()
        for rule in RULES:
            if rule.is_rate:
                debt = self.oracle._debt(self.oracle._steady(self.now), rule)
                expected = Taken(-(-debt // MINUTE_MS))
            elif rule.is_budget:
                budget = self.oracle._budget(self.now, rule)
                expected = Taken(budget.used, sum(budget.reserved.values()))
            else:
                expected = Taken(held.get(rule.id, 0))
            assert self.quick.taken(self.now, rule) == expected

    def same_counters(self) -> None:
        self.reserve(RULES, Amounts(1, 1))
        assert self.quick.held() == self.oracle.held()
        assert self.quick.counters() == self.oracle.counters()


def play(history: list[Any], *, sweeping: bool) -> None:
    twin = Twin(sweeping=sweeping)
    for step in history:
        match step:
            case ("wait", ms):
                twin.now += ms
            case ("reserve", which, tokens, money):
                twin.reserve(tuple(RULES[at] for at in sorted(which)), Amounts(tokens, money))
            case ("settle", at, tokens, money):
                twin.settle(at, Amounts(tokens, money))
    twin.same_counters()


@pytest.mark.parametrize("sweeping", [False, True], ids=["kept", "swept"])
@settings(max_examples=200, deadline=None)
@given(history=st.lists(STEPS, max_size=40))
def test_the_quick_ledger_and_the_pure_one_give_the_same_verdicts(sweeping: bool, history: list[Any]) -> None:
    play(history, sweeping=sweeping)


@pytest.mark.parametrize("sweeping", [False, True], ids=["kept", "swept"])
@pytest.mark.parametrize("seed", range(5))
def test_a_long_life_of_calls_goes_the_same_way_in_both(seed: int, sweeping: bool) -> None:
    chance = random.Random(seed)
    steps: list[Any] = []
    for _ in range(3000):
        kind = chance.random()
        if kind < 0.45:
            which = {at for at in range(len(RULES)) if chance.random() < 0.5}
            steps.append(("reserve", which, chance.choice([0, 1, 40, 100, 250, 251]), chance.choice([0, 1, 30, 901])))
        elif kind < 0.8:
            steps.append(("settle", chance.randrange(6), chance.choice([0, 1, 39, 700]), chance.choice([0, 5, 90])))
        else:
            steps.append(("wait", chance.choice([*WAITS_MS[:8], DAY_MS // 2, -900, -1_500])))
    play(steps, sweeping=sweeping)


def test_a_changed_amount_keeps_what_was_taken() -> None:
    ledger = QuickLedger()
    before, after = (Bound((Rule("key:a", Kind.TOKENS_PER_DAY, most, most),)) for most in (100, 150))
    first = ledger.reserve(START_MS, before, Amounts(90))
    ledger.settle(START_MS, before, first, Amounts(90), Amounts(90))
    assert ledger.reserve(START_MS, after, Amounts(60)).admitted
    assert not ledger.reserve(START_MS, after, Amounts(1)).admitted


def test_limits_at_rest_are_let_go_and_running_calls_are_not() -> None:
    ledger = QuickLedger()
    busy = Bound((Rule("key:busy", Kind.CONCURRENT, 1, 1),))
    verdict = ledger.reserve(START_MS, busy, Amounts())
    for number in range(50_000):
        passing = Bound((Rule(f"key:{number}", Kind.REQUESTS, 60, 60),))
        ledger.reserve(START_MS + number * 10, passing, Amounts())
    assert len(ledger._states) < 21_000
    assert ledger.reserve(START_MS, busy, Amounts()).admitted is False
    ledger.settle(START_MS, busy, verdict, Amounts(), Amounts())
    assert ledger.held() == {}
