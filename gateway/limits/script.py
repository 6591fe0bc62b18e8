"""The arguments of `gcra.lua` and what its answers mean: values in, values out, no connection.

What does not change from call to call is encoded once for each set of rules.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha1
from importlib.resources import files

from gateway.limits.gcra import UnknownOwner
from gateway.limits.headers import LimitLines
from gateway.limits.rules import Amounts, Kind, Rule, Standing, Verdict

SOURCE = files(__package__).joinpath("gcra.lua").read_bytes()
SHA = sha1(SOURCE, usedforsecurity=False).hexdigest()
"""The script's name in Redis' cache."""


def bulk(value: bytes) -> bytes:
    """Return one argument in Redis' protocol."""
    return b"$%d\r\n%b\r\n" % (len(value), value)


def number(value: int) -> bytes:
    return bulk(b"%d" % value)


def command(arguments: Sequence[bytes]) -> bytes:
    """Return a command in Redis' protocol."""
    return b"*%d\r\n%b" % (len(arguments), b"".join(map(bulk, arguments)))


@dataclass(frozen=True, slots=True)
class Keys:
    """The names in Redis."""

    prefix: str
    """Text before every name: two gateways that share a Redis and a prefix share their limits."""

    @property
    def meta(self) -> str:
        return f"{{{self.prefix}}}"

    def rule(self, rule: Rule) -> str:
        return f"{self.meta}:r:{rule.id}"

    def books(self, day: int) -> str:
        """The books of a day, counted since 1970."""
        return f"{self.meta}:u:{day}"


class RuleSet:
    """The rules of a call, as the script takes them."""

    __slots__ = ("_reserve_head", "_reserve_tail", "keys", "lines", "rules")

    def __init__(self, rules: Sequence[Rule], keys: Keys) -> None:
        self.rules = tuple(rules)
        self.keys = keys
        self.lines = LimitLines(self.rules)
        """What callers are told about them."""
        names = [keys.meta, *map(keys.rule, rules)]
        self._reserve_head = _head(names, 5 + 4 * len(rules))
        self._reserve_tail = b"".join(
            number(int(rule.kind)) + number(rule.amount) + number(rule.burst) + number(int(rule.shadow))
            for rule in rules
        )

    def reserve(self, owner: bytes, ask: Amounts, now: bytes = b"") -> bytes:
        """Return the command that checks and charges; `now` is Unix milliseconds, nothing for Redis' clock."""
        return b"%b%b%b%b%b%b%b" % (
            self._reserve_head,
            _RESERVE,
            bulk(now),
            bulk(owner),
            number(ask.tokens),
            number(ask.money),
            self._reserve_tail,
        )

    def verdict(self, reply: Sequence[int]) -> Verdict:
        """Return what the script answered.

        Raises:
            UnknownOwner: nothing has been charged.
            ValueError: that is no answer of the script's.
        """
        if reply and reply[0] == -1:
            raise UnknownOwner
        if len(reply) != 2 + 4 * len(self.rules):
            raise ValueError("an answer of another length than the script's")
        standings = tuple(
            Standing(reply[at], reply[at + 1], reply[at + 2] == 1, reply[at + 3]) for at in range(2, len(reply), 4)
        )
        return Verdict(reply[0] == 1, standings, reply[1])

    def settle(self, settlement: Settlement, owner: bytes, process: bytes, retention_s: int, now: bytes = b"") -> bytes:
        """Return the command that puts what was used in the place of what was reserved, and writes the books."""
        verdict = settlement.verdict
        if verdict is None:
            charged = [rule for rule in self.rules if rule.kind is not Kind.CONCURRENT and not rule.shadow]
            day, ask = NOT_RESERVED, Amounts()
        else:
            released = settlement.released
            charged = [
                rule
                for rule, standing in zip(self.rules, verdict.standings, strict=True)
                if not standing.over
                and rule.kind is not Kind.REQUESTS
                and not (released and rule.kind is Kind.CONCURRENT)
            ]
            day, ask = RELEASED if released else verdict.day, settlement.ask
        books, used = settlement.books, settlement.used
        parts = [
            _head([self.keys.meta, *map(self.keys.rule, charged)], 12 + 2 * len(books) + 3 * len(charged)),
            _SETTLE,
            bulk(now),
            bulk(owner),
            bulk(process),
            number(settlement.sequence),
            number(day),
            number(ask.tokens),
            number(ask.money),
            number(used.tokens),
            number(used.money),
            number(retention_s),
            number(len(books)),
        ]
        for name, increment in books.items():
            parts += (bulk(name), number(increment))
        for rule in charged:
            parts += (number(int(rule.kind)), number(rule.amount), number(rule.burst))
        return b"".join(parts)


@dataclass(slots=True)
class Settlement:
    """What a call used, on its way to Redis; kept until Redis has said that it has it."""

    rules: RuleSet
    sequence: int
    verdict: Verdict | None
    """The one which admitted the call; None if it was admitted without asking Redis, and so is still to be charged."""
    ask: Amounts
    used: Amounts
    books: Mapping[bytes, int]
    released: bool = False
    """What the call held has been given back together with its owner."""


NOT_RESERVED, RELEASED = -1, 0
"""Days of a reservation that there never was, and of one whose period has long ended."""


def renew(
    keys: Keys,
    owner: bytes,
    lease_ms: int,
    *,
    before: bytes = b"",
    holds: Iterable[tuple[Rule, int]] = (),
    begin: bool = True,
    now: bytes = b"",
) -> bytes:
    """Return the command that begins or extends a lease.

    Args:
        begin: begin a lease that is not known; otherwise such a one is only reported.
        before: the owner whose place this one takes.
        holds: what it holds of each rule: calls that run, or an amount reserved of a budget.
    """
    held = list(holds)
    names = [keys.meta, *(keys.rule(rule) for rule, _ in held)]
    rest = b"".join(number(int(rule.kind)) + number(amount) for rule, amount in held)
    return b"".join(
        (
            _head(names, 6 + 2 * len(held)),
            _RENEW,
            bulk(now),
            bulk(owner),
            number(lease_ms),
            bulk(before),
            number(int(begin)),
            rest,
        )
    )


def forget(keys: Keys, owner: bytes, process: bytes, now: bytes = b"") -> bytes:
    """Return the command that ends a lease and what is kept of its process."""
    return b"%b%b%b%b%b" % (_head([keys.meta], 4), bulk(b"forget"), bulk(now), bulk(owner), bulk(process))


def _head(names: Sequence[str], arguments: int) -> bytes:
    keys = b"".join(bulk(name.encode()) for name in names)
    return b"*%d\r\n%b%b%b%b" % (3 + len(names) + arguments, _EVALSHA, _SHA, number(len(names)), keys)


_EVALSHA, _SHA = bulk(b"EVALSHA"), bulk(SHA.encode())
_RESERVE, _SETTLE, _RENEW = bulk(b"reserve"), bulk(b"settle"), bulk(b"renew")


def as_eval(evalsha: bytes) -> bytes:
    """Return a command of this module's with the script itself in the place of its name."""
    return evalsha.replace(_EVALSHA + _SHA, bulk(b"EVAL") + bulk(SOURCE), 1)
