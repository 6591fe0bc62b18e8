"""Stores under test, and what they say."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Any

from gateway.limits.redis import RedisLimits
from gateway.limits.rules import Amounts, Kind, Rule
from gateway.limits.store import LimitStore, Policy, Reservation
from gateway.limits.wire import Address
from tests.support.redis_server import RedisServer

RULES = (
    Rule("key:a", Kind.REQUESTS, 7, 7),
    Rule("key:a", Kind.TOKENS, 1000, 250),
    Rule("key:a", Kind.CONCURRENT, 3, 3),
    Rule("team:t", Kind.TOKENS_PER_DAY, 2000, 2000),
    Rule("key:a", Kind.MONEY_PER_DAY, 900, 900),
    Rule("key:a@m", Kind.MONEY_PER_MONTH, 1500, 1500),
    Rule("model:m", Kind.REQUESTS, 13, 4, shadow=True),
    Rule("model:m", Kind.CONCURRENT, 1, 1, shadow=True),
)
"""One of each kind, for random histories through ledgers that have to agree."""
PATIENCE_S = 10.0
TIMEOUT_S = 0.25


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


class Notes:
    """A StoreObserver that remembers, and lets a test wait for what it wants to see."""

    def __init__(self) -> None:
        self.failures: Counter[str] = Counter()
        self.states: list[bool] = []
        self.alone = 0
        self.answers = 0
        self._changed = asyncio.Event()

    def redis_latency(self, seconds: float) -> None:
        self.answers += 1

    def redis_failed(self, reason: str) -> None:
        self.failures[reason] += 1
        self._tell()

    def redis_state(self, up: bool) -> None:
        self.states.append(up)
        self._tell()

    def decided_alone(self) -> None:
        self.alone += 1

    def _tell(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not condition():
                await self._changed.wait()


@contextlib.asynccontextmanager
async def redis_limits(
    server: RedisServer | str,
    *,
    policy: Policy = "open",
    timeout_s: float = TIMEOUT_S,
    lease_s: float = 2.0,
    notes: Notes | None = None,
    **options: Any,
) -> AsyncIterator[RedisLimits]:
    url = server if isinstance(server, str) else server.url
    store = RedisLimits(
        [Address(url)],
        prefix="test",
        policy=policy,
        timeout_s=timeout_s,
        lease_s=lease_s,
        retention_s=3600,
        clock_ms=wall_ms,
        observer=notes or Notes(),
        **options,
    )
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


def rule(kind: Kind, amount: int, *, name: str = "key:a", burst: int | None = None, shadow: bool = False) -> Rule:
    return Rule(name, kind, amount, amount if burst is None else burst, shadow)


async def settled(store: RedisLimits) -> None:
    """Return when Redis has confirmed every settlement."""
    async with asyncio.timeout(PATIENCE_S):
        while store.unsettled:  # noqa: ASYNC110 - what is being waited for is in another process
            await asyncio.sleep(0.001)


async def admit(store: LimitStore, *rules: Rule, tokens: int = 0, money: int = 0) -> Reservation:
    return await store.reserve(store.rule_set(rules), Amounts(tokens, money))
