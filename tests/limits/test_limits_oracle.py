"""Random histories through the script in a real Redis and through the pure ledger: the same verdicts, step by step."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.limits import script
from gateway.limits.gcra import DAY_MS, Ledger, UnknownOwner, period_of
from gateway.limits.rules import Amounts, Kind, Rule, Verdict
from tests.limits.world import RULES
from tests.support.redis_server import running_redis

START_MS = 1_790_000_000_000
LEASE_MS = 10_000
KEYS = script.Keys("test")
STEPS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([0, 1, 7, 999, 5_000, 8_571, 60_000, 3_600_000, DAY_MS, 31 * DAY_MS])),
    st.tuples(
        st.just("wait on leases"), st.sampled_from([0, 1, 7, 999, 8_571, 60_000, 3_600_000, DAY_MS, 29 * DAY_MS])
    ),
    st.tuples(st.just("back"), st.sampled_from([1, 900, 1_001, 3_600_000])),
    st.tuples(
        st.just("reserve"),
        st.sets(st.integers(0, len(RULES) - 1)),
        st.sampled_from([0, 1, 40, 100, 249, 250, 251, 3000]),
        st.sampled_from([0, 1, 300, 1000]),
        st.sampled_from(["one", "two"]),
    ),
    st.tuples(
        st.just("settle"), st.integers(0, 5), st.sampled_from([0, 1, 39, 150, 700]), st.sampled_from([0, 5, 400])
    ),
    st.tuples(st.just("renew"), st.sampled_from(["one", "two"])),
    st.tuples(st.just("forget"), st.sampled_from(["one", "two"])),
)


class Twin:
    """The same history in both ledgers."""

    def __init__(self, client: Any) -> None:
        client.flushall()
        client.script_load(script.SOURCE)
        self.client = client
        self.ledger = Ledger()
        self.now = START_MS
        self.open: list[tuple[str, tuple[Rule, ...], Verdict, Amounts]] = []
        self.sequence = 0

    def call(self, command: bytes) -> Any:
        """Send a command as the gateway encodes it."""
        return self.client.execute_command(*parse(command))

    @property
    def clock(self) -> bytes:
        return b"%d" % self.now

    def renew(self, owner: str) -> None:
        known, _, _ = self.call(script.renew(KEYS, owner.encode(), LEASE_MS, now=self.clock))
        assert bool(known) == self.ledger.renew(self.now, owner, LEASE_MS)

    def forget(self, owner: str) -> None:
        self.call(script.forget(KEYS, owner.encode(), b"process", now=self.clock))
        self.ledger.forget(owner)

    def reserve(self, owner: str, rules: tuple[Rule, ...], ask: Amounts) -> Verdict | None:
        rule_set = script.RuleSet(rules, KEYS)
        try:
            expected: Verdict | None = self.ledger.reserve(self.now, owner, rules, ask)
        except UnknownOwner:
            expected = None
        reply = self.call(rule_set.reserve(owner.encode(), ask, self.clock))
        if expected is None:
            with pytest.raises(UnknownOwner):
                rule_set.verdict(reply)
            return None
        assert rule_set.verdict(reply) == expected
        if expected.admitted:
            self.open.append((owner, rules, expected, ask))
        return expected

    def same_counters(self) -> None:
        """What is spent and what is held are the same, and nothing is left of owners that are gone."""
        held, spent = {}, {}
        for name in self.client.scan_iter("{test}:r:*"):
            rule_id = name.decode().removeprefix("{test}:r:")
            if self.client.type(name) != b"hash":
                continue
            fields = {field.decode(): int(value) for field, value in self.client.hgetall(name).items()}
            if "p" in fields:
                spent[rule_id] = fields.pop("u")
                del fields["p"]
            if fields:
                held[rule_id] = sum(fields.values())
        assert held == self.ledger.held()
        assert spent == self.ledger.counters()

    def settle(self, at: int, used: Amounts) -> None:
        if not self.open:
            return
        owner, rules, verdict, ask = self.open.pop(at % len(self.open))
        self.sequence += 1
        settlement = script.Settlement(script.RuleSet(rules, KEYS), self.sequence, verdict, ask, used, {b"row": 1})
        command = settlement.rules.settle(settlement, owner.encode(), b"process", 999, self.clock)
        assert self.call(command) == 1
        assert self.call(command) == 0, "a settlement that comes again is taken again"
        self.ledger.settle(self.now, owner, rules, verdict, ask, used)


def parse(command: bytes) -> list[bytes]:
    """Return the arguments of an encoded command; what is not one fails."""
    head, _, rest = command.partition(b"\r\n")
    arguments = []
    for _ in range(int(head.removeprefix(b"*"))):
        size, _, rest = rest.partition(b"\r\n")
        length = int(size.removeprefix(b"$"))
        arguments.append(rest[:length])
        assert rest[length : length + 2] == b"\r\n"
        rest = rest[length + 2 :]
    assert not rest
    return arguments


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    with running_redis() as server, server.client() as connected:
        yield connected


def play(twin: Twin, history: list[Any]) -> None:
    for owner in ("one", "two"):
        twin.renew(owner)
    for step in history:
        match step:
            case ("wait", ms):
                twin.now += ms
            case ("wait on leases", ms):
                twin.now += ms
                twin.renew("one")
                twin.renew("two")
            case ("back", ms):
                twin.now -= ms
            case ("reserve", which, tokens, money, owner):
                twin.reserve(owner, tuple(RULES[at] for at in sorted(which)), Amounts(tokens, money))
            case ("settle", at, tokens, money):
                twin.settle(at, Amounts(tokens, money))
            case ("renew", owner):
                twin.renew(owner)
            case ("forget", owner):
                twin.forget(owner)
    for owner in ("one", "two"):
        twin.renew(owner)
    twin.reserve("one", RULES, Amounts(1, 1))
    twin.same_counters()


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=st.lists(STEPS, max_size=40))
def test_the_script_and_the_pure_ledger_give_the_same_verdicts(client: Any, history: list[Any]) -> None:
    play(Twin(client), history)


@pytest.mark.parametrize("seed", range(6))
def test_a_long_life_of_calls_goes_the_same_way_in_both(client: Any, seed: int) -> None:
    chance = random.Random(seed)
    steps: list[Any] = []
    for _ in range(1500):
        owner = chance.choice(["one", "one", "two"])
        kind = chance.random()
        if kind < 0.45:
            which = {at for at in range(len(RULES)) if chance.random() < 0.5}
            tokens, money = chance.choice([0, 1, 40, 100, 250, 251]), chance.choice([0, 1, 30, 300, 901])
            steps.append(("reserve", which, tokens, money, owner))
        elif kind < 0.8:
            steps.append(
                ("settle", chance.randrange(6), chance.choice([0, 1, 39, 150, 700]), chance.choice([0, 5, 90]))
            )
        elif kind < 0.95:
            steps.append(("wait on leases", chance.choice([0, 1, 7, 999, 4_000, 8_571, 60_000])))
        else:
            seldom = [("forget", owner), ("renew", owner), ("wait", 10_001), ("wait on leases", DAY_MS // 2)]
            steps.append(chance.choice([*seldom, ("back", chance.choice([900, 1_001, 1_500, 3_600_000]))]))
    play(Twin(client), steps)


def test_every_day_of_four_years_is_in_the_same_period_in_both(client: Any) -> None:
    twin = Twin(client)
    rules = (RULES[4], RULES[5])
    for day in range(4 * 366):
        twin.now = START_MS + day * DAY_MS
        date = datetime.fromtimestamp(twin.now / 1000, UTC)
        assert period_of(Kind.MONEY_PER_MONTH, twin.now) == 12 * date.year + date.month - 1
        twin.renew("one")
        verdict = twin.reserve("one", rules, Amounts(0, 1))
        assert verdict is not None
        ends = datetime.fromtimestamp((twin.now + verdict.standings[1].reset_ms) / 1000, UTC)
        assert (ends.day, ends.hour, ends.minute) == (1, 0, 0)
        assert 12 * ends.year + ends.month == 12 * date.year + date.month + 1
        twin.settle(0, Amounts(0, 1))


def test_a_key_of_another_type_is_replaced(client: Any) -> None:
    twin = Twin(client)
    twin.renew("one")
    for rule in RULES:
        client.set(KEYS.rule(rule), "garbage") if not rule.kind.is_rate else client.lpush(KEYS.rule(rule), "garbage")
    assert twin.reserve("one", RULES, Amounts(10, 10)) is not None
    twin.settle(0, Amounts(20, 20))
    twin.same_counters()


def test_a_new_owner_takes_over_what_the_old_one_held(client: Any) -> None:
    twin = Twin(client)
    twin.renew("one")
    rules = (RULES[2], RULES[3])
    assert twin.reserve("one", rules, Amounts(10)) is not None
    held = [(RULES[2], 1), (RULES[3], 10)]
    assert twin.call(script.renew(KEYS, b"new", LEASE_MS, before=b"one", holds=held, now=twin.clock)) == [0, 1, 0]
    assert client.hgetall(KEYS.rule(RULES[2])) == {b"new": b"1"}
    assert client.hget(KEYS.rule(RULES[3]), "r:new") == b"10"
    twin.now += LEASE_MS
    assert twin.call(script.renew(KEYS, b"last", LEASE_MS, now=twin.clock)) == [0, 1, 0]
    assert not client.exists(KEYS.rule(RULES[2]))


def test_the_books_of_a_day_are_written_once(client: Any) -> None:
    twin = Twin(client)
    twin.renew("one")
    twin.reserve("one", RULES[:1], Amounts())
    twin.settle(0, Amounts())
    day = START_MS // DAY_MS
    assert client.hgetall(KEYS.books(day)) == {b"row": b"1"}
    assert 900 < client.ttl(KEYS.books(day)) <= 999
