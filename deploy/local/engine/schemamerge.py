"""Two JSON Schemas as one that asks for both: how allOf, $ref beside other keywords, and anyOf branches are read."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product
from typing import Any

from deploy.local.engine.refusal import Refusal
from deploy.local.engine.schemacheck import fingerprint

Schema = dict[str, Any]

_GREATEST = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
_LEAST = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_ONE_VALUE = ("pattern", "format", "prefixItems", "patternProperties", "additionalItems")
"""Keywords of which a schema has one: two that differ are refused, where both together may still have a value."""


def merged(first: Any, second: Any) -> Any:
    """Return a schema of what both accept.

    Raises:
        Refusal: they accept nothing together, or it takes more than this to tell.
    """
    if isinstance(first, bool) or isinstance(second, bool):
        if first is False or second is False:
            return False
        return second if first is True else first
    if "$ref" in first and "$ref" in second:
        return {"allOf": [first, second]}
    both = _with_closed_properties(first, second)
    for key, value in second.items():
        if key in ("properties", "additionalProperties"):
            continue
        both[key] = _both(key, first[key], value) if key in first else value
    return both


def unsatisfiable(reason: str) -> Refusal:
    """Return the refusal of a schema that accepts nothing."""
    return Refusal(f"Grammar error: Unsatisfiable schema: {reason}")


def _both(key: str, one: Any, other: Any) -> Any:
    if fingerprint(one) == fingerprint(other):
        return one
    if key in _GREATEST or key in _LEAST:
        return _bound(key, one, other)
    if key == "type":
        return _common_types(one, other)
    if key == "enum":
        known = set(map(fingerprint, other))
        return [value for value in one if fingerprint(value) in known]
    if key == "const":
        raise unsatisfiable("two constants")
    if key in ("required", "allOf"):
        return [*one, *(member for member in other if member not in one)]
    if key in ("anyOf", "oneOf"):
        return [{"allOf": [here, there]} for here, there in product(one, other)]
    if key == "items" and not isinstance(one, list) and not isinstance(other, list):
        return merged(one, other)
    if key == "multipleOf":
        return _common_multiple(one, other)
    if key == "uniqueItems":
        return bool(one or other)
    if key in _ONE_VALUE or key == "items":
        raise _unsupported(f"two different values of {key} for the same value")
    return other


def _bound(key: str, one: Any, other: Any) -> Any:
    if isinstance(one, bool) or isinstance(other, bool):
        return one or other  # Draft 4: an exclusive bound is a boolean.
    return max(one, other) if key in _GREATEST else min(one, other)


def _common_types(one: Any, other: Any) -> list[str]:
    here, there = (kinds if isinstance(kinds, list) else [kinds] for kinds in (one, other))
    common = [kind for kind in here if kind in there]
    # A whole number is a number.
    if {"integer", "number"} <= {*here, *there} and not {"integer", "number"} & {*common}:
        common.append("integer")
    if not common:
        raise unsatisfiable("no type is common to both")
    return common


def _common_multiple(one: float, other: float) -> float:
    here, there = Fraction(str(one)), Fraction(str(other))
    common = Fraction(math.lcm(here.numerator, there.numerator), math.gcd(here.denominator, there.denominator))
    return int(common) if common.denominator == 1 else float(common)


def _with_closed_properties(first: Schema, second: Schema) -> Schema:
    """Return the first schema with the properties of both: each has a say about what only the other declares."""
    both = dict(first)
    patterned = first.get("patternProperties") != second.get("patternProperties")
    if patterned and not all(schema.get("additionalProperties", True) is True for schema in (first, second)):
        raise _unsupported("additionalProperties beside the patternProperties of another schema")
    ours, theirs = first.get("properties", {}), second.get("properties", {})
    if ours or theirs:
        both["properties"] = {
            name: merged(
                ours[name] if name in ours else first.get("additionalProperties", True),
                theirs[name] if name in theirs else second.get("additionalProperties", True),
            )
            for name in {**ours, **theirs}
        }
    if "additionalProperties" in first or "additionalProperties" in second:
        both["additionalProperties"] = merged(
            first.get("additionalProperties", True), second.get("additionalProperties", True)
        )
    return both


def _unsupported(what: str) -> Refusal:
    return Refusal(f"Grammar error: not supported: {what}")
