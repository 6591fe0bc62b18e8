"""A conversation written down byte by byte: what a container streams, and what a caller must get for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from deploy.local import faults

DIALECTS = ("vllm", "lmi")
SERVED = "served-name"
"""What the container calls its model; no caller may see it."""


def record(delta: dict[str, Any], finish: str | None = None, *, model: str = SERVED) -> bytes:
    """Return one chunk of a chat as the container writes it, or as a caller gets it when `model` is the public name."""
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    chunk = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": model, "choices": [choice]}
    return json.dumps(chunk, separators=(",", ":"), ensure_ascii=False).encode()


def records(texts: Sequence[str], *, model: str = SERVED) -> list[bytes]:
    """Return a complete answer's chunks: the role, one for each text, the finish reason."""
    opening = record({"role": "assistant", "content": ""}, model=model)
    middle = [record({"content": text}, model=model) for text in texts]
    return [opening, *middle, record({}, "stop", model=model)]


def written(dialect: str, chunks: Sequence[bytes]) -> list[bytes]:
    """Return how a container of that dialect writes a complete answer: each element is one HTTP chunk of its own."""
    if dialect == "lmi":
        return [*(chunk + b"\n" for chunk in chunks), b"\n"]
    return [*(b"data: " + chunk + b"\n\n" for chunk in chunks), b"data: [DONE]\n\n"]


def says(pieces: Sequence[bytes], *, content_type: str = "") -> faults.Reply:
    """Return the fault that makes a container stream exactly these pieces."""
    return faults.Reply(chunks=[piece.decode() for piece in pieces], content_type=content_type or "text/event-stream")


WORDS = [f"word {number} " for number in range(50)]


def answer_of(dialect: str, texts: Sequence[str] = WORDS) -> faults.Reply:
    """Return the fault that makes a container say `texts`, one chunk each."""
    return says(written(dialect, records(texts)))


def events_of(model: str, texts: Sequence[str] = WORDS) -> list[bytes]:
    """Return the events a caller of `model` gets for it."""
    return [*records(texts, model=model), b"[DONE]"]
