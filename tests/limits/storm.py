"""One process of many callers, as the storm tests start it: `python -m tests.limits.storm URL CALLERS CALLS SEED LOG`.

Calls take random amounts, end at once or a moment later, are left by their callers, or fail. What is handed in for each
goes into LOG first, one line `sequence tokens` each, so that a killed process' books can be checked, too.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys

from gateway.limits.redis import RedisLimits
from gateway.limits.rules import Amounts, Kind, Rule
from gateway.limits.wire import Address
from tests.limits.world import Notes, settled, wall_ms

REQUESTS = Rule("key:storm", Kind.REQUESTS, 6_000, 2_000)
TOKENS = Rule("team:storm", Kind.TOKENS, 60_000_000, 2_000_000)
RUNNING = Rule("model:storm", Kind.CONCURRENT, 300, 300)
BUDGET = Rule("key:storm", Kind.TOKENS_PER_DAY, 10**10, 10**10)
LEFT = 0.3
"""The share of callers who leave."""


async def storm(url: str, callers: int, calls: int, seed: int, log: int, rules: tuple[Rule, ...]) -> dict[str, int]:
    chance = random.Random(seed)
    store = RedisLimits(
        [Address(url)],
        prefix="test",
        policy="closed",
        timeout_s=20.0,
        lease_s=2.0,
        retention_s=3600,
        clock_ms=wall_ms,
        observer=Notes(),
    )
    await store.start()
    prepared = store.rule_set(rules)
    seen = {"admitted": 0, "refused": 0, "left": 0, "most": 0}
    running = 0
    numbers = iter(range(calls))

    async def call() -> None:
        nonlocal running
        ask = Amounts(chance.randrange(1, 200))
        reservation = await store.reserve(prepared, ask)
        if not reservation.verdict.admitted:
            seen["refused"] += 1
            return
        seen["admitted"] += 1
        running += 1
        seen["most"] = max(seen["most"], running)
        used = 0
        try:
            if chance.random() < 0.5:
                await asyncio.sleep(chance.random() * 0.005)
            used = chance.randrange(250)
        finally:
            running -= 1
            os.write(log, b"%d %d\n" % (store._sequence + 1, used))
            store.settle(reservation, Amounts(used), {b"storm|requests": 1, b"storm|tokens": used})

    async def caller() -> None:
        for _ in numbers:
            task = asyncio.create_task(call())
            if chance.random() < LEFT:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
                task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                seen["left"] += 1

    print(json.dumps({"process": store._process.decode()}), flush=True)
    await asyncio.gather(*(caller() for _ in range(callers)))
    await settled(store)
    await store.stop()
    return seen


def main() -> None:
    url, callers, calls, seed, path, *limits = sys.argv[1:]
    by_name = {"requests": REQUESTS, "tokens": TOKENS, "running": RUNNING, "budget": BUDGET}
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    rules = tuple(by_name[name] for name in limits)
    print(json.dumps(asyncio.run(storm(url, int(callers), int(calls), int(seed), log, rules))), flush=True)


if __name__ == "__main__":
    main()
