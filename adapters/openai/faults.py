"""vLLM's error objects, and what they mean whichever container they come through.

Shapes: vllm/entrypoints/openai/**/protocol.py, ErrorResponse (flat up to 0.9, nested from 0.10); types and statuses:
create_error_response in vllm/entrypoints/openai/**/serving*.py.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

from adapters.errors import ContainerFault, FaultKind

MAX_MESSAGE_CHARS = 2000
"""Longer messages are clipped; some quote the request."""

_CONTEXT = re.compile(
    r"maximum context length|max_model_len|maximum model length|context window|"
    r"(?:prompt|input)[^.]{0,80} (?:is|are) (?:too long|longer than)",
    re.IGNORECASE,
)
# What follows counts against a deployment. Messages may quote the request, so the first has to be at their start, and
# the second in an error that is not the caller's.
_MISCONFIGURED = re.compile(
    r"The model [`'\"].{0,300}[`'\"] does not exist|LoRA adapter .{0,300} not found|Parameter model_name is required|"
    r"Invalid payload\. stateful sessions not enabled|1 validation error:\s+Unsupported Media Type",
    re.DOTALL,
)
_ENGINE_DOWN = re.compile(
    r"EngineCore encountered an issue|EngineDeadError|Engine ?Core .{0,40}died|Inference Engine Failure|"
    r"engine (?:is dead|process died|is not running)",
    re.IGNORECASE,
)
_ENGINE_DIED = "EngineCore encountered an issue. See stack trace"
"""The whole message; in a stream vLLM up to 0.13 sends it with code 400, as it does with every error."""
_NO_TOOL_PARSER = re.compile(r"(?:\"auto\" tool choice|tool_choice=.{1,300}?) requires --\S.{0,60}to be set", re.DOTALL)
"""Worded by version and choice: create_chat_completion in vllm/entrypoints/openai/**/serving*.py, later render_chat."""
NO_TOOL_PARSER = (
    "This model's container runs without a tool parser, so it calls no tools: leave out tools, or set tool_choice to"
    " none."
)
_NAMED_PARAM = re.compile(r"\(parameter=([A-Za-z_][\w.]{0,63})")
_NOT_A_FIELD = frozenset({"input_tokens", "input_text", "body"})
"""What vLLM gives as a parameter's name although no field is called so."""

_KIND_BY_STATUS = {
    401: FaultKind.MISCONFIGURED,
    403: FaultKind.MISCONFIGURED,
    404: FaultKind.MISCONFIGURED,
    405: FaultKind.MISCONFIGURED,
    408: FaultKind.UNAVAILABLE,
    424: FaultKind.FAILED,
    429: FaultKind.OVERLOADED,
    501: FaultKind.INVALID_REQUEST,
    502: FaultKind.UNAVAILABLE,
    503: FaultKind.OVERLOADED,
    504: FaultKind.UNAVAILABLE,
}


def judge(status: int, message: str, param: str | None = None) -> ContainerFault:
    """Say what an error message with its HTTP status, or the `code` that stands for one, means."""
    if _NO_TOOL_PARSER.match(message):
        return ContainerFault(FaultKind.UNSUPPORTED, NO_TOOL_PARSER, "tools")
    if message.startswith(_ENGINE_DIED) or (status >= 500 and _ENGINE_DOWN.search(message)):
        kind = FaultKind.UNAVAILABLE
    elif _MISCONFIGURED.match(message):
        kind = FaultKind.MISCONFIGURED
    elif _CONTEXT.search(message) and status < 500:
        kind = FaultKind.CONTEXT_LENGTH
    else:
        kind = _KIND_BY_STATUS.get(status, FaultKind.INVALID_REQUEST if 400 <= status < 500 else FaultKind.FAILED)
    if param is None and (named := _NAMED_PARAM.search(message)):
        param = named[1]
    if param is not None:
        param = param.removeprefix("body.")
        if param in _NOT_A_FIELD or param.isdigit():
            param = None
    return ContainerFault(kind, clip(message) or f"The container answered with status {status}.", param)


def judge_object(error: Mapping[str, Any], status: int) -> ContainerFault:
    """Judge an object with `message`, `code` and `param`, as vLLM and most others write them."""
    message, code, param = error.get("message"), error.get("code"), error.get("param")
    if isinstance(code, str) and code.isascii() and code.isdigit() and len(code) == 3:
        code = int(code)
    if isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599:
        status = code
    return judge(status, message if isinstance(message, str) else "", param if isinstance(param, str) else None)


def find_error(reply: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the error object of a decoded reply or record: nested, or flat as up to vLLM 0.9; None if it has none."""
    error = reply.get("error")
    if isinstance(error, dict):
        return error
    if reply.get("object") == "error":
        return reply
    return {"message": error, "code": reply.get("code")} if isinstance(error, str) else None


_LITERAL = r"'(?:[^'\\]|\\.)*+'|\"(?:[^\"\\]|\\.)*+\"|None|-?\d{1,9}"
_REPR_FIELD = re.compile(rf"[ ,]*(?:error=)?(?:\w+\()?(\w+)=({_LITERAL})", re.DOTALL)


def parse_repr(text: str) -> dict[str, Any] | None:
    """Read the fields of `error=ErrorInfo(message='…', type='…', param=None, code=404)`, pydantic's way to print one.

    Returns None unless there are a message and a code.
    """
    if not text.startswith(("error=", "ErrorInfo(", "ErrorResponse(", "object='error'")):
        return None
    fields: dict[str, Any] = {}
    position = 0
    while found := _REPR_FIELD.match(text, position):
        try:
            fields[found[1]] = ast.literal_eval(found[2])
        except (SyntaxError, ValueError):  # an escape or a number Python does not have
            return None
        position = found.end()
    return fields if isinstance(fields.get("message"), str) and isinstance(fields.get("code"), int) else None


_VALIDATION = re.compile(r"\d+ validation errors? for \S+\n", re.ASCII)
_DETAILS = re.compile(r"\s*\[type=.*", re.DOTALL)


def judge_validation(text: str) -> ContainerFault:
    """Judge a parse error, shortening pydantic's report of several lines an error to `field: what is wrong`."""
    if not _VALIDATION.match(text):
        return judge(400, text)
    reports: list[str] = []
    param: str | None = None
    place = ""
    for line in text.splitlines()[1:]:
        if line.startswith("  ") and not line.startswith("    ") and place:
            reports.append(f"{place}: {_DETAILS.sub('', line.strip()).removeprefix('Value error, ')}")
            param = param or place
            place = ""
        elif line and not line[0].isspace():
            place = line.strip()
    if not reports:
        return judge(400, text)
    fault = judge(400, "; ".join(reports[:3]), param)
    return fault if len(reports) <= 3 else ContainerFault(fault.kind, f"{fault.message}; and more", fault.param)


def clip(text: str) -> str:
    """Return `text` without surrounding space, at most MAX_MESSAGE_CHARS long."""
    text = text.strip()
    return text if len(text) <= MAX_MESSAGE_CHARS else text[: MAX_MESSAGE_CHARS - 1] + "…"
