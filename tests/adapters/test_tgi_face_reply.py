"""Whole replies: what a completion says, as TGI says it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.base import Usage, Whole
from adapters.errors import ContainerFault, FaultKind, MalformedReply
from adapters.registry import make
from tests.adapters.calls import recording
from tests.adapters.generating import DONE, chunk, generate, usage, whole_completion

VLLM = make("vllm", "0.32")


def details_of(names: list[str], logs: list[float | None], **fields: Any) -> dict[str, Any]:
    top = [{name: log} for name, log in zip(names, logs, strict=True)]
    return {"logprobs": {"text_offset": [0], "token_logprobs": logs, "tokens": names, "top_logprobs": top}, **fields}


def told(parameters: dict[str, Any], *choices: dict[str, Any], **counts: int) -> str:
    whole = VLLM.decode_whole(generate(**parameters), whole_completion(*choices, **counts))
    assert isinstance(whole, Whole)
    return whole.body.decode()


def test_without_details_there_is_the_text_alone() -> None:
    call = generate("Hé", return_full_text=True, max_new_tokens=2)
    reply = whole_completion({"text": " you", "finish_reason": "length"}, prompt=3, completion=2)
    whole = VLLM.decode_whole(call, reply)
    assert whole == Whole('{"generated_text":"Hé you"}'.encode(), Usage(3, 2))


def test_details() -> None:
    choice = details_of(["a", "</s>"], [-0.5, -0.0625], text="a", finish_reason="stop", token_ids=[7, 2])
    assert told({"details": True, "do_sample": True, "seed": 2**64 - 1}, choice) == (
        '{"generated_text":"a","details":{"finish_reason":"eos_token","generated_tokens":2,"seed":18446744073709551615,'
        '"prefill":[],"tokens":[{"id":7,"text":"a","logprob":-0.5,"special":false},'
        '{"id":2,"text":"</s>","logprob":-0.0625,"special":true}]}}'
    )


def test_a_seed_is_told_only_where_something_was_sampled() -> None:
    choice = details_of(["a"], [-0.5], text="a", finish_reason="length", token_ids=[7])
    assert json.loads(told({"details": True, "seed": 5}, choice))["details"]["seed"] is None
    assert json.loads(told({"details": True, "do_sample": True}, choice))["details"]["seed"] is None
    assert json.loads(told({"details": True, "top_k": 3, "seed": 0}, choice))["details"]["seed"] == 0


def test_the_string_that_stopped_an_answer_stays_in_it() -> None:
    names = ["a", "."]
    choice = details_of(names, [-0.5, -1.0], text="a.", finish_reason="stop", stop_reason=".", token_ids=[7, 8])
    found = json.loads(told({"details": True, "stop": ["."]}, choice))
    assert found["generated_text"] == "a."
    assert found["details"]["finish_reason"] == "stop_sequence"


def test_top_tokens_stand_last() -> None:
    choice = details_of(["a"], [-0.5], text="a", finish_reason="length", token_ids=[7])
    choice["logprobs"]["top_logprobs"] = [{"a": -0.5, "b": -0.25}]
    assert told({"details": True, "top_n_tokens": 2}, choice).endswith(
        '"tokens":[{"id":7,"text":"a","logprob":-0.5,"special":false}],'
        '"top_tokens":[[{"id":2147483647,"text":"b","logprob":-0.25,"special":false},'
        '{"id":7,"text":"a","logprob":-0.5,"special":false}]]}}'
    )


def test_the_tokens_of_the_prompt_are_the_echo_before_the_answer() -> None:
    choice = details_of(["<s>", "Hi", "a"], [None, -2.0, -0.5], text="a", finish_reason="length", token_ids=[7])
    assert told({"decoder_input_details": True}, {**choice, "prompt_token_ids": [1, 5]}, prompt=2, completion=1) == (
        '{"generated_text":"a","details":{"finish_reason":"length","generated_tokens":1,"seed":null,'
        '"prefill":[{"id":1,"text":"<s>","logprob":null},{"id":5,"text":"Hi","logprob":-2.0}],'
        '"tokens":[{"id":7,"text":"a","logprob":-0.5,"special":false}]}}'
    )


def test_the_echo_of_a_real_container() -> None:
    exchange = recording("vllm032-scripted-completion-echo-logprobs")
    reply = json.loads(exchange.reply)
    # The recorded call did not ask for ids: they are those the same container gave to other calls.
    reply["choices"][0] |= {"text": "! How can", "prompt_token_ids": [39, 1899, 78], "token_ids": [0, 1162, 480]}
    whole = VLLM.decode_whole(generate("Hello", decoder_input_details=True), json.dumps(reply).encode())
    assert isinstance(whole, Whole)
    assert whole.usage == Usage(3, 3)
    assert json.loads(whole.body) == {
        "generated_text": "! How can",
        "details": {
            "finish_reason": "length",
            "generated_tokens": 3,
            "seed": None,
            "prefill": [
                {"id": 39, "text": "H", "logprob": None},
                {"id": 1899, "text": "ell", "logprob": -5.754527568817139},
                {"id": 78, "text": "o", "logprob": -0.4988503158092499},
            ],
            "tokens": [
                {"id": 0, "text": "!", "logprob": -0.08172064274549484, "special": False},
                {"id": 1162, "text": " How", "logprob": -0.32421842217445374, "special": False},
                {"id": 480, "text": " can", "logprob": -0.20526862144470215, "special": False},
            ],
        },
    }


# --- The best of several ---------------------------------------------------------------------------------------------

WORSE = details_of(["a"], [-1.0], text="a", finish_reason="length", token_ids=[1])
LONGER = details_of(["b", "c", "d"], [-0.5, -0.5, -0.5], text="bcd", finish_reason="stop", token_ids=[2, 3, 4])


@pytest.mark.parametrize("choices", [(WORSE, LONGER), (LONGER, WORSE)], ids=["second", "first"])
def test_the_best_answer_has_the_highest_mean_of_log_probabilities(choices: tuple[dict[str, Any], ...]) -> None:
    best_of_two = {"best_of": 2, "do_sample": True}
    assert told(best_of_two, *choices) == '{"generated_text":"bcd"}'  # though the sum of the other is higher
    found = json.loads(told({**best_of_two, "details": True, "return_full_text": True}, *choices))
    assert found["generated_text"] == "Hibcd"
    assert found["details"]["generated_tokens"] == 3
    assert list(found["details"])[-1] == "best_of_sequences"
    assert found["details"]["best_of_sequences"] == [
        {
            "generated_text": "Hia",
            "finish_reason": "length",
            "generated_tokens": 1,
            "seed": None,
            "prefill": [],
            "tokens": [{"id": 1, "text": "a", "logprob": -1.0, "special": False}],
        }
    ]


def test_of_equals_the_first_is_the_best() -> None:
    same = details_of(["z"], [-1.0], text="z", finish_reason="length", token_ids=[9])
    assert told({"best_of": 2, "do_sample": True}, WORSE, same) == '{"generated_text":"a"}'


def test_the_best_of_answers_that_cannot_differ_is_any_and_the_others_are_like_it() -> None:
    parameters = {"best_of": 2, "temperature": 1.0, "details": True}
    found = json.loads(told(parameters, LONGER))
    others = found["details"]["best_of_sequences"]
    assert [other["generated_text"] for other in others] == [found["generated_text"]]
    assert others[0]["tokens"] == found["details"]["tokens"]


# --- Before vLLM 0.10 ------------------------------------------------------------------------------------------------


def test_details_of_older_containers_come_as_a_stream_in_one_body() -> None:
    stream = chunk("a", names=["token_id:7"]) + chunk("", names=["token_id:2"], finish_reason="stop")
    reply = stream + usage(4, 2) + DONE
    whole = make("vllm", "0.9").decode_whole(generate(details=True), reply)
    assert whole == Whole(
        b'{"generated_text":"a","details":{"finish_reason":"eos_token","generated_tokens":2,"seed":null,"prefill":[],'
        b'"tokens":[{"id":7,"text":"a","logprob":-0.5,"special":false},'
        b'{"id":2,"text":"","logprob":-0.5,"special":true}]}}',
        Usage(4, 2),
    )


def test_older_containers_may_say_in_such_a_body_what_went_wrong() -> None:
    vllm = make("vllm", "0.9")
    fault = vllm.decode_whole(
        generate(details=True),
        b'data: {"object":"error","message":"no","type":"BadRequestError","param":null,"code":400}\n\ndata: [DONE]\n\n',
    )
    assert fault == ContainerFault(FaultKind.INVALID_REQUEST, "no")
    with pytest.raises(MalformedReply, match="the stream ended before the answer did"):
        vllm.decode_whole(generate(details=True), chunk("a", names=["token_id:7"]))
    with pytest.raises(MalformedReply, match="the reply is too long"):
        make("vllm", "0.9", max_reply_bytes=10).decode_whole(generate(details=True), b"data: {}\n\n\n\n")


# --- What is no reply ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "choice", "message"),
    [
        ({"details": True}, {"text": "a", "finish_reason": "stop"}, "the reply lacks the tokens that were asked for"),
        ({}, {"text": 5, "finish_reason": "stop"}, "the reply has a field of the wrong type"),
        ({}, {"text": "a"}, "the reply has a field of the wrong type"),
        (
            {"details": True},
            {"text": "a", "finish_reason": "stop", "logprobs": {"tokens": [1]}},
            "the reply has a field of the wrong type",
        ),
        (
            {"decoder_input_details": True},
            details_of(["a"], [-1.0], text="a", finish_reason="stop", token_ids=[1], prompt_token_ids=[5, 6]),
            "the reply lacks the prompt's tokens that were asked for",
        ),
    ],
)
def test_a_reply_that_does_not_tell_what_was_asked(
    parameters: dict[str, Any], choice: dict[str, Any], message: str
) -> None:
    with pytest.raises(MalformedReply, match=f"^{message}"):
        VLLM.decode_whole(generate(**parameters), whole_completion(choice))


def test_a_fault_is_the_containers_own() -> None:
    body = b'{"error":{"message":"too long","type":"BadRequestError","param":null,"code":400}}'
    for fault in (VLLM.decode_error(400, body), VLLM.decode_whole(generate(), body)):
        assert fault == ContainerFault(FaultKind.INVALID_REQUEST, "too long")
    aborted = VLLM.decode_whole(generate(), whole_completion({"text": "", "finish_reason": "abort"}))
    assert isinstance(aborted, ContainerFault)
    assert aborted.kind is FaultKind.UNAVAILABLE
