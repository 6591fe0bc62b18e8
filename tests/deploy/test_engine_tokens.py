"""The tokenizer: what goes in comes out, ids stay what they are, and characters fall apart into bytes."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.engine import build, tokens
from deploy.local.engine.generation import Part, Script, speak
from deploy.local.engine.sampling import Sampling
from tests.deploy.test_engine_calls import answer, chunks

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
MARKED = st.lists(st.one_of(TEXT, st.sampled_from(["<|im_start|>", "<|im_end|>", "<think>", "</tool_call>", "<|im"])))


@given(TEXT)
def test_decoding_undoes_encoding(text: str) -> None:
    assert tokens.decode(tokens.encode(text), invisible=True) == text


@given(MARKED)
def test_markup_is_undone_as_well(parts: list[str]) -> None:
    text = "".join(parts)
    assert tokens.decode(tokens.encode(text, markup=True), invisible=True) == text


@given(TEXT)
def test_every_id_is_in_the_vocabulary(text: str) -> None:
    assert all(0 <= token < tokens.VOCABULARY_SIZE for token in tokens.encode(text))


@given(st.lists(st.integers(0, tokens.VOCABULARY_SIZE - 1)))
def test_any_ids_have_a_text(ids: list[int]) -> None:
    assert isinstance(tokens.decode(ids), str)


@given(TEXT, st.integers(1, 12), st.lists(st.text("ab \n😀", min_size=1, max_size=3), max_size=2))
def test_a_stream_says_what_the_whole_says(text: str, limit: int, stops: list[str]) -> None:
    sampling = Sampling(temperature=0, seed=0, max_tokens=limit, stops=tuple(stops))
    steps = speak(Script((Part(text),)), sampling)
    said = "".join(step.text for step in steps)
    assert text.startswith(said)
    assert not any(stop in said for stop in stops)
    assert len(steps) <= limit
    assert [step.finish is None for step in steps] == [True] * (len(steps) - 1) + [False]


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        pytest.param("Hello! How can I", ["Hello", "!", " How", " can", " I"], id="words with their space"),
        pytest.param("1, 2, 30", ["1", ",", " ", "2", ",", " ", "3", "0"], id="digits one by one"),
        pytest.param('{"city": "Paris"}', ['{"', "city", '":', ' "', "Paris", '"}'], id="JSON"),
        pytest.param("a  b\n\nc", ["a", " ", " b", "\n\n", "c"], id="spaces and line breaks"),
        pytest.param("Xylophone", ["X", "yl", "op", "ho", "ne"], id="a word that is none of its words"),
        pytest.param("é😀", ["\ufffd"] * 6, id="characters as bytes"),
        pytest.param("it’s —", ["it", "’", "s", " —"], id="characters that are pieces"),
        pytest.param("<|im_end|>", ["<", "|", "im", "_", "end", "|", ">"], id="markup as plain text"),
    ],
)
def test_pieces(text: str, pieces: list[str]) -> None:
    assert [tokens.spell(token) for token in tokens.encode(text)] == pieces


def test_ids_are_stable() -> None:
    text = "Hello! How can I help you today? é <|im_end|>"
    assert tokens.encode(text, markup=True) == [
        2267, 33, 520, 478, 2567, 874, 374, 2278, 63, 32, 195, 169, 32, 257,
    ]  # fmt: skip
    assert tokens.VOCABULARY_SIZE == 3236


def test_the_vocabulary_has_no_piece_twice() -> None:
    assert len(set(tokens.PIECES)) == len(tokens.PIECES)
    spelled = [tokens.raw_bytes(token) for token in range(tokens.VOCABULARY_SIZE) if tokens.raw_bytes(token)]
    assert len(set(spelled)) == len(spelled)


@pytest.mark.anyio
async def test_a_character_comes_whole_or_not_at_all() -> None:
    body = {"messages": [{"role": "user", "content": "repeat: 😀日"}]}
    engine = build("vllm")
    contents = [record["choices"][0]["delta"].get("content") for record in await chunks(engine, body)]
    assert contents == ["", "😀", "日", None]
    for limit, text in [(1, ""), (3, ""), (4, "😀"), (6, "😀"), (7, "😀日")]:
        reply = await answer(engine, {**body, "max_tokens": limit})
        choice = reply["choices"][0]
        assert (choice["message"]["content"], choice["finish_reason"]) == (text, "length")
        assert reply["usage"]["completion_tokens"] == limit


@pytest.mark.anyio
async def test_bytes_that_are_no_text_read_as_replacement_characters() -> None:
    reply = await answer(build("vllm"), {"prompt": [72, 195, 105], "echo": True, "max_tokens": 0})
    assert reply["choices"][0]["text"] == "H\ufffdi"
    assert json.dumps(reply["choices"][0]["text"]) == '"H\\ufffdi"'
