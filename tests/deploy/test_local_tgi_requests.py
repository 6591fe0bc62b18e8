"""What an imitated TGI says of bodies that it cannot read.

The texts are those of serde 1.0, serde_json 1.0 and serde_path_to_error 0.1 for the request types in TGI's
router/src/lib.rs, within those of axum 0.7: https://github.com/huggingface/text-generation-inference
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from deploy.local.engine import build
from tests.deploy.tgi_calls import post, told

pytestmark = pytest.mark.anyio

ROUTES = {
    "generate": "/generate",
    "chat": "/v1/chat/completions",
    "completion": "/v1/completions",
    "invocations": "/invocations",
}
PREFIXES = {
    400: "Failed to parse the request body as JSON: ",
    422: "Failed to deserialize the JSON body into the target type: ",
}

UNREADABLE = r"""
generate: nothing
{}
422 missing field `inputs` at line 1 column 2

generate: cut after a brace
{
400 EOF while parsing an object at line 1 column 1

generate: cut before the end
{"inputs":"x"
400 EOF while parsing an object at line 1 column 13

generate: a number for text
{"inputs":5}
422 inputs: invalid type: integer `5`, expected a string at line 1 column 11

generate: null for text
{"inputs":null}
422 inputs: invalid type: null, expected a string at line 1 column 14

generate: a list for text
{"inputs":["x"]}
422 inputs: invalid type: sequence, expected a string at line 1 column 10

generate: an object for text
{"inputs":{"a":1}}
422 inputs: invalid type: map, expected a string at line 1 column 10

generate: a key twice
{"inputs":"x","inputs":"y"}
422 duplicate field `inputs` at line 1 column 22

generate: no parameters
{"inputs":"x","parameters":null}
422 parameters: invalid type: null, expected struct GenerateParameters at line 1 column 31

generate: text for parameters
{"inputs":"x","parameters":"a"}
422 parameters: invalid type: string "a", expected struct GenerateParameters at line 1 column 30

generate: text for a number
{"inputs":"x","parameters":{"temperature":"hot"}}
422 parameters.temperature: invalid type: string "hot", expected f32 at line 1 column 47

generate: true for a number
{"inputs":"x","parameters":{"temperature":true}}
422 parameters.temperature: invalid type: boolean `true`, expected f32 at line 1 column 46

generate: below the type
{"inputs":"x","parameters":{"max_new_tokens":-1}}
422 parameters.max_new_tokens: invalid value: integer `-1`, expected u32 at line 1 column 47

generate: above the type
{"inputs":"x","parameters":{"max_new_tokens":5000000000}}
422 parameters.max_new_tokens: invalid value: integer `5000000000`, expected u32 at line 1 column 55

generate: a negative seed
{"inputs":"x","parameters":{"seed":-1}}
422 parameters.seed: invalid value: integer `-1`, expected u64 at line 1 column 37

generate: null for a flag
{"inputs":"x","parameters":{"do_sample":null}}
422 parameters.do_sample: invalid type: null, expected a boolean at line 1 column 44

generate: 1 for a flag
{"inputs":"x","parameters":{"do_sample":1}}
422 parameters.do_sample: invalid type: integer `1`, expected a boolean at line 1 column 41

generate: text for a list
{"inputs":"x","parameters":{"stop":"x"}}
422 parameters.stop: invalid type: string "x", expected a sequence at line 1 column 38

generate: a number in a list
{"inputs":"x","parameters":{"stop":[1]}}
422 parameters.stop[0]: invalid type: integer `1`, expected a string at line 1 column 37

generate: null for a list
{"inputs":"x","parameters":{"stop":null}}
422 parameters.stop: invalid type: null, expected a sequence at line 1 column 39

generate: a grammar without type
{"inputs":"x","parameters":{"grammar":{}}}
422 parameters.grammar: missing field `type` at line 1 column 40

generate: a grammar of no type
{"inputs":"x","parameters":{"grammar":{"type":"foo","value":1}}}
422 parameters.grammar.type: unknown variant `foo`, expected one of `json`, `regex`, `json_schema` at line 1 column 51

generate: a grammar without value
{"inputs":"x","parameters":{"grammar":{"type":"json"}}}
422 parameters.grammar: missing field `value` at line 1 column 53

generate: a number for a pattern
{"inputs":"x","parameters":{"grammar":{"type":"regex","value":5}}}
422 parameters.grammar.value: invalid type: integer `5`, expected a string at line 1 column 63

generate: a number before its type
{"inputs":"x","parameters":{"grammar":{"value":5,"type":"regex"}}}
422 parameters.grammar: invalid type: integer `5`, expected a string at line 1 column 64

generate: a schema without schema
{"inputs":"x","parameters":{"grammar":{"type":"json_schema","value":{}}}}
422 parameters.grammar.value: missing field `schema` at line 1 column 70

generate: text for a grammar
{"inputs":"x","parameters":{"grammar":"x"}}
422 parameters.grammar: invalid type: string "x", expected adjacently tagged enum GrammarType at line 1 column 41

generate: a list of members
[1]
422 [0]: invalid type: integer `1`, expected a string at line 1 column 2

generate: a text
"x"
422 invalid type: string "x", expected struct GenerateRequest at line 1 column 3

generate: a number
5
422 invalid type: integer `5`, expected struct GenerateRequest at line 1 column 1

generate: null
null
422 invalid type: null, expected struct GenerateRequest at line 1 column 4

generate: a trailing comma
{"inputs":"x",}
400 trailing comma at line 1 column 15

generate: no colon
{"inputs" "x"}
400 expected `:` at line 1 column 11

generate: a bare key
{inputs:"x"}
400 key must be a string at line 1 column 2

generate: no comma
{"inputs":"x" "parameters":{}}
400 expected `,` or `}` at line 1 column 15

generate: cut in a text
{"inputs":"x
400 inputs: EOF while parsing a string at line 1 column 12

generate: no escape
{"inputs":"\x"}
400 inputs: invalid escape at line 1 column 13

generate: half a character
{"inputs":"\ud800"}
400 inputs: unexpected end of hex escape at line 1 column 18

generate: half a word
{"inputs":tru}
400 inputs: expected ident at line 1 column 14

generate: half a number
{"inputs":"x","parameters":{"temperature":1.}}
400 parameters.temperature: invalid number at line 1 column 45

generate: a leading zero
{"inputs":"x","parameters":{"temperature":01}}
400 parameters.temperature: invalid number at line 1 column 44

generate: a bare minus
{"inputs":"x","parameters":{"temperature":-}}
400 parameters.temperature: invalid number at line 1 column 44

generate: too large a number
{"inputs":"x","parameters":{"temperature":1e999}}
400 parameters.temperature: number out of range at line 1 column 47

generate: no comma in a list
{"inputs":"x","parameters":{"stop":["a" "b"]}}
400 parameters.stop: expected `,` or `]` at line 1 column 41

generate: a trailing comma in a list
{"inputs":"x","parameters":{"stop":["a",]}}
400 parameters.stop: trailing comma at line 1 column 41

generate: broken inside what is ignored
{"inputs":"x","foo":{"a":[1,2}}
400 foo: expected `,` or `]` at line 1 column 30

invocations: nothing
{}
422 data did not match any variant of untagged enum SagemakerRequest

invocations: cut after a brace
{
400 EOF while parsing an object at line 1 column 1

invocations: a number for text
{"inputs":5}
422 data did not match any variant of untagged enum SagemakerRequest

invocations: a number
5
422 data did not match any variant of untagged enum SagemakerRequest

invocations: half a word
{"parameters":{"a":tru}}
400 parameters.a: expected ident at line 1 column 23

chat: nothing
{}
422 missing field `messages` at line 1 column 2

chat: text for messages
{"messages":"x"}
422 messages: invalid type: string "x", expected a sequence at line 1 column 15

chat: no content
{"messages":[{"role":"user"}]}
422 messages[0]: data did not match any variant of untagged enum MessageBody at line 1 column 28

chat: no role
{"messages":[{"content":"x"}]}
422 messages[0]: missing field `role` at line 1 column 28

chat: null content
{"messages":[{"role":"user","content":null}]}
422 messages[0]: data did not match any variant of untagged enum MessageBody at line 1 column 43

chat: a part of no type
{"messages":[{"role":"user","content":[{"type":"foo"}]}]}
422 messages[0]: data did not match any variant of untagged enum MessageBody at line 1 column 55

chat: no function
{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function"}]}
422 tools[0]: missing field `function` at line 1 column 72

chat: a tool without parameters
{"messages":[{"role":"user","content":"x"}],"tools":[{"type":"function","function":{"name":"a"}}]}
422 tools[0].function: missing field `arguments` at line 1 column 95

chat: a number for a choice
{"messages":[{"role":"user","content":"x"}],"tool_choice":5}
422 tool_choice: data did not match any variant of untagged enum ToolTypeDeserializer at line 1 column 60

chat: text for stop
{"messages":[{"role":"user","content":"x"}],"stop":"x"}
422 stop: invalid type: string "x", expected a sequence at line 1 column 54

chat: no stream options
{"messages":[{"role":"user","content":"x"}],"stream_options":null}
422 stream_options: invalid type: null, expected struct StreamOptions at line 1 column 65

chat: plain text as a format
{"messages":[{"role":"user","content":"x"}],"response_format":{"type":"text"}}
422 response_format.type: unknown variant `text`, expected one of `json`, `regex`, `json_schema` at line 1 column 76

chat: JSON without a schema
{"messages":[{"role":"user","content":"x"}],"response_format":{"type":"json_object"}}
422 response_format: missing field `value` at line 1 column 84

chat: two limits
{"messages":[{"role":"user","content":"x"}],"max_tokens":5,"max_completion_tokens":6}
422 duplicate field `max_tokens` at line 1 column 82

completion: nothing
{}
422 missing field `prompt` at line 1 column 2

completion: no prompts
{"prompt":[]}
422 prompt: Empty array detected. Do not use an empty array for the prompt. at line 1 column 13

completion: tokens
{"prompt":[1]}
422 prompt: data did not match any variant of untagged enum PromptDeserializer at line 1 column 14

completion: text for stop
{"prompt":"x","stop":"y"}
422 stop: invalid type: string "y", expected a sequence at line 1 column 24
"""
"""Blocks of three lines: the route and what is wrong, the body, the status and the text after its prefix."""


def _rows() -> Iterator[Any]:
    for block in UNREADABLE.strip().split("\n\n"):
        name, body, answer = block.split("\n")
        status, _, problem = answer.partition(" ")
        yield pytest.param(name.partition(":")[0], body, int(status), problem, id=name)
    lines = '{\n "inputs": "x",\n "parameters": {"top_k": "a"}\n}'
    told = 'parameters.top_k: invalid type: string "a", expected i32 at line 3 column 28'
    yield pytest.param("generate", "", 400, "EOF while parsing a value at line 1 column 0", id="generate: no body")
    yield pytest.param("generate", lines, 422, told, id="generate: on the third line")


@pytest.mark.parametrize(("kind", "body", "status", "problem"), list(_rows()))
async def test_a_body_that_cannot_be_read_is_refused_in_plain_text(
    kind: str, body: str, status: int, problem: str
) -> None:
    reply = await post(build("tgi"), body.encode(), ROUTES[kind])
    assert (reply.status, reply.headers["content-type"]) == (status, "text/plain; charset=utf-8")
    assert await told(reply) == PREFIXES[status] + problem


@pytest.mark.parametrize(
    "body",
    [
        pytest.param('{"inputs":"hello"} and more', id="what follows the object"),
        pytest.param('["hello"]', id="members in a list"),
        pytest.param('{"inputs":"hello","parameters":[]}', id="parameters in a list"),
        pytest.param(
            '{"inputs":"hello","nonsense":{"a":[1e999,"\\ud800"]}}', id="an unknown member, whatever is in it"
        ),
        pytest.param(
            '{"inputs":"hello","parameters":{"temperature":null,"seed":null}}', id="null for what has a default"
        ),
        pytest.param('{"inputs":"\\u0068ello"}', id="escapes"),
    ],
)
async def test_some_odd_bodies_are_read(body: str) -> None:
    reply = await post(build("tgi"), body.encode(), "/generate")
    assert (reply.status, await told(reply)) == (200, '{"generated_text":"Hello! How can I help you today?"}')


@pytest.mark.parametrize("content_type", [None, "", "text/plain", "application/jsonlines", "multipart/form-data"])
async def test_only_json_is_taken(content_type: str | None) -> None:
    reply = await post(build("tgi"), {"inputs": "x"}, content_type=content_type)
    assert (reply.status, await told(reply)) == (415, "Expected request with `Content-Type: application/json`")


@pytest.mark.parametrize("content_type", ["application/json; charset=utf-8", "application/cloudevents+json"])
async def test_every_kind_of_json_is_taken(content_type: str) -> None:
    assert (await post(build("tgi"), {"inputs": "x"}, content_type=content_type)).status == 200


async def test_a_body_over_two_megabytes_is_not_read() -> None:
    reply = await post(build("tgi"), b" " * 2_000_001)
    assert (reply.status, await told(reply)) == (413, "Failed to buffer the request body: length limit exceeded")


async def test_lists_nested_too_deep_are_not_read() -> None:
    reply = await post(build("tgi"), b'{"inputs":' + b"[" * 200)
    assert reply.status == 400
    assert "recursion limit exceeded at line 1 column 137" in await told(reply)
