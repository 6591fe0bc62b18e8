"""When the head of a reply came, and what it said: noted for whoever measures attempts."""

from __future__ import annotations

import contextlib
from time import monotonic

import pytest

from deploy.local import faults
from gateway.errors import GatewayError
from gateway.sagemaker.errors import ContainerError
from gateway.sagemaker.transport import Head
from tests.sagemaker.peer import Peer, PeerConnection, anyio_backend, within
from tests.sagemaker.target import Called, Listener, local, origin_of

__all__ = ["anyio_backend"]  # the fixture: both event loops

pytestmark = pytest.mark.anyio


async def noted(called: Called, operation: str) -> Head:
    """Return what a call of either operation has noted, whatever became of it."""
    head = Head()
    if operation == "whole":
        with contextlib.suppress(GatewayError, ContainerError):
            await within(called.target.invoke(b"{}", "req_1", head))
        return head
    listener = Listener()
    await within(called.target.stream(b"{}", "req_1", listener, head))
    await within(listener.over.wait())
    return head


@pytest.mark.parametrize("operation", ["whole", "stream"])
@pytest.mark.parametrize(
    ("fault", "status"),
    [
        pytest.param(None, 200, id="a reply"),
        pytest.param(faults.ModelError(status=500), 424, id="the container's error"),
        pytest.param(faults.ServiceUnavailable(), 503, id="SageMaker's error"),
    ],
)
async def test_a_head_is_noted_with_its_status(operation: str, fault: faults.Fault | None, status: int) -> None:
    async with local() as sagemaker:
        if fault is not None:
            sagemaker.add_fault(fault)
        before = monotonic()
        head = await noted(Called(origin_of(sagemaker.url)), operation)
        assert head.status == status
        assert head.at is not None
        assert before < head.at < monotonic()


@pytest.mark.parametrize("operation", ["whole", "stream"])
async def test_without_a_reply_nothing_is_noted(operation: str) -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\ncontent-len")
        peer.close()

    async with Peer(script) as peer:
        head = await noted(Called(peer.origin()), operation)
    assert (head.at, head.status) == (None, 0)


@pytest.mark.parametrize("operation", ["whole", "stream"])
async def test_of_a_request_that_was_sent_again_the_last_reply_counts(operation: str) -> None:
    async with local() as sagemaker:
        called = Called(origin_of(sagemaker.url))
        sagemaker.add_fault(faults.CloseIdle("next_request"))
        first = await noted(called, operation)
        second = await noted(called, operation)
        assert (called.resent, second.status) == ([called.target.name], 200)
        assert first.at is not None
        assert second.at is not None
        assert first.at < second.at
