"""TGI's errors, and what they mean.

`{"error": "…", "error_type": "…"}` as replies and as frames of a stream; `{"error": {"message", "http_status_code"}}`
in streams of chats, where the code says 422 whatever happened; and plain text where the body does not fit the route.
router/src/infer/mod.rs and router/src/server.rs of https://github.com/huggingface/text-generation-inference.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import msgspec

from adapters.errors import ContainerFault, FaultKind
from adapters.openai.faults import clip, judge
from adapters.openai.reply import INVALID_JSON

_KINDS = {
    "validation": FaultKind.INVALID_REQUEST,
    "template_error": FaultKind.INVALID_REQUEST,
    "missing_template_variable": FaultKind.INVALID_REQUEST,
    "tool_error": FaultKind.INVALID_REQUEST,
    "generation": FaultKind.FAILED,
    "incomplete_generation": FaultKind.FAILED,
    "incomplete_generation_stream": FaultKind.FAILED,
    "stream_serialization_error": FaultKind.FAILED,
    "overloaded": FaultKind.OVERLOADED,
    "healthcheck": FaultKind.UNAVAILABLE,
}
"""`error_type` → what it means."""
_TYPES = (
    ("Input validation error: ", "validation"),
    ("Template error: ", "template_error"),
    ("Missing template vatiable: ", "missing_template_variable"),
    ("Tool error: ", "tool_error"),
    ("Request failed during generation: ", "generation"),
    ("Model is overloaded", "overloaded"),
    ("Incomplete generation", "incomplete_generation"),
    ("unhealthy", "healthcheck"),
)
"""How the text of an error begins → its type, which chats' streams leave out. The typing error is TGI's."""
_CONTEXT = re.compile(
    r"`inputs` must have less than \d+ tokens|`inputs` tokens \+ `max_new_tokens` must be|`max_new_tokens` must be <="
)
_PARAM = re.compile(
    r"`(temperature|top_p|top_k|typical_p|repetition_penalty|frequency_penalty|stop|truncate|best_of|seed)` "
)
"""Parameters that are called the same everywhere."""
_OTHER_ROUTE = re.compile(
    r"Failed to deserialize the JSON body into the target type: missing field `(?:inputs|messages|prompt)`"
)
"""What is always sent is missing there: the container takes another schema than its configured version does."""
_TOO_LARGE = 413
_TOO_LONG = "The request is longer than this model's container takes, which is 2 MB (2000000) unless set otherwise."
"""In place of axum's words for it; `--payload-limit` of router/src/main.rs."""

_values = msgspec.json.Decoder().decode


def judge_reply(reply: Mapping[str, Any], status: int) -> ContainerFault | None:
    """Judge a decoded reply or frame; None if it reports no error."""
    error = reply.get("error")
    if isinstance(error, str):
        kind = reply.get("error_type")
        return judge_text(error, kind if isinstance(kind, str) else None, status)
    if isinstance(error, dict):
        message, code = error.get("message"), error.get("http_status_code")
        if isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599:
            status = code
        return judge_text(message if isinstance(message, str) else "", None, status)
    return None


def judge_text(text: str, error_type: str | None, status: int) -> ContainerFault:
    """Judge an error by its type, else by how its text begins, else by the status."""
    prefix, known = next(((prefix, name) for prefix, name in _TYPES if text.startswith(prefix)), ("", None))
    kind = _KINDS.get(error_type or "") or _KINDS.get(known or "")
    if kind is None:
        return judge(status, clip(text))
    message = clip(text)
    if kind is not FaultKind.INVALID_REQUEST:
        return ContainerFault(kind, message)
    if known == "tool_error" and "Failed to parse generated text" in text:
        # The model was to write a call of a tool, and did not: the caller has done nothing wrong.
        return ContainerFault(FaultKind.FAILED, message)
    if known == "validation":
        message = message.removeprefix(prefix)
    if _CONTEXT.search(text):
        return ContainerFault(FaultKind.CONTEXT_LENGTH, message)
    named = _PARAM.match(message)
    return ContainerFault(kind, message, named[1] if named else None)


def decode_error(status: int, body: bytes) -> ContainerFault:
    """Judge a reply that is no 2xx."""
    try:
        value = _values(body)
    except INVALID_JSON:
        text = clip(body.decode(errors="replace"))
        if status == _TOO_LARGE:
            return ContainerFault(FaultKind.INVALID_REQUEST, _TOO_LONG)
        if _OTHER_ROUTE.match(text):
            return ContainerFault(FaultKind.MISCONFIGURED, text)
        return judge(status, text)
    fault = judge_reply(value, status) if isinstance(value, dict) else None
    return fault if fault is not None else judge(status, "")
