"""Every answer of these tests is held against OpenAI's description, and OpenAI's client can be strict about them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.support.callers import Caller
from tests.support.full_stack import DIALECTS
from tests.support.openai_schema import Kind
from tests.support.stack import KEY, Gateway
from tests.support.watching import Answer, Watch

HELLO: Any = [{"role": "user", "content": "hello"}]


class Seen:
    """How many bodies of each kind have been checked since it was made."""

    def __init__(self, watch: Watch) -> None:
        self._watch, self._before = watch, watch.seen.copy()

    def __call__(self) -> dict[Kind, int]:
        return dict(self._watch.seen - self._before)


@pytest.fixture
def seen(watch: Watch) -> Seen:
    return Seen(watch)


def test_whole_answers_are_seen(client: openai.OpenAI, seen: Seen) -> None:
    client.chat.completions.create(model="lmi27", messages=HELLO)
    client.completions.create(model="lmi27", prompt="hello")
    client.models.list()
    client.models.retrieve("lmi27")
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nope")
    assert seen() == {"chat": 1, "completion": 1, "models": 1, "model": 1, "error": 1}


def test_streams_are_seen_event_by_event_as_far_as_they_are_read(client: openai.OpenAI, seen: Seen) -> None:
    with client.chat.completions.create(model="vllm", messages=HELLO, stream=True) as stream:
        read = len(list(stream))
    assert seen() == {"chunk": read}
    with client.completions.create(model="vllm", prompt="hello", stream=True) as stream:
        read_too = len(list(stream))
    assert seen() == {"chunk": read, "completion chunk": read_too}
    dying: Any = [{"role": "user", "content": "fail after 3"}]
    with (
        pytest.raises(openai.APIError),
        client.chat.completions.create(model="vllm", messages=dying, stream=True) as it,
    ):
        list(it)
    assert seen()["error"] == 1


def test_the_asynchronous_client_is_seen_too(
    async_client: openai.AsyncOpenAI, runner: asyncio.Runner, seen: Seen
) -> None:
    answer = Caller(async_client, stream=True, runner=runner).chat("lmi27", "hello")
    assert seen() == {"chunk": len(answer.chunks)}


def test_so_is_every_other_client(gateway: Gateway, seen: Seen) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    assert httpx.get(f"{gateway.base_url}/models", headers=headers).status_code == 200
    assert httpx.post(f"{gateway.base_url}/nope").status_code == 404
    assert httpx.head(f"{gateway.base_url}/models").status_code == 405
    assert httpx.get(f"{gateway.url}/healthz").status_code == 200
    assert seen() == {"models": 1, "error": 1}


@pytest.mark.parametrize(("type_", "status", "body", "problem"), [
    pytest.param("application/json", 200, b'{"object":"list","data":[{}]}', "models: $.data[0]", id="field missing"),
    pytest.param("application/json", 404, b'{"detail":"Not Found"}', "error: $", id="no envelope"),
    pytest.param("application/json", 500, b"", "not JSON", id="nothing"),
    pytest.param("text/html", 502, b"<html>", "not JSON", id="a page"),
    pytest.param("text/event-stream", 200, b'data: {"a"\n\n', "event 1: not JSON", id="half an event's JSON"),
    pytest.param("text/event-stream", 200, b"data: {}\n", "cut inside an event", id="half an event"),
    pytest.param("text/event-stream", 200, b": x\n\ndata:{}\n\n", "event 1: not one line of data", id="no space"),
    pytest.param("text/event-stream", 200, b"event: x\ndata: {}\n\n", "not one line of data", id="two lines"),
    pytest.param("text/event-stream", 200, b'data: {"error":{"code":404}}\n\n', "event 1: error: $.error",
                 id="error without words"),
])  # fmt: skip
def test_what_is_wrong_is_told_with_the_call(type_: str, status: int, body: bytes, problem: str) -> None:
    stream = type_ == "text/event-stream"
    url = f"http://127.0.0.1/v1/{'chat/completions' if stream else 'models'}"
    for size in (1, 1000):
        watch = Watch()
        request = httpx.Request("POST", url, content=b'{"model":"m"}')
        answer = Answer(watch, request, httpx.Response(status, headers={"content-type": type_}))
        for start in range(0, len(body), size):
            answer.feed(body[start : start + size])
        answer.end()
        assert watch.problems, "nothing was found wrong"
        assert watch.problems[0].startswith(f'POST {request.url.path} {{"model":"m"}} -> {status}')
        assert problem in watch.problems[0]


@pytest.fixture(scope="module")
def strict(gateway_url: str) -> Iterator[openai.OpenAI]:
    """The client, set to raise at whatever is not as its types have it."""
    with openai.OpenAI(
        base_url=gateway_url, api_key=KEY, max_retries=0, timeout=20, _strict_response_validation=True
    ) as client:
        yield client


@pytest.fixture(scope="module")
def gateway_url(stack: Any) -> str:
    return str(stack.gateway.base_url)


@pytest.mark.parametrize("model", [*DIALECTS, "lmi15-stream", "lmi27-stream", "vllm-stream"])
def test_a_strict_client_is_content(strict: openai.OpenAI, model: str) -> None:
    tools: Any = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}}]
    for fields in ({}, {"logprobs": True}, {"n": 2, "temperature": 1.0}, {"tools": tools, "tool_choice": "required"}):
        asked: dict[str, Any] = {"model": model, "messages": HELLO, **fields}
        assert strict.chat.completions.create(**asked).choices
        with strict.chat.completions.create(**asked, stream=True) as stream:
            assert list(stream)
    assert strict.completions.create(model=model, prompt="hello", logprobs=1).choices
    assert json.loads(strict.models.retrieve(model).to_json())["id"] == model


def test_a_strict_client_would_not_be_content_with_less(strict: openai.OpenAI) -> None:
    """Its type of a text completion leaves out that a chunk has no finish reason yet."""
    with pytest.raises(openai.APIResponseValidationError):
        list(strict.completions.create(model="lmi27", prompt="hello", stream=True))
