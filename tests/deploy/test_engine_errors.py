"""What a request without an answer gets: LMI's three shapes by release, and vLLM's object."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from deploy.local.engine import build
from tests.deploy.test_engine_calls import ask

pytestmark = pytest.mark.anyio

HELLO = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0}
TOOL = {"type": "function", "function": {"name": "f"}}

C = (
    b'{"code":424,"message":"Async Inference Failure service.invoke_handler_async() failure","properties":{},'
    b'"content":{"keys":[],"values":[]},"cancelled":false}'
)


def a(code: int, text: str) -> bytes:
    """Return shape A: JSON as Gson escapes it."""
    escaped = json.dumps(text).replace("'", "\\u0027").replace("=", "\\u003d")
    return f'{{"error":{escaped},"code":{code}}}'.encode()


def as_repr(message: str, kind: str = "BadRequestError", param: str | None = None, code: int = 400) -> bytes:
    """Return shape A with the error as pydantic prints it: LMI 18 and later."""
    info = f"message={message!r}, type={kind!r}, param={param!r}, code={code}"
    return a(500, f"error=ErrorInfo({info})")


# --- LMI -------------------------------------------------------------------------------------------------------------

NOPE = {**HELLO, "model": "nope"}
NO_MODEL = "The model `nope` does not exist."
TOOLS = {**HELLO, "tools": [TOOL]}
NO_PARSER = '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set'
COLD = {**HELLO, "temperature": -1}
TOO_COLD = "temperature must be non-negative, got -1.0."
LONG = {"prompt": [72] * 70, "max_tokens": 5}
TOO_LONG = (
    "This model's maximum context length is 64 tokens. However, your request has 70 input tokens. Please reduce the "
    "length of the input messages."
)
LONG_CHAT = {"messages": [{"role": "user", "content": "one " * 57}]}
EMPTY: dict[str, Any] = {"messages": []}

LMI = [
    ("lmi15", NOPE, 404, a(404, NO_MODEL)),
    ("lmi16", NOPE, 424, C),
    ("lmi17", NOPE, 424, C),
    ("lmi18", NOPE, 500, as_repr(NO_MODEL, "NotFoundError", None, 404)),
    ("lmi19", NOPE, 500, as_repr(NO_MODEL, "NotFoundError", "model", 404)),
    ("lmi22", NOPE, 500, as_repr(NO_MODEL, "NotFoundError", "model", 404)),
    ("lmi23", NOPE, 500, as_repr(NO_MODEL, "NotFoundError", "model", 404)),
    ("lmi27", NOPE, 500, as_repr(NO_MODEL, "NotFoundError", "model", 404)),
    ("lmi15", TOOLS, 400, a(400, NO_PARSER)),
    ("lmi17", TOOLS, 424, C),
    ("lmi18", TOOLS, 500, as_repr(NO_PARSER)),
    ("lmi27", TOOLS, 500, as_repr(NO_PARSER)),
    ("lmi15", COLD, 400, a(400, TOO_COLD)),
    ("lmi16", COLD, 424, C),
    ("lmi18", COLD, 500, as_repr(TOO_COLD)),
    ("lmi22", COLD, 500, as_repr(f"{TOO_COLD} (parameter=temperature, value=-1.0)", param="temperature")),
    ("lmi23", COLD, 424, C),
    ("lmi27", COLD, 424, C),
    (
        "lmi15",
        LONG,
        400,
        a(
            400,
            "This model's maximum context length is 64 tokens. However, you requested 75 tokens (70 in the messages, 5 "
            "in the completion). Please reduce the length of the messages or completion.",
        ),
    ),
    ("lmi17", LONG, 424, C),
    ("lmi18", LONG, 500, as_repr(TOO_LONG)),
    ("lmi22", LONG, 500, as_repr(f"{TOO_LONG} (parameter=input_tokens, value=70)", param="input_tokens")),
    ("lmi23", LONG, 424, C),
    # From 0.10 to 0.15, what is wrong with a chat's prompt is followed by the exception's cause.
    ("lmi18", LONG_CHAT, 500, as_repr(f"{TOO_LONG} None")),
    ("lmi19", LONG_CHAT, 500, as_repr(f"{TOO_LONG} (parameter=input_tokens, value=70) None")),
    ("lmi21", LONG_CHAT, 500, as_repr(f"{TOO_LONG} (parameter=input_tokens, value=70)", param="input_tokens")),
    ("lmi27", EMPTY, 424, C),
]
NAMES = {
    id(NOPE): "model",
    id(TOOLS): "tools",
    id(COLD): "temperature",
    id(LONG): "length",
    id(LONG_CHAT): "a chat's length",
    id(EMPTY): "messages",
}


@pytest.mark.parametrize(
    ("dialect", "body", "status", "text"), LMI, ids=[f"{dialect}-{NAMES[id(body)]}" for dialect, body, _, _ in LMI]
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_lmi_release_has_its_shape(dialect: str, body: Any, status: int, text: bytes, stream: bool) -> None:
    reply = await ask(build(dialect, context_length=64, tool_parser=False), {**body, "stream": stream})
    assert (reply.status, reply.body) == (status, text)
    # Shape C has no content type.
    assert reply.headers.get("content-type") == (None if text == C else "application/json")


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b'{"messages"', "Expecting ':' delimiter: line 1 column 12 (char 11)"),
        (b"", "Expecting value: line 1 column 1 (char 0)"),
        (b"[]", "list indices must be integers or slices, not str"),
        (b"1", "argument of type 'int' is not iterable"),
        (b"null", "argument of type 'NoneType' is not iterable"),
        (b'{"foo":1}', "invalid payload. must contain prompt, inputs, or messages"),
    ],
)
@pytest.mark.parametrize("dialect", ["lmi15", "lmi17", "lmi27"])
async def test_what_lmi_cannot_read_is_told_in_every_release(dialect: str, body: bytes, text: str) -> None:
    reply = await ask(build(dialect), body)
    assert (reply.status, reply.body) == (424, a(424, f"Input parsing failed: {text}"))


@pytest.mark.parametrize("dialect", ["lmi15", "lmi17", "lmi27"])
async def test_an_error_of_several_lines_breaks_the_reason_phrase(dialect: str) -> None:
    reply = await ask(build(dialect), {**HELLO, "temperature": "hot"})
    assert isinstance(reply.body, bytes)
    shown = reply.body.decode()
    assert reply.status == 500
    assert re.fullmatch(
        r'\{\n  "code": 500,\n  "type": "IllegalArgumentException",\n  "message": "reasonPhrase contains one of the '
        r"following prohibited characters: \\\\r\\\\n: Input parsing failed: 1 validation error for "
        r"ChatCompletionRequest\\ntemperature\\n  Input should be a valid number, unable to parse string as a number "
        r"\[type\\u003dfloat_parsing, input_value\\u003d\\u0027hot\\u0027, input_type\\u003dstr\]\\n    For further "
        r'information visit https://errors.pydantic.dev/\d\.\d+/v/float_parsing"\n\}\n',
        shown,
    ), shown


async def test_a_check_of_vllms_own_is_a_pydantic_error_to_lmi() -> None:
    reply = await ask(build("lmi27"), {**HELLO, "tool_choice": "auto"})
    assert isinstance(reply.body, bytes)
    message = json.loads(reply.body)["message"]
    assert reply.status == 500
    assert (
        "Value error, When using `tool_choice`, `tools` must be set. (parameter=tool_choice) [type=value_error"
        in message
    )


# --- vLLM ------------------------------------------------------------------------------------------------------------


def v(message: str, kind: str = "BadRequestError", param: str | None = None, code: int = 400) -> bytes:
    error = {"message": message, "type": kind, "param": param, "code": code}
    return json.dumps({"error": error}, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("dialect", "body", "status", "text"),
    [
        pytest.param("vllm", b"{", 400, v(
            "JSON decode error: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
            "Bad Request",
        ), id="no JSON"),
        pytest.param("vllm", {"foo": 1}, 400, v(
            "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)", param="prompt"
        ), id="neither kind"),
        pytest.param("vllm", {**HELLO, "temperature": "hot"}, 400, v(
            "Either prompt or prompt_embeds must be provided and non-empty. (parameter=prompt)", param="prompt"
        ), id="a chat with a field that is none: no completion either"),
        pytest.param("vllm", {"prompt": "a", "temperature": "hot"}, 400, v(
            "Cannot find suitable handler for request. Expected one of: "
            "['ChatCompletionRequest', 'CompletionRequest']"
        ), id="a completion with a field that is none"),
        pytest.param("vllm-0.23", {"foo": 1}, 400, v(
            "Cannot find suitable handler for request. Expected one of: "
            "['ChatCompletionRequest', 'CompletionRequest']"
        ), id="neither kind, up to 0.26"),
        pytest.param("vllm", {"requestType": "NEW_SESSION"}, 400, v(
            "Invalid payload. stateful sessions not enabled", "Bad Request"
        ), id="sessions"),
        pytest.param("vllm-0.23", COLD, 400, v(
            f"{TOO_COLD} (parameter=temperature, value=-1.0)", param="temperature"
        ), id="nested"),
        pytest.param("vllm-0.10.0", COLD, 400, (
            b'{"object":"error","message":"temperature must be non-negative, got -1.0.","type":"BadRequestError",'
            b'"param":null,"code":400}'
        ), id="flat, up to 0.10.0"),
        pytest.param("vllm-0.10.1", COLD, 400, v(TOO_COLD), id="0.10.1"),
        pytest.param("vllm", {**HELLO, "tool_choice": "auto"}, 400, v(
            "When using `tool_choice`, `tools` must be set. (parameter=tool_choice)", param="tool_choice"
        ), id="a check of its own"),
        pytest.param("vllm", {**HELLO, "tools": []}, 400, v(
            "`tools` must not be an empty array. Either provide at least one tool or omit the field entirely. "
            "(parameter=tools)",
            param="tools",
        ), id="no tools"),
        pytest.param("vllm", {**HELLO, "tools": [TOOL], "tool_choice": {"type": "function"}}, 400, v(
            "Invalid value for `function`: `None` in `tool_choice`! Correct usage: "
            '`{"type": "function", "function": {"name": "my_function"}}` (parameter=tool_choice.function)',
            param="tool_choice.function",
        ), id="a named tool without a name"),
        pytest.param("vllm", {**HELLO, "tools": [TOOL], "tool_choice": "any"}, 400, v(
            "Invalid value for `tool_choice`: any! Only named tools, \"none\", \"auto\" or \"required\" are supported. "
            "(parameter=tool_choice)",
            param="tool_choice",
        ), id="another tool choice"),
        pytest.param("vllm", {
            **HELLO, "tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "g"}}
        }, 400, v(
            "The tool specified in `tool_choice` does not match any of the specified `tools` (parameter=tool_choice)",
            param="tool_choice",
        ), id="a tool that is not there"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("stream", [False, True])
async def test_vllms_errors(dialect: str, body: Any, status: int, text: bytes, stream: bool) -> None:
    reply = await ask(build(dialect), body if isinstance(body, bytes) else {**body, "stream": stream})
    assert (reply.status, reply.body) == (status, text)
    assert reply.headers == {"content-type": "application/json"}
