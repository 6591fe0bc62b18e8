"""huggingface_hub: InferenceClient and AsyncInferenceClient on the OpenAI face, as /v1/chat/completions."""

from __future__ import annotations

import json
from typing import Any

from huggingface_hub import AsyncInferenceClient, InferenceClient
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, UnknownError

from tests.e2e.clients.checks import (
    BASE_URL,
    COUNTING,
    FAILING,
    GREETING,
    KEY,
    PIXEL,
    PIXEL_SEEN,
    WRONG_KEY,
    check,
    raises,
    run,
    slow,
)

Messages = list[dict[str, Any]]
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
}


def function(name: str, argument: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return {"type": "function", "function": {"name": name, "description": "", "parameters": parameters}}


TOOLS = [function("get_weather", "city"), function("get_time", "zone")]


CLIENT: Any = InferenceClient(base_url=BASE_URL, api_key=KEY)
"""Kept: a client that is forgotten closes the streams it has given out."""


def asynchronous() -> Any:
    return AsyncInferenceClient(base_url=BASE_URL, api_key=KEY)


def user(content: Any) -> Messages:
    return [{"role": "user", "content": content}]


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


@check
def chat_completion(model: str) -> None:
    reply = CLIENT.chat_completion(user("hello"), model=model, temperature=0)
    assert reply.choices[0].message.content == GREETING
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.completion_tokens > 5
    assert reply.model == model


@check
def as_openais_client_spells_it(model: str) -> None:
    reply = CLIENT.chat.completions.create(model=model, messages=user("count to 3"), max_tokens=100)
    assert reply.choices[0].message.content == "1, 2, 3"


@check
async def chat_completion_asynchronously(model: str) -> None:
    async with asynchronous() as caller:
        reply = await caller.chat_completion(user("hello"), model=model)
    assert reply.choices[0].message.content == GREETING


@check
def stream(model: str) -> None:
    options = {"include_usage": True}
    chunks = list(CLIENT.chat_completion(user("hello"), model=model, stream=True, stream_options=options))
    assert len(chunks) > 5
    assert text_of(chunks) == GREETING
    assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices][-1] == "stop"
    assert chunks[-1].usage.completion_tokens > 5


@check
async def stream_asynchronously(model: str) -> None:
    async with asynchronous() as caller:
        answer = await caller.chat_completion(user("emoji"), model=model, stream=True)
        chunks = [chunk async for chunk in answer]
    assert text_of(chunks) == "Café — naïve 😀🚀 日本語 ✓ ½ 👨\u200d👩\u200d👧."


@check
def an_image(model: str) -> None:
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    reply = CLIENT.chat_completion(user(parts), model=model)
    assert reply.choices[0].message.content.startswith(PIXEL_SEEN)


@check
def several_choices_limits_and_stops(model: str) -> None:
    reply = CLIENT.chat_completion(user("count to 9"), model=model, n=2, max_tokens=4, seed=1)
    assert [choice.finish_reason for choice in reply.choices] == ["length"] * 2
    reply = CLIENT.chat_completion(user("count to 9"), model=model, stop=["3"])
    assert reply.choices[0].message.content == "1, 2, "


@check
def what_vllm_adds(model: str) -> None:
    reply = CLIENT.chat_completion(user("hello"), model=model, extra_body={"min_tokens": 3})
    assert reply.choices[0].message.content == GREETING


@check
def tools(model: str) -> None:
    asked = user("weather in Rome?")
    reply = CLIENT.chat_completion(asked, model=model, tools=TOOLS, tool_choice="auto", temperature=0)
    message = reply.choices[0].message
    (call,) = message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "Rome"}')
    asked += [
        {"role": "assistant", "tool_calls": message.tool_calls},
        {"role": "tool", "tool_call_id": call.id, "content": "sunny in Rome"},
    ]
    reply = CLIENT.chat_completion(asked, model=model, tools=TOOLS)
    assert "sunny in Rome" in reply.choices[0].message.content


@check
def streamed_tools(model: str) -> None:
    arguments = ["", ""]
    for chunk in CLIENT.chat_completion(
        user("both in Rome"), model=model, tools=TOOLS, tool_choice="auto", temperature=0, stream=True
    ):
        for call in chunk.choices[0].delta.tool_calls or () if chunk.choices else ():
            arguments[call.index] += call.function.arguments or ""
    assert arguments == ['{"city": "Rome"}', '{"zone": "Europe/Paris"}']


@check
def structured(model: str) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True}}
    reply = CLIENT.chat_completion(user("weather in Rome?"), model=model, response_format=wanted, temperature=0)
    assert json.loads(reply.choices[0].message.content) == {"city": "Rome", "degrees": 21}


# --- What goes wrong ---


@check
def a_wrong_key(model: str) -> None:
    with raises(HfHubHTTPError, "401", "Incorrect API key"):
        InferenceClient(base_url=BASE_URL, api_key=WRONG_KEY).chat_completion(user("hello"), model=model)


@check
def a_wrong_model(model: str) -> None:
    with raises(HfHubHTTPError, "404", "does not exist"):
        CLIENT.chat_completion(user("hello"), model=f"{model}-of-nobody")


@check
def a_bad_parameter(model: str) -> None:
    with raises(BadRequestError, "temperature must be"):
        CLIENT.chat_completion(user("hello"), model=model, temperature=3)


@check
def a_stream_that_breaks(model: str) -> None:
    chunks: list[Any] = []
    with raises(UnknownError, "The model"):
        chunks.extend(CLIENT.chat_completion(user(FAILING), model=model, stream=True))
    assert text_of(chunks).startswith('You wrote "')


@check
def leaving(model: str) -> None:
    chunks = CLIENT.chat_completion(user(COUNTING), model=slow(model), stream=True)
    next(chunks)
    chunks.close()


@check
async def leaving_asynchronously(model: str) -> None:
    async with asynchronous() as caller:
        chunks = await caller.chat_completion(user(COUNTING), model=slow(model), stream=True)
        await anext(chunks)
        await chunks.aclose()


if __name__ == "__main__":
    run()
