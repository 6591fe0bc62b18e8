"""The control route, as tests in other processes use it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import aioboto3
import aiohttp
import pytest
from aiobotocore.config import AioConfig
from botocore.exceptions import ClientError

from deploy.local import Endpoint, LocalSageMaker
from deploy.local.calls import MAX_BODY_BYTES, CallLog
from deploy.local.control import is_loopback
from deploy.local.httpreply import Request
from deploy.local.scripted import ScriptedContainer

pytestmark = pytest.mark.anyio

SESSION = aioboto3.Session()
ONCE: Any = {"total_max_attempts": 1}


async def control(local: LocalSageMaker, method: str, path: str, body: object = None) -> tuple[int, Any]:
    """Return status and JSON of one control request."""
    async with aiohttp.ClientSession() as http:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        async with http.request(method, f"{local.url}/_local/{path}", data=data) as response:
            return response.status, await response.json()


async def invoke(local: LocalSageMaker, body: bytes = b"{}") -> str:
    """Make one call; return the code of its error or an empty string."""
    config = AioConfig(retries=ONCE)
    async with SESSION.client("sagemaker-runtime", config=config, **local.client_options()) as client:
        try:
            reply = await client.invoke_endpoint(EndpointName="chat", Body=body, InferenceId="i-1")
            await reply["Body"].read()
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return ""


async def test_faults_are_added_listed_and_cleared() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer()}) as local:
        fault = {"kind": "throttle", "endpoint": "chat", "operation": "InvokeEndpoint", "times": 2, "probability": 1}
        assert await control(local, "POST", "faults", fault) == (201, {"id": 1})
        assert await control(local, "POST", "faults", {"kind": "stall", "after_frames": 3, "times": None}) == (
            201,
            {"id": 2},
        )
        assert await invoke(local) == "ThrottlingException"
        assert await control(local, "GET", "faults") == (
            200,
            {
                "faults": [
                    {
                        "id": 1,
                        "endpoint": "chat",
                        "operation": "InvokeEndpoint",
                        "left": 1,
                        "probability": 1.0,
                        "kind": "throttle",
                    },
                    {
                        "id": 2,
                        "endpoint": None,
                        "operation": None,
                        "left": None,
                        "probability": 1.0,
                        "kind": "stall",
                        "after_frames": 3,
                        "s": None,
                    },
                ]
            },
        )
        assert await control(local, "DELETE", "faults/2") == (200, {})
        assert await control(local, "DELETE", "faults/2") == (404, {"error": "there is no fault 2"})
        assert await control(local, "DELETE", "faults") == (200, {})
        assert await control(local, "GET", "faults") == (200, {"faults": []})
        assert await invoke(local) == ""


BAD = [
    pytest.param({"kind": "explode"}, "unknown fault kind 'explode': use one of ", id="kind"),
    pytest.param({"kind": "throttle", "times": 0}, "times must be at least 1", id="times"),
    pytest.param({"kind": "throttle", "times": "2"}, "Expected `int | null`, got `str` - at `$.times`", id="type"),
    pytest.param({"kind": "reset", "after": 1}, "reset: Object contains unknown field `after`", id="option"),
    pytest.param([1], "Expected `object`, got `array`", id="no object"),
    pytest.param(b"{", "Input data was truncated", id="no JSON"),
]


@pytest.mark.parametrize(("body", "message"), BAD)
async def test_bad_faults_are_refused_in_words(body: object, message: str) -> None:
    async with LocalSageMaker({"chat": ScriptedContainer()}) as local:
        status, answer = await control(local, "POST", "faults", body)
        assert status == 400
        assert answer["error"].startswith(message)
        assert await invoke(local) == ""


async def test_calls_are_recorded() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer()}) as local:
        await invoke(local, "héllo".encode())
        await invoke(local, b"\xff\x00")
        status, answer = await control(local, "GET", "calls")
        first, second = answer["calls"]
        assert status == 200
        assert first["body"] == {"text": "héllo"}
        assert second["body"] == {"base64": "/wA="}
        assert first["headers"].count(["x-amzn-sagemaker-inference-id", "i-1"]) == 1
        assert ["authorization", "[redacted]"] in first["headers"]
        assert {name: first[name] for name in first if name not in ("headers", "body")} == {
            "n": 1,
            "endpoint": "chat",
            "operation": "InvokeEndpoint",
            "started_at": first["started_at"],
            "request_id": first["request_id"],
            "access_key_id": "AKIAIOSFODNN7EXAMPLE",
            "verified": True,
            "faults": [],
            "status": 200,
            "error": None,
            "frames_sent": 0,
            "hung_up_ms": None,
            "ended_ms": first["ended_ms"],
            "ended": True,
        }
        assert await control(local, "GET", "calls/2") == (200, second)
        assert await control(local, "GET", "calls/3") == (404, {"error": "there is no call 3"})


async def test_waiting_for_a_call() -> None:
    container = ScriptedContainer(pause_after=0)
    async with LocalSageMaker({"chat": container}) as local:
        started = asyncio.create_task(control(local, "GET", "calls/1/started"))
        ended = asyncio.create_task(control(local, "GET", "calls/1/ended?timeout_s=20"))
        call = asyncio.create_task(invoke(local))
        status, record = await asyncio.wait_for(started, 5)
        assert (status, record["n"], record["ended"]) == (200, 1, False)
        assert not ended.done()
        container.resume.set()
        status, record = await asyncio.wait_for(ended, 5)
        assert (status, record["status"], record["ended"]) == (200, 200, True)
        assert await call == ""


@pytest.mark.parametrize("path", ["calls/1/started", "calls/1/ended", "calls/1/frames/2"])
async def test_waiting_ends_after_its_time(path: str) -> None:
    async with LocalSageMaker({"chat": ScriptedContainer()}) as local:
        status, answer = await control(local, "GET", f"{path}?timeout_s=0.01")
        assert (status, answer) == (408, {"error": "call 1 did not get there in 0.01 s: there were 0 calls"})


async def test_connections_are_counted_without_those_of_the_control_route() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer()}) as local:
        assert await control(local, "GET", "connections") == (200, {"open": 0, "accepted": 0})
        config = AioConfig(retries=ONCE)
        async with SESSION.client("sagemaker-runtime", config=config, **local.client_options()) as client:
            for _ in range(2):
                reply = await client.invoke_endpoint(EndpointName="chat", Body=b"{}")
                await reply["Body"].read()
            assert await control(local, "GET", "connections") == (200, {"open": 1, "accepted": 1})
        await invoke(local)
        assert (await control(local, "GET", "connections"))[1]["accepted"] == 2


async def test_endpoints_are_listed() -> None:
    endpoints: Mapping[str, Any] = {
        "chat": ScriptedContainer(),
        "shared": Endpoint(ScriptedContainer(), variant="blue", components={"base": None, "polite": "adapter-1"}),
    }
    async with LocalSageMaker(endpoints) as local:
        assert await control(local, "GET", "endpoints") == (
            200,
            {
                "chat": {"variant": "AllTraffic", "components": {}},
                "shared": {"variant": "blue", "components": {"base": None, "polite": "adapter-1"}},
            },
        )


@pytest.mark.parametrize(
    ("method", "path"), [("GET", "nothing"), ("PUT", "faults"), ("GET", "calls/x"), ("GET", "../endpoints")]
)
async def test_there_is_nothing_else(method: str, path: str) -> None:
    async with LocalSageMaker({"chat": ScriptedContainer()}) as local:
        status, answer = await control(local, method, path)
        assert status == 404
        assert "error" in answer or answer == {"message": None}


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.1", False),
        ("::ffff:10.0.0.1", False),
        ("2001:db8::1", False),
        ("", False),
    ],
)
def test_who_is_of_this_machine(peer: str, expected: bool) -> None:
    assert is_loopback(peer) is expected


async def test_the_data_plane_has_no_other_routes() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer()}) as local, aiohttp.ClientSession() as http:
        for method, path in [
            ("GET", "/endpoints/chat/invocations"),
            ("POST", "/endpoints/chat/async-invocations"),
            ("POST", "/endpoints/a/b/invocations"),
            ("POST", "/"),
        ]:
            async with http.request(method, local.url + path) as response:
                assert (response.status, await response.json()) == (404, {"message": None})
                assert response.headers["x-amzn-ErrorType"] == "UnknownOperationException"
        assert local.calls == []


async def test_the_record_is_bounded() -> None:
    log = CallLog()
    body = b"x" * (MAX_BODY_BYTES // 4)
    for _ in range(6):
        log.begin(Request("POST", "/", (), body, oversized=False, peer=""), "chat", "InvokeEndpoint")
    assert [call.n for call in log.all()] == [3, 4, 5, 6]
    assert (await log.wait(3, lambda call: True, 1)).n == 3
    with pytest.raises(LookupError, match="call 2 is no longer recorded"):
        await log.wait(2, lambda call: True, 1)
    for _ in range(10_050):
        log.begin(Request("POST", "/", (), b"", oversized=False, peer=""), "chat", "InvokeEndpoint")
    assert (len(log.all()), log.all()[0].n, log.all()[-1].n) == (10_000, 57, 10_056)
