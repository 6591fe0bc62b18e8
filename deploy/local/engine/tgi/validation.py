"""A generate request, checked as TGI's router checks it: the same order, the same words.

https://github.com/huggingface/text-generation-inference: router/src/validation.rs, router/src/infer/mod.rs
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from deploy.local.engine import schemacheck, tokens
from deploy.local.engine.images import Picture
from deploy.local.engine.options import Options
from deploy.local.engine.refusal import Refusal
from deploy.local.engine.tgi import pictures
from deploy.local.engine.tgi.errors import TgiError, invalid
from deploy.local.engine.tgi.release import Release

Json = dict[str, Any]

MAX_BEST_OF = 2
MAX_STOPS = 4
MAX_TOP_N = 5
SLICE_TOKENS = 1024
"""How many tokens are generated before a long answer goes back to the queue, from 3.0 on."""


@dataclass(frozen=True, slots=True)
class Valid:
    """What a request may have."""

    inputs: str
    prompt: tuple[int, ...]
    """The tokens of what is read, after `truncate`."""
    pictures: tuple[Picture, ...]
    most_tokens: int
    sampled: bool
    seed: int | None
    """The one asked for."""
    stops: tuple[str, ...]
    top_n: int
    grammar: tuple[str, Any] | None
    """`json` and a schema, or `regex` and a pattern."""


def validate(inputs: str, parameters: Json, release: Release, options: Options) -> Valid:
    """Return the checked request.

    Raises:
        TgiError: the first thing that is wrong with it.
    """
    asked = parameters
    best_of = _best_of(asked)
    _check_ranges(asked, release)
    stops = asked["stop"]
    if len(stops) > MAX_STOPS:
        raise invalid(f"`stop` supports up to {MAX_STOPS} stop sequences. Given: {len(stops)}")
    if asked["seed"] is not None and best_of > 1:
        raise invalid("`seed` must not be set when `best_of` > 1")
    top_n = asked["top_n_tokens"] or 0
    if top_n > MAX_TOP_N:
        raise invalid(f"`top_n_tokens` must be >= 0 and <= {MAX_TOP_N}. Given: {top_n}")
    if not inputs:
        raise invalid("`inputs` cannot be empty")
    longest = options.context_length - 1
    kept = asked["truncate"]
    if kept is not None and not 0 < kept <= longest:
        raise invalid(f"`truncate` must be strictly positive and less than {longest}. Given: {kept}")
    prompt, seen = _tokenized(inputs, release, options)
    if kept is not None:
        prompt = prompt[max(0, len(prompt) - kept) :]
    most = _room(len(prompt), asked["max_new_tokens"], longest, release, options)
    return Valid(
        inputs=inputs,
        prompt=tuple(prompt),
        pictures=tuple(seen),
        most_tokens=most,
        sampled=is_sampled(asked),
        seed=asked["seed"],
        stops=tuple(stops),
        top_n=top_n,
        grammar=_grammar(asked["grammar"], release),
    )


def _best_of(asked: Json) -> int:
    best_of: int = 1 if asked["best_of"] is None else asked["best_of"]
    samples = asked["do_sample"] or any(asked[name] is not None for name in ("temperature", "top_k", "top_p"))
    if best_of > 1 and not (samples or asked["typical_p"] is not None):
        raise invalid("you must use sampling when `best_of` is > 1")
    return best_of


def check_best_of(best_of: int) -> None:
    """Refuse more answers than one may choose from."""
    if best_of > MAX_BEST_OF:
        raise invalid(f"`best_of` must be > 0 and <= {MAX_BEST_OF}. Given: {best_of}")


def is_sampled(asked: Json) -> bool:
    """Return whether the model throws dice: `do_sample` says so, or a value that means nothing without."""
    warped = any(asked[name] not in (None, 1.0) for name in ("temperature", "top_p", "typical_p"))
    return bool(asked["do_sample"] or warped or asked["top_k"] is not None)


def _check_ranges(asked: Json, release: Release) -> None:
    for name in ("temperature", "repetition_penalty"):
        if asked[name] is not None and asked[name] <= 0.0:
            raise invalid(f"`{name}` must be strictly positive")
    penalty = asked["frequency_penalty"]
    if release.since(2, 0) and penalty is not None and not -2.0 <= penalty <= 2.0:
        raise invalid("`frequency_penalty` must be >= -2.0 and <= 2.0")
    for name in ("top_p", "typical_p"):
        if asked[name] is not None and not 0.0 < asked[name] < 1.0:
            raise invalid(f"`{name}` must be > 0.0 and < 1.0")
    if asked["top_k"] is not None and asked["top_k"] <= 0:
        raise invalid("`top_k` must be strictly positive")
    if asked["max_new_tokens"] == 0:
        raise invalid("`max_new_tokens` must be strictly positive")


def _tokenized(inputs: str, release: Release, options: Options) -> tuple[list[int], list[Picture]]:
    if not (options.vision and release.since(2, 0)):
        return tokens.encode(inputs, markup=True), []
    ids: list[int] = []
    seen: list[Picture] = []
    for chunk in pictures.chunks_of(inputs):
        if isinstance(chunk, str):
            ids += tokens.encode(chunk, markup=True)
        else:
            seen.append(chunk)
            ids += [tokens.IMAGE] * chunk.tokens
    return ids, seen


def _room(length: int, wanted: int | None, longest: int, release: Release, options: Options) -> int:
    """Return how many tokens the answer may have."""
    total = options.context_length
    sliced = release.since(3, 0)
    most = max(0, total - length) if wanted is None else wanted
    part = min(most, SLICE_TOKENS) if sliced else most
    if length + part > total:
        raise invalid(
            f"`inputs` tokens + `max_new_tokens` must be <= {total}. "
            f"Given: {length} `inputs` tokens and {part} `max_new_tokens`"
        )
    if length > longest:
        raise invalid(f"`inputs` must have less than {longest} tokens. Given: {length}")
    if not sliced:
        return most
    # A slice is asked for anew each time, so that the last one may go past what was wanted.
    said = part
    while said < most:
        part = min(total - length - said if wanted is None else wanted, SLICE_TOKENS)
        if length + said + part > total or length + said > longest:
            break
        said += part
    return said


def _grammar(grammar: tuple[str, Any] | None, release: Release) -> tuple[str, Any] | None:
    if grammar is None:
        return None
    kind, value = grammar
    if kind == "regex":
        return grammar
    schema = value["schema"] if kind == "json_schema" else value
    if isinstance(schema, str) and kind == "json":
        try:
            schema = json.loads(schema)
        except ValueError as error:
            raise _bad_grammar(f"{error}") from None
    elif not isinstance(schema, dict):
        raise invalid("grammar is not supported")
    try:
        schemacheck.check(schema)
    except Refusal as refusal:
        raise _bad_grammar(re.sub(r"^Grammar error: ", "", refusal.message)) from refusal
    if release.since(2, 0) and (not isinstance(schema, dict) or "properties" not in schema):
        raise _bad_grammar("Grammar must have a 'properties' field")
    return "json", schema


def _bad_grammar(reason: str) -> TgiError:
    return invalid(f"grammar is not valid: {reason}")
