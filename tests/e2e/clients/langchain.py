"""LangChain: ChatOpenAI and OpenAI of langchain-openai."""

from __future__ import annotations

from typing import Any, Literal

import openai
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAI
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


def chat(model: str, **options: Any) -> Any:
    return ChatOpenAI(**{"model": model, "base_url": BASE_URL, "api_key": KEY, "temperature": 0, **options})


# --- Chat ---


@check
def invoke(model: str) -> None:
    reply = chat(model).invoke("hello")
    assert reply.content == GREETING
    assert reply.response_metadata["model_name"] == model
    assert reply.response_metadata["finish_reason"] == "stop"
    assert reply.usage_metadata["output_tokens"] > 5
    assert reply.usage_metadata["total_tokens"] > reply.usage_metadata["output_tokens"]


@check
async def ainvoke(model: str) -> None:
    assert (await chat(model).ainvoke([("system", "Be brief."), ("user", "count to 3")])).content == "1, 2, 3"


@check
def stream(model: str) -> None:
    chunks = list(chat(model, stream_usage=True).stream("hello"))
    assert len(chunks) > 5
    whole = sum(chunks[1:], chunks[0])
    assert whole.content == GREETING
    assert whole.response_metadata["finish_reason"] == "stop"
    assert whole.usage_metadata["output_tokens"] > 5


@check
async def astream(model: str) -> None:
    assert "".join([chunk.content async for chunk in chat(model).astream("emoji")]) == (
        "Café — naïve 😀🚀 日本語 ✓ ½ 👨\u200d👩\u200d👧."
    )


@check
def batch(model: str) -> None:
    replies = chat(model).batch([f"repeat: {n}" for n in range(8)], config={"max_concurrency": 4})
    assert [reply.content for reply in replies] == [str(n) for n in range(8)]


@check
def a_chain(model: str) -> None:
    chain = ChatPromptTemplate.from_messages([("user", "repeat: {what}")]) | chat(model) | StrOutputParser()
    assert "".join(chain.stream({"what": "all of it"})) == "all of it"


@check
def several_choices_limits_and_stops(model: str) -> None:
    result = chat(model, n=2, temperature=1, max_tokens=4).generate([[HumanMessage("count to 9")]])
    assert [each.message.response_metadata["finish_reason"] for each in result.generations[0]] == ["length"] * 2
    assert chat(model, stop=["3"]).invoke("count to 9").content == "1, 2, "


@check
def log_probabilities(model: str) -> None:
    reply = chat(model).bind(logprobs=True, top_logprobs=2).invoke("hello")
    entries = reply.response_metadata["logprobs"]["content"]
    assert "".join(entry["token"] for entry in entries).startswith(GREETING)
    assert all(len(entry["top_logprobs"]) == 2 for entry in entries)


@check
def an_image(model: str) -> None:
    parts = [{"type": "text", "text": "what is it?"}, {"type": "image_url", "image_url": {"url": PIXEL}}]
    assert chat(model).invoke([HumanMessage(parts)]).content.startswith(PIXEL_SEEN)
    standard = {"type": "image", "base64": PIXEL.partition(",")[2], "mime_type": "image/png"}
    assert chat(model).invoke([HumanMessage([parts[0], standard])]).content.startswith(PIXEL_SEEN)


@check
def what_vllm_adds(model: str) -> None:
    assert chat(model, extra_body={"min_tokens": 3, "top_k": 1}).invoke("hello").content == GREETING


# --- Tools ---


@check
def tools(model: str) -> None:
    bound = chat(model).bind_tools([get_weather, get_time])
    reply = bound.invoke("weather in Rome?")
    assert [(call["name"], call["args"]) for call in reply.tool_calls] == [("get_weather", {"city": "Rome"})]
    (call,) = reply.tool_calls
    result = tool(get_weather).invoke(call)
    assert isinstance(result, ToolMessage)
    answer = bound.invoke([HumanMessage("weather in Rome?"), reply, result])
    assert answer.tool_calls == []
    assert "sunny in Rome" in answer.content


@check
def streamed_tools(model: str) -> None:
    chunks = list(chat(model).bind_tools([get_weather, get_time]).stream("both in Rome"))
    assert any(len(chunk.tool_call_chunks) == 1 for chunk in chunks)
    whole: AIMessageChunk = sum(chunks[1:], chunks[0])
    assert [(call["name"], list(call["args"])) for call in whole.tool_calls] == [
        ("get_weather", ["city"]),
        ("get_time", ["zone"]),
    ]
    assert len({call["id"] for call in whole.tool_calls}) == 2


@check
def a_tool_that_is_named(model: str) -> None:
    bound = chat(model).bind_tools([get_weather, get_time], tool_choice="get_time")
    (call,) = bound.invoke("hello").tool_calls
    assert (call["name"], list(call["args"])) == ("get_time", ["zone"])


@check
def a_tool_that_is_required(model: str) -> None:
    (call,) = chat(model).bind_tools([get_weather, get_time], tool_choice="required").invoke("hello").tool_calls
    assert (call["name"], list(call["args"])) == ("get_weather", ["city"])


# --- Structured output, in each method ---


def structured(model: str, method: str, **options: Any) -> Any:
    return chat(model).with_structured_output(Weather, method=method, **options)


@check
def structured_by_schema(model: str) -> None:
    assert structured(model, "json_schema").invoke("how is it in Rome?") == Weather(
        city="Rome", degrees=21, sky="clear"
    )


@check
def structured_by_tool(model: str) -> None:
    assert structured(model, "function_calling").invoke("how is it in Rome?").city == "Rome"


@check
def structured_by_json_mode(model: str) -> None:
    told = structured(model, "json_mode", include_raw=True).invoke("json")
    assert told["raw"].content == '{"city": "Paris", "degrees": 21, "sunny": true}'
    assert "sky" in str(told["parsing_error"]), "the stand-in's JSON has no such field, and the parser says so"


@check
def structured_streams(model: str) -> None:
    parts = list(structured(model, "json_schema").stream("how is it in Rome?"))
    assert parts[-1].city == "Rome"


# --- Completions ---


def completion(model: str, **options: Any) -> Any:
    return OpenAI(**{"model": model, "base_url": BASE_URL, "api_key": KEY, "temperature": 0, **options})


@check
def complete(model: str) -> None:
    assert completion(model).invoke("count to 4") == "1, 2, 3, 4"


@check
async def complete_in_each_other_way(model: str) -> None:
    llm = completion(model)
    assert "".join(llm.stream("count to 4")) == "1, 2, 3, 4"
    assert await llm.ainvoke("repeat: x") == "x"
    assert "".join([piece async for piece in llm.astream("repeat: some words")]) == "some words"
    assert llm.batch(["repeat: a", "repeat: b"]) == ["a", "b"]


# --- What goes wrong ---


@check
def a_wrong_key(model: str) -> None:
    with raises(openai.AuthenticationError, "invalid_api_key"):
        chat(model, api_key=WRONG_KEY).invoke("hello")


@check
def a_wrong_model(model: str) -> None:
    with raises(openai.NotFoundError, "model_not_found"):
        list(chat(f"{model}-of-nobody").stream("hello"))


@check
def a_bad_parameter(model: str) -> None:
    with raises(openai.BadRequestError, "temperature"):
        chat(model, temperature=3).invoke("hello")


@check
def too_long_a_prompt(model: str) -> None:
    with raises(openai.BadRequestError, "context"):
        chat(model).invoke("word " * 9000)


@check
def a_stream_that_breaks(model: str) -> None:
    pieces: list[str] = []
    with raises(openai.APIError, "The model"):
        pieces.extend(chunk.content for chunk in chat(model).stream(FAILING))
    assert "".join(pieces).startswith('You wrote "')


@check
async def an_asynchronous_stream_that_breaks(model: str) -> None:
    with raises(openai.APIError, "The model"):
        async for _ in chat(model).astream(FAILING):
            pass


@check
def leaving(model: str) -> None:
    pieces = chat(slow(model)).stream(COUNTING)
    next(pieces)
    pieces.close()


@check
async def leaving_asynchronously(model: str) -> None:
    pieces = chat(slow(model)).astream(COUNTING)
    await anext(pieces)
    await pieces.aclose()


if __name__ == "__main__":
    run()
