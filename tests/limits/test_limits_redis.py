"""A real Redis that dies, freezes, forgets, refuses and comes back, under the store of many processes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from gateway.limits import fallback
from gateway.limits.gcra import DAY_MS
from gateway.limits.rules import Amounts, Kind
from gateway.limits.script import Keys, RuleSet
from gateway.limits.store import Policy, Unavailable
from tests.limits.world import Notes, admit, redis_limits, rule, settled, wall_ms
from tests.support.redis_server import RedisServer, running_cluster, running_redis

KEYS = Keys("test")
TEN = rule(Kind.REQUESTS, 1, burst=10)
BUDGET = rule(Kind.TOKENS_PER_DAY, 10_000)
ONE = rule(Kind.CONCURRENT, 1)


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


def spent(server: RedisServer) -> int:
    with server.client() as client:
        return int(client.hget(KEYS.rule(BUDGET), "u") or 0)


def books(server: RedisServer) -> dict[bytes, bytes]:
    with server.client() as client:
        return dict(client.hgetall(KEYS.books(wall_ms() // DAY_MS)))


async def use(store: Any, tokens: int = 10) -> bool:
    """Make one whole call; return whether it was admitted."""
    reservation = await admit(store, TEN, BUDGET, ONE, tokens=tokens)
    if reservation.verdict.admitted:
        store.settle(reservation, Amounts(tokens), {b"calls": 1})
    return bool(reservation.verdict.admitted)


def test_four_stores_share_one_limit(server: RedisServer) -> None:
    async def main() -> None:
        async with (
            redis_limits(server) as one,
            redis_limits(server) as two,
            redis_limits(server) as three,
            redis_limits(server) as four,
        ):
            stores = (one, two, three, four)
            answers = await asyncio.gather(*(admit(store, TEN) for store in stores for _ in range(50)))
            assert sum(answer.verdict.admitted for answer in answers) == 10

    asyncio.run(main())


@pytest.mark.parametrize(("policy", "served"), [("open", 30), ("local", 10), ("closed", 0)])
def test_a_gateway_starts_without_redis_and_follows_its_policy(policy: Policy, served: int) -> None:
    async def main() -> None:
        notes = Notes()
        async with redis_limits("redis://127.0.0.1:1", policy=policy, notes=notes) as store:
            admitted = 0
            for _ in range(30):
                try:
                    admitted += await use(store)
                except Unavailable:
                    assert policy == "closed"
            assert admitted == served
            assert notes.alone == 30
            assert notes.failures["refused"] >= 1

    asyncio.run(main())


def test_without_redis_four_processes_admit_no_more_than_the_limit(server: RedisServer) -> None:
    async def main() -> None:
        async with (
            redis_limits(server, policy="local") as one,
            redis_limits(server, policy="local") as two,
            redis_limits(server, policy="local") as three,
            redis_limits(server, policy="local", timeout_s=1.0) as four,
        ):
            stores = (one, two, three, four)
            for store in stores:  # each learns of the others with its next renewal
                store._renew(store._wire, tell=False)  # type: ignore[arg-type]  # it is connected
            await asyncio.gather(*(admit(store, ONE) for store in stores))
            server.kill()
            answers = []
            for _ in range(20):
                answers += [await admit(store, TEN) for store in stores]
            assert sum(answer.verdict.admitted for answer in answers) == 10
            assert {answer.shared for answer in answers[4:]} == {False}

    asyncio.run(main())


def test_what_was_used_while_redis_was_away_is_in_the_books_when_it_is_back(server: RedisServer) -> None:
    async def main() -> None:
        notes = Notes()
        async with redis_limits(server, notes=notes) as store:
            assert await use(store, 7)
            await settled(store)
            before = await admit(store, ONE, BUDGET, tokens=100)
            server.kill()
            assert await use(store, 20)
            store.settle(before, Amounts(30), {b"calls": 1})
            await notes.until(lambda: not notes.states[-1])
            assert store.unsettled == 2
            server.start()
            await notes.until(lambda: notes.states[-1])
            await settled(store)
            # A Redis that comes back empty has lost what was in it, and nothing else.
            assert spent(server) == 50
            assert books(server) == {b"calls": b"2"}
            assert (await admit(store, ONE)).verdict.admitted, "a call that ended while Redis was away still holds"

    asyncio.run(main())


def test_a_frozen_redis_costs_one_time_out_and_counts_nothing_twice(server: RedisServer) -> None:
    async def main() -> None:
        notes = Notes()
        async with redis_limits(server, notes=notes, timeout_s=0.2) as store:
            assert await use(store)
            await settled(store)
            server.pause()
            began = asyncio.get_running_loop().time()
            answers = await asyncio.gather(*(use(store) for _ in range(5)))
            waited = asyncio.get_running_loop().time() - began
            assert (len(answers), waited < 1.5) == (5, True)
            assert notes.failures["timeout"] >= 1
            began = asyncio.get_running_loop().time()
            for _ in range(50):
                await use(store)
            assert asyncio.get_running_loop().time() - began < 0.2, "calls still wait for a Redis known to be away"
            server.resume()
            await notes.until(lambda: notes.states[-1])
            await settled(store)
            assert spent(server) == 10 * 56
            assert books(server) == {b"calls": b"56"}
            assert (await admit(store, ONE)).verdict.admitted

    asyncio.run(main())


async def _flush_scripts(client: Any, _: RedisServer) -> None:
    client.script_flush()


async def _flush_all(client: Any, _: RedisServer) -> None:
    client.flushall()


@pytest.mark.parametrize("disturb", [_flush_scripts, _flush_all], ids=["scripts", "everything"])
def test_flushing_fails_no_call_and_leaves_nothing_locked(
    server: RedisServer, disturb: Callable[[Any, RedisServer], Awaitable[None]]
) -> None:
    async def main() -> None:
        notes = Notes()
        many = rule(Kind.CONCURRENT, 500)
        async with redis_limits(server, policy="closed", notes=notes) as store:
            with server.client() as client:
                stop = asyncio.Event()

                async def caller() -> int:
                    calls = 0
                    while not stop.is_set():
                        reservation = await admit(store, many, BUDGET, tokens=1)
                        await asyncio.sleep(0)
                        if reservation.verdict.admitted:
                            store.settle(reservation, Amounts(0), {b"calls": 1})
                            calls += 1
                    return calls

                callers = [asyncio.create_task(caller()) for _ in range(20)]
                for _ in range(20):
                    await asyncio.sleep(0.01)
                    await disturb(client, server)
                stop.set()
                calls = sum(await asyncio.gather(*callers))
                await settled(store)
                assert notes.states == [True]
                assert client.hgetall(KEYS.rule(many)) == {}
                if disturb is _flush_scripts:
                    assert books(server) == {b"calls": b"%d" % calls}

    asyncio.run(main())


@pytest.mark.parametrize(
    ("spoil", "mend", "reason"),
    [
        (("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0"), "oom"),
        (("REPLICAOF", "127.0.0.1", "1"), ("REPLICAOF", "NO", "ONE"), "readonly"),
        (("ACL", "SETUSER", "default", "-evalsha", "-eval"), ("ACL", "SETUSER", "default", "+@all"), "noperm"),
    ],
    ids=["full", "read-only", "forbidden"],
)
def test_a_redis_that_refuses_is_left_alone_until_it_does_not(
    server: RedisServer, spoil: tuple[str, ...], mend: tuple[str, ...], reason: str
) -> None:
    async def main() -> None:
        notes = Notes()
        async with redis_limits(server, notes=notes) as store:
            with server.client() as client:
                assert await use(store)
                client.execute_command(*spoil)
                for _ in range(5):
                    assert await use(store)
                assert notes.failures[reason] >= 1
                client.execute_command(*mend)
                await notes.until(lambda: notes.states[-1])
                await settled(store)
                assert spent(server) == 60

    asyncio.run(main())


def test_where_the_script_may_not_be_called_by_name_it_is_sent_whole(server: RedisServer) -> None:
    async def main() -> None:
        notes = Notes()
        with server.client() as client:
            client.execute_command("ACL", "SETUSER", "default", "-evalsha", "-script")
            async with redis_limits(server, policy="closed", notes=notes) as store:
                for _ in range(5):
                    assert await use(store)
                await settled(store)
            assert spent(server) == 50

    asyncio.run(main())


def test_a_wrong_password_is_a_redis_that_is_away(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        notes = Notes()
        with server.client() as client:
            client.config_set("requirepass", "right-secret")
        async with redis_limits(f"redis://:wrong-secret@127.0.0.1:{server.port}", notes=notes) as store:
            assert await use(store)
            assert notes.failures["wrongpass"] >= 1
        async with redis_limits(f"redis://:right-secret@127.0.0.1:{server.port}/3", policy="closed") as store:
            assert await use(store)

    asyncio.run(main())
    assert "secret" not in caplog.text


def test_a_killed_process_gives_back_what_it_held(server: RedisServer) -> None:
    async def main() -> None:
        async with redis_limits(server, lease_s=0.5) as survivor, redis_limits(server, lease_s=0.5) as killed:
            assert (await admit(killed, ONE, BUDGET, tokens=9_000)).verdict.admitted
            for task in killed._tasks:
                task.cancel()
            killed._wire.close()  # type: ignore[union-attr]  # as its death would
            assert not (await admit(survivor, ONE)).verdict.admitted
            async with asyncio.timeout(5):
                while not (await admit(survivor, ONE)).verdict.admitted:  # noqa: ASYNC110 - another process' clock
                    await asyncio.sleep(0.02)
            assert (await admit(survivor, BUDGET, tokens=9_000)).verdict.admitted

    asyncio.run(main())


@pytest.mark.parametrize("up", [True, False], ids=["admitted by redis", "admitted without it"])
def test_a_caller_who_leaves_in_the_turn_of_the_answer_holds_nothing(server: RedisServer, up: bool) -> None:
    async def main() -> None:
        async with redis_limits(server, timeout_s=1) as store:
            loop = asyncio.get_running_loop()
            if not up:
                server.pause()
            task = asyncio.create_task(admit(store, ONE, BUDGET, tokens=100))
            real, left = store._reserved, asyncio.Event()

            def answered(*arguments: Any) -> None:
                real(*arguments)
                left.set()
                task.cancel()

            store._reserved = answered  # type: ignore[assignment,method-assign]  # such a turn is rare
            await asyncio.wait_for(left.wait(), 5)
            with pytest.raises(asyncio.CancelledError):
                await task
            assert not store._holds
            assert not store.fallback._ledger.held()
            server.resume()
            deadline = loop.time() + 5
            while not store.up or store.unsettled:
                assert loop.time() < deadline
                await asyncio.sleep(0.01)
            assert (await admit(store, ONE, BUDGET, tokens=10_000)).verdict.admitted

    asyncio.run(main())


def test_keys_that_come_and_go_leave_no_shares_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fallback, "MOST_SHARES", 3)
    alone = fallback.Fallback("local", wall_ms)
    alone.share(living=2, rank=0)
    for _ in range(10):
        rules = RuleSet([rule(Kind.REQUESTS, 2)], KEYS)
        assert alone.reserve(rules, Amounts()).rules is rules
        assert 1 <= len(alone._shares) <= 3


def test_a_store_that_stops_leaves_nothing_behind(server: RedisServer) -> None:
    async def main() -> None:
        async with redis_limits(server) as store:
            for _ in range(3):
                await use(store)
            await admit(store, ONE)
        with server.client() as client:
            left = {name.decode() for name in client.scan_iter()}
            assert client.hgetall(KEYS.meta).keys() == {b"last"}
        assert left == {KEYS.meta, KEYS.rule(TEN), KEYS.rule(BUDGET), KEYS.books(wall_ms() // DAY_MS)}

    asyncio.run(main())


def test_on_a_cluster_the_node_with_the_keys_is_found_and_found_again() -> None:
    async def main() -> None:
        notes = Notes()
        with running_cluster() as nodes:
            for node in nodes:
                async with redis_limits(node, policy="closed", timeout_s=1.0) as store:
                    assert await use(store)
                    await settled(store)
            slots = [node.client() for node in nodes]
            owners = [client for client in slots if client.dbsize()]
            assert len(owners) == 1, "the keys are on several nodes"
            at = slots.index(owners[0])
            async with redis_limits(nodes[at - 1], timeout_s=1.0, notes=notes) as store:
                assert await use(store)
                await settled(store)
                nodes[at].kill()
                assert await use(store)
                nodes[at].start()
                await notes.until(lambda: notes.states[-1])
                await settled(store)
                assert store.up
            for client in slots:
                client.close()

    asyncio.run(main())


def test_a_caller_who_leaves_in_the_turn_of_the_answer_has_reserved_nothing(server: RedisServer) -> None:
    async def main() -> None:
        async with redis_limits(server, timeout_s=5) as store:
            rules = store.rule_set([ONE])

            class Leaving:
                """Cancels the task as soon as its answer has been read, before it runs on."""

                def redis_latency(self, seconds: float) -> None:
                    asyncio.get_running_loop().call_soon(task.cancel)

                def __getattr__(self, name: str) -> Any:
                    return lambda *_: None

            store._observer = Leaving()
            for _ in range(5):
                task = asyncio.create_task(store.reserve(rules, Amounts()))
                with pytest.raises(asyncio.CancelledError):
                    await task
            store._observer = Notes()
            await settled(store)
            assert (await store.reserve(rules, Amounts())).verdict.admitted

    asyncio.run(main())
