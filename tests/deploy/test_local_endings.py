"""Time limits, failures inside a stream, and who hangs up on whom."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EventStreamError

from deploy.local import Container, ContainerReply, ContainerRequest, Limits, LocalSageMaker, faults
from deploy.local.scripted import ScriptedContainer
from tests.deploy.test_local_clients import LOGS, async_client, parsed, streamed, sync_client, whole

pytestmark = pytest.mark.anyio


TIMED_OUT = (
    "Your invocation timed out while waiting for a response from container primary. Review the latency metrics for "
    "each container in Amazon CloudWatch, resolve the issue, and try again."
)


@pytest.mark.parametrize("operation", [whole, streamed], ids=["whole", "stream"])
async def test_a_container_that_takes_too_long_is_a_model_error_with_status_0(operation: Any) -> None:
    container = ScriptedContainer(pause_after=0)
    async with LocalSageMaker({"chat": container}, limits=Limits(invocation_timeout_s=0.05)) as local:
        with pytest.raises(ClientError) as caught:
            await operation(sync_client(local))
    response: Any = caught.value.response
    assert parsed(caught.value) == (
        424,
        "ModelError",
        f'Received server error (0) from primary with message "{TIMED_OUT}". {LOGS}',
    )
    assert (response["OriginalStatusCode"], response["OriginalMessage"]) == (0, TIMED_OUT)
    assert container.hung_up.is_set()


async def test_a_whole_answer_that_stops_halfway_times_out_too() -> None:
    container = ScriptedContainer([b"a", b"b"], pause_after=1)
    async with LocalSageMaker({"chat": container}, limits=Limits(invocation_timeout_s=0.05)) as local:
        with pytest.raises(ClientError, match=r"Received server error \(0\) from primary with message \"Your invoc"):
            await whole(sync_client(local))
    assert container.hung_up.is_set()


async def collect(events: Any) -> tuple[list[bytes], str]:
    """Return a stream's parts and the text of the EventStreamError that ends it."""

    def read() -> tuple[list[bytes], str]:
        parts: list[bytes] = []
        try:
            for event in events:
                parts.append(event["PayloadPart"]["Bytes"])
        except EventStreamError as error:
            return parts, str(error)
        finally:
            events.close()
        return parts, ""

    return await asyncio.to_thread(read)


PREFIX = "An error occurred ({}) when calling the InvokeEndpointWithResponseStream operation: "


async def test_a_stream_that_takes_too_long_ends_in_a_model_stream_error() -> None:
    container = ScriptedContainer([b"a", b"b"], pause_after=1)
    async with LocalSageMaker({"chat": container}, limits=Limits(stream_timeout_s=0.05)) as local:
        client = sync_client(local)
        reply = await asyncio.to_thread(client.invoke_endpoint_with_response_stream, EndpointName="chat", Body=b"{}")
        parts, error = await collect(reply["Body"])
        assert local.calls[0].error == "ModelStreamError"
    assert parts == [b"a"]
    assert error == PREFIX.format("ModelStreamError") + (
        "Your model primary did not complete sending the inference response in the allotted time."
    )
    assert container.hung_up.is_set()


IN_STREAM = [
    pytest.param(
        {"kind": "model_stream_error", "after_frames": 1, "message": "too slow"},
        "ModelStreamError",
        "too slow",
        id="model",
    ),
    pytest.param(
        {"kind": "internal_stream_failure", "after_frames": 1, "message": "oh"},
        "InternalStreamFailure",
        "oh",
        id="internal",
    ),
    pytest.param(
        {"kind": "error_frame", "after_frames": 1, "code": "Bad", "message": "so"}, "Bad", "so", id="unmodelled"
    ),
    pytest.param(
        {"kind": "container_gone", "after_chunks": 1},
        "ModelStreamError",
        "The Transmission Control Protocol (TCP) connection between the client and the model was reset or closed.",
        id="the container hung up",
    ),
]


@pytest.mark.parametrize(("fault", "code", "message"), IN_STREAM)
async def test_failures_inside_a_stream(fault: Mapping[str, object], code: str, message: str) -> None:
    async with LocalSageMaker({"chat": ScriptedContainer([b"a", b"b"])}) as local:
        local.add_fault(fault)
        client = sync_client(local)
        reply = await asyncio.to_thread(client.invoke_endpoint_with_response_stream, EndpointName="chat", Body=b"{}")
        assert await collect(reply["Body"]) == ([b"a"], PREFIX.format(code) + message)

        local.add_fault(fault)
        async with async_client(local) as other:
            reply = await other.invoke_endpoint_with_response_stream(EndpointName="chat", Body=b"{}")
            with pytest.raises(EventStreamError, match=code):
                async for _ in reply["Body"]:
                    pass
            reply["Body"].close()


async def test_a_container_that_hangs_up_without_an_answer() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer()}) as local:
        local.add_fault(faults.ContainerGone())
        with pytest.raises(ClientError) as caught:
            await whole(sync_client(local))
    assert parsed(caught.value)[1] == "ModelError"
    assert "Amazon SageMaker could not get a response from the chat endpoint." in str(caught.value)


async def test_a_whole_answer_cut_short_by_the_container() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer([b"a", b"b"])}) as local:
        local.add_fault(faults.ContainerGone(after_chunks=1))
        with pytest.raises(ClientError) as caught:
            await whole(sync_client(local))
    expected = f"Received server error (0) from primary and could not load the entire response body. {LOGS}"
    assert parsed(caught.value) == (424, "ModelError", expected)


class Broken:
    """A container with a bug."""

    async def ping(self) -> int:
        return 200

    async def invoke(self, request: ContainerRequest) -> ContainerReply:
        raise KeyError("choices")

    async def aclose(self) -> None:
        pass


async def test_a_bug_in_a_container_is_logged_and_looks_like_a_lost_container(
    caplog: pytest.LogCaptureFixture,
) -> None:
    broken: Container = Broken()
    async with LocalSageMaker({"chat": broken}) as local:
        with pytest.raises(ClientError, match="could not get a response from the chat endpoint"):
            await whole(sync_client(local))
    assert [record.message for record in caplog.records] == ["a container failed"]


@pytest.mark.parametrize("pause_after", [0, 1, 2], ids=["before the head", "in mid-stream", "before the end"])
async def test_a_client_that_leaves_a_stream_is_noticed_by_the_container(pause_after: int) -> None:
    container = ScriptedContainer([b"a", b"b"], pause_after=pause_after)
    async with LocalSageMaker({"chat": container}) as local:
        async with async_client(local) as client:

            async def read() -> None:
                reply = await client.invoke_endpoint_with_response_stream(EndpointName="chat", Body=b"{}")
                try:
                    async for _ in reply["Body"]:
                        pass
                finally:
                    reply["Body"].close()

            task = asyncio.create_task(read())
            await local.call_sent_frames(1, pause_after)
            await asyncio.wait_for(container.paused.wait(), 5)
            assert local.calls[0].hung_up_ms is None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        call = await local.call_ended(1)
        await asyncio.wait_for(container.hung_up.wait(), 5)
        assert call.hung_up_ms is not None
        assert call.ended_ms is not None
        assert 0 < call.hung_up_ms <= call.ended_ms
        assert call.frames_sent == pause_after
        assert local.open_connections == 0


async def test_a_client_that_leaves_a_whole_call_is_noticed_by_the_container() -> None:
    container = ScriptedContainer(pause_after=0)
    async with LocalSageMaker({"chat": container}) as local, async_client(local) as client:
        task = asyncio.create_task(client.invoke_endpoint(EndpointName="chat", Body=b"{}"))
        await asyncio.wait_for(container.paused.wait(), 5)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        call = await local.call_ended(1)
        assert container.hung_up.is_set()
        assert (call.status, call.hung_up_ms is not None) == (None, True)


async def test_a_client_that_waits_for_a_delayed_answer_and_leaves() -> None:
    container = ScriptedContainer()
    async with LocalSageMaker({"chat": container}) as local, async_client(local) as client:
        local.add_fault(faults.Delay())
        task = asyncio.create_task(client.invoke_endpoint(EndpointName="chat", Body=b"{}"))
        await local.call_started(1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        call = await local.call_ended(1)
        assert call.hung_up_ms is not None
        assert container.requests == []


async def test_ending_the_server_ends_its_calls_and_closes_its_containers() -> None:
    container = ScriptedContainer([b"a", b"b"], pause_after=1)
    local = LocalSageMaker({"chat": container})
    await local.start()
    async with async_client(local) as client:
        reply = await client.invoke_endpoint_with_response_stream(EndpointName="chat", Body=b"{}")
        await asyncio.wait_for(container.paused.wait(), 5)
        await local.aclose()
        with pytest.raises(Exception, match=r"payload|reset|[Cc]losed|[Dd]isconnect"):
            async for _ in reply["Body"]:
                pass
        reply["Body"].close()
    assert container.hung_up.is_set()
    assert container.closed
    assert local.calls[0].ended
    assert local.calls[0].hung_up_ms is None


async def test_five_hundred_streams_at_once() -> None:
    chunks = [json.dumps({"n": number}).encode() + b"\n" for number in range(20)]
    async with LocalSageMaker({"chat": ScriptedContainer(chunks)}) as local, async_client(local) as client:

        async def one() -> bytes:
            reply = await client.invoke_endpoint_with_response_stream(EndpointName="chat", Body=b"{}")
            return b"".join([event["PayloadPart"]["Bytes"] async for event in reply["Body"]])

        assert set(await asyncio.gather(*(one() for _ in range(500)))) == {b"".join(chunks)}
        assert len(local.calls) == 500


async def test_botocore_takes_a_reset_before_any_byte_for_a_lost_connection() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer()}) as local:
        local.add_fault(faults.Reset())
        with pytest.raises(ConnectionClosedError):
            await whole(sync_client(local))
