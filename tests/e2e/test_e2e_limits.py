"""Limits through a whole gateway: what callers are told, in OpenAI's words and in TGI's; nothing stays held."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest

from deploy.local.engine import build
from gateway.limits.script import Keys
from tests.support.redis_server import RedisServer, running_redis
from tests.support.stack import KEY, Gateway, config, model, running_gateway, running_local

KEYS = Keys("lmi-gateway")


@pytest.fixture(scope="module")
def redis_server() -> Iterator[RedisServer]:
    with running_redis() as server:
        yield server


@pytest.fixture(scope="module")
def sagemaker() -> Iterator[str]:
    slow = build("lmi27", token_delay_s=0.02)
    with running_local({"lmi": build("lmi27"), "slow": slow}) as local:
        yield local.url


@contextlib.contextmanager
def limited(
    sagemaker: str, *, key: dict[str, Any] | None = None, settings: dict[str, Any] | None = None, **more: Any
) -> Iterator[Gateway]:
    """Run a gateway whose one key and whose models have these fields more."""
    given = config(sagemaker, model("lmi", "lmi", "27", **more), model("slow", "lmi", "27", **more), **(settings or {}))
    given["keys"][0] |= key or {}
    with running_gateway(given) as gateway:
        yield gateway


def client(gateway: Gateway, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, **options)


def ask(caller: openai.OpenAI, **fields: Any) -> Any:
    given: dict[str, Any] = {
        "model": "lmi",
        "messages": [{"role": "user", "content": "hello"}],
        "max_tokens": 20,
        **fields,
    }
    return caller.chat.completions.create(**given)


def test_a_spent_rate_is_a_rate_limit_error_that_says_when_to_come_back(sagemaker: str) -> None:
    key = {"limits": {"requests_per_minute": 2}}
    with limited(sagemaker, key=key) as gateway, client(gateway) as caller:
        first = caller.chat.completions.with_raw_response.create(
            model="lmi", messages=[{"role": "user", "content": "hello"}]
        )
        assert first.headers["x-ratelimit-limit-requests"] == "2"
        assert first.headers["x-ratelimit-remaining-requests"] == "1"
        assert first.headers["x-ratelimit-reset-requests"] == "30s"
        with caller.chat.completions.with_streaming_response.create(
            model="lmi", messages=[{"role": "user", "content": "hello"}], stream=True
        ) as streamed:
            assert streamed.headers["x-ratelimit-remaining-requests"] == "0"
            streamed.read()
        with pytest.raises(openai.RateLimitError) as caught:
            ask(caller)
        error = caught.value
        assert (error.code, error.type) == ("rate_limit_exceeded", "requests")
        assert "Rate limit of 2 requests per minute for this API key" in error.message
        assert 20 <= int(error.response.headers["retry-after"]) <= 30
        assert 20_000 < int(error.response.headers["retry-after-ms"]) <= 30_000
        assert error.response.headers["x-ratelimit-remaining-requests"] == "0"


def test_the_official_client_waits_as_it_is_told_and_is_served(sagemaker: str) -> None:
    key = {"limits": {"requests_per_minute": 240, "requests_burst": 1}}
    with limited(sagemaker, key=key) as gateway:
        caller = openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=3)
        with caller, ThreadPoolExecutor(3) as callers:
            answers = list(callers.map(lambda _: ask(caller), range(3)))
        assert [answer.choices[0].message.content for answer in answers] == ["Hello! How can I help you today?"] * 3


def test_a_tgi_client_is_told_in_tgis_words(sagemaker: str) -> None:
    with limited(sagemaker, key={"limits": {"requests_per_minute": 1}}) as gateway:
        headers = {"authorization": f"Bearer {KEY}"}
        url = f"{gateway.url}/models/lmi/generate"
        assert httpx.post(url, json={"inputs": "hello"}, headers=headers).status_code == 200
        refused = httpx.post(url, json={"inputs": "hello"}, headers=headers)
        assert refused.status_code == 429
        assert set(refused.json()) == {"error", "error_type"}
        assert refused.json()["error"].startswith("Rate limit of 1 requests per minute")
        assert "retry-after" in refused.headers


def test_a_call_that_is_too_large_for_ever_is_not_worth_a_retry(sagemaker: str) -> None:
    key = {"limits": {"tokens_per_minute": 100}}
    with limited(sagemaker, key=key) as gateway, client(gateway) as caller:
        with pytest.raises(openai.RateLimitError) as caught:
            ask(caller, max_tokens=500)
        assert caught.value.type == "tokens"
        assert caught.value.response.headers["x-should-retry"] == "false"
        assert "retry-after" not in caught.value.response.headers


@pytest.mark.parametrize("store", ["memory", "redis"])
def test_a_caller_who_leaves_gives_its_place_back(sagemaker: str, redis_server: RedisServer, store: str) -> None:
    settings = {"limits_store": store, "redis_url": redis_server.url, "redis_timeout_s": 1}
    key = {"limits": {"concurrent_requests": 1, "tokens_per_day": 1_000_000}}
    with limited(sagemaker, key=key, settings=settings) as gateway, client(gateway) as caller:
        for _ in range(3):
            stream = ask(caller, model="slow", stream=True, messages=[{"role": "user", "content": "count"}])
            next(iter(stream))
            with pytest.raises(openai.RateLimitError) as caught:
                ask(caller)
            assert caught.value.code == "concurrency_limit_exceeded"
            stream.close()
            patient = caller.with_options(max_retries=5)
            assert ask(patient).choices[0].finish_reason == "stop"


def test_calls_over_a_models_number_wait_for_their_turn(sagemaker: str) -> None:
    more = {"limits": {"concurrent_requests": 1}, "waiting": {"most": 8, "seconds": 20}}
    with limited(sagemaker, **more) as gateway, client(gateway) as caller, ThreadPoolExecutor(4) as callers:
        answers = list(callers.map(lambda _: ask(caller, model="slow"), range(4)))
        assert {answer.choices[0].finish_reason for answer in answers} == {"stop"}
        metrics = httpx.get(f"{gateway.url}/metrics").text
        assert 'gateway_limit_decisions_total{decision="waited",limit="concurrent_requests",scope="model"}' in metrics
        assert 'decision="refused"' not in metrics


def test_workers_share_their_limits_and_their_books(sagemaker: str, redis_server: RedisServer) -> None:
    with redis_server.client() as redis:
        redis.flushall()
        settings = {"limits_store": "redis", "redis_url": redis_server.url, "workers": 2, "redis_timeout_s": 1}
        key = {"limits": {"requests_per_minute": 1, "requests_burst": 40, "tokens_per_day": 10**9}, "team": None}
        with limited(sagemaker, key=key, settings=settings) as gateway, client(gateway) as caller:

            def one(number: int) -> int | None:
                try:
                    if number % 2:
                        chunks = list(ask(caller, stream=True, stream_options={"include_usage": True}))
                        return int(chunks[-1].usage.total_tokens)
                    return int(ask(caller).usage.total_tokens)
                except openai.RateLimitError:
                    return None

            with ThreadPoolExecutor(16) as callers:
                used = [tokens for tokens in callers.map(one, range(100)) if tokens is not None]
            assert len(used) == 40
        # The gateway has stopped, so every settlement is in.
        (books,) = redis.scan_iter(f"{KEYS.meta}:u:*")
        rows = {field.decode(): int(value) for field, value in redis.hgetall(books).items()}
        assert rows["all||lmi|requests"] == 40
        assert rows["all||lmi|prompt_tokens"] + rows["all||lmi|completion_tokens"] == sum(used)
        (budget,) = redis.scan_iter(f"{KEYS.meta}:r:*tokens_per_day")
        assert redis.hgetall(budget).keys() == {b"p", b"u"}
        assert int(redis.hget(budget, "u") or 0) == sum(used)


def test_without_redis_a_closed_policy_says_so(sagemaker: str) -> None:
    settings = {"limits_store": "redis", "redis_url": "redis://127.0.0.1:1", "redis_policy": "closed"}
    with limited(sagemaker, key={"limits": {"requests_per_minute": 9}}, settings=settings) as gateway:
        answer = httpx.post(
            f"{gateway.base_url}/chat/completions",
            content=json.dumps({"model": "lmi", "messages": [{"role": "user", "content": "hello"}]}),
            headers={"authorization": f"Bearer {KEY}"},
        )
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "limits_unavailable")
        assert answer.headers["retry-after"] == "1"
