"""Log-probabilities that look right: the token said is the likeliest, the prompt's were not always expected.

They are a function of the token and its place, so that they are the same in every run. They have six decimals, which
is no more than 32 bits keep: containers write what they compute with 32 bits in different ways.
"""

from __future__ import annotations

from typing import Any

from deploy.local.engine import tokens
from deploy.local.engine.generation import Step


def chance(token: int, place: int) -> float:
    """Return the log-probability of the token said at a place: just below 0."""
    mixed = (token * 2654435761 + place * 40503 + 12345) & 0xFFFFFFFF
    return -round(0.0005 + (mixed / 2**32) ** 3 * 0.9, 6)


def alternatives(token: int, place: int, count: int) -> list[tuple[int, float]]:
    """Return the `count` next likeliest tokens at a place, the likeliest first."""
    others: list[tuple[int, float]] = []
    candidate = token
    while len(others) < count:
        candidate = (candidate * 31 + place * 7 + 17) % len(tokens.PIECES)
        other = tokens.FIRST_PIECE + candidate
        if other != token and all(other != known for known, _ in others):
            others.append((other, round(-4.0 - 0.75 * len(others) + chance(other, place), 6)))
        candidate += 1
    return others


# --- Chat ------------------------------------------------------------------------------------------------------------


def of_chat(steps: list[Step], first: int, top: int, *, as_ids: bool = False) -> dict[str, Any]:
    """Return the `logprobs` of some steps of a chat choice; `first` is the first one's place in the answer."""
    return {"content": [_chat_entry(step.token, first + n, top, as_ids) for n, step in enumerate(steps)]}


def _chat_entry(token: int, place: int, top: int, as_ids: bool) -> dict[str, Any]:
    said = _chat_token(token, chance(token, place), as_ids)
    others = alternatives(token, place, top - 1) if top else []
    listed = [said, *(_chat_token(other, value, as_ids) for other, value in others)] if top else []
    return {**said, "top_logprobs": [dict(entry) for entry in listed]}


def _chat_token(token: int, value: float, as_ids: bool) -> dict[str, Any]:
    spelled = tokens.spell(token)
    name = f"token_id:{token}" if as_ids else spelled
    return {"token": name, "logprob": value, "bytes": list(spelled.encode())}


# --- Completions -----------------------------------------------------------------------------------------------------


def of_completion(
    prompt: list[int], steps: list[Step], first: int, top: int, offset: int, *, as_ids: bool = False
) -> dict[str, list[Any]]:
    """Return the `logprobs` of echoed prompt tokens and of some steps; `offset` is where their text begins."""
    made: dict[str, list[Any]] = {"text_offset": [], "token_logprobs": [], "tokens": [], "top_logprobs": []}
    listed: list[tuple[int, list[tuple[int, float]]]] = []
    for place, token in enumerate(prompt):
        listed.append((token, [(other, value) for other, value, _ in _expected(token, place, top)] if place else []))
    for place, step in enumerate(steps, first):
        others = alternatives(step.token, place, top - 1) if top else []
        listed.append((step.token, [(step.token, chance(step.token, place)), *others]))
    for token, entries in listed:
        name = _name(token, as_ids)
        made["text_offset"].append(offset)
        offset += len(name)
        made["tokens"].append(name)
        # The first token of a prompt follows nothing, so it has no probability.
        made["token_logprobs"].append(entries[0][1] if entries else None)
        made["top_logprobs"].append({_name(other, as_ids): value for other, value in entries} if entries else None)
    return made


def of_prompt(ids: list[int], top: int) -> list[dict[str, Any] | None]:
    """Return `prompt_logprobs`: for each token but the first, what it was worth and what was likelier."""
    entries: list[dict[str, Any] | None] = [None]
    for place, token in enumerate(ids[1:], 1):
        entries.append(
            {
                str(other): {"logprob": value, "rank": rank, "decoded_token": tokens.spell(other)}
                for other, value, rank in _expected(token, place, top)
            }
        )
    return entries[: len(ids)]


def _expected(token: int, place: int, top: int) -> list[tuple[int, float, int]]:
    """Return a prompt's token and its `top` alternatives with their ranks; two tokens of three came as expected."""
    value = chance(token, place)
    if (token + place) % 3 or not top:
        others = alternatives(token, place, top - 1) if top else []
        return [(token, value, 1), *((other, worse, rank) for rank, (other, worse) in enumerate(others, 2))]
    others = [(token, value), *alternatives(token, place, top)][1 : top + 1]
    rank = 2 + (token * 7 + place) % 200 + top
    better = [(other, round(value - 0.25 * n, 6), n) for n, (other, _) in enumerate(others, 1)]
    return [(token, round(value - 5.0 - rank / 100, 6), rank), *better]


def _name(token: int, as_ids: bool) -> str:
    return f"token_id:{token}" if as_ids else tokens.spell(token)
