"""Rules for values of one kind: types, ranges and sizes.

A rule takes a value other than null, its path, and the fields whose caps are lifted; it raises BadRequest.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from adapters.openai import caps
from adapters.openai.refusal import wrong_type, wrong_value

INT64 = (-(2**63), 2**63 - 1)

Rule = Callable[[Any, str, frozenset[str]], None]
"""What checks one value; see above."""


def is_boolean(value: object, path: str, _: frozenset[str]) -> None:
    if not isinstance(value, bool):
        raise wrong_type(path, "a boolean", value)


def is_string(value: object, path: str, _: frozenset[str]) -> None:
    if not isinstance(value, str):
        raise wrong_type(path, "a string", value)


def is_object(value: object, path: str, _: frozenset[str]) -> None:
    if not isinstance(value, dict):
        raise wrong_type(path, "an object", value)


def is_array(value: object, path: str, _: frozenset[str]) -> None:
    if not isinstance(value, list):
        raise wrong_type(path, "an array", value)


def integer(low: int | None = None, high: int | None = None, cap: int | None = None) -> Rule:
    """Build a rule for integers; `low` and `high` always hold, `cap` may be lifted."""

    def rule(value: object, path: str, lifted: frozenset[str]) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_type(path, "an integer", value)
        if low is not None and value < low:
            raise wrong_value(path, f"must be at least {low}, not {short(value)}")
        if high is not None and value > high:
            raise wrong_value(path, f"must be at most {high}, not {short(value)}")
        if cap is not None and not (low or 0) <= value <= cap and path not in lifted:
            raise wrong_value(path, f"must be from {low or 0} to {cap}, not {short(value)}")

    return rule


def number(low: float, high: float, *, above_low: bool = False) -> Rule:
    """Build a rule for finite numbers from `low` to `high`, both included unless `above_low`."""

    def rule(value: object, path: str, _: frozenset[str]) -> None:
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise wrong_type(path, "a number", value)
        if not low <= value <= high or (above_low and value == low):
            span = f"above {low:g} and at most {high:g}" if above_low else f"from {low:g} to {high:g}"
            raise wrong_value(path, f"must be {span}, not {short(value)}")

    return rule


def token_ids(value: object, path: str, lifted: frozenset[str]) -> None:
    if not isinstance(value, list):
        raise wrong_type(path, "an array of integers", value)
    at_most(len(value), caps.MAX_TOKEN_IDS, path, "entries", lifted)
    all_token_ids(value, path)


def strings(most: int, chars: int) -> Rule:
    """Build a rule for an array of at most `most` strings that are not empty and hold at most `chars` characters."""

    def rule(value: object, path: str, lifted: frozenset[str]) -> None:
        if not isinstance(value, list):
            raise wrong_type(path, "an array of strings", value)
        at_most(len(value), most, path, "strings", lifted)
        for position, string in enumerate(value):
            if not isinstance(string, str):
                raise wrong_type(f"{path}[{position}]", "a string", string)
            if not string:
                raise wrong_value(f"{path}[{position}]", "must not be empty")
            at_most(len(string), chars, f"{path}[{position}]", "characters", lifted)

    return rule


_stops = strings(caps.MAX_STOPS, caps.MAX_STOP_CHARS)


def stop(value: object, path: str, lifted: frozenset[str]) -> None:
    if isinstance(value, str):
        if not value:
            raise wrong_value(path, "must not be empty")
        at_most(len(value), caps.MAX_STOP_CHARS, path, "characters", lifted)
    elif isinstance(value, list):
        _stops(value, path, lifted)
    else:
        raise wrong_type(path, "a string or an array of strings", value)


def pattern(value: object, path: str, lifted: frozenset[str]) -> None:
    if not isinstance(value, str):
        raise wrong_type(path, "a string", value)
    at_most(len(value), caps.MAX_PATTERN_CHARS, path, "characters", lifted)


def all_token_ids(ids: list[Any], path: str) -> None:
    if set(map(type, ids)) <= {int} and (not ids or (min(ids) >= 0 and max(ids) < 2**31)):
        return
    for position, token in enumerate(ids):
        _token(token, f"{path}[{position}]", frozenset())


_token = integer(0, 2**31 - 1)


def at_most(size: int, most: int, path: str, what: str, lifted: frozenset[str]) -> None:
    if size > most and path.partition("[")[0].partition(".")[0] not in lifted:
        raise wrong_value(path, f"must hold at most {most} {what}, not {size}")


def short(value: float) -> str:
    text = str(value) if isinstance(value, float) or abs(value) < 10**20 else "a huge number"
    return text if len(text) <= 24 else f"{text[:24]}…"
