"""The tokens of an answer, from what a completion or its chunks say about them.

vLLM gives the text of an answer without its special tokens, and each token's own text beside it. TGI gives each token
the text by which it made the answer grow: none while a character is incomplete, and for a special token, which makes
it grow by nothing, its name. Laying the tokens' own texts along the answer's tells which is which.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf
from typing import NamedTuple

import msgspec

UNKNOWN_ID = 2**31 - 1
"""The id of a token of which only the text is known: no vocabulary has so many tokens."""
_ID = "token_id:"
_INCOMPLETE = "\ufffd"
"""What a decoder makes of bytes that are no whole character."""
_GAP_CHARS = 8
"""Characters that tokens of incomplete ones may add up to before the next whole one."""


class Logprobs(msgspec.Struct):
    """`logprobs` of a choice: one entry for each token."""

    tokens: list[str] | None = None
    token_logprobs: list[float | None] | None = None
    top_logprobs: list[dict[str, float | None] | None] | None = None


class Token(msgspec.Struct):
    """A token as TGI writes it."""

    id: int
    text: str
    logprob: float | None
    special: bool


class PrefillToken(msgspec.Struct):
    """A token of the prompt as TGI writes it."""

    id: int
    text: str
    logprob: float | None


class Step(NamedTuple):
    """One token of an answer, and the likeliest ones in its place."""

    token: Token
    top: list[Token]


class TokenReader:
    """Takes one answer piece by piece: its text, and the tokens it is made of."""

    __slots__ = ("_carried", "_ids", "_texts", "_texts_of", "_top", "count", "finish")

    def __init__(self, top: int) -> None:
        """`top` is the number of alternatives to tell of each token."""
        self.count = 0
        """Tokens so far."""
        self.finish: str | None = None
        """TGI's finish reason, once known."""
        self._top = top
        self._texts: list[str] = []
        self._carried = ""
        """Text that came without a token."""
        self._ids: dict[str, int] = {}
        """A token's own text → its id."""
        self._texts_of: dict[int, str] = {}
        """A token's id → its part of the answer's text."""

    @property
    def text(self) -> str:
        return "".join(self._texts)

    def take(self, text: str, ids: Sequence[int] | None, logprobs: Logprobs | None) -> list[Step]:
        """Take the next piece of text, and return the tokens it is made of.

        Args:
            ids: of the tokens; None if they are not told, or stand in place of the tokens' own texts.
            logprobs: of the tokens; None where nobody asked for them.
        """
        self._texts.append(text)
        text, self._carried = self._carried + text, ""
        names = logprobs.tokens if logprobs is not None and logprobs.tokens is not None else []
        if ids is None:
            ids = [_id_of(name) for name in names]
        as_ids = all(name.startswith(_ID) for name in names)
        if not ids:
            self._carried = text
            return []
        self.count += len(ids)
        if as_ids or len(names) != len(ids):
            # The last token completes the text, but for one that ends the answer without adding to it.
            texts = [("", False)] * len(ids)
            texts[-2 if self.finish == "eos_token" and len(ids) > 1 else -1] = (text, False)
        else:
            texts = align(text, names)
        if self.finish == "eos_token" and not texts[-1][0]:
            texts[-1] = ("", True)
        self.learn(ids, names)
        self._texts_of.update(zip(ids, (own for own, _ in texts), strict=True))
        logs = (logprobs.token_logprobs if logprobs is not None else None) or []
        others = (logprobs.top_logprobs if logprobs is not None else None) or []
        steps: list[Step] = []
        for place, (token_id, (own, special)) in enumerate(zip(ids, texts, strict=True)):
            name = names[place] if place < len(names) else ""
            token = Token(token_id, own, logs[place] if place < len(logs) else None, special)
            steps.append(Step(token, self._alternatives(others[place] if place < len(others) else None, token, name)))
        return steps

    def learn(self, ids: Sequence[int], names: Sequence[str]) -> None:
        """Remember which tokens there are, to know them again among the alternatives to others."""
        for name, token_id in zip(names, ids, strict=False):
            if name and _INCOMPLETE not in name and self._ids.setdefault(name, token_id) != token_id:
                self._ids[name] = UNKNOWN_ID  # two tokens are spelled alike

    def end(self) -> Step:
        """Return a token for an end that came without one; it has neither id nor probability."""
        text, self._carried = self._carried, ""
        return Step(Token(UNKNOWN_ID, text, None, not text), [])

    def _alternatives(self, entries: dict[str, float | None] | None, said: Token, name: str) -> list[Token]:
        """Return the likeliest tokens at a place, the likeliest first.

        The container adds the token it took where that is none of them.
        """
        if not self._top or not entries:
            return []
        likeliest = sorted(entries.items(), key=lambda entry: -inf if entry[1] is None else entry[1], reverse=True)
        found: list[Token] = []
        for other, logprob in likeliest[: self._top]:
            if other == name:
                found.append(said)
            elif other.startswith(_ID):
                other_id = _id_of(other)
                found.append(Token(other_id, self._texts_of.get(other_id, ""), logprob, False))
            else:
                found.append(Token(self._ids.get(other, UNKNOWN_ID), other, logprob, False))
        return found


def align(text: str, names: list[str]) -> list[tuple[str, bool]]:
    """Lay tokens along the text they made: for each its part of it, and whether it is a special token.

    Args:
        names: the tokens' own texts, special ones by name, those of incomplete characters empty or broken.
    """
    if len(names) == 1:
        name = names[0]
        special = not text and name != "" and _INCOMPLETE not in name
        return [(name if special else text, special)]
    found: list[tuple[str, bool]] = []
    at = 0
    pending: int | None = None
    """The last token so far whose bytes may have been no whole character: it has what the next one does not begin."""
    for name in names:
        start, spelled = _find(text, name, at, pending is not None)
        if start >= 0:
            if pending is not None:
                found[pending] = (text[at:start], False)
                pending = None
            found.append((spelled, False))
            at = start + len(spelled)
        elif not name or _INCOMPLETE in name:
            pending = len(found)
            found.append(("", False))
        elif at < len(text) and name.startswith(text[at:]):  # a stop string ends inside it
            found.append((text[at:], False))
            at = len(text)
        else:
            found.append((name, True))
    if at < len(text):
        last = pending if pending is not None else len(found) - 1
        kept = "" if found[last][1] else found[last][0]
        found[last] = (kept + text[at:], False)
    return found


def _find(text: str, name: str, at: int, gap: bool) -> tuple[int, str]:
    """Find a token's text at `at`, with `gap` also a little later: return where, -1 if it is not there, and as what."""
    if name:
        for spelled in (name, " " + name):  # some tokenizers drop the space when they decode a token by itself
            if text.startswith(spelled, at):
                return at, spelled
        if gap:
            return text.find(name, at, at + _GAP_CHARS + len(name)), name
    return -1, name


def finish_reason(reason: str, stop_reason: str | int | None) -> str:
    """Return TGI's word for why an answer ended.

    A number in `stop_reason` is the token that ended it: no call asks for others than the model's own.
    """
    if reason == "length":
        return "length"
    return "stop_sequence" if isinstance(stop_reason, str) else "eos_token"


def _id_of(name: str) -> int:
    digits = name[len(_ID) :] if name.startswith(_ID) else ""
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 11 else UNKNOWN_ID
