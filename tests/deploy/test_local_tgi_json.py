"""What the imitated TGI says of bodies that are no JSON, or almost: the words of serde_json, checked against it."""

from __future__ import annotations

import json

import pytest

from deploy.local.engine import build
from deploy.local.engine.tgi import toolcalls
from deploy.local.engine.tgi.errors import TgiError
from deploy.local.engine.tgi.release import NEWEST, OLDEST, Release
from tests.deploy.test_local_tgi_requests import PREFIXES, ROUTES
from tests.deploy.tgi_calls import post, told

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("kind", "body", "status", "problem"),
    [
        pytest.param("generate", '{"inputs":]}', 400, "inputs: expected value at line 1 column 11", id="no-value"),
        pytest.param(
            "generate", '{"inputs"', 400, "EOF while parsing an object at line 1 column 9", id="ends-after-key"
        ),
        pytest.param(
            "generate", '{"inputs":"x",', 400, "EOF while parsing a value at line 1 column 14", id="ends-after-comma"
        ),
        pytest.param(
            "generate", '{"inputs":"x"', 400, "EOF while parsing an object at line 1 column 13", id="ends-in-object"
        ),
        pytest.param(
            "generate",
            '{"inputs":"x","parameters":{"stop":["a"',
            400,
            "parameters.stop: EOF while parsing a list at line 1 column 39",
            id="ends-in-list",
        ),
        pytest.param(
            "generate",
            '{"inputs":"x","parameters":{"stop":["a",',
            400,
            "parameters.stop: EOF while parsing a value at line 1 column 40",
            id="ends-after-list-comma",
        ),
        pytest.param("generate", '{"inputs":"x",}', 400, "trailing comma at line 1 column 15", id="trailing-comma"),
        pytest.param(
            "generate",
            '{"inputs":"x","parameters":{"stop":["a",]}}',
            400,
            "parameters.stop: trailing comma at line 1 column 41",
            id="list-trailing-comma",
        ),
        pytest.param("generate", '{"inputs":"x" "a":1}', 400, "expected `,` or `}` at line 1 column 15", id="no-comma"),
        pytest.param("generate", '{"inputs" "x"}', 400, "expected `:` at line 1 column 11", id="no-colon"),
        pytest.param("generate", "{1:2}", 400, "key must be a string at line 1 column 2", id="key-no-string"),
        pytest.param(
            "generate",
            '{"inputs":"x","parameters":{"seed":01}}',
            400,
            "parameters.seed: invalid number at line 1 column 37",
            id="leading-zero",
        ),
        pytest.param(
            "generate",
            '{"inputs":"x","parameters":{"seed":-}}',
            400,
            "parameters.seed: invalid number at line 1 column 37",
            id="minus",
        ),
        pytest.param(
            "generate",
            '{"inputs":"x","parameters":{"temperature":1.}}',
            400,
            "parameters.temperature: invalid number at line 1 column 45",
            id="point",
        ),
        pytest.param(
            "generate",
            '{"inputs":"x","parameters":{"temperature":1e}}',
            400,
            "parameters.temperature: invalid number at line 1 column 45",
            id="exponent",
        ),
        pytest.param(
            "generate",
            '{"inputs":"x","parameters":{"temperature":1e400}}',
            400,
            "parameters.temperature: number out of range at line 1 column 47",
            id="huge",
        ),
        pytest.param(
            "generate",
            '{"inputs":"x","other":[-]}',
            400,
            "other: invalid number at line 1 column 25",
            id="ignored-number",
        ),
        pytest.param(
            "generate",
            '{"inputs":"a\x01"}',
            400,
            "inputs: control character (\\u0000-\\u001F) found while parsing a string at line 1 column 13",
            id="control",
        ),
        pytest.param("generate", '{"inputs":"\\x"}', 400, "inputs: invalid escape at line 1 column 13", id="escape"),
        pytest.param("generate", '{"inputs":"\\u00g0"}', 400, "inputs: invalid escape at line 1 column 16", id="hex"),
        pytest.param(
            "generate",
            '{"inputs":"\\ud800"}',
            400,
            "inputs: unexpected end of hex escape at line 1 column 18",
            id="lone-lead",
        ),
        pytest.param(
            "generate",
            '{"inputs":"\\ud800 a"}',
            400,
            "inputs: unexpected end of hex escape at line 1 column 18",
            id="lead-then-text",
        ),
        pytest.param(
            "generate",
            '{"inputs":"\\ud800\\ud800"}',
            400,
            "inputs: lone leading surrogate in hex escape at line 1 column 23",
            id="lead-then-lead",
        ),
        pytest.param(
            "generate",
            '{"inputs":"\\udc00"}',
            400,
            "inputs: lone leading surrogate in hex escape at line 1 column 17",
            id="lone-trail",
        ),
        pytest.param(
            "generate",
            '{"inputs":"abc',
            400,
            "inputs: EOF while parsing a string at line 1 column 14",
            id="ends-in-string",
        ),
        pytest.param(
            "generate",
            '{"inputs":"abc\\',
            400,
            "inputs: EOF while parsing a string at line 1 column 15",
            id="ends-in-escape",
        ),
        pytest.param(
            "generate",
            '{"inputs":"\\u00',
            400,
            "inputs: EOF while parsing a string at line 1 column 15",
            id="ends-in-hex",
        ),
        pytest.param("generate", '{"inputs":nul}', 400, "inputs: expected ident at line 1 column 14", id="nul"),
        pytest.param(
            "generate", '{"inputs":"x","a":trux}', 400, "a: expected ident at line 1 column 22", id="tru-ignored"
        ),
        pytest.param(
            "generate", '{"inputs":"x","inputs":"y"}', 422, "duplicate field `inputs` at line 1 column 22", id="twice"
        ),
        pytest.param(
            "generate",
            '{"inputs":"x","parameters":{"seed":1.5}}',
            422,
            "parameters.seed: invalid type: floating point `1.5`, expected u64 at line 1 column 38",
            id="float-int",
        ),
        pytest.param(
            "generate",
            '{"inputs":100000000000000000000.0}',
            422,
            "inputs: invalid type: floating point `100000000000000000000.0`, expected a string at line 1 column 33",
            id="float-text",
        ),
        pytest.param(
            "generate",
            '{"inputs":"x","parameters":{"grammar":{"type":"json","type":"json","value":{}}}}',
            422,
            "parameters.grammar: duplicate field `type` at line 1 column 59",
            id="grammar-type-twice",
        ),
        pytest.param(
            "generate",
            '{"inputs":"x","parameters":{"grammar":{"value":1,"value":{}}}}',
            422,
            "parameters.grammar: duplicate field `value` at line 1 column 56",
            id="grammar-value-twice",
        ),
        pytest.param(
            "generate",
            '{"inputs":"x","parameters":{"grammar":{"a":1,"type":"regex"}}}',
            422,
            "parameters.grammar: missing field `value` at line 1 column 60",
            id="grammar-other",
        ),
        pytest.param(
            "generate",
            '{"inputs":"x","parameters":{"grammar":"a"}}',
            422,
            'parameters.grammar: invalid type: string "a", expected adjacently tagged enum GrammarType '
            "at line 1 column 41",
            id="grammar-text",
        ),
        pytest.param(
            "generate",
            '{"inputs":"x","parameters":{"grammar":{"value":{},"type":"regex"}}}',
            422,
            "parameters.grammar: invalid type: map, expected a string at line 1 column 65",
            id="grammar-value-first",
        ),
        pytest.param("generate", '["x",{},1]', 400, "trailing characters at line 1 column 9", id="list-too-long"),
        pytest.param(
            "chat",
            '{"messages":[{"role":"user","content":"a"}],"tool_choice":{"type":"x","function":{"name":"f"}}}',
            422,
            "tool_choice: data did not match any variant of untagged enum ToolTypeDeserializer at line 1 column 95",
            id="tool-no-function",
        ),
        pytest.param(
            "chat",
            '{"messages":[{"role":"user","content":"a"}],"tool_choice":5}',
            422,
            "tool_choice: data did not match any variant of untagged enum ToolTypeDeserializer at line 1 column 60",
            id="tool-choice-number",
        ),
        pytest.param(
            "chat",
            '{"messages":[{"role":"user","content":[{"type":"video"}]}]}',
            422,
            "messages[0]: data did not match any variant of untagged enum MessageBody at line 1 column 57",
            id="message-part",
        ),
        pytest.param(
            "chat",
            '{"messages":[{"role":"user","content":[{"type":"image_url","image_url":{"url":1}}]}]}',
            422,
            "messages[0]: data did not match any variant of untagged enum MessageBody at line 1 column 83",
            id="image-part",
        ),
        pytest.param(
            "chat",
            '{"messages":{}}',
            422,
            "messages: invalid type: map, expected a sequence at line 1 column 12",
            id="messages-object",
        ),
        pytest.param(
            "generate",
            '{"inputs":{"a":1}}',
            422,
            "inputs: invalid type: map, expected a string at line 1 column 10",
            id="map-for-text",
        ),
        pytest.param("invocations", '{"x":}', 400, "x: expected value at line 1 column 6", id="syntax-in-union"),
    ],
)
async def test_the_place_where_a_body_stops_making_sense(kind: str, body: str, status: int, problem: str) -> None:
    reply = await post(build("tgi"), body.encode(), ROUTES[kind])
    assert (reply.status, reply.headers["content-type"]) == (status, "text/plain; charset=utf-8")
    assert await told(reply) == PREFIXES[status] + problem


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("{", "EOF while parsing an object at line 1 column 1"),
        ('{"a"', "EOF while parsing an object at line 1 column 4"),
        ('{"a":', "EOF while parsing a value at line 1 column 5"),
        ('{"a": "é', "EOF while parsing a string at line 1 column 9"),
        ('{"a": "\\"', "EOF while parsing a string at line 1 column 9"),
        ('{"a": [1', "EOF while parsing a list at line 1 column 8"),
        ('{"a": [1], ', "EOF while parsing a value at line 1 column 11"),
        ('{"a": {"b": true', "EOF while parsing an object at line 1 column 16"),
        ('{"a": fals', "EOF while parsing a value at line 1 column 10"),
        ('{"a": 2', "EOF while parsing an object at line 1 column 7"),
        ('{"a": -', "EOF while parsing a value at line 1 column 7"),
        ('{"a": 2.5e', "EOF while parsing a value at line 1 column 10"),
    ],
)
async def test_what_is_said_of_a_tool_call_that_was_cut(text: str, problem: str) -> None:
    with pytest.raises(TgiError) as caught:
        toolcalls.parse(text, Release(NEWEST))
    shown = json.dumps(text, ensure_ascii=False)
    assert caught.value.error == f"Tool error: Failed to parse generated text: {problem} {shown}"
    with pytest.raises(TgiError) as caught:
        toolcalls.parse(text, Release(OLDEST))
    assert (caught.value.error, caught.value.kind) == (problem, "Input validation error")


async def test_text_that_is_not_utf_8() -> None:
    reply = await post(build("tgi"), b'{"inputs":"a\xff"}', "/generate")
    assert (reply.status, await told(reply)) == (
        400,
        PREFIXES[400] + "inputs: invalid unicode code point at line 1 column 14",
    )


async def test_members_nobody_knows_may_come_twice() -> None:
    assert (await post(build("tgi"), b'{"inputs":"x","a":1,"a":2}', "/generate")).status == 200
