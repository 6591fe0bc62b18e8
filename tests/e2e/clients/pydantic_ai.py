"""Pydantic AI: agents on OpenAIChatModel, with each provider that fits."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel
from pydantic_ai import Agent, BinaryContent, NativeOutput, PromptedOutput, ToolOutput
from pydantic_ai.exceptions import ModelAPIError, ModelHTTPError
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from pydantic_ai.providers.openai_compatible import OpenAICompatibleProvider
from pydantic_ai.providers.vllm import VLLMProvider

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


TRUTH = Weather(city="Rome", degrees=21, sky="clear")


def agent(model: str, *, key: str = KEY, **options: Any) -> Any:
    provider = OpenAICompatibleProvider("lmi-gateway", base_url=BASE_URL, api_key=key)
    settings = {"temperature": 0.0, **options.pop("model_settings", {})}
    return Agent(OpenAIChatModel(model, provider=provider), model_settings=settings, **options)


# --- Text ---


@check
async def ask(model: str) -> None:
    result = await agent(model, instructions="Be brief.").run("hello")
    assert result.output == GREETING
    assert result.usage.output_tokens > 5
    assert result.response.model_name == model
    assert result.response.finish_reason == "stop"


@check
def ask_synchronously(model: str) -> None:
    assert agent(model).run_sync("count to 3").output == "1, 2, 3"


@check
async def ask_by_each_other_provider(model: str) -> None:
    for provider in (OpenAIProvider(base_url=BASE_URL, api_key=KEY), VLLMProvider(base_url=BASE_URL, api_key=KEY)):
        result = await Agent(OpenAIChatModel(model, provider=provider)).run("hello")
        assert result.output == GREETING


@check
async def stream(model: str) -> None:
    async with agent(model).run_stream("hello") as result:
        pieces = [piece async for piece in result.stream_text(delta=True, debounce_by=None)]
    assert len(pieces) > 5
    assert "".join(pieces) == GREETING
    assert result.usage.output_tokens > 5


@check
async def a_conversation(model: str) -> None:
    talker = agent(model)
    first = await talker.run("hello")
    second = await talker.run("repeat: again", message_history=first.all_messages())
    assert second.output == "again"


@check
async def an_image(model: str) -> None:
    picture = BinaryContent.from_data_uri(PIXEL)
    assert (await agent(model).run(["what is it?", picture])).output.startswith(PIXEL_SEEN)


# --- Tools ---


def with_tools(model: str) -> tuple[Any, list[str]]:
    """Return an agent, and a list of what its tools will have been asked."""
    calls: list[str] = []

    def get_weather(city: str) -> str:
        """Say what the weather is like in a city."""
        calls.append(city)
        return f"sunny in {city}"

    def get_time(zone: str) -> str:
        """Say what time it is in a time zone."""
        calls.append(zone)
        return f"noon in {zone}"

    return agent(model, tools=[get_weather, get_time]), calls


@check
async def tools(model: str) -> None:
    caller, calls = with_tools(model)
    assert "sunny in Rome" in (await caller.run("weather in Rome?")).output
    assert calls == ["Rome"]


@check
async def streamed_tools(model: str) -> None:
    caller, calls = with_tools(model)
    async with caller.run_stream("both in Rome") as result:
        text = await result.get_output()
    assert "sunny in Rome" in text
    assert sorted(calls) == ["Europe/Paris", "Rome"]


@check
async def events(model: str) -> None:
    caller, _ = with_tools(model)
    kinds = []
    async with caller.iter("weather in Rome?") as agent_run:
        async for node in agent_run:
            if Agent.is_model_request_node(node):
                async with node.stream(agent_run.ctx) as happening:
                    kinds += [event.event_kind async for event in happening]
    assert {"part_start", "part_delta", "final_result"} <= set(kinds)


# --- Structured output ---


@check
async def structured_by_tool(model: str) -> None:
    assert (await agent(model, output_type=ToolOutput(Weather)).run("how is it in Rome?")).output == TRUTH


@check
async def structured_by_schema(model: str) -> None:
    assert (await agent(model, output_type=NativeOutput(Weather)).run("how is it in Rome?")).output == TRUTH


@check
async def structured_by_prompt(model: str) -> None:
    class Reported(BaseModel):
        city: str
        degrees: int

    result = await agent(model, output_type=PromptedOutput(Reported)).run("json")
    assert result.output == Reported(city="Paris", degrees=21)


@check
async def structured_streams(model: str) -> None:
    async with agent(model, output_type=NativeOutput(Weather)).run_stream("how is it in Rome?") as result:
        parts = [part async for part in result.stream_output(debounce_by=None)]
    assert parts[-1] == TRUTH


@check
async def structured_streams_by_tool(model: str) -> None:
    async with agent(model, output_type=ToolOutput(Weather)).run_stream("how is it in Rome?") as result:
        parts = [part async for part in result.stream_output(debounce_by=None)]
    assert parts[-1] == TRUTH


# --- What goes wrong ---


@check
async def a_wrong_key(model: str) -> None:
    with raises(ModelHTTPError, "401", "invalid_api_key"):
        await agent(model, key=WRONG_KEY).run("hello")


@check
async def a_wrong_model(model: str) -> None:
    with raises(ModelHTTPError, "404", "model_not_found"):
        await agent(f"{model}-of-nobody").run("hello")


@check
async def a_bad_parameter(model: str) -> None:
    with raises(ModelHTTPError, "400", "temperature"):
        await agent(model, model_settings={"temperature": 3}).run("hello")


@check
async def a_stream_that_breaks(model: str) -> None:
    pieces: list[str] = []
    with raises(ModelAPIError, "The model"):
        async with agent(model).run_stream(FAILING) as result:
            async for piece in result.stream_text(delta=True, debounce_by=None):
                pieces.append(piece)
    assert "".join(pieces).startswith('You wrote "')


@check
async def leaving(model: str) -> None:
    async with agent(slow(model)).run_stream(COUNTING) as result:
        async for _ in result.stream_text(delta=True, debounce_by=None):
            break


if __name__ == "__main__":
    run()
