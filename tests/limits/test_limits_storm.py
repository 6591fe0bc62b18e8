"""Many callers in several processes on one real Redis: limits are reached and never exceeded, and the books are right.

STORM_CALLS makes the storm longer; 100,000 calls take a minute or two.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from gateway.limits.gcra import DAY_MS
from gateway.limits.rules import Amounts
from gateway.limits.script import Keys
from tests.limits.storm import BUDGET, REQUESTS, RUNNING
from tests.limits.world import redis_limits, wall_ms
from tests.support.redis_server import RedisServer, running_redis

KEYS = Keys("test")
PROCESSES = 4
CALLS = int(os.environ.get("STORM_CALLS", "12000"))


@pytest.fixture
def server() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


@contextlib.contextmanager
def storms(server: RedisServer, folder: Path, calls: int, callers: int, *limits: str) -> Iterator[list[Any]]:
    """Start the processes; each has said its name."""
    started = []
    try:
        for number in range(PROCESSES):
            command = [
                server.url,
                str(callers),
                str(calls // PROCESSES),
                str(number),
                str(folder / str(number)),
                *limits,
            ]
            process = subprocess.Popen([sys.executable, "-m", "tests.limits.storm", *command], stdout=subprocess.PIPE)
            started.append(process)
        yield [(process, line(process.stdout)["process"]) for process in started]
    finally:
        for process in started:
            process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()


def line(stream: IO[bytes] | None) -> Any:
    assert stream is not None
    return json.loads(stream.readline())


def test_a_rate_is_reached_and_never_exceeded(server: RedisServer, tmp_path: Path) -> None:
    with storms(server, tmp_path, CALLS, 500, "requests", "tokens") as processes:
        began = time.time()
        seen = [line(process.stdout) for process, _ in processes]
        took_s = time.time() - began
    admitted = sum(one["admitted"] for one in seen) + sum(one["left"] for one in seen)
    least = sum(one["admitted"] for one in seen)
    assert sum(one["refused"] for one in seen) > 0, "the limit was not reached"
    assert least <= REQUESTS.burst + REQUESTS.amount * (took_s + 2) / 60
    # Who left while Redis was asked is counted as a request, too, without being seen here.
    assert admitted >= 0.98 * REQUESTS.burst


def test_calls_at_the_same_time_are_never_more_than_allowed(server: RedisServer, tmp_path: Path) -> None:
    with storms(server, tmp_path, CALLS // 2, 500, "running") as processes, server.client() as client:
        most = 0
        while any(process.poll() is None for process, _ in processes):
            held = client.hgetall(KEYS.rule(RUNNING))
            now = sum(int(number) for number in held.values())
            assert now <= RUNNING.amount
            most = max(most, now)
        seen = [line(process.stdout) for process, _ in processes]
        assert client.hgetall(KEYS.rule(RUNNING)) == {}
    assert most >= 0.98 * RUNNING.amount
    assert sum(one["refused"] for one in seen) > 0


@pytest.mark.parametrize("killed", [0, 2], ids=["nobody dies", "two are killed"])
def test_every_counter_is_the_sum_of_what_was_used_and_nothing_stays_held(
    server: RedisServer, tmp_path: Path, killed: int
) -> None:
    with storms(server, tmp_path, CALLS, 100, "running", "budget") as processes, server.client() as client:
        names = [name for _, name in processes]
        for process, name in processes[:killed]:
            while int(client.get(f"{KEYS.meta}:s:{name}") or 0) < 50:
                assert process.poll() is None
            process.kill()
        for process, _ in processes[killed:]:
            line(process.stdout)
        for process, _ in processes:
            process.wait()
        asyncio.run(until_nothing_is_held(server))

        used = 0
        for number, name in enumerate(names):
            # Of a process that was killed, what Redis has taken; of one that ended by itself, everything.
            taken = int(client.get(f"{KEYS.meta}:s:{name}") or 0) if number < killed else sys.maxsize
            for entry in (tmp_path / str(number)).read_text().splitlines():
                sequence, tokens = map(int, entry.split())
                used += tokens if sequence <= taken else 0
        books = client.hgetall(KEYS.books(wall_ms() // DAY_MS))
        assert int(books[b"storm|tokens"]) == used
        assert int(client.hget(KEYS.rule(BUDGET), "u") or 0) == used
        assert client.hgetall(KEYS.rule(BUDGET)).keys() == {b"p", b"u"}
        assert client.hgetall(KEYS.rule(RUNNING)) == {}
        assert client.hgetall(KEYS.meta).keys() <= {b"last", b"offset"}
        assert not list(client.scan_iter(f"{KEYS.meta}:h:*"))


async def until_nothing_is_held(server: RedisServer) -> None:
    """Another process' renewals sweep the leases of those that were killed."""
    async with redis_limits(server, lease_s=0.5, timeout_s=5) as store, asyncio.timeout(20):
        everything = store.rule_set([RUNNING])
        while True:
            reservation = await store.reserve(everything, Amounts())
            store.settle(reservation, Amounts(), {})
            if reservation.verdict.standings[0].remaining == RUNNING.amount - 1 and not await leases(server):
                return
            await asyncio.sleep(0.05)


async def leases(server: RedisServer) -> int:
    """Return how many leases of others there are."""
    with server.client() as client:
        return len([field for field in client.hkeys(KEYS.meta) if field.startswith(b"o:")]) - 1
