"""GET /admin/limits: what each key, team and model has, and what of it is taken, wherever it is counted."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.admin.server import admin_app
from gateway.auth.keys import digest, new_key
from gateway.auth.records import made
from gateway.auth.registry import KeyRegistry
from gateway.config.load import Config, parse
from gateway.http.inside import Inside
from gateway.limits.memory import MemoryLimits
from gateway.limits.plan import rules_of
from gateway.limits.rules import Amounts
from gateway.limits.setup import make_store, wall_ms
from gateway.limits.store import LimitStore
from gateway.telemetry.prometheus import PrometheusTelemetry
from tests.support.redis_server import RedisServer, running_redis

KEY = new_key()
Found = dict[tuple[str, str, str], tuple[int | None, int | None]]
MORE = f"""
teams: [{{name: search, limits: {{tokens_per_day: 1000}}}}]
keys:
  - {{id: app, digest: 'sha256:{"a" * 64}', models: ['*'], team: search,
     limits: {{requests_per_minute: 60, concurrent_requests: 2}}, shadow_limits: {{money_per_day: 1.5}},
     model_limits: [{{model: gpt, tokens_per_minute: 500}}]}}
  - {{id: free, digest: 'sha256:{"b" * 64}', models: ['*']}}
"""


def configured(settings: str = "") -> Config:
    text = f"""
settings: {{admin_port: 0, admin_key_digest: '{digest(KEY)}'{settings and ", " + settings}}}
models:
  - name: llama
    aliases: [gpt]
    limits: {{concurrent_requests: 8}}
    deployments: [{{endpoint: e, region: us-east-1, container: lmi, version: 27}}]
{MORE}
"""
    return parse(text.encode(), "gateway.yaml", {})


def told(config: Config, inside: Inside | None = None) -> dict[str, Any]:
    async def main() -> dict[str, Any]:
        app = admin_app(config, inside=inside)
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))  # type: ignore[arg-type]  # an ASGI application, more narrowly typed
        async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            answer = await client.get("/admin/limits", headers={"authorization": f"Bearer {KEY}"})
        assert answer.status_code == 200
        body: dict[str, Any] = answer.json()
        return body

    return asyncio.run(main())


def taken(answer: dict[str, Any]) -> Found:
    return {
        (each["scope"], each["name"], each["limit"]): (each["taken"], each["reserved"]) for each in answer["limits"]
    }


RULES = (
    *rules_of("key:app", configured().keys[0].limits, configured().keys[0].shadow_limits),
    *rules_of("key:app@llama", configured().keys[0].model_limits[0], configured().models[0].shadow_limits),
    *rules_of("team:search", configured().teams[0].limits, configured().teams[0].shadow_limits),
    *rules_of("model:llama", configured().models[0].limits, configured().models[0].shadow_limits),
)
USED = {
    ("key", "app", "requests_per_minute"): (2, 0),
    ("key", "app", "concurrent_requests"): (1, 0),
    ("key", "app", "tokens_per_minute"): (130, 0),
    ("key", "app", "money_per_day"): (40, 70),
    ("team", "search", "tokens_per_day"): (30, 100),
    ("model", "llama", "concurrent_requests"): (1, 0),
}


async def use(store: LimitStore) -> None:
    """Let one call run, and one that used less than it had asked for end."""
    rules = store.rule_set(RULES)
    await store.reserve(rules, Amounts(100, 70))
    ended = await store.reserve(rules, Amounts(100, 70))
    store.settle(ended, Amounts(30, 40), {})


def rounded(found: Found) -> Found:
    """Allow for the milliseconds between a call and the look: a rate takes its debt back all the time."""
    return {
        rule: (USED[rule][0] if amount is not None and 0 <= USED[rule][0] - amount <= 20 else amount, reserved)
        for rule, (amount, reserved) in found.items()
    }


def test_in_the_memory_of_the_one_process() -> None:
    store = MemoryLimits(wall_ms)
    asyncio.run(use(store))
    answer = told(configured(), Inside(limits=store))
    assert rounded(taken(answer)) == USED
    assert (answer["problem"], answer["total"], answer["tokens"]) == (None, 6, False)
    assert [key["id"] for key in answer["keys"]] == ["app", "free"]
    (shadow,) = [each for each in answer["limits"] if each["shadow"]]
    assert (shadow["limit"], shadow["amount"]) == ("money_per_day", 1_500_000)
    (at_model,) = [each for each in answer["limits"] if each["model"]]
    assert (at_model["model"], at_model["most"]) == ("llama", 500), "an alias is the model it stands for"


def test_looking_changes_nothing() -> None:
    store = MemoryLimits(wall_ms)
    told(configured(), Inside(limits=store))
    assert (store.ledger.counters(), store.ledger.held()) == ({}, {})


def test_several_workers_that_count_by_themselves_cannot_be_asked() -> None:
    answer = told(configured("workers: 2"), Inside())
    assert set(taken(answer).values()) == {(None, None)}
    assert answer["problem"] == (
        "What is used of limits cannot be told: each worker process counts by itself; count in Redis"
        " (`limits_store: redis`)."
    )


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


def test_in_redis_for_all_processes(redis: RedisServer) -> None:
    config = configured(f"limits_store: redis, keys_store: redis, redis_url: '{redis.url}'")
    record, _ = made({"id": "made", "models": ["llama"], "limits": {"tokens_per_day": 7}}, wall_ms() / 1000)

    async def main() -> dict[str, Any]:
        registry = KeyRegistry(redis.url, prefix="lmi-gateway")
        await registry.create(record)
        await registry.close()
        store = make_store(config, PrometheusTelemetry().limits)
        await store.start()
        try:
            await use(store)
            return await asyncio.to_thread(told, config)
        finally:
            await store.stop()

    answer = asyncio.run(main())
    found = taken(answer)
    assert found.pop(("key", "made", "tokens_per_day")) == (0, 0), "keys in Redis have limits, too"
    assert rounded(found) == USED
    assert answer["problem"] is None
    gone = taken(told(config))
    assert gone["model", "llama", "concurrent_requests"] == (0, 0), "a process that has ended holds nothing"


def test_while_redis_is_away_it_says_so() -> None:
    answer = told(configured("limits_store: redis, redis_url: 'redis://127.0.0.1:1/0'"))
    assert set(taken(answer).values()) == {(None, None)}
    assert answer["problem"] == ("What is used of limits cannot be told: Redis does not answer, or not as it should.")


def test_what_others_have_put_there_is_no_reason_to_fail(redis: RedisServer) -> None:
    config = configured(f"limits_store: redis, redis_url: '{redis.url}', redis_prefix: odd")
    with redis.client() as client:
        client.set("{odd}:r:key:app:requests_per_minute", "nonsense")
        client.hset("{odd}:r:team:search:tokens_per_day", mapping={"p": "x"})
    answer = told(config)
    assert "cannot be told" in answer["problem"]
