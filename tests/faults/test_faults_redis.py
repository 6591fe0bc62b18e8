"""A Redis that is killed, frozen, made read-only and flushed under load: each policy does what the docs say of it."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from deploy.local.engine import build
from tests.support.redis_server import RedisServer, running_redis
from tests.support.stack import KEY, config, model, running_gateway, running_local

CALLERS = 8
BODY = json.dumps({"model": "lmi", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 20})
STREAM = json.dumps({**json.loads(BODY), "stream": True})


class Load:
    """Callers that call all the time, and what they are told."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/v1/chat/completions"
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self.codes: Counter[str] = Counter()
        self.slowest_s = 0.0

    def caller(self, number: int) -> None:
        headers = {"authorization": f"Bearer {KEY}", "content-type": "application/json"}
        with httpx.Client(timeout=20) as client:
            while not self._stop.is_set():
                began = time.monotonic()
                answer = client.post(self._url, content=STREAM if number % 2 else BODY, headers=headers)
                took = time.monotonic() - began
                code = "ok" if answer.status_code == 200 else str(answer.json()["error"]["code"])
                with self._lock:
                    self.codes[f"{answer.status_code} {code}"] += 1
                    self.slowest_s = max(self.slowest_s, took)

    def stop(self) -> None:
        self._stop.set()

    def after(self, calls: int) -> None:
        """Return when so many more calls have been answered."""
        with self._lock:
            wanted = sum(self.codes.values()) + calls
        deadline = time.monotonic() + 20
        while sum(self.codes.values()) < wanted:
            assert time.monotonic() < deadline, "callers are stuck"
            time.sleep(0.005)


@pytest.fixture
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


def _killed(server: RedisServer) -> Callable[[], object]:
    server.kill()
    return server.start


def _frozen(server: RedisServer) -> Callable[[], object]:
    server.pause()
    return server.resume


def _read_only(server: RedisServer) -> Callable[[], object]:
    with server.client() as client:
        client.replicaof("127.0.0.1", "1")

    def mend() -> None:
        with server.client() as client:
            client.replicaof("NO", "ONE")

    return mend


def _flushed(server: RedisServer) -> Callable[[], object]:
    with server.client() as client:
        client.flushall()
        client.script_flush()
    return lambda: None


AWAY = {"killed": _killed, "frozen": _frozen, "read-only": _read_only}


@pytest.mark.parametrize("policy", ["open", "local", "closed"])
def test_no_caller_gets_a_500_whatever_happens_to_redis(redis_server: RedisServer, policy: str) -> None:
    settings: dict[str, Any] = {"limits_store": "redis", "redis_url": redis_server.url, "redis_policy": policy}
    with running_local({"lmi": build("lmi27")}) as local:
        given = config(local.url, model("lmi", "lmi", "27"), redis_timeout_s=0.5, **settings)
        given["keys"][0]["limits"] = {"requests_per_minute": 10**6, "concurrent_requests": 100, "tokens_per_day": 10**9}
        with running_gateway(given) as gateway, ThreadPoolExecutor(CALLERS) as callers:
            load = Load(gateway.url)
            running = [callers.submit(load.caller, number) for number in range(CALLERS)]
            try:
                load.after(20)
                for name, disturb in AWAY.items():
                    load.codes.clear()
                    mend = disturb(redis_server)
                    load.after(60)
                    told = set(load.codes)
                    mend()
                    if policy == "closed":
                        assert "503 limits_unavailable" in told, name
                        assert told <= {"200 ok", "503 limits_unavailable"}, name
                    else:
                        assert told == {"200 ok"}, name
                    is_back(gateway.url)
                    load.codes.clear()
                    load.after(20)
                    assert set(load.codes) == {"200 ok"}, f"after {name}"
                load.codes.clear()
                _flushed(redis_server)
                load.after(40)
                assert set(load.codes) == {"200 ok"}, "flushed"
            finally:
                load.stop()
            for caller in running:
                caller.result()
            assert load.slowest_s < 5.0


def is_back(url: str) -> None:
    """Return when the gateway has found Redis again."""
    deadline = time.monotonic() + 10
    while "gateway_redis_up 1.0" not in httpx.get(f"{url}/metrics").text:
        assert time.monotonic() < deadline, "Redis is not used again"
        time.sleep(0.02)
