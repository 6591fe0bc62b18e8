"""TGI's schema from callers: what a call holds, and how bodies that are no request are refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.base import Surface
from adapters.openai.request import FieldPolicy
from adapters.tgi.parameters import PARAMETERS
from adapters.tgi.request import TgiLimits, TgiRefusal, check, read
from tests.adapters.generating import generate

WINDOW = FieldPolicy(context_length=100)


def refusal(body: bytes, stream: bool | None = False) -> TgiRefusal:
    with pytest.raises(TgiRefusal) as caught:
        check(read(body, stream), model="m", policy=WINDOW, limits=TgiLimits())
    return caught.value


def test_a_call_holds_what_the_caller_gave_byte_for_byte() -> None:
    body = b'{"inputs" : "H\\u00e9llo", "parameters":{"temperature": 0.70, "seed" :18446744073709551615,"stop":[ "a"]}}'
    call = check(read(body, True), model="public", policy=WINDOW, limits=TgiLimits())
    assert (call.surface, call.model, call.stream) == (Surface.GENERATE, "public", True)
    assert (call.include_usage, call.choices, call.max_tokens, call.context_length) == (False, 1, None, 100)
    assert call.values == {
        "inputs": "Héllo",
        "parameters": {"temperature": 0.7, "seed": 18446744073709551615, "stop": ["a"]},
    }
    assert {name: bytes(raw) for name, raw in call.raw.items()} == {
        "inputs": b'"H\\u00e9llo"',
        "parameters": b'{"temperature":0.70,"seed":18446744073709551615,"stop":[ "a"]}',
    }


def test_every_parameter_of_tgi_is_known() -> None:
    given: dict[str, Any] = {
        "best_of": 1,
        "temperature": 0.5,
        "repetition_penalty": 1.03,
        "frequency_penalty": 0.1,
        "top_k": 10,
        "top_p": 0.95,
        "typical_p": 0.95,
        "do_sample": True,
        "max_new_tokens": 20,
        "return_full_text": False,
        "stop": ["photographer"],
        "truncate": 10,
        "watermark": True,
        "details": True,
        "decoder_input_details": True,
        "seed": 1,
        "top_n_tokens": 5,
        "grammar": {"type": "regex", "value": "a+"},
        "adapter_id": "lora",
    }
    assert set(given) == set(PARAMETERS)
    values = generate(**given).values["parameters"]
    assert values == {name: value for name, value in given.items() if name not in ("adapter_id", "best_of")}


@pytest.mark.parametrize(
    ("fields", "parameters"),
    [
        pytest.param({}, {"do_sample": True}, id="without parameters TGI samples"),
        pytest.param({"parameters": {}}, {}, id="with them it does not"),
        pytest.param({"parameters": {"seed": None, "top_k": None, "grammar": None}}, {}, id="null is absent"),
        pytest.param({"parameters": {"best_of": 0}}, {}, id="best of none is best of one"),
        pytest.param({"parameters": {"best_of": 1}}, {}, id="best of one"),
        pytest.param(
            {"parameters": {"min_p": 0.1, "stop_sequences": ["a"]}}, {}, id="TGI ignores what it does not know"
        ),
        pytest.param({"parameters": {"adapter_id": "a"}}, {}, id="the adapter has been chosen by then"),
        pytest.param({"parameters": {}, "stream": True, "model": 5}, {}, id="other fields are ignored"),
    ],
)
def test_the_parameters_of_a_call(fields: dict[str, Any], parameters: dict[str, Any]) -> None:
    call = generate(body=fields)
    assert call.values["parameters"] == parameters
    assert json.loads(bytes(call.raw["parameters"])) == parameters
    assert not call.stream


@pytest.mark.parametrize(
    ("stream", "body", "streams", "full_text"),
    [
        pytest.param(None, {"inputs": "a"}, False, True, id="compat"),
        pytest.param(None, {"inputs": "a", "stream": True}, True, True, id="compat, streamed"),
        pytest.param(
            None, {"inputs": "a", "parameters": {"return_full_text": False}}, False, False, id="compat, said so"
        ),
        pytest.param(None, {"inputs": "a", "parameters": {"return_full_text": None}}, False, True, id="compat, null"),
        pytest.param(False, {"inputs": "a", "stream": True}, False, None, id="generate"),
        pytest.param(True, {"inputs": "a", "stream": False}, True, None, id="generate_stream"),
    ],
)
def test_what_the_route_decides(
    stream: bool | None, body: dict[str, Any], streams: bool, full_text: bool | None
) -> None:
    call = check(read(json.dumps(body).encode(), stream), model="m", policy=WINDOW, limits=TgiLimits())
    assert call.stream is streams
    assert call.values["parameters"].get("return_full_text") is full_text


def test_the_compat_route_repeats_no_prompt_where_it_is_configured_so() -> None:
    call = generate(stream=None, limits=TgiLimits(default_return_full_text=False))
    assert call.values["parameters"] == {"do_sample": True, "return_full_text": False}


def test_a_draft_tells_the_adapter() -> None:
    assert read(b'{"inputs":"a","parameters":{"adapter_id":"lora"}}', False).adapter_id == "lora"
    assert read(b'{"inputs":"a","parameters":{"adapter_id":null}}', False).adapter_id is None
    assert read(b'{"inputs":"a"}', False).adapter_id is None


JSON, SHAPE = "Failed to parse the request body as JSON: ", "Failed to deserialize the JSON body into the target type: "


@pytest.mark.parametrize(
    ("body", "status", "message"),
    [
        pytest.param(b"", 400, JSON + "EOF while parsing a value at line 1 column 1", id="empty"),
        pytest.param(b'{"inputs":', 400, JSON + "EOF while parsing a value at line 1 column 11", id="cut"),
        pytest.param(b'{"inputs":"a",}', 400, JSON + "trailing comma in object at line 1 column 15", id="comma"),
        pytest.param(b'{\n"inputs": x}', 400, JSON + "invalid character at line 2 column 11", id="second line"),
        pytest.param(b'{"inputs":"a"} b', 400, JSON + "trailing characters at line 1 column 16", id="more after it"),
        pytest.param(b'{"inputs":"\xff"}', 400, JSON + "invalid unicode code point at line 1 column 1", id="not UTF-8"),
        pytest.param(b"[" * 5000, 400, JSON + "recursion limit exceeded at line 1 column 1", id="nested too deeply"),
        pytest.param(b'{"a":1e999,"inputs":""}', 400, JSON + "Number out of range at line 1 column 24", id="no number"),
        pytest.param(b"[]", 422, SHAPE + "invalid type: sequence, expected struct GenerateRequest", id="array"),
        pytest.param(b"{}", 422, SHAPE + "missing field `inputs`", id="no inputs"),
        pytest.param(b'{"inputs":["a"]}', 422, SHAPE + "inputs: invalid type: sequence, expected a string", id="batch"),
        pytest.param(b'{"inputs":"a","inputs":"b"}', 422, SHAPE + "duplicate field `inputs`", id="inputs twice"),
        pytest.param(
            b'{"inputs":"a","parameters":null}',
            422,
            SHAPE + "parameters: invalid type: null, expected struct GenerateParameters",
            id="null parameters",
        ),
        pytest.param(
            b'{"inputs":"a","parameters":{"seed":1,"seed":2}}',
            422,
            SHAPE + "parameters.seed: duplicate field `seed`",
            id="parameter twice",
        ),
    ],
)
def test_bodies_that_are_no_request_are_refused_in_plain_text(body: bytes, status: int, message: str) -> None:
    error = refusal(body)
    assert (error.status, error.error_type, error.message) == (status, None, message)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("best_of", 1.0, "invalid type: floating point `1.0`, expected usize"),
        ("best_of", -1, "invalid value: integer `-1`, expected usize"),
        ("temperature", "1", 'invalid type: string "1", expected f32'),
        ("temperature", 'a"\n\x1b', r'invalid type: string "a\"\n\u{1b}", expected f32'),
        ("best_of", 1e21, "invalid type: floating point `1000000000000000000000.0`, expected usize"),
        ("best_of", 1e-7, "invalid type: floating point `0.0000001`, expected usize"),
        ("temperature", True, "invalid type: boolean `true`, expected f32"),
        ("temperature", 10**400, "number out of range"),
        ("temperature", 1e39, "number out of range"),
        ("top_k", 2**31, "invalid value: integer `2147483648`, expected i32"),
        ("top_k", [], "invalid type: sequence, expected i32"),
        ("max_new_tokens", -1, "invalid value: integer `-1`, expected u32"),
        ("max_new_tokens", 2**32, "invalid value: integer `4294967296`, expected u32"),
        ("seed", 2**64, "invalid value: floating point number, expected u64"),
        ("seed", -1, "invalid value: integer `-1`, expected u64"),
        ("do_sample", None, "invalid type: null, expected a boolean"),
        ("do_sample", 1, "invalid type: integer `1`, expected a boolean"),
        ("details", None, "invalid type: null, expected a boolean"),
        ("watermark", {}, "invalid type: map, expected a boolean"),
        ("stop", None, "invalid type: null, expected a sequence"),
        ("stop", "a", 'invalid type: string "a", expected a sequence'),
        ("grammar", "a", 'invalid type: string "a", expected adjacently tagged enum GrammarType'),
        ("grammar", {}, "missing field `type`"),
        ("grammar", {"type": "regex"}, "missing field `value`"),
        ("adapter_id", 1, "invalid type: integer `1`, expected a string"),
    ],
)
def test_parameters_of_another_type(name: str, value: object, message: str) -> None:
    error = refusal(json.dumps({"inputs": "a", "parameters": {name: value}}).encode())
    assert (error.status, error.error_type) == (422, None)
    assert error.message == f"{SHAPE}parameters.{name}: {message}"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"stop": ["a", 1]}, "parameters.stop[1]: invalid type: integer `1`, expected a string"),
        (
            {"grammar": {"type": "ebnf", "value": "a"}},
            "parameters.grammar.type: unknown variant `ebnf`, expected one of `json`, `regex`, `json_schema`",
        ),
        (
            {"grammar": {"type": 1, "value": "a"}},
            "parameters.grammar.type: invalid type: integer `1`, expected variant identifier",
        ),
        (
            {"grammar": {"type": "regex", "value": 1}},
            "parameters.grammar.value: invalid type: integer `1`, expected a string",
        ),
        ({"grammar": {"type": "json_schema", "value": {}}}, "parameters.grammar.value: missing field `schema`"),
        (
            {"grammar": {"type": "json_schema", "value": {"schema": {}, "name": 1}}},
            "parameters.grammar.value.name: invalid type: integer `1`, expected a string",
        ),
    ],
)
def test_the_path_of_a_wrong_part_is_told(parameters: dict[str, Any], message: str) -> None:
    assert refusal(json.dumps({"inputs": "a", "parameters": parameters}).encode()).message == SHAPE + message


def test_fields_are_read_as_they_come() -> None:
    first = refusal(b'{"stream":1,"parameters":{"top_k":"a"},"inputs":1}', None)
    assert first.message == f"{SHAPE}stream: invalid type: integer `1`, expected a boolean"
    first = refusal(b'{"parameters":{"top_k":"a"},"inputs":1}', None)
    assert first.message == f'{SHAPE}parameters.top_k: invalid type: string "a", expected i32'


def test_the_compat_route_wants_a_boolean_stream() -> None:
    error = refusal(b'{"inputs":"a","stream":null}', None)
    assert error.message == f"{SHAPE}stream: invalid type: null, expected a boolean"
