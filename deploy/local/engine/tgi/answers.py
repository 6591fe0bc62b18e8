"""An answer of the model inside TGI, token by token: where it ends, and what can be read of it.

Two habits of its model server, kept: a stop sequence only counts where a token ends with it, and text whose last
character is not whole is no text at all. https://github.com/huggingface/text-generation-inference:
server/text_generation_server/utils/tokens.py, server/text_generation_server/models/model.py (decode_token)
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from deploy.local.engine import logprobs, tokens
from deploy.local.engine.generation import Part, ids_of

Json = dict[str, Any]

LENGTH, END, STOP = "length", "eos_token", "stop_sequence"
"""Why an answer ended, in the words of /generate."""

_REMEMBERED_TEXT = 300
_KEPT_TEXT = 200


class Said(NamedTuple):
    """One token of an answer."""

    id: int
    text: str
    """What became readable with it; the text of markup too."""
    logprob: float
    special: bool

    def json(self) -> Json:
        """Return the token as /generate has it."""
        return {"id": self.id, "text": self.text, "logprob": self.logprob, "special": self.special}


@dataclass(frozen=True, slots=True)
class Answer:
    """One whole answer."""

    said: tuple[Said, ...]
    finish: str
    text: str
    seed: int | None
    """What it was sampled with, or None if it was not."""
    prompt: tuple[int, ...]
    fails_after: int | None = None
    """After how many tokens the model server dies, or None if it does not."""

    def mean_logprob(self) -> float:
        """Return what the answers of best_of are compared by."""
        return sum(token.logprob for token in self.said) / len(self.said)


def speak(
    parts: Iterable[Part], *, most_tokens: int, stops: Sequence[str], seed: int | None, prompt: Sequence[int]
) -> Answer:
    """Return the answer that says `parts` as far as it gets."""
    said: list[Said] = []
    decoder = tokens.new_decoder()
    patterns = [re.compile(f"{re.escape(stop)}$") for stop in stops]
    output, finish = "", END
    for token in _tokens(parts):
        text = decoder.decode(tokens.raw_bytes(token))
        special = tokens.TEXT[token] == ""
        said.append(Said(token, text, f32(logprobs.chance(token, len(said))), special))
        if len(said) >= most_tokens:
            finish = LENGTH
            break
        if token == tokens.END_OF_TURN:
            break
        output += text
        if len(output) > _REMEMBERED_TEXT:
            output = output[-_KEPT_TEXT:]
        if any(pattern.search(output) for pattern in patterns):
            finish = STOP
            break
    whole = "" if decoder.getstate()[0] else "".join([token.text for token in said if not token.special])
    return Answer(tuple(said), finish, whole, seed, tuple(prompt))


def _tokens(parts: Iterable[Part]) -> Iterable[int]:
    for part in parts:
        yield from ids_of(part.text, part.special)
    yield tokens.END_OF_TURN


def top_tokens(answer: Answer, place: int, count: int) -> list[Json]:
    """Return the likeliest tokens where the one at `place` was said, which is the first of them."""
    said = answer.said[place]
    listed = [(said.id, said.logprob)]
    listed += [(other, f32(value)) for other, value in logprobs.alternatives(said.id, place, count - 1)]
    return [
        {"id": token, "text": tokens.spell(token), "logprob": value, "special": tokens.TEXT[token] == ""}
        for token, value in listed
    ]


def prefill(prompt: Sequence[int]) -> list[Json]:
    """Return a prompt's tokens with what each was worth; the first follows nothing."""
    listed = logprobs.of_prompt(list(prompt), 0)
    values = [None if entry is None else f32(next(iter(entry.values()))["logprob"]) for entry in listed]
    return [
        {"id": token, "text": tokens.spell(token), "logprob": value}
        for token, value in zip(prompt, values, strict=True)
    ]


@lru_cache(maxsize=4096)
def f32(number: float) -> float:
    """Return a number as 32 bits keep it, with the fewest digits that still say which."""
    kept = struct.pack("<f", number)
    for digits in range(1, 9):
        shortest = float(f"{number:.{digits}g}")
        if struct.pack("<f", shortest) == kept:
            return shortest
    return float(f"{struct.unpack('<f', kept)[0]:.9g}")
