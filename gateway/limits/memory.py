"""Limits of one process: the quick ledger, and the books of the last days, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from gateway.limits.gcra import DAY_MS
from gateway.limits.quick import Bound, QuickLedger
from gateway.limits.rules import Amounts, Rule
from gateway.limits.script import Keys, RuleSet
from gateway.limits.store import Reservation

KEYS = Keys("memory")


class _Rules(RuleSet):
    """Rules, each with its place in the ledger."""

    __slots__ = ("bound",)

    def __init__(self, rules: Sequence[Rule]) -> None:
        super().__init__(rules, KEYS)
        self.bound = Bound(self.rules)


class MemoryLimits:
    """The LimitStore of a gateway with one process."""

    def __init__(self, clock_ms: Callable[[], int], *, retention_days: int = 400) -> None:
        """`clock_ms` returns Unix milliseconds."""
        self._clock_ms = clock_ms
        self._retention_days = retention_days
        self.ledger = QuickLedger()
        self.books: dict[int, Counter[bytes]] = {}
        """Day since 1970 → row → sum."""

    def rule_set(self, rules: Sequence[Rule]) -> RuleSet:
        return _Rules(rules)

    async def start(self) -> None:
        """There is nothing to start."""

    async def stop(self) -> None:
        """There is nothing to stop."""

    async def reserve(self, rules: RuleSet, ask: Amounts) -> Reservation:
        verdict = self.ledger.reserve(self._clock_ms(), _bound(rules), ask)
        return Reservation(rules, ask, verdict, shared=True)

    def settle(self, reservation: Reservation, used: Amounts, books: Mapping[bytes, int]) -> None:
        now_ms = self._clock_ms()
        self.ledger.settle(now_ms, _bound(reservation.rules), reservation.verdict, reservation.ask, used)
        day = now_ms // DAY_MS
        rows = self.books.get(day)
        if rows is None:
            rows = self.books[day] = Counter()
            for old in [old for old in self.books if old <= day - self._retention_days]:
                del self.books[old]
        for row, increment in books.items():
            rows[row] += increment


def _bound(rules: RuleSet) -> Bound:
    if not isinstance(rules, _Rules):
        raise TypeError("rules of another store")
    return rules.bound
