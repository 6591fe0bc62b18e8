"""Instructor: models of pydantic's in each of its modes, whole and in parts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import instructor
import openai
from instructor import Mode
from instructor.core import InstructorRetryException
from pydantic import BaseModel, Field, field_validator

from tests.e2e.clients.checks import (
    BASE_URL,
    FAILING,
    GREETING,
    KEY,
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


class Time(BaseModel):
    """What time it is."""

    zone: str


class Reported(BaseModel):
    """What the local SageMaker says to `json`, unless a schema holds it to something else."""

    city: str
    degrees: int
    sunny: bool


ROME: Any = [{"role": "user", "content": "weather in Rome?"}]
TRUTH = {"city": "Rome", "degrees": 21, "sky": "clear"}


def client(mode: Mode = Mode.TOOLS, *, key: str = KEY, asynchronous: bool = False) -> Any:
    kind = openai.AsyncOpenAI if asynchronous else openai.OpenAI
    return instructor.from_openai(kind(base_url=BASE_URL, api_key=key, max_retries=0), mode=mode)


def create(model: str, mode: Mode = Mode.TOOLS, **fields: Any) -> Any:
    wanted = {"messages": ROME, "response_model": Weather, "temperature": 0, **fields}
    return client(mode).chat.completions.create(model=model, **wanted)


@check
def by_tool(model: str) -> None:
    assert create(model, Mode.TOOLS).model_dump() == TRUTH


@check
def by_strict_tool(model: str) -> None:
    assert create(model, Mode.TOOLS_STRICT).model_dump() == TRUTH


@check
def by_schema(model: str) -> None:
    assert create(model, Mode.JSON_SCHEMA).model_dump() == TRUTH


@check
def by_json(model: str) -> None:
    told = create(model, Mode.JSON, messages=[{"role": "user", "content": "json"}], response_model=Reported)
    assert told.model_dump() == {"city": "Paris", "degrees": 21, "sunny": True}


@check
def by_json_in_markdown(model: str) -> None:
    """The stand-in repeats what it is told to, fences and all."""
    asked = [{"role": "user", "content": 'repeat: ```json\n{"zone": "UTC"}\n```'}]
    assert create(model, Mode.MD_JSON, messages=asked, response_model=Time).zone == "UTC"


@check
def by_several_tools(model: str) -> None:
    asked = [{"role": "user", "content": "both in Rome"}]
    answers = create(model, Mode.PARALLEL_TOOLS, messages=asked, response_model=Iterable[Weather | Time])
    assert [each.model_dump() for each in answers] == [TRUTH, {"zone": "Europe/Paris"}]


@check
def by_the_providers_name(model: str) -> None:
    named = instructor.from_provider(f"openai/{model}", base_url=BASE_URL, api_key=KEY)
    assert named.chat.completions.create(messages=ROME, response_model=Weather, temperature=0).city == "Rome"


@check
async def asynchronously(model: str) -> None:
    caller = client(asynchronous=True)
    told = await caller.chat.completions.create(model=model, messages=ROME, response_model=Weather, temperature=0)
    assert told.model_dump() == TRUTH


@check
def with_the_reply(model: str) -> None:
    caller = client().chat.completions
    told, reply = caller.create_with_completion(model=model, messages=ROME, response_model=Weather, temperature=0)
    assert told.model_dump() == TRUTH
    assert reply.model == model
    assert reply.usage.completion_tokens > 5


@check
def plain_text(model: str) -> None:
    asked = [{"role": "user", "content": "hello"}]
    assert create(model, messages=asked, response_model=None).choices[0].message.content == GREETING


@check
def asked_again_if_it_does_not_fit(model: str) -> None:
    seen: list[str] = []

    class Checked(BaseModel):
        """What the weather is like."""

        city: str

        @field_validator("city")
        @classmethod
        def is_new(cls, city: str) -> str:
            seen.append(city)
            if len(seen) == 1:
                raise ValueError("say it again")
            return city

    assert create(model, response_model=Checked, max_retries=2).city
    assert len(seen) == 2


# --- In parts ---


def partly(model: str, mode: Mode) -> list[Any]:
    fields = {"messages": ROME, "response_model": Weather, "temperature": 0}
    return list(client(mode).chat.completions.create_partial(model=model, **fields))


@check
def partly_by_tool(model: str) -> None:
    parts = partly(model, Mode.TOOLS)
    assert len(parts) > 3
    assert parts[-1].model_dump() == TRUTH
    assert parts[0].sky is None


@check
def partly_by_schema(model: str) -> None:
    parts = partly(model, Mode.JSON_SCHEMA)
    assert len(parts) > 3
    assert parts[-1].model_dump() == TRUTH


@check
async def partly_and_asynchronously(model: str) -> None:
    caller = client(asynchronous=True).chat.completions
    parts = [
        part async for part in caller.create_partial(model=model, messages=ROME, response_model=Weather, temperature=0)
    ]
    assert parts[-1].model_dump() == TRUTH


@check
def one_after_the_other(model: str) -> None:
    caller = client(Mode.JSON_SCHEMA).chat.completions
    told = list(caller.create_iterable(model=model, messages=ROME, response_model=Weather, temperature=0))
    assert told
    assert all(isinstance(each, Weather) for each in told)


# --- What goes wrong ---


@check
def a_wrong_key(model: str) -> None:
    with raises(InstructorRetryException, "401", "invalid_api_key") as caught:
        client(key=WRONG_KEY).chat.completions.create(model=model, messages=ROME, response_model=Weather)
    assert isinstance(caught[0].__cause__, openai.AuthenticationError)


@check
def a_wrong_model(model: str) -> None:
    with raises(InstructorRetryException, "404", "model_not_found"):
        create(f"{model}-of-nobody")


@check
def a_bad_parameter(model: str) -> None:
    with raises(InstructorRetryException, "400", "temperature"):
        create(model, temperature=3)


@check
def a_stream_that_breaks(model: str) -> None:
    asked = [{"role": "user", "content": FAILING}]
    with raises(InstructorRetryException, "The model"):
        list(client(Mode.MD_JSON).chat.completions.create_partial(model=model, messages=asked, response_model=Time))


@check
async def leaving(model: str) -> None:
    """Asynchronously: the synchronous client of instructor 1.17 gives the parts out when all have come."""

    class Long(BaseModel):
        numbers: list[int] = Field(min_length=200)

    caller = client(Mode.JSON_SCHEMA, asynchronous=True).chat.completions
    parts = caller.create_partial(model=slow(model), messages=ROME, response_model=Long)
    await anext(parts)
    await parts.aclose()


if __name__ == "__main__":
    run()
