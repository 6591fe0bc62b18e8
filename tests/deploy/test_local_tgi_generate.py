"""The imitated TGI's /invocations, /generate and /generate_stream, against what TGI's source says of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from deploy.local.engine import Stream, build
from tests.deploy.tgi_calls import answer, frames, post, text, told, user

pytestmark = pytest.mark.anyio

GENERATE, STREAM = "/generate", "/generate_stream"
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="


async def generated(inputs: str, *, of: str = "tgi", path: str = GENERATE, **parameters: Any) -> Any:
    return await answer(build(of), {"inputs": inputs, "parameters": parameters}, path)


# What a reply is


async def test_an_invocation_is_a_list_of_one_that_begins_with_the_inputs() -> None:
    assert await text(build("tgi"), {"inputs": "hello"}) == (
        '[{"generated_text":"helloHello! How can I help you today?"}]'
    )


@pytest.mark.parametrize(
    ("path", "parameters", "said"),
    [
        pytest.param(None, {"return_full_text": False}, "Hello!", id="invocation-told-not-to"),
        pytest.param("/", {}, "helloHello!", id="root"),
        pytest.param(GENERATE, {}, "Hello!", id="generate"),
        pytest.param(GENERATE, {"return_full_text": True}, "helloHello!", id="generate-told-to"),
    ],
)
async def test_which_replies_begin_with_the_inputs(path: str | None, parameters: dict[str, Any], said: str) -> None:
    reply = await answer(build("tgi"), {"inputs": "hello", "parameters": {"max_new_tokens": 2} | parameters}, path)
    listed = reply if path != GENERATE else [reply]
    assert listed == [{"generated_text": said}]


async def test_the_inputs_are_left_out_for_a_model_that_is_not_tagged_text_generation() -> None:
    engine = build("tgi", return_full_text=False)
    assert await answer(engine, {"inputs": "hello", "parameters": {"max_new_tokens": 1}}) == [
        {"generated_text": "Hello"}
    ]


async def test_details() -> None:
    asked = {"details": True, "decoder_input_details": True, "top_n_tokens": 2, "max_new_tokens": 1}
    body = {"inputs": "count to 3", "parameters": asked}
    assert await text(build("tgi", prefill_logprobs=True), body, GENERATE) == (
        '{"generated_text":"1","details":{"finish_reason":"length","generated_tokens":1,"seed":null,"prefill":['
        '{"id":2645,"text":"co","logprob":null},{"id":3096,"text":"un","logprob":-0.073684},'
        '{"id":116,"text":"t","logprob":-0.29869},{"id":356,"text":" to","logprob":-0.000507},'
        '{"id":32,"text":" ","logprob":-0.422897},{"id":51,"text":"3","logprob":-0.126889}],'
        '"tokens":[{"id":49,"text":"1","logprob":-0.021044,"special":false}],'
        '"top_tokens":[[{"id":49,"text":"1","logprob":-0.021044,"special":false},'
        '{"id":1808,"text":" Sing","logprob":-4.060487,"special":false}]]}}'
    )


@pytest.mark.parametrize(
    ("dialect", "options", "known"),
    [
        pytest.param("tgi", {}, False, id="newest"),
        pytest.param("tgi", {"prefill_logprobs": True}, True, id="newest-with-prefill-logprobs"),
        pytest.param("tgi-3.0", {}, False, id="3.0"),
        pytest.param("tgi-2.4", {}, True, id="2.4"),
    ],
)
async def test_what_prompts_were_worth_is_known_if_the_server_was_started_so(
    dialect: str, options: dict[str, object], known: bool
) -> None:
    body = {"inputs": "hello", "parameters": {"decoder_input_details": True, "max_new_tokens": 1}}
    details = (await answer(build(dialect, **options), body, GENERATE))["details"]
    assert details["prefill"] == ([{"id": 2265, "text": "hello", "logprob": None}] if known else [])
    assert [token["text"] for token in details["tokens"]] == ["Hello"]
    assert "top_tokens" not in details


async def test_headers_tell_what_a_reply_took() -> None:
    reply = await post(build("tgi"), {"inputs": "hello"})
    assert reply.headers["x-compute-type"] == "gpu+optimized"
    assert reply.headers["x-compute-characters"] == "5"
    assert (reply.headers["x-prompt-tokens"], reply.headers["x-generated-tokens"]) == ("1", "10")
    assert float(reply.headers["x-compute-time"]) > 0
    for name in ("total", "validation", "queue", "inference"):
        assert reply.headers[f"x-{name}-time"].isdigit()
    assert reply.headers["x-time-per-token"].isdigit()
    assert "x-prompt-tokens" not in (await post(build("tgi-1.4"), {"inputs": "hello"})).headers


# Streams


async def test_a_stream_has_a_record_for_each_token() -> None:
    body = {"inputs": "hello", "stream": True, "parameters": {"max_new_tokens": 2}}
    reply = await post(build("tgi"), body)
    assert reply.headers == {
        "content-type": "text/event-stream",
        "cache-control": "no-cache",
        "x-compute-type": "gpu+optimized",
        "x-compute-characters": "5",
        "x-accel-buffering": "no",
    }
    assert await text(build("tgi"), body) == (
        'data: {"index":1,"token":{"id":2267,"text":"Hello","logprob":-0.001016,"special":false},'
        '"generated_text":null,"details":null}\n\n'
        'data: {"index":2,"token":{"id":33,"text":"!","logprob":-0.056023,"special":false},'
        '"generated_text":"helloHello!","details":null}\n\n'
    )


async def test_the_end_of_an_answer_is_a_token_of_its_own() -> None:
    body = {"inputs": "repeat: a", "parameters": {"details": True, "top_n_tokens": 1}}
    first, last = await frames(build("tgi"), body, STREAM)
    assert list(first) == ["index", "token", "top_tokens", "generated_text", "details"]
    token = {"id": 257, "text": "<|im_end|>", "logprob": last["token"]["logprob"], "special": True}
    assert last == {
        "index": 2,
        "token": token,
        "top_tokens": [token],
        "generated_text": "a",
        "details": {"finish_reason": "eos_token", "generated_tokens": 2, "seed": None, "input_length": 5},
    }


async def test_a_stream_does_not_know_how_long_its_inputs_were_before_2_3() -> None:
    body = {"inputs": "repeat: a", "parameters": {"details": True}}
    assert (await frames(build("tgi-2.2"), body, STREAM))[-1]["details"] == {
        "finish_reason": "eos_token",
        "generated_tokens": 2,
        "seed": None,
    }


# What is said


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        pytest.param("3", "1, 2, 3", id="kept-in-the-text"),
        pytest.param(" ", "1, ", id="the-first-that-fits"),
        pytest.param(", 2", "1, 2", id="over-several-tokens"),
        pytest.param(".", "1, 2, 3, 4, 5", id="no-pattern"),
    ],
)
async def test_an_answer_ends_with_its_stop_sequence(stop: str, said: str) -> None:
    assert (await generated("count to 5", stop=[stop]))["generated_text"] == said


async def test_a_stop_sequence_within_a_token_does_not_count() -> None:
    reply = await generated("hello", stop=["Hel"], details=True)
    assert (reply["generated_text"], reply["details"]["finish_reason"]) == (
        "Hello! How can I help you today?",
        "eos_token",
    )


@pytest.mark.parametrize(
    ("count", "said", "finish"),
    [
        pytest.param(1, "1", "length", id="too-short-for-it"),
        pytest.param(7, "1, 2, 3", "length", id="length-wins"),
        pytest.param(8, "1, 2, 3", "stop_sequence", id="stop"),
    ],
)
async def test_why_an_answer_ended(count: int, said: str, finish: str) -> None:
    reply = await generated("count to 5", stop=["3"], max_new_tokens=count, details=True)
    assert (reply["generated_text"], reply["details"]["finish_reason"]) == (said, finish)


@pytest.mark.parametrize(
    ("count", "said"),
    [
        pytest.param(20, "Café — naïve 😀🚀 ", id="whole"),
        pytest.param(21, "", id="one-byte-of-three"),
        pytest.param(22, "", id="two-bytes-of-three"),
        pytest.param(23, "Café — naïve 😀🚀 日", id="three-bytes-of-three"),
    ],
)
async def test_an_answer_cut_within_a_character_has_no_text(count: int, said: str) -> None:
    assert (await generated("emoji", max_new_tokens=count))["generated_text"] == said


async def test_truncate_keeps_the_last_tokens_and_the_text() -> None:
    reply = await post(
        build("tgi"), {"inputs": "one two three", "parameters": {"truncate": 1, "max_new_tokens": 1}}, GENERATE
    )
    assert (reply.headers["x-prompt-tokens"], reply.headers["x-compute-characters"]) == ("1", "13")


@pytest.mark.parametrize(
    ("grammar", "said"),
    [
        pytest.param({"type": "regex", "value": "[0-9]{3}"}, "000", id="regex"),
        pytest.param(
            {"type": "json", "value": {"properties": {"n": {"const": 4}}, "required": ["n"]}}, {"n": 4}, id="json"
        ),
        pytest.param({"type": "json", "value": '{"properties": {}}'}, {}, id="json-in-a-string"),
        pytest.param(
            {"type": "json_schema", "value": {"name": "x", "schema": {"properties": {}}}}, {}, id="json_schema"
        ),
    ],
)
async def test_an_answer_is_within_its_grammar(grammar: dict[str, Any], said: Any) -> None:
    made = (await generated("hello", grammar=grammar))["generated_text"]
    assert (made if isinstance(said, str) else json.loads(made)) == said


async def test_a_picture_is_markdown() -> None:
    inputs = f"look ![](data:image/png;base64,{PIXEL})"
    assert (await generated(inputs))["generated_text"].startswith("I see 1 image: image/png 1x1.")
    shown = (await answer(build("tgi", vision=False), {"inputs": inputs}, GENERATE))["generated_text"]
    assert "I see" not in shown


async def test_a_long_answer_goes_past_what_was_wanted_by_its_last_slice() -> None:
    for dialect, tokens in (("tgi-2.4", 1100), ("tgi", 2048)):
        body = {"inputs": "repeat: " + "x " * 2500, "parameters": {"max_new_tokens": 1100, "details": True}}
        reply = await answer(build(dialect), body, GENERATE)
        assert reply["details"]["generated_tokens"] == tokens


# Chance


@pytest.mark.parametrize(
    ("parameters", "seed"),
    [
        pytest.param({}, None, id="greedy"),
        pytest.param({"seed": 7}, None, id="a-seed-does-not-sample"),
        pytest.param({"temperature": 1.0, "top_p": None}, None, id="a-temperature-of-1-does-not-sample"),
        pytest.param({"do_sample": True, "seed": 7}, 7, id="do_sample"),
        pytest.param({"temperature": 0.5, "seed": 7}, 7, id="temperature"),
        pytest.param({"top_k": 3, "seed": 7}, 7, id="top_k"),
        pytest.param({"top_p": 0.9, "seed": 7}, 7, id="top_p"),
        pytest.param({"typical_p": 0.9, "seed": 7}, 7, id="typical_p"),
        pytest.param({"do_sample": True}, 11400714819323198485, id="no-seed-is-told-all-the-same"),
    ],
)
async def test_a_seed_is_told_of_what_was_sampled(parameters: dict[str, Any], seed: int | None) -> None:
    reply = await generated("x", details=True, max_new_tokens=1, **parameters)
    assert reply["details"]["seed"] == seed


async def test_the_seed_that_is_told_says_the_same_again() -> None:
    first = await generated("tell me more", do_sample=True, details=True)
    again = await generated("tell me more", do_sample=True, details=True, seed=first["details"]["seed"])
    other = await generated("tell me more", do_sample=True, details=True, seed=5)
    assert again == first
    assert other["generated_text"] != first["generated_text"]


async def test_best_of_shows_the_others() -> None:
    body = {"inputs": "tell me", "parameters": {"best_of": 2, "do_sample": True, "details": True, "max_new_tokens": 40}}
    details = (await answer(build("tgi"), body, GENERATE))["details"]
    (other,) = details["best_of_sequences"]
    assert list(details) == ["finish_reason", "generated_tokens", "seed", "prefill", "tokens", "best_of_sequences"]
    assert list(other) == ["generated_text", "finish_reason", "generated_tokens", "seed", "prefill", "tokens"]
    assert other["seed"] != details["seed"]
    worth = [sum(token["logprob"] for token in one["tokens"]) / len(one["tokens"]) for one in (details, other)]
    assert worth[0] >= worth[1]


# What is refused


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"best_of": 2}, "you must use sampling when `best_of` is > 1"),
        ({"best_of": 3, "do_sample": True}, "`best_of` must be > 0 and <= 2. Given: 3"),
        ({"best_of": 2, "seed": 1, "do_sample": True}, "`seed` must not be set when `best_of` > 1"),
        ({"temperature": 0.0}, "`temperature` must be strictly positive"),
        ({"repetition_penalty": 0}, "`repetition_penalty` must be strictly positive"),
        ({"frequency_penalty": -2.1}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
        ({"top_p": 1.0}, "`top_p` must be > 0.0 and < 1.0"),
        ({"typical_p": 0}, "`typical_p` must be > 0.0 and < 1.0"),
        ({"top_k": 0}, "`top_k` must be strictly positive"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
        ({"stop": list("abcde")}, "`stop` supports up to 4 stop sequences. Given: 5"),
        ({"top_n_tokens": 6}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
        ({"truncate": 0}, "`truncate` must be strictly positive and less than 31. Given: 0"),
        ({"truncate": 32}, "`truncate` must be strictly positive and less than 31. Given: 32"),
        (
            {"max_new_tokens": 32},
            "`inputs` tokens + `max_new_tokens` must be <= 32. Given: 1 `inputs` tokens and 32 `max_new_tokens`",
        ),
        ({"grammar": {"type": "json", "value": {}}}, "grammar is not valid: Grammar must have a 'properties' field"),
        # The first thing that is wrong is told, and nothing else.
        ({"temperature": 0.0, "top_p": 1.0, "max_new_tokens": 0}, "`temperature` must be strictly positive"),
    ],
    ids=lambda value: ",".join(value) if isinstance(value, dict) else "refused",
)
async def test_a_value_out_of_range(parameters: dict[str, Any], message: str) -> None:
    reply = await post(build("tgi", context_length=32), {"inputs": "hello", "parameters": parameters})
    assert (reply.status, reply.headers["content-type"]) == (422, "application/json")
    assert json.loads(await told(reply)) == {
        "error": f"Input validation error: {message}",
        "error_type": "validation",
    }


@pytest.mark.parametrize(
    ("inputs", "parameters", "message"),
    [
        pytest.param("", {}, "`inputs` cannot be empty", id="nothing"),
        pytest.param("x " * 40, {"truncate": 31, "max_new_tokens": 1}, None, id="truncated"),
        pytest.param("x " * 40, {}, "`inputs` tokens + `max_new_tokens` must be <= 32. "
                     "Given: 41 `inputs` tokens and 0 `max_new_tokens`", id="longer-than-the-window"),
        pytest.param("x " * 31, {}, "`inputs` must have less than 31 tokens. Given: 32", id="as-long-as-the-window"),
        pytest.param("![](ftp://x)", {}, "invalid image content: ![](ftp://x)", id="picture-elsewhere"),
        pytest.param("![](http://h/)", {}, "Could not fetch image: error sending request for url (http://", id="web"),
        pytest.param("![](data:image/png;base64,AAAA)", {}, "invalid image: The image format", id="no-picture"),
        pytest.param("![](data:image/png,AAAA)", {}, "invalid image content: image/png,AAAA", id="not-in-base64"),
        pytest.param("![](data:image/png;base64,!!)", {}, "base64 encoding is invalid: ", id="no-base64"),
    ],
)  # fmt: skip
async def test_inputs_that_are_refused(inputs: str, parameters: dict[str, Any], message: str | None) -> None:
    reply = await post(build("tgi", context_length=32), {"inputs": inputs, "parameters": parameters})
    assert reply.status == (200 if message is None else 422)
    if message is not None:
        assert json.loads(await told(reply))["error"].startswith(f"Input validation error: {message}")


@pytest.mark.parametrize(
    ("inputs", "parameters", "message"),
    [
        ("", {}, "`inputs` cannot be empty"),
        ("a", {"best_of": 2, "do_sample": True}, "`best_of` != 1 is not supported when streaming tokens"),
        (
            "a",
            {"decoder_input_details": True},
            "`decoder_input_details` == true is not supported when streaming tokens",
        ),
    ],
    ids=["value", "best_of", "decoder_input_details"],
)
async def test_a_stream_has_its_refusal_inside(inputs: str, parameters: dict[str, Any], message: str) -> None:
    body = {"inputs": inputs, "stream": True, "parameters": parameters}
    assert await text(build("tgi"), body) == (
        f'data: {{"error":"Input validation error: {message}","error_type":"validation"}}\n\n'
    )


async def test_one_call_too_many() -> None:
    engine = build("tgi", max_concurrent_requests=1, token_delay_s=0.01)
    first = asyncio.create_task(post(engine, {"inputs": "count to 50"}))
    await asyncio.sleep(0.02)
    assert not first.done()
    second = await post(engine, {"inputs": "hello"})
    assert (second.status, second.body) == (429, b'{"error":"Model is overloaded","error_type":"overloaded"}')
    assert (await first).status == 200
    assert (await post(engine, {"inputs": "hello"})).status == 200


# The model server dies

DIED = '{"error":"Request failed during generation: Server error: transport error","error_type":"generation"}'


async def test_a_model_server_that_dies() -> None:
    reply = await post(build("tgi"), {"inputs": "fail after 2"})
    assert (reply.status, reply.body) == (424, DIED.encode())


@pytest.mark.parametrize("said", [0, 3])
async def test_a_model_server_that_dies_within_a_stream(said: int) -> None:
    *events, last = await frames(build("tgi"), {"inputs": f"fail after {said}", "stream": True})
    assert ([event["index"] for event in events], last) == (list(range(1, said + 1)), json.loads(DIED))


async def test_a_call_that_hangs_up_stops_generating() -> None:
    engine = build("tgi", token_delay_s=30)
    reply = await post(engine, {"messages": user("hello"), "stream": True})
    assert isinstance(reply.body, Stream)
    async for _ in reply.body:
        break
    await reply.body.aclose()
    assert engine.running == 0
