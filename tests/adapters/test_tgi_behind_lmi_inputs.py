"""The LMI container asked by `inputs` and `parameters`: what recordings of it hold, and every trap of that schema."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.base import Usage
from adapters.errors import ContainerFault, FaultKind
from adapters.registry import make
from adapters.tgi.behind_frames import Stamp
from tests.adapters.behind import answered, asked, cuts, dumps, faulted, gathered, malformed, streamed
from tests.adapters.calls import chat, completion, outcome, recording, relayed
from tests.adapters.generating import generate


def container(version: str, **more: Any) -> Any:
    return make("lmi", version, schema="tgi", new_stamp=lambda: Stamp("abc", 1700000000), **more)


LMI = container("27")
HEAD = {"id": "cmpl-abc", "object": "text_completion", "created": 1700000000, "model": "public"}
ANY_JSON = {"type": "json_object"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}


def choice(text: str, finish: str | None = None, logprobs: Any = None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish}


def whole(text: str, finish: str, usage: tuple[int, int], logprobs: Any = None) -> dict[str, Any]:
    counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return HEAD | {"choices": [choice(text, finish, logprobs)], "usage": counts}


def lines(*records: Any) -> bytes:
    """Return a stream as LMI ends it: a blank line for the usage, and one for the end."""
    return b"".join(dumps(record) + b"\n" for record in records) + b"\n\n"


def frame(text: str, whole: str | None = None, finish: str = "length", tokens: int = 3) -> dict[str, Any]:
    """Return a record; `tokens` is what LMI says, which is one too many."""
    told = {"finish_reason": finish, "seed": None, "generated_tokens": tokens, "input_length": 4}
    token = {"id": 7, "text": text, "logprob": -0.5}
    return {"index": 0, "token": token, "generated_text": whole, "details": None if whole is None else told}


def reply(text: str, finish: Any = None, tokens: int = 2, prefill: list[Any] | None = None) -> dict[str, Any]:
    listed = [{"id": at, "text": part, "logprob": -0.5} for at, part in enumerate(["Hello", " you"], 1)]
    told = {
        "finish_reason": finish,
        "generated_tokens": tokens,
        "seed": None,
        "prefill": prefill or [],
        "tokens": listed,
    }
    return {"generated_text": text, "details": told}


# Requests


def test_a_completion_says_every_default_that_differs() -> None:
    assert (
        LMI.encode(completion(), stream=False) == b'{"inputs":"Hi","parameters":{"details":true,"max_new_tokens":16}}'
    )
    assert LMI.encode(completion(), stream=True).endswith(b',"stream":true}')


def test_the_served_name_is_told() -> None:
    assert asked(container("27", served_model_name="lmi"), completion())["model"] == "lmi"


@pytest.mark.parametrize(("given", "expected"), [
    pytest.param({"max_tokens": 5}, {"max_new_tokens": 5}, id="max_tokens"),
    pytest.param({"temperature": 0}, {"temperature": 0}, id="temperature"),
    pytest.param({"stop": ["a", "b"], "top_k": 3, "presence_penalty": 1, "logit_bias": {"5": 1}},
                 {"stop": ["a", "b"], "top_k": 3, "presence_penalty": 1, "logit_bias": {"5": 1}}, id="vLLM's own"),
    pytest.param({"truncate_prompt_tokens": 3}, {"truncate": 3}, id="truncate"),
    pytest.param({"response_format": ANY_JSON}, {"response_format": ANY_JSON}, id="response_format"),
    pytest.param({"logprobs": 0}, {}, id="log probabilities, which details tell"),
    pytest.param({"echo": True, "n": 1, "suffix": ""}, {}, id="nothing to send"),
    pytest.param({"made_up": 1}, {"made_up": 1}, id="unknown fields go on"),
])  # fmt: skip
def test_a_completion_in_this_schema(given: dict[str, Any], expected: dict[str, Any]) -> None:
    body = asked(LMI, completion(**given))
    assert body["parameters"] == {"details": True, "max_new_tokens": 16} | expected


@pytest.mark.parametrize(("given", "param", "message"), [
    pytest.param({"n": 2}, "n", "This model's container does not act upon n. Make a call for each choice.", id="n"),
    pytest.param({"best_of": 2}, "best_of",
                 "This model's container cannot choose the best of several answers: leave out best_of, or set it to n.",
                 id="best_of"),
    pytest.param({"logprobs": 1}, "logprobs",
                 "This model's container tells no tokens but those it generated: logprobs must be 0.", id="logprobs"),
    pytest.param({"echo": True, "logprobs": 0}, "echo",
                 "This model's container tells no log probabilities of the prompt: leave out echo or logprobs.",
                 id="the prompt's"),
    pytest.param({"prompt": ["a", "b"]}, "prompt", "This model's container takes one prompt: make a call for each.",
                 id="several prompts"),
    pytest.param({"prompt": [1, 2], "echo": True}, "echo", "This model's container cannot echo a prompt of token ids.",
                 id="token ids echoed"),
    pytest.param({"prompt_logprobs": 1}, "prompt_logprobs",
                 "This model's container does not act upon prompt_logprobs.", id="prompt_logprobs"),
    pytest.param({"return_token_ids": True}, "return_token_ids",
                 "This model's container does not act upon return_token_ids.", id="token ids"),
    pytest.param({"top_n_tokens": 3}, "top_n_tokens",
                 "This model's container does not act upon top_n_tokens. It belongs to another API.",
                 id="n in disguise"),
    pytest.param({"stop_sequences": ["a"]}, "stop_sequences",
                 "This model's container does not act upon stop_sequences. It belongs to another API.",
                 id="what does nothing"),
    pytest.param({"max_tokens": 0, "echo": True}, "max_tokens",
                 "This model's container generates at least one token.", id="nothing to generate"),
    pytest.param({"watermarking": True}, "watermarking", "This model's container does not act upon watermarking.",
                 id="what this vLLM ignores"),
])  # fmt: skip
def test_what_this_schema_would_lose_is_refused(given: dict[str, Any], param: str, message: str) -> None:
    assert asked(LMI, completion(**given)) == (param, message)


def test_token_ids_are_a_prompt() -> None:
    assert asked(LMI, completion(prompt=[1, 2]))["inputs"] == [1, 2]
    assert asked(LMI, completion(prompt=[[1, 2]]))["inputs"] == [1, 2]


OFF = {"frequency_penalty": 0.0, "presence_penalty": 0.0, "repetition_penalty": 1.0}
SAMPLED = {**OFF, "temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0}


@pytest.mark.parametrize(("given", "expected"), [
    pytest.param({"max_new_tokens": 5}, {**OFF, "temperature": 0.0, "max_new_tokens": 5}, id="greedy is temperature 0"),
    pytest.param({}, {**SAMPLED, "max_new_tokens": 1024}, id="without parameters it samples, and is not cut at 30"),
    pytest.param({"do_sample": False, "temperature": 0.5, "max_new_tokens": 5},
                 {**SAMPLED, "temperature": 0.5, "max_new_tokens": 5}, id="do_sample is never sent"),
    pytest.param({"do_sample": True, "seed": 2**64 - 1, "max_new_tokens": 5},
                 {**SAMPLED, "max_new_tokens": 5, "seed": 2**63 - 1}, id="a seed of 63 bits"),
    pytest.param({"stop": ["x"], "max_new_tokens": 5},
                 {**OFF, "temperature": 0.0, "max_new_tokens": 5, "stop": ["x"], "include_stop_str_in_output": True},
                 id="stop, left in the text as TGI does"),
    pytest.param({"return_full_text": True, "details": True, "max_new_tokens": 5},
                 {**OFF, "temperature": 0.0, "max_new_tokens": 5}, id="the gateway repeats the prompt"),
    pytest.param({"decoder_input_details": True, "max_new_tokens": 5},
                 {**OFF, "temperature": 0.0, "max_new_tokens": 5, "decoder_input_details": True}, id="prefill"),
    pytest.param({"grammar": {"type": "json", "value": SCHEMA}, "max_new_tokens": 5},
                 {**OFF, "temperature": 0.0, "max_new_tokens": 5, "structured_outputs": {"json": SCHEMA}},
                 id="grammar"),
])  # fmt: skip
def test_a_call_of_tgis_own_in_this_schema(given: dict[str, Any], expected: dict[str, Any]) -> None:
    body = asked(LMI, generate(**given))
    assert body["inputs"] == "Hi"
    assert body["parameters"] == {"details": True} | expected
    assert "seed" not in given or list(body["parameters"])[-1] == "seed"


@pytest.mark.parametrize(("given", "param"), [
    ({"top_n_tokens": 2}, "top_n_tokens"),
    ({"best_of": 2, "do_sample": True}, "best_of"),
    ({"typical_p": 0.5}, "typical_p"),
    ({"watermark": True}, "watermark"),
])  # fmt: skip
def test_what_the_handler_would_ignore_or_mistake_is_refused(given: dict[str, Any], param: str) -> None:
    assert asked(LMI, generate(**given))[0] == param


def test_chats_go_as_they_do_with_the_other_schema() -> None:
    plain = make("lmi", "27")
    for call in (chat(), chat(stream=True, tools=[{"type": "function", "function": {"name": "f"}}])):
        assert LMI.encode(call, stream=call.stream) == plain.encode(call, stream=call.stream)
    exchange = recording("lmi-chat-emoji-stream")
    told, expected = LMI.stream_decoder(exchange.call()), plain.stream_decoder(exchange.call())
    assert relayed(told, [exchange.reply]) == relayed(expected, [exchange.reply])
    assert outcome(told) == outcome(expected)
    refused = recording("lmi-err-empty-messages")
    assert LMI.decode_error(refused.status, refused.reply) == plain.decode_error(refused.status, refused.reply)


# Recordings


def test_a_recorded_whole_reply_as_a_completion_and_as_tgis() -> None:
    exchange = recording("lmi-tgi-details-prefill")
    call = completion(prompt="Hello", max_tokens=6, temperature=0, logprobs=0)
    told, usage = answered(LMI, call, exchange.reply)
    recorded = json.loads(exchange.reply)["details"]
    logprobs = told["choices"][0]["logprobs"]
    assert told == whole("! How can I help", "length", (2, 6), logprobs)
    assert logprobs["tokens"] == ["!", " How", " can", " I", " he", "lp"]
    assert logprobs["text_offset"] == [0, 1, 5, 9, 11, 14]
    assert logprobs["token_logprobs"] == [token["logprob"] for token in recorded["tokens"]]
    assert usage == Usage(2, 6)

    native = generate("Hello", max_new_tokens=6, details=True, decoder_input_details=True, return_full_text=True)
    told, usage = answered(LMI, native, exchange.reply)
    assert told["generated_text"] == "Hello! How can I help"
    details = told["details"]
    assert list(details) == ["finish_reason", "generated_tokens", "seed", "prefill", "tokens"]
    assert (details["finish_reason"], details["generated_tokens"]) == ("length", 6)
    assert details["prefill"] == recorded["prefill"]
    assert details["tokens"] == [token | {"special": False} for token in recorded["tokens"]]
    # The first token of the prompt has no log probability, so LMI leaves it out; a stream of the same prompt says 3.
    assert usage == Usage(3, 6)


def test_a_recorded_stream_as_a_completion() -> None:
    exchange = recording("lmi-tgi-stream")
    events, said = streamed(LMI, completion(prompt="Hello", stream=True, max_tokens=6), exchange.reply)
    texts = ["!", " How", " can", " I", " he"]
    # It was recorded without details, so nothing says that it met its cap.
    assert events == [*[HEAD | {"choices": [choice(text)]} for text in texts], *_end("lp"), "[DONE]"]
    assert said == (None, 6, True, None, None, 0)


def _end(text: str) -> list[Any]:
    return [HEAD | {"choices": [choice(text, "stop")]}]


def test_a_recorded_stream_as_tgis() -> None:
    exchange = recording("lmi-tgi-stop-stream")
    call = generate("Hello", stream=True, max_new_tokens=6, details=True, stop=["can"], return_full_text=True)
    events, said = streamed(LMI, call, exchange.reply)
    assert [event["index"] for event in events] == [1, 2, 3]
    assert [event["token"]["text"] for event in events] == ["", "! H", "ow "]
    assert [event["token"]["special"] for event in events] == [False] * 3
    assert [event["generated_text"] for event in events] == [None, None, "Hello! How "]
    # The stop string was not to stay in the text then, so it is not known for one.
    ended = {"finish_reason": "eos_token", "generated_tokens": 3, "seed": None, "input_length": 3}
    assert [event["details"] for event in events] == [None, None, ended]
    assert said == (Usage(3, 3), 3, True, None, None, 0)


def test_a_recorded_stream_of_characters_in_several_tokens() -> None:
    exchange = recording("lmi-tgi-emoji-stream")
    text = "Café — naïve 😀🚀 日本語 ✓ ½ 👨‍👩‍👧."
    for parts in ([exchange.reply], [exchange.reply[at : at + 1] for at in range(len(exchange.reply))]):
        decoder = LMI.stream_decoder(completion(stream=True))
        events = relayed(decoder, parts)
        assert "".join(json.loads(event[6:])["choices"][0]["text"] for event in events[:-1]) == text
    assert gathered(LMI, generate(), exchange.reply) == {"generated_text": text}


# Replies


@pytest.mark.parametrize(("finish", "tokens", "completions", "natives"), [
    pytest.param(None, 16, "length", "length", id="null at the cap"),
    pytest.param(None, 15, "stop", "eos_token", id="null before it"),
    pytest.param("you", 2, "stop", "stop_sequence", id="a stop string"),
    pytest.param(128009, 2, "stop", "eos_token", id="a stop token"),
    pytest.param("length", 2, "stop", "eos_token", id="a stop string that looks like a reason"),
])  # fmt: skip
def test_why_a_whole_answer_ended(finish: Any, tokens: int, completions: str, natives: str) -> None:
    told, _ = answered(LMI, completion(stop=["you", "length"]), reply("Hello you", finish, tokens))
    assert told == whole("Hello you", completions, (0, tokens))
    call = generate(max_new_tokens=16, stop=["you", "length"], details=True)
    text = "Hello you" if finish == "you" else "Hello"
    assert answered(LMI, call, reply(text, finish, tokens))[0]["details"]["finish_reason"] == natives


@pytest.mark.parametrize(("finish", "text", "completions", "natives"), [
    ("length", "a you", "length", "length"),
    ("stop", "a you", "stop", "stop_sequence"),
    ("stop", "a b", "stop", "eos_token"),
])  # fmt: skip
def test_why_a_streamed_answer_ended(finish: str, text: str, completions: str, natives: str) -> None:
    data = lines(frame("a"), frame(text[1:], text, finish))
    options = {"include_usage": True}
    events, said = streamed(LMI, completion(stream=True, stream_options=options), data)
    usage = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}
    assert events == [
        HEAD | {"choices": [choice("a")]},
        HEAD | {"choices": [choice(text[1:], completions)]},
        HEAD | {"choices": [], "usage": usage},
        "[DONE]",
    ]
    assert said == (Usage(4, 2), 2, True, None, None, 0)
    assert gathered(LMI, completion(), data) == whole(text, completions, (4, 2))
    call = generate(stream=True, details=True, stop=["you"], seed=2**63, do_sample=True)
    told, _ = streamed(LMI, call, data)
    ended = {"finish_reason": natives, "generated_tokens": 2, "seed": 2**63, "input_length": 4}
    assert told[-1]["details"] == ended
    gathered_details = gathered(LMI, generate(details=True, stop=["you"]), data)["details"]
    assert (gathered_details["finish_reason"], gathered_details["generated_tokens"]) == (natives, 2)


def test_details_nobody_asked_for_are_left_out() -> None:
    told, _ = streamed(LMI, generate(stream=True), lines(frame("a"), frame("b", "ab")))
    assert [event["details"] for event in told] == [None, None]
    assert answered(LMI, generate(), reply("ab"))[0] == {"generated_text": "ab"}
    assert answered(LMI, generate(details=True), reply("ab", prefill=[{}]))[0]["details"]["prefill"] == []


def test_an_echo_is_put_before_the_answer() -> None:
    assert answered(LMI, completion(echo=True), reply("ab"))[0]["choices"][0]["text"] == "Hiab"
    events, _ = streamed(LMI, completion(echo=True, stream=True), lines(frame("a"), frame("b", "ab")))
    assert [event["choices"][0]["text"] for event in events[:-1]] == ["Hi", "a", "b"]


# What goes wrong


@pytest.mark.parametrize(("data", "what", "told"), [
    pytest.param(b"", "the stream holds no answer", 0, id="nothing"),
    pytest.param(b"\n\n", "the stream holds no answer", 0, id="blank lines alone"),
    pytest.param(lines(frame("a")), "the stream ended before the answer did", 1, id="an end without a last record"),
    pytest.param(lines(frame("a"), frame("b", "ab"))[:-9], "a record of the stream is not valid JSON", 1, id="cut"),
    pytest.param(b'{"x":1}\n', "a record of the stream is JSON, but no token", 0, id="another record"),
])  # fmt: skip
def test_a_broken_stream_is_told(data: bytes, what: str, told: int) -> None:
    for call in (completion(stream=True), generate(stream=True)):
        events, said = streamed(LMI, call, data)
        assert len(events) == told
        assert said[2:5] == (False, None, what)
        assert gathered(LMI, call, data) == what


FORMATTER = b'{"error":"can only concatenate list (not \\"str\\") to list","code":424}'
DIED = b'{"code":500,"message":"Inference Engine Failure","properties":{},"content":{},"cancelled":false}'


@pytest.mark.parametrize(("data", "kind", "told"), [
    pytest.param(b'{"error":{"message":"x","type":"BadRequestError","param":null,"code":400}}\n\n',
                 FaultKind.INVALID_REQUEST, 0, id="first"),
    pytest.param(dumps(frame("a")) + b"\n" + FORMATTER, FaultKind.FAILED, 1, id="the formatter failed, on a line"),
    pytest.param(dumps(frame("a")) + FORMATTER, FaultKind.FAILED, 1, id="glued to a whole record"),
    pytest.param(dumps(frame("a")) + b"\n" + dumps(frame("b"))[:20] + DIED, FaultKind.UNAVAILABLE, 1,
                 id="glued to half a record"),
])  # fmt: skip
def test_an_error_in_a_stream_is_a_fault(data: bytes, kind: FaultKind, told: int) -> None:
    for call in (completion(stream=True), generate(stream=True)):
        events, said = streamed(LMI, call, data)
        assert len(events) == told
        assert said[3].kind is kind
        assert said[4] is None
        assert gathered(LMI, call, data).kind is kind


def test_an_error_glued_behind_the_last_record_spoils_nothing() -> None:
    data = dumps(frame("a")) + b"\n" + dumps(frame("b", "ab")) + DIED
    for parts in cuts(data):
        decoder = LMI.stream_decoder(completion(stream=True))
        assert relayed(decoder, parts)[-1] == b"data: [DONE]\n\n"


def test_errors_keep_the_shapes_of_their_version() -> None:
    lost = b'{"code":424,"message":"Async Inference Failure","properties":{},"content":{},"cancelled":false}'
    assert LMI.decode_error(424, lost).kind is FaultKind.REJECTED
    fault = container("15").decode_error(
        400, b'{"error":"This model\'s maximum context length is 9 tokens.","code":400}'
    )
    assert fault.kind is FaultKind.CONTEXT_LENGTH
    assert faulted(LMI, generate(), {"error": "x", "code": 424}) == ContainerFault(FaultKind.FAILED, "x")


def test_what_is_no_reply() -> None:
    for call in (completion(), generate()):
        assert malformed(LMI, call, b"[") == "the reply is not valid JSON"
        assert malformed(LMI, call, b'{"choices":[]}') == "the reply is JSON, but no generated text"
    assert malformed(LMI, completion(), b'{"generated_text":"a"}') == "the reply has no details"
    small = container("27", max_reply_bytes=5, max_event_bytes=20)
    assert malformed(small, generate(), b'{"generated_text":"a"}') == "the reply is too long"
    assert streamed(small, generate(stream=True), lines(frame("a")))[1][4] == "a record of the stream is too long"
