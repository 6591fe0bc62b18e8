"""Text completions: every form of prompt, in every way of calling and on every kind of container."""

from __future__ import annotations

import re
from typing import Any

import openai
import pytest

from deploy.local.engine.tokens import encode
from tests.support.callers import Caller
from tests.support.stack import Local

COUNT = encode("count to 3")
SPELLED = ["co", "un", "t", " to", " ", "3"]


def test_a_prompt_is_answered(caller: Caller, dialect: str) -> None:
    answer = caller.completion(dialect, "count to 3", max_tokens=50)
    assert (answer.only.text, answer.only.finish) == ("1, 2, 3", "stop")
    assert (answer.object, answer.model) == ("text_completion", dialect + caller.variant)
    assert re.fullmatch(r"cmpl-[0-9a-f]{16,32}", answer.id)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (6, 8)


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [
        pytest.param("count to 2", ["1, 2"], id="a string"),
        pytest.param(["count to 2", "hello"], ["1, 2", "Hello! How can I help you today?"], id="strings"),
        pytest.param(COUNT, ["1, 2, 3"], id="token ids"),
        pytest.param([COUNT, encode("count to 2")], ["1, 2, 3", "1, 2"], id="lists of token ids"),
    ],
)
def test_every_form_of_prompt(caller: Caller, dialect: str, local: Local, prompt: Any, texts: list[str]) -> None:
    answer = caller.completion(dialect, prompt, max_tokens=50)
    assert [choice.text for choice in answer.choices] == texts
    assert local.last_body()["prompt"] == prompt


def test_prompts_and_choices_multiply(caller: Caller, dialect: str) -> None:
    answer = caller.completion(dialect, ["tell me", "repeat: x"], n=2, seed=3, max_tokens=60)
    first, second, third, fourth = (choice.text for choice in answer.choices)
    assert first != second
    assert {first.partition(". ")[0], second.partition(". ")[0]} == {'You wrote "tell me"'}
    assert (third, fourth) == ("x", "x")


def test_an_answer_ends_at_its_limit(caller: Caller, dialect: str) -> None:
    choice = caller.completion(dialect, "count to 50", max_tokens=7).only
    assert (choice.text, choice.finish) == ("1, 2, 3", "length")


def test_without_a_limit_an_answer_has_16_tokens(caller: Caller, dialect: str) -> None:
    answer = caller.completion(dialect, "count to 50")
    assert (answer.only.finish, answer.usage.completion_tokens) == ("length", 16)


def test_an_answer_ends_at_a_stop_string(caller: Caller, dialect: str) -> None:
    choice = caller.completion(dialect, "count to 9", stop=["4"], max_tokens=50).only
    assert (choice.text, choice.finish, choice.stop_reason) == ("1, 2, 3, ", "stop", "4")


def test_the_prompt_is_echoed(caller: Caller, dialect: str) -> None:
    choice = caller.completion(dialect, "count to 3", echo=True, max_tokens=50).only
    assert choice.text == "count to 31, 2, 3"


def test_a_prompt_can_be_scored_without_an_answer(client: openai.OpenAI, dialect: str) -> None:
    reply = client.completions.create(model=dialect, prompt="count to 3", echo=True, max_tokens=0, logprobs=1)
    (choice,) = reply.choices
    assert choice.text == "count to 3"
    assert choice.logprobs is not None
    assert choice.logprobs.tokens == SPELLED
    assert choice.logprobs.token_logprobs is not None
    first, *others = choice.logprobs.token_logprobs
    assert first is None, "the first token follows nothing"
    assert all(value < 0 for value in others)


def test_logprobs_come_with_every_token(caller: Caller, dialect: str) -> None:
    choice = caller.completion(dialect, "count to 2", logprobs=2, max_tokens=3).only
    assert choice.logprobs == ["1", ",", " "]


def test_logprobs_have_offsets_and_alternatives(client: openai.OpenAI, dialect: str) -> None:
    reply = client.completions.create(model=dialect, prompt="count to 2", logprobs=2, max_tokens=3)
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.text_offset == [0, 1, 2]
    assert [len(one) for one in logprobs.top_logprobs or ()] == [2, 2, 2]
    assert all(value <= 0 for value in logprobs.token_logprobs or ())


def test_a_suffix_is_refused_by_the_container_if_its_version_may_know_one(caller: Caller, dialect: str) -> None:
    newest = dialect == "vllm"
    words = "suffix is only supported for models with FIM" if newest else "container does not act upon suffix"
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        caller.completion(dialect, "def f(", suffix="return 1")
    assert caught.value.code == ("invalid_value" if newest else "unsupported_parameter")


def test_structured_outputs(caller: Caller, dialect: str) -> None:
    wanted = {"structured_outputs": {"choice": ["yes", "no"]}}
    assert caller.completion(dialect, "well?", extra_body=wanted).only.text in ("yes", "no")


def test_guided_decoding(caller: Caller, dialect: str) -> None:
    assert caller.completion(dialect, "well?", extra_body={"guided_regex": "[ab]{3}"}).only.text.strip("ab") == ""
