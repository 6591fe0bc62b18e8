"""JSON text, read the way serde_json reads it: one pass, and the position at which it gives up.

Text that is no JSON is one kind of problem and a value that is not what it should be another, as axum answers them
with different statuses. https://github.com/serde-rs/json: src/de.rs, src/read.rs, src/error.rs
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any, NoReturn

Path = tuple[str | int, ...]
"""Where in the document a value is: the keys and places that lead to it."""

UNKNOWN = "?"
"""The step of a path to a key that could not be read."""

_DEEPEST = 128
_SPACE = re.compile(rb"[ \t\r\n]*")
_PLAIN = re.compile(rb'[^"\\\x00-\x1f]*')
_DIGITS = re.compile(rb"[0-9]*")
_IDENTS = {ord("n"): (b"null", None), ord("t"): (b"true", True), ord("f"): (b"false", False)}
_ESCAPES = {
    ord("b"): "\b", ord("f"): "\f", ord("n"): "\n", ord("r"): "\r", ord("t"): "\t",
    ord('"'): '"', ord("\\"): "\\", ord("/"): "/",
}  # fmt: skip


class Problem(Exception):
    """What serde says of a document, without its path."""

    def __init__(self, message: str, path: Path = (), *, syntax: bool = False) -> None:
        super().__init__(message)
        self.message, self.path, self.syntax = message, path, syntax
        self.placed = syntax
        """Whether the message has its line and column."""

    def __str__(self) -> str:
        """Return the text, after the path if any of it is known."""
        if all(step == UNKNOWN for step in self.path):
            return self.message
        return f"{spell(self.path)}: {self.message}"


class Object(dict[str, Any]):
    """A JSON object that remembers which of its keys came twice."""

    def __init__(self) -> None:
        super().__init__()
        self.twice: set[str] = set()


def spell(path: Path) -> str:
    """Return a path as text: `parameters.stop[0]`."""
    text = ""
    for step in path:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


class Reader:
    """Reads one document from its bytes."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self._depth = 0
        self._lax = False
        """Whether what is read is only stepped over."""

    def place(self, message: str) -> str:
        """Return a message with the line and column reached."""
        return f"{message} at {self._position(self.at)}"

    def settle(self, problem: Problem) -> Problem:
        """Give a problem that has no position yet the one reached."""
        if not problem.placed:
            problem.message, problem.placed = self.place(problem.message), True
        return problem

    def peek(self) -> int | None:
        """Return the next byte that is no space, or None at the end."""
        self._skip(_SPACE)
        return self.data[self.at] if self.at < len(self.data) else None

    # --- Values ---

    def ignore(self, path: Path) -> None:
        """Step over the next value, which is looked at less closely; its problems are told of where it begins."""
        self._lax = True
        self.value(path)
        self._lax = False

    def value(self, path: Path) -> Any:
        """Return the next value, whatever it is."""
        first = self.peek()
        if first is None:
            self.fail_at_peek("EOF while parsing a value", path)
        if first in _IDENTS:
            return self.ident(path)
        if first == ord("-") or ord("0") <= first <= ord("9"):
            return self.number(path)
        if first == ord('"'):
            return self.string(path)
        if first not in b"{[":
            self.fail_at_peek("expected value", path)
        if self._depth == _DEEPEST - 1:
            self.fail_at_peek("recursion limit exceeded", path)
        self._depth += 1
        if first == ord("["):
            made: Any = [self.value(self._inside(path, place)) for place in self.elements(path)]
        else:
            made = Object()
            for key in self.keys(path):
                if key in made:
                    made.twice.add(key)
                self.colon(path)
                made[key] = self.value(self._inside(path, key))
        self._depth -= 1
        return made

    def keys(self, path: Path) -> Iterator[str]:
        """Give the keys of the object that begins here; the caller reads the `colon` and the value after each."""
        self.at += 1
        first = True
        while True:
            inside = self._inside(path, UNKNOWN)
            byte = self.peek()
            if byte is None:
                self.fail_at_peek("EOF while parsing an object", inside)
            if byte == ord("}"):
                self.at += 1
                return
            if not first:
                if byte != ord(","):
                    self.fail_at_peek("expected `,` or `}`", inside)
                self.at += 1
                byte = self.peek()
            first = False
            if byte is None:
                self.fail_at_peek("EOF while parsing a value", inside)
            if byte != ord('"'):
                self.fail_at_peek("trailing comma" if byte == ord("}") else "key must be a string", inside)
            yield self.string(inside)

    def colon(self, path: Path) -> None:
        """Step over what parts a key and its value."""
        byte = self.peek()
        if byte is None:
            self.fail_at_peek("EOF while parsing an object", path)
        if byte != ord(":"):
            self.fail_at_peek("expected `:`", path)
        self.at += 1

    def elements(self, path: Path) -> Iterator[int]:
        """Give the places of the list that begins here; the caller reads the value at each."""
        self.at += 1
        place = 0
        while True:
            byte = self.peek()
            if byte is None:
                self.fail_at_peek("EOF while parsing a list", path)
            if byte == ord("]"):
                self.at += 1
                return
            if place:
                if byte != ord(","):
                    self.fail_at_peek("expected `,` or `]`", path)
                self.at += 1
                byte = self.peek()
                if byte == ord("]"):
                    self.fail_at_peek("trailing comma", path)
                if byte is None:
                    self.fail_at_peek("EOF while parsing a value", path)
            yield place
            place += 1

    def close(self) -> None:
        """Step over the end of an object or list if nothing else is left of it, as after a failure inside."""
        if self.peek() in (ord("}"), ord("]")):
            self.at += 1

    def ident(self, path: Path) -> bool | None:
        """Return null, true or false."""
        spelled, meant = _IDENTS[self.data[self.at]]
        for byte in spelled:
            found = self._next("EOF while parsing a value", path)
            if found != byte:
                self.fail("expected ident", path)
        return meant

    def number(self, path: Path) -> int | float:
        """Return a number; an integer that takes more than 64 bits is a float."""
        start = self.at
        if self.data[self.at] == ord("-"):
            self.at += 1
        first = self._next("EOF while parsing a value", path)
        if first == ord("0"):
            if self.data[self.at : self.at + 1].isdigit():
                self.fail_at_peek("invalid number", path)
        elif ord("1") <= first <= ord("9"):
            self._digits()
        else:
            self.fail("invalid number", path)
        whole = True
        if self.at < len(self.data) and self.data[self.at] == ord("."):
            whole = False
            self.at += 1
            if not self._digits():
                self._fail_number_at_peek(path)
        if self.at < len(self.data) and self.data[self.at] in b"eE":
            whole = False
            self.at += 1
            if self.at < len(self.data) and self.data[self.at] in b"+-":
                self.at += 1
            at_the_end = "invalid number" if self._lax else "EOF while parsing a value"
            if not ord("0") <= self._next(at_the_end, path) <= ord("9"):
                self.fail("invalid number", path)
            self._digits()
        text = self.data[start : self.at].decode()
        if whole and -(2**63) <= int(text) < 2**64:
            return int(text)
        made = float(text)
        if math.isinf(made) and not self._lax:
            self.fail("number out of range", path)
        return made

    def string(self, path: Path) -> str:
        """Return the string that begins here."""
        self.at += 1
        parts: list[str] = []
        while True:
            try:
                parts.append(self._skip(_PLAIN).decode())
            except UnicodeDecodeError:
                self.at += 1
                self.fail("invalid unicode code point", path)
            byte = self._next("EOF while parsing a string", path)
            if byte == ord('"'):
                return "".join(parts)
            if byte != ord("\\"):
                self.at -= self._lax
                self.fail("control character (\\u0000-\\u001F) found while parsing a string", path)
            escaped = self._next("EOF while parsing a string", path)
            if escaped == ord("u"):
                parts.append(self._unicode(path))
            elif escaped in _ESCAPES:
                parts.append(_ESCAPES[escaped])
            else:
                self.fail("invalid escape", path)

    def _unicode(self, path: Path) -> str:
        lead = self._hex(path)
        if self._lax:
            return ""
        if 0xDC00 <= lead <= 0xDFFF:
            self.fail("lone leading surrogate in hex escape", path)
        if not 0xD800 <= lead <= 0xDBFF:
            return chr(lead)
        for byte in b"\\u":
            if self._next("EOF while parsing a string", path) != byte:
                self.fail("unexpected end of hex escape", path)
        trail = self._hex(path)
        if not 0xDC00 <= trail <= 0xDFFF:
            self.fail("lone leading surrogate in hex escape", path)
        return chr(0x10000 + ((lead - 0xD800) << 10) + (trail - 0xDC00))

    def _hex(self, path: Path) -> int:
        if self.at + 4 > len(self.data):
            self.at = len(self.data)
            self.fail("EOF while parsing a string", path)
        made = 0
        for _ in range(4):
            byte = self._next("", path)
            if byte not in b"0123456789abcdefABCDEF":
                self.fail("invalid escape", path)
            made = made * 16 + int(chr(byte), 16)
        return made

    def _inside(self, path: Path, step: str | int) -> Path:
        return path if self._lax else (*path, step)

    # --- Problems ---

    def fail(self, message: str, path: Path) -> NoReturn:
        """Say that the text is no JSON, at the byte that was read last."""
        raise Problem(self.place(message), path, syntax=True)

    def fail_at_peek(self, message: str, path: Path) -> NoReturn:
        """Say that the text is no JSON, at the byte that would have been read next."""
        position = self._position(min(len(self.data), self.at + 1))
        raise Problem(f"{message} at {position}", path, syntax=True)

    def _fail_number_at_peek(self, path: Path) -> NoReturn:
        ended = self.at >= len(self.data) and not self._lax
        self.fail_at_peek("EOF while parsing a value" if ended else "invalid number", path)

    def _next(self, at_the_end: str, path: Path) -> int:
        if self.at >= len(self.data):
            self.fail(at_the_end, path)
        self.at += 1
        return self.data[self.at - 1]

    def _digits(self) -> int:
        """Step over digits; return how many there were."""
        return len(self._skip(_DIGITS))

    def _skip(self, pattern: re.Pattern[bytes]) -> bytes:
        """Step over what matches, which may be nothing, and return it."""
        found = pattern.match(self.data, self.at)
        skipped = found[0] if found else b""
        self.at += len(skipped)
        return skipped

    def _position(self, place: int) -> str:
        line = self.data.count(b"\n", 0, place) + 1
        column = place - (self.data.rfind(b"\n", 0, place) + 1)
        return f"line {line} column {column}"
