"""TGI's `/tokenize` and `/chat_tokenize`, answered by vLLM's `/tokenize` and `/detokenize`.

TGI says where in the text each token is, vLLM only how its vocabulary spells the token. So the spelling is looked for
in the text, token by token; one that is not there, such as a `<s>` that the tokenizer has put in front, has no place:
it gets the text "" from 0 to 0, as TGI gives it.

https://github.com/huggingface/text-generation-inference: router/src/server.rs (encoding_to_tokens)
https://github.com/vllm-project/vllm: vllm/entrypoints/serve/tokenize/protocol.py
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import msgspec

from adapters.base import Call
from adapters.errors import MalformedReply

TOKENIZE_ROUTE, DETOKENIZE_ROUTE = "/tokenize", "/detokenize"

_CHAT_FIELDS = ("messages", "tools", "chat_template_kwargs", "add_generation_prompt", "continue_final_message")
"""What a chat's prompt depends on, as far as a caller may decide it."""
_CONTINUATION = bytes(range(0x80, 0xC0))
"""UTF-8: every byte of a character but its first."""
_BYTE_TOKEN = re.compile(r"<0x([0-9A-F]{2})>")
_SPACE = "\u2581"
"""What SentencePiece writes for a space."""

_encode = msgspec.json.Encoder().encode


class SimpleToken(msgspec.Struct, frozen=True):
    """A token as TGI lists it: characters `start` to `stop` of the text are `text`."""

    id: int
    text: str
    start: int
    stop: int


class Tokenized(msgspec.Struct, frozen=True):
    """vLLM's answer."""

    tokens: list[int]
    token_strs: list[str] | None = None
    """How the vocabulary spells the tokens; before 0.9.1 vLLM does not say."""


class _Detokenized(msgspec.Struct):
    prompt: str


_tokenized = msgspec.json.Decoder(Tokenized).decode
_detokenized = msgspec.json.Decoder(_Detokenized).decode


def text_question(inputs: str) -> bytes:
    """Return vLLM's request for the tokens of a text."""
    return _encode({"prompt": inputs, "add_special_tokens": True, "return_token_strs": True})


def chat_question(call: Call) -> bytes:
    """Return vLLM's request for the tokens of a chat's prompt; the fields are the caller's, byte for byte."""
    fields = {name: call.raw[name] for name in _CHAT_FIELDS if name in call.raw}
    return _encode({**fields, "return_token_strs": True})


def ids_question(ids: list[int]) -> bytes:
    """Return vLLM's request for the text of tokens."""
    return _encode({"tokens": ids})


def read_tokens(reply: bytes) -> Tokenized:
    """Return the answer to a request for tokens.

    Raises:
        MalformedReply: it is none.
    """
    try:
        return _tokenized(reply)
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MalformedReply("the reply holds no tokens") from None


def read_text(reply: bytes) -> str:
    """Return the answer to a request for the text of tokens.

    Raises:
        MalformedReply: it is none.
    """
    try:
        return _detokenized(reply).prompt
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise MalformedReply("the reply holds no text") from None


def tokenize_reply(text: str, tokenized: Tokenized) -> bytes:
    """Return TGI's answer of `/tokenize`."""
    return _encode(placed(text, tokenized))


def chat_tokenize_reply(text: str, tokenized: Tokenized) -> bytes:
    """Return TGI's answer of `/chat_tokenize`; `text` is the chat as the template writes it."""
    return _encode({"tokenize_response": placed(text, tokenized), "templated_text": text})


def placed(text: str, tokenized: Tokenized) -> list[SimpleToken]:
    """Return the tokens with their places in `text`. Of a character in several tokens each has the whole."""
    ids, spellings = tokenized.tokens, tokenized.token_strs
    if spellings is None or len(spellings) != len(ids):
        return [SimpleToken(token, "", 0, 0) for token in ids]
    data = text.encode(errors="replace")
    found = []
    at = characters = 0  # bytes of the text that have been found, and the characters that have begun in them
    for token, spelling in zip(ids, spellings, strict=True):
        piece = next((piece for piece in _pieces(spelling) if data.startswith(piece, at)), b"")
        if not piece:
            found.append(SimpleToken(token, "", 0, 0))
            continue
        start = characters - (piece[0] in _CONTINUATION)
        at += len(piece)
        characters += len(piece.translate(None, _CONTINUATION))
        found.append(SimpleToken(token, text[start:characters], start, characters))
    return found


def _pieces(spelling: str) -> Iterator[bytes]:
    """Yield the bytes that a spelling may stand for, in the ways that vocabularies spell."""
    raw = bytes(_BYTE_OF[character] for character in spelling if character in _BYTE_OF)
    if len(raw) == len(spelling):
        yield raw
    byte = _BYTE_TOKEN.fullmatch(spelling)
    if byte is not None:
        yield bytes.fromhex(byte[1])
    spaced = spelling.replace(_SPACE, " ")
    yield spaced.encode(errors="replace")
    if spaced.startswith(" "):  # SentencePiece puts one space more in front of a text
        yield spaced[1:].encode(errors="replace")


def _printable(codes: Iterable[int]) -> dict[str, int]:
    """Return the characters with which byte-level vocabularies spell bytes: those that print, and 256 on for the rest.

    https://github.com/openai/gpt-2: src/encoder.py (bytes_to_unicode)
    """
    table = {chr(code): code for code in codes}
    rest = (byte for byte in range(256) if byte not in table.values())
    return table | {chr(256 + place): byte for place, byte in enumerate(rest)}


_BYTE_OF = _printable((*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)))
