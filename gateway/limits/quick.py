"""The ledger of one process that shares its limits with nobody: what `gcra.py` says, at the cost of a few microseconds.

One owner and no leases, so that each limit is one object, found once for each set of rules and not for each call. That
its verdicts are those of the ledger in `gcra.py`, a test holds with random histories.
"""

from __future__ import annotations

from gateway.limits.gcra import DAY_MS, JUMP_MS, MINUTE_MS, period_end_ms, period_of, period_of_day
from gateway.limits.rules import NEVER, UNKNOWN, Amounts, Kind, Rule, Standing, Taken, Verdict

MOST_STATES = 20_000
"""States that are kept before those at rest are let go; keys and tokens come and go."""
_standing = tuple.__new__


class _State:
    """Where one limit stands. Of these a rate uses the debt, calls at the same time `held`, and a budget the rest."""

    __slots__ = ("after", "at", "debt", "held", "period", "used")

    def __init__(self) -> None:
        self.at = 0
        self.debt = 0
        """In amount·milliseconds, at the time `at`."""
        self.after = 0
        """The debt with the call that is being judged."""
        self.held = 0
        """Calls that run, or what they have reserved."""
        self.period = 0
        self.used = 0


class Bound:
    """A set of rules, each with its state."""

    __slots__ = ("budgets", "entries", "generation", "order", "rates", "rules", "running")

    def __init__(self, rules: tuple[Rule, ...]) -> None:
        self.rules = rules
        self.generation = 0
        self.entries: list[tuple[Kind, _State, int, int, int, bool]] = []
        """Kind, state, amount, the most debt, which of a call's amounts it counts, whether it is only observed."""
        self.rates: list[tuple[_State, int, int, int]] = []
        """The same by kind, for calls that nothing is in the way of: state, amount, the most debt, what it counts."""
        self.running: list[tuple[_State, int]] = []
        self.budgets: list[tuple[_State, int, int, Kind]] = []
        by_kind = sorted(range(len(rules)), key=lambda at: (rules[at].is_budget, not rules[at].is_rate))
        self.order = None if by_kind == sorted(by_kind) else [by_kind.index(at) for at in range(len(rules))]
        """Where the standing of each rule is among those by kind, if that is not the same."""


class QuickLedger:
    """Counters of every rule, in memory. Times are Unix milliseconds."""

    def __init__(self) -> None:
        self._states: dict[str, _State] = {}
        self._rules: dict[str, Rule] = {}
        self._generation = 1
        self._limit = MOST_STATES
        self._last_ms = 0
        self._offset_ms = 0

    def reserve(self, now_ms: int, bound: Bound, ask: Amounts) -> Verdict:
        """Check every rule and charge all that are not over, if none of those that are enforced is."""
        now = self._steady(now_ms)
        if bound.generation != self._generation:
            self._bind(bound, now_ms)
        day = now_ms // DAY_MS
        standings: list[Standing] = []
        for state, amount, most, counts in bound.rates:
            debt = state.debt
            if debt and now > state.at:
                debt -= (now - state.at) * amount
                if debt < 0:
                    debt = 0
            state.after = after = debt + ask[counts] * MINUTE_MS
            if after > most:
                return self._judge(now_ms, now, bound, ask)
            standings.append(_standing(Standing, ((most - after) // MINUTE_MS, -(-after // amount), False, 0)))
        for state, amount in bound.running:
            left = amount - state.held
            if left <= 0:
                return self._judge(now_ms, now, bound, ask)
            standings.append(_standing(Standing, (left - 1, 0, False, 0)))
        for state, amount, counts, kind in bound.budgets:
            if state.period != day or kind == 6:
                _turn(state, kind, now_ms)
            left = amount - state.used - state.held - ask[counts]
            if left < 0:
                return self._judge(now_ms, now, bound, ask)
            standings.append(_standing(Standing, (left, _reset_ms(kind, now_ms), False, 0)))
        for state, _, _, _ in bound.rates:
            state.at = now
            state.debt = state.after
        for state, _ in bound.running:
            state.held += 1
        for state, _, counts, _ in bound.budgets:
            state.held += ask[counts]
        if bound.order is not None:
            standings = [standings[at] for at in bound.order]
        verdict: Verdict = _standing(Verdict, (True, tuple(standings), day))
        return verdict

    def _judge(self, now_ms: int, now: int, bound: Bound, ask: Amounts) -> Verdict:
        """Do the same, rule by rule, for a call that some rule is in the way of."""
        standings: list[Standing] = []
        admitted = True
        for kind, state, amount, most, counts, shadow in bound.entries:
            cost = ask[counts]
            if kind <= 2:  # a rate
                debt = state.debt
                if debt and now > state.at:
                    debt -= (now - state.at) * amount
                    if debt < 0:
                        debt = 0
                state.after = after = debt + cost * MINUTE_MS
                if after <= most:
                    standing = _standing(Standing, ((most - after) // MINUTE_MS, -(-after // amount), False, 0))
                else:
                    wait = NEVER if cost * MINUTE_MS > most else -(-(after - most) // amount)
                    standing = Standing(max(0, (most - debt) // MINUTE_MS), -(-debt // amount), True, wait)
            elif kind == 3:  # calls at the same time
                if state.held < amount:
                    standing = _standing(Standing, (amount - state.held - 1, 0, False, 0))
                else:
                    standing = Standing(0, 0, True, UNKNOWN)
            else:
                _turn(state, kind, now_ms)
                left, reset = amount - state.used - state.held, _reset_ms(kind, now_ms)
                if cost <= left:
                    standing = _standing(Standing, (left - cost, reset, False, 0))
                else:
                    # Where only what is reserved stands in the way, calls that end may make room.
                    wait = NEVER if cost > amount else reset if state.used + cost > amount else UNKNOWN
                    standing = Standing(max(0, left), reset, True, wait)
            if standing[2] and not shadow:
                admitted = False
            standings.append(standing)
        if admitted:
            for (kind, state, _, _, counts, _), standing in zip(bound.entries, standings, strict=True):
                if standing[2]:
                    continue
                if kind <= 2:
                    state.at, state.debt = now, state.after
                else:
                    state.held += 1 if kind == 3 else ask[counts]
        verdict: Verdict = _standing(Verdict, (admitted, tuple(standings), now_ms // DAY_MS))
        return verdict

    def settle(self, now_ms: int, bound: Bound, verdict: Verdict, ask: Amounts, used: Amounts) -> None:
        """Put what a call used in the place of what was reserved for it.

        Args:
            verdict: that which admitted the call: rules that were over then, as shadows may be, were not charged.
        """
        now = self._steady(now_ms)
        if bound.generation != self._generation:
            self._bind(bound, now_ms)
        for (kind, state, amount, _, counts, _), standing in zip(bound.entries, verdict.standings, strict=True):
            if standing[2] or kind == 1:
                continue
            if kind == 2:
                debt = state.debt
                if now > state.at:
                    debt -= (now - state.at) * amount
                    if debt < 0:
                        debt = 0
                debt += (used[counts] - ask[counts]) * MINUTE_MS
                state.at, state.debt = now, debt if debt > 0 else 0
            elif kind == 3:
                state.held -= 1
            else:
                _turn(state, kind, now_ms)
                if period_of_day(kind, verdict.day) == state.period:
                    state.held -= ask[counts]
                state.used += used[counts]

    def _steady(self, now_ms: int) -> int:
        """As of the ledger in gcra.py: the clock may be set back, and rates go on."""
        if now_ms < self._last_ms - JUMP_MS:
            self._offset_ms += self._last_ms - now_ms
        self._last_ms = now_ms
        return now_ms + self._offset_ms

    # Finding states, and letting them go

    def _bind(self, bound: Bound, now_ms: int) -> None:
        if len(self._states) > self._limit:
            self._sweep(now_ms)
        entries = []
        for rule in bound.rules:
            state = self._states.get(rule.id)
            if state is None:
                state = self._states[rule.id] = _State()
            self._rules[rule.id] = rule
            entries.append((rule.kind, state, rule.amount, rule.burst * MINUTE_MS, rule.counts, rule.shadow))
        bound.rates = [entry[1:5] for entry in entries if entry[0] <= 2]
        bound.running = [entry[1:3] for entry in entries if entry[0] == 3]
        bound.budgets = [(state, amount, counts, kind) for kind, state, amount, _, counts, _ in entries if kind >= 4]
        bound.entries, bound.generation = entries, self._generation

    def _sweep(self, now_ms: int) -> None:
        """Let go of limits of which nothing is taken; sets of rules find their states anew."""
        now = now_ms + self._offset_ms - JUMP_MS
        for rule_id, rule in list(self._rules.items()):
            state = self._states[rule_id]
            # A day later than need be, as the clock may yet be set back; likewise a second, for rates.
            over = rule.is_budget and state.period < period_of(rule.kind, now_ms - DAY_MS)
            if over or not (state.held or state.used or state.debt > (now - state.at) * rule.amount):
                del self._states[rule_id], self._rules[rule_id]
        self._generation += 1
        self._limit = max(MOST_STATES, 2 * len(self._states))

    # For tests and the administration

    def taken(self, now_ms: int, rule: Rule) -> Taken:
        """Return what is taken of a rule, from whatever thread: it changes nothing."""
        state = self._states.get(rule.id)
        if state is None:
            return Taken(0)
        if rule.is_rate:
            debt = state.debt - max(0, now_ms + self._offset_ms - state.at) * rule.amount
            return Taken(-(-max(0, debt) // MINUTE_MS))
        if rule.kind is Kind.CONCURRENT:
            return Taken(state.held)
        return Taken(state.used, state.held) if state.period == period_of(rule.kind, now_ms) else Taken(0)

    def counters(self) -> dict[str, int]:
        """Return what is spent of each budget in its current period, by rule id."""
        return {rule_id: state.used for rule_id, state in self._states.items() if self._rules[rule_id].is_budget}

    def held(self) -> dict[str, int]:
        """Return what is held of each rule, reserved or running, by rule id; nothing where nothing is."""
        return {rule_id: state.held for rule_id, state in self._states.items() if state.held}


def _turn(state: _State, kind: Kind, now_ms: int) -> None:
    """Begin a budget anew where its period has ended."""
    period = now_ms // DAY_MS if kind != Kind.MONEY_PER_MONTH else period_of(kind, now_ms)
    if state.period != period:
        state.period = period
        state.used = state.held = 0


def _reset_ms(kind: Kind, now_ms: int) -> int:
    return DAY_MS - now_ms % DAY_MS if kind != 6 else period_end_ms(kind, now_ms) - now_ms
