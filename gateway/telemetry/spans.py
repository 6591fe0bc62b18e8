"""The spans of one call, made of its record when it is over: the call, its attempts, its stream.

Names and attributes follow OpenTelemetry's conventions, as far as they reach:
https://github.com/open-telemetry/semantic-conventions-genai (docs/gen-ai/client-inference.md) and
https://opentelemetry.io/docs/specs/semconv/http/http-spans/. Nothing in a span is a caller's text, but for its request
id, which is checked, and its prompt where that is switched on. docs/tracing.md has them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from adapters.base import Surface
from gateway.errors import MethodNotAllowed
from gateway.telemetry.events import CallRecord, Trace, Try
from gateway.telemetry.trace_content import Value
from gateway.telemetry.trace_context import STREAM_SPAN, child_id

PROVIDER = "aws.sagemaker"
OPERATIONS: dict[str, str] = {
    Surface.CHAT: "chat",
    Surface.COMPLETIONS: "text_completion",
    Surface.GENERATE: "text_completion",
}
"""What the conventions call a surface; others keep their own word."""
STREAM_NAME = "stream"
HEAD_EVENT, FIRST_EVENT, LAST_EVENT = "response_head", "first_token", "last_token"


class Place(NamedTuple):
    """Where a deployment is called."""

    address: str
    port: int
    region: str


Places = Mapping[tuple[str, str], Place]
"""By model and deployment, as records name them."""


@dataclass(frozen=True, slots=True)
class Span:
    """One span, before it is anybody's format. Times are those of the record: seconds of the monotonic clock."""

    name: str
    kind: Literal["server", "client", "internal"]
    span_id: str
    parent_id: str | None
    began: float
    ended: float
    attributes: dict[str, Value]
    events: list[tuple[str, float]] = field(default_factory=list)
    failed: bool = False


def spans_of(record: CallRecord, trace: Trace, places: Places) -> list[Span]:
    """Return the call's span, then what is below it, in the order of time."""
    ended = record.began + record.seconds
    spans = [_call(record, trace, ended)]
    spans += [_attempt(record, trace, number, made, places) for number, made in enumerate(record.tries, start=1)]
    if record.first_event_s is not None:
        spans.append(_stream(record, trace, record.began + record.first_event_s, ended))
    return spans


def count(record: CallRecord) -> int:
    """Return how many spans a record makes."""
    return 1 + len(record.tries) + (record.first_event_s is not None)


def _call(record: CallRecord, trace: Trace, ended: float) -> Span:
    operation = OPERATIONS.get(record.surface, record.surface)
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": PROVIDER,
        # Another method is answered by `method_not_allowed`, and its name is the caller's text.
        "http.request.method": "_OTHER" if record.code == MethodNotAllowed.code else "POST",
        "lmi_gateway.surface": record.surface,
        "lmi_gateway.request_id": record.request_id,
        "lmi_gateway.attempts": record.attempts if record.lane else 0,
        "lmi_gateway.queue_s": record.queue_s,
    }
    if record.asked is not None:
        attributes |= record.asked.attributes
        content = record.asked.content()
        if content is not None:
            attributes["gen_ai.input.messages"] = content
    told: dict[str, Value | None] = {
        "gen_ai.response.model": record.model if record.code == "ok" else "",
        "gen_ai.response.time_to_first_chunk": record.first_event_s,
        "http.request.body.size": record.bytes_in,
        "http.response.body.size": record.bytes_out,
        "http.response.status_code": record.status,
        "lmi_gateway.key_id": record.key_id,
        "lmi_gateway.team": record.team,
        "lmi_gateway.deployment": record.lane,
        "lmi_gateway.stream.ending": record.ending,
        "error.type": _error(record.code),
    }
    usage = record.usage
    if usage is not None:
        attributes["gen_ai.usage.input_tokens"] = usage.prompt_tokens
        attributes["gen_ai.usage.output_tokens"] = usage.completion_tokens
        told["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
    return Span(
        f"{operation} {record.model}".rstrip(),
        "server",
        trace.span_id,
        trace.parent_id,
        record.began,
        ended,
        attributes | {name: value for name, value in told.items() if value},
        failed=_failed(record),
    )


def _attempt(record: CallRecord, trace: Trace, number: int, made: Try, places: Places) -> Span:
    attributes: dict[str, Value] = {
        "gen_ai.operation.name": OPERATIONS.get(record.surface, record.surface),
        "gen_ai.provider.name": PROVIDER,
        "gen_ai.request.model": record.model,
        "lmi_gateway.deployment": made.lane,
        "lmi_gateway.attempt": number,
    }
    place = places.get((record.model, made.lane))
    if place is not None:
        attributes["server.address"], attributes["server.port"] = place.address, place.port
        attributes["cloud.region"] = place.region
    if made.status:
        attributes["http.response.status_code"] = made.status
    error = _error(made.code)
    if error:
        attributes["error.type"] = error
    events = [(HEAD_EVENT, made.head)] if made.head is not None else []
    return Span(
        f"invoke {made.lane}",
        "client",
        child_id(trace, number),
        trace.span_id,
        made.began,
        made.ended,
        attributes,
        events,
        failed=made.code not in ("ok", "cancelled"),
    )


def _stream(record: CallRecord, trace: Trace, began: float, ended: float) -> Span:
    attributes: dict[str, Value] = {
        "lmi_gateway.stream.events": record.events,
        "lmi_gateway.stream.ending": record.ending,
    }
    error = _error(record.code)
    if error:
        attributes["error.type"] = error
    events = [(FIRST_EVENT, began)]
    if record.decoding_s:
        last = min(began + record.decoding_s, ended)
        events.append((LAST_EVENT, last))
        ended = last
    return Span(
        STREAM_NAME,
        "internal",
        child_id(trace, STREAM_SPAN),
        trace.span_id,
        began,
        ended,
        attributes,
        events,
        failed=_failed(record),
    )


def _error(code: str) -> str:
    return "" if code == "ok" else code


def _failed(record: CallRecord) -> bool:
    """Tell whether the gateway or what is behind it failed; a caller who did wrong, or left, is no failure of a server.

    https://opentelemetry.io/docs/specs/semconv/http/http-spans/#status
    """
    return record.code not in ("ok", "cancelled") and (record.status >= 500 or record.status == 200)
