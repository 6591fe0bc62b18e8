"""The ledger: every limit of a call checked, then all of them charged or none. The pure Python of `gcra.lua`.

Rates are the generic cell rate algorithm in its form as a leaky bucket (ITU-T I.371, Annex A): a debt that a call adds
to and time takes from, in whole numbers, so that a limit of 100 admits exactly 100. The unit of a debt is one
amount·millisecond: a call's cost is worth 60,000 of them, and every millisecond takes `amount` of them away.

Calls that run, and what is reserved of a budget, are counted per owner: a connection's or process' lease on all that it
holds. An owner that stops renewing its lease loses it all at once.
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.limits.rules import NEVER, UNKNOWN, Amounts, Kind, Rule, Standing, Verdict

MINUTE_MS = 60_000
DAY_MS = 86_400_000
JUMP_MS = 1_000
"""A clock that went back by more than this has been set; by less, it has been two clocks that differ a little."""


class UnknownOwner(Exception):
    """The owner's lease has ended, or its clock has never begun: it must `renew` and count anew what it holds."""


class _Budget:
    """What has been spent of a budget in one period."""

    __slots__ = ("period", "reserved", "used")

    def __init__(self, period: int) -> None:
        self.period = period
        self.used = 0
        self.reserved: dict[str, int] = {}


class Ledger:
    """Counters of every rule, in memory. Times are Unix milliseconds."""

    def __init__(self) -> None:
        self._owners: dict[str, int] = {}
        """Owner → when its lease ends, on the steady clock."""
        self._last_ms = 0
        self._offset_ms = 0
        self._debts: dict[str, tuple[int, int]] = {}
        """Rule id → when (steady clock), and the debt then."""
        self._running: dict[str, dict[str, int]] = {}
        self._budgets: dict[str, _Budget] = {}

    # The protocol of every ledger

    def renew(self, now_ms: int, owner: str, lease_ms: int) -> bool:
        """Give an owner its lease, or more of it; return whether it had one. Ended leases are swept."""
        now = self._steady(now_ms)
        for name, ends in list(self._owners.items()):
            if ends <= now:
                self.forget(name)
        known = owner in self._owners
        self._owners[owner] = now + lease_ms
        self._last_ms = now_ms
        return known

    def forget(self, owner: str) -> None:
        """End an owner's lease: what it holds is free."""
        self._owners.pop(owner, None)
        for rule_id, owners in list(self._running.items()):
            owners.pop(owner, None)
            if not owners:
                del self._running[rule_id]
        for budget in self._budgets.values():
            budget.reserved.pop(owner, None)

    def reserve(self, now_ms: int, owner: str, rules: Sequence[Rule], ask: Amounts) -> Verdict:
        """Check every rule and charge all that are not over, if none of those that are enforced is.

        Raises:
            UnknownOwner: nothing has been charged.
        """
        now = self._steady(now_ms)
        if self._owners.get(owner, 0) <= now:
            raise UnknownOwner(owner)
        standings, admitted = [], True
        for rule in rules:
            standing = self._check(now, now_ms, rule, ask[rule.counts])
            standings.append(standing)
            if standing.over and not rule.shadow:
                admitted = False
        if admitted:
            for rule, standing in zip(rules, standings, strict=True):
                if not standing.over:
                    self._charge(now, now_ms, owner, rule, ask[rule.counts])
        return Verdict(admitted, tuple(standings), now_ms // DAY_MS)

    def charge(self, now_ms: int, owner: str, rules: Sequence[Rule], ask: Amounts) -> None:
        """Charge every rule, whether it is over or not: somebody else has admitted the call."""
        now = self._steady(now_ms)
        for rule in rules:
            if not rule.shadow:
                self._charge(now, now_ms, owner, rule, ask[rule.counts])

    def settle(
        self,
        now_ms: int,
        owner: str,
        rules: Sequence[Rule],
        verdict: Verdict,
        ask: Amounts,
        used: Amounts,
    ) -> None:
        """Put what a call used in the place of what was reserved for it.

        Args:
            verdict: that which admitted the call: rules that were over then, as shadows may be, were not charged.
        """
        now = self._steady(now_ms)
        alive = self._owners.get(owner, 0) > now
        for rule, standing in zip(rules, verdict.standings, strict=True):
            if standing.over:
                continue
            kind, counts = rule.kind, rule.counts
            if kind is Kind.TOKENS:
                self._owe(now, rule, used[counts] - ask[counts])
            elif kind is Kind.CONCURRENT and alive:
                self._stop(owner, rule)
            elif rule.is_budget:
                budget = self._budget(now_ms, rule)
                if alive and period_of_day(kind, verdict.day) == budget.period:
                    _take(budget.reserved, owner, ask[counts])
                budget.used += used[counts]

    # Checking

    def _check(self, now: int, now_ms: int, rule: Rule, cost: int) -> Standing:
        if rule.is_rate:
            amount = rule.amount
            debt, most = self._debt(now, rule), rule.burst * MINUTE_MS
            after = debt + cost * MINUTE_MS
            if after <= most:
                return Standing((most - after) // MINUTE_MS, _ceil(after, amount), False, 0)
            wait = NEVER if cost > rule.burst else _ceil(after - most, amount)
            return Standing(max(0, (most - debt) // MINUTE_MS), _ceil(debt, amount), True, wait)
        if rule.kind is Kind.CONCURRENT:
            running = sum(n for o, n in self._running.get(rule.id, {}).items() if self._owners.get(o, 0) > now)
            if running >= rule.amount:
                return Standing(0, 0, True, UNKNOWN)
            return Standing(rule.amount - running - 1, 0, False, 0)
        budget = self._budget(now_ms, rule)
        taken = budget.used + sum(n for o, n in budget.reserved.items() if self._owners.get(o, 0) > now)
        reset = period_end_ms(rule.kind, now_ms) - now_ms
        if taken + cost > rule.amount:
            # Where only what is reserved stands in the way, calls that end may make room.
            wait = NEVER if cost > rule.amount else reset if budget.used + cost > rule.amount else UNKNOWN
            return Standing(max(0, rule.amount - taken), reset, True, wait)
        return Standing(rule.amount - taken - cost, reset, False, 0)

    def _debt(self, now: int, rule: Rule) -> int:
        known = self._debts.get(rule.id)
        if known is None:
            return 0
        at, debt = known
        if now > at:
            debt -= (now - at) * rule.amount
        return debt if debt > 0 else 0

    def _budget(self, now_ms: int, rule: Rule) -> _Budget:
        period = period_of(rule.kind, now_ms)
        budget = self._budgets.get(rule.id)
        if budget is None or budget.period != period:
            budget = self._budgets[rule.id] = _Budget(period)
        return budget

    # Charging

    def _charge(self, now: int, now_ms: int, owner: str, rule: Rule, cost: int) -> None:
        if rule.is_rate:
            self._owe(now, rule, cost)
        elif rule.kind is Kind.CONCURRENT:
            owners = self._running.setdefault(rule.id, {})
            owners[owner] = owners.get(owner, 0) + 1
        elif cost:
            reserved = self._budget(now_ms, rule).reserved
            reserved[owner] = reserved.get(owner, 0) + cost

    def _owe(self, now: int, rule: Rule, cost: int) -> None:
        debt = self._debt(now, rule) + cost * MINUTE_MS
        if debt > 0:
            self._debts[rule.id] = (now, debt)
        else:
            self._debts.pop(rule.id, None)

    def _stop(self, owner: str, rule: Rule) -> None:
        owners = self._running.get(rule.id, {})
        _take(owners, owner, 1)
        if not owners:
            self._running.pop(rule.id, None)

    def _steady(self, now_ms: int) -> int:
        """Return the time on a clock that never goes back far: rates and leases must not stand still for an hour
        because somebody has set the time."""
        if now_ms < self._last_ms - JUMP_MS:
            self._offset_ms += self._last_ms - now_ms
            self._last_ms = now_ms
        return now_ms + self._offset_ms

    # For tests and the admin

    def counters(self) -> dict[str, int]:
        """Return what is spent of each budget in its current period, by rule id."""
        return {rule_id: budget.used for rule_id, budget in self._budgets.items()}

    def held(self) -> dict[str, int]:
        """Return what is held of each rule, reserved or running, by rule id; nothing where nothing is."""
        held = {rule_id: sum(owners.values()) for rule_id, owners in self._running.items()}
        held |= {rule_id: sum(budget.reserved.values()) for rule_id, budget in self._budgets.items() if budget.reserved}
        return held


def period_of(kind: Kind, now_ms: int) -> int:
    """Return the number of the day since 1970, or of the month (12·year + month minus 1), in UTC."""
    return period_of_day(kind, now_ms // DAY_MS)


def period_of_day(kind: Kind, day: int) -> int:
    """Return the number of the period that a day since 1970 belongs to."""
    if kind is not Kind.MONEY_PER_MONTH:
        return day
    year, month, _ = civil(day)
    return 12 * year + month - 1


def period_end_ms(kind: Kind, now_ms: int) -> int:
    """Return when the current period ends, in Unix milliseconds."""
    day = now_ms // DAY_MS
    if kind is not Kind.MONEY_PER_MONTH:
        return (day + 1) * DAY_MS
    last = day + 1
    while civil(last)[2] != 1:
        last += 1
    return last * DAY_MS


def civil(day: int) -> tuple[int, int, int]:
    """Return year, month and day of the month of a day since 1970: integers only, as the script computes it.

    https://howardhinnant.github.io/date_algorithms.html#civil_from_days
    """
    z = day + 719_468
    era = z // 146_097
    doe = z - era * 146_097
    yoe = (doe - doe // 1460 + doe // 36_524 - doe // 146_096) // 365
    doy = doe - (365 * yoe + yoe // 4 - yoe // 100)
    mp = (5 * doy + 2) // 153
    month = mp + 3 if mp < 10 else mp - 9
    return yoe + era * 400 + (month <= 2), month, doy - (153 * mp + 2) // 5 + 1


def _take(owners: dict[str, int], owner: str, amount: int) -> None:
    left = owners.get(owner, 0) - amount
    if left > 0:
        owners[owner] = left
    else:
        owners.pop(owner, None)


def _ceil(amount: int, by: int) -> int:
    """Return how long `by` a millisecond takes; a process' share of a small limit may be nothing at all."""
    return -(-amount // by) if by else UNKNOWN
