"""How a container reads a call: the kind of its body, and what its headers say of adapters, sessions and routes."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from deploy.local.engine import build
from tests.deploy.test_engine_calls import answer, ask
from tests.deploy.test_engine_errors import HELLO, NOPE, a, v

pytestmark = pytest.mark.anyio

GREETING = "Hello! How can I help you today?"


# --- Which kind of request a body is ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"prompt": "hello", "inputs": "x", "messages": []}, "text_completion"),
        ({"inputs": "hello", "messages": []}, None),
        ({"messages": HELLO["messages"], "requestType": "NEW_SESSION"}, "chat.completion"),
    ],
)
async def test_lmi_goes_by_the_keys(body: Any, kind: str | None) -> None:
    assert (await answer(build("lmi27"), body)).get("object") == kind


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        ({"prompt": "x", **HELLO}, "chat.completion"),
        ({"prompt": "hello"}, "text_completion"),
        ({"prompt": "hello", "messages": "no list"}, "text_completion"),
    ],
)
async def test_vllm_tries_a_chat_first(body: Any, kind: str) -> None:
    assert (await answer(build("vllm"), body))["object"] == kind


# --- Models and adapters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["lmi", "", None])
async def test_lmi_knows_its_name_and_no_name(model: str | None) -> None:
    assert (await answer(build("lmi27"), {**HELLO, "model": model}))["model"] == "lmi"


async def test_lmi_can_have_another_name() -> None:
    engine = build("lmi27", served_name="llama")
    assert (await answer(engine, HELLO))["model"] == "llama"
    assert (await ask(engine, {**HELLO, "model": "lmi"})).status == 500


async def test_vllms_invocations_ignore_the_model() -> None:
    assert (await answer(build("vllm"), NOPE))["model"] == "local"


@pytest.mark.parametrize("dialect", ["vllm-0.8.4", "vllm-0.10.2"])
async def test_invocations_of_old_went_by_the_model_and_no_header(dialect: str) -> None:
    engine = build(dialect, adapters=["french"])
    assert (await answer(engine, {**HELLO, "model": "french"}))["model"] == "french"
    assert (await answer(engine, HELLO, **{ADAPTER: "french"}))["model"] == "local"
    assert (await ask(engine, NOPE)).status == 404


ADAPTER = "x_amzn_sagemaker_adapter_identifier"


@pytest.mark.parametrize("dialect", ["lmi16", "lmi27", "vllm"])
async def test_an_adapter_is_named_by_a_header(dialect: str) -> None:
    engine = build(dialect, adapters=["french"])
    reply = await answer(engine, {**HELLO, "model": "other"}, **{ADAPTER: "french"})
    assert reply["model"] == "french"
    assert reply["choices"][0]["message"]["content"] == GREETING


async def test_lmi_takes_an_adapter_from_the_body_and_the_header_goes_first() -> None:
    engine = build("lmi27", adapters=["french", "dutch"])
    assert (await answer(engine, {**HELLO, "adapters": "dutch"}))["model"] == "dutch"
    assert (await answer(engine, {**HELLO, "adapters": "dutch"}, **{ADAPTER: "french"}))["model"] == "french"
    assert (await answer(engine, {"inputs": "hello", "adapters": "dutch"}))["generated_text"] == GREETING


async def test_lmi_15_has_no_adapters() -> None:
    assert (await answer(build("lmi15"), HELLO, **{ADAPTER: "nope"}))["model"] == "lmi"
    assert (await answer(build("lmi15"), {**HELLO, "adapters": "nope"}))["model"] == "lmi"


async def test_an_adapter_can_be_asked_for_as_the_model() -> None:
    assert (await answer(build("lmi27", adapters=["french"]), {**HELLO, "model": "french"}))["model"] == "french"


@pytest.mark.parametrize(
    ("dialect", "status", "text"),
    [
        (
            "lmi27",
            424,
            b'{"error":"Input parsing failed: LoRA adapter nope not found in registry. Available adapters: '
            b'[\\u0027french\\u0027]","code":424}',
        ),
        (
            "vllm",
            404,
            b'{"error":{"message":"The model `nope` does not exist. Valid aliases: local.","type":"NotFoundError",'
            b'"param":"model","code":404}}',
        ),
    ],
)
async def test_an_unknown_adapter(dialect: str, status: int, text: bytes) -> None:
    reply = await ask(build(dialect, adapters=["french"]), HELLO, **{ADAPTER: "nope"})
    assert (reply.status, reply.body) == (status, text)


# --- Sessions --------------------------------------------------------------------------------------------------------

SESSION = "x_amzn_sagemaker_session_id"


async def test_lmi_opens_and_closes_sessions() -> None:
    engine = build("lmi27")
    opened = await ask(engine, {"requestType": "NEW_SESSION"})
    assert isinstance(opened.body, bytes)
    header = opened.headers["x-amzn-sagemaker-session-id"]
    found = re.fullmatch(r"([0-9a-f-]{36}); Expires=\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", header)
    assert found
    assert opened.body == f'{{"result": "Session {found[1]} created"}}\n'.encode()
    assert (await answer(engine, HELLO, **{SESSION: found[1]}))["object"] == "chat.completion"
    closed = await ask(engine, {"requestType": "CLOSE"}, **{SESSION: found[1]})
    assert closed.body == f'{{"result": "Session {found[1]} closed"}}\n'.encode()


@pytest.mark.parametrize(
    ("body", "headers", "text"),
    [
        (HELLO, {SESSION: "no id"}, "Input parsing failed: invalid session_id: no id"),
        ({"requestType": "CLOSE"}, {}, "Failed to close session: invalid session_id: None"),
        (
            {"requestType": "other"},
            {},
            "Input parsing failed: invalid payload. request type must be one of dict_keys(['NEW_SESSION', 'CLOSE'])",
        ),
    ],
)
async def test_bad_sessions(body: Any, headers: dict[str, str], text: str) -> None:
    reply = await ask(build("lmi27"), body, **headers)
    assert (reply.status, reply.body) == (424, a(424, text))


async def test_lmi_15_has_no_sessions() -> None:
    reply = await ask(build("lmi15"), {"requestType": "NEW_SESSION"})
    unroutable = "Input parsing failed: invalid payload. must contain prompt, inputs, or messages"
    assert (reply.status, reply.body) == (424, a(424, unroutable))
    assert (await answer(build("lmi15"), HELLO, **{SESSION: "no id"}))["object"] == "chat.completion"


# --- What vLLM's route takes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("content_type", ["text/plain", ""])
async def test_vllm_reads_nothing_but_json(content_type: str) -> None:
    reply = await ask(build("vllm"), HELLO, content_type=content_type)
    message = "1 validation error:\n  Unsupported Media Type: Only 'application/json' is allowed"
    assert (reply.status, reply.body) == (400, v(message, "Bad Request"))


async def test_vllm_has_no_sessions() -> None:
    reply = await ask(build("vllm"), HELLO, **{SESSION: "x"})
    message = "Invalid payload. stateful sessions not enabled, X-Amzn-SageMaker-Session-Id header not supported"
    assert (reply.status, reply.body) == (400, v(message, "Bad Request"))


ATTRIBUTES = "x_amzn_sagemaker_custom_attributes"


async def test_a_route_in_the_attributes_is_strict() -> None:
    engine = build("vllm")
    chat, completion = "route=/v1/chat/completions", "trace=1;route=/v1/completions"
    assert (await answer(engine, HELLO, **{ATTRIBUTES: chat}))["object"] == "chat.completion"
    assert (await answer(engine, {"prompt": "a"}, **{ATTRIBUTES: completion}))["object"] == "text_completion"
    assert (await ask(engine, NOPE, **{ATTRIBUTES: chat})).status == 404
    assert (await answer(engine, NOPE, **{ATTRIBUTES: "route=/invocations"}))["model"] == "local"
    reply = await ask(engine, {**HELLO, "temperature": "hot"}, **{ATTRIBUTES: chat})
    assert (reply.status, reply.body) == (
        400,
        v(
            "1 validation error:\n  {'type': 'float_parsing', 'loc': 'body.temperature', 'msg': 'Input should be a "
            "valid number, unable to parse string as a number', 'input': 'hot'}",
            "Bad Request",
            "body.temperature",
        ),
    )


async def test_other_routes_are_not_there() -> None:
    reply = await ask(build("vllm"), HELLO, **{ATTRIBUTES: "route=/v1/embeddings"})
    assert (reply.status, reply.body) == (404, b'{"detail":"Not Found"}')


@pytest.mark.parametrize("route", ["/tokenize", "/v1/completions", "/nowhere"])
async def test_vllms_own_image_takes_no_notice_of_a_route(route: str) -> None:
    engine = build("vllm", route_middleware=False)
    assert (await answer(engine, HELLO, **{ATTRIBUTES: f"route={route}"}))["object"] == "chat.completion"


async def test_an_error_tells_of_ten_fields_at_most() -> None:
    body = {"messages": [{"content": "x"}] * 12}
    reply = await ask(build("vllm"), body, **{ATTRIBUTES: "route=/v1/chat/completions"})
    assert isinstance(reply.body, bytes)
    lines = json.loads(reply.body)["error"]["message"].split("\n")
    assert lines[0] == "12 validation errors:"
    assert len(lines) == 12
    assert lines[-1] == "  ...and 2 more errors"
