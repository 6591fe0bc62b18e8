"""What is wrong with a caller's request body, in a form the gateway turns into an answer with status 400."""

from __future__ import annotations

from typing import Literal

from adapters.errors import AdapterError

Code = Literal[
    "invalid_json",
    "invalid_type",
    "invalid_value",
    "missing_required_parameter",
    "duplicate_parameter",
    "unknown_parameter",
    "parameter_not_allowed",
    "context_length_exceeded",
]


class BadRequest(AdapterError):
    """The caller's body cannot be served; `message` is a sentence for the caller, `param` the path of the field."""

    def __init__(self, message: str, param: str | None, code: Code) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.code: Code = code


def wrong_type(path: str, expected: str, value: object) -> BadRequest:
    """`expected` reads after “must be”: “a string”."""
    return BadRequest(f"{path} must be {expected}, not {json_type(value)}.", path, "invalid_type")


def wrong_value(path: str, sentence: str) -> BadRequest:
    """`sentence` follows the path: “must be at least 1”."""
    return BadRequest(f"{path} {sentence}.", path, "invalid_value")


def json_type(value: object) -> str:
    """Name the JSON type of a decoded value, with its article."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
        case _:
            return "an object"
