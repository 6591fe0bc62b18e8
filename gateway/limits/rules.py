"""What a limit is, what a call asks of it, and what the answer is: values, shared by every store.

Amounts are whole numbers: requests, tokens, calls, and money in millionths of a unit, so that sums are exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum
from typing import NamedTuple

MICRO = 1_000_000
"""Millionths of money in one unit of it."""
MAX_AMOUNT = 10**11
"""The most a limit may allow: up to here every sum is exact in a double, which is what Redis' Lua computes with."""
NEVER = -1
"""A wait that does not end: the call asks for more than the limit ever allows at once."""
UNKNOWN = -2
"""A wait that ends when some other call does."""


class Kind(IntEnum):
    """What a limit counts. The numbers are part of the Redis script's arguments."""

    REQUESTS = 1
    """Calls per minute."""
    TOKENS = 2
    """Tokens of prompts and answers per minute."""
    CONCURRENT = 3
    """Calls that run at the same time."""
    TOKENS_PER_DAY = 4
    """Tokens per day, in UTC."""
    MONEY_PER_DAY = 5
    """Millionths of money per day, in UTC."""
    MONEY_PER_MONTH = 6
    """Millionths of money per calendar month, in UTC."""

    @property
    def word(self) -> str:
        """The field of the configuration, and the value of the metric label."""
        return _WORDS[self]

    @property
    def is_rate(self) -> bool:
        """A minute's worth that refills all the time."""
        return self <= Kind.TOKENS

    @property
    def is_budget(self) -> bool:
        """A sum that starts anew with each day or month."""
        return self >= Kind.TOKENS_PER_DAY


_WORDS = {
    Kind.REQUESTS: "requests_per_minute",
    Kind.TOKENS: "tokens_per_minute",
    Kind.CONCURRENT: "concurrent_requests",
    Kind.TOKENS_PER_DAY: "tokens_per_day",
    Kind.MONEY_PER_DAY: "money_per_day",
    Kind.MONEY_PER_MONTH: "money_per_month",
}


@dataclass(frozen=True, slots=True)
class Rule:
    """One limit of one key, team or model, or of a key at a model."""

    name: str
    """Names what is counted, the same in every process: `key:app`, `team:search`, `model:llama`, `key:app@llama`."""
    kind: Kind
    amount: int
    """Per minute, day or month, or at the same time."""
    burst: int
    """Of a rate, what may be taken at once; it refills with `amount` a minute. Over any t minutes at most
    burst + amount·t are admitted."""
    shadow: bool = False
    """Observed, never enforced."""
    id: str = field(init=False)
    """Names the counter itself."""
    is_rate: bool = field(init=False, repr=False)
    is_budget: bool = field(init=False, repr=False)
    counts: int = field(init=False, repr=False)
    """Which of a call's Amounts it counts."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "is_rate", self.kind.is_rate)
        object.__setattr__(self, "is_budget", self.kind.is_budget)
        tokens = self.kind in (Kind.TOKENS, Kind.TOKENS_PER_DAY)
        object.__setattr__(self, "counts", 0 if tokens else 1 if self.kind.is_budget else 2)
        object.__setattr__(self, "id", f"{self.name}:{self.kind.word}{':shadow' if self.shadow else ''}")


class Amounts(NamedTuple):
    """What a call takes: estimated before it, measured after it. `Rule.counts` is an index into it."""

    tokens: int = 0
    money: int = 0
    """Millionths."""
    calls: int = 1


class Standing(NamedTuple):
    """Where a rule stands after a verdict."""

    remaining: int
    """What may still be taken at once; not below zero."""
    reset_ms: int
    """Until all of it may be taken again; of calls at the same time 0."""
    over: bool
    """The call does not fit."""
    wait_ms: int
    """Where it does not: until it would, or NEVER or UNKNOWN."""


class Taken(NamedTuple):
    """What is taken of a rule: of its burst for a rate, of its amount for all others."""

    amount: int
    reserved: int = 0
    """Beside it, of a budget, by calls that run."""


class Verdict(NamedTuple):
    """A ledger's answer: admitted if no rule that is enforced is over. Then every rule that is not over has been
    charged; otherwise none has."""

    admitted: bool
    standings: tuple[Standing, ...]
    """One for each rule, in the order of the rules."""
    day: int
    """Since 1970, in UTC: settling names it, so that what was reserved of a period is not returned to the next."""


def worst(rules: tuple[Rule, ...], verdict: Verdict) -> int:
    """Return the index of the rule that keeps a refused call out longest: for ever, then until who knows when."""

    def order(index: int) -> tuple[int, int]:
        wait = verdict.standings[index].wait_ms
        return (2 if wait == NEVER else 0 if wait == UNKNOWN else 1, wait)

    return max((at for at, s in enumerate(verdict.standings) if s.over and not rules[at].shadow), key=order)
