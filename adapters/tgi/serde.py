"""Values as TGI's JSON reader takes them: the types of Rust, and the words serde refuses with.

https://docs.rs/serde/latest/serde/de/enum.Unexpected.html

A type takes a decoded value and returns it, raising Mismatch; null is its caller's concern.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Decimal
from typing import Any

U32_MAX, I32_MAX, U64_MAX = 2**32 - 1, 2**31 - 1, 2**64 - 1
F32_MAX = struct.unpack("<f", b"\xff\xff\x7f\x7f")[0]


class Mismatch(Exception):
    """A value is not of the type; the text is serde's, `path` leads to it inside a value that has parts."""

    def __init__(self, text: str, path: str = "") -> None:
        super().__init__(text)
        self.path = path


_ESCAPES = {code: f"\\u{{{code:x}}}" for code in (*range(0x20), 0x7F)} | str.maketrans(
    {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\0": "\\0"}
)
"""How Rust prints a string for programmers, as far as it matters on one line."""

Type = Callable[[Any], Any]


def mismatch(value: object, expected: str) -> Mismatch:
    return Mismatch(f"invalid type: {_unexpected(value)}, expected {expected}")


def boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise mismatch(value, "a boolean")
    return value


def string(value: object) -> str:
    if not isinstance(value, str):
        raise mismatch(value, "a string")
    return value


def strings(value: object) -> list[str]:
    if not isinstance(value, list):
        raise mismatch(value, "a sequence")
    for place, one in enumerate(value):
        if not isinstance(one, str):
            raise Mismatch(str(mismatch(one, "a string")), f"[{place}]")
    return value


def integer(name: str, low: int, high: int) -> Type:
    """Build one of Rust's integer types."""

    def read(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise mismatch(value, name)
        if not low <= value <= high:
            raise Mismatch(f"invalid value: {_unexpected(value)}, expected {name}")
        return value

    return read


def f32(value: object) -> float:
    """Return the number nearest to `value` that TGI's 32 bits hold."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise mismatch(value, "f32")
    if not -F32_MAX <= value <= F32_MAX:
        raise Mismatch("number out of range")
    rounded: float = struct.unpack("<f", struct.pack("<f", value))[0]
    return rounded


u32 = integer("u32", 0, U32_MAX)
i32 = integer("i32", -(2**31), I32_MAX)
u64 = integer("u64", 0, U64_MAX)
usize = integer("usize", 0, U64_MAX)


def _unexpected(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return f"boolean `{str(value).lower()}`"
        case int():
            # serde_json keeps what 64 bits do not hold as a floating point number
            return f"integer `{value}`" if -(2**63) <= value <= U64_MAX else "floating point number"
        case float():
            digits = format(Decimal(repr(value)), "f")
            return f"floating point `{digits if '.' in digits else digits + '.0'}`"
        case str():
            return f'string "{value[:64].translate(_ESCAPES)}"'
        case list():
            return "sequence"
        case _:
            return "map"
