"""Where a call stands in a trace: the callers' headers, strictly checked, and the one that goes on to a container.

https://www.w3.org/TR/trace-context/ What does not keep to it counts as absent, so nothing unchecked goes on.
"""

from __future__ import annotations

import re
from random import getrandbits

from gateway.telemetry.events import Trace

MAX_STATE_CHARS = 512
"""A longer `tracestate` is not carried on: more than this nobody has to."""
MAX_STATE_MEMBERS = 32
STREAM_SPAN = 0xFF
"""Numbers the span of a call's stream; the lower ones are its attempts."""

_PARENT = re.compile(rb"[ \t]*([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?[ \t]*", re.DOTALL)
_MEMBER = re.compile(
    r"(?:[a-z][a-z0-9_\-*/]{0,255}|[a-z0-9][a-z0-9_\-*/]{0,240}@[a-z][a-z0-9_\-*/]{0,13})"
    r"=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)
_NEVER_ZERO = 1 << 63

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""


def continued(traceparent: bytes, headers: Headers) -> Trace | None:
    """Return the caller's trace, in which the gateway makes no span of its own; None if `traceparent` is malformed.

    Args:
        traceparent: the values of all headers of that name, joined by commas.
        headers: of the request; `tracestate` is looked for only where `traceparent` is right.
    """
    found = _PARENT.fullmatch(traceparent)
    if found is None:
        return None
    version, trace_id, span_id, flags, more = found.groups()
    # A later version may append fields, and ff will never be one.
    if version == b"ff" or (version == b"00" and more) or not trace_id.strip(b"0") or not span_id.strip(b"0"):
        return None
    parent = span_id.decode()
    return Trace(trace_id.decode(), parent, parent, bool(int(flags, 16) & 1), _state(headers))


def begun(parent: Trace | None, trace_id: str, *, sampled: bool) -> Trace:
    """Return a span of the gateway's own for a call: below the caller's, or, without one, the first of a trace."""
    span_id = f"{getrandbits(64) | _NEVER_ZERO:016x}"  # a name, not a secret
    if parent is None:
        return Trace(trace_id, span_id, None, sampled)
    return Trace(trace_id, span_id, parent.parent_id, sampled, parent.state)


def new_trace_id() -> str:
    return f"{getrandbits(128) | 1:032x}"


def child_id(trace: Trace, number: int) -> str:
    """Return the id of a call's n-th attempt (from 1), or of its stream (STREAM_SPAN): each from the call's own."""
    return f"{int(trace.span_id, 16) ^ number:016x}"


def traceparent_of(trace: Trace, attempt: int) -> str:
    """Return the `traceparent` of the n-th attempt: 55 characters, hexadecimal digits and dashes.

    Where the gateway makes no span it is the caller's, as if the gateway were not there.
    """
    parent = trace.span_id if trace.span_id == trace.parent_id else child_id(trace, attempt)
    return f"00-{trace.trace_id}-{parent}-{'01' if trace.sampled else '00'}"


def _state(headers: Headers) -> str:
    """Return the `tracestate`; empty if there is none, or one member of it is malformed or named twice."""
    values = [value for name, value in headers if name == b"tracestate"]
    if not values or sum(map(len, values)) > MAX_STATE_CHARS:
        return ""
    members = [member.strip(" \t") for member in b",".join(values).decode("latin-1").split(",")]
    members = [member for member in members if member]  # empty ones are allowed, and say nothing
    names = {member.partition("=")[0] for member in members}
    if len(names) < len(members) or len(members) > MAX_STATE_MEMBERS or not all(map(_MEMBER.fullmatch, members)):
        return ""
    return ",".join(members)
