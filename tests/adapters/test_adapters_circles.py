"""Schemas and grammars that lead back to themselves, which crash a container, and those that only look like it."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from adapters.openai.circles import derives_in_circles, refers_in_circles
from adapters.openai.request import BadRequest
from tests.adapters.engines import call_of

TREE = {
    "$ref": "#/$defs/node",
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                "parent": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
        }
    },
}


def defs(**named: Any) -> dict[str, Any]:
    return {"$defs": named, "type": "object"}


def ref(name: str) -> dict[str, Any]:
    return {"$ref": f"#/$defs/{name}"}


@pytest.mark.parametrize(
    ("schema", "circle"),
    [
        pytest.param({"$ref": "#"}, True, id="to itself"),
        pytest.param(defs(a=ref("b"), b=ref("a")), True, id="to each other"),
        pytest.param(defs(a=ref("b"), b=ref("c"), c=ref("a")), True, id="round three corners"),
        pytest.param({"properties": {"x": {"$ref": "#/properties/x"}}}, True, id="inside"),
        pytest.param(defs(a={"allOf": [{"type": "object"}, ref("a")]}), True, id="through allOf"),
        pytest.param(defs(a={"anyOf": [ref("a"), ref("a")]}), True, id="whatever is chosen"),
        pytest.param({"$defs": {"a/b~c": {"$ref": "#/$defs/a~1b~0c"}}}, True, id="escaped"),
        pytest.param({"anyOf": [{"type": "null"}, {"$ref": "#/anyOf/1"}]}, True, id="to an item of a list"),
        pytest.param(TREE, False, id="a tree"),
        pytest.param(defs(a={"anyOf": [ref("a"), {"type": "null"}]}), False, id="with a way out"),
        pytest.param(
            defs(a={"anyOf": [ref("b"), ref("c")]}, b=ref("a"), c={"type": "null"}), False, id="way out below"
        ),
        pytest.param({"type": "object", "properties": {"x": {"$ref": "#"}}}, False, id="to the whole from inside"),
        pytest.param({"$ref": "#/$defs/none"}, False, id="to nowhere"),
        pytest.param({"$ref": "https://example.com/#"}, False, id="elsewhere"),
        pytest.param({"const": {"$ref": 5}}, False, id="no reference"),
        pytest.param({"enum": ['"$ref"']}, False, id="the word in a text"),
        pytest.param(True, False, id="no object"),
    ],
)
def test_a_reference_that_leads_to_nothing_but_itself_is_found(schema: Any, circle: bool) -> None:
    assert refers_in_circles(schema, json.dumps(schema).encode()) is circle


@pytest.mark.parametrize(
    ("grammar", "circle"),
    [
        ("root ::= root", True),
        ("root ::= a\na ::= b\nb ::= a", True),
        ('root ::= "x" a\na ::= a | b\nb ::= a', True),
        ("start: start", True),
        ("?start: a\na: start", True),
        ("root ::=\n  root", True),
        ("root ::= root | x\nx ::= [a-z]", False),
        ('root ::= "root"', False),
        ('root ::= root "a" | "a"', False),
        ("root ::= root?", False),
        ("root ::= a\na ::= [0-9]+", False),
        ("root ::= undefined", False),
        ("root ::= ", False),
        ("start: NUMBER\nNUMBER: /[0-9]+/", False),
        ("no rule at all", False),
        ("", False),
    ],
)
def test_a_rule_that_leads_to_nothing_but_itself_is_found(grammar: str, circle: bool) -> None:
    assert derives_in_circles(grammar) is circle


LOOP = {"$ref": "#"}


@pytest.mark.parametrize(
    ("given", "param"),
    [
        ({"guided_json": LOOP}, "guided_json"),
        ({"guided_json": json.dumps(LOOP)}, "guided_json"),
        ({"structured_outputs": {"json": LOOP}}, "structured_outputs.json"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": LOOP}}},
            "response_format.json_schema.schema",
        ),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": LOOP}}]},
            "tools[0].function.parameters",
        ),
        ({"guided_grammar": "root ::= root"}, "guided_grammar"),
        ({"structured_outputs": {"grammar": "root ::= root"}}, "structured_outputs.grammar"),
    ],
)
def test_a_call_with_a_circle_is_refused(given: dict[str, Any], param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        call_of(**given)
    assert (caught.value.code, caught.value.param) == ("invalid_value", param)
    assert "to nothing but itself" in caught.value.message


def test_a_schema_may_refer_to_itself_further_inside() -> None:
    assert call_of(guided_json=TREE).values["guided_json"] == TREE


def test_looking_for_circles_takes_time_in_proportion_to_the_size() -> None:
    chain: dict[str, Any] = {f"n{number}": ref(f"n{number + 1}") for number in range(6000)}
    rules = "\n".join(f"n{number} ::= n{number + 1}" for number in range(500))
    began = time.process_time()
    assert not refers_in_circles(defs(**chain), b'"$ref"')
    assert refers_in_circles(defs(**chain, n6000=ref("n0")), b'"$ref"')
    assert not derives_in_circles(rules)
    assert derives_in_circles(f"{rules}\nn500 ::= n0")
    assert time.process_time() - began < 1
