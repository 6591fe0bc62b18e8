"""Chats, in every way of calling and on every kind of container: what is said, when it ends, what comes along."""

from __future__ import annotations

import re
from typing import Any

import openai
import pytest

from tests.support.callers import Caller
from tests.support.stack import Local

GREETING = "Hello! How can I help you today?"


def test_a_chat_is_answered(caller: Caller, dialect: str) -> None:
    answer = caller.chat(dialect, "hello")
    assert answer.only.text == GREETING
    assert (answer.only.role, answer.only.finish) == ("assistant", "stop")
    assert answer.model == dialect + caller.variant
    assert answer.object == ("chat.completion.chunk" if caller.stream else "chat.completion")
    assert re.fullmatch(r"chatcmpl-[0-9a-f]{16,32}", answer.id)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (13, 10, 23)


def test_a_stream_comes_token_by_token(caller: Caller, dialect: str) -> None:
    if caller.stream:
        chunks = caller.chat(dialect, "count to 5").chunks
        texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
        assert [text for text in texts if text] == ["1", ",", " ", "2", ",", " ", "3", ",", " ", "4", ",", " ", "5"]
    else:
        assert caller.chat(dialect, "count to 5").only.text == "1, 2, 3, 4, 5"


@pytest.mark.parametrize(
    "messages",
    [
        pytest.param(
            [
                {"role": "system", "content": "Be brief."},
                {"role": "user", "content": "count to 3"},
                {"role": "assistant", "content": "1, 2, 3"},
                {"role": "user", "content": "repeat: and on"},
            ],
            id="several turns",
        ),
        pytest.param(
            [{"role": "developer", "content": "Be brief."}, {"role": "user", "content": "repeat: and on"}],
            id="developer",
        ),
        pytest.param(
            [{"role": "user", "name": "ada", "content": [{"type": "text", "text": "repeat: and on"}]}],
            id="parts and a name",
        ),
    ],
)
def test_messages_arrive_as_they_were_sent(
    caller: Caller, dialect: str, local: Local, messages: list[dict[str, Any]]
) -> None:
    assert caller.chat(dialect, messages).only.text == "and on"
    assert local.last_body()["messages"] == messages


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_an_answer_ends_at_its_limit(caller: Caller, dialect: str, limit: str) -> None:
    answer = caller.chat(dialect, "count to 50", **{limit: 7})
    assert (answer.only.text, answer.only.finish) == ("1, 2, 3", "length")
    assert answer.usage.completion_tokens == 7


@pytest.mark.parametrize(
    ("stop", "text", "reason"),
    [
        pytest.param("4", "1, 2, 3, ", "4", id="a string"),
        pytest.param(["9", ", 3"], "1, 2", ", 3", id="a list, across tokens"),
        pytest.param(["never"], "1, 2, 3, 4, 5, 6", None, id="one that does not occur"),
    ],
)
def test_an_answer_ends_at_a_stop_string(
    caller: Caller, dialect: str, stop: str | list[str], text: str, reason: str | None
) -> None:
    choice = caller.chat(dialect, "count to 6", stop=stop).only
    assert (choice.text, choice.finish, choice.stop_reason) == (text, "stop", reason)


def test_choices_are_kept_apart(caller: Caller, dialect: str) -> None:
    answer = caller.chat(dialect, "tell me more", n=3, seed=5)
    texts = [choice.text for choice in answer.choices]
    assert [text.partition(". ")[0] for text in texts] == ['You wrote "tell me more"'] * 3
    assert all(text.endswith(".") for text in texts)
    assert len(set(texts)) == 3, "each choice has its own dice, so equal ones would be one choice told twice"
    assert [choice.finish for choice in answer.choices] == ["stop"] * 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_a_seed_repeats_an_answer(caller: Caller, dialect: str) -> None:
    first, again, other = (caller.chat(dialect, "surprise me", seed=seed).only.text for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_logprobs_come_with_every_token(caller: Caller, dialect: str) -> None:
    choice = caller.chat(dialect, "hello", logprobs=True, top_logprobs=3).only
    assert choice.text == GREETING
    assert [entry.token for entry in choice.logprobs] == [
        *("Hello", "!", " How", " can", " I", " help", " you", " today", "?"),
        "<|im_end|>",
    ]
    for entry in choice.logprobs:
        assert bytes(entry.bytes).decode() == entry.token
        assert entry.logprob <= 0
        assert len(entry.top_logprobs) == 3
        assert entry.top_logprobs[0].token == entry.token


@pytest.mark.parametrize(
    ("options", "counted"),
    [
        pytest.param({}, False, id="not asked for"),
        pytest.param({"stream_options": {"include_usage": False}}, False, id="declined"),
        pytest.param({"stream_options": {"include_usage": True}}, True, id="asked for"),
    ],
)
def test_usage_closes_a_stream_only_if_asked_for(
    client: openai.OpenAI, dialect: str, options: dict[str, Any], counted: bool
) -> None:
    created: Any = client.chat.completions.create
    with created(model=dialect, messages=[{"role": "user", "content": "hello"}], stream=True, **options) as stream:
        chunks = list(stream)
    assert all(chunk.usage is None for chunk in chunks[:-1])
    assert (chunks[-1].choices == []) == counted
    assert (chunks[-1].usage is not None) == counted
    if counted:
        assert chunks[-1].usage.total_tokens == 23
        assert chunks[-2].choices[0].finish_reason == "stop"


def test_every_chunk_counts_if_asked_to(client: openai.OpenAI, dialect: str) -> None:
    created: Any = client.chat.completions.create
    options = {"include_usage": True, "continuous_usage_stats": True}
    messages = [{"role": "user", "content": "count to 3"}]
    with created(model=dialect, messages=messages, stream=True, stream_options=options) as stream:
        counts = [chunk.usage.completion_tokens for chunk in stream]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 8)


THOUGHT = "\nThe user greets me. I greet back.\n"


def test_reasoning_comes_beside_the_answer_under_both_names(caller: Caller, dialect: str) -> None:
    thinking = {"chat_template_kwargs": {"enable_thinking": True}}
    choice = caller.chat(dialect, "hello", extra_body=thinking).only
    assert choice.thoughts == {"reasoning": THOUGHT, "reasoning_content": THOUGHT}
    assert choice.text == f"\n\n{GREETING}"


@pytest.mark.parametrize(
    ("dialect", "effort", "thoughts"),
    [
        pytest.param("lmi20", "low", THOUGHT, id="lmi20, low"),
        pytest.param("lmi27", "low", THOUGHT, id="lmi27, low"),
        pytest.param("lmi27", "none", None, id="lmi27, none"),
        pytest.param("vllm-0.11", "high", THOUGHT, id="vllm-0.11, high"),
        pytest.param("vllm", "low", THOUGHT, id="vllm, low"),
        pytest.param("vllm", "none", None, id="vllm, none"),
    ],
)
def test_reasoning_effort_reaches_the_container(
    caller: Caller, dialect: str, effort: str, thoughts: str | None
) -> None:
    choice = caller.chat(dialect, "hello", reasoning_effort=effort).only
    assert choice.thoughts.get("reasoning") == thoughts


EXTRAS: dict[str, Any] = {
    "top_k": 20,
    "min_p": 0.05,
    "repetition_penalty": 1.1,
    "min_tokens": 2,
    "ignore_eos": False,
    "stop_token_ids": [7],
    "skip_special_tokens": True,
    "chat_template_kwargs": {"enable_thinking": False},
    "a_field_nobody_knows": {"x": [1, 2.50, "é"]},
}


def test_fields_beyond_openais_arrive_in_the_containers_body(caller: Caller, dialect: str, local: Local) -> None:
    fields = {"temperature": 0.5, "top_p": 0.9, "presence_penalty": 0.5, "logit_bias": {"50": -100}, "user": "u-1"}
    caller.chat(dialect, "hello", extra_body=EXTRAS, **fields)
    body = local.last_body()
    assert {name: body[name] for name in (*EXTRAS, *fields)} == {**EXTRAS, **fields}
    assert "model" not in body, "the container fills in its own"


@pytest.mark.parametrize("dialect", ["lmi20", "lmi27", "vllm-0.11", "vllm"])
@pytest.mark.parametrize(
    ("outputs", "pattern"),
    [
        pytest.param({"choice": ["yes", "no"]}, "yes|no", id="choice"),
        pytest.param({"regex": "[a-c]{4}-\\d"}, "[a-c]{4}-[0-9]", id="regex"),
        pytest.param({"json": {"type": "object", "properties": {}}}, r"\{\s*\}", id="json"),
    ],
)
def test_structured_outputs_reach_the_container(
    caller: Caller, dialect: str, local: Local, outputs: dict[str, Any], pattern: str
) -> None:
    choice = caller.chat(dialect, "hello", extra_body={"structured_outputs": outputs}).only
    assert re.fullmatch(pattern, choice.text)
    assert local.last_body()["structured_outputs"] == outputs
