"""Where the tokens of a text are, from how vocabularies spell them."""

from __future__ import annotations

import json

import pytest

from adapters.base import Surface
from adapters.errors import MalformedReply
from adapters.openai.request import FieldPolicy, check, read
from adapters.tgi.tokenizer import (
    Tokenized,
    chat_question,
    chat_tokenize_reply,
    ids_question,
    placed,
    read_text,
    read_tokens,
    text_question,
    tokenize_reply,
)


@pytest.mark.parametrize(
    ("text", "spellings", "places"),
    [
        pytest.param("Hi there", ["Hi", "Ġthere"], [("Hi", 0, 2), (" there", 2, 8)], id="byte level"),
        pytest.param(
            "a\n\tb", ["a", "Ċ", "ĉ", "b"], [("a", 0, 1), ("\n", 1, 2), ("\t", 2, 3), ("b", 3, 4)], id="breaks"
        ),
        pytest.param("né", ["n", "Ã©"], [("n", 0, 1), ("é", 1, 2)], id="byte level, two bytes"),
        pytest.param("né", ["n", "Ã", "©"], [("n", 0, 1), ("é", 1, 2), ("é", 1, 2)], id="a character in two tokens"),
        pytest.param("é!", ["Ã", "©!"], [("é", 0, 1), ("é!", 0, 2)], id="its second half with another"),
        pytest.param(
            "a😀b", ["a", "ðŁ", "ĺĢ", "b"], [("a", 0, 1), ("😀", 1, 2), ("😀", 1, 2), ("b", 2, 3)], id="emoji"
        ),
        pytest.param("Hi there", ["▁Hi", "▁there"], [("Hi", 0, 2), (" there", 2, 8)], id="SentencePiece"),
        pytest.param(" Hi", ["▁", "▁Hi"], [(" ", 0, 1), ("Hi", 1, 3)], id="a space put in front"),
        pytest.param("né", ["▁n", "é"], [("n", 0, 1), ("é", 1, 2)], id="SentencePiece, a letter beyond ASCII"),
        pytest.param("né", ["▁n", "<0xC3>", "<0xA9>"], [("n", 0, 1), ("é", 1, 2), ("é", 1, 2)], id="byte tokens"),
        pytest.param("Hi", ["<s>", "▁Hi"], [("", 0, 0), ("Hi", 0, 2)], id="a token put in front"),
        pytest.param("<s>Hi", ["<s>", "Hi"], [("<s>", 0, 3), ("Hi", 3, 5)], id="a token of the text"),
        pytest.param("Hi", ["hi"], [("", 0, 0)], id="another spelling"),
        pytest.param("ÿ", ["Ã¿"], [("ÿ", 0, 1)], id="the last byte"),
        pytest.param("Ġ", ["Äł"], [("Ġ", 0, 1)], id="a letter that spells a space"),
        pytest.param("", [], [], id="nothing"),
        pytest.param("Hi", [""], [("", 0, 0)], id="an empty spelling"),
    ],
)
def test_tokens_are_placed_in_their_text(text: str, spellings: list[str], places: list[tuple[str, int, int]]) -> None:
    found = placed(text, Tokenized(list(range(len(spellings))), spellings))
    assert [(token.text, token.start, token.stop) for token in found] == places
    assert [token.id for token in found] == list(range(len(spellings)))


@pytest.mark.parametrize("spellings", [None, [], ["a"]])
def test_without_all_spellings_no_token_has_a_place(spellings: list[str] | None) -> None:
    found = json.loads(tokenize_reply("ab", Tokenized([7, 9], spellings)))
    assert found == [{"id": 7, "text": "", "start": 0, "stop": 0}, {"id": 9, "text": "", "start": 0, "stop": 0}]


def test_replies_have_tgis_fields_in_its_order() -> None:
    tokenized = Tokenized([5], ["Hi"])
    assert tokenize_reply("Hi", tokenized) == b'[{"id":5,"text":"Hi","start":0,"stop":2}]'
    assert chat_tokenize_reply("Hi", tokenized) == (
        b'{"tokenize_response":[{"id":5,"text":"Hi","start":0,"stop":2}],"templated_text":"Hi"}'
    )


def test_questions_are_vllms() -> None:
    assert text_question('a "b"') == b'{"prompt":"a \\"b\\"","add_special_tokens":true,"return_token_strs":true}'
    assert ids_question([1, 2]) == b'{"tokens":[1,2]}'
    body = b'{"model":"m","messages":[{"role":"user", "content":"x"}],"temperature":1,"tools":null,"max_tokens":3}'
    call = check(read(Surface.CHAT, body), FieldPolicy())
    assert chat_question(call) == b'{"messages":[{"role":"user", "content":"x"}],"return_token_strs":true}'


@pytest.mark.parametrize(
    "reply", [b"", b"[]", b'{"tokens":[1.5]}', b'{"tokens":"x"}', b'{"count":1}', b'{"tokens":[1],']
)
def test_what_holds_no_tokens_is_malformed(reply: bytes) -> None:
    with pytest.raises(MalformedReply, match="the reply holds no tokens"):
        read_tokens(reply)


@pytest.mark.parametrize("reply", [b"", b"[]", b'{"prompt":1}', b'{"text":"x"}', b'{"prompt":"\xff"}'])
def test_what_holds_no_text_is_malformed(reply: bytes) -> None:
    with pytest.raises(MalformedReply, match="the reply holds no text"):
        read_text(reply)


def test_vllms_replies_are_read() -> None:
    assert read_tokens(b'{"count":2,"max_model_len":64,"tokens":[1,2]}') == Tokenized([1, 2])
    assert read_tokens(b'{"count":1,"max_model_len":64,"tokens":[1],"token_strs":["a"]}') == Tokenized([1], ["a"])
    assert read_text(b'{"prompt":"a"}') == "a"
