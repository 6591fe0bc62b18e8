"""Whether a JSON Schema is one, before a value of it is made; the words are those of vLLM's grammar backend.

https://github.com/guidance-ai/llguidance (parser/src/json) checks the whole document at once, so this does too.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from fractions import Fraction
from typing import Any, TypeGuard
from urllib.parse import unquote

from deploy.local.engine import patterns
from deploy.local.engine.refusal import Refusal

TYPES = ("null", "boolean", "object", "array", "number", "string", "integer")
UNIMPLEMENTED = (
    "not", "if", "then", "else", "contains", "minContains", "maxContains", "dependentSchemas", "dependentRequired",
    "propertyNames", "unevaluatedItems", "unevaluatedProperties", "$dynamicRef", "$recursiveRef",
)  # fmt: skip

_ONE = ("items", "additionalProperties", "additionalItems")
_LISTS = ("anyOf", "oneOf", "allOf", "prefixItems")
_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_COUNTS = ("minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties")
_NUMBERS = ("minimum", "maximum", "multipleOf")
_EXCLUSIVE = ("exclusiveMinimum", "exclusiveMaximum")
_MOST_NESTED = 100


def check(schema: Any) -> None:
    """Refuse what is no schema, or one with keywords that are not implemented."""
    _check(schema, schema, 0)


def _check(schema: Any, document: Any, depth: int) -> None:
    if isinstance(schema, bool):
        return
    if not isinstance(schema, dict):
        raise _refused(f"JSON schema must be an object or boolean, not {_kind_of(schema)}")
    if depth > _MOST_NESTED:
        raise _refused("JSON schema is nested too deeply")
    if unknown := [key for key in UNIMPLEMENTED if key in schema]:
        raise _refused(f"Unimplemented keys: {_quoted(unknown)}")
    declared = schema.get("type", list(TYPES))
    if declared == []:
        raise _refused("type must not be empty")
    for kind in declared if isinstance(declared, list) else [declared]:
        if kind not in TYPES:
            raise _refused(f"Invalid type: {kind}")
    _check_values(schema)
    if "$ref" in schema:
        resolve(document, schema["$ref"])
    for member in _members(schema):
        _check(member, document, depth + 1)


def _check_values(schema: dict[str, Any]) -> None:
    if not isinstance(schema.get("enum", []), list):
        raise _refused("enum must be an array")
    required = schema.get("required", [])
    if not isinstance(required, list) or not all(isinstance(name, str) for name in required):
        raise _refused("required must be an array of strings")
    for key in _COUNTS:
        count = schema.get(key, 0)
        if not is_of(count, "integer") or count < 0:
            raise _refused(f"{key} must be a non-negative integer")
    for key in _NUMBERS:
        if not is_number(schema.get(key, 1)):
            raise _refused(f"{key} must be a number")
    for key in _EXCLUSIVE:
        beyond = schema.get(key, True)  # Draft 4 made the plain bound exclusive by a boolean.
        if not isinstance(beyond, bool) and not is_number(beyond):
            raise _refused(f"{key} must be a number")
    if not isinstance(schema.get("format", ""), str):
        raise _refused("format must be a string")
    if schema.get("multipleOf", 1) <= 0:
        raise _refused("multipleOf must be greater than 0")
    if not isinstance(schema.get("pattern", ""), str):
        raise _refused("pattern must be a string")
    patterns.check(schema.get("pattern", ""))


def _members(schema: dict[str, Any]) -> Iterator[Any]:
    for key in _ONE:
        if key in schema:
            # Before 2020-12, items could be a list.
            yield from schema[key] if isinstance(schema[key], list) else [schema[key]]
    for key in _LISTS:
        members = schema.get(key, [])
        if not isinstance(members, list) or (key in schema and not members and key != "prefixItems"):
            raise _refused(f"{key} must be a non-empty array")
        yield from members
    for key in _MAPS:
        members = schema.get(key, {})
        if not isinstance(members, dict):
            raise _refused(f"{key} must be an object")
        if key == "patternProperties":
            for pattern in members:
                patterns.check(pattern)
        yield from members.values()


def resolve(document: Any, reference: object) -> Any:
    """Return the schema a `$ref` stands for; only the document itself can be referred to."""
    if not isinstance(reference, str) or not reference.startswith("#"):
        raise _refused(f"Unresolvable reference: {reference}")
    target = document
    for step in unquote(reference[1:]).split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(target, dict) and key in target:
            target = target[key]
        elif isinstance(target, list) and key.isdigit() and int(key) < len(target):
            target = target[int(key)]
        else:
            raise _refused(f"Unresolvable reference: {reference}")
    return target


def is_of(value: object, kind: object) -> bool:
    """Return whether a JSON value is of a schema's type."""
    if isinstance(value, bool):
        return kind == "boolean"
    if isinstance(value, int | float):
        return kind == "number" or (kind == "integer" and (isinstance(value, int) or value.is_integer()))
    return kind == _kind_of(value)


def is_number(value: object) -> TypeGuard[float]:
    """Return whether a value is a number that JSON can write."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def fits(value: object, schema: dict[str, Any]) -> bool:
    """Return whether a listed value is what the keywords beside the list ask for; nested ones are not looked at."""
    declared = schema.get("type", TYPES)
    if not any(is_of(value, kind) for kind in (declared if isinstance(declared, list | tuple) else [declared])):
        return False
    if "enum" in schema and fingerprint(value) not in map(fingerprint, schema["enum"]):
        return False
    if isinstance(value, str):
        within: bool = schema.get("minLength", 0) <= len(value) <= schema.get("maxLength", len(value))
        return within and re.search(schema.get("pattern", ""), value) is not None
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _is_within(value, schema)
    return True


def _is_within(number: float, schema: dict[str, Any]) -> bool:
    if not schema.get("minimum", number) <= number <= schema.get("maximum", number):
        return False
    low, high = (schema.get(key) for key in _EXCLUSIVE)
    if is_number(low) and low >= number:
        return False
    if is_number(high) and high <= number:
        return False
    step = schema.get("multipleOf")
    return step is None or Fraction(str(number)) % Fraction(str(step)) == 0


def fingerprint(value: object) -> str:
    """Return a text that equal JSON values share, and 1 and true do not."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, sort_keys=True)


def _kind_of(value: object) -> str:
    kinds = ((str, "string"), (list, "array"), (dict, "object"), (bool, "boolean"), ((int, float), "number"))
    return next((name for python, name in kinds if isinstance(value, python)), "null")


def _quoted(names: list[str]) -> str:
    return "[" + ", ".join(f'"{name}"' for name in names) + "]"


def _refused(reason: str) -> Refusal:
    return Refusal(f"Grammar error: {reason}")
