"""Values made for JSON Schemas: each keyword, schemas that have none, and any schema beside a validator."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.engine import schemas
from deploy.local.engine.dice import Dice, FirstChoice
from deploy.local.engine.refusal import Refusal

TREE = {
    "$defs": {
        "node": {
            "type": "object",
            "properties": {
                "value": {"type": "integer"},
                "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                "parent": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
            },
            "required": ["value", "children", "parent"],
        }
    },
    "$ref": "#/$defs/node",
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        pytest.param(True, "text", id="true"),
        pytest.param({}, "text", id="anything"),
        pytest.param({"type": "boolean"}, True, id="boolean"),
        pytest.param({"type": "null"}, None, id="null"),
        pytest.param({"type": ["null", "integer"]}, 21, id="a choice of types takes no null first"),
        pytest.param({"enum": ["b", 2, None]}, "b", id="enum"),
        pytest.param({"enum": ["b", 2, None], "type": "integer"}, 2, id="enum and type"),
        pytest.param({"enum": [False, 0], "type": "number"}, 0, id="enum: false is no number"),
        pytest.param({"enum": [1, 5, 9], "minimum": 3, "multipleOf": 3}, 9, id="enum and bounds"),
        pytest.param({"const": {"a": [1]}}, {"a": [1]}, id="const"),
        pytest.param({"type": "integer"}, 21, id="integer"),
        pytest.param({"type": "integer", "minimum": 30}, 30, id="minimum"),
        pytest.param({"type": "integer", "maximum": 5}, 5, id="maximum"),
        pytest.param({"type": "integer", "exclusiveMinimum": 30, "exclusiveMaximum": 32}, 31, id="exclusive bounds"),
        pytest.param({"type": "integer", "minimum": 30, "exclusiveMinimum": True}, 31, id="draft 4 exclusive"),
        pytest.param({"type": "integer", "minimum": 22, "multipleOf": 5}, 25, id="multipleOf"),
        pytest.param({"type": "integer", "multipleOf": 2.5}, 20, id="whole multiples of a fraction"),
        pytest.param({"type": "number"}, 21.5, id="number"),
        pytest.param({"type": "number", "minimum": 0, "maximum": 1}, 0.5, id="number between"),
        pytest.param({"type": "number", "multipleOf": 0.25, "maximum": 1}, 1, id="fractions"),
        pytest.param({"type": "string"}, "text", id="string"),
        pytest.param({"type": "string", "minLength": 8}, "text text", id="minLength"),
        pytest.param({"type": "string", "maxLength": 2}, "te", id="maxLength"),
        pytest.param({"type": "string", "pattern": "^[A-Z]{2}\\d$"}, "AA0", id="pattern"),
        pytest.param({"type": "string", "pattern": "[A-Z]", "minLength": 3}, "Aaa", id="pattern without ends"),
        pytest.param({"type": "string", "format": "date-time"}, "2026-01-31T12:00:00Z", id="format"),
        pytest.param({"type": "string", "format": "unheard-of"}, "text", id="unknown format"),
        pytest.param({"type": "array"}, ["text"], id="array"),
        pytest.param({"items": {"type": "integer"}, "minItems": 2}, [21, 21], id="minItems"),
        pytest.param({"items": {"type": "integer"}, "maxItems": 0}, [], id="maxItems"),
        pytest.param(
            {"prefixItems": [{"type": "integer"}, {"type": "boolean"}], "items": False}, [21, True], id="a tuple"
        ),
        pytest.param({"items": [{"type": "integer"}, {"type": "null"}]}, [21, None], id="an old tuple"),
        pytest.param({"enum": ["a", "b"], "type": "string"}, "a", id="enum of strings"),
        pytest.param(
            {"items": {"enum": ["a", "b", "c"]}, "minItems": 3, "uniqueItems": True},
            {"a", "b", "c"},
            id="uniqueItems",
        ),
        pytest.param({"items": {"type": "string"}, "minItems": 3, "uniqueItems": True}, None, id="unique strings"),
        pytest.param({"properties": {}}, {}, id="object"),
        pytest.param({"type": "object", "properties": {"city": {}, "n": {"type": "integer"}}}, None, id="optional"),
        pytest.param({"type": "object", "required": ["x"]}, {"x": "text"}, id="required without a declaration"),
        pytest.param(
            {"type": "object", "required": ["x"], "additionalProperties": {"type": "integer"}},
            {"x": 21},
            id="additionalProperties",
        ),
        pytest.param(
            {"type": "object", "patternProperties": {"^x": {"type": "null"}}, "required": ["xy"]},
            {"xy": None},
            id="patternProperties",
        ),
        pytest.param({"type": "object", "minProperties": 2}, {"key1": "text", "key2": "text"}, id="minProperties"),
        pytest.param(
            {
                "type": "object",
                "patternProperties": {"^[a-z]{3}$": {"const": 1}},
                "additionalProperties": False,
                "minProperties": 2,
            },
            None,
            id="minProperties of a pattern",
        ),
        pytest.param(
            {"properties": {"a": {"const": 1}, "b": {"const": 2}}, "required": ["b"], "maxProperties": 1},
            {"b": 2},
            id="maxProperties",
        ),
        pytest.param({"anyOf": [{"type": "integer"}, {"type": "string"}]}, 21, id="anyOf"),
        pytest.param({"oneOf": [{"type": "string"}, {"type": "integer"}]}, "text", id="oneOf"),
        pytest.param({"anyOf": [False, {"type": "integer"}]}, 21, id="anyOf: another branch"),
        pytest.param({"anyOf": [{"type": "string"}, {"minimum": 5}], "type": "integer"}, 21, id="anyOf and type"),
        pytest.param({"allOf": [{"minimum": 30}, {"maximum": 30}], "type": "integer"}, 30, id="allOf"),
        pytest.param({"allOf": [{"type": "number"}, {"type": "integer"}]}, 21, id="allOf: types"),
        pytest.param(
            {"allOf": [{"anyOf": [{"const": 1}, {"const": 2}]}, {"anyOf": [{"const": 3}, {"const": 2}]}]},
            2,
            id="allOf of anyOf",
        ),
        pytest.param(
            {
                "allOf": [
                    {"properties": {"a": {"type": "integer"}}, "required": ["a"]},
                    {"properties": {"a": {"minimum": 40}, "b": {"const": 1}}, "required": ["b"]},
                ]
            },
            {"a": 40, "b": 1},
            id="allOf: properties of both",
        ),
        pytest.param(
            {"$defs": {"n": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/n", "minimum": 50}}},
            {"a": 50},
            id="$ref with more beside it",
        ),
        pytest.param({"definitions": {"a/b": {"const": 1}}, "$ref": "#/definitions/a~1b"}, 1, id="an escaped $ref"),
        pytest.param(TREE, None, id="a tree that refers to itself"),
        pytest.param({"properties": {"not": {"type": "null"}}}, {"not": None}, id="a property called like a keyword"),
    ],
)
def test_a_value_of_a_schema(schema: Any, value: Any) -> None:
    made = json.loads(schemas.write(schema, FirstChoice()))
    jsonschema.Draft202012Validator(draft_2020(schema)).validate(made)
    if isinstance(value, set):
        assert set(made) == value
    elif value is not None or schema == {"type": "null"}:
        assert made == value
        assert type(made) is type(value)
    for seed in range(5):
        jsonschema.Draft202012Validator(draft_2020(schema)).validate(json.loads(schemas.write(schema, Dice(seed))))


def draft_2020(schema: Any) -> Any:
    """Return a schema with what older drafts wrote differently in today's words."""
    if isinstance(schema, dict) and schema.get("exclusiveMinimum") is True:
        return {"type": schema["type"], "exclusiveMinimum": schema["minimum"]}
    if isinstance(schema, dict) and isinstance(schema.get("items"), list):
        return {"prefixItems": schema["items"]}
    return schema


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ([], "JSON schema must be an object or boolean, not array"),
        ({"type": []}, "type must not be empty"),
        ({"type": "int"}, "Invalid type: int"),
        ({"properties": {"a": {"type": "str"}}}, "Invalid type: str"),
        ({"properties": []}, "properties must be an object"),
        ({"required": "a"}, "required must be an array of strings"),
        ({"enum": "a"}, "enum must be an array"),
        ({"anyOf": []}, "anyOf must be a non-empty array"),
        ({"minLength": -1}, "minLength must be a non-negative integer"),
        ({"minimum": "1"}, "minimum must be a number"),
        ({"exclusiveMaximum": "1"}, "exclusiveMaximum must be a number"),
        ({"multipleOf": 0}, "multipleOf must be greater than 0"),
        ({"pattern": 1}, "pattern must be a string"),
        ({"$ref": "#/$defs/none"}, "Unresolvable reference: #/$defs/none"),
        ({"$ref": "https://example.com/schema"}, "Unresolvable reference: https://example.com/schema"),
        ({"not": {}, "if": {}}, 'Unimplemented keys: ["not", "if"]'),
        ({"properties": {"a": {"contains": {}}}}, 'Unimplemented keys: ["contains"]'),
        (False, "Unsatisfiable schema: false"),
        ({"enum": []}, "Unsatisfiable schema: no listed value fits the other keywords"),
        ({"const": 1, "type": "string"}, "Unsatisfiable schema: no listed value fits the other keywords"),
        ({"type": "integer", "minimum": 2, "maximum": 1}, "Unsatisfiable schema: no number is within the bounds"),
        ({"type": "string", "minLength": 2, "maxLength": 1}, "Unsatisfiable schema: minLength"),
        ({"type": "string", "minLength": 10**9}, "Unsatisfiable schema: minLength"),
        ({"type": "array", "minItems": 2, "maxItems": 1}, "Unsatisfiable schema: maxItems"),
        (
            {"type": "array", "items": {"const": 1}, "minItems": 2, "uniqueItems": True},
            "Unsatisfiable schema: uniqueItems",
        ),
        ({"type": "object", "required": ["a", "b"], "maxProperties": 1}, "Unsatisfiable schema: maxProperties"),
        (
            {"type": "object", "additionalProperties": False, "minProperties": 1, "properties": {}},
            "Unsatisfiable schema: false",
        ),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "Unsatisfiable schema: no type is common to both"),
        ({"$ref": "#"}, "Unsatisfiable schema: references that only refer to each other"),
        (
            {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
            "Unsatisfiable schema: the schema contains itself without end",
        ),
        ({"type": "array", "minItems": 10**9}, "Unsatisfiable schema: it takes too many values"),
        (
            {"allOf": [{"pattern": "a"}, {"pattern": "b"}], "type": "string"},
            "not supported: two different values of pattern for the same value",
        ),
    ],
)  # fmt: skip
def test_a_schema_that_has_no_value(schema: Any, reason: str) -> None:
    with pytest.raises(Refusal) as refused:
        schemas.write(schema, FirstChoice())
    assert refused.value.message == f"Grammar error: {reason}"


NUMBERS = st.builds(
    lambda kind, low, spread, step: {
        "type": kind,
        **({} if low is None else {"minimum": low}),
        **({} if spread is None else {"exclusiveMaximum": (low or 0) + spread}),
        **({} if step is None else {"multipleOf": step}),
    },
    st.sampled_from(["integer", "number"]),
    st.none() | st.integers(-1000, 1000),
    st.none() | st.integers(1, 50),
    st.sampled_from([None, 2, 3, 0.5, 7]),
)
STRINGS = st.builds(
    lambda low, spread, pattern: {
        "type": "string",
        "minLength": low,
        **({} if spread is None else {"maxLength": low + spread}),
        **({} if pattern is None else {"pattern": pattern}),
    },
    st.integers(0, 12),
    st.none() | st.integers(0, 12),
    st.sampled_from([None, None, "^[a-z]+$", "^\\d{3}-\\d{4}$", "[A-Z]", "^(foo|bar)?$", "^\\w+@\\w+\\.com$"]),
)
LISTED = st.lists(st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3), min_size=1, max_size=4)
LEAVES = (
    NUMBERS
    | STRINGS
    | LISTED.map(lambda values: {"enum": values})
    | st.sampled_from([{}, True, {"type": ["string", "null"]}, {"type": "boolean"}, {"$ref": "#/$defs/node"}])
)
NAMES = st.sampled_from(["a", "b", "city", "x1"])
NODE = {
    "type": "object",
    "properties": {"next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]}, "value": {"type": "integer"}},
    "required": ["value", "next"],
}


def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    objects = st.builds(
        lambda properties, required, others, least: {
            "type": "object",
            "properties": properties,
            "required": required,
            "minProperties": least,
            **({} if others is None else {"additionalProperties": others}),
        },
        st.dictionaries(NAMES, inner, max_size=3),
        st.lists(NAMES, max_size=2, unique=True),
        st.none() | st.booleans() | inner,
        st.integers(0, 3),
    )
    arrays = st.builds(
        lambda items, prefix, least, unique: {
            "type": "array",
            "items": items,
            "prefixItems": prefix,
            "minItems": least,
            "uniqueItems": unique,
        },
        inner,
        st.lists(inner, max_size=2),
        st.integers(0, 3),
        st.booleans(),
    )
    several = st.builds(
        lambda keyword, members, beside: {keyword: members, **beside},
        st.sampled_from(["anyOf", "allOf"]),
        st.lists(inner, min_size=1, max_size=3),
        st.just({}) | objects,
    )
    return objects | arrays | several


@given(schema=st.recursive(LEAVES, nested, max_leaves=8), seed=st.integers(0, 3))
def test_what_is_written_is_accepted_by_a_validator(schema: Any, seed: int) -> None:
    document = {"allOf": [schema], "$defs": {"node": NODE}}
    try:
        text = schemas.write(document, Dice(seed) if seed else FirstChoice())
    except Refusal as refused:
        assert refused.message.startswith("Grammar error: ")  # noqa: PT017  # which of the two comes is not known
        return
    jsonschema.Draft202012Validator(document).validate(json.loads(text))


KEYWORDS = st.sampled_from(
    ["type", "enum", "const", "properties", "required", "additionalProperties", "minProperties", "items", "prefixItems",
     "minItems", "uniqueItems", "minimum", "exclusiveMaximum", "multipleOf", "minLength", "pattern", "format", "anyOf",
     "allOf", "$ref", "$defs", "patternProperties", "a"]
)  # fmt: skip
TEXTS = st.sampled_from(["", "(", "#/$defs/a", "#", "string"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 30) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYWORDS, inner, max_size=3),
    max_leaves=10,
)


@given(schema=st.dictionaries(KEYWORDS, JSON, max_size=4))
def test_any_json_as_a_schema_is_a_value_or_a_refusal(schema: Any) -> None:
    try:
        text = schemas.write(schema, FirstChoice())
    except Refusal:
        return
    json.loads(text)
