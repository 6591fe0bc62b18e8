"""The whole product with keys in Redis: what the administration says holds in every worker within a second."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest
from openai import OpenAI

from deploy.local.engine import build
from gateway.auth.keys import digest, new_key
from tests.auth.identity import AUDIENCE, ISSUER, USUAL, token
from tests.support.redis_server import RedisServer, running_redis
from tests.support.stack import KEY, Gateway, Local, config, model, running_gateway, running_local

ADMIN = new_key()
OPEN = {"authorization": f"Bearer {ADMIN}"}
MODELS = (model("fast", "vllm", "0.33"),)


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    with running_local({"fast": build("vllm")}) as running:
        yield running


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


def settings(redis: RedisServer, **more: Any) -> dict[str, Any]:
    return {
        "redis_url": redis.url,
        "keys_store": "redis",
        "admin_port": 0,
        "admin_key_digest": digest(ADMIN),
        **more,
    }


def administration(gateway: Gateway) -> str:
    return next(found[1] for line in gateway.log if (found := re.search(r'"admin_url":"(http[^"]+)"', line)))


def until(condition: Callable[[], bool], within_s: float) -> bool:
    end = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def status(gateway: Gateway, key: str, **headers: str) -> int:
    """Return the status of a call on a connection of its own, so that any worker may be the one to answer."""
    given = {"authorization": f"Bearer {key}", **headers}
    return httpx.get(f"{gateway.base_url}/models", headers=given, timeout=10).status_code


def by_every_worker(gateway: Gateway, key: str, wanted: int) -> bool:
    return all(status(gateway, key) == wanted for _ in range(12))


@pytest.mark.parametrize("workers", [1, 2])
def test_a_key_is_made_used_rotated_and_revoked(local: Local, redis: RedisServer, workers: int) -> None:
    with redis.client() as client:
        client.flushall()
    with running_gateway(config(local.url, *MODELS, workers=workers, **settings(redis))) as gateway:
        with httpx.Client(base_url=administration(gateway), headers=OPEN, timeout=10) as admin:
            key = admin.post("/admin/keys", json={"id": "app", "models": ["fast"]}).json()["key"]
            assert until(lambda: by_every_worker(gateway, key, 200), 3)
            call = {"model": "fast", "messages": [{"role": "user", "content": "hello"}]}
            answer = httpx.post(f"{gateway.base_url}/chat/completions", json=call, headers={"api-key": key}, timeout=10)
            assert answer.status_code == 200

            new = admin.post("/admin/keys/app/rotate", json={"overlap_s": 600}).json()["key"]
            assert until(lambda: by_every_worker(gateway, new, 200), 3)
            assert by_every_worker(gateway, key, 200)

            assert admin.delete("/admin/keys/app").status_code == 200
            time.sleep(0.9)  # what is promised is a bound: under a second, in every process
            assert by_every_worker(gateway, new, 401)
            assert status(gateway, KEY) == 200, "the file's keys need no Redis"
        assert gateway.stop() == 0
        assert not [line for line in gateway.log if key in line or new in line or ADMIN in line]


def test_nothing_of_the_administration_is_on_the_callers_port(local: Local, redis: RedisServer) -> None:
    with running_gateway(config(local.url, *MODELS, **settings(redis))) as gateway:
        assert httpx.get(f"{gateway.url}/admin/keys", headers=OPEN).status_code == 404
        assert httpx.get(f"{administration(gateway)}/v1/models", headers={"api-key": KEY}).status_code == 404
        assert "admin" not in httpx.get(f"{gateway.url}/openapi.json").text


def test_without_redis_at_the_start_the_keys_of_the_file_are_served(local: Local) -> None:
    with running_redis() as away:
        configuration = config(local.url, *MODELS, **settings(away))
        away.kill()
        with running_gateway(configuration) as gateway:
            assert status(gateway, KEY) == 200
            assert status(gateway, new_key()) == 401
            assert any("keys in redis cannot be loaded" in line for line in gateway.log)
            assert gateway.stop() == 0


def test_a_key_for_another_network_and_guessing(local: Local) -> None:
    configuration = config(local.url, *MODELS)
    configuration["keys"].append(
        {"id": "office", "digest": digest(ADMIN), "models": ["*"], "networks": ["192.0.2.0/24"]}
    )
    with running_gateway(configuration) as gateway:
        answer = httpx.get(f"{gateway.base_url}/models", headers={**OPEN, "x-forwarded-for": "192.0.2.1"})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "address_not_allowed")
        found = [status(gateway, new_key(), **{"x-forwarded-for": f"203.0.113.{n}"}) for n in range(40)]
        assert found[:20] == [401] * 20
        assert found[-1] == 429
        assert status(gateway, KEY) == 200
        body = {"model": "fast", "messages": []}
        slowed = httpx.post(f"{gateway.base_url}/chat/completions", json=body, headers={"api-key": new_key()})
        assert (slowed.status_code, slowed.json()["error"]["code"]) == (429, "too_many_failed_attempts")
        assert slowed.headers["retry-after"] == "1"


def test_an_issuer_that_is_away_is_no_reason_not_to_start(local: Local) -> None:
    configuration = config(local.url, *MODELS)
    configuration["issuers"] = [
        {"name": "corp", "issuer": ISSUER, "audience": [AUDIENCE], "jwks_url": "http://127.0.0.1:9/", "models": ["*"]}
    ]
    with running_gateway(configuration) as gateway:
        assert status(gateway, KEY) == 200
        assert status(gateway, "a.b.c") == 401
        assert any("keys of a token issuer cannot be fetched" in line for line in gateway.log)
        assert gateway.stop() == 0


class Keys(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("content-length", str(len(USUAL)))
        self.end_headers()
        self.wfile.write(USUAL)

    def log_message(self, *_: object) -> None:
        pass


def test_a_token_of_an_issuer_makes_a_call(local: Local) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        configuration = config(local.url, *MODELS)
        url = f"http://127.0.0.1:{server.server_address[1]}/jwks.json"
        configuration["issuers"] = [
            {"name": "corp", "issuer": ISSUER, "audience": [AUDIENCE], "jwks_url": url, "models": ["fast"]}
        ]
        with running_gateway(configuration) as gateway:
            client = OpenAI(base_url=gateway.base_url, api_key=token().decode())
            answer = client.chat.completions.create(model="fast", messages=[{"role": "user", "content": "hello"}])
            assert answer.choices[0].message.content
            assert status(gateway, token(exp=1).decode()) == 401
            assert gateway.stop() == 0
        server.shutdown()
