"""The engine as a container: what it is built from, its pace, and what a caller who hangs up leaves behind."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from deploy.local.container import Container, ContainerReply, ContainerRequest
from deploy.local.engine import Engine, Stream, build

pytestmark = pytest.mark.anyio

HELLO = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0}


def request(body: Any, **headers: str) -> ContainerRequest:
    """Return a call with a JSON body; `content_type="…"` and its like add headers."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return ContainerRequest(raw, {"content-type": "application/json", **given})


async def ask(engine: Engine, body: Any, **headers: str) -> ContainerReply:
    """Call the engine; a stream's body becomes bytes, chunk after chunk joined."""
    reply = await engine.invoke(request(body, **headers))
    if isinstance(reply.body, bytes):
        return reply
    return ContainerReply(reply.status, reply.headers, b"".join([chunk async for chunk in reply.body]))


async def answer(engine: Engine, body: Any, **headers: str) -> Any:
    """Call the engine and return its JSON; a status that is not 200 fails the test."""
    reply = await ask(engine, body, **headers)
    assert reply.status == 200, reply.body
    assert isinstance(reply.body, bytes)
    return json.loads(reply.body)


async def chunks(engine: Engine, body: Any, **headers: str) -> list[Any]:
    """Call the engine for a stream and return its records, without the frames and the end."""
    reply = await engine.invoke(request({**body, "stream": True}, **headers))
    assert reply.status == 200, reply.body
    assert not isinstance(reply.body, bytes)
    texts = [chunk.decode().removeprefix("data: ").strip() async for chunk in reply.body]
    return [json.loads(text) for text in texts if text not in ("", "[DONE]")]


def said(records: list[Any], index: int = 0) -> str:
    """Return the content a chat stream adds up to."""
    choices = [choice for record in records for choice in record["choices"] if choice["index"] == index]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


# --- Building --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "vllm"),
    [
        ("lmi15", (0, 8, 4)),
        ("lmi17", (0, 11, 1)),
        ("lmi23", (0, 18, 0)),
        ("lmi27", (0, 23, 0)),
        ("lmi28", (0, 26, 0)),
        ("vllm", (0, 33, 0)),
        ("vllm-0.11", (0, 11, 0)),
        ("vllm0.11", (0, 11, 0)),
        ("vllm-0.8", (0, 8, 4)),
        ("vllm-0.32.1", (0, 32, 1)),
    ],
)
def test_a_dialect_is_a_release_of_vllm(name: str, vllm: tuple[int, int, int]) -> None:
    assert build(name).dialect.vllm == vllm


@pytest.mark.parametrize("name", ["lmi14", "lmi29", "lmi", "vllm-0.7", "vllm-0.34", "vllm-x", "tgi-1.3", "tgi-4.0", ""])
def test_an_unknown_dialect_names_those_that_are(name: str) -> None:
    with pytest.raises(ValueError, match=r"unknown dialect .*: dialects are lmi15, lmi16, .* vllm, vllm-0.11"):
        build(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"speed": 1}, "unknown engine option 'speed': options are first_token_delay_s, token_delay_s, context_length"),
        ({"token_delay_s": -1}, "engine option token_delay_s must be a number of seconds, 0 or more, not -1"),
        ({"token_delay_s": True}, "engine option token_delay_s must be a number of seconds, 0 or more, not True"),
        ({"context_length": 3}, "engine option context_length must be a whole number, 16 or more, not 3"),
        ({"context_length": 100.5}, "engine option context_length must be a whole number, 16 or more, not 100.5"),
        ({"vision": "no"}, "engine option vision must be true or false, not 'no'"),
        ({"served_name": 1}, "engine option served_name must be a name, not 1"),
        ({"adapters": "a"}, "engine option adapters must be a list of names, not 'a'"),
        ({"fail_after_tokens": -1}, "engine option fail_after_tokens must be a whole number, 0 or more, not -1"),
    ],
)
def test_a_bad_option_says_what_it_should_be(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match="^" + message.replace("(", r"\(")):
        build("lmi27", **options)


def test_the_engine_is_a_container_with_a_name_of_its_own() -> None:
    container: Container = build("lmi27")
    assert isinstance(container, Engine)
    assert container.options.served_name == "lmi"
    assert build("vllm").options.served_name == "local"
    assert build("vllm", served_name="m").options.served_name == "m"


@pytest.mark.parametrize(("dialect", "dead"), [("lmi27", 500), ("vllm", 503)])
async def test_ping_is_200_until_a_test_says_otherwise(dialect: str, dead: int) -> None:
    engine = build(dialect)
    assert await engine.ping() == 200
    engine.healthy = False
    assert await engine.ping() == dead


# --- Answers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prompt", "text"),
    [
        pytest.param("hello", "Hello! How can I help you today?", id="hello"),
        pytest.param("Hi there!", "Hello! How can I help you today?", id="hi"),
        pytest.param("good morning", "Hello! How can I help you today?", id="good morning"),
        pytest.param("count to 5", "1, 2, 3, 4, 5", id="count to 5"),
        pytest.param("Please count up to 3.", "1, 2, 3", id="count inside a sentence"),
        pytest.param("repeat: a\n\ndata: [DONE]\n\n", "a\n\ndata: [DONE]\n\n", id="repeat what ends a stream"),
        pytest.param("echo:  two spaces ", " two spaces ", id="echo all but one space"),
        pytest.param('repeat: "\\\u2028\x00\x7f😀 <|im_end|>', '"\\\u2028\x00\x7f😀 <|im_end|>', id="repeat odd text"),
        pytest.param("repeat:", "", id="repeat nothing"),
        pytest.param("emoji", "Café — naïve 😀🚀 日本語 ✓ ½ 👨\u200d👩\u200d👧.", id="emoji"),
        pytest.param("Lines", 'First line.\n\nSecond line, "quoted" \\ backslash\tand a tab.\n- a\n- b\n', id="lines"),
        pytest.param("json", '{"city": "Paris", "degrees": 21, "sunny": true}', id="json"),
    ],
)
@pytest.mark.parametrize("dialect", ["lmi15", "lmi27", "vllm"])
async def test_words_with_a_fixed_answer(dialect: str, prompt: str, text: str) -> None:
    engine = build(dialect)
    chat = {"messages": [{"role": "user", "content": prompt}]}
    assert (await answer(engine, chat))["choices"][0]["message"]["content"] == text
    assert said(await chunks(engine, chat)) == text
    completion = await answer(engine, {"prompt": prompt, "max_tokens": 200})
    assert completion["choices"][0]["text"] == text


async def test_count_alone_counts_to_100() -> None:
    reply = await answer(build("lmi27"), {"messages": [{"role": "user", "content": "count"}]})
    assert reply["choices"][0]["message"]["content"] == ", ".join(str(number) for number in range(1, 101))


async def test_other_prompts_are_quoted_in_sentences() -> None:
    prompt = "What is the best way to cross a river in spring without a boat?"
    reply = await answer(build("vllm"), {"messages": [{"role": "user", "content": prompt}], "temperature": 0})
    text = reply["choices"][0]["message"]["content"]
    assert text.startswith('You wrote "What is the best way to cross a".')
    assert text.endswith(".")
    assert 20 < reply["usage"]["completion_tokens"] < 120


async def test_a_rendered_chat_in_a_raw_prompt_is_answered_as_a_chat() -> None:
    prompt = "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n"
    reply = await answer(build("lmi27"), {"inputs": prompt})
    assert reply == {"generated_text": "Hello! How can I help you today?"}


async def test_a_lone_surrogate_is_no_end_of_the_engine() -> None:
    reply = await answer(build("lmi27"), b'{"messages":[{"role":"user","content":"repeat: a\\ud800b"}]}')
    assert reply["choices"][0]["message"]["content"] == "a?b"


# --- Pace ------------------------------------------------------------------------------------------------------------


class Clock:
    """Stands in for `asyncio.sleep`: notes the delays and takes none of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.delays: list[float] = []
        sleep = asyncio.sleep

        async def note(delay_s: float) -> None:
            self.delays.append(delay_s)
            await sleep(0)

        monkeypatch.setattr("deploy.local.engine.engine.asyncio.sleep", note)


@pytest.mark.parametrize(
    ("body", "delays"),
    [
        pytest.param({**HELLO, "stream": True, "max_tokens": 3}, [1.0, 0.25, 0.25], id="a stream, token by token"),
        pytest.param({**HELLO, "max_tokens": 3}, [1.5], id="a whole reply, all at once"),
        pytest.param(
            {**HELLO, "temperature": 1, "n": 2, "stream": True, "max_tokens": 2}, [1.0, 0.25], id="choices side by side"
        ),
        pytest.param(
            {"inputs": "hello", "stream": True, "parameters": {"max_new_tokens": 2}}, [1.0, 0.25], id="inputs"
        ),
    ],
)
async def test_tokens_take_their_time(monkeypatch: pytest.MonkeyPatch, body: Any, delays: list[float]) -> None:
    clock = Clock(monkeypatch)
    engine = build("lmi27", first_token_delay_s=1, token_delay_s=0.25)
    await ask(engine, body)
    assert clock.delays == delays


async def test_without_delays_nothing_sleeps_but_long_streams_let_others_run(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    engine = build("vllm")
    await ask(engine, {**HELLO, "stream": True})
    assert clock.delays == []
    await ask(engine, {"messages": [{"role": "user", "content": "count to 50"}], "stream": True})
    assert set(clock.delays) == {0}


# --- Hanging up ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("dialect", "cancelled", "abandoned"),
    [pytest.param("vllm", 1, 0, id="vLLM stops"), pytest.param("lmi27", 0, 1, id="LMI goes on for nobody")],
)
@pytest.mark.parametrize("read", [0, 1, 4])
async def test_closing_a_stream_is_hanging_up(dialect: str, cancelled: int, abandoned: int, read: int) -> None:
    engine = build(dialect)
    stream = (await engine.invoke(request({**HELLO, "stream": True}))).body
    assert isinstance(stream, Stream)
    assert engine.running == 1
    for _ in range(read):
        await anext(stream)
    await stream.aclose()
    await stream.aclose()
    assert (engine.running, engine.cancelled, engine.abandoned) == (0, cancelled, abandoned)
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_what_lmi_was_left_with_runs_as_long_as_it_would_have() -> None:
    engine = build("lmi27", token_delay_s=0.01)
    stream = (await engine.invoke(request({**HELLO, "stream": True}))).body
    assert isinstance(stream, Stream)
    await anext(stream)
    await stream.aclose()
    assert (engine.running, engine.abandoned) == (1, 1)
    async with asyncio.timeout(5):
        await engine.until_running(0)


@pytest.mark.parametrize(("dialect", "running", "cancelled", "abandoned"), [("vllm", 0, 1, 0), ("lmi27", 1, 0, 1)])
@pytest.mark.parametrize("streams", [True, False])
async def test_cancelling_a_call_is_hanging_up(
    dialect: str, running: int, cancelled: int, abandoned: int, streams: bool
) -> None:
    engine = build(dialect, first_token_delay_s=3600)
    task = asyncio.create_task(ask(engine, {**HELLO, "stream": streams}))
    async with asyncio.timeout(5):
        await engine.until_running(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (engine.running, engine.cancelled, engine.abandoned) == (running, cancelled, abandoned)
    await engine.aclose()
    assert engine.running == 0


async def test_an_answer_read_to_its_end_was_neither_cancelled_nor_abandoned() -> None:
    engine = build("lmi27")
    reply = await engine.invoke(request({**HELLO, "stream": True}))
    assert isinstance(reply.body, Stream)
    async for _ in reply.body:
        assert engine.running == 1
    await reply.body.aclose()
    await ask(engine, HELLO)
    assert (engine.running, engine.served, engine.cancelled, engine.abandoned) == (0, 2, 0, 0)


async def test_a_refused_call_is_not_served() -> None:
    engine = build("vllm")
    assert (await ask(engine, {**HELLO, "temperature": -1})).status == 400
    assert (engine.running, engine.served) == (0, 0)


# --- Dying -----------------------------------------------------------------------------------------------------------


async def test_a_prompt_can_ask_the_engine_to_die_in_mid_stream() -> None:
    body = {"messages": [{"role": "user", "content": "fail after 3"}], "stream": True, "temperature": 0}
    reply = await ask(build("lmi27"), body)
    assert isinstance(reply.body, bytes)
    lines = reply.body.decode().split("\n")
    assert [json.loads(line)["choices"][0]["delta"].get("content") for line in lines[:4]] == ["", "You", " wrote", ' "']
    assert lines[4:] == [
        '{"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root cause.", '
        '"type": "InternalServerError", "param": null, "code": 500}}',
        "",
        "",
    ]


@pytest.mark.parametrize(
    ("dialect", "end"),
    [
        pytest.param(
            "lmi15",
            b'{"error": {"object": "error", "message": "EngineCore encountered an issue. See stack trace (above) for '
            b'the root cause.", "type": "BadRequestError", "param": null, "code": 400}}\n\n',
            id="0.8.4: flat, and the caller's fault",
        ),
        pytest.param(
            "lmi16",
            b'{"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root cause.", '
            b'"type": "BadRequestError", "param": null, "code": 400}}\n\n',
            id="0.10.2: nested",
        ),
        pytest.param(
            "vllm",
            b'data: {"error":{"message":"The server had an error while processing your request.",'
            b'"type":"InternalServerError","param":null,"code":500}}\n\ndata: [DONE]\n\n',
            id="0.33: compact, for clients",
        ),
    ],
)
async def test_a_dying_engine_can_be_the_first_thing_a_stream_says(dialect: str, end: bytes) -> None:
    reply = await ask(build(dialect, fail_after_tokens=0), {**HELLO, "stream": True})
    assert (reply.status, reply.body) == (200, end)


@pytest.mark.parametrize(
    ("dialect", "status", "body"),
    [
        (
            "lmi27",
            424,
            b'{"code":424,"message":"Async Inference Failure service.invoke_handler_async() failure","properties":{},'
            b'"content":{"keys":[],"values":[]},"cancelled":false}',
        ),
        (
            "vllm",
            500,
            b'{"error":{"message":"The server had an error while processing your request.",'
            b'"type":"InternalServerError","param":null,"code":500}}',
        ),
    ],
)
async def test_a_dying_engine_is_an_error_for_a_whole_reply(dialect: str, status: int, body: bytes) -> None:
    engine = build(dialect, fail_after_tokens=2)
    reply = await ask(engine, HELLO)
    assert (reply.status, reply.body) == (status, body)
    assert engine.running == 0


async def test_an_answer_shorter_than_the_failure_is_spared() -> None:
    reply = await answer(build("lmi27", fail_after_tokens=500), HELLO)
    assert reply["choices"][0]["finish_reason"] == "stop"


async def test_a_completion_and_an_inputs_stream_die_in_their_own_way() -> None:
    engine = build("lmi27", fail_after_tokens=1)
    error = b'{"error": {"message": "EngineCore encountered an issue. See stack trace (above) for the root cause.", '
    completion = await ask(engine, {"prompt": "hello", "stream": True})
    assert isinstance(completion.body, bytes)
    assert completion.body.split(b"\n")[1].startswith(error)
    assert completion.body.endswith(b"}}\n\n")
    inputs = await ask(engine, {"inputs": "hello", "stream": True})
    assert isinstance(inputs.body, bytes)
    # The handler of this schema ends the body at once: no blank line.
    assert inputs.body.endswith(b'"code": 500}}\n')
