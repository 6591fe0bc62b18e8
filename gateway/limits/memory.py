"""Limits of one process: the pure ledger, and the books of the last days, in memory."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from gateway.limits.gcra import DAY_MS, Ledger
from gateway.limits.rules import Amounts, Rule
from gateway.limits.script import Keys, RuleSet
from gateway.limits.store import Reservation

OWNER = "process"
FOR_EVER_MS = 10**12
KEYS = Keys("memory")


class MemoryLimits:
    """The LimitStore of a gateway with one process."""

    def __init__(self, clock_ms: Callable[[], int], *, retention_days: int = 400) -> None:
        """`clock_ms` returns Unix milliseconds."""
        self._clock_ms = clock_ms
        self._retention_days = retention_days
        self.ledger = Ledger()
        self.books: dict[int, Counter[bytes]] = {}
        """Day since 1970 → row → sum."""
        self.ledger.renew(clock_ms(), OWNER, FOR_EVER_MS)

    def rule_set(self, rules: Sequence[Rule]) -> RuleSet:
        return RuleSet(rules, KEYS)

    async def start(self) -> None:
        """There is nothing to start."""

    async def stop(self) -> None:
        """There is nothing to stop."""

    async def reserve(self, rules: RuleSet, ask: Amounts) -> Reservation:
        verdict = self.ledger.reserve(self._clock_ms(), OWNER, rules.rules, ask)
        return Reservation(rules, ask, verdict, shared=True)

    def settle(self, reservation: Reservation, used: Amounts, books: Mapping[bytes, int]) -> None:
        now_ms = self._clock_ms()
        self.ledger.settle(now_ms, OWNER, reservation.rules.rules, reservation.verdict, reservation.ask, used)
        day = now_ms // DAY_MS
        rows = self.books.get(day)
        if rows is None:
            rows = self.books[day] = Counter()
            for old in [old for old in self.books if old <= day - self._retention_days]:
                del self.books[old]
        for row, increment in books.items():
            rows[row] += increment
