"""The imitated TGI on a port of its own, over real sockets."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest

from deploy.local import ContainerRequest, LocalSageMaker
from deploy.local.engine import Engine, build
from deploy.local.tgiserver import TgiServer
from tests.deploy.tgi_calls import CHAT, COMPLETION, answer, post, told, user

pytestmark = pytest.mark.anyio


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


async def ask(
    session: aiohttp.ClientSession, server: TgiServer, method: str, path: str, body: Any = None
) -> tuple[int, str]:
    data = None if body is None else json.dumps(body)
    headers = {"content-type": "application/json"} if body is not None else {}
    async with session.request(method, server.url + path, data=data, headers=headers) as reply:
        return reply.status, await reply.text()


# Its routes


@pytest.mark.parametrize(
    ("path", "body"),
    [
        pytest.param("/", {"inputs": "hello"}, id="root"),
        pytest.param("/", {"inputs": "hello", "stream": True}, id="root-stream"),
        pytest.param("/generate", {"inputs": "hello", "parameters": {"details": True}}, id="generate"),
        pytest.param("/generate_stream", {"inputs": "hello"}, id="generate_stream"),
        pytest.param("/invocations", {"inputs": "hello"}, id="invocations"),
        pytest.param(CHAT, {"messages": user("hello")}, id="chat"),
        pytest.param(COMPLETION, {"prompt": "hello"}, id="completion"),
        pytest.param(COMPLETION, {"prompt": "hello", "stream": True}, id="completion-stream"),
        pytest.param("/tokenize", {"inputs": "hello"}, id="tokenize"),
        pytest.param("/chat_tokenize", {"messages": user("hello")}, id="chat_tokenize"),
        pytest.param("/generate", {"inputs": ""}, id="refused"),
    ],
)
async def test_a_route_answers_as_the_engine_does(session: aiohttp.ClientSession, path: str, body: Any) -> None:
    async with TgiServer(build("tgi")) as server, session.post(server.url + path, json=body) as reply:
        said = await reply.text()
        headers = {name.lower() for name in reply.headers}
    expected = await post(build("tgi"), body, path)
    assert reply.status == expected.status
    assert said.split('"created":')[0] == (await told(expected)).split('"created":')[0]
    assert headers >= set(expected.headers)


async def test_tokenize_tells_where_tokens_are_in_characters(session: aiohttp.ClientSession) -> None:
    async with TgiServer(build("tgi")) as server:
        status, said = await ask(session, server, "POST", "/tokenize", {"inputs": "é 😀"})
    assert status == 200
    assert [(entry["text"], entry["start"], entry["stop"]) for entry in json.loads(said)] == [
        *[("é", 0, 1)] * 2,
        (" ", 1, 2),
        *[("😀", 2, 3)] * 4,
    ]
    assert list(json.loads(said)[0]) == ["id", "text", "start", "stop"]


async def test_chat_tokenize_shows_what_the_template_made(session: aiohttp.ClientSession) -> None:
    async with TgiServer(build("tgi", thinking=True)) as server:
        _, said = await ask(session, server, "POST", "/chat_tokenize", {"messages": user("hi")})
    read = json.loads(said)
    assert list(read) == ["tokenize_response", "templated_text"]
    assert read["templated_text"] == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert [entry["text"] for entry in read["tokenize_response"]][:2] == ["<|im_start|>", "user"]


async def test_info(session: aiohttp.ClientSession) -> None:
    async with TgiServer(build("tgi", context_length=2048, served_name="org/model")) as server:
        status, said = await ask(session, server, "GET", "/info")
    assert (status, said) == (
        200,
        '{"model_id":"org/model","model_sha":null,"model_pipeline_tag":"text-generation",'
        '"max_concurrent_requests":128,"max_best_of":2,"max_stop_sequences":4,"max_input_tokens":2047,'
        '"max_total_tokens":2048,"validation_workers":2,"max_client_batch_size":4,"router":"text-generation-router",'
        '"version":"3.3.7","sha":null,"docker_label":"sha-f426a33"}',
    )


@pytest.mark.parametrize(("dialect", "status"), [("tgi", 200), ("tgi-2.1", 404)])
async def test_models(session: aiohttp.ClientSession, dialect: str, status: int) -> None:
    async with TgiServer(build(dialect)) as server:
        found, said = await ask(session, server, "GET", "/v1/models")
    listed = '{"object":"list","data":[{"id":"local","object":"model","created":0,"owned_by":"local"}]}'
    assert (found, said) == (status, listed if status == 200 else "")


async def test_health(session: aiohttp.ClientSession) -> None:
    engine = build("tgi")
    async with TgiServer(engine) as server:
        assert [await ask(session, server, "GET", path) for path in ("/", "/health", "/ping")] == [(200, "")] * 3
        engine.healthy = False
        assert await ask(session, server, "GET", "/health") == (
            503,
            '{"error":"unhealthy","error_type":"healthcheck"}',
        )


@pytest.mark.parametrize(
    ("dialect", "method", "path", "status"),
    [
        pytest.param("tgi", "POST", "/nothing", 404, id="unknown-post"),
        pytest.param("tgi", "GET", "/nothing", 404, id="unknown-get"),
        pytest.param("tgi", "DELETE", "/generate", 405, id="method"),
        pytest.param("tgi-2.2", "POST", "/chat_tokenize", 404, id="before-chat_tokenize"),
    ],
)
async def test_what_is_not_there(
    session: aiohttp.ClientSession, dialect: str, method: str, path: str, status: int
) -> None:
    async with TgiServer(build(dialect)) as server:
        assert await ask(session, server, method, path, {}) == (status, "")


@pytest.mark.parametrize(
    ("data", "content_type", "status", "said"),
    [
        pytest.param(
            b'{"inputs": ',
            "application/json",
            400,
            "Failed to parse the request body as JSON: inputs: EOF while parsing a value at line 1 column 11",
            id="no-json",
        ),
        pytest.param(
            b'{"inputs": "a"}',
            "text/plain",
            415,
            "Expected request with `Content-Type: application/json`",
            id="content-type",
        ),
        pytest.param(
            b'{"inputs": "' + b"a" * 2_000_000 + b'"}',
            "application/json",
            413,
            "Failed to buffer the request body: length limit exceeded",
            id="over-2-MB",
        ),
    ],
)
async def test_what_the_framework_refuses(
    session: aiohttp.ClientSession, data: bytes, content_type: str, status: int, said: str
) -> None:
    async with TgiServer(build("tgi")) as server:
        headers = {"content-type": content_type}
        async with session.post(server.url + "/generate", data=io.BytesIO(data), headers=headers) as reply:
            assert (reply.status, reply.headers["content-type"]) == (status, "text/plain; charset=utf-8")
            assert (await reply.text()).startswith(said)


async def test_tokens_come_one_at_a_time_and_a_caller_that_leaves_stops_them(session: aiohttp.ClientSession) -> None:
    engine = build("tgi", token_delay_s=0.01)
    async with TgiServer(engine) as server:
        async with session.post(server.url + "/generate_stream", json={"inputs": "count to 100"}) as reply:
            first, _ = await reply.content.readchunk()
            assert first.startswith(b'data: {"index":1,')
            assert first.endswith(b"\n\n")
            assert engine.running == 1
        async with asyncio.timeout(5):
            await engine.until_running(0)
        assert (engine.served, engine.cancelled, engine.abandoned) == (1, 1, 0)


async def test_several_callers_are_answered_side_by_side(session: aiohttp.ClientSession) -> None:
    async with TgiServer(build("tgi", token_delay_s=0.001)) as server:
        said = await asyncio.gather(
            *(ask(session, server, "POST", "/generate", {"inputs": f"count to {count}"}) for count in range(1, 9))
        )
    assert [json.loads(text)["generated_text"][-1] for _, text in said] == list("12345678")


@pytest.mark.parametrize("dialect", ["vllm", "lmi27"])
def test_a_server_of_something_else_is_none(dialect: str) -> None:
    with pytest.raises(ValueError, match=f"{dialect} is no TGI"):
        TgiServer(build(dialect))


async def test_an_engine_of_something_else_has_no_routes() -> None:
    with pytest.raises(ValueError, match="vllm has no routes but /invocations here"):
        await build("vllm").post("/generate", ContainerRequest(b"", {}))


# Beside the other dialects


@pytest.mark.parametrize(
    "question", ["hello", "count to 12", "lines", "json", "emoji", "repeat: ✓", "what is a river?"]
)
async def test_it_says_what_the_other_dialects_say(question: str) -> None:
    async def said(engine: Engine, body: Any) -> Any:
        return (await answer(engine, body))["choices"][0]

    chat = {"model": "local", "messages": user(question), "max_tokens": 200}
    for body in (chat | {"temperature": 0}, chat | {"temperature": 0.7, "seed": 3}):
        theirs, ours = await said(build("vllm"), body), await said(build("tgi"), body)
        assert ours["message"]["content"] == theirs["message"]["content"]
        assert ours["finish_reason"] == theirs["finish_reason"]


async def test_it_answers_behind_the_local_sagemaker() -> None:
    aioboto3 = pytest.importorskip("aioboto3")
    async with (
        LocalSageMaker({"chat": build("tgi")}) as local,
        aioboto3.Session().client("sagemaker-runtime", **local.client_options()) as runtime,
    ):
        body = json.dumps({"inputs": "hello", "stream": True, "parameters": {"max_new_tokens": 1}})
        reply = await runtime.invoke_endpoint_with_response_stream(
            EndpointName="chat", ContentType="application/json", Body=body
        )
        parts = [event["PayloadPart"]["Bytes"] async for event in reply["Body"]]
        assert b"".join(parts).startswith(b'data: {"index":1,"token":{"id":2267,"text":"Hello",')
        with pytest.raises(runtime.exceptions.ModelError) as caught:
            await runtime.invoke_endpoint(EndpointName="chat", ContentType="application/json", Body=b'{"inputs": ""}')
    assert caught.value.response["OriginalStatusCode"] == 422
    assert json.loads(caught.value.response["OriginalMessage"]) == {
        "error": "Input validation error: `inputs` cannot be empty",
        "error_type": "validation",
    }
