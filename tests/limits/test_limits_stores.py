"""What every store does: one suite, for memory and for a real Redis."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

import pytest

from gateway.limits.memory import MemoryLimits
from gateway.limits.rules import NEVER, UNKNOWN, Amounts, Kind
from gateway.limits.store import LimitStore
from tests.limits.world import admit, redis_limits, rule, wall_ms
from tests.support.redis_server import RedisServer, running_redis

Test = Callable[[LimitStore], Awaitable[None]]


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


@pytest.fixture(params=["memory", "redis"])
def run(request: pytest.FixtureRequest, server: RedisServer) -> Callable[[Test], None]:
    @contextlib.asynccontextmanager
    async def opened() -> AsyncIterator[LimitStore]:
        if request.param == "memory":
            yield MemoryLimits(wall_ms)
            return
        with server.client() as client:
            client.flushall()
        async with redis_limits(server) as store:
            yield store

    def runner(test: Test) -> None:
        async def main() -> None:
            async with opened() as store:
                await test(store)

        asyncio.run(main())

    return runner


def test_a_limit_of_a_hundred_admits_exactly_a_hundred(run: Callable[[Test], None]) -> None:
    async def test(store: LimitStore) -> None:
        # An hour's worth of patience: within the test nothing refills.
        rules = store.rule_set([rule(Kind.REQUESTS, 1, burst=100)])
        answers = await asyncio.gather(*(store.reserve(rules, Amounts()) for _ in range(500)))
        assert sum(answer.verdict.admitted for answer in answers) == 100
        refused = next(answer for answer in answers if not answer.verdict.admitted)
        assert 50_000 < refused.verdict.standings[0].wait_ms <= 60_000

    run(test)


def test_what_one_limit_refuses_is_charged_to_none(run: Callable[[Test], None]) -> None:
    async def test(store: LimitStore) -> None:
        requests, tokens = rule(Kind.REQUESTS, 1, burst=5), rule(Kind.TOKENS, 60, burst=100)
        assert (await admit(store, requests, tokens, tokens=100)).verdict.admitted
        for _ in range(10):
            refused = (await admit(store, requests, tokens, tokens=50)).verdict
            assert not refused.admitted
            assert [standing.over for standing in refused.standings] == [False, True]
        assert (await admit(store, requests)).verdict.standings[0].remaining == 3

    run(test)


def test_settling_puts_real_usage_in_the_place_of_the_estimate(run: Callable[[Test], None]) -> None:
    async def test(store: LimitStore) -> None:
        rules = [rule(Kind.TOKENS, 1, burst=1000), rule(Kind.TOKENS_PER_DAY, 5000), rule(Kind.MONEY_PER_MONTH, 900)]
        first = await admit(store, *rules, tokens=800, money=700)
        store.settle(first, Amounts(300, 250), {})
        second = await admit(store, *rules, tokens=0, money=0)
        assert [standing.remaining for standing in second.verdict.standings] == [700, 4700, 650]
        store.settle(second, Amounts(0, 0), {})
        third = await admit(store, *rules, tokens=700, money=1)
        store.settle(third, Amounts(1500, 2), {})  # more than was reserved is owed
        fourth = (await admit(store, *rules, tokens=1, money=1)).verdict
        assert [standing.over for standing in fourth.standings] == [True, False, False]
        assert 790 * 60_000 < fourth.standings[0].wait_ms <= 801 * 60_000

    run(test)


def test_calls_that_run_make_room_when_they_end(run: Callable[[Test], None]) -> None:
    async def test(store: LimitStore) -> None:
        two = rule(Kind.CONCURRENT, 2)
        first, second = await admit(store, two), await admit(store, two)
        third = await admit(store, two)
        assert (first.verdict.standings[0].remaining, second.verdict.standings[0].remaining) == (1, 0)
        assert (third.verdict.admitted, third.verdict.standings[0].wait_ms) == (False, UNKNOWN)
        store.settle(first, Amounts(), {})
        assert (await admit(store, two)).verdict.admitted
        assert not (await admit(store, two)).verdict.admitted

    run(test)


def test_a_call_that_can_never_fit_is_told_so(run: Callable[[Test], None]) -> None:
    async def test(store: LimitStore) -> None:
        for limit in (rule(Kind.TOKENS, 100), rule(Kind.TOKENS_PER_DAY, 100), rule(Kind.MONEY_PER_DAY, 100)):
            verdict = (await admit(store, limit, tokens=101, money=101)).verdict
            assert (verdict.admitted, verdict.standings[0].wait_ms) == (False, NEVER)

    run(test)


def test_a_shadow_is_counted_and_refuses_nobody(run: Callable[[Test], None]) -> None:
    async def test(store: LimitStore) -> None:
        real, shadow = rule(Kind.REQUESTS, 1, burst=3), rule(Kind.REQUESTS, 1, burst=1, shadow=True)
        seen = [(await admit(store, real, shadow)).verdict for _ in range(4)]
        assert [verdict.admitted for verdict in seen] == [True, True, True, False]
        assert [verdict.standings[1].over for verdict in seen] == [False, True, True, True]

    run(test)


def test_retry_after_is_true(run: Callable[[Test], None]) -> None:
    async def test(store: LimitStore) -> None:
        fast = rule(Kind.REQUESTS, 6000, burst=1)  # one every 10 ms
        assert (await admit(store, fast)).verdict.admitted
        verdict = (await admit(store, fast)).verdict
        while verdict.admitted:  # more than 10 ms have passed, on a busy machine
            verdict = (await admit(store, fast)).verdict
        assert 0 < verdict.standings[0].wait_ms <= 10
        await asyncio.sleep((verdict.standings[0].wait_ms + 1) / 1000)
        assert (await admit(store, fast)).verdict.admitted

    run(test)


def test_a_caller_who_leaves_while_waiting_has_reserved_nothing(run: Callable[[Test], None]) -> None:
    async def test(store: LimitStore) -> None:
        one = rule(Kind.CONCURRENT, 1)
        rules = store.rule_set([one])
        for _ in range(20):
            leaving = asyncio.ensure_future(store.reserve(rules, Amounts()))
            await asyncio.sleep(0)
            if not leaving.cancel():
                store.settle(leaving.result(), Amounts(), {})
                continue
            with pytest.raises(asyncio.CancelledError):
                await leaving
        # Commands keep their order, so that by the time of this one those before it are done with.
        answer = await store.reserve(rules, Amounts())
        while not answer.verdict.admitted:
            answer = await store.reserve(rules, Amounts())
        store.settle(answer, Amounts(), {})

    run(test)
