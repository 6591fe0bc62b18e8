"""The list of models, and one of them: names with slashes, aliases, and only what the key may use."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.support.stack import NARROW_KEY, Gateway

LLAMA = {
    "id": "meta/llama-3.3-70b",
    "object": "model",
    "created": 1735689600,
    "owned_by": "platform-team",
    "aliases": ["gpt-4o", "team/chat:latest"],
    "context_length": 8192,
    "max_model_len": 8192,
    "modalities": ["text", "image"],
    "root": "meta/llama-3.3-70b",
    "parent": None,
}
HELLO: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture
def narrow(gateway: Gateway) -> Iterator[openai.OpenAI]:
    """A client whose key may use one model."""
    with openai.OpenAI(base_url=gateway.base_url, api_key=NARROW_KEY, max_retries=0) as client:
        yield client


def test_models_are_listed_in_the_order_of_the_file(client: openai.OpenAI) -> None:
    listed = list(client.models.list())
    ids = [model.id for model in listed]
    assert ids[:4] == ["meta/llama-3.3-70b", "lmi15", "lmi15-invoke", "lmi15-stream"]
    assert len(set(ids)) == len(ids)
    assert listed[0].to_dict() == LLAMA
    assert listed[1].to_dict() == {
        "id": "lmi15",
        "object": "model",
        "created": 0,
        "owned_by": "lmi-gateway",
        "aliases": [],
        "context_length": None,
        "max_model_len": None,
        "modalities": ["text", "image"],
        "root": "lmi15",
        "parent": None,
    }


def test_the_asynchronous_client_lists_the_same(
    client: openai.OpenAI, async_client: openai.AsyncOpenAI, runner: asyncio.Runner
) -> None:
    async def listed() -> list[str]:
        return [model.id async for model in async_client.models.list()]

    assert runner.run(listed()) == [model.id for model in client.models.list()]


@pytest.mark.parametrize("name", ["meta/llama-3.3-70b", "gpt-4o", "team/chat:latest"])
def test_a_model_is_found_by_name_or_alias(client: openai.OpenAI, narrow: openai.OpenAI, name: str) -> None:
    assert client.models.retrieve(name).to_dict() == LLAMA
    assert narrow.models.retrieve(name).to_dict() == LLAMA


@pytest.mark.parametrize("name", ["meta/llama-3.3-70b", "gpt-4o", "team/chat:latest"])
def test_a_reply_has_the_name_the_caller_used(client: openai.OpenAI, name: str) -> None:
    reply = client.chat.completions.create(model=name, messages=HELLO)
    assert (reply.model, reply.choices[0].message.content) == (name, "Hello! How can I help you today?")
    with client.chat.completions.create(model=name, messages=HELLO, stream=True) as stream:
        assert {chunk.model for chunk in stream} == {name}


def test_a_key_sees_its_own_models_only(narrow: openai.OpenAI) -> None:
    assert [model.id for model in narrow.models.list()] == ["meta/llama-3.3-70b"]


@pytest.mark.parametrize("name", ["lmi27", "nobody/knows-it", "meta", "llama-3.3-70b", "META/llama-3.3-70b"])
def test_other_models_do_not_exist(narrow: openai.OpenAI, name: str) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        narrow.models.retrieve(name)
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert caught.value.message.count(name) == 1


def test_models_cannot_be_deleted(client: openai.OpenAI) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        client.models.delete("lmi27")
    assert (caught.value.status_code, caught.value.code) == (405, "method_not_allowed")
