"""A text of a context-free grammar, in the small common part of GBNF (`root ::= …`) and Lark (`start: …`).

Rules of literals, character classes, /regexes/, groups, alternatives and the repeats `*`, `+` and `?`; the first rule
is `root` or `start`. Lark's directives (%import and its like), templates and priorities are refused.
https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md and https://lark-parser.readthedocs.io/
"""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass

from deploy.local.engine import patterns
from deploy.local.engine.dice import Dice
from deploy.local.engine.refusal import Refusal

_RULE = re.compile(r"[?!]?([A-Za-z_][\w-]*)\s*(?:::=|:)")
_TOKEN = re.compile(
    r"""\s+|(?P<comment>(?:\#|//)[^\n]*)
    |(?P<literal>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
    |(?P<class>\[(?:[^\]\\]|\\.)+\])|/(?P<regex>(?:[^/\\\n]|\\.)+)/|(?P<name>[A-Za-z_][\w-]*)|(?P<mark>[()|*+?])""",
    re.VERBOSE,
)

_DEEPEST = 30
_MOST_STEPS = 20_000


@dataclass(frozen=True, slots=True)
class _Atom:
    kind: str
    """literal, pattern, rule, group."""
    text: str = ""
    options: tuple[tuple[_Atom, ...], ...] = ()
    repeat: str = ""


def write(grammar: str, dice: Dice) -> str:
    """Return a text of the grammar.

    Raises:
        Refusal: it is no grammar, or one with what is not supported.
    """
    return _Grammar(grammar).write(dice)


class _Grammar:
    def __init__(self, grammar: str) -> None:
        self._rules = {name: self._parse_rule(body) for name, body in _split(grammar).items()}
        self._steps = 0
        self._first = next((name for name in ("root", "start") if name in self._rules), "")
        if not self._first:
            raise _refused("no start rule: name the first rule root or start")

    def write(self, dice: Dice) -> str:
        return self._option(_Atom("rule", self._first), dice, 0)

    def _option(self, atom: _Atom, dice: Dice, depth: int) -> str:
        """Return the text of one atom, taking another alternative where the first has no end."""
        self._steps += 1
        if depth > _DEEPEST or self._steps > _MOST_STEPS:
            raise _refused("the grammar contains itself without end")
        if atom.repeat:
            least, spread = (1, 2) if atom.repeat == "+" else (0, 2)
            if depth < 6:
                least, spread = max(least, 1), 1 if atom.repeat == "?" else spread
            single = _Atom(atom.kind, atom.text, atom.options)
            return "".join(self._option(single, dice, depth + 1) for _ in range(least + dice.below(spread)))
        if atom.kind == "literal":
            return atom.text
        if atom.kind == "pattern":
            return patterns.matching(atom.text, dice)
        if atom.kind == "rule" and atom.text not in self._rules:
            raise _refused(f"unknown rule: {atom.text}")
        options = self._rules[atom.text] if atom.kind == "rule" else atom.options
        first = dice.below(len(options))
        refused: Refusal | None = None
        for place in range(len(options)):
            try:
                return "".join(self._option(part, dice, depth + 1) for part in options[(first + place) % len(options)])
            except Refusal as refusal:
                refused = refusal
        raise refused or _refused("an empty rule")

    def _parse_rule(self, body: str) -> tuple[tuple[_Atom, ...], ...]:
        tokens = _tokens(body)
        options = self._parse_options(tokens)
        if tokens:
            raise _refused(f"unexpected {tokens[0][1]!r}")
        return options

    def _parse_options(self, tokens: list[tuple[str, str]]) -> tuple[tuple[_Atom, ...], ...]:
        options: list[tuple[_Atom, ...]] = []
        parts: list[_Atom] = []
        while tokens and tokens[0][1:] != (")",):
            kind, text = tokens.pop(0)
            if kind != "mark":
                parts.append(_atom(kind, text))
            elif text == "|":
                options.append(tuple(parts))
                parts = []
            elif text == "(":
                inner = self._parse_options(tokens)
                if not tokens:
                    raise _refused("unclosed group")
                tokens.pop(0)
                parts.append(_Atom("group", options=inner))
            elif not parts:
                raise _refused(f"nothing to repeat before {text!r}")
            else:
                last = parts[-1]
                parts[-1] = _Atom(last.kind, last.text, last.options, text)
        return (*options, tuple(parts))


def _split(grammar: str) -> dict[str, str]:
    """Return each rule's name and body: a body ends where a line begins another rule."""
    rules: dict[str, str] = {}
    name = ""
    for line in grammar.splitlines():
        if line.lstrip().startswith("%"):
            raise _refused(f"not supported: {line.strip()}")
        if found := _RULE.match(line):
            name = found[1]
            rules[name] = line[found.end() :]
        elif name:
            rules[name] += f"\n{line}"
        elif line.strip() and not line.lstrip().startswith(("#", "//")):
            raise _refused(f"expected a rule: {line.strip()}")
    return rules


def _tokens(body: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    place = 0
    while place < len(body):
        token = _TOKEN.match(body, place)
        if token is None:
            raise _refused(f"unexpected {body[place:].strip()[:20]!r}")
        place = token.end()
        if token.lastgroup not in (None, "comment"):
            found.append((str(token.lastgroup), token[str(token.lastgroup)]))
    return found


def _atom(kind: str, text: str) -> _Atom:
    if kind == "literal":
        try:
            return _Atom("literal", str(ast.literal_eval(text)))
        except (SyntaxError, ValueError) as error:
            raise _refused(f"bad literal {text}") from error
    return _Atom("rule" if kind == "name" else "pattern", text)


def _refused(reason: str) -> Refusal:
    return Refusal(f"Grammar error: {reason}")
