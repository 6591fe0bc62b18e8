"""The engine's tokenizer: bytes, markup and the pieces of a fixed vocabulary. `decode(encode(text)) == text`.

A word starts with the space before it and falls apart into known pieces; a character that is no piece is its UTF-8
bytes, one token each, so that a stream can end a token inside an emoji as real ones do. Ids never change.
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable

from deploy.local.engine import vocabulary

Ids = tuple[int, ...]


def _pieces() -> list[str]:
    """Return every piece of text that is one token, in the order of their ids."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    seen = dict.fromkeys(vocabulary.PUNCTUATION)
    for word in vocabulary.WORDS:
        seen |= dict.fromkeys((word, f" {word}", word.capitalize(), f" {word.capitalize()}"))
    seen |= dict.fromkeys(f" {letter}" for letter in letters + letters.upper())
    seen |= dict.fromkeys(first + second for first in letters for second in letters)
    return [piece for piece in seen if len(piece.encode()) > 1]


PIECES = _pieces()
FIRST_SPECIAL = 256
FIRST_PIECE = FIRST_SPECIAL + 16
"""A few ids are kept free for markup to come."""
VOCABULARY_SIZE = FIRST_PIECE + len(PIECES)

_SPECIAL_ID = {text: FIRST_SPECIAL + place for place, text in enumerate(vocabulary.SPECIALS)}
_PIECE_ID = {text: FIRST_PIECE + place for place, text in enumerate(PIECES)}
_PIECE_ID |= {chr(byte): byte for byte in range(128)}
_LONGEST = max(map(len, _PIECE_ID))

IM_START, END_OF_TURN = _SPECIAL_ID["<|im_start|>"], _SPECIAL_ID["<|im_end|>"]
IMAGE = _SPECIAL_ID["<|image_pad|>"]

_BYTES: list[bytes] = [
    *(bytes([byte]) for byte in range(256)),
    *(text.encode() for text in vocabulary.SPECIALS),
    *(b"" for _ in range(FIRST_PIECE - FIRST_SPECIAL - len(vocabulary.SPECIALS))),
    *(text.encode() for text in PIECES),
]
_INVISIBLE_IDS = frozenset(_SPECIAL_ID[text] for text in vocabulary.INVISIBLE)

TEXT: list[str | None] = [
    "" if token in _INVISIBLE_IDS else raw.decode() if token < 128 or token >= FIRST_SPECIAL else None
    for token, raw in enumerate(_BYTES)
]
"""What each id reads as on its own: "" if it is invisible, None if it is only part of a character."""

_WORD = re.compile(r" ?[A-Za-z]+|[0-9]| ?[^A-Za-z0-9\s]+|\r\n|\n+|\s")
_SPECIAL = re.compile("|".join(map(re.escape, vocabulary.SPECIALS)))

_CACHE_LIMIT = 20_000
_cache: dict[str, Ids] = {}


def encode(text: str, *, markup: bool = False) -> list[int]:
    """Return the ids of `text`; with `markup`, `<|im_end|>` and its like are one token each and not their letters.

    A lone surrogate, which JSON can carry and UTF-8 cannot, becomes a question mark.
    """
    ids: list[int] = []
    if not markup:
        _encode_plain(text, ids)
        return ids
    end = 0
    for found in _SPECIAL.finditer(text):
        _encode_plain(text[end : found.start()], ids)
        ids.append(_SPECIAL_ID[found[0]])
        end = found.end()
    _encode_plain(text[end:], ids)
    return ids


def decode(ids: Iterable[int], *, invisible: bool = False) -> str:
    """Return the text of `ids`: bytes that are no UTF-8 become U+FFFD; with `invisible`, all markup is kept."""
    raw = b"".join(_BYTES[token] for token in ids if invisible or token not in _INVISIBLE_IDS)
    return raw.decode(errors="replace")


def spell(token: int) -> str:
    """Return what a list of log-probabilities calls a token: U+FFFD for part of a character."""
    return _BYTES[token].decode(errors="replace")


def raw_bytes(token: int) -> bytes:
    """Return the bytes a token stands for, markup included."""
    return _BYTES[token]


def new_decoder() -> codecs.IncrementalDecoder:
    """Return a decoder that gives a character once all its bytes are there."""
    return codecs.getincrementaldecoder("utf-8")(errors="replace")


def _encode_plain(text: str, ids: list[int]) -> None:
    for word in _WORD.findall(text):
        known = _cache.get(word)
        if known is None:
            known = _split(word)
            if len(_cache) < _CACHE_LIMIT and len(word) <= 32:
                _cache[word] = known
        ids += known


def _split(word: str) -> Ids:
    """Take the longest piece at each place, and the bytes of a character that begins none."""
    ids: list[int] = []
    place = 0
    while place < len(word):
        for length in range(min(_LONGEST, len(word) - place), 0, -1):
            token = _PIECE_ID.get(word[place : place + length])
            if token is not None:
                ids.append(token)
                place += length
                break
        else:
            ids += word[place].encode(errors="replace")
            place += 1
    return tuple(ids)
