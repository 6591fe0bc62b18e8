"""Limits while Redis is away: everybody is served, nobody, or each process admits its share of every limit.

The shares of all processes together are the limit itself, whatever it is divided by: the remainder goes to the first of
them, one each. A process counts what it admits all the time, so that its share is not a second helping.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from gateway.limits.gcra import Ledger
from gateway.limits.rules import Amounts, Rule
from gateway.limits.script import RuleSet
from gateway.limits.store import Policy, Reservation, Unavailable

OWNER = "process"
MOST_SHARES = 20_000
"""Sets of rules whose shares are kept; keys and tokens come and go."""
FOR_EVER_MS = 10**12


class Fallback:
    """What one process knows by itself."""

    def __init__(self, policy: Policy, clock_ms: Callable[[], int]) -> None:
        self.policy = policy
        self._clock_ms = clock_ms
        self._ledger = Ledger()
        self._ledger.renew(clock_ms(), OWNER, FOR_EVER_MS)
        self._living, self._rank = 1, 0
        self._shares: dict[RuleSet, tuple[Rule, ...]] = {}

    def share(self, *, living: int, rank: int) -> None:
        """Take note of how many processes there are, and how many of them come before this one."""
        living = max(1, living)
        if (living, rank) != (self._living, self._rank):
            self._living, self._rank = living, min(rank, living - 1)
            self._shares.clear()

    def reserve(self, rules: RuleSet, ask: Amounts) -> Reservation:
        """Judge a call without Redis.

        Raises:
            Unavailable: nobody is served without it.
        """
        if self.policy == "closed":
            raise Unavailable
        shares = self._of(rules)
        verdict = self._ledger.reserve(self._clock_ms(), OWNER, shares, ask)
        if self.policy == "open" and not verdict.admitted:
            self._ledger.charge(self._clock_ms(), OWNER, shares, ask)
            standings = tuple(standing._replace(over=False, wait_ms=0) for standing in verdict.standings)
            verdict = verdict._replace(admitted=True, standings=standings)
        return Reservation(rules, ask, verdict, shared=False)

    def settle(self, reservation: Reservation, used: Amounts) -> None:
        """End a call that was admitted here."""
        self._settle(reservation, used)

    def admitted(self, reservation: Reservation) -> None:
        """Count a call that Redis has admitted to this process."""
        if self.policy == "local":
            self._ledger.charge(self._clock_ms(), OWNER, self._of(reservation.rules), reservation.ask)

    def settled(self, reservation: Reservation, used: Amounts) -> None:
        """End a call that Redis had admitted."""
        if self.policy == "local":
            self._settle(reservation, used)

    def _settle(self, reservation: Reservation, used: Amounts) -> None:
        shares = self._of(reservation.rules)
        self._ledger.settle(self._clock_ms(), OWNER, shares, reservation.verdict, reservation.ask, used)

    def _of(self, rules: RuleSet) -> tuple[Rule, ...]:
        shares = self._shares.get(rules)
        if shares is None:
            if len(self._shares) >= MOST_SHARES:
                self._shares.clear()
            shares = self._shares[rules] = tuple(
                replace(rule, amount=self._part(rule.amount), burst=self._part(rule.burst)) for rule in rules.rules
            )
        return shares

    def _part(self, amount: int) -> int:
        whole, rest = divmod(amount, self._living)
        return whole + (self._rank < rest)
