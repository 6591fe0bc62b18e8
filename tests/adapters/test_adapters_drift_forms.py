"""Structured output: every spelling, on every version that has any form of it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.errors import UnsupportedParameter
from adapters.openai.request import BadRequest
from adapters.registry import make
from tests.adapters.calls import HELLO
from tests.adapters.engines import call_of

VERSIONS = range(8, 34)
SAME = object()
"""What the caller says, unchanged."""
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TEXT = json.dumps(SCHEMA)
TAG_FORMAT = {"type": "structural_tag", "structures": [], "triggers": []}
TAG = json.dumps(TAG_FORMAT)
JSON_FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}
ANY_JSON = {"type": "json_object"}
EBNF = 'root ::= "a"'
TOOL = {"type": "function", "function": {"name": "f"}}
NAMED = {"type": "function", "function": {"name": "f"}}
CHAT, COMPLETION = {"messages": HELLO}, {"prompt": "Hi"}


def sent(minor: int, **given: Any) -> dict[str, Any]:
    """Return the fields that vLLM 0.`minor` gets, without the prompt."""
    body: dict[str, Any] = json.loads(make("vllm", f"0.{minor}").encode(call_of(**given), stream=False))
    return {name: value for name, value in body.items() if name not in ("messages", "prompt")}


def structured(**inner: Any) -> dict[str, Any]:
    return {"structured_outputs": inner}


# What the call is and says → the first version from which on these fields are sent; a text is the field refused.
FORMS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[int, Any]]] = {
    "json": (CHAT, {"guided_json": SCHEMA}, {8: SAME, 12: structured(json=SCHEMA)}),
    "json as text": (CHAT, {"guided_json": TEXT}, {8: SAME, 12: structured(json=TEXT)}),
    "regex": (CHAT, {"guided_regex": "a+"}, {8: SAME, 12: structured(regex="a+")}),
    "choice": (CHAT, {"guided_choice": ["a", "b"]}, {8: SAME, 12: structured(choice=["a", "b"])}),
    "grammar": (CHAT, {"guided_grammar": EBNF}, {8: SAME, 12: structured(grammar=EBNF)}),
    "regex of a completion": (COMPLETION, {"guided_regex": "a+"}, {8: SAME, 12: structured(regex="a+")}),
    "json and white space": (
        CHAT,
        {"guided_json": SCHEMA, "guided_whitespace_pattern": " ?"},
        {8: SAME, 12: structured(json=SCHEMA, whitespace_pattern=" ?")},
    ),
    "response_format and white space": (
        CHAT,
        {"response_format": JSON_FORMAT, "guided_whitespace_pattern": " ?"},
        {8: SAME, 12: {"response_format": JSON_FORMAT}},
    ),
    "structured json": (CHAT, structured(json=SCHEMA), {8: {"guided_json": SCHEMA}, 11: SAME}),
    "structured regex": (COMPLETION, structured(regex="a+", json=None), {8: {"guided_regex": "a+"}, 11: SAME}),
    "structured choice": (
        CHAT,
        structured(choice=["a"], whitespace_pattern=" "),
        {8: {"guided_choice": ["a"], "guided_whitespace_pattern": " "}, 11: SAME},
    ),
    "structured grammar": (
        CHAT,
        structured(grammar=EBNF, disable_any_whitespace=True),
        {8: {"guided_grammar": EBNF}, 11: SAME},
    ),
    "structured json_object": (COMPLETION, structured(json_object=True), {8: {"response_format": ANY_JSON}, 11: SAME}),
    "structured tags": (
        CHAT,
        structured(structural_tag=TAG),
        {8: "structured_outputs.structural_tag", 9: {"structural_tag": TAG}, 11: SAME},
    ),
    "structured tags of a completion": (
        COMPLETION,
        structured(structural_tag=TAG),
        {8: "structured_outputs.structural_tag", 11: SAME},
    ),
    "an option that no version heeds": (
        CHAT,
        structured(json=SCHEMA, disable_additional_properties=True),
        {8: "structured_outputs.disable_additional_properties"},
    ),
    "an option that is off": (
        CHAT,
        structured(json=SCHEMA, disable_additional_properties=False),
        {8: {"guided_json": SCHEMA}, 11: SAME},
    ),
    "tags": (CHAT, {"structural_tag": TAG}, {8: "structural_tag", 9: SAME, 12: structured(structural_tag=TAG)}),
    "tags of a completion": (
        COMPLETION,
        {"structural_tag": TAG},
        {8: "structural_tag", 11: structured(structural_tag=TAG)},
    ),
    "a schema": (CHAT, {"response_format": JSON_FORMAT}, {8: SAME}),
    "a schema of a completion": (
        COMPLETION,
        {"response_format": JSON_FORMAT},
        {8: {"guided_json": SCHEMA}, 11: SAME},
    ),
    "any JSON": (CHAT, {"response_format": ANY_JSON}, {8: SAME}),
    "any JSON of a completion": (COMPLETION, {"response_format": ANY_JSON}, {8: SAME}),
    "text": (COMPLETION, {"response_format": {"type": "text"}}, {8: SAME}),
    "tags as format": (CHAT, {"response_format": TAG_FORMAT}, {8: "response_format.type", 9: SAME}),
    "tags as format of a completion": (
        COMPLETION,
        {"response_format": TAG_FORMAT},
        {8: "response_format.type", 11: structured(structural_tag=TAG), 12: SAME},
    ),
}


@pytest.mark.parametrize("form", FORMS)
def test_an_answer_is_held_to_a_form_in_the_spelling_of_the_version(form: str) -> None:
    call, given, expected = FORMS[form]
    for minor in VERSIONS:
        wanted = expected[max(first for first in expected if first <= minor)]
        if isinstance(wanted, str):
            with pytest.raises(UnsupportedParameter) as caught:
                sent(minor, **call, **given)
            assert caught.value.param == wanted
            assert str(caught.value) == f"This model's container does not act upon {wanted}."
        else:
            assert sent(minor, **call, **given) == (given if wanted is SAME else wanted)


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"guided_json": {}, "guided_regex": "a"}, "guided_regex"),
        ({"guided_json": {}, "structured_outputs": {"regex": "a"}}, "structured_outputs"),
        ({"guided_json": {}, "response_format": {"type": "json_object"}}, "response_format"),
        ({"structured_outputs": {"regex": "a"}, "response_format": JSON_FORMAT}, "response_format"),
        ({"structured_outputs": {"regex": "a"}, "structural_tag": TAG}, "structural_tag"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
        ({"structured_outputs": {"whitespace_pattern": " "}}, "structured_outputs"),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"json_object": False}}, "structured_outputs.json_object"),
        ({"guided_regex": "a", "tools": [TOOL], "tool_choice": "required"}, "guided_regex"),
        ({"structured_outputs": {"regex": "a"}, "tools": [TOOL], "tool_choice": NAMED}, "structured_outputs"),
    ],
)
def test_forms_that_contradict_each_other_are_refused_whatever_the_version(given: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        call_of(**given)
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)


@pytest.mark.parametrize("form", [{"response_format": {"type": "text"}}, {"guided_whitespace_pattern": " "}])
def test_what_holds_an_answer_to_nothing_goes_with_everything(form: dict[str, Any]) -> None:
    assert sent(8, guided_regex="a", **form)["guided_regex"] == "a"


def test_an_answer_that_has_to_be_a_tool_call_has_no_format() -> None:
    tools: dict[str, Any] = {"tools": [TOOL], "response_format": JSON_FORMAT}
    for choice in ("required", NAMED):
        for minor in (8, 11, 26):
            assert sent(minor, **tools, tool_choice=choice) == {"tools": [TOOL], "tool_choice": choice}
    assert sent(8, **tools, tool_choice="auto") == {**tools, "tool_choice": "auto"}
    assert sent(8, **tools) == tools


@pytest.mark.parametrize(
    ("given", "code", "param"),
    [
        ({"response_format": {"type": "json"}}, "invalid_value", "response_format.type"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {}}},
            "invalid_type",
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n"}}},
            "invalid_type",
            "response_format.json_schema.schema",
        ),
        ({"guided_json": "{"}, "invalid_value", "guided_json"),
        ({"guided_json": "[" * 65 + "]" * 65}, "invalid_value", "guided_json"),
        ({"guided_json": 5}, "invalid_type", "guided_json"),
        ({"guided_choice": []}, "invalid_value", "guided_choice"),
        ({"guided_grammar": " "}, "invalid_value", "guided_grammar"),
        ({"structural_tag": {}}, "invalid_type", "structural_tag"),
        ({"structured_outputs": {"choice": []}}, "invalid_value", "structured_outputs.choice"),
        ({"structured_outputs": {"json": ""}}, "invalid_value", "structured_outputs.json"),
        ({"structured_outputs": {"backend": "x"}}, "parameter_not_allowed", "structured_outputs.backend"),
    ],
)
def test_what_a_container_would_refuse_without_saying_why_is_refused_here(
    given: dict[str, Any], code: str, param: str
) -> None:
    with pytest.raises(BadRequest) as caught:
        call_of(**given)
    assert (caught.value.code, caught.value.param) == (code, param)
