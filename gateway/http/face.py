"""What tells one public API from another: how its requests are read, and how its answers and errors are written.

Everything else about a generating call is the same for all of them, and stands in route.py.
"""

from __future__ import annotations

import gc
from time import monotonic
from typing import Protocol

from adapters.base import Call, Surface, Whole
from adapters.openai.request import Draft, check, read
from gateway.auth.principal import Principal
from gateway.errors import GatewayError
from gateway.http.errors import headers_of
from gateway.http.protocol import header_lines
from gateway.routing.catalog import Catalog, ServedModel
from gateway.telemetry.events import CallRecord, shares_s

JSON_HEADERS = b"content-type: application/json\r\n"
STREAM_HEADERS = (
    b"content-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\nx-accel-buffering: no\r\n"
)
LARGE_BYTES = 256 * 1024


class Face(Protocol):
    """One public API, as far as a generating call is concerned."""

    surface: str
    """Names it in records and metrics."""

    def take(self, body: bytes, principal: Principal, name: str | None, record: CallRecord) -> tuple[ServedModel, Call]:
        """Return the model that a request's body means, and the call it makes; `record` gets the model's name first.

        Args:
            name: the model that the URL names, which then goes before whatever the body says.

        Raises:
            GatewayError: there is no such model for this key, or the body is refused.
            BadRequest: the body is refused.
        """
        ...

    def whole(self, call: Call, whole: Whole, record: CallRecord) -> tuple[bytes, bytes]:
        """Return a whole answer's header lines and its body."""
        ...

    def begin(self, call: Call, record: CallRecord) -> bytes:
        """Return the header lines of a streamed answer."""
        ...

    def refusal(self, error: GatewayError, record: CallRecord) -> tuple[int, bytes, bytes]:
        """Return the status, header lines and body of an error."""
        ...

    def event(self, error: GatewayError) -> bytes:
        """Return the server-sent event with which a stream that has begun ends in place of an answer."""
        ...


class OpenAIFace:
    """One of OpenAI's generating surfaces."""

    def __init__(self, surface: Surface, catalog: Catalog) -> None:
        self.surface: str = surface
        self._surface = surface
        self._catalog = catalog

    def take(self, body: bytes, principal: Principal, name: str | None, record: CallRecord) -> tuple[ServedModel, Call]:
        draft = (read if len(body) < LARGE_BYTES else _read_large)(self._surface, body, name)
        model = self._catalog.find(draft.model, principal)
        record.model = model.name
        return model, check(draft, model.policy)

    def whole(self, call: Call, whole: Whole, record: CallRecord) -> tuple[bytes, bytes]:
        return JSON_HEADERS + _timing(record), whole.body

    def begin(self, call: Call, record: CallRecord) -> bytes:
        return STREAM_HEADERS + _timing(record)

    def refusal(self, error: GatewayError, record: CallRecord) -> tuple[int, bytes, bytes]:
        return error.status, JSON_HEADERS + header_lines(headers_of(error)) + _timing(record), error.body()

    def event(self, error: GatewayError) -> bytes:
        return error.event()


def times_s(record: CallRecord) -> tuple[float, float]:
    """Return how long a call has taken so far, and how much of that was waiting for the upstream."""
    now = monotonic()
    total_s, upstream_s = now - record.began, record.upstream_s
    if record.trying_since is not None:
        upstream_s += now - record.trying_since
    return total_s, min(upstream_s, total_s)


def server_timing(record: CallRecord, total_s: float, upstream_s: float) -> bytes:
    """Return the header line that says where a call's time went until now: https://www.w3.org/TR/server-timing/"""
    line = b"server-timing: gateway;dur=%.1f, " % (max(total_s - upstream_s - record.queue_s, 0.0) * 1000)
    if record.queue_s:
        line += b"queue;dur=%.1f, " % (record.queue_s * 1000)
    if record.stream and record.tries and record.tries[-1].code == "ok":
        sagemaker_s, first_s = shares_s(record.tries)
        line += b"sagemaker;dur=%.1f, first-token;dur=%.1f, " % (sagemaker_s * 1000, first_s * 1000)
    return line + b"upstream;dur=%.1f\r\n" % (upstream_s * 1000)


def _timing(record: CallRecord) -> bytes:
    total_s, upstream_s = times_s(record)
    return b"%bx-request-id: %b\r\nopenai-processing-ms: %d\r\n%b" % (
        record.limit_headers,
        record.request_id.encode(),
        total_s * 1000,
        server_timing(record, total_s, upstream_s),
    )


def _read_large(surface: Surface, body: bytes, name: str | None) -> Draft:
    """Read a body without garbage collections in between: over a million new objects they take most of the time."""
    gc.disable()
    try:
        return read(surface, body, name)
    finally:
        gc.enable()
