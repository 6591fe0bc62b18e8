"""The caller's request body: read once, checked once, and then sent on byte for byte.

Reading needs no configuration and finds the model's name; checking needs the policy of that model. Every value the
gateway or a container acts on is checked here, because LMI 23 and later lose the reason of such errors
(djl-serving vllm_async_service.py does not catch what vLLM 0.18 raises).

The fields are those of https://platform.openai.com/docs/api-reference/chat/create and
https://docs.vllm.ai/en/latest/serving/openai_compatible_server.html
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal

import msgspec

from adapters.base import Call, Surface
from adapters.openai import fields
from adapters.openai.caps import MAX_CHOICES
from adapters.openai.content import TEXT_ONLY, check_messages
from adapters.openai.duplicates import duplicate_name, twice
from adapters.openai.formats import respelt
from adapters.openai.refusal import BadRequest, wrong_type, wrong_value
from adapters.openai.rules import RULES, check_together, without_effect
from adapters.openai.urls import DATA_ONLY, UrlPolicy

__all__ = ["BadRequest", "Draft", "FieldPolicy", "check", "read"]

MAX_FIELDS = 256
"""Top-level fields of a body."""
MAX_DEPTH = 100
"""Nested arrays and objects, the body itself included. OpenAI's own structured outputs allow 10 levels in a schema."""

_encode = msgspec.json.Encoder().encode
_values = msgspec.json.Decoder().decode
_raws = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


@dataclass(frozen=True, slots=True)
class FieldPolicy:
    """What a model's configuration says about the fields of a call."""

    unknown_fields: Literal["forward", "drop", "refuse"] = "forward"
    """Fields that are neither OpenAI's nor vLLM's."""
    allow_fields: frozenset[str] = frozenset()
    """Fields that are refused, or capped, by default and pass for this model."""
    urls: UrlPolicy = DATA_ONLY
    """Which URLs besides data: URLs the media of a prompt may have."""
    max_pixels: int | None = None
    """Of each image in a data: URL, None for any number."""
    modalities: tuple[str, ...] = ("text",)
    context_length: int | None = None
    """Tokens of prompt and answer together."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A body that is one JSON object with a model's name; nothing else in it has been checked."""

    surface: Surface
    model: str
    stream: bool
    raw: dict[str, msgspec.Raw]
    """Top-level fields as the caller wrote them. They refer to the body's bytes and keep those alive."""
    values: dict[str, Any]


def read(surface: Surface, body: bytes, model: str | None = None) -> Draft:
    """Parse a body and find the model's name.

    Args:
        model: the name that counts, if the body's own does not: it is then put in the body's place, whatever that is.

    Raises:
        BadRequest: not one JSON object in UTF-8, nested too deeply, a field twice, or `model` or `stream` unusable.
    """
    try:
        values = _values(body)
        if not isinstance(values, dict):
            raise BadRequest("The request body must be a JSON object.", None, "invalid_json")
        raw = _raws(body)
    except msgspec.DecodeError as error:
        # Position and cause are msgspec's; the path it may name is that of the whole body.
        cause = str(error).removeprefix("JSON is malformed: ").partition(" - at ")[0]
        raise BadRequest(f"The request body is not valid JSON: {cause}.", None, "invalid_json") from None
    except UnicodeDecodeError:
        raise BadRequest("The request body is not valid UTF-8.", None, "invalid_json") from None
    except RecursionError:
        raise _too_deep() from None
    if body.count(b"[") + body.count(b"{") > MAX_DEPTH and _depth(values) > MAX_DEPTH:
        raise _too_deep()
    if len(raw) > MAX_FIELDS:
        raise BadRequest(f"The request body has more than {MAX_FIELDS} fields.", None, "invalid_json")
    duplicate = duplicate_name(body, raw)
    if duplicate is not None:
        raise twice(duplicate)

    if model is not None:
        values["model"], raw["model"] = model, msgspec.Raw(_encode(model))
    else:
        model = _model_of(values)
    stream = values.get("stream")
    if stream is not None and not isinstance(stream, bool):
        raise wrong_type("stream", "a boolean", stream)
    return Draft(surface, model, stream is True, raw, values)


def _model_of(values: dict[str, Any]) -> str:
    model = values.get("model")
    if model is None:
        raise BadRequest("The field model is required.", "model", "missing_required_parameter")
    if not isinstance(model, str):
        raise wrong_type("model", "a string", model)
    if not model:
        raise wrong_value("model", "must not be empty")
    return model


def check(draft: Draft, policy: FieldPolicy) -> Call:
    """Check a draft against its model's policy.

    A field that is null counts as absent and is not sent on. What the result holds is what a container gets.

    Raises:
        BadRequest: a field is missing, wrong, capped, unknown or not allowed; the message and `param` say which.
    """
    surface, values, raw = draft.surface, draft.values, draft.raw
    subject = "messages" if surface is Surface.CHAT else "prompt"
    if values.get(subject) is None:
        raise BadRequest(f"The field {subject} is required.", subject, "missing_required_parameter")

    allowed = policy.allow_fields
    known, rules = fields.KNOWN[surface], RULES[surface]
    left_out: list[str] = []
    for name, value in values.items():
        if value is None:
            left_out.append(name)
        elif name in known:
            rule = rules.get(name)
            if rule is not None:
                rule(value, name, allowed)
        elif name in allowed:
            pass
        elif fields.is_refused(surface, name):
            raise BadRequest(f"The field {name[:64]} is not allowed.", name[:64], "parameter_not_allowed")
        elif policy.unknown_fields == "refuse":
            raise BadRequest(f"Unknown field: {name[:64]}.", name[:64], "unknown_parameter")
        elif policy.unknown_fields == "drop":
            left_out.append(name)
    if left_out:
        values, raw = _without(values, raw, left_out)
    form = values.get("response_format")
    if form is not None and "value" in form:
        values, raw = respelt(values, raw)

    contents = TEXT_ONLY
    if surface is Surface.CHAT:
        contents = check_messages(values["messages"], raw["messages"], policy)
        prompts = 1
        max_tokens = values.get("max_completion_tokens", values.get("max_tokens"))
    else:
        prompts = _prompts(values["prompt"])
        max_tokens = values.get("max_tokens")
    check_together(surface, values)
    if surface is Surface.CHAT and "tools" in values:
        unheard = without_effect(values)
        if not values.keys().isdisjoint(unheard):
            values, raw = _without(values, raw, unheard)

    choices = values.get("n", 1) * prompts
    if choices > MAX_CHOICES and "n" not in allowed:
        raise wrong_value("n", f"times the number of prompts must be at most {MAX_CHOICES}, not {choices}")
    if policy.context_length is not None and max_tokens is not None and max_tokens >= policy.context_length:
        param = "max_completion_tokens" if "max_completion_tokens" in values else "max_tokens"
        raise BadRequest(
            f"This model's context holds {policy.context_length} tokens of prompt and answer together,"
            f" so {param}={max_tokens} leaves no room for the prompt.",
            param,
            "context_length_exceeded",
        )
    options = values.get("stream_options", {})
    return Call(
        surface=surface,
        model=draft.model,
        raw=raw,
        values=values,
        stream=draft.stream,
        include_usage=options.get("include_usage") is True,
        choices=choices,
        max_tokens=max_tokens,
        media=contents.media,
        part_types=contents.part_types,
    )


def _without(
    values: dict[str, Any], raw: dict[str, msgspec.Raw], names: Collection[str]
) -> tuple[dict[str, Any], dict[str, msgspec.Raw]]:
    values = {name: value for name, value in values.items() if name not in names}
    return values, {name: value for name, value in raw.items() if name in values}


def _prompts(prompt: str | list[Any]) -> int:
    """Return how many prompts a checked `prompt` holds: one if it is a string or a list of token ids."""
    return len(prompt) if isinstance(prompt, list) and not isinstance(prompt[0], int) else 1


def _depth(value: dict[str, Any]) -> int:
    """Return how deeply arrays and objects are nested, counting no further than just above MAX_DEPTH."""
    level: list[dict[str, Any] | list[Any]] = [value]
    depth = 0
    while level and depth <= MAX_DEPTH:
        depth += 1
        below = (inner for outer in level for inner in (outer.values() if isinstance(outer, dict) else outer))
        level = [inner for inner in below if isinstance(inner, dict | list)]
    return depth


def _too_deep() -> BadRequest:
    return BadRequest(f"The request body is nested more than {MAX_DEPTH} levels deep.", None, "invalid_json")
