"""Faults that take time, and connections that go stale between two calls, read with a bare socket."""

from __future__ import annotations

import asyncio
import time

import pytest

from deploy.local import Limits, LocalSageMaker, faults
from deploy.local.scripted import ScriptedContainer
from tests.deploy.test_local_wire import STREAM, WHOLE, ask, connect, parse, read_to_end, signed_request

pytestmark = pytest.mark.anyio

# --- time ----------------------------------------------------------------------------------------------------------


async def test_a_delay_holds_back_the_head() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer()}) as local:
        local.add_fault(faults.Delay(s=0.1))
        started = time.monotonic()
        seen = await ask(local, WHOLE)
        assert seen.status == 200
        assert 0.1 <= time.monotonic() - started < 5


async def test_a_delay_goes_with_any_answer() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer()}) as local:
        local.add_fault(faults.Delay(s=0.1))
        local.add_fault(faults.Throttle())
        local.add_fault(faults.RetryAfter(value="3"))
        started = time.monotonic()
        seen = await ask(local, WHOLE)
        assert (seen.status, seen.headers["retry-after"]) == (400, "3")
        assert time.monotonic() - started >= 0.1


async def test_a_stall_lasts_until_the_faults_are_cleared() -> None:
    loop = asyncio.get_running_loop()
    async with LocalSageMaker({"chat": ScriptedContainer([b"one", b"two"])}) as local:
        local.add_fault(faults.Stall(after_frames=1))
        sock = await connect(local)
        await loop.sock_sendall(sock, signed_request(local, STREAM))
        await local.call_sent_frames(1, 1)
        received = b""
        while b"one" not in received:
            received += await loop.sock_recv(sock, 65536)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(loop.sock_recv(sock, 1), 0.05)
        local.clear_faults()
        rest, connection = await read_to_end(sock)
        assert parse(received + rest, connection).frames == ["one", "two"]


async def test_a_stall_is_released_when_the_client_leaves() -> None:
    loop = asyncio.get_running_loop()
    container = ScriptedContainer([b"one", b"two"])
    async with LocalSageMaker({"chat": container}) as local:
        local.add_fault(faults.Stall(after_frames=1))
        sock = await connect(local)
        await loop.sock_sendall(sock, signed_request(local, STREAM))
        await local.call_sent_frames(1, 1)
        sock.close()
        call = await local.call_ended(1)
        assert (call.frames_sent, call.hung_up_ms is not None) == (1, True)
        assert container.hung_up.is_set()


async def test_a_drip_takes_its_time_for_each_byte() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer(b"0123456789")}) as local:
        local.add_fault(faults.Drip(interval_s=0.01))
        started = time.monotonic()
        seen = await ask(local, WHOLE)
        assert seen.body == b"0123456789"
        assert time.monotonic() - started >= 0.1


async def test_a_delay_is_not_the_containers() -> None:
    limits = Limits(invocation_timeout_s=0.05)
    async with LocalSageMaker({"chat": ScriptedContainer()}, limits=limits) as local:
        local.add_fault(faults.Delay(s=0.1))
        assert (await ask(local, WHOLE)).status == 200


# --- keep-alive ----------------------------------------------------------------------------------------------------


async def ask_twice(local: LocalSageMaker, fault: faults.Fault) -> tuple[bytes, str]:
    """Make a call with a fault, then another on the same connection; return what came after the first answer."""
    loop = asyncio.get_running_loop()
    local.add_fault(fault)
    sock = await connect(local)
    await loop.sock_sendall(sock, signed_request(local, WHOLE, keep_alive=True))
    received = b""
    while not received.endswith(b"answer"):
        received += await loop.sock_recv(sock, 65536)
    assert b"connection: close" not in received.lower()
    try:
        await loop.sock_sendall(sock, signed_request(local, WHOLE))
    except (BrokenPipeError, ConnectionResetError):
        sock.close()
        return b"", "refused"
    return await read_to_end(sock)


async def test_a_connection_can_go_stale_right_after_an_answer() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer(b"answer")}) as local:
        received, connection = await ask_twice(local, faults.CloseIdle())
        assert received == b""
        assert connection in ("rst", "fin", "refused")
        assert len(local.calls) == 1


@pytest.mark.parametrize(("reset", "connection"), [(False, "fin"), (True, "rst")])
async def test_a_connection_can_go_stale_as_the_next_request_arrives(reset: bool, connection: str) -> None:
    async with LocalSageMaker({"chat": ScriptedContainer(b"answer")}) as local:
        assert await ask_twice(local, faults.CloseIdle(when="next_request", reset=reset)) == (b"", connection)
        assert len(local.calls) == 1


async def test_without_a_fault_the_connection_is_used_again() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer(b"answer")}) as local:
        received, _ = await ask_twice(local, faults.Drip(interval_s=0))
        assert parse(received, "fin").body == b"answer"
        assert (len(local.calls), local.accepted) == (2, 1)
