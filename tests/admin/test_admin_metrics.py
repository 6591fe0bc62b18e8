"""Metrics on the administration's port: with its key, whether or not the callers' port has them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from deploy.local.engine import build
from gateway.auth.keys import digest, new_key
from tests.support.stack import KEY, Gateway, Local, config, model, running_gateway, running_local

ADMIN = new_key()
OPEN = {"authorization": f"Bearer {ADMIN}"}


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    with running_local({"m": build("vllm")}) as running:
        yield running


def configuration(local: Local, **settings: Any) -> dict[str, Any]:
    return config(local.url, model("m", "vllm", "0.33"), admin_port=0, admin_key_digest=digest(ADMIN), **settings)


def administration(gateway: Gateway) -> str:
    return next(found[1] for line in gateway.log if (found := re.search(r'"admin_url":"(http[^"]+)"', line)))


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("public", [True, False])
def test_the_administration_has_them_either_way(local: Local, workers: int, public: bool) -> None:
    with running_gateway(configuration(local, workers=workers, metrics_enabled=public)) as gateway:
        body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
        for _ in range(4):
            answer = httpx.post(f"{gateway.base_url}/chat/completions", json=body, headers={"api-key": KEY}, timeout=10)
            assert answer.status_code == 200
        url = f"{administration(gateway)}/metrics"
        assert httpx.get(f"{gateway.url}/metrics").status_code == (200 if public else 404)
        assert httpx.get(url).status_code == 401
        assert httpx.get(url, headers={"authorization": f"Bearer {KEY}"}).status_code == 401
        text = httpx.get(url, headers=OPEN)
        assert text.headers["content-type"].startswith("text/plain")
        assert 'gateway_calls_total{code="ok",model="m",surface="chat"} 4.0\n' in text.text
        assert f"gateway_workers {workers}.0\n" in text.text
        other = httpx.get(url, headers={**OPEN, "accept": "application/openmetrics-text"})
        assert other.headers["content-type"].startswith("application/openmetrics-text")
        assert other.text.endswith("# EOF\n")


@pytest.mark.parametrize("workers", [1, 2])
def test_without_telemetry_there_are_none(local: Local, workers: int) -> None:
    with running_gateway(configuration(local, workers=workers, telemetry_enabled=False)) as gateway:
        assert httpx.get(f"{gateway.url}/metrics").status_code == 404
        answer = httpx.get(f"{administration(gateway)}/metrics", headers=OPEN)
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "route_not_found")
