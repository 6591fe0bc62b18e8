"""A container's whole reply: what it says about itself, and the public model name put back.

Bytes pass through; only the value of `model` is replaced, what breaks OpenAI's schema is mended (conform.py), and
thoughts get their second name (thoughts.py).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from adapters.base import Call, Surface, Usage, Whole
from adapters.errors import ContainerFault, FaultKind, MalformedReply
from adapters.openai.conform import conform
from adapters.openai.thoughts import both_names

JudgeError = Callable[[Mapping[str, Any], int], ContainerFault | None]
"""A dialect's reading of a decoded reply that is no completion, with its HTTP status; None if it reports no error."""

MAX_TOKENS = 2**53
"""Above this a count is no count, and no counter would hold it exactly."""

_encode = msgspec.json.Encoder().encode
_raws = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_values = msgspec.json.Decoder().decode

INVALID_JSON = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding untrusted bytes raises."""

_OBJECTS = {Surface.CHAT: "chat.completion", Surface.COMPLETIONS: "text_completion"}
_MODEL = re.compile(rb'\{"id":"[^"\\]*","object":"[a-z._]*","created":\d+,"model":("(?:[^"\\]|\\.)*")[,}]', re.DOTALL)
"""The start of a reply or chunk as vLLM writes it; group 1 is the model's name."""


_NULL = msgspec.Raw(b"null")


class _CachedTokens(msgspec.Struct):
    cached_tokens: int | None = None


class _UsageFields(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int | None = None
    prompt_tokens_details: _CachedTokens | None = None


class _Message(msgspec.Struct):
    reasoning: msgspec.Raw = _NULL
    reasoning_content: msgspec.Raw = _NULL


class _Choice(msgspec.Struct):
    finish_reason: str | None = None
    message: _Message | None = None


class _Reply(msgspec.Struct):
    object: str | None = None
    choices: list[_Choice] | None = None
    usage: _UsageFields | None = None
    error: Any = None


_reply = msgspec.json.Decoder(_Reply).decode
_usage = msgspec.json.Decoder(_UsageFields | None).decode


def decode_whole(
    call: Call, body: bytes, *, public_model: bytes, judge: JudgeError, answers_as: str | None = None
) -> Whole | ContainerFault:
    """Return the caller's reply, or the fault a container reported with a 2xx status.

    Args:
        public_model: the model's public name as a JSON string.
        answers_as: the model that has to answer, by the container's name for it; None leaves that to the container.

    Raises:
        MalformedReply: `body` is not one completion of this call's surface.
    """
    try:
        body.decode()  # whatever is skipped below reaches the caller too
        reply = _reply(body)
    except INVALID_JSON:
        return _not_a_reply(body, judge)
    if reply.choices is None or reply.error is not None or reply.object != _OBJECTS[call.surface]:
        return _not_a_reply(body, judge)
    if not reply.choices:
        raise MalformedReply("the reply has no choices")
    thinks = False
    for choice in reply.choices:
        fault = judge_finish(choice.finish_reason)
        if fault is not None:
            return fault
        message = choice.message
        thinks |= message is not None and not (message.reasoning == _NULL == message.reasoning_content)
    if answers_as is not None:
        fault = judge_model(_raws(body).get("model"), answers_as)
        if fault is not None:
            return fault
    text = with_model(body.strip(), public_model)
    return Whole(conform(both_names(text) if thinks else text), usage_of(reply.usage))


def judge_finish(reason: str | None) -> ContainerFault | None:
    """Return the fault behind a finish reason with which vLLM says that it did not finish; None for any other.

    `abort` means the request was dropped, which happens to a caller who is still there only when the server stops.
    """
    if reason == "abort":
        return ContainerFault(FaultKind.UNAVAILABLE, "The container stopped in the middle of the answer.")
    if reason == "error":
        return ContainerFault(FaultKind.FAILED, "The container failed in the middle of the answer.")
    return None


def judge_model(model: bytes | None, wanted: str) -> ContainerFault | None:
    """Return the fault of a reply that says, in its field `model`, that another model answered than the one wanted.

    A container that overlooks an adapter's name answers with the base model, and nothing else would tell.
    """
    if model is None or _values(model) == wanted:
        return None
    return ContainerFault(FaultKind.MISCONFIGURED, f"Another model than {wanted!r} has answered.")


def with_model(reply: bytes, public_model: bytes) -> bytes:
    """Return a JSON object with `model` set, every other value byte for byte.

    Raises:
        MalformedReply: it is not a JSON object.
    """
    model = find_model(reply)
    if model is not None:
        return reply[: model[0]] + public_model + reply[model[1] :]
    try:
        fields = _raws(reply)
    except INVALID_JSON:
        raise MalformedReply("a reply is not a JSON object") from None
    return join_fields({**fields, "model": public_model})


def find_model(reply: bytes) -> tuple[int, int] | None:
    """Return where the value of `model` starts and ends if the reply or chunk begins as vLLM's do, None otherwise."""
    found = _MODEL.match(reply)
    return found.span(1) if found is not None else None


def join_fields(fields: Mapping[str, bytes]) -> bytes:
    """Return a compact JSON object of values that are JSON already."""
    return b"{" + b",".join(b"%b:%b" % (_encode(name), value) for name, value in fields.items()) + b"}"


def read_usage(raw: bytes) -> Usage | None:
    """Return the counts of a `usage` field; None if it is null or has none."""
    try:
        return usage_of(_usage(raw))
    except INVALID_JSON:
        return None


def usage_of(fields: _UsageFields | None) -> Usage | None:
    if fields is None:
        return None
    details = fields.prompt_tokens_details
    return Usage(
        _count(fields.prompt_tokens), _count(fields.completion_tokens), _count(details.cached_tokens) if details else 0
    )


def _count(tokens: int | None) -> int:
    """Return a count as a container gives it, fit for a counter: one that cannot be true is taken for zero."""
    return tokens if tokens is not None and 0 <= tokens <= MAX_TOKENS else 0


def _not_a_reply(body: bytes, judge: JudgeError) -> ContainerFault:
    try:
        value = _values(body)
    except INVALID_JSON:
        raise MalformedReply("the reply is not valid JSON") from None
    if isinstance(value, dict):
        fault = judge(value, 500)
        if fault is not None:
            return fault
    raise MalformedReply("the reply is JSON, but no completion")
