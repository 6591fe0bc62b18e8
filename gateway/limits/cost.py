"""What a call will use, estimated before it; and what it has used, in money.

The estimate is what is reserved until the container has counted: rather too much than too little, as what is too much
comes back when the call ends.
"""

from __future__ import annotations

from adapters.base import Call, Surface, Usage
from gateway.config.limits import Prices
from gateway.limits.rules import MICRO, Amounts

BYTES_PER_TOKEN = 3
"""Of a prompt's JSON. English text has four bytes a token, with most tokenizers; other scripts two to four."""
IMAGE_TOKENS = 1024
"""Of an image, sound or film: its bytes say nothing about its tokens."""
UNBOUNDED_TOKENS = 4096
"""Of an answer whose caller names no bound, where the model's context says no less."""
MAX_TOKENS = 10**9

_SUBJECTS = {Surface.CHAT: "messages", Surface.COMPLETIONS: "prompt"}


def estimate(call: Call, context_length: int | None) -> tuple[int, int]:
    """Return estimates of the prompt's tokens and of those of all answers together."""
    raw = call.raw.get(_SUBJECTS.get(call.surface, "inputs"), b"")
    text_bytes, media = len(raw), 0
    if text_bytes > 2048 and b";base64," in bytes(raw):
        text_bytes, media = _without_media(bytes(raw))
    prompt = text_bytes // BYTES_PER_TOKEN + 8 + media * IMAGE_TOKENS
    for name in ("tools", "response_format"):
        if name in call.raw:
            prompt += len(call.raw[name]) // BYTES_PER_TOKEN
    answer = call.max_tokens
    if answer is None:
        answer = UNBOUNDED_TOKENS
    if context_length is not None:
        prompt = min(prompt, context_length)
        answer = min(answer, context_length)
    return min(prompt, MAX_TOKENS), min(answer * call.choices, MAX_TOKENS)


def _without_media(raw: bytes) -> tuple[int, int]:
    """Return the bytes outside of base64 data, and how many pieces of such there are."""
    pieces = raw.split(b";base64,")
    size = len(pieces[0])
    for piece in pieces[1:]:
        end = piece.find(b'"')
        size += len(piece) - max(0, end)
    return size, len(pieces) - 1


def money(prices: Prices | None, usage: Usage, seconds: float) -> int:
    """Return what a call costs, in millionths, rounded to the nearest."""
    if prices is None:
        return 0
    cached = min(usage.cached_tokens, usage.prompt_tokens)
    cached_price = (
        prices.prompt_per_million if prices.cached_prompt_per_million is None else (prices.cached_prompt_per_million)
    )
    by_tokens = (
        (usage.prompt_tokens - cached) * prices.prompt_per_million
        + cached * cached_price
        + usage.completion_tokens * prices.completion_per_million
    )
    by_time = seconds * prices.instance_hour * MICRO / 3600 / prices.calls_per_instance
    return round(by_tokens + by_time)


def ask_for(prices: Prices | None, prompt: int, answer: int) -> Amounts:
    """Return what to reserve for estimated tokens; time is paid when it is known."""
    return Amounts(prompt + answer, money(prices, Usage(prompt, answer), 0.0))
