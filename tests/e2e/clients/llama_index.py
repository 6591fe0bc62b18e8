"""LlamaIndex: OpenAILike of llama-index-llms-openai-like, for chats and for completions."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import openai
from llama_index.core.llms import ChatMessage, ImageBlock, TextBlock
from llama_index.core.prompts import PromptTemplate
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
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


class Weather(BaseModel):
    """What the weather is like."""

    city: str
    degrees: int
    sky: Literal["clear", "cloudy"]


def get_weather(city: str) -> str:
    """Say what the weather is like in a city."""
    return f"sunny in {city}"


def get_time(zone: str) -> str:
    """Say what time it is in a time zone."""
    return f"noon in {zone}"


TOOLS = [FunctionTool.from_defaults(get_weather), FunctionTool.from_defaults(get_time)]
TRUTH = Weather(city="Rome", degrees=21, sky="clear")


def llm(model: str, **options: Any) -> Any:
    return OpenAILike(
        **{
            "model": model,
            "api_base": BASE_URL,
            "api_key": KEY,
            "is_chat_model": True,
            "is_function_calling_model": True,
            "temperature": 0,
            "max_retries": 0,
            **options,
        }
    )


def where_one_tool_can_be_had(model: str) -> AbstractContextManager[Any]:
    """LlamaIndex asks for one call at most if not told otherwise. vLLM up to 0.11 cannot, and the gateway says so."""
    return raises(openai.BadRequestError, "parallel_tool_calls") if model == "lmi15" else nullcontext()


def user(content: str) -> list[ChatMessage]:
    return [ChatMessage(role="user", content=content)]


# --- Chats ---


@check
def chat(model: str) -> None:
    reply = llm(model).chat([ChatMessage(role="system", content="Be brief."), *user("hello")])
    assert reply.message.content == GREETING
    assert reply.raw.model == model
    assert reply.additional_kwargs["completion_tokens"] > 5


@check
async def achat(model: str) -> None:
    assert (await llm(model).achat(user("count to 3"))).message.content == "1, 2, 3"


@check
def stream_chat(model: str) -> None:
    parts = list(llm(model).stream_chat(user("hello")))
    assert len(parts) > 5
    assert "".join(part.delta for part in parts) == parts[-1].message.content == GREETING


@check
async def astream_chat(model: str) -> None:
    parts = [part async for part in await llm(model).astream_chat(user("repeat: some words"))]
    assert parts[-1].message.content == "some words"


@check
def complete_by_chat(model: str) -> None:
    assert llm(model).complete("hello").text == GREETING
    assert list(llm(model).stream_complete("hello"))[-1].text == GREETING


@check
def an_image(model: str) -> None:
    message = ChatMessage(role="user", blocks=[TextBlock(text="what is it?"), ImageBlock(url=PIXEL)])
    assert llm(model).chat([message]).message.content.startswith(PIXEL_SEEN)


@check
def limits_and_stops(model: str) -> None:
    reply = llm(model, max_tokens=4).chat(user("count to 9"))
    assert reply.raw.choices[0].finish_reason == "length"
    assert llm(model).chat(user("count to 9"), stop=["3"]).message.content == "1, 2, "


# --- Tools ---


def called(model: str, reply: Any) -> list[tuple[str, dict[str, Any]]]:
    return [(call.tool_name, call.tool_kwargs) for call in llm(model).get_tool_calls_from_response(reply)]


@check
def tools(model: str) -> None:
    caller = llm(model)
    reply = caller.chat_with_tools(TOOLS, user_msg="weather in Rome?", allow_parallel_tool_calls=True)
    assert called(model, reply) == [("get_weather", {"city": "Rome"})]
    (call,) = caller.get_tool_calls_from_response(reply)
    result = ChatMessage(
        role="tool", content=str(TOOLS[0](**call.tool_kwargs)), additional_kwargs={"tool_call_id": call.tool_id}
    )
    history = [*user("weather in Rome?"), reply.message, result]
    answer = caller.chat_with_tools(TOOLS, chat_history=history, allow_parallel_tool_calls=True)
    assert "sunny in Rome" in answer.message.content


@check
def streamed_tools(model: str) -> None:
    parts = list(llm(model).stream_chat_with_tools(TOOLS, user_msg="both in Rome", allow_parallel_tool_calls=True))
    assert called(model, parts[-1]) == [("get_weather", {"city": "Rome"}), ("get_time", {"zone": "Europe/Paris"})]


@check
def predict_and_call(model: str) -> None:
    reply = llm(model).predict_and_call(TOOLS, user_msg="weather in Rome?", allow_parallel_tool_calls=True)
    assert str(reply) == "sunny in Rome"


@check
def one_tool_at_a_time(model: str) -> None:
    with where_one_tool_can_be_had(model):
        assert str(llm(model).predict_and_call(TOOLS, user_msg="weather in Rome?")) == "sunny in Rome"


# --- Structured output ---


@check
def structured_by_tool(model: str) -> None:
    with where_one_tool_can_be_had(model):
        assert llm(model).as_structured_llm(Weather).chat(user("how is it in Rome?")).raw == TRUTH


@check
def structured_by_schema(model: str) -> None:
    caller = llm(model, should_use_structured_outputs=True)
    assert caller.structured_predict(Weather, PromptTemplate("how is it in {city}?"), city="Rome") == TRUTH


@check
async def structured_asynchronously(model: str) -> None:
    caller = llm(model, should_use_structured_outputs=True)
    assert await caller.astructured_predict(Weather, PromptTemplate("how is it in Rome?")) == TRUTH


@check
def structured_streams(model: str) -> None:
    caller = llm(model, should_use_structured_outputs=True)
    assert list(caller.stream_structured_predict(Weather, PromptTemplate("how is it in Rome?")))[-1] == TRUTH


@check
def structured_streams_by_tool(model: str) -> None:
    with where_one_tool_can_be_had(model):
        assert list(llm(model).stream_structured_predict(Weather, PromptTemplate("weather in Rome?")))[-1] == TRUTH


# --- Completions ---


@check
def complete(model: str) -> None:
    reply = llm(model, is_chat_model=False).complete("count to 4")
    assert reply.text == "1, 2, 3, 4"
    assert reply.raw.object == "text_completion"


@check
async def complete_in_each_other_way(model: str) -> None:
    caller = llm(model, is_chat_model=False)
    assert list(caller.stream_complete("count to 4"))[-1].text == "1, 2, 3, 4"
    assert (await caller.acomplete("repeat: x")).text == "x"
    assert [part async for part in await caller.astream_complete("repeat: some words")][-1].text == "some words"


# --- What goes wrong ---


@check
def a_wrong_key(model: str) -> None:
    with raises(openai.AuthenticationError, "invalid_api_key"):
        llm(model, api_key=WRONG_KEY).complete("hello")


@check
def a_wrong_model(model: str) -> None:
    with raises(openai.NotFoundError, "model_not_found"):
        list(llm(f"{model}-of-nobody").stream_complete("hello"))


@check
def a_bad_parameter(model: str) -> None:
    with raises(openai.BadRequestError, "temperature"):
        llm(model).complete("hello", temperature=3)


@check
def a_stream_that_breaks(model: str) -> None:
    pieces: list[str] = []
    with raises(openai.APIError, "The model"):
        pieces.extend(part.delta for part in llm(model).stream_complete(FAILING))
    assert "".join(pieces).startswith('You wrote "')


@check
async def an_asynchronous_stream_that_breaks(model: str) -> None:
    with raises(openai.APIError, "The model"):
        async for _ in await llm(model).astream_complete(FAILING):
            pass


@check
def leaving(model: str) -> None:
    parts = llm(slow(model)).stream_chat(user(COUNTING))
    next(parts)
    parts.close()


@check
async def leaving_asynchronously(model: str) -> None:
    parts = await llm(slow(model)).astream_chat(user(COUNTING))
    await anext(parts)
    await parts.aclose()


if __name__ == "__main__":
    run()
