"""llm, the command line tool and its library, told of the gateway by an extra-openai-models.yaml."""

from __future__ import annotations

import base64
import json
import os
from pathlib import Path
from typing import Any

import llm
import openai
import yaml
from click.testing import CliRunner
from llm.cli import cli

from tests.e2e.clients.checks import (
    BASE_URL,
    COUNTING,
    FAILING,
    GREETING,
    KEY,
    MODELS,
    PIXEL,
    PIXEL_SEEN,
    WRONG_KEY,
    check,
    raises,
    run,
    slow,
)

FOLDER = Path(os.environ["LLM_USER_PATH"])
FEATURES = {"vision": True, "supports_tools": True, "supports_schema": True}
FUNCTIONS = """
def get_weather(city: str) -> str:
    "Say what the weather is like in a city."
    return f"sunny in {city}"

def get_time(zone: str) -> str:
    "Say what time it is in a time zone."
    return f"noon in {zone}"
"""


def entry(model: str, name: str, **options: Any) -> dict[str, Any]:
    return {"model_id": model, "model_name": name, "api_base": BASE_URL, "api_key_name": "lmi-gateway", **options}


def set_up() -> None:
    entries = []
    for model in MODELS:
        entries += [
            entry(model, model, **FEATURES),
            entry(slow(model), slow(model)),
            entry(f"{model}-completion", model, completion=True),
            entry(f"{model}-of-nobody", f"{model}-of-nobody"),
        ]
    (FOLDER / "extra-openai-models.yaml").write_text(yaml.safe_dump(entries))
    assert command("keys", "set", "lmi-gateway", "--value", KEY) == ""


def command(*arguments: str, fails: bool = False) -> str:
    """Run the command, and return what it prints."""
    done = CliRunner().invoke(cli, list(arguments))
    assert (done.exit_code != 0) is fails, done.output
    return done.output


# --- The command ---


@check
def prompt(model: str) -> None:
    assert command("-m", model, "hello") == f"{GREETING}\n"


@check
def prompt_whole(model: str) -> None:
    assert command("-m", model, "--no-stream", "-s", "Be brief.", "count to 3") == "1, 2, 3\n"


@check
def options(model: str) -> None:
    assert command("-m", model, "count to 9", "-o", "temperature", "0", "-o", "stop", "3") == "1, 2, \n"


@check
def a_conversation_and_its_usage(model: str) -> None:
    command("-m", model, "hello", "--usage")
    assert command("-c", "repeat: again") == "again\n"
    logged = json.loads(command("logs", "list", "--json", "-n", "2"))
    assert len({each["conversation_id"] for each in logged}) == 1
    assert all(each["output_tokens"] > 0 for each in logged)


@check
def an_image(model: str) -> None:
    picture = FOLDER / "pixel.png"
    picture.write_bytes(base64.b64decode(PIXEL.partition(",")[2]))
    assert command("-m", model, "what is it?", "-a", str(picture)).startswith(PIXEL_SEEN)


@check
def a_schema(model: str) -> None:
    printed = command("-m", model, "how is it in Rome?", "--schema", "city, degrees int", "-o", "temperature", "0")
    assert json.loads(printed) == {"city": "Rome", "degrees": 21}


@check
def tools(model: str) -> None:
    printed = command("-m", model, "weather in Rome?", "--functions", FUNCTIONS, "--td", "-o", "temperature", "0")
    assert "Tool call: get_weather({'city': 'Rome'})" in printed
    assert printed.rstrip().splitlines()[-1].count("sunny in Rome") == 1


@check
def tools_whole(model: str) -> None:
    printed = command(
        "-m", model, "weather in Rome?", "--functions", FUNCTIONS, "--no-stream", "-o", "temperature", "0"
    )
    assert "sunny in Rome" in printed


@check
def complete(model: str) -> None:
    assert command("-m", f"{model}-completion", "count to 4") == "1, 2, 3, 4\n"
    assert command("-m", f"{model}-completion", "--no-stream", "repeat: x") == "x\n"


@check
def the_list_of_models(model: str) -> None:
    assert f"OpenAI Chat: {model}\n" in command("models")


# --- The library ---


@check
async def asynchronously(model: str) -> None:
    caller = llm.get_async_model(model)
    assert await caller.prompt("hello").text() == GREETING
    assert "".join([piece async for piece in caller.prompt("repeat: some words")]) == "some words"


@check
def several_tools(model: str) -> None:
    seen: list[str] = []

    def get_weather(city: str) -> str:
        seen.append(city)
        return "sunny"

    def get_time(zone: str) -> str:
        seen.append(zone)
        return "noon"

    chain = llm.get_model(model).chain("both in Rome", tools=[get_weather, get_time], options={"temperature": 0})
    assert "sunny" in chain.text()
    assert seen == ["Rome", "Europe/Paris"]


# --- What goes wrong ---


@check
def a_wrong_key(model: str) -> None:
    assert "Incorrect API key" in command("-m", model, "hello", "--key", WRONG_KEY, fails=True)
    with raises(openai.AuthenticationError, "invalid_api_key"):
        llm.get_model(model).prompt("hello", key=WRONG_KEY).text()


@check
def a_wrong_model(model: str) -> None:
    assert "does not exist" in command("-m", f"{model}-of-nobody", "hello", fails=True)
    with raises(openai.NotFoundError, "model_not_found"):
        llm.get_model(f"{model}-of-nobody").prompt("hello").text()


@check
def a_bad_parameter(model: str) -> None:
    with raises(openai.BadRequestError, "top_p"):
        llm.get_model(model).prompt("hello", top_p=0).text()


@check
def a_stream_that_breaks(model: str) -> None:
    assert "Error: The model" in command("-m", model, FAILING, fails=True)
    pieces: list[str] = []
    with raises(openai.APIError, "The model"):
        pieces.extend(llm.get_model(model).prompt(FAILING))
    assert "".join(pieces).startswith('You wrote "')


@check
def leaving(model: str) -> None:
    pieces = iter(llm.get_model(slow(model)).prompt(COUNTING))
    next(pieces)
    pieces.close()


if __name__ == "__main__":
    set_up()
    run()
