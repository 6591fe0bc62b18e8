"""What the tests of TGI's schema share: calls as a caller would write them, and a completion's replies."""

from __future__ import annotations

import json
from typing import Any

from adapters.base import Call
from adapters.openai.request import FieldPolicy
from adapters.tgi.request import TgiLimits, check, read

POLICY = FieldPolicy()


def generate(
    inputs: str = "Hi",
    *,
    stream: bool | None = False,
    policy: FieldPolicy = POLICY,
    limits: TgiLimits | None = None,
    drawn_seed: int | None = None,
    body: dict[str, Any] | None = None,
    **parameters: Any,
) -> Call:
    """Return a checked call; without parameters the body has none. `body` adds fields beside `inputs`."""
    fields: dict[str, Any] = {"inputs": inputs, **(body or {})}
    if parameters:
        fields["parameters"] = parameters
    draft = read(json.dumps(fields).encode(), stream)
    return check(draft, model="public", policy=policy, limits=limits or TgiLimits(), drawn_seed=drawn_seed)


def whole_completion(*choices: dict[str, Any], prompt: int = 1, completion: int | None = None) -> bytes:
    """Return a completion's whole reply."""
    made = [{"index": place, "stop_reason": None, "logprobs": None, **choice} for place, choice in enumerate(choices)]
    told = sum(len(choice.get("token_ids") or ()) for choice in choices) if completion is None else completion
    usage = {"prompt_tokens": prompt, "total_tokens": prompt + told, "completion_tokens": told}
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "served"}
    return json.dumps({**head, "choices": made, "usage": usage}, separators=(",", ":"), ensure_ascii=False).encode()


def chunk(text: str, ids: list[int] | None = None, names: list[str] | None = None, **fields: Any) -> bytes:
    """Return a chunk of a completion's stream, with a log-probability of -0.5 for each token."""
    choice: dict[str, Any] = {"index": 0, "text": text, "logprobs": None, "finish_reason": None, "stop_reason": None}
    if names is not None:
        top = fields.pop("top", [{name: -0.5} for name in names])
        logs = [-0.5] * len(names)
        choice["logprobs"] = {"text_offset": [0], "token_logprobs": logs, "tokens": names, "top_logprobs": top}
    if ids is not None:
        choice["token_ids"] = ids
    return event({"choices": [{**choice, **fields}]})


def usage(prompt: int, completion: int) -> bytes:
    """Return a stream's last chunk."""
    counts = {"prompt_tokens": prompt, "total_tokens": prompt + completion, "completion_tokens": completion}
    return event({"choices": [], "usage": counts})


def event(fields: dict[str, Any]) -> bytes:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 1, "model": "served"}
    return b"data: " + json.dumps({**head, **fields}, separators=(",", ":"), ensure_ascii=False).encode() + b"\n\n"


DONE = b"data: [DONE]\n\n"
