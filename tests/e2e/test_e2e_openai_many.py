"""Many calls at once, and several deployments behind one name."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from typing import Any

import openai

from tests.support.callers import of_chunks, of_reply
from tests.support.full_stack import DIALECTS
from tests.support.stack import Local

AT_ONCE = 64
HELLO: Any = [{"role": "user", "content": "hello"}]


async def say(client: openai.AsyncOpenAI, number: int) -> tuple[str, str]:
    """Make one of four kinds of calls on one of the kinds of containers; return what was to be said, and what was."""
    dialect = list(DIALECTS)[number % len(DIALECTS)]
    kind = ("chat", "stream", "completion", "slow")[number // len(DIALECTS) % 4]
    token = f"token-{number:02} " + chr(0x1F600 + number) * (1 + number % 5)
    wanted = " ".join([token] * (1 + number % 7))
    prompt = f"repeat: {wanted}"
    messages: Any = [{"role": "user", "content": prompt}]
    headers = {"x-request-id": f"many-{number}"}
    if kind == "completion":
        made = await client.completions.create(model=dialect, prompt=prompt, max_tokens=500, extra_headers=headers)
        return wanted, of_reply(made).only.text
    if kind == "chat":
        reply = await client.chat.completions.create(model=dialect, messages=messages, extra_headers=headers)
        return wanted, of_reply(reply).only.text
    model = dialect if kind == "stream" else f"{dialect}-slow"
    created: Any = client.chat.completions.create(
        model=model, messages=messages, stream=True, max_tokens=30, extra_headers=headers
    )
    async with await created as stream:
        chunks = [chunk async for chunk in stream]
    text = of_chunks(chunks).only.text
    return wanted[: len(text)], text


def test_many_calls_at_once_do_not_mix(
    async_client: openai.AsyncOpenAI, runner: asyncio.Runner, local: Local, slow: Local
) -> None:
    before, slow_before = len(local.calls), len(slow.calls)

    async def all_at_once() -> list[tuple[str, str]]:
        return await asyncio.gather(*(say(async_client, number) for number in range(AT_ONCE)))

    said = runner.run(all_at_once())
    for wanted, text in said:
        assert text == wanted
        assert text.startswith("token-")
    calls = [*local.calls[before:], *slow.calls[slow_before:]]
    assert len(calls) == AT_ONCE, "one call each"
    ids = {call.header("x-amzn-sagemaker-inference-id") for call in calls}
    assert ids == {f"many-{number}" for number in range(AT_ONCE)}
    for call in calls:
        number = (call.header("x-amzn-sagemaker-inference-id") or "").removeprefix("many-")
        assert f"token-{int(number):02} ".encode() in call.body


def test_answers_come_side_by_side(
    async_client: openai.AsyncOpenAI, runner: asyncio.Runner, client: openai.OpenAI
) -> None:
    """One call takes 0.4 s: 32 of them would take 13 if any waited for another."""
    messages: Any = [{"role": "user", "content": "count to 10"}]

    async def all_at_once() -> float:
        loop = asyncio.get_running_loop()
        began = loop.time()
        calls = [async_client.chat.completions.create(model="vllm-slow", messages=messages) for _ in range(32)]
        replies = await asyncio.gather(*calls)
        assert {reply.choices[0].message.content for reply in replies} == {"1, 2, 3, 4, 5, 6, 7, 8, 9, 10"}
        return loop.time() - began

    assert runner.run(all_at_once()) < 4


def test_deployments_share_the_calls_by_weight(client: openai.OpenAI, local: Local) -> None:
    before = len(local.calls)
    for stream in (False, True) * 20:
        created: Any = client.chat.completions.create(model="weighted", messages=HELLO, stream=stream)
        answer = of_chunks(list(created)) if stream else of_reply(created)
        assert (answer.only.text, answer.model) == ("Hello! How can I help you today?", "weighted")
    used = [call.endpoint for call in local.calls[before:]]
    assert Counter(used) == {"heavy": 30, "light": 10}
    longest = max(len(list(run)) for _, run in itertools.groupby(used))
    assert longest <= 3, "spread evenly, not in blocks"
