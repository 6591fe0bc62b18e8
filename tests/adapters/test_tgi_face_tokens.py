"""Which part of an answer's text each of its tokens is, and which tokens are special."""

from __future__ import annotations

import pytest

from adapters.tgi.tokens import UNKNOWN_ID, Logprobs, Token, TokenReader, align, finish_reason

PLAIN, SPECIAL = False, True


@pytest.mark.parametrize(
    ("text", "names", "found"),
    [
        pytest.param("a b", ["a", " b"], [("a", PLAIN), (" b", PLAIN)], id="as they are"),
        pytest.param("hi", ["hi", "</s>"], [("hi", PLAIN), ("</s>", SPECIAL)], id="the end is no text"),
        pytest.param(
            "ab", ["a", "<x>", "b"], [("a", PLAIN), ("<x>", SPECIAL), ("b", PLAIN)], id="nor is what is skipped"
        ),
        pytest.param("", ["</s>"], [("</s>", SPECIAL)], id="nothing but the end"),
        pytest.param("a b", ["a", "b"], [("a", PLAIN), (" b", PLAIN)], id="a space that a token alone does not have"),
        pytest.param("😀!", ["\ufffd", "\ufffd", "!"], [("", PLAIN), ("😀", PLAIN), ("!", PLAIN)], id="bytes of one"),
        pytest.param("😀!", ["", "😀", "!"], [("", PLAIN), ("😀", PLAIN), ("!", PLAIN)], id="bytes put together"),
        pytest.param(
            " 😀!", [" \ufffd", "\ufffd", "!"], [("", PLAIN), (" 😀", PLAIN), ("!", PLAIN)], id="with a space"
        ),
        pytest.param("a😀", ["a", "\ufffd", "\ufffd"], [("a", PLAIN), ("", PLAIN), ("😀", PLAIN)], id="at the end"),
        pytest.param(
            "😀", ["\ufffd", "\ufffd", "</s>"], [("", PLAIN), ("😀", PLAIN), ("</s>", SPECIAL)], id="before the end"
        ),
        pytest.param("a", ["a", "\ufffd"], [("a", PLAIN), ("", PLAIN)], id="cut inside a character"),
        pytest.param(
            "i\ufffd!", ["i", "\ufffd", "!"], [("i", PLAIN), ("\ufffd", PLAIN), ("!", PLAIN)], id="no character"
        ),
        pytest.param("a b.", ["a", " b.\n"], [("a", PLAIN), (" b.", PLAIN)], id="stopped inside a token"),
        pytest.param("a", [" a "], [("a", PLAIN)], id="a token alone has all of the text"),
        pytest.param("", [""], [("", PLAIN)], id="no name, no text"),
        pytest.param("", ["\ufffd"], [("", PLAIN)], id="a byte of a character"),
        pytest.param("ab c", ["a", "c"], [("a", PLAIN), ("b c", PLAIN)], id="text that no token accounts for"),
        pytest.param("xyz", ["", "a"], [("xyz", PLAIN), ("a", SPECIAL)], id="text of what has no name"),
    ],
)
def test_align(text: str, names: list[str], found: list[tuple[str, bool]]) -> None:
    assert align(text, names) == found
    assert "".join(part for part, special in found if not special) == text


@pytest.mark.parametrize(
    ("reason", "stop_reason", "told"),
    [
        ("length", None, "length"),
        ("stop", None, "eos_token"),
        ("stop", 151645, "eos_token"),
        ("stop", "\n\n", "stop_sequence"),
        ("stop", "", "stop_sequence"),
    ],
)
def test_finish_reason(reason: str, stop_reason: str | int | None, told: str) -> None:
    assert finish_reason(reason, stop_reason) == told


def logprobs(names: list[str], top: list[dict[str, float | None] | None] | None = None) -> Logprobs:
    return Logprobs(names, [-0.25] * len(names), top)


def test_alternatives_are_the_likeliest_and_have_ids_where_those_are_known() -> None:
    reader = TokenReader(2)
    steps = reader.take(
        "a b", [1, 2], logprobs(["a", " b"], [{"a": -0.25, "z": -0.5}, {" b": -3.0, "a": -1.0, "y": -0.1}])
    )
    assert [step.top for step in steps] == [
        [Token(1, "a", -0.25, PLAIN), Token(UNKNOWN_ID, "z", -0.5, PLAIN)],
        [Token(UNKNOWN_ID, "y", -0.1, PLAIN), Token(1, "a", -1.0, PLAIN)],  # without the one that was taken
    ]


def test_a_spelling_that_two_tokens_have_names_neither() -> None:
    reader = TokenReader(1)
    reader.take("aa", [1, 2], logprobs(["a", "a"]))
    (step,) = reader.take("b", [3], logprobs(["b"], [{"b": -2.0, "a": -1.0}]))
    assert step.top == [Token(UNKNOWN_ID, "a", -1.0, PLAIN)]


def test_ids_in_place_of_texts() -> None:
    reader = TokenReader(2)
    (first,) = reader.take("a", None, logprobs(["token_id:7"], [{"token_id:7": -0.25, "token_id:9": -1.0}]))
    assert first == (Token(7, "a", -0.25, PLAIN), [Token(7, "a", -0.25, PLAIN), Token(9, "", -1.0, PLAIN)])
    reader.finish = "eos_token"
    steps = reader.take(" b", None, logprobs(["token_id:8", "token_id:2"], [{"token_id:7": -1.0}, None]))
    assert [step.token for step in steps] == [Token(8, " b", -0.25, PLAIN), Token(2, "", -0.25, SPECIAL)]
    assert steps[0].top == [Token(7, "a", -1.0, PLAIN)]
    assert (reader.text, reader.count) == ("a b", 3)


@pytest.mark.parametrize("name", ["token_id:", "token_id:-1", "token_id:1e3", "token_id:99999999999", "token_id:²"])
def test_an_id_that_is_none(name: str) -> None:
    (step,) = TokenReader(0).take("a", None, logprobs([name]))
    assert step.token == Token(UNKNOWN_ID, "a", -0.25, PLAIN)


def test_text_that_comes_without_a_token_goes_to_the_next() -> None:
    reader = TokenReader(0)
    assert reader.take("a", [], None) == []
    (step,) = reader.take("b", [5], logprobs(["b"]))
    assert step.token == Token(5, "ab", -0.25, PLAIN)
    assert reader.take("c", [], None) == []
    assert reader.end() == (Token(UNKNOWN_ID, "c", None, PLAIN), [])
    assert reader.end() == (Token(UNKNOWN_ID, "", None, SPECIAL), [])
    assert reader.text == "abc"
