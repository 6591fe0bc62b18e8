"""Callers who leave: SageMaker sees the hang-up at once, whatever was going on, and the gateway keeps nothing.

A closed connection whose other half is still open is found out by writing to it twice, 20 ms apart. Measured on two
shared cores, 0.4 to 30 ms pass between the caller's last act and the moment SageMaker sees the hang-up.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from typing import Any

import openai
import pytest

from deploy.local import Call, faults
from tests.support.stack import KEY, Gateway, Local

HUNG_UP_WITHIN_MS = 250
"""Generous, as other work may share the machine."""
COUNT: Any = [{"role": "user", "content": "count to 100"}]
DIALECTS = ["lmi15", "lmi27", "vllm"]


def check_hang_up(call: Call, left: float) -> None:
    """Check that SageMaker saw its client hang up soon after the caller left, at `left` of the monotonic clock."""
    assert call.hung_up_ms is not None, "nobody hung up"
    delay_ms = call.hung_up_ms - call.ms_since_start(left)
    assert delay_ms < HUNG_UP_WITHIN_MS, f"{delay_ms} ms"


async def cancelled(call: Coroutine[Any, Any, Any], local: Local) -> float:
    """Start a call, cancel it once SageMaker has it, and return when that was."""
    n = len(local.calls) + 1
    task = asyncio.create_task(call)
    await asyncio.to_thread(local.call_started, n)
    left = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return left


@pytest.mark.parametrize("model", ["lmi15", "lmi27", "vllm", "lmi27-invoke", "lmi27-stream", "vllm-invoke", "held"])
def test_cancelled_before_the_first_byte(
    async_client: openai.AsyncOpenAI, runner: asyncio.Runner, local: Local, slow: Local, model: str
) -> None:
    behind = slow if model == "held" else local
    behind.add_fault(faults.Delay())
    stream = not model.endswith(("invoke", "stream"))
    created: Any = async_client.chat.completions.create(model=model, messages=COUNT, stream=stream)
    left = runner.run(cancelled(created, behind))
    check_hang_up(behind.last_call(), left)


@pytest.mark.parametrize("model", ["lmi27-invoke", "lmi27-stream", "vllm-invoke", "vllm-stream"])
def test_a_whole_reply_given_up_by_the_clients_own_time_limit(gateway: Gateway, local: Local, model: str) -> None:
    local.add_fault(faults.Delay())
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, timeout=0.2) as client:
        with pytest.raises(openai.APITimeoutError):
            client.chat.completions.create(model=model, messages=COUNT)
        left = time.monotonic()
    check_hang_up(local.last_call(), left)


@pytest.mark.parametrize("model", ["lmi27-slow", "vllm-slow"])
def test_a_whole_reply_given_up_while_it_is_gathered(
    async_client: openai.AsyncOpenAI, runner: asyncio.Runner, slow: Local, model: str
) -> None:
    async def leave() -> float:
        n = len(slow.calls) + 1
        task = asyncio.create_task(async_client.chat.completions.create(model=model, messages=COUNT))
        await asyncio.to_thread(slow.call_sent_frames, n, 5)
        left = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return left

    left = runner.run(leave())
    check_hang_up(slow.last_call(), left)


@pytest.mark.parametrize("silent", [False, True], ids=["while tokens come", "in a silence"])
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_closed_early(client: openai.OpenAI, local: Local, slow: Local, dialect: str, silent: bool) -> None:
    behind, model = (local, dialect) if silent else (slow, f"{dialect}-slow")
    if silent:
        behind.add_fault(faults.Stall(after_frames=4))
    stream = client.chat.completions.create(model=model, messages=COUNT, stream=True)
    for _ in range(3):
        next(iter(stream))
    left = time.monotonic()
    stream.close()
    call = behind.last_call()
    check_hang_up(call, left)
    assert call.frames_sent < 100, "count to 100 has 300 tokens"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_loop_left_early(client: openai.OpenAI, slow: Local, dialect: str) -> None:
    left = 0.0
    with client.chat.completions.create(model=f"{dialect}-slow", messages=COUNT, stream=True) as stream:
        for number, _ in enumerate(stream):
            if number == 3:
                left = time.monotonic()
                break
    check_hang_up(slow.last_call(), left)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_task_cancelled_while_it_reads(
    async_client: openai.AsyncOpenAI, runner: asyncio.Runner, local: Local, dialect: str
) -> None:
    local.add_fault(faults.Stall(after_frames=4))

    async def leave() -> float:
        reading = asyncio.Event()

        async def read() -> None:
            created: Any = async_client.chat.completions.create(model=dialect, messages=COUNT, stream=True)
            async with await created as stream:
                async for _ in stream:
                    reading.set()

        task = asyncio.create_task(read())
        await reading.wait()
        left = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return left

    left = runner.run(leave())
    check_hang_up(local.last_call(), left)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_given_up_by_the_clients_own_time_limit(gateway: Gateway, local: Local, dialect: str) -> None:
    local.add_fault(faults.Stall(after_frames=4))
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, timeout=0.2) as client:
        pieces: list[Any] = []
        with client.chat.completions.create(model=dialect, messages=COUNT, stream=True) as stream:
            # Up to some version the client lets its HTTP library's own exception through.
            with pytest.raises(Exception, match=r"(?i)timed out"):
                pieces.extend(stream)
            left = time.monotonic()
    assert len(pieces) == 4
    check_hang_up(local.last_call(), left)


def test_the_next_call_is_answered_after_many_have_left(
    async_client: openai.AsyncOpenAI, runner: asyncio.Runner, client: openai.OpenAI, local: Local
) -> None:
    local.add_fault(faults.Delay(), times=32)
    before = len(local.calls)

    async def leave() -> None:
        tasks: list[asyncio.Task[Any]] = []
        for number in range(32):
            created: Any = async_client.chat.completions.create(
                model="lmi27" if number % 2 else "vllm-invoke", messages=COUNT, stream=bool(number % 2)
            )
            tasks.append(asyncio.create_task(created))
        await asyncio.to_thread(local.call_started, before + 32)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    runner.run(leave())
    for n in range(before + 1, before + 33):
        assert local.call_ended(n).hung_up_ms is not None
    reply = client.chat.completions.create(model="lmi27", messages=[{"role": "user", "content": "hello"}])
    assert reply.choices[0].message.content == "Hello! How can I help you today?"
