"""TGI's /tokenize and /chat_tokenize: the tokens of a text and where in it they are.

https://github.com/huggingface/text-generation-inference: router/src/server.rs (encoding_to_tokens)
"""

from __future__ import annotations

from typing import Any

from deploy.local.engine import jsontext, tokens

Json = dict[str, Any]


def tokenized(text: str) -> list[Json]:
    """Return the tokens of a text, each with the characters it covers; parts of a character cover all of it."""
    listed: list[Json] = []
    place = 0
    held = 0
    decoder = tokens.new_decoder()
    for token in tokens.encode(text, markup=True):
        read = decoder.decode(tokens.raw_bytes(token))
        held += 1
        start, place = place, place + len(read)
        listed.append({"id": token, "text": read, "start": start, "stop": place})
        if not decoder.getstate()[0]:
            for entry in listed[len(listed) - held :]:
                entry |= {"text": read, "start": start, "stop": place}
            held = 0
    return listed


def reply(text: str) -> bytes:
    """Return the body of /tokenize."""
    return jsontext.value(tokenized(text))


def chat_reply(text: str) -> bytes:
    """Return the body of /chat_tokenize."""
    return jsontext.value({"tokenize_response": tokenized(text), "templated_text": text})
