"""What a test or demo can set about the engine."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from deploy.local.engine.dialect import Dialect

SMALLEST_WINDOW = 16


@dataclass(frozen=True, slots=True)
class Options:
    """The engine's options; `build` takes them by name."""

    first_token_delay_s: float = 0.0
    """Before the first token of a stream, or of the answer of a whole reply."""
    token_delay_s: float = 0.0
    """Before each further token; the choices of one request are generated side by side."""
    context_length: int = 8192
    """How many tokens a prompt and its answer may have together."""
    served_name: str = ""
    """The model's name; "" is `lmi` for LMI and `local` for the others."""
    tool_parser: bool = True
    """Whether tool calls are parsed (--enable-auto-tool-choice with --tool-call-parser hermes)."""
    reasoning_parser: bool = True
    """Whether thoughts are parsed out of the text (--reasoning-parser qwen3)."""
    thinking: bool = False
    """Whether it thinks unless told not to, as Qwen3 does; otherwise it only thinks when told to."""
    vision: bool = True
    """Whether it sees images."""
    adapters: Sequence[str] = ()
    """The LoRA adapters that are loaded, by name."""
    fail_after_tokens: int | None = None
    """The engine dies in every answer that gets this long; the prompt "fail after N" does so for one request."""
    repeat_tool_ids: bool = False
    """Every delta of a tool call has the call's id and type, as some servers send it; vLLM sends them once."""
    route_middleware: bool = True
    """Whether `route=…` in the custom attributes sends a call to another route, as in AWS' vLLM image; vLLM's own
    image takes no notice of it."""
    return_full_text: bool = True
    """Whether TGI's answers to `inputs` begin with them unless told not to, as for models tagged text-generation."""
    messages_api: bool = False
    """Whether TGI before 2.4 takes chats, and nothing else (MESSAGES_API_ENABLED)."""
    chat_template: bool = True
    """Whether the model TGI serves has a chat template."""
    prefill_logprobs: bool = False
    """Whether TGI from 3.0 on knows what prompts were worth (--enable-prefill-logprobs); before, it always does."""
    max_concurrent_requests: int = 128
    """How many answers TGI generates at once; it refuses what is above."""


def read(dialect: Dialect, given: dict[str, object]) -> Options:
    """Return the options of `given`.

    Raises:
        ValueError: there is no such option, or it cannot have such a value.
    """
    known = {member.name: member for member in fields(Options)}
    if unknown := sorted(set(given) - set(known)):
        raise ValueError(f"unknown engine option {unknown[0]!r}: options are {', '.join(known)}")
    for name, value in given.items():
        if (problem := _problem(name, value, known[name].default)) is not None:
            raise ValueError(f"engine option {name} must be {problem}, not {value!r}")
    named = {"served_name": "lmi" if dialect.lmi else "local"} | {k: v for k, v in given.items() if v != ""}
    return Options(**named)  # type: ignore[arg-type]  # each value was checked against its field's kind above


def _problem(name: str, value: object, default: object) -> str | None:
    """Return what a value should have been, or None if it is that."""
    if name == "adapters":
        fits = not isinstance(value, str) and isinstance(value, Sequence) and all(isinstance(v, str) for v in value)
        return None if fits else "a list of names"
    if isinstance(default, bool):
        return None if isinstance(value, bool) else "true or false"
    if isinstance(default, float):
        fits = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf
        return None if fits else "a number of seconds, 0 or more"
    if isinstance(default, str):
        return None if isinstance(value, str) else "a name"
    if name == "fail_after_tokens" and value is None:
        return None
    least = SMALLEST_WINDOW if name == "context_length" else 0
    fits = isinstance(value, int) and not isinstance(value, bool) and value >= least
    return None if fits else f"a whole number, {least} or more"
