"""The parameters of an answer: its length, what ends it, chance, choices, and probabilities."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.local.engine import build, tokens
from tests.deploy.test_engine_calls import answer, chunks, said

pytestmark = pytest.mark.anyio

HELLO = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0}
COUNT = {"messages": [{"role": "user", "content": "count"}], "temperature": 0}
FREE = {"messages": [{"role": "user", "content": "Tell me a story about the sea."}]}


async def first(dialect: str, body: Any) -> tuple[str, str, Any, int]:
    """Return the first choice's content, finish and stop reasons, and how many tokens were generated."""
    reply = await answer(build(dialect), body)
    choice = reply["choices"][0]
    text = choice["message"]["content"] if "message" in choice else choice["text"]
    return text, choice["finish_reason"], choice["stop_reason"], reply["usage"]["completion_tokens"]


# --- Length ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        pytest.param({**COUNT, "max_tokens": 10}, ("1, 2, 3, 4", "length", None, 10), id="max_tokens"),
        pytest.param({**COUNT, "max_completion_tokens": 4}, ("1, 2", "length", None, 4), id="max_completion_tokens"),
        pytest.param(
            {**COUNT, "max_tokens": 10, "max_completion_tokens": 4}, ("1, 2", "length", None, 4), id="which wins"
        ),
        pytest.param({"prompt": "count"}, ("1, 2, 3, 4, 5, 6", "length", None, 16), id="completions: 16"),
        pytest.param({"prompt": "count", "max_tokens": None}, ("1, 2, 3, 4, 5, 6", "length", None, 16), id="null: 16"),
        pytest.param(
            {"prompt": "hello", "max_tokens": 20}, ("Hello! How can I help you today?", "stop", None, 10), id="the end"
        ),
        pytest.param(
            {**HELLO, "max_tokens": 9}, ("Hello! How can I help you today?", "length", None, 9), id="one token short"
        ),
    ],
)
@pytest.mark.parametrize("dialect", ["lmi15", "lmi27", "vllm"])
async def test_the_length_of_an_answer(dialect: str, body: Any, expected: tuple[Any, ...]) -> None:
    assert await first(dialect, body) == expected


async def test_min_tokens_puts_the_end_off() -> None:
    text, finish, _, count = await first("vllm", {**HELLO, "min_tokens": 30})
    assert text.startswith("Hello! How can I help you today? ")
    assert (finish, count) == ("stop", 31)


async def test_ignore_eos_goes_on_to_the_limit_and_the_limit_is_the_window() -> None:
    text, finish, _, count = await first("vllm", {**HELLO, "ignore_eos": True, "max_tokens": 100})
    assert (finish, count) == ("length", 100)
    assert text.startswith("Hello! How can I help you today? ")
    reply = await answer(build("vllm", context_length=64), {**HELLO, "ignore_eos": True})
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"]["total_tokens"] == 64


async def test_an_answer_ends_with_the_window() -> None:
    reply = await answer(build("vllm", context_length=64), {**COUNT, "max_tokens": 60})
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["usage"] == {
        "prompt_tokens": 15,
        "total_tokens": 64,
        "completion_tokens": 49,
        "prompt_tokens_details": None,
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


async def test_a_prompt_can_be_truncated() -> None:
    body = {"prompt": "one two three four five", "echo": True, "return_token_ids": True, "max_tokens": 1}
    ids = tokens.encode("one two three four five")
    for dialect, more, kept in [
        ("vllm", {}, ids[:2]),
        ("vllm", {"truncation_side": "left"}, ids[-2:]),
        ("lmi17", {}, ids[-2:]),
    ]:
        reply = await answer(build(dialect), {**body, **more, "truncate_prompt_tokens": 2})
        assert reply["choices"][0]["prompt_token_ids"] == kept


# --- Stops -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param({"stop": "help"}, ("Hello! How can I ", "stop", "help", 6), id="a string"),
        pytest.param({"stop": ["xyz", "can", "How"]}, ("Hello! ", "stop", "How", 3), id="the first to be met"),
        pytest.param(
            {"stop": "help", "include_stop_str_in_output": True},
            ("Hello! How can I help", "stop", "help", 6),
            id="included",
        ),
        pytest.param({"stop": "n I"}, ("Hello! How ca", "stop", "n I", 5), id="across tokens"),
        pytest.param({"stop": "nowhere"}, ("Hello! How can I help you today?", "stop", None, 10), id="never met"),
        pytest.param({"stop": []}, ("Hello! How can I help you today?", "stop", None, 10), id="none"),
        pytest.param(
            {"stop": "Hello", "min_tokens": 2}, ("Hello! How can I help you today?", "stop", None, 10), id="too early"
        ),
        pytest.param({"stop_token_ids": [33]}, ("Hello", "stop", 33, 2), id="a token"),
        pytest.param(
            {"stop_token_ids": [33], "include_stop_str_in_output": True},
            ("Hello!", "stop", 33, 2),
            id="a token, included",
        ),
        pytest.param(
            {"stop_token_ids": [33], "min_tokens": 3},
            ("Hello! How can I help you today?", "stop", None, 10),
            id="a token too early",
        ),
    ],
)
@pytest.mark.parametrize("dialect", ["lmi15", "lmi27", "vllm"])
async def test_stops(dialect: str, more: dict[str, Any], expected: tuple[Any, ...]) -> None:
    assert await first(dialect, {**HELLO, **more}) == expected
    records = await chunks(build(dialect), {**HELLO, **more})
    assert said(records) == expected[0]
    last = records[-1]["choices"][0]
    assert (last["finish_reason"], last["stop_reason"]) == (expected[1], expected[2])


async def test_text_that_may_become_a_stop_is_held_back() -> None:
    records = await chunks(build("vllm"), {**HELLO, "stop": "help!"})
    contents = [record["choices"][0]["delta"].get("content") for record in records]
    assert contents == ["", "H", "e", "llo!", " How", " c", "an I ", "help", " you t", "o", "day?"]


# --- Chance ----------------------------------------------------------------------------------------------------------


async def text(dialect: str = "lmi27", **more: Any) -> str:
    """Return the free text of an answer."""
    return (await first(dialect, {**FREE, **more}))[0]


async def test_the_seed_decides_and_temperature_0_needs_none() -> None:
    assert await text(temperature=0) == await text(temperature=0, seed=5)
    assert await text(seed=5) == await text(seed=5)
    assert await text(seed=5) != await text(seed=6)
    assert await text() == await text(seed=0)
    assert await text(temperature=0) == await text("vllm", temperature=0)


async def test_choices_differ_by_chance_and_come_side_by_side() -> None:
    body = {**FREE, "n": 3, "seed": 1, "max_tokens": 20}
    whole = [choice["message"]["content"] for choice in (await answer(build("vllm"), body))["choices"]]
    assert len(set(whole)) == 3
    records = await chunks(build("vllm"), body)
    assert [said(records, index) for index in range(3)] == whole
    order = [record["choices"][0]["index"] for record in records]
    assert order[:9] == [0, 1, 2] * 3


async def test_fixed_answers_are_the_same_in_every_choice() -> None:
    reply = await answer(build("vllm"), {**HELLO, "temperature": 1, "n": 2})
    assert [choice["message"]["content"] for choice in reply["choices"]] == ["Hello! How can I help you today?"] * 2
    assert reply["usage"]["completion_tokens"] == 20


# --- Completions -----------------------------------------------------------------------------------------------------


async def test_several_prompts_have_choices_one_after_the_other() -> None:
    body = {"prompt": ["hello", "count to 3"], "max_tokens": 20, "n": 2, "temperature": 1}
    reply = await answer(build("lmi27"), body)
    assert [(choice["index"], choice["text"]) for choice in reply["choices"]] == [
        (0, "Hello! How can I help you today?"),
        (1, "Hello! How can I help you today?"),
        (2, "1, 2, 3"),
        (3, "1, 2, 3"),
    ]
    assert reply["usage"]["prompt_tokens"] == 1 + 6
    texts: dict[int, str] = {}
    for record in await chunks(build("lmi27"), body):
        choice = record["choices"][0]
        texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    assert texts == {choice["index"]: choice["text"] for choice in reply["choices"]}


@pytest.mark.parametrize(
    ("prompt", "count"),
    [([72, 105], 2), ([[72, 105], [72]], 3), (["Hi", "count"], 1 + 3)],
)
async def test_prompts_may_be_tokens(prompt: Any, count: int) -> None:
    assert (await answer(build("vllm"), {"prompt": prompt}))["usage"]["prompt_tokens"] == count


async def test_echo() -> None:
    reply = await answer(build("vllm"), {"prompt": "count", "echo": True, "max_tokens": 3})
    assert reply["choices"][0]["text"] == "count1, "
    only = await answer(build("vllm"), {"prompt": "count", "echo": True, "max_tokens": 0})
    assert only["choices"][0]["text"] == "count"
    records = await chunks(build("vllm"), {"prompt": "count", "echo": True, "max_tokens": 2})
    assert [record["choices"][0]["text"] for record in records] == ["count1", ","]
    assert [record["choices"][0]["prompt_token_ids"] for record in records] == [tokens.encode("count"), None]


# --- What else a reply can tell --------------------------------------------------------------------------------------


async def test_usage_can_be_counted_all_along() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    records = await chunks(build("lmi27"), {**HELLO, "max_tokens": 3, "stream_options": options})
    assert [record["usage"]["completion_tokens"] for record in records] == [0, 1, 2, 3, 3]
    assert {record["usage"]["prompt_tokens"] for record in records} == {13}
    quiet = await chunks(build("lmi27"), {**HELLO, "max_tokens": 3})
    assert not any("usage" in record for record in quiet)


async def test_token_ids_can_be_returned() -> None:
    reply = await answer(build("vllm"), {**HELLO, "return_token_ids": True, "max_tokens": 3})
    said_ids = tokens.encode("Hello! How")
    assert reply["choices"][0]["token_ids"] == said_ids
    assert len(reply["prompt_token_ids"]) == reply["usage"]["prompt_tokens"] == 13
    records = await chunks(build("vllm"), {**HELLO, "return_token_ids": True, "max_tokens": 3})
    assert records[0]["prompt_token_ids"] == reply["prompt_token_ids"]
    assert [record["choices"][0]["token_ids"] for record in records[1:]] == [[token] for token in said_ids]


async def test_logprobs_of_a_chat() -> None:
    body = {**HELLO, "logprobs": True, "top_logprobs": 3, "max_tokens": 2}
    content = (await answer(build("lmi27"), body))["choices"][0]["logprobs"]["content"]
    assert [(entry["token"], entry["bytes"]) for entry in content] == [("Hello", [72, 101, 108, 108, 111]), ("!", [33])]
    for entry in content:
        assert entry["logprob"] < 0
        assert entry["top_logprobs"][0]["token"] == entry["token"]
        listed = [top["logprob"] for top in entry["top_logprobs"]]
        assert listed == sorted(listed, reverse=True)
        assert len({top["token"] for top in entry["top_logprobs"]}) == 3
    streamed = [
        entry
        for record in await chunks(build("lmi27"), body)
        for entry in (record["choices"][0]["logprobs"] or {"content": []})["content"]
    ]
    assert streamed == content
    named = await answer(build("lmi27"), {**body, "return_tokens_as_token_ids": True})
    assert [entry["token"] for entry in named["choices"][0]["logprobs"]["content"]] == ["token_id:2267", "token_id:33"]


async def test_logprobs_without_alternatives() -> None:
    reply = await answer(build("lmi27"), {**HELLO, "logprobs": True, "max_tokens": 1})
    assert reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"] == []


async def test_logprobs_of_a_completion() -> None:
    body = {"prompt": "one two", "echo": True, "logprobs": 2, "max_tokens": 2, "temperature": 0}
    choice = (await answer(build("vllm"), body))["choices"][0]
    made = choice["logprobs"]
    assert "".join(made["tokens"]) == choice["text"]
    assert made["text_offset"] == [0, 3, 7, 10]
    assert made["token_logprobs"][0] is None
    assert made["top_logprobs"][0] is None
    assert all(2 <= len(top) <= 3 for top in made["top_logprobs"][1:])
    assert all(token in top for token, top in zip(made["tokens"][1:], made["top_logprobs"][1:], strict=True))
    assert [entry is None for entry in choice["prompt_logprobs"]] == [True, False]
    streamed: dict[str, list[Any]] = {"tokens": [], "text_offset": [], "token_logprobs": []}
    for record in await chunks(build("vllm"), body):
        for name in streamed:
            streamed[name] += record["choices"][0]["logprobs"][name]
    assert streamed == {name: made[name] for name in streamed}


async def test_prompt_logprobs() -> None:
    reply = await answer(build("vllm"), {**HELLO, "prompt_logprobs": 2, "max_tokens": 1})
    entries = reply["prompt_logprobs"]
    assert len(entries) == 13
    assert entries[0] is None
    for entry in entries[1:]:
        assert 2 <= len(entry) <= 3
        assert all(set(known) == {"logprob", "rank", "decoded_token"} for known in entry.values())
        ranks = [known["rank"] for known in entry.values()]
        assert len(set(ranks)) == len(ranks)
        by_rank = sorted(entry.values(), key=lambda known: known["rank"])
        values = [known["logprob"] for known in by_rank]
        assert values == sorted(values, reverse=True)


async def test_an_answers_id_is_the_requests() -> None:
    assert (await answer(build("vllm"), {**HELLO, "request_id": "mine"}))["id"] == "chatcmpl-mine"
    assert (await answer(build("vllm"), HELLO, x_request_id="front"))["id"] == "chatcmpl-front"
    # DJL hands vLLM no HTTP request, so that its headers are unknown.
    assert (await answer(build("lmi27"), HELLO, x_request_id="front"))["id"] != "chatcmpl-front"
