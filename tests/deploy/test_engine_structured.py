"""Answers within a constraint: which fields ask for one in which release, and what is refused."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from deploy.local.engine import build
from tests.deploy.test_engine_calls import answer, ask, chunks, said

pytestmark = pytest.mark.anyio

HELLO = "Hello! How can I help you today?"


def chat(text: str = "hello", **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "temperature": 0, **more}


async def content(dialect: str, body: Any) -> Any:
    """Return the text of a whole reply, having checked that a stream says the same."""
    text = (await answer(build(dialect), body))["choices"][0]["message"]["content"]
    assert said(await chunks(build(dialect), body)) == text
    return text


async def refusal(body: Any) -> str:
    """Return the text of an error, having checked that it is a 400 and that no stream begins."""
    whole, stream = [await ask(build("vllm"), {**body, "stream": streams}) for streams in (False, True)]
    assert whole == stream
    assert (whole.status, whole.headers["content-type"]) == (400, "application/json")
    assert isinstance(whole.body, bytes)
    return str(json.loads(whole.body)["error"]["message"])


# --- Where a constraint comes from -----------------------------------------------------------------------------------

CITY = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
    "required": ["city", "degrees"],
    "additionalProperties": False,
}
IN_PARIS = '{"city": "Paris", "degrees": 21}'


@pytest.mark.parametrize(
    ("dialect", "body", "text"),
    [
        pytest.param("lmi15", chat(response_format={"type": "json_object"}), None, id="json_object"),
        pytest.param("vllm", chat("json", response_format={"type": "json_object"}), None, id="json_object, asked"),
        pytest.param(
            "lmi27",
            chat(response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}),
            IN_PARIS,
            id="json_schema",
        ),
        pytest.param(
            "vllm",
            chat("In Rome?", response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": CITY}}),
            '{"city": "Rome", "degrees": 21}',
            id="json_schema, with the prompt's city",
        ),
        pytest.param(
            "lmi27", chat(response_format={"type": "json_schema", "json_schema": {"name": "x"}}), None, id="no schema"
        ),
        pytest.param("vllm", chat(response_format={"type": "text"}), HELLO, id="text"),
        pytest.param("vllm", chat(structured_outputs={"json": CITY}), IN_PARIS, id="structured json"),
        pytest.param("vllm", chat(structured_outputs={"json": json.dumps(CITY)}), IN_PARIS, id="a schema as text"),
        pytest.param("vllm", chat(structured_outputs={"regex": r"\d{3}-[a-f]+"}), "000-a", id="structured regex"),
        pytest.param("lmi17", chat(structured_outputs={"choice": ["b", "a"]}), "b", id="structured choice"),
        pytest.param("vllm", chat(structured_outputs={"grammar": 'root ::= "x" [0-9]'}), "x0", id="structured grammar"),
        pytest.param("vllm", chat(structured_outputs={"json_object": True}), None, id="structured json_object"),
        pytest.param("lmi15", chat(guided_json=CITY), IN_PARIS, id="guided_json"),
        pytest.param("lmi16", chat(guided_regex="a{3}"), "aaa", id="guided_regex"),
        pytest.param("lmi17", chat(guided_choice=["yes", "no"]), "yes", id="guided_choice, the last release"),
        pytest.param("lmi16", chat(guided_grammar='start: "hey"'), "hey", id="guided_grammar"),
        pytest.param("lmi18", chat(guided_choice=["yes", "no"]), HELLO, id="guided_choice is unknown from 0.12"),
        pytest.param("vllm", chat(guided_json=CITY), HELLO, id="guided_json is unknown from 0.12"),
        pytest.param("lmi16", chat(structured_outputs={"choice": ["b"]}), HELLO, id="structured_outputs before 0.11"),
    ],
)
async def test_where_a_constraint_comes_from(dialect: str, body: Any, text: str | None) -> None:
    made = await content(dialect, body)
    if text is None:
        assert isinstance(json.loads(made), dict)
    else:
        assert made == text


async def test_completions_and_inputs_have_constraints_too() -> None:
    body = {"prompt": "hello", "structured_outputs": {"choice": ["left", "right"]}, "temperature": 0}
    for dialect in ("lmi27", "vllm"):
        assert (await answer(build(dialect), body))["choices"][0]["text"] == "left"
    given_body = {"inputs": "hello", "parameters": {"response_format": {"type": "json_object"}, "do_sample": False}}
    text = (await answer(build("lmi27"), given_body))["generated_text"]
    assert json.loads(text) == {"answer": "an answer", "degrees": 21}


async def test_seeds_choose_above_temperature_0() -> None:
    body = chat(structured_outputs={"regex": "[a-z]{12}"})
    assert await content("vllm", body) == "a" * 12
    made = [await content("vllm", {**body, "temperature": 1, "seed": seed}) for seed in (1, 1, 2)]
    assert made[0] == made[1] != made[2]
    assert all(re.fullmatch("[a-z]{12}", text) for text in made)
    several = (await answer(build("vllm"), {**body, "temperature": 1, "n": 3}))["choices"]
    assert len({choice["message"]["content"] for choice in several}) == 3


async def test_a_constrained_answer_can_be_cut() -> None:
    reply = await answer(build("vllm"), chat(structured_outputs={"json": CITY}, max_tokens=3))
    assert reply["choices"][0]["finish_reason"] == "length"
    assert reply["choices"][0]["message"]["content"] == '{"city":'


async def test_thoughts_come_before_a_constrained_answer() -> None:
    body = chat(response_format={"type": "json_object"}, reasoning_effort="low")
    message = (await answer(build("vllm"), body))["choices"][0]["message"]
    assert message["reasoning"] == "\nThe user greets me. I greet back.\n"
    assert isinstance(json.loads(message["content"]), dict)


# --- Refusals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "message"),
    [
        pytest.param({"regex": "(["}, (
            'Grammar error: at 1(8): invalid regex "([" (in regex): regex parse error:\n    ([\n     ^\n'
            "error: unclosed character class\n   1 | start: /([/\n              ^"
        ), id="regex: class"),
        pytest.param({"regex": "a)"}, (
            'Grammar error: at 1(8): invalid regex "a)" (in regex): regex parse error:\n    a)\n     ^\n'
            "error: unopened group\n   1 | start: /a)/\n              ^"
        ), id="regex: group"),
        pytest.param({"regex": "(?<=x)a"}, (
            'Grammar error: at 1(8): invalid regex "(?<=x)a" (in regex): regex parse error:\n    (?<=x)a\n    ^\n'
            "error: look-around, including look-ahead and look-behind, is not supported\n"
            "   1 | start: /(?<=x)a/\n              ^"
        ), id="regex: look-behind"),
        pytest.param({"regex": r"(a|b)x\1"}, (
            'Grammar error: at 1(8): invalid regex "(a|b)x\\1" (in regex): regex parse error:\n    (a|b)x\\1\n'
            "          ^\nerror: backreferences are not supported\n   1 | start: /(a|b)x\\1/\n              ^"
        ), id="regex: back-reference"),
        pytest.param(
            {"regex": "[[a]]"},
            'Grammar error: invalid regex "[[a]]": nested character classes are not supported',
            id="regex: nested class",
        ),
        pytest.param(
            {"regex": "(?i)a"}, 'Grammar error: invalid regex "(?i)a": flags are not supported', id="regex: flag"
        ),
        pytest.param(
            {"regex": "[^ -~]"},
            "Grammar error: a character class leaves no printable ASCII character",
            id="regex: nothing left",
        ),
        pytest.param({"regex": "(a{999}){999}"}, "Grammar error: the regex repeats too often", id="regex: too long"),
        pytest.param(
            {"choice": []}, "Grammar error: choice must have at least one alternative", id="choice: none"
        ),
        pytest.param({"grammar": "foo"}, "Grammar error: expected a rule: foo", id="grammar: none"),
        pytest.param(
            {"json": "{"},
            "Grammar error: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)",
            id="schema: no JSON",
        ),
        pytest.param({"json": {"type": "nonsense"}}, "Grammar error: Invalid type: nonsense", id="schema: type"),
        pytest.param(
            {"regex": "a", "choice": ["a"]},
            "You can only use one kind of constraints for structured outputs ('json', 'regex' or 'choice').",
            id="two",
        ),
        pytest.param(
            {"grammar": "a", "choice": ["a"]},
            "You can only use one kind of structured outputs constraint but multiple are specified: {'json': None, "
            "'regex': None, 'choice': ['a'], 'grammar': 'a', 'json_object': None, 'disable_any_whitespace': False, "
            "'disable_additional_properties': False, 'whitespace_pattern': None, 'structural_tag': None, "
            "'_backend': None, '_backend_was_auto': False}",
            id="two others",
        ),
        pytest.param(
            {"regex": None},
            "You must use one kind of structured outputs constraint but none are specified: {'json': None, "
            "'regex': None, 'choice': None, 'grammar': None, 'json_object': None, 'disable_any_whitespace': False, "
            "'disable_additional_properties': False, 'whitespace_pattern': None, 'structural_tag': None, "
            "'_backend': None, '_backend_was_auto': False}",
            id="none",
        ),
    ],
)  # fmt: skip
async def test_what_is_refused(body: Any, message: str) -> None:
    assert await refusal(chat(structured_outputs=body)) == message


async def test_a_format_without_its_schema_is_refused() -> None:
    assert await refusal(chat(response_format={"type": "json_schema"})) == (
        "When response_format type is 'json_schema', the 'json_schema' field must be provided. "
        "(parameter=response_format)"
    )


async def test_constraints_and_a_named_tool_exclude_each_other_since_0_23() -> None:
    tool = {"type": "function", "function": {"name": "f"}}
    body = chat(structured_outputs={"regex": "a"}, tools=[tool], tool_choice=tool)
    assert await refusal(body) == "You can only either use constraints for structured outputs or tools, not both."
    message = (await answer(build("lmi26"), body))["choices"][0]["message"]
    assert message["tool_calls"][0]["function"] == {"name": "f", "arguments": "{}"}


async def test_no_constraint_at_all_was_accepted_before_0_16() -> None:
    body = chat(structured_outputs={"regex": None})
    assert await content("lmi20", body) == HELLO
    reply = await ask(build("lmi21"), body)
    assert isinstance(reply.body, bytes)
    told = "'json_object': None, 'disable_fallback': False, 'disable_any_whitespace': False"
    assert reply.status == 500
    assert told in json.loads(reply.body)["message"]
    reply = await ask(build("lmi23"), body)
    assert isinstance(reply.body, bytes)
    assert "disable_fallback" not in json.loads(reply.body)["message"]


async def test_a_format_without_its_schema_broke_an_assertion_before_0_18() -> None:
    reply = await ask(build("lmi22"), chat(response_format={"type": "json_schema"}))
    assert reply.status == 424
    assert isinstance(reply.body, bytes)
    assert reply.body.startswith(b'{"code":424,"message":"Async Inference Failure')
