"""AWS credentials run out while the gateway serves."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from deploy.local import AccessKey
from deploy.local.engine import build
from gateway.sagemaker import credentials
from gateway.sagemaker.credentials import Answer, Question
from gateway.sagemaker.sigv4 import Credentials
from tests.faults.inside import running_inside
from tests.faults.wire import CHAT, Caller, ask, chat, get, request
from tests.support.stack import Local, config, model, running_local

LIFE_S = 0.8


class Provider:
    """Gives a new access key at each call, each for a short time, and tells the local SageMaker to forget old ones."""

    def __init__(self, local: Local) -> None:
        self.local = local
        self.failing = False
        self.given: list[AccessKey] = []

    async def __call__(self, question: Question) -> Answer:
        if self.failing:
            return ["ConnectTimeoutError" for _ in question]
        key = AccessKey(f"ASIA{len(self.given):016d}", f"secret-{len(self.given)}", f"token-{len(self.given)}")
        self.given.append(key)
        self.local.server.set_access_keys(self.given[-2:])
        return [Credentials(key.id, key.secret, key.session_token, time.time() + LIFE_S) for _ in question]


@pytest.fixture
def local() -> Iterator[Local]:
    with running_local({"vllm": build("vllm-0.33")}) as local:
        yield local


def test_u36_credentials_are_renewed_before_they_expire_and_no_call_fails(
    local: Local, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials, "RETRY_S", 0.01)
    provider = Provider(local)
    with (
        running_inside(monkeypatch, config(local.url, model("vllm", "vllm", "0.33")), provider) as inside,
        Caller(inside.port) as caller,
    ):
        for number in range(10_000):
            caller.send(request("POST", CHAT, chat("vllm", stream=number % 2 == 0)))
            assert caller.answer().status == 200
            if len(provider.given) > 3:
                break
    used = {call.access_key_id for call in local.calls}
    assert len(used) > 2  # one after the other
    assert all(call.verified for call in local.calls)


def test_u36_without_valid_credentials_callers_are_not_blamed(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(credentials, "RETRY_S", 0.01)
    provider = Provider(local)
    with running_inside(monkeypatch, config(local.url, model("vllm", "vllm", "0.33")), provider) as inside:
        assert ask(inside.port, chat("vllm")).status == 200
        provider.failing = True
        deadline = time.monotonic() + 5
        while (answer := ask(inside.port, chat("vllm"))).status == 200:
            assert time.monotonic() < deadline
        for failed in (answer, ask(inside.port, chat("vllm", stream=True))):
            assert (failed.status, failed.code) == (502, "upstream_auth")
            assert failed.header("www-authenticate") is None
            assert "not about your API key" in failed.error["message"]
        assert get(inside.port, "/readyz").json == {"status": "unavailable", "problems": ["aws credentials: default"]}
        provider.failing = False
        deadline = time.monotonic() + 5
        while ask(inside.port, chat("vllm")).status != 200:
            assert time.monotonic() < deadline
        assert get(inside.port, "/readyz").status == 200


def test_u37_access_denied_for_good_shows_in_the_metrics(local: Local, monkeypatch: pytest.MonkeyPatch) -> None:
    async def denied(question: Question) -> Answer:
        return [Credentials("AKIADENIED0000000000", "secret") for _ in question]

    local.server.set_access_keys([AccessKey("AKIADENIED0000000000", "secret", denied=True)])
    with running_inside(monkeypatch, config(local.url, model("vllm", "vllm", "0.33")), denied) as inside:
        for _ in range(3):
            answer = ask(inside.port, chat("vllm"))
            assert (answer.status, answer.code) == (502, "upstream_auth")
            assert b"AKIA" not in answer.body
        metrics = get(inside.port, "/metrics").body.decode()
    assert 'gateway_calls_total{code="upstream_auth",model="vllm",surface="chat"} 3.0' in metrics
