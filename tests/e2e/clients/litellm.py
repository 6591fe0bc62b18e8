"""LiteLLM as a client: `openai/…` for chats, `text-completion-openai/…` for completions, and its router."""

from __future__ import annotations

from typing import Any

import litellm
from pydantic import BaseModel

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


class Weather(BaseModel):
    """What the weather is like."""

    city: str
    degrees: int


def function(name: str, argument: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {argument: {"type": "string"}}, "required": [argument]}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


TOOLS = [function("get_weather", "city"), function("get_time", "zone")]


def asked(model: str, content: Any, **options: Any) -> dict[str, Any]:
    return {
        "model": f"openai/{model}",
        "messages": [{"role": "user", "content": content}],
        "api_base": BASE_URL,
        "api_key": KEY,
        "temperature": 0,
        "max_retries": 0,
        **options,
    }


def chat(model: str, content: Any, **options: Any) -> Any:
    return litellm.completion(**asked(model, content, **options))


def text_of(chunks: list[Any]) -> str:
    return "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)


# --- Chats ---


@check
def completion(model: str) -> None:
    reply = chat(model, "hello")
    assert reply.choices[0].message.content == GREETING
    assert reply.choices[0].finish_reason == "stop"
    assert reply.usage.completion_tokens > 5


@check
async def acompletion(model: str) -> None:
    assert (await litellm.acompletion(**asked(model, "count to 3"))).choices[0].message.content == "1, 2, 3"


@check
def stream(model: str) -> None:
    chunks = list(chat(model, "hello", stream=True, stream_options={"include_usage": True}))
    assert len(chunks) > 5
    assert text_of(chunks) == GREETING
    assert chunks[-1].usage.completion_tokens > 5
    whole = litellm.stream_chunk_builder(chunks)
    assert whole.choices[0].message.content == GREETING
    assert whole.choices[0].finish_reason == "stop"


@check
async def astream(model: str) -> None:
    chunks = [chunk async for chunk in await litellm.acompletion(**asked(model, "repeat: some words", stream=True))]
    assert text_of(chunks) == "some words"


@check
def batch(model: str) -> None:
    messages = [[{"role": "user", "content": f"repeat: {n}"}] for n in range(4)]
    replies = litellm.batch_completion(model=f"openai/{model}", messages=messages, api_base=BASE_URL, api_key=KEY)
    assert [reply.choices[0].message.content for reply in replies] == ["0", "1", "2", "3"]


@check
async def through_its_router(model: str) -> None:
    target = {"model": f"openai/{model}", "api_base": BASE_URL, "api_key": KEY}
    router = litellm.Router(model_list=[{"model_name": "mine", "litellm_params": target}])
    reply = await router.acompletion(model="mine", messages=[{"role": "user", "content": "hello"}])
    assert reply.choices[0].message.content == GREETING


@check
def an_image(model: str) -> None:
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    assert chat(model, parts).choices[0].message.content.startswith(PIXEL_SEEN)


@check
def several_choices_limits_and_stops(model: str) -> None:
    reply = chat(model, "count to 9", n=2, temperature=1, max_tokens=4)
    assert [choice.finish_reason for choice in reply.choices] == ["length"] * 2
    assert chat(model, "count to 9", stop=["3"]).choices[0].message.content == "1, 2, "


@check
def what_vllm_adds(model: str) -> None:
    assert chat(model, "hello", extra_body={"min_tokens": 3}, top_k=1).choices[0].message.content == GREETING


# --- Tools and structured output ---


@check
def tools(model: str) -> None:
    (choice,) = chat(model, "weather in Rome?", tools=TOOLS).choices
    (call,) = choice.message.tool_calls
    assert (call.function.name, call.function.arguments) == ("get_weather", '{"city": "Rome"}')
    assert choice.finish_reason == "tool_calls"
    messages: Messages = [
        {"role": "user", "content": "weather in Rome?"},
        choice.message.model_dump(),
        {"role": "tool", "tool_call_id": call.id, "content": "sunny in Rome"},
    ]
    assert "sunny in Rome" in chat(model, "", messages=messages, tools=TOOLS).choices[0].message.content


@check
def streamed_tools(model: str) -> None:
    whole = litellm.stream_chunk_builder(list(chat(model, "both in Rome", tools=TOOLS, stream=True)))
    (choice,) = whole.choices
    assert [(call.function.name, call.function.arguments) for call in choice.message.tool_calls] == [
        ("get_weather", '{"city": "Rome"}'),
        ("get_time", '{"zone": "Europe/Paris"}'),
    ]


@check
def a_tool_that_is_required(model: str) -> None:
    (choice,) = chat(model, "hello", tools=TOOLS, tool_choice="required").choices
    assert [call.function.name for call in choice.message.tool_calls] == ["get_weather"]


@check
def structured(model: str) -> None:
    reply = chat(model, "how is it in Rome?", response_format=Weather)
    assert Weather.model_validate_json(reply.choices[0].message.content) == Weather(city="Rome", degrees=21)


# --- Completions ---


def completed(model: str, prompt: str, **options: Any) -> dict[str, Any]:
    common = {"api_base": BASE_URL, "api_key": KEY, "temperature": 0, "max_retries": 0}
    return {"model": f"text-completion-openai/{model}", "prompt": prompt, **common, **options}


@check
def text_completion(model: str) -> None:
    assert litellm.text_completion(**completed(model, "count to 4")).choices[0].text == "1, 2, 3, 4"


@check
async def text_completion_in_each_other_way(model: str) -> None:
    chunks = list(litellm.text_completion(**completed(model, "count to 4", stream=True)))
    assert "".join(chunk.choices[0].text or "" for chunk in chunks) == "1, 2, 3, 4"
    assert (await litellm.atext_completion(**completed(model, "repeat: x"))).choices[0].text == "x"
    stream = await litellm.atext_completion(**completed(model, "repeat: some words", stream=True))
    assert "".join([chunk.choices[0].text or "" async for chunk in stream]) == "some words"


# --- What goes wrong ---


@check
def a_wrong_key(model: str) -> None:
    with raises(litellm.AuthenticationError, "API key"):
        chat(model, "hello", api_key=WRONG_KEY)


@check
def a_wrong_model(model: str) -> None:
    with raises(litellm.NotFoundError, "does not exist"):
        chat(f"{model}-of-nobody", "hello")


@check
def a_bad_parameter(model: str) -> None:
    with raises(litellm.BadRequestError, "temperature"):
        chat(model, "hello", temperature=3)


@check
def too_long_a_prompt(model: str) -> None:
    with raises(litellm.BadRequestError, "context"):
        chat(model, "word " * 9000)


@check
def a_stream_that_breaks(model: str) -> None:
    chunks: list[Any] = []
    with raises(litellm.exceptions.MidStreamFallbackError, "The model"):
        chunks.extend(chat(model, FAILING, stream=True))
    assert text_of(chunks).startswith('You wrote "')


@check
async def an_asynchronous_stream_that_breaks(model: str) -> None:
    with raises(litellm.exceptions.MidStreamFallbackError, "The model"):
        async for _ in await litellm.acompletion(**asked(model, FAILING, stream=True)):
            pass


@check
def leaving(model: str) -> None:
    chunks = chat(slow(model), COUNTING, stream=True)
    next(chunks)
    del chunks  # it has no close(): what holds the connection is dropped with it


@check
async def leaving_asynchronously(model: str) -> None:
    chunks = await litellm.acompletion(**asked(slow(model), COUNTING, stream=True))
    await anext(chunks)
    await chunks.aclose()


if __name__ == "__main__":
    run()
