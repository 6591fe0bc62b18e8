"""What is told of limits that are counted in memory: exactly what calls have taken, and nothing changes by it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest

from gateway.limits.gcra import DAY_MS
from gateway.limits.looks import MemoryLooks
from gateway.limits.quick import Bound, QuickLedger
from gateway.limits.rules import Amounts, Kind, Rule, Taken
from gateway.limits.usage import Unreadable

START_MS = 1_790_000_000_000
"""2026-09-21, 14:13:20 in UTC."""
NIGHT_MS = DAY_MS - START_MS % DAY_MS
ASK, USED = Amounts(100, 70), Amounts(40, 25)


class Life:
    """A ledger with calls of one rule, and who looks at it."""

    def __init__(self, rule: Rule) -> None:
        self.rule, self.now = rule, START_MS
        self.ledger = QuickLedger()
        self.bound = Bound((rule,))
        self.looks = MemoryLooks(lambda: self.ledger, lambda: self.now)

    def taken(self, rules: Sequence[Rule] | None = None) -> list[Taken]:
        return asyncio.run(self.looks.taken([self.rule] if rules is None else rules))

    def run(self, *, ends: bool) -> None:
        verdict = self.ledger.reserve(self.now, self.bound, ASK)
        assert verdict.admitted
        if ends:
            self.ledger.settle(self.now, self.bound, verdict, ASK, USED)

    def sweep(self) -> None:
        """Let all that is at rest go, as many new sets of rules would."""
        self.ledger._limit = 0
        self.ledger.reserve(self.now, Bound((Rule("key:other", Kind.REQUESTS, 5, 5),)), Amounts())


# One call runs, and one that asked for 100 tokens and 70 of money has ended with 40 and 25. Then time passes.
KINDS = [
    pytest.param(Kind.REQUESTS, 60, 60, Taken(2), [(999, 2), (1_000, 1), (2_000, 0)], id="requests per minute"),
    pytest.param(Kind.TOKENS, 600, 200, Taken(140), [(99, 140), (100, 139), (14_000, 0)], id="tokens per minute"),
    pytest.param(Kind.CONCURRENT, 3, 3, Taken(1), [(DAY_MS, 1)], id="at the same time"),
    pytest.param(Kind.TOKENS_PER_DAY, 900, 900, Taken(40, 100), [(NIGHT_MS - 1, 40), (NIGHT_MS, 0)], id="tokens a day"),
    pytest.param(Kind.MONEY_PER_DAY, 900, 900, Taken(25, 70), [(NIGHT_MS - 1, 25), (NIGHT_MS, 0)], id="money a day"),
    pytest.param(
        Kind.MONEY_PER_MONTH,
        900,
        900,
        Taken(25, 70),
        [(NIGHT_MS, 25), (NIGHT_MS + 9 * DAY_MS - 1, 25), (NIGHT_MS + 9 * DAY_MS, 0)],
        id="money a month",
    ),
]


@pytest.mark.parametrize("swept", [False, True], ids=["kept", "swept"])
@pytest.mark.parametrize(("kind", "amount", "burst", "expected", "later"), KINDS)
def test_what_calls_have_taken(
    kind: Kind, amount: int, burst: int, expected: Taken, later: list[tuple[int, int]], swept: bool
) -> None:
    life = Life(Rule("key:a", kind, amount, burst))
    assert life.taken() == [Taken(0)]
    life.run(ends=True)
    life.run(ends=False)
    if swept:
        life.sweep()
    assert life.taken() == [expected]
    for after_ms, left in later:
        life.now = START_MS + after_ms
        (found,) = life.taken()
        assert found.amount == left
        assert found.reserved == (expected.reserved if left else 0)
        if swept:  # what is nothing may be let go, and is nothing then, too
            life.sweep()
            assert life.taken() == [found]


def test_each_rule_is_told_for_itself_in_the_order_of_the_question() -> None:
    life = Life(Rule("key:a", Kind.CONCURRENT, 3, 3))
    life.run(ends=False)
    shadow = Rule("key:a", Kind.CONCURRENT, 3, 3, shadow=True)
    assert life.taken([shadow, life.rule, Rule("key:b", Kind.CONCURRENT, 3, 3)]) == [Taken(0), Taken(1), Taken(0)]


@pytest.mark.parametrize(("kind", "amount"), [(Kind.REQUESTS, 60), (Kind.TOKENS_PER_DAY, 900)])
def test_a_clock_that_was_set_back_gives_nothing_back(kind: Kind, amount: int) -> None:
    life = Life(Rule("key:a", kind, amount, amount))
    life.run(ends=True)
    before = life.taken()
    life.now -= 3_600_000
    assert life.taken() == before
    life.ledger.reserve(life.now, Bound((Rule("key:other", Kind.REQUESTS, 5, 5),)), Amounts())
    assert life.taken() == before


def test_looking_from_another_thread_disturbs_no_call() -> None:
    """A thousand states come and go while another thread looks at them all, time and again."""
    rules = [Rule(f"key:{number}", kind, 10**6, 10**6) for number in range(170) for kind in Kind]
    life = Life(rules[0])
    over, looked = threading.Event(), threading.Event()
    failures: list[BaseException] = []

    def look() -> None:
        try:
            while not over.is_set():
                for found in life.taken(rules):
                    assert 0 <= found.amount <= 200
                    assert 0 <= found.reserved <= 100
                looked.set()
        except BaseException as failure:
            failures.append(failure)
            looked.set()

    looker = threading.Thread(target=look)
    looker.start()
    try:
        for turn in range(4):
            looked.clear()
            for rule in rules:
                bound = Bound((rule,))
                life.ledger._limit = 50
                verdict = life.ledger.reserve(life.now, bound, ASK)
                assert verdict.admitted
                life.ledger.settle(life.now, bound, verdict, ASK, Amounts(0, 0))
            assert looked.wait(20), turn
            life.now += DAY_MS
    finally:
        over.set()
        looker.join(20)
    assert failures == []
    assert life.ledger.held() == {}


def test_without_a_ledger_in_memory_nobody_can_say() -> None:
    with pytest.raises(Unreadable, match="each worker process counts by itself"):
        asyncio.run(MemoryLooks(lambda: None, lambda: START_MS).taken([]))
