"""TGI's `grammar`: what TGI requires of it, what this project caps, and what is in it.

router/src/validation.rs of https://github.com/huggingface/text-generation-inference
"""

from __future__ import annotations

from typing import Any

import msgspec

from adapters.openai.checks import pattern
from adapters.openai.refusal import BadRequest
from adapters.openai.reply import INVALID_JSON
from adapters.openai.structures import schema as check_schema
from adapters.tgi.refusal import TgiRefusal, invalid

_values = msgspec.json.Decoder().decode


def check(grammar: dict[str, Any], lifted: frozenset[str]) -> None:
    """Check a grammar of the right shape.

    Args:
        lifted: fields whose caps do not hold.

    Raises:
        TgiRefusal: it is not a regular expression or a JSON schema TGI would take, or too large.
    """
    if grammar["type"] == "regex":
        try:
            pattern(grammar["value"], "grammar.value", lifted)
        except BadRequest as error:
            raise _not_valid(error.message) from None
        return
    if grammar["type"] != "json_schema" and not isinstance(grammar["value"], dict | str):
        raise invalid("grammar is not supported")
    try:
        found = schema(grammar)
    except INVALID_JSON as error:
        raise _not_valid(str(error)) from None
    if not isinstance(found, dict) or "properties" not in found:
        raise _not_valid("Grammar must have a 'properties' field")
    try:
        check_schema(found, "grammar", lifted)
    except BadRequest as error:
        raise _not_valid(error.message) from None


def schema(grammar: dict[str, Any]) -> Any:
    """Return the JSON schema of a grammar that is none of type `regex`.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError or RecursionError: it is a string that is no JSON.
    """
    value = grammar["value"]
    if grammar["type"] == "json_schema":
        return value["schema"]
    return _values(value) if isinstance(value, str) else value


def _not_valid(reason: str) -> TgiRefusal:
    return invalid(f"grammar is not valid: {reason}")
