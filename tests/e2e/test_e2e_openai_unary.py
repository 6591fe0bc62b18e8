"""Whole replies, fetched with one InvokeEndpoint or gathered from a stream: the caller cannot tell, SageMaker can."""

from __future__ import annotations

import re
from typing import Any

import openai
import pytest

from tests.support.full_stack import DIALECTS, LIMIT_S
from tests.support.stack import Local

WHOLE, STREAM = "InvokeEndpoint", "InvokeEndpointWithResponseStream"
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
# The local vLLM 0.9 leaves `kv_transfer_params` out, like 0.8.
VOLATILE = re.compile(r'"id":"[a-z-]+[0-9a-f-]{16,}"|"created":\d+|,"kv_transfer_params":null')


def raw(client: openai.OpenAI, model: str, fields: dict[str, Any]) -> str:
    """Return a reply's JSON as it came, but for ids, the time, and one field."""
    resource: Any = client.completions if "prompt" in fields else client.chat.completions
    text = resource.with_raw_response.create(model=model, **fields).text
    return VOLATILE.sub("", text() if callable(text) else text)


def chat(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], **fields}


SAME = [
    pytest.param(chat("hello"), id="chat"),
    pytest.param(chat("emoji"), id="characters of several bytes"),
    pytest.param(chat("lines"), id="line breaks"),
    pytest.param(chat("count to 50", max_tokens=7), id="cut by max_tokens"),
    pytest.param(chat("count to 9", stop=["4"]), id="cut by stop"),
    pytest.param(chat("tell me", n=3, seed=4), id="three choices"),
    pytest.param(chat("weather in Rome", tools=[WEATHER], temperature=0), id="a tool"),
    pytest.param(chat("both", tools=[WEATHER, WEATHER], temperature=0), id="two tools"),
    pytest.param(chat("look at the weather", tools=[WEATHER], temperature=0), id="text and a tool"),
    pytest.param(chat("hi", tools=[WEATHER], tool_choice="required", temperature=0), id="a required tool"),
    pytest.param(chat("json", response_format={"type": "json_object"}), id="json"),
    pytest.param(chat("hello", extra_body={"chat_template_kwargs": {"enable_thinking": True}}), id="reasoning"),
    pytest.param({"prompt": "count to 3", "max_tokens": 50}, id="completion"),
    pytest.param({"prompt": ["count to 3", "hello"], "n": 2, "logprobs": 2}, id="prompts, choices, logprobs"),
    pytest.param({"prompt": "count to 3", "echo": True}, id="echo"),
]


@pytest.mark.parametrize("fields", SAME)
def test_a_gathered_reply_is_the_reply_invoke_endpoint_gives(
    client: openai.OpenAI, dialect: str, local: Local, fields: dict[str, Any]
) -> None:
    before = len(local.calls)
    whole = raw(client, f"{dialect}-invoke", fields).replace(f"{dialect}-invoke", dialect)
    gathered = raw(client, f"{dialect}-stream", fields).replace(f"{dialect}-stream", dialect)
    assert gathered == whole
    assert [call.operation for call in local.calls[before:]] == [WHOLE, STREAM]


@pytest.mark.parametrize(
    ("fields", "operation"),
    [
        pytest.param(chat("hello", max_tokens=1024), WHOLE, id="at most 1024 tokens"),
        pytest.param(chat("hello", max_tokens=1025), STREAM, id="perhaps more"),
        pytest.param(chat("hello", max_completion_tokens=50), WHOLE, id="a few, by the newer name"),
        pytest.param(chat("hello", max_completion_tokens=5000), STREAM, id="many, by the newer name"),
        pytest.param(chat("hello"), STREAM, id="as many as there is room for"),
        pytest.param(chat("hello", logprobs=True), WHOLE, id="logprobs, which streams may lose"),
        pytest.param({"prompt": "hello"}, WHOLE, id="a completion's 16 tokens"),
        pytest.param({"prompt": "hello", "max_tokens": 4000}, STREAM, id="a long completion"),
        pytest.param(
            {"prompt": "hello", "max_tokens": 4000, "echo": True, "logprobs": 1}, WHOLE, id="logprobs of the prompt"
        ),
    ],
)
def test_auto_streams_what_may_take_long(
    client: openai.OpenAI, dialect: str, local: Local, fields: dict[str, Any], operation: str
) -> None:
    raw(client, dialect, fields)
    assert local.last_call().operation == operation


def test_a_stream_is_always_fetched_as_one(client: openai.OpenAI, dialect: str, local: Local) -> None:
    for variant in ("", "-invoke", "-stream"):
        with client.completions.create(model=dialect + variant, prompt="hello", max_tokens=5, stream=True) as stream:
            list(stream)
        assert local.last_call().operation == STREAM


# --- Longer than SageMaker waits ---

LONG = chat("count to 10")
"""28 tokens: twice as long as the slow SageMaker waits for a whole answer."""


def test_invoke_endpoint_gives_up_on_a_long_answer(client: openai.OpenAI, dialect: str, slow: Local) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model=f"{dialect}-slow-invoke", **LONG)
    assert (caught.value.status_code, caught.value.code) == (504, "upstream_timeout")
    call = slow.last_call()
    assert (call.operation, call.error) == (WHOLE, "ModelError")
    assert (call.ended_ms or 0) >= LIMIT_S * 1000


@pytest.mark.parametrize("model", [*(f"{name}-slow" for name in DIALECTS), "lmi27-slow-stream", "vllm-slow-stream"])
def test_a_gathered_answer_may_take_longer(client: openai.OpenAI, slow: Local, model: str) -> None:
    reply = client.chat.completions.create(model=model, **LONG)
    assert reply.choices[0].message.content == "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"
    call = slow.last_call()
    assert call.operation == STREAM
    assert (call.ended_ms or 0) > LIMIT_S * 1000
