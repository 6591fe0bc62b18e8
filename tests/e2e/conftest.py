"""The end-to-end tests' stack, started once and shared, and the official clients.

A test that makes calls fail asks for `local` or `slow`, which forget their faults afterwards.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import openai
import pytest

from tests.support.callers import VERSION_VARIABLE, Caller
from tests.support.full_stack import DIALECTS, Stack, running_stack
from tests.support.stack import KEY, Gateway, Local
from tests.support.watching import Watch, watching


@pytest.fixture(scope="session", autouse=True)
def watch() -> Iterator[Watch]:
    """Every answer that comes to a client of these tests is held against OpenAI's own description of its API."""
    with watching() as watch:
        yield watch


@pytest.fixture(autouse=True)
def _answers_are_as_openai_has_them(watch: Watch) -> Iterator[None]:
    yield
    problems, watch.problems = watch.problems, []
    assert not problems, "\n".join(problems)


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    with running_stack() as stack:
        yield stack


@pytest.fixture
def gateway(stack: Stack) -> Gateway:
    return stack.gateway


@pytest.fixture
def local(stack: Stack) -> Iterator[Local]:
    yield stack.local
    stack.local.clear_faults()


@pytest.fixture
def slow(stack: Stack) -> Iterator[Local]:
    yield stack.slow
    stack.slow.clear_faults()


@pytest.fixture(scope="session")
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    """The client; it never repeats a call, so that every failure is seen."""
    assert openai.__version__.startswith(os.environ.get(VERSION_VARIABLE, "")), openai.__version__
    with openai.OpenAI(base_url=stack.gateway.base_url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture(scope="session")
def runner() -> Iterator[asyncio.Runner]:
    """The loop of the asynchronous client."""
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="session")
def async_client(stack: Stack, runner: asyncio.Runner) -> Iterator[openai.AsyncOpenAI]:
    """The asynchronous client, to be used within `runner.run` only."""
    client = openai.AsyncOpenAI(base_url=stack.gateway.base_url, api_key=KEY, max_retries=0, timeout=20)
    yield client
    runner.run(client.close())


@pytest.fixture(params=["client-whole", "client-stream", "async-whole", "async-stream"])
def caller(
    request: pytest.FixtureRequest, client: openai.OpenAI, async_client: openai.AsyncOpenAI, runner: asyncio.Runner
) -> Caller:
    """Call in each way. Some whole replies come through InvokeEndpoint, the others are gathered from a stream."""
    stream = request.param.endswith("stream")
    if request.param.startswith("client"):
        return Caller(client, stream=stream, variant="" if stream else "-invoke")
    return Caller(async_client, stream=stream, variant="" if stream else "-stream", runner=runner)


@pytest.fixture(params=("lmi27", "vllm") if VERSION_VARIABLE in os.environ else DIALECTS)
def dialect(request: pytest.FixtureRequest) -> str:
    """The name of a model in each kind of container."""
    return str(request.param)
