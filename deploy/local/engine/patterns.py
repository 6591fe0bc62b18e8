"""A text that matches a regular expression, or vLLM's words for why there is none.

Python's own parser reads the pattern, so the subset is what Python and the Rust crate vLLM's grammars use share:
literals, classes, groups, alternatives, repeats and anchors. Look-around, back-references, flags and nested classes are
refused. Of what a class excludes or `.` stands for, only printable ASCII characters are written.
"""

from __future__ import annotations

import re
import string
import warnings
from collections.abc import Iterable, Iterator
from typing import Any

# The parser behind re: 3.11 moved it here from sre_parse, and it has no public name.
from re import _constants as codes, _parser as parser  # type: ignore[attr-defined]  # isort: skip  # no stubs for these

from deploy.local.engine.dice import Dice
from deploy.local.engine.refusal import Refusal

_CATEGORIES = {
    codes.CATEGORY_DIGIT: string.digits,
    codes.CATEGORY_WORD: string.ascii_lowercase + string.ascii_uppercase + string.digits + "_",
    codes.CATEGORY_SPACE: " ",
}
_PRINTABLE = string.ascii_lowercase + string.ascii_uppercase + string.digits + " " + string.punctuation
_CLASSES = (
    (codes.CATEGORY_NOT_DIGIT, codes.CATEGORY_DIGIT),
    (codes.CATEGORY_NOT_WORD, codes.CATEGORY_WORD),
    (codes.CATEGORY_NOT_SPACE, codes.CATEGORY_SPACE),
)
_CATEGORIES |= {inverse: "".join(c for c in _PRINTABLE if c not in _CATEGORIES[plain]) for inverse, plain in _CLASSES}

_RUST_WORDS = (
    ("unterminated character set", "unclosed character class"),
    ("missing ), unterminated subpattern", "unclosed group"),
    ("unbalanced parenthesis", "unopened group"),
    ("nothing to repeat", "repetition operator missing expression"),
    ("multiple repeat", "repetition operator missing expression"),
    ("bad character range", "invalid character class range, the start must be <= the end"),
    ("min repeat greater", "invalid repetition count range, the start must be <= the end"),
    ("bad escape", "unrecognized escape sequence"),
)

_NOT_IN_RUST = (
    (
        {codes.ASSERT, codes.ASSERT_NOT},
        re.compile(r"\(\?<?[=!]"),
        "look-around, including look-ahead and look-behind, is not supported",
    ),
    ({codes.GROUPREF}, re.compile(r"\\[1-9]|\(\?P="), "backreferences are not supported"),
    ({codes.GROUPREF_EXISTS}, re.compile(r"\(\?\("), "unrecognized flag"),
    ({codes.ATOMIC_GROUP}, re.compile(r"\(\?>"), "unrecognized flag"),
)
"""What Python reads and Rust does not: codes, how to find them in the pattern, and what Rust says."""
_REPEATS = (codes.MAX_REPEAT, codes.MIN_REPEAT, codes.POSSESSIVE_REPEAT)

_LONGEST = 10_000


def matching(pattern: str, dice: Dice, *, whole: bool = True, shortest: int = 0, longest: int | None = None) -> str:
    """Return a text that matches: all of it, or with `whole` false any part of it, of a length within bounds.

    Raises:
        Refusal: the pattern is none, uses what is not supported, or has no text of such a length.
    """
    tree = _parse(pattern)
    matches = re.compile(pattern).fullmatch if whole else re.compile(pattern).search
    # Each try repeats more often, until the text is long enough.
    for extra in (0, 1, 2, 3, 5, 8, shortest // 3, shortest // 2, *range(max(0, shortest - 4), shortest + 1)):
        text = _Writer(dice, extra).write(tree)
        if not whole and len(text) < shortest:
            text = text.ljust(shortest, "a")  # Of use where the pattern has no end.
        if shortest <= len(text) <= (_LONGEST if longest is None else longest) and matches(text):
            return text
    raise _grammar_error(f'no text found that matches "{pattern}"')


def check(pattern: str) -> None:
    """Refuse a pattern that `matching` cannot read."""
    _parse(pattern)


def _parse(pattern: str) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", FutureWarning)
            tree = parser.parse(pattern)
    except FutureWarning as error:
        # To Python `[[a]` is a class with a bracket in it, to Rust it is a class in a class.
        raise _grammar_error(f'invalid regex "{pattern}": nested character classes are not supported') from error
    except (re.error, OverflowError, RecursionError) as error:
        raise invalid(pattern, error) from error
    if tree.state.flags & ~re.UNICODE.value:
        raise _grammar_error(f'invalid regex "{pattern}": flags are not supported')
    used = set(_codes(tree))
    for unsupported, looks_like, reason in _NOT_IN_RUST:
        if used & unsupported:
            found = looks_like.search(pattern)
            raise _refused(pattern, found.start() if found else 0, reason)
    return tree


def _codes(nodes: Iterable[tuple[Any, Any]]) -> Iterator[Any]:
    """Give all that a parsed pattern is made of."""
    for code, argument in nodes:
        yield code
        if code is codes.SUBPATTERN:
            yield from _codes(argument[3])
        elif code is codes.BRANCH:
            for branch in argument[1]:
                yield from _codes(branch)
        elif code in _REPEATS:
            yield from _codes(argument[2])


def invalid(pattern: str, error: Exception) -> Refusal:
    """Return the refusal of a pattern that is none, in the words of the Rust crate."""
    place, said = (error.pos or 0, error.msg) if isinstance(error, re.error) else (0, str(error))
    reason = next((rust for python, rust in _RUST_WORDS if said.startswith(python)), said)
    return _refused(pattern, place, reason)


def _refused(pattern: str, place: int, reason: str) -> Refusal:
    return Refusal(
        f'Grammar error: at 1(8): invalid regex "{pattern}" (in regex): regex parse error:\n    {pattern}\n'
        f"{' ' * (4 + place)}^\nerror: {reason}\n   1 | start: /{pattern}/\n              ^"
    )


def _grammar_error(reason: str) -> Refusal:
    return Refusal(f"Grammar error: {reason}")


class _Writer:
    """Writes one text for a parsed pattern."""

    def __init__(self, dice: Dice, extra: int) -> None:
        self._dice, self._extra = dice, extra
        self._length = 0

    def write(self, nodes: Iterable[tuple[Any, Any]]) -> str:
        return "".join(self._node(code, argument) for code, argument in nodes)

    def _node(self, code: Any, argument: Any) -> str:
        if code in (codes.LITERAL, codes.NOT_LITERAL, codes.IN, codes.ANY):
            return self._dice.pick(_choices(code, argument))
        if code is codes.AT:
            return ""
        if code is codes.SUBPATTERN:
            _, added, removed, inner = argument
            if added or removed:
                raise _grammar_error("inline flags are not supported")
            return self.write(inner)
        if code is codes.BRANCH:
            return self.write(self._dice.pick(argument[1]))
        if code in _REPEATS:
            return self._repeated(*argument)
        raise _grammar_error(f"{str(code).lower().replace('_', '-')} is not supported in a regex")

    def _repeated(self, least: int, most: int, inner: Any) -> str:
        times = min(most, max(least, 1) + self._extra + self._dice.below(3))
        parts: list[str] = []
        for _ in range(times):
            parts.append(self.write(inner))
            self._length += len(parts[-1])
            if self._length > _LONGEST:
                raise _grammar_error("the regex repeats too often")
        return "".join(parts)


def _choices(code: Any, argument: Any) -> str:
    """Return the characters a single place may have, the plainest first."""
    if code is codes.LITERAL:
        return chr(argument)
    if code is codes.ANY:
        return _PRINTABLE
    if code is codes.NOT_LITERAL:
        return _PRINTABLE.replace(chr(argument), "")
    members = list(argument)
    negated = bool(members) and members[0][0] is codes.NEGATE
    chosen = "".join(_members(kind, value) for kind, value in members[negated:])
    if negated:
        excluded = _exclusion(members[1:])
        chosen = "".join(character for character in _PRINTABLE if character not in excluded)
    if not chosen:
        raise _grammar_error("a character class leaves no printable ASCII character")
    return chosen


def _members(kind: Any, value: Any) -> str:
    if kind is codes.LITERAL:
        return chr(value)
    if kind is codes.RANGE:
        low, high = value
        return "".join(map(chr, range(low, min(high, low + 127) + 1)))
    return _CATEGORIES[value]


def _exclusion(members: list[tuple[Any, Any]]) -> set[str]:
    excluded: set[str] = set()
    for kind, value in members:
        if kind is codes.RANGE:
            excluded.update(c for c in _PRINTABLE if value[0] <= ord(c) <= value[1])
        else:
            excluded.update(_members(kind, value))
    return excluded
