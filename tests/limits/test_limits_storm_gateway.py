"""Many callers at whole gateways on one real Redis, a third of whom leave, while workers are killed.

Afterwards each key has paid for what it got, once, and nothing is held. STORM_CALLS makes the storm longer.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from gateway.limits.script import Keys
from tests.support.processes import cpu_s, until, workers
from tests.support.redis_server import RedisServer, running_redis
from tests.support.stack import Gateway, config, model, running_gateway

KEYS = Keys("lmi-gateway")
CALLERS, LEAVING = 30, 18
CALLS = int(os.environ.get("STORM_CALLS", "5000"))
TOKENS = 24 + 64
"""Of every complete answer, as the container counts them."""
SECRETS = [f"sk-lmi-{number:043d}" for number in range(CALLERS)]


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


@pytest.fixture
def sagemaker() -> Iterator[str]:
    process = subprocess.Popen([sys.executable, "-m", "tests.load.upstream"], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout:
        yield f"http://127.0.0.1:{re.findall('[0-9]+', process.stdout.readline())[0]}"
        process.kill()
        process.wait()


def limited(sagemaker: str, redis_server: RedisServer) -> dict[str, Any]:
    settings = {
        "workers": 3,
        "limits_store": "redis",
        "redis_url": redis_server.url,
        "redis_timeout_s": 5,
        "redis_policy": "closed",
        "lease_s": 2,
    }
    given = config(sagemaker, model("bench", "vllm", "0.27", limits={"concurrent_requests": 10_000}), **settings)
    limits = {"requests_per_minute": 10**9, "tokens_per_minute": 10**10, "concurrent_requests": 50}
    given["teams"] = [{"name": "all", "limits": {"tokens_per_day": 10**11, "concurrent_requests": 1_000}}]
    given["keys"] = [
        {
            "id": f"key{number}",
            "digest": f"sha256:{hashlib.sha256(secret.encode()).hexdigest()}",
            "models": ["*"],
            "team": "all",
            "limits": {**limits, "tokens_per_day": 10**10},
        }
        for number, secret in enumerate(SECRETS)
    ]
    return given


def storm(gateway: Gateway, kills: int) -> dict[str, dict[str, int]]:
    """Let the callers call, and kill workers meanwhile; return what each caller has seen."""
    command = [sys.executable, "-m", "tests.limits.storm_callers", gateway.url, str(CALLERS), str(CALLS), "7"]
    callers = subprocess.Popen([*command, str(LEAVING), *SECRETS], stdout=subprocess.PIPE, text=True)
    try:
        assert callers.stdout is not None
        watchdog = threading.Timer(60 + CALLS / 100, callers.kill)
        watchdog.start()
        seen: dict[str, Any] = {}
        for line in callers.stdout:
            seen = json.loads(line)
            if seen.get("begun") and kills:
                kills -= 1
                kill_one(gateway)
        watchdog.cancel()
        assert kills == 0
        return seen
    finally:
        callers.kill()
        callers.wait()
        if callers.stdout is not None:
            callers.stdout.close()


def kill_one(gateway: Gateway) -> None:
    """Kill the worker that has worked most, and return when another has taken its place."""
    victim = max(workers(gateway.pid), key=cpu_s)
    os.kill(victim, signal.SIGKILL)
    assert until(lambda: victim not in workers(gateway.pid) and len(workers(gateway.pid)) == 3)


@pytest.mark.parametrize("kills", [0, 3], ids=["nobody dies", "three workers are killed"])
def test_each_key_pays_once_for_what_it_got_and_nothing_stays_held(
    sagemaker: str, redis_server: RedisServer, kills: int
) -> None:
    with redis_server.client() as redis:
        with running_gateway(limited(sagemaker, redis_server)) as gateway:
            assert until(lambda: len(workers(gateway.pid)) == 3)
            seen = storm(gateway, kills)
            # The leases of the killed end by themselves, while the gateway goes on.
            assert until(lambda: held(redis) == {}, within_s=20)
        # The gateway has stopped: every settlement is in.
        (books,) = redis.scan_iter(f"{KEYS.meta}:u:*")
        rows = {field.decode(): int(value) for field, value in redis.hgetall(books).items()}
        budgets = {
            name.decode().removeprefix(f"{KEYS.meta}:r:"): redis.hgetall(name)
            for name in redis.scan_iter(f"{KEYS.meta}:r:*tokens_per_day")
        }
    assert len(seen) == CALLERS
    assert all(fields.keys() == {b"p", b"u"} for fields in budgets.values()), "something is still reserved"
    total = 0
    for name, calls in seen.items():
        assert calls["wrong"] == calls["refused"] == 0, (name, calls)
        row = f"{name}|all|bench|"
        counted = rows[f"{row}requests"]
        used = rows[f"{row}prompt_tokens"] + rows.get(f"{row}completion_tokens", 0)
        total += used
        assert int(budgets[f"key:{name}:tokens_per_day"][b"u"]) == used
        # A worker that dies takes with it at most the one call that it has just answered.
        complete, unknown = calls["complete"], calls["left"] + calls["cut"]
        assert complete - kills <= counted <= complete + unknown, (name, calls)
        if not unknown:
            assert used == counted * TOKENS, (name, calls)
        assert used >= (complete - kills) * TOKENS, (name, calls)
    assert int(budgets["team:all:tokens_per_day"][b"u"]) == total
    left = sum(calls["left"] for calls in seen.values())
    assert left >= 0.2 * CALLS
    assert (sum(calls["cut"] for calls in seen.values()) > 0) == (kills > 0)


def held(redis: Any) -> dict[str, dict[bytes, bytes]]:
    """Return what calls still hold: those that run, and what they have reserved."""
    found = {}
    for name in redis.scan_iter(f"{KEYS.meta}:r:*"):
        if redis.type(name) == b"hash":
            fields = {field: value for field, value in redis.hgetall(name).items() if field not in (b"p", b"u")}
            if fields:
                found[name.decode()] = fields
    return found
