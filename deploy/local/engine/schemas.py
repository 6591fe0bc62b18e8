"""A value that a JSON Schema accepts: how tools get their arguments and structured answers their content.

Understood: type, enum, const, properties, required, additionalProperties, minProperties, items, prefixItems, minItems,
maxItems, uniqueItems, bounds and multipleOf, lengths, pattern, format, anyOf, oneOf (as anyOf), allOf, and $ref inside
the document. What schemacheck.UNIMPLEMENTED lists is refused, and so is what schemamerge cannot merge; other keywords
are annotations.
https://json-schema.org/draft/2020-12/json-schema-validation
"""

from __future__ import annotations

import json
import math
import re
from fractions import Fraction
from functools import reduce
from typing import Any

from deploy.local.engine import patterns, schemacheck
from deploy.local.engine.dice import Dice
from deploy.local.engine.refusal import Refusal
from deploy.local.engine.schemamerge import merged, unsatisfiable

Schema = dict[str, Any]

_DEEP = 4
"""Below this depth only what must be there is written."""
_DEEPEST = 40
_MOST_VALUES = 20_000
_LONGEST = 10_000

_STRINGS = {
    "city": "Paris", "location": "Paris", "place": "Paris", "town": "Paris", "country": "France",
    "zone": "Europe/Paris", "timezone": "Europe/Paris", "time_zone": "Europe/Paris", "name": "Ada",
    "email": "ada@example.com",
    "date": "2026-01-31", "time": "12:00:00Z", "url": "https://example.com/", "unit": "celsius", "language": "en",
    "currency": "EUR", "query": "a plain question", "title": "A title", "answer": "an answer", "id": "id-1",
}  # fmt: skip
_PLACES = ("city", "location", "place", "town")
_FORMATS = {
    "date": "2026-01-31", "date-time": "2026-01-31T12:00:00Z", "time": "12:00:00Z", "duration": "P1D",
    "email": "ada@example.com", "idn-email": "ada@example.com", "hostname": "example.com",
    "idn-hostname": "example.com",
    "uri": "https://example.com/", "uri-reference": "/path", "iri": "https://example.com/", "iri-reference": "/path",
    "uuid": "123e4567-e89b-12d3-a456-426614174000", "ipv4": "192.0.2.1", "ipv6": "2001:db8::1",
    "json-pointer": "/a", "relative-json-pointer": "0", "regex": "a", "uri-template": "/a",
}  # fmt: skip
_WORDS = ("text", "one", "two", "three", "four", "five", "six", "seven")
_PLACE_IN_PROMPT = re.compile(r"\b(?i:in|for|at|of)\s+([A-Z][\w'’-]+(?:\s[A-Z][\w'’-]+)*)")
_TYPES_BY_KEYWORD = (
    ("object", ("properties", "required", "additionalProperties", "minProperties", "patternProperties")),
    ("array", ("items", "prefixItems", "minItems", "maxItems", "uniqueItems")),
    ("string", ("pattern", "minLength", "maxLength", "format")),
    ("number", ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")),
)


def write(schema: Any, dice: Dice, prompt: str = "") -> str:
    """Return a value of `schema` as JSON text, separated as models write it: `{"city": "Paris", "degrees": 21}`.

    A place the prompt names ("in Rome") becomes the value of a property such as `city`.

    Raises:
        Refusal: the schema is none, uses what is unsupported, or accepts nothing.
    """
    schemacheck.check(schema)
    found = _PLACE_IN_PROMPT.search(prompt)
    value = _Values(schema, dice, found[1] if found else None).value(schema, "", 0)
    return json.dumps(value, ensure_ascii=False)


class _Values:
    """Makes the values of one document."""

    def __init__(self, document: Any, dice: Dice, place: str | None) -> None:
        self._document, self._dice, self._place = document, dice, place
        self._values = 0

    def value(self, schema: Any, name: str, depth: int) -> Any:
        """Return a value of `schema`, which stands at `depth` under a property called `name`."""
        self._values += 1
        if self._values > _MOST_VALUES:
            raise unsatisfiable("it takes too many values")
        if depth > _DEEPEST:
            raise unsatisfiable("the schema contains itself without end")
        if schema is True:
            return "text"
        if schema is False:
            raise unsatisfiable("false")
        schema = self._flat(schema, depth)
        for several in ("anyOf", "oneOf"):
            if several in schema:
                return self._one_of(schema, several, name, depth)
        if "const" in schema or "enum" in schema:
            listed = [schema["const"]] if "const" in schema else schema["enum"]
            fitting = [value for value in listed if schemacheck.fits(value, schema)]
            if not fitting:
                raise unsatisfiable("no listed value fits the other keywords")
            return self._dice.pick(fitting)
        kind = self._kind(schema)
        if kind == "object":
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, name, depth)
        if kind == "string":
            return self._string(schema, name)
        if kind in ("integer", "number"):
            return self._number(schema, whole=kind == "integer")
        return None if kind == "null" else not self._dice.below(2)

    def _flat(self, schema: Schema, depth: int) -> Schema:
        """Return the schema with what it refers to and all of allOf in one."""
        for _ in range(_DEEPEST):
            if "$ref" in schema:
                target = schemacheck.resolve(self._document, schema["$ref"])
                rest = {key: value for key, value in schema.items() if key != "$ref"}
            elif schema.get("allOf"):
                target, *others = schema["allOf"]
                rest = {key: value for key, value in schema.items() if key != "allOf"}
                if others:
                    rest["allOf"] = others
            else:
                return schema
            if target is False:
                raise unsatisfiable("false")
            schema = rest if target is True else merged(target, rest)
        raise unsatisfiable("references that only refer to each other")

    def _one_of(self, schema: Schema, several: str, name: str, depth: int) -> Any:
        rest = {key: value for key, value in schema.items() if key != several}
        branches = schema[several] if depth <= _DEEP else sorted(schema[several], key=_weight)
        first = self._dice.below(len(branches)) if depth <= _DEEP else 0
        refused: Refusal | None = None
        for place in range(len(branches)):
            branch = branches[(first + place) % len(branches)]
            try:
                return self.value(rest if branch is True else merged(branch, rest), name, depth + 1)
            except Refusal as refusal:
                refused = refusal
        raise refused or unsatisfiable(several)

    def _kind(self, schema: Schema) -> str:
        declared = schema.get("type")
        if isinstance(declared, str):
            return declared
        if isinstance(declared, list):
            kinds = [kind for kind in declared if kind != "null"] or declared
            return str(self._dice.pick(kinds if self._dice.below(4) < 3 else declared))
        return next((kind for kind, keys in _TYPES_BY_KEYWORD if any(key in schema for key in keys)), "string")

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        properties: dict[str, Any] = schema.get("properties", {})
        required: list[str] = schema.get("required", [])
        least, most = schema.get("minProperties", 0), schema.get("maxProperties", math.inf)
        made: dict[str, Any] = {}
        spare = most - len(set(required))
        for key in properties:
            if key in required:
                made[key] = self.value(_member(schema, key), key, depth + 1)
            elif (depth < _DEEP and spare > 0) or len(made) < least:
                try:
                    made[key] = self.value(_member(schema, key), key, depth + 1)
                except Refusal:
                    continue  # Nothing fits, and it is optional.
                spare -= 1
        for key in required:
            if key not in made:
                made[key] = self.value(_member(schema, key), key, depth + 1)
        if max(least, len(made)) > most:
            raise unsatisfiable("maxProperties")
        self._fill(made, least, schema, depth)
        return made

    def _fill(self, made: dict[str, Any], least: int, schema: Schema, depth: int) -> None:
        """Add properties that have no declaration until there are enough."""
        patterned = list(schema.get("patternProperties", {})) if schema.get("additionalProperties") is False else []
        for number in range(1, least + 100):
            if len(made) >= least:
                return
            key = f"key{number}"
            if patterned:
                key = patterns.matching(patterned[0], Dice("key", number), whole=False)
            if key not in made:
                made[key] = self.value(_member(schema, key), "", depth + 1)
        if len(made) < least:
            raise unsatisfiable("minProperties")

    def _array(self, schema: Schema, name: str, depth: int) -> list[Any]:
        prefix: list[Any] = schema.get("prefixItems", [])
        items = schema.get("items", True)
        if isinstance(items, list):  # Before 2020-12, items could be what prefixItems is now.
            prefix, items = items, schema.get("additionalItems", True)
        least, most = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        if least > most:
            raise unsatisfiable("maxItems")
        wanted = max(least, min(most, max(1, len(prefix)))) if depth < _DEEP else least
        made: list[Any] = []
        known: set[str] | None = set() if schema.get("uniqueItems") else None
        for place in range(wanted):
            member = prefix[place] if place < len(prefix) else items
            try:
                made.append(self._item(member, name, depth, known))
            except Refusal:
                if place < least:
                    raise
                break  # Nothing fits, and it need not be there.
        return made

    def _item(self, member: Any, name: str, depth: int, known: set[str] | None) -> Any:
        """Return an item; where all have to differ, one that is not `known`."""
        made = self.value(member, name, depth + 1)
        if known is None:
            return made
        for attempt in range(200):
            told = schemacheck.fingerprint(made)
            if told not in known:
                known.add(told)
                return made
            dice = Dice("unique", len(known), attempt)
            made = _Values(self._document, dice, self._place).value(member, f"{attempt}", depth + 1)
        raise unsatisfiable("uniqueItems")

    def _string(self, schema: Schema, name: str) -> str:
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        if "pattern" in schema:
            return patterns.matching(schema["pattern"], self._dice, whole=False, shortest=least, longest=most)
        if least > _LONGEST or (most is not None and most < least):
            raise unsatisfiable("minLength")
        word = name.lower()
        if schema.get("format") in _FORMATS:
            text = _FORMATS[schema["format"]]
            if not least <= len(text) <= (len(text) if most is None else most):
                raise unsatisfiable(f"format {schema['format']} of that length")
            return text
        if word in _PLACES and self._place is not None:
            text = self._place
        elif word in _STRINGS:
            text = _STRINGS[word]
        else:
            text = self._dice.pick(_WORDS)
            if name.isdigit():  # One of several that have to differ.
                text = f"{text} {name}"
        while len(text) < least:
            text += f" {self._dice.pick(_WORDS)}"
        return text if most is None else text[:most]

    def _number(self, schema: Schema, *, whole: bool) -> int | float:
        low, high = _bounds(schema)
        step = _fraction(schema["multipleOf"]) if "multipleOf" in schema else Fraction(1 if whole else 0)
        if whole and step.denominator != 1:
            step = Fraction(step.numerator)  # The least whole number that a fraction divides.
        if not step:
            return self._real(low, high)
        lowest = math.ceil(low / step) if low is not None else None
        highest = math.floor(high / step) if high is not None else None
        place = self._place_between(lowest, highest, math.floor(21 / step) or 1)
        for other in range(place, place + 100 if highest is None else min(highest, place + 100) + 1):
            exact = other * step
            if exact.denominator == 1:
                return int(exact)
            # A fraction counts as a multiple when a float division says so.
            if (float(exact) / float(step)).is_integer():
                return float(exact)
        raise unsatisfiable("multipleOf")

    def _place_between(self, lowest: int | None, highest: int | None, liked: int) -> int:
        if lowest is not None and highest is not None and lowest > highest:
            raise unsatisfiable("no number is within the bounds")
        start = max(liked, lowest) if lowest is not None else liked
        start = min(start, highest) if highest is not None else start
        spread = 100 if highest is None else min(100, highest - start + 1)
        return start + self._dice.below(max(1, spread))

    def _real(self, low: Fraction | None, high: Fraction | None) -> float:
        liked = Fraction(43, 2) + self._dice.below(100)
        if low is not None and liked < low:
            liked = low + 1 if high is None else (low + high) / 2
        if high is not None and liked > high:
            liked = high - 1 if low is None else (low + high) / 2
        if low is not None and high is not None and low > high:
            raise unsatisfiable("no number is within the bounds")
        return float(liked)


def _bounds(schema: Schema) -> tuple[Fraction | None, Fraction | None]:
    """Return the least and the greatest number, exclusive bounds moved a hair inside."""
    hair = Fraction(1, 1_000_000)
    lows: list[Fraction] = []
    highs: list[Fraction] = []
    for bounds, plain, exclusive, inside in (
        (lows, "minimum", "exclusiveMinimum", hair),
        (highs, "maximum", "exclusiveMaximum", -hair),
    ):
        beyond = schema.get(exclusive)
        if plain in schema:
            # Draft 4 made the plain bound exclusive by a boolean.
            bounds.append(_fraction(schema[plain]) + (inside if beyond is True else 0))
        if beyond is not None and not isinstance(beyond, bool):
            bounds.append(_fraction(beyond) + inside)
    return max(lows, default=None), min(highs, default=None)


def _fraction(number: float) -> Fraction:
    return Fraction(str(number))


def _weight(schema: Any) -> int:
    """Return how much a branch may lead to: below a certain depth the least is taken first."""
    if not isinstance(schema, dict) or "const" in schema or "enum" in schema:
        return 0
    if "$ref" in schema or "allOf" in schema:
        return 3
    return {"object": 2, "array": 1}.get(str(schema.get("type")), 0)


def _member(schema: Schema, key: str) -> Any:
    """Return the schema of a property: its own and those of the patterns it matches, or that of all others."""
    found = [member for pattern, member in schema.get("patternProperties", {}).items() if re.search(pattern, key)]
    if key in schema.get("properties", {}):
        found.append(schema["properties"][key])
    if not found:
        return schema.get("additionalProperties", True)
    return reduce(merged, found)
