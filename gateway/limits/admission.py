"""Whether a call may be made now; and when it has been, what it used.

    enter ─▶ the rules of key, key at model, team, model ─▶ store.reserve ─▶ Permit
                                        over the model's calls at once ─▶ its line, fair between keys, for a while
    Permit.settle ─▶ store.settle, and the model's line moves on

A permit is settled exactly once, whatever becomes of its call; until then its estimate stays reserved.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from adapters.base import Call, Usage
from gateway.auth.principal import Principal, Row
from gateway.config.limits import Prices, Waiting
from gateway.errors import (
    ConcurrencyLimitExceeded,
    GatewayError,
    LimitsUnavailable,
    QuotaExceeded,
    RateLimitExceeded,
)
from gateway.limits.cost import ask_for, estimate, money
from gateway.limits.headers import words
from gateway.limits.plan import Plans
from gateway.limits.queue import FairQueue, Priority
from gateway.limits.rules import NEVER, UNKNOWN, Amounts, Kind, Rule, Verdict, worst
from gateway.limits.script import RuleSet
from gateway.limits.store import LimitStore, Reservation, Unavailable

ASK_AGAIN_S = 0.05
"""How often the head of a line asks although no call of this process has ended: those of others make room, too."""
MIN_WAIT_S, MAX_WAIT_S = 0.1, 120.0
"""Bounds of what callers are told who found a model's line full, or stood in it in vain."""
_NOTHING = Amounts()
Charge = tuple[Usage, int | None]
"""Tokens, counted or estimated, and money in millionths; None without prices."""


class LimitObserver(Protocol):
    """Who counts decisions."""

    def limit_decision(self, scope: str, limit: str, decision: str) -> None:
        """`scope`: key, key_model, team or model. `limit`: the field's name. `decision`: refused, shadow or waited."""
        ...

    def limit_waiting(self, model: str, waiting: int) -> None: ...


@dataclass(frozen=True, slots=True)
class ModelTerms:
    """What limits need to know of a model."""

    name: str
    context_length: int | None
    prices: Prices | None
    waiting: Waiting


class _Line:
    """The calls that wait for one model."""

    def __init__(self, terms: ModelTerms) -> None:
        self.queue: FairQueue[asyncio.Future[None]] = FairQueue(terms.waiting.most)
        self.head: asyncio.Future[None] | None = None
        """Whose turn it is: it asks the store until it is admitted or gives up."""
        self.moved = asyncio.Event()
        self._pace_s: float | None = None
        """The time between two calls that ended, while others stood in line."""
        self._moved_at = 0.0

    def call_ended(self) -> None:
        """A call of the model's has ended: the head of the line may ask again."""
        if self.head is not None:
            now = monotonic()
            gap_s = now - self._moved_at
            self._pace_s = gap_s if self._pace_s is None else 0.8 * self._pace_s + 0.2 * gap_s
            self._moved_at = now
            self.moved.set()

    def begin(self) -> None:
        """Somebody is about to stand in line; where nobody does, time runs from here."""
        if self.head is None and not len(self.queue):
            self._moved_at = monotonic()

    def wait_ms(self) -> int:
        """Return how long who comes now would stand in line, at the pace at which calls have ended."""
        standstill_s = monotonic() - self._moved_at
        each_s = max(standstill_s, self._pace_s or 0.0)
        return round(1000 * min(MAX_WAIT_S, max(MIN_WAIT_S, each_s * (len(self.queue) + 1))))

    def advance(self) -> None:
        """Let the next one ask, if nobody does."""
        if self.head is None:
            self.head = self.queue.take()
            if self.head is not None and not self.head.done():
                self.head.set_result(None)


class Permit:
    """One admitted call."""

    __slots__ = ("_admission", "_began", "_reservation", "_row", "_settled", "_terms", "estimate", "header_lines")

    def __init__(
        self,
        admission: Admission,
        terms: ModelTerms,
        reservation: Reservation | None,
        row: Row,
        prompt_tokens: int,
    ) -> None:
        self._admission = admission
        self._terms = terms
        self._reservation = reservation
        self._row = row
        self._began = monotonic()
        self._settled = False
        self.estimate = prompt_tokens
        """Of the prompt's tokens, for calls whose container has not counted them."""
        self.header_lines = b"" if reservation is None else reservation.rules.lines.of(reservation.verdict)
        """What the caller is told about its limits."""

    def settle(self, usage: Usage | None, *, delivered: int = 0, worked: bool = False) -> Charge | None:
        """End the call, and return what it is charged. Later calls of this do nothing.

        Args:
            usage: what the container counted, None if it has not.
            delivered: events that reached the caller without a count: then the prompt's estimate and these are used.
            worked: likewise the prompt's estimate is used, although nothing has reached the caller.
        """
        if self._settled:
            return None
        self._settled = True
        if usage is None:
            usage = Usage(self.estimate, delivered) if delivered or worked else Usage(0, 0)
        terms = self._terms
        spent = self._admission.leave(terms, self._reservation, self._row, usage, monotonic() - self._began)
        return usage, None if terms.prices is None else spent


class Admission:
    """Admits calls."""

    def __init__(
        self, store: LimitStore, plans: Plans, models: Mapping[str, ModelTerms], observer: LimitObserver
    ) -> None:
        self._store = store
        self._plans = plans
        self._models = models
        self._observer = observer
        self._lines = {name: _Line(terms) for name, terms in models.items() if terms.waiting.most}
        self._empty = store.rule_set(())

    async def enter(self, principal: Principal, model: str, call: Call, watch: Callable[[], object]) -> Permit:
        """Return the permit of a call.

        Args:
            watch: called before a wait: from then on the task is to be cancelled should its caller leave.

        Raises:
            GatewayError: the call is over a limit, or nobody can say whether it is.
        """
        terms = self._models[model]
        rules = self._rules(principal, model)
        prompt, answer = estimate(call, terms.context_length)
        row = principal.rows.get(model) or principal.row(model)
        if not rules.rules:
            return Permit(self, terms, None, row, prompt)
        priority = _priority(principal, call)
        ask = _fitted(rules.rules, ask_for(terms.prices, prompt, answer), bounded=call.max_tokens is not None)
        line = self._lines.get(model)
        try:
            if line is not None and (line.head is not None or len(line.queue)):
                watch()
                reservation = await self._wait(line, terms, principal, rules, ask, priority)
            else:
                reservation = await self._store.reserve(rules, ask)
                if (
                    line is not None
                    and not reservation.verdict.admitted
                    and _only_full(rules.rules, reservation.verdict)
                ):
                    watch()
                    reservation = await self._wait(line, terms, principal, rules, ask, priority)
        except Unavailable:
            raise LimitsUnavailable(
                "Limits cannot be checked right now. Please retry later.", retry_after_s=1
            ) from None
        for standing in reservation.verdict.standings:
            if standing.over:
                self._observe(rules.rules, reservation.verdict)
                break
        if not reservation.verdict.admitted:
            raise _refusal(rules, reservation.verdict, ask, model)
        return Permit(self, terms, reservation, row, prompt)

    def leave(self, terms: ModelTerms, reservation: Reservation | None, row: Row, usage: Usage, seconds: float) -> int:
        """Settle a permit, and let the next in line ask; return the money spent."""
        spent = money(terms.prices, usage, seconds if usage.completion_tokens else 0.0)
        used = Amounts(usage.prompt_tokens + usage.completion_tokens, spent)
        books = {row.requests: 1, row.milliseconds: round(seconds * 1000)}
        if usage.prompt_tokens:
            books[row.prompt_tokens] = usage.prompt_tokens
        if usage.cached_tokens:
            books[row.cached_tokens] = usage.cached_tokens
        if usage.completion_tokens:
            books[row.completion_tokens] = usage.completion_tokens
        if spent:
            books[row.money] = spent
        if reservation is None:
            reservation = Reservation(self._empty, _NOTHING, Verdict(True, (), 0), shared=False)
        self._store.settle(reservation, used, books)
        line = self._lines.get(terms.name)
        if line is not None:
            line.call_ended()
        return spent

    def _rules(self, principal: Principal, model: str) -> RuleSet:
        rules = principal.rule_sets.get(model)
        if rules is None:
            found = self._plans.rules(principal.limits, principal.model_limits, principal.team, model)
            rules = principal.rule_sets[model] = self._store.rule_set(found)
        return rules

    async def _wait(
        self, line: _Line, terms: ModelTerms, principal: Principal, rules: RuleSet, ask: Amounts, priority: Priority
    ) -> Reservation:
        """Stand in line until the call is admitted, refused for another reason, or its time is over."""
        loop = asyncio.get_running_loop()
        turn: asyncio.Future[None] = loop.create_future()
        line.begin()
        if not line.queue.add(turn, principal.key_id, priority, ask.tokens):
            wait_ms = line.wait_ms()
            raise ConcurrencyLimitExceeded(
                f"The model `{terms.name}` is serving as many calls as it may, and {len(line.queue)} are waiting."
                f" Please retry {words(wait_ms)}.",
                wait_ms=wait_ms,
            )
        self._observer.limit_waiting(terms.name, len(line.queue))
        line.advance()
        deadline = loop.time() + terms.waiting.seconds
        try:
            async with asyncio.timeout_at(deadline):
                await turn
                while True:
                    line.moved.clear()
                    reservation = await self._store.reserve(rules, ask)
                    if not _only_full(rules.rules, reservation.verdict):
                        self._observer.limit_decision("model", Kind.CONCURRENT.word, "waited")
                        return reservation
                    try:
                        async with asyncio.timeout(ASK_AGAIN_S):
                            await line.moved.wait()
                    except TimeoutError:
                        pass
        except TimeoutError:
            self._observer.limit_decision("model", Kind.CONCURRENT.word, "refused")
            wait_ms = line.wait_ms()
            raise ConcurrencyLimitExceeded(
                f"The model `{terms.name}` is serving as many calls as it may; this one has waited for"
                f" {terms.waiting.seconds:g} seconds. Please retry {words(wait_ms)}.",
                wait_ms=wait_ms,
            ) from None
        finally:
            if line.head is turn:
                line.head = None
                line.advance()
            else:
                line.queue.remove(turn, principal.key_id, priority)
            self._observer.limit_waiting(terms.name, len(line.queue))

    def _observe(self, rules: tuple[Rule, ...], verdict: Verdict) -> None:
        for rule, standing in zip(rules, verdict.standings, strict=True):
            if standing.over:
                self._observer.limit_decision(_scope(rule), rule.kind.word, "shadow" if rule.shadow else "refused")


def _refusal(rule_set: RuleSet, verdict: Verdict, ask: Amounts, model: str) -> GatewayError:
    rules = rule_set.rules
    at = worst(rules, verdict)
    rule, standing = rules[at], verdict.standings[at]
    subject = _SUBJECTS[_scope(rule)].format(model=model)
    called = "" if "`" in subject else f" The call was for the model `{model}`."
    headers = rule_set.lines.pairs(verdict)
    if rule.kind is Kind.CONCURRENT:
        return ConcurrencyLimitExceeded(
            f"Limit of {rule.amount} concurrent requests {subject} reached. Please retry when one of them ends."
            f"{called}",
            wait_ms=1000,
            headers=headers,
        )
    wait = None if standing.wait_ms == NEVER else 1000 if standing.wait_ms == UNKNOWN else standing.wait_ms
    if rule.is_budget:
        what, period = _BUDGETS[rule.kind]
        if standing.wait_ms == UNKNOWN:
            text = f"What is left of the {what} {subject} for this {period} is reserved by calls that run."
        elif wait is None:
            text = f"This call may use more {what} than there are {subject} in a whole {period}."
        else:
            again = words(standing.reset_ms)
            text = f"The {what} {subject} are spent for this {period}; they are there again {again}."
        return QuotaExceeded(text + called, wait_ms=wait, kind="insufficient_quota", headers=headers)
    word = "requests" if rule.kind is Kind.REQUESTS else "tokens"
    asked = 1 if rule.kind is Kind.REQUESTS else ask.tokens
    advice = (
        f"Please try again {words(wait)}."
        if wait is not None
        else f"A single call may take {rule.burst} at most: lower max_tokens or shorten the prompt."
    )
    return RateLimitExceeded(
        f"Rate limit of {rule.amount} {word} per minute {subject} reached: {standing.remaining} left, {asked} asked"
        f" for. {advice}{called}",
        wait_ms=wait,
        kind=word,
        headers=headers,
    )


_SUBJECTS = {
    "key": "for this API key",
    "key_model": "for this API key at the model `{model}`",
    "team": "for this API key's team",
    "model": "for the model `{model}`",
}
_BUDGETS = {
    Kind.TOKENS_PER_DAY: ("tokens", "day"),
    Kind.MONEY_PER_DAY: ("funds", "day"),
    Kind.MONEY_PER_MONTH: ("funds", "month"),
}


def _priority(principal: Principal, call: Call) -> Priority:
    """Return the class of a call: its key's, or a lower one that its `service_tier` asks for."""
    return "low" if call.values.get("service_tier") == "flex" else principal.priority


def _scope(rule: Rule) -> str:
    """Return whose limit it is, as a label."""
    scope, _, name = rule.name.partition(":")
    return "key_model" if scope == "key" and "@" in name else scope


def _only_full(rules: tuple[Rule, ...], verdict: Verdict) -> bool:
    """Say whether a call is kept out by nothing but the number of the model's calls."""
    over = [rule for rule, standing in zip(rules, verdict.standings, strict=True) if standing.over and not rule.shadow]
    return bool(over) and all(rule.kind is Kind.CONCURRENT and rule.name.startswith("model:") for rule in over)


def _fitted(rules: tuple[Rule, ...], ask: Amounts, *, bounded: bool) -> Amounts:
    """Return what to reserve: where the caller names no bound, no more than any limit could give."""
    if bounded:
        return ask
    tokens, spent = ask.tokens, ask.money
    for rule in rules:
        if rule.kind is Kind.TOKENS or rule.kind is Kind.TOKENS_PER_DAY:
            tokens = min(tokens, rule.burst)
        elif rule.is_budget:
            spent = min(spent, rule.burst)
    return Amounts(tokens, spent)
