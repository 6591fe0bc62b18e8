"""A real container behind the local SageMaker: a server with /ping and /invocations, reached by URL."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import aioboto3
import pytest
from aiobotocore.config import AioConfig
from aiohttp import web
from botocore.exceptions import ClientError, EventStreamError

from deploy.local import ContainerRequest, Limits, LocalSageMaker
from deploy.local.httpcontainer import HttpContainer

pytestmark = pytest.mark.anyio

SESSION = aioboto3.Session()
ONCE: Any = {"total_max_attempts": 1}
Invocations = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def container(invocations: Invocations, *, ping_status: int = 200) -> AsyncIterator[str]:
    """Serve a container and yield its URL."""

    async def ping(request: web.Request) -> web.Response:
        return web.Response(status=ping_status)

    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_get("/ping", ping)
    app.router.add_post("/invocations", invocations)
    runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def client(local: LocalSageMaker) -> AsyncIterator[Any]:
    config = AioConfig(retries=ONCE)
    async with SESSION.client("sagemaker-runtime", config=config, **local.client_options()) as opened:
        yield opened


async def parts(reply: Any) -> list[bytes]:
    return [event["PayloadPart"]["Bytes"] async for event in reply["Body"]]


async def test_a_call_passes_through() -> None:
    seen: list[tuple[dict[str, str], bytes]] = []

    async def invocations(request: web.Request) -> web.Response:
        seen.append((dict(request.headers), await request.read()))
        return web.Response(
            body=b'{"ok":1}', content_type="application/json", headers={"X-Amzn-SageMaker-Custom-Attributes": "t=1"}
        )

    async with (
        container(invocations) as url,
        LocalSageMaker({"chat": HttpContainer(url)}) as local,
        client(local) as runtime,
    ):
        reply = await runtime.invoke_endpoint(
            EndpointName="chat", Body=b"in", ContentType="application/json", CustomAttributes="a=b"
        )
        assert await reply["Body"].read() == b'{"ok":1}'
        assert (reply["ContentType"], reply["CustomAttributes"]) == ("application/json", "t=1")
    headers, body = seen[0]
    assert body == b"in"
    assert {name.lower() for name in headers} == {
        "host",
        "content-type",
        "content-length",
        "accept",  # aiohttp, below aioboto3, sends */* of its own accord.
        "x-amzn-sagemaker-custom-attributes",
    }


async def test_a_large_body_passes_through() -> None:
    async def invocations(request: web.Request) -> web.Response:
        return web.Response(text=str(len(await request.read())))

    async with container(invocations) as url:
        answer = HttpContainer(url)
        reply = await answer.invoke(ContainerRequest(b"x" * 6_000_000))
        assert not isinstance(reply.body, bytes)
        assert b"".join([chunk async for chunk in reply.body]) == b"6000000"
        await answer.aclose()


async def test_chunks_arrive_as_they_are_written() -> None:
    go_on = asyncio.Event()

    async def invocations(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/jsonlines"})
        await response.prepare(request)
        await response.write(b'{"n":1}\n')
        await go_on.wait()
        await response.write(b'{"n":2}\n')
        await response.write(b"\n")
        return response

    async with (
        container(invocations) as url,
        LocalSageMaker({"chat": HttpContainer(url)}) as local,
        client(local) as runtime,
    ):
        reply = await runtime.invoke_endpoint_with_response_stream(EndpointName="chat", Body=b"{}")
        assert reply["ContentType"] == "application/jsonlines"
        events = aiter(reply["Body"])
        assert (await asyncio.wait_for(anext(events), 5))["PayloadPart"]["Bytes"] == b'{"n":1}\n'
        go_on.set()
        assert [event["PayloadPart"]["Bytes"] async for event in events] == [b'{"n":2}\n', b"\n"]


async def test_a_container_that_dies_in_mid_stream() -> None:
    async def invocations(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        assert request.transport is not None
        request.transport.close()
        return response

    async with (
        container(invocations) as url,
        LocalSageMaker({"chat": HttpContainer(url)}) as local,
        client(local) as runtime,
    ):
        reply = await runtime.invoke_endpoint_with_response_stream(EndpointName="chat", Body=b"{}")
        with pytest.raises(EventStreamError, match="ModelStreamError"):
            await parts(reply)
        reply["Body"].close()
        assert local.calls[0].frames_sent == 2


@pytest.mark.parametrize("before_head", [True, False], ids=["before the head", "in mid-stream"])
async def test_hanging_up_reaches_the_container(before_head: bool) -> None:
    reached, left = asyncio.Event(), asyncio.Event()

    async def invocations(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        try:
            if not before_head:
                await response.prepare(request)
                await response.write(b"one")
            reached.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            left.set()
            raise
        return response

    async with (
        container(invocations) as url,
        LocalSageMaker({"chat": HttpContainer(url)}) as local,
        client(local) as runtime,
    ):

        async def read() -> None:
            reply = await runtime.invoke_endpoint_with_response_stream(EndpointName="chat", Body=b"{}")
            try:
                await parts(reply)
            finally:
                reply["Body"].close()

        task = asyncio.create_task(read())
        await asyncio.wait_for(reached.wait(), 5)
        await local.call_sent_frames(1, 0 if before_head else 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await asyncio.wait_for(left.wait(), 5)
        assert (await local.call_ended(1)).hung_up_ms is not None


async def test_a_time_limit_hangs_up_on_the_container() -> None:
    left = asyncio.Event()

    async def invocations(request: web.Request) -> web.StreamResponse:
        try:
            await asyncio.Event().wait()
        finally:
            left.set()
        return web.Response()

    limits = Limits(invocation_timeout_s=0.05)
    async with (
        container(invocations) as url,
        LocalSageMaker({"chat": HttpContainer(url)}, limits=limits) as local,
        client(local) as runtime,
    ):
        with pytest.raises(ClientError, match="Your invocation timed out"):
            await runtime.invoke_endpoint(EndpointName="chat", Body=b"{}")
        await asyncio.wait_for(left.wait(), 5)


async def test_a_failing_ping_keeps_calls_away() -> None:
    async def invocations(request: web.Request) -> web.Response:
        raise AssertionError("no call was to come")

    async with (
        container(invocations, ping_status=500) as url,
        LocalSageMaker({"chat": HttpContainer(url)}) as local,
        client(local) as runtime,
    ):
        with pytest.raises(ClientError) as caught:
            await runtime.invoke_endpoint(EndpointName="chat", Body=b"{}")
        assert caught.value.response["Error"]["Code"] == "ModelNotReadyException"


async def test_a_container_that_is_not_there() -> None:
    async def nothing(request: web.Request) -> web.Response:
        return web.Response()

    async with container(nothing) as url:
        pass
    async with LocalSageMaker({"chat": HttpContainer(url)}) as local, client(local) as runtime:
        with pytest.raises(ClientError) as caught:
            await runtime.invoke_endpoint(EndpointName="chat", Body=b"{}")
        assert caught.value.response["Error"]["Code"] == "ModelNotReadyException"


async def test_connections_to_the_container_are_used_again() -> None:
    ports: set[object] = set()

    async def invocations(request: web.Request) -> web.StreamResponse:
        assert request.transport is not None
        ports.add(request.transport.get_extra_info("peername"))
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b"one")
        return response

    async with (
        container(invocations) as url,
        LocalSageMaker({"chat": HttpContainer(url)}) as local,
        client(local) as runtime,
    ):
        for _ in range(3):
            assert await parts(await runtime.invoke_endpoint_with_response_stream(EndpointName="chat", Body=b"{}")) == [
                b"one"
            ]
    assert len(ports) == 1
