"""Texts made for regular expressions and for grammars."""

from __future__ import annotations

import re

import pytest

from deploy.local.engine import grammars, patterns
from deploy.local.engine.dice import Dice, FirstChoice
from deploy.local.engine.refusal import Refusal


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        "abc",
        "a|b|",
        r"[A-Z]\w{2,5}\s\d+",
        r"(\d{1,3}\.){3}\d{1,3}",
        r"[^aeiou\d]{4}",
        r"(?:yes|no)(, (?:yes|no))*",
        r"(?P<year>20\d\d)-(?P<month>0[1-9]|1[0-2])",
        r"^\S+\.\W$",
        r".*?x{2,}",
        r"\x41é日\u00e9\t",
        r"[\]\-\\^]+",
        "[日本語]{2}",
    ],
)
def test_a_text_matches_its_pattern(pattern: str) -> None:
    for dice in (FirstChoice(), *map(Dice, range(20))):
        assert re.fullmatch(pattern, patterns.matching(pattern, dice))


def test_a_text_of_a_pattern_keeps_to_a_length() -> None:
    for seed in range(10):
        text = patterns.matching("^[a-z ]*$", Dice(seed), shortest=40, longest=60)
        assert 40 <= len(text) <= 60
    with pytest.raises(Refusal, match=r'no text found that matches "\^a\{3\}\$"'):
        patterns.matching("^a{3}$", FirstChoice(), shortest=5)


@pytest.mark.parametrize(
    ("grammar", "matches"),
    [
        pytest.param('root ::= "a" | "b"', "a|b", id="alternatives"),
        pytest.param('root ::= digit+ ("." digit+)?\ndigit ::= [0-9]', r"\d+(\.\d+)?", id="GBNF"),
        pytest.param('start: WORD " " NUM\nWORD: /[a-z]+/\nNUM: /[0-9]{2}/', r"[a-z]+ \d{2}", id="Lark"),
        pytest.param('root ::= "(" root ")" | "x"', r"\(*x\)*", id="recursive"),
        pytest.param('# a remark\nroot ::= "a"\n  | "b" // another\n', "a|b", id="over several lines, with remarks"),
        pytest.param('?start: sum\nsum: "1" ("+" "1")*', r"1(\+1)*", id="Lark's marks"),
        pytest.param(r'root ::= "\"\n\\"', '"\n\\\\', id="escapes"),
        pytest.param("root ::= 'single' [ ] \"double\"", "single double", id="quotes"),
        pytest.param('root ::= ("a" | ("b" "c"))*', "(a|bc)*", id="groups"),
    ],
)
def test_a_text_of_a_grammar(grammar: str, matches: str) -> None:
    for dice in (FirstChoice(), *map(Dice, range(20))):
        assert re.fullmatch(matches, grammars.write(grammar, dice))


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("", "no start rule: name the first rule root or start"),
        ('foo ::= "a"', "no start rule: name the first rule root or start"),
        ("root ::= nothing", "unknown rule: nothing"),
        ("%import common.WORD\nstart: WORD", "not supported: %import common.WORD"),
        ('root ::= root "a"', "the grammar contains itself without end"),
        ('root ::= ("a"', "unclosed group"),
        ('root ::= "a")', "unexpected ')'"),
        ("root ::= *", "nothing to repeat before '*'"),
        ('root ::= "a', "unexpected '\"a'"),
        ('root ::= "a"{3}', "unexpected '{3}'"),
    ],
)
def test_a_grammar_that_is_none(grammar: str, reason: str) -> None:
    with pytest.raises(Refusal) as refused:
        grammars.write(grammar, FirstChoice())
    assert refused.value.message == f"Grammar error: {reason}"
