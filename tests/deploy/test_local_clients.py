"""The local SageMaker as boto3 and aioboto3 see it: both operations, headers, errors, cuts, time limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aioboto3
import boto3
import pytest
from aiobotocore.config import AioConfig
from botocore.config import Config
from botocore.exceptions import ClientError

from deploy.local import (
    ContainerRequest,
    Endpoint,
    LocalSageMaker,
)
from deploy.local.scripted import ScriptedContainer

pytestmark = pytest.mark.anyio

SESSION = boto3.Session()
AIO_SESSION = aioboto3.Session()
ONCE: Any = {"total_max_attempts": 1}
SSE = [b'data: {"a":"h\xc3\xa9\xf0\x9f\x98\x80"}\n\n', b": note\n\n", b"data: [DONE]\n\n"]


def sync_client(local: LocalSageMaker) -> Any:
    options: Any = local.client_options()
    return SESSION.client("sagemaker-runtime", config=Config(retries=ONCE), **options)


@asynccontextmanager
async def async_client(local: LocalSageMaker) -> AsyncIterator[Any]:
    config = AioConfig(retries=ONCE, max_pool_connections=500)
    async with AIO_SESSION.client("sagemaker-runtime", config=config, **local.client_options()) as client:
        yield client


async def whole(client: Any, **arguments: Any) -> tuple[dict[str, Any], bytes]:
    """Call InvokeEndpoint in a thread."""

    def call() -> tuple[dict[str, Any], bytes]:
        reply = client.invoke_endpoint(**{"EndpointName": "chat", "Body": b"{}"} | arguments)
        return reply, reply["Body"].read()

    return await asyncio.to_thread(call)


async def streamed(client: Any, **arguments: Any) -> tuple[dict[str, Any], list[bytes]]:
    """Call InvokeEndpointWithResponseStream in a thread and return the parts."""

    def call() -> tuple[dict[str, Any], list[bytes]]:
        reply = client.invoke_endpoint_with_response_stream(**{"EndpointName": "chat", "Body": b"{}"} | arguments)
        return reply, [event["PayloadPart"]["Bytes"] for event in reply["Body"]]

    return await asyncio.to_thread(call)


def parsed(error: ClientError) -> tuple[int, str, str | None]:
    """Return what botocore makes of an error: HTTP status, code, message."""
    response: Any = error.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"], response["Error"]["Message"]


LOGS = (
    "See https://us-east-1.console.aws.amazon.com/cloudwatch/home?region=us-east-1#logEventViewer:group=/aws/sagemaker/"
    "Endpoints/chat in account 111122223333 for more information."
)


# --- answers -------------------------------------------------------------------------------------------------------


async def test_boto3_gets_a_whole_answer_with_its_headers() -> None:
    container = ScriptedContainer(
        b'{"ok":true}', headers={"x-amzn-sagemaker-custom-attributes": "trace=1", "x-request-id": "internal"}
    )
    async with LocalSageMaker({"chat": container}) as local:
        reply, body = await whole(sync_client(local))
        call = local.calls[0]
    assert body == b'{"ok":true}'
    assert reply["ContentType"] == "application/json"
    assert reply["InvokedProductionVariant"] == "AllTraffic"
    assert reply["CustomAttributes"] == "trace=1"
    assert reply["ResponseMetadata"]["RequestId"] == call.request_id
    assert set(reply["ResponseMetadata"]["HTTPHeaders"]) == {
        "content-length",
        "content-type",
        "date",
        "x-amzn-invoked-production-variant",
        "x-amzn-requestid",
        "x-amzn-sagemaker-custom-attributes",
    }


async def test_boto3_gets_a_stream_with_its_headers() -> None:
    container = ScriptedContainer(SSE, content_type="text/event-stream; charset=utf-8")
    async with LocalSageMaker({"chat": Endpoint(container, variant="blue")}) as local:
        reply, parts = await streamed(sync_client(local))
    assert parts == SSE
    assert reply["ContentType"] == "text/event-stream; charset=utf-8"
    assert reply["InvokedProductionVariant"] == "blue"
    assert reply["ResponseMetadata"]["HTTPHeaders"]["content-type"] == "application/vnd.amazon.eventstream"
    assert reply["ResponseMetadata"]["HTTPHeaders"]["transfer-encoding"] == "chunked"


async def test_aioboto3_gets_both_kinds_of_answer_on_one_connection() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer(SSE)}) as local, async_client(local) as client:
        reply = await client.invoke_endpoint(EndpointName="chat", Body=b"{}")
        assert await reply["Body"].read() == b"".join(SSE)
        reply = await client.invoke_endpoint_with_response_stream(EndpointName="chat", Body=b"{}")
        assert [event["PayloadPart"]["Bytes"] async for event in reply["Body"]] == SSE
        assert (local.accepted, local.open_connections) == (1, 1)


CUTS = [
    pytest.param("as-written", 3, id="as written"),
    pytest.param("bytes", 45, id="byte by byte"),
    pytest.param("sizes:1,5,2", 17, id="given sizes"),
    pytest.param("random:7", None, id="random"),
    pytest.param("random:7:3", None, id="random, at most three bytes"),
    pytest.param("merge", 1, id="all in one"),
    pytest.param("merge:2", 2, id="two chunks a part"),
]


@pytest.mark.parametrize("chunking", ["frame", "split:1", "split:7", "join:2", "join:1000"])
@pytest.mark.parametrize(("cut", "count"), CUTS)
async def test_a_stream_reassembles_however_it_is_cut(cut: str, count: int | None, chunking: str) -> None:
    async with LocalSageMaker({"chat": ScriptedContainer(SSE)}, cut=cut, chunking=chunking) as local:
        async with async_client(local) as client:
            reply = await client.invoke_endpoint_with_response_stream(EndpointName="chat", Body=b"{}")
            parts = [event["PayloadPart"]["Bytes"] async for event in reply["Body"]]
        assert b"".join(parts) == b"".join(SSE)
        assert all(parts)
        assert count in (None, len(parts))
        assert local.calls[0].frames_sent == len(parts)


async def test_a_random_cut_is_the_same_for_every_call() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer(SSE)}, cut="random:7:5") as local:
        client = sync_client(local)
        _, first = await streamed(client)
        _, second = await streamed(client)
    assert first == second
    assert len(first) > 5


async def test_a_whole_body_is_streamed_in_one_part_or_as_cut() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer(b"0123456789")}) as local:
        client = sync_client(local)
        assert (await streamed(client))[1] == [b"0123456789"]
        local.add_fault({"kind": "cut", "mode": "sizes:4"})
        assert (await streamed(client))[1] == [b"0123", b"4567", b"89"]


# --- what reaches the container ------------------------------------------------------------------------------------


async def test_the_container_gets_the_modelled_headers_of_a_whole_call() -> None:
    container = ScriptedContainer()
    async with LocalSageMaker({"chat": Endpoint(container, variant="blue")}) as local:
        await whole(
            sync_client(local),
            Body=b"\x00body",
            ContentType="application/json",
            Accept="text/plain",
            CustomAttributes="route=/v1/chat/completions",
            TargetModel="model.tar.gz",
            TargetVariant="blue",
            TargetContainerHostname="host-1",
            InferenceId="id-1",
            EnableExplanations="`true`",
            SessionId="NEW_SESSION",
        )
    assert container.requests == [
        ContainerRequest(
            b"\x00body",
            {
                "content-type": "application/json",
                "accept": "text/plain",
                "x-amzn-sagemaker-custom-attributes": "route=/v1/chat/completions",
                "x-amzn-sagemaker-target-model": "model.tar.gz",
                "x-amzn-sagemaker-target-variant": "blue",
                "x-amzn-sagemaker-target-container-hostname": "host-1",
                "x-amzn-sagemaker-inference-id": "id-1",
                "x-amzn-sagemaker-enable-explanations": "`true`",
                "x-amzn-sagemaker-session-id": "NEW_SESSION",
            },
        )
    ]


async def test_the_container_gets_the_modelled_headers_of_a_stream() -> None:
    container = ScriptedContainer([b"x"])
    async with LocalSageMaker({"chat": container}) as local:
        await streamed(
            sync_client(local),
            ContentType="application/json",
            Accept="text/event-stream",
            CustomAttributes="a=b",
            InferenceId="id-1",
            SessionId="session-1",
        )
    assert container.requests[0].headers == {
        "content-type": "application/json",
        "accept": "text/event-stream",
        "x-amzn-sagemaker-custom-attributes": "a=b",
        "x-amzn-sagemaker-inference-id": "id-1",
        "x-amzn-sagemaker-session-id": "session-1",
    }


async def test_headers_that_sagemaker_does_not_list_never_reach_the_container() -> None:
    container = ScriptedContainer()
    async with LocalSageMaker({"chat": container}) as local:
        client = sync_client(local)

        def add(request: Any, **_: Any) -> None:
            request.headers["X-Request-Id"] = "r-1"
            request.headers["traceparent"] = "00-1-2-03"
            request.headers["X-Amzn-SageMaker-Adapter-Identifier"] = "stolen"

        client.meta.events.register("before-sign.sagemaker-runtime.*", add)
        await whole(client)
        call = local.calls[0]
    assert container.requests[0].headers == {}
    assert call.header("x-request-id") == "r-1"
    assert call.header("authorization") == "[redacted]"
    assert (call.verified, call.access_key_id) == (True, "AKIAIOSFODNN7EXAMPLE")


SESSIONS = [
    pytest.param(
        {"x-amzn-sagemaker-session-id": "s-1; Expires=2026-11-22T12:00:00Z"},
        {"NewSessionId": "s-1; Expires=2026-11-22T12:00:00Z"},
        id="opened, in LMI's words",
    ),
    pytest.param(
        {"x-amzn-sagemaker-new-session-id": "s-1; Expires=2026-11-22T12:00:00Z"},
        {"NewSessionId": "s-1; Expires=2026-11-22T12:00:00Z"},
        id="opened",
    ),
    pytest.param({"x-amzn-sagemaker-closed-session-id": "s-1"}, {"ClosedSessionId": "s-1"}, id="closed"),
    pytest.param({}, {}, id="none"),
]


@pytest.mark.parametrize(("headers", "expected"), SESSIONS)
async def test_sessions_that_the_container_opens_and_closes(
    headers: Mapping[str, str], expected: Mapping[str, str]
) -> None:
    async with LocalSageMaker({"chat": ScriptedContainer(headers=headers)}) as local:
        reply, _ = await whole(sync_client(local))
    assert {name: reply[name] for name in ("NewSessionId", "ClosedSessionId") if name in reply} == expected
