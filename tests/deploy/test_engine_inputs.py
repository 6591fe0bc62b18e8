"""LMI's `inputs` and `parameters`, whole and streamed, with what they do that Text Generation Inference does not."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.local.engine import build
from tests.deploy.test_engine_calls import answer, ask, request

pytestmark = pytest.mark.anyio


def inputs(prompt: Any = "count", *, stream: bool = False, **parameters: Any) -> dict[str, Any]:
    """Return a body at temperature 0."""
    body = {"inputs": prompt, "parameters": {"temperature": 0, **parameters}}
    return {**body, "stream": True} if stream else body


async def lines(dialect: str, body: Any) -> list[bytes]:
    """Return the chunks of a stream."""
    reply = await build(dialect).invoke(request(body))
    assert (reply.status, reply.headers["content-type"]) == (200, "application/jsonlines")
    assert not isinstance(reply.body, bytes)
    return [chunk async for chunk in reply.body]


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param({"inputs": "count"}, "1, 2, 3, 4, 5, 6, 7, 8, 9, 10,", id="30 tokens by default"),
        pytest.param(inputs(max_new_tokens=3), "1, ", id="max_new_tokens"),
        pytest.param(inputs(max_new_tokens=3, return_full_text=True), "count1, ", id="return_full_text"),
        pytest.param(inputs("hello"), "Hello! How can I help you today?", id="the end"),
        pytest.param(inputs(stop=["3"]), "1, 2, ", id="stop"),
        pytest.param(inputs(max_new_tokens=2, stop_sequences=["1"]), "1,", id="stop_sequences are ignored"),
        pytest.param(inputs("hello", best_of=3, typical_p=0.5), "Hello! How can I help you today?", id="ignored"),
        pytest.param(inputs("hello", n=2, temperature=1), "Hello! How can I help you today?", id="one choice is told"),
        pytest.param(
            inputs("hello", ignore_eos_token=True, max_new_tokens=13),
            "Hello! How can I help you today? The harbour light remember",
            id="ignore_eos_token",
        ),
        pytest.param(inputs(["hello", "count"], max_new_tokens=3), "Hello! How", id="several prompts: the first"),
        pytest.param(inputs([72, 105], max_new_tokens=3), "Hello! How", id="tokens"),
    ],
)
@pytest.mark.parametrize("dialect", ["lmi15", "lmi21", "lmi27"])
async def test_a_whole_reply(dialect: str, body: Any, text: str) -> None:
    reply = await ask(build(dialect), body)
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.body == json.dumps({"generated_text": text}, ensure_ascii=False).encode() + b"\n"


async def test_do_sample_false_is_temperature_0_and_its_absence_is_not() -> None:
    engine = build("lmi27")

    async def text(**parameters: Any) -> str:
        reply = await answer(engine, {"inputs": "Tell me of the sea.", "parameters": parameters})
        return str(reply["generated_text"])

    assert await text(do_sample=False, seed=5) == await text(temperature=0)
    assert await text(seed=5) == await text(seed=5, do_sample=True) != await text(temperature=0)


async def test_details() -> None:
    reply = await answer(build("lmi27"), inputs(max_new_tokens=2, details=True, seed=4))
    details = reply["details"]
    assert list(details) == ["finish_reason", "generated_tokens", "seed", "prefill", "tokens"]
    assert (details["finish_reason"], details["generated_tokens"], details["seed"]) == (None, 2, 4)
    assert details["prefill"] == []
    assert [(token["id"], token["text"]) for token in details["tokens"]] == [(49, "1"), (44, ",")]
    assert all(list(token) == ["id", "text", "logprob"] and token["logprob"] < 0 for token in details["tokens"])


async def test_details_finish_with_the_stop_string_alone() -> None:
    stopped = await answer(build("lmi27"), inputs(details=True, stop=["3"]))
    assert stopped["details"]["finish_reason"] == "3"
    ended = await answer(build("lmi27"), inputs("hello", details=True))
    assert ended["details"]["finish_reason"] is None


async def test_details_of_the_prompt() -> None:
    body = inputs("one two", max_new_tokens=1, details=True, decoder_input_details=True)
    prefill = (await answer(build("lmi27"), body))["details"]["prefill"]
    assert [(token["id"], token["text"]) for token in prefill] == [(626, " two")]
    alone = await answer(build("lmi27"), inputs("one two", max_new_tokens=1, decoder_input_details=True))
    assert "details" not in alone


async def test_top_n_tokens_is_a_number_of_choices() -> None:
    body = inputs("hello", top_n_tokens=3, temperature=1, details=True, max_new_tokens=2)
    details = (await answer(build("lmi27"), body))["details"]
    assert (details["generated_tokens"], len(details["tokens"])) == (6, 2)


async def test_truncate_keeps_the_end_of_the_prompt() -> None:
    whole = await answer(build("lmi27"), inputs("one two three", details=True, decoder_input_details=True, truncate=2))
    assert [token["text"] for token in whole["details"]["prefill"]] == [" three"]


# --- Streams ---------------------------------------------------------------------------------------------------------


def record(token: int, text: str, **more: Any) -> dict[str, Any]:
    return {"index": 0, "token": {"id": token, "text": text}, "generated_text": None, "details": None, **more}


def without_chance(chunks: list[bytes]) -> list[Any]:
    """Return the records of a stream without their logprobs."""
    records = [json.loads(chunk) for chunk in chunks if chunk.strip()]
    for made in records:
        assert list(made) == ["index", "token", "generated_text", "details"]
        assert made["token"].pop("logprob") < 0
    return records


@pytest.mark.parametrize(
    ("body", "records"),
    [
        pytest.param(
            inputs(stream=True, max_new_tokens=2), [record(49, "1"), record(44, ",", generated_text="1,")], id="length"
        ),
        pytest.param(
            inputs(stream=True, max_new_tokens=2, return_full_text=True),
            [record(49, "1"), record(44, ",", generated_text="count1,")],
            id="return_full_text is for the end alone",
        ),
        pytest.param(
            inputs(stream=True, max_new_tokens=2, details=True, seed=3),
            [
                record(49, "1"),
                record(
                    44,
                    ",",
                    generated_text="1,",
                    details={"finish_reason": "length", "seed": 3, "generated_tokens": 3, "input_length": 3},
                ),
            ],
            id="details count one too many",
        ),
        pytest.param(
            inputs(stream=True, stop=["2"]),
            [record(49, "1"), record(44, ","), record(32, " "), record(50, "", generated_text="1, ")],
            id="stop",
        ),
        pytest.param(
            inputs("repeat: é", stream=True),
            [record(195, ""), record(169, "é"), record(257, "", generated_text="é")],
            id="half a character says nothing",
        ),
    ],
)
@pytest.mark.parametrize("dialect", ["lmi15", "lmi27"])
async def test_a_stream_has_a_record_for_each_token(dialect: str, body: Any, records: Any) -> None:
    assert without_chance(await lines(dialect, body)) == records


async def test_a_stream_ends_with_two_blank_lines() -> None:
    chunks = await lines("lmi27", inputs(stream=True, max_new_tokens=2))
    assert [chunk.endswith(b"}\n") for chunk in chunks] == [True, True, False, False]
    # The first stands for the usage, the second for [DONE].
    assert chunks[2:] == [b"\n", b"\n"]


async def test_choices_of_a_stream_come_side_by_side() -> None:
    chunks = await lines("lmi27", inputs(["hello", "count"], stream=True, max_new_tokens=2))
    assert [made["index"] for made in without_chance(chunks)] == [0, 1, 0, 1]


async def test_the_full_text_of_several_prompts_breaks_the_stream() -> None:
    body = inputs(["hello", "count"], stream=True, max_new_tokens=1, return_full_text=True)
    chunks = await lines("lmi27", body)
    assert chunks == [b'{"error":"can only concatenate list (not \\"str\\") to list","code":424}']


# --- Errors ----------------------------------------------------------------------------------------------------------

FAILURE = (
    b'{"code":424,"message":"Async Inference Failure service.invoke_handler_async() failure","properties":{},'
    b'"content":{"keys":[],"values":[]},"cancelled":false}'
)
UNKNOWN_MODEL = (
    b'{"error":"error\\u003dErrorInfo(message\\u003d\\u0027The model `nope` does not exist.\\u0027, '
    b'type\\u003d\\u0027NotFoundError\\u0027, param\\u003d\\u0027model\\u0027, code\\u003d404)","code":500}'
)


@pytest.mark.parametrize(
    ("dialect", "body", "status", "text"),
    [
        pytest.param("lmi15", {"inputs": "a", "model": "nope"}, 424, FAILURE, id="15: the formatter fails"),
        pytest.param("lmi25", {"inputs": "a", "model": "nope"}, 424, FAILURE, id="25: it still does"),
        pytest.param("lmi26", {"inputs": "a", "model": "nope"}, 500, UNKNOWN_MODEL, id="26: told"),
        pytest.param("lmi15", inputs("a", temperature=-1), 424, FAILURE, id="15: a bad value"),
        pytest.param("lmi27", inputs("a", temperature=-1), 424, FAILURE, id="27: a bad value"),
        pytest.param("lmi27", inputs("a " * 9000), 424, FAILURE, id="27: too long"),
        pytest.param(
            "lmi27",
            {"inputs": "a", "parameters": None},
            424,
            b'{"error":"Input parsing failed: \\u0027NoneType\\u0027 object has no attribute \\u0027pop\\u0027",'
            b'"code":424}',
            id="parameters that are none",
        ),
        pytest.param(
            "lmi27",
            {"inputs": "a", "parameters": "b"},
            424,
            b'{"error":"Input parsing failed: \\u0027str\\u0027 object has no attribute \\u0027pop\\u0027","code":424}',
            id="parameters that are text",
        ),
        pytest.param(
            "lmi15",
            {"inputs": "a", "parameters": {"max_new_tokens": "x"}},
            500,
            b'{\n  "code": 500,\n  "type": "IllegalArgumentException",\n  "message": "reasonPhrase contains one of the '
            b"following prohibited characters: \\\\r\\\\n: Input parsing failed: 1 validation error for "
            b"CompletionRequest\\nmax_tokens\\n  Input should be a valid integer, unable to parse string as an integer "
            b"[type\\u003dint_parsing, input_value\\u003d\\u0027x\\u0027, input_type\\u003dstr]",
            id="a field of the wrong type",
        ),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_errors(dialect: str, body: Any, status: int, text: bytes, stream: bool) -> None:
    reply = await ask(build(dialect), {**body, "stream": stream})
    assert isinstance(reply.body, bytes)
    assert (reply.status, reply.body[: len(text)]) == (status, text)


# --- Other content types ---------------------------------------------------------------------------------------------

GREETING = b'{"generated_text": "Hello! How can I help you today?"}\n'


@pytest.mark.parametrize(
    ("content_type", "body", "status", "text"),
    [
        ("application/json; charset=utf-8", b'{"inputs":"hello"}', 200, GREETING),
        ("text/plain", b"hello", 200, GREETING),
        ("application/octet-stream", b"hello", 200, GREETING),
        ("text/csv", b"inputs\nhello\ncount\n", 200, GREETING),
        ("text/csv", b"other\nhello\n", 424, b'{"error":"Input parsing failed: You need to provide the correct CSV'),
        ("text/csv", b"question,context\na,b\n", 500, b'{\n  "code": 500,\n  "type": "IllegalArgumentException"'),
        ("text/plain", b"\xff", 424, b'{"error":"Input parsing failed: \\u0027utf-8\\u0027 codec can\\u0027t decode'),
        ("", b'{"inputs":"hello"}', 200, GREETING),
        ("", b"", 500, b'{\n  "code": 500,\n  "type": "IllegalArgumentException"'),
    ],
)
async def test_a_body_that_is_no_json_is_a_prompt(content_type: str, body: bytes, status: int, text: bytes) -> None:
    reply = await ask(build("lmi27"), body, content_type=content_type)
    assert isinstance(reply.body, bytes)
    assert (reply.status, reply.body[: len(text)]) == (status, text)
