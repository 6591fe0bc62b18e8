"""A collector of traces in place of OpenTelemetry's: takes OTLP over HTTP and keeps the spans, decoded.

https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import contextlib
import gzip
import socket
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1 import trace_pb2

WAIT_S = 15.0
KINDS = {2: "server", 1: "internal", 3: "client"}


@dataclass(frozen=True, slots=True)
class Received:
    """One span, as it arrived."""

    name: str
    kind: str
    trace_id: str
    span_id: str
    parent_id: str
    """Empty without a parent."""
    start_ns: int
    end_ns: int
    attributes: dict[str, Any]
    events: dict[str, int]
    """Name → nanoseconds since 1970."""
    failed: bool
    state: str
    resource: dict[str, Any]
    scope: tuple[str, str]


class Collector:
    """Collects; `status` and `hold` say what it answers, and whether it does so at all for now."""

    def __init__(self, reserved: socket.socket | None = None) -> None:
        """`reserved` is a bound socket to listen on, if not one on a free port."""
        self.status = 200
        self.hold: threading.Event | None = None
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self._spans: list[Received] = []
        self._changed = threading.Condition()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                collector.take(self.path, dict(self.headers), body)
                if collector.hold is not None:
                    collector.hold.wait(WAIT_S)
                with contextlib.suppress(OSError):  # the sender may have given up
                    self.send_response(collector.status)
                    self.send_header("content-length", "0")
                    self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Stay silent."""

        if reserved is None:
            reserved = socket.socket()
            reserved.bind(("127.0.0.1", 0))
        address = reserved.getsockname()
        self._server = ThreadingHTTPServer(address, Handler, bind_and_activate=False)
        self._server.socket.close()
        self._server.socket = reserved
        self._server.daemon_threads = True
        self._server.server_activate()
        self.url = f"http://127.0.0.1:{address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def take(self, path: str, headers: dict[str, str], body: bytes) -> None:
        headers = {name.lower(): value for name, value in headers.items()}
        if headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        with self._changed:
            self.paths.append(path)
            self.headers.append(headers)
            self.bodies.append(body)
            if self.status == 200:
                self._spans += _decoded(body)
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[Collector], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: condition(self), WAIT_S), f"{len(self._spans)} spans came"

    def of(self, request_id: str) -> list[Received]:
        """Return the spans of one call, its own first, once they have come."""
        self.wait_until(lambda _: bool(self._of(request_id)))
        return self._of(request_id)

    def _of(self, request_id: str) -> list[Received]:
        own = [span for span in self._spans if span.attributes.get("lmi_gateway.request_id") == request_id]
        if not own:
            return []
        (call,) = own
        below = [span for span in self._spans if span.trace_id == call.trace_id and span.parent_id == call.span_id]
        return [call, *sorted(below, key=lambda span: span.start_ns)]

    @property
    def spans(self) -> list[Received]:
        with self._changed:
            return list(self._spans)

    def close(self) -> None:
        if self.hold is not None:
            self.hold.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(WAIT_S)


@contextlib.contextmanager
def collecting() -> Iterator[Collector]:
    collector = Collector()
    try:
        yield collector
    finally:
        collector.close()


def _decoded(body: bytes) -> Iterator[Received]:
    request = ExportTraceServiceRequest.FromString(body)
    for resource in request.resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield Received(
                    span.name,
                    KINDS[span.kind],
                    span.trace_id.hex(),
                    span.span_id.hex(),
                    span.parent_span_id.hex(),
                    span.start_time_unix_nano,
                    span.end_time_unix_nano,
                    _values(span.attributes),
                    {event.name: event.time_unix_nano for event in span.events},
                    span.status.code == trace_pb2.Status.STATUS_CODE_ERROR,
                    span.trace_state,
                    _values(resource.resource.attributes),
                    (scope.scope.name, scope.scope.version),
                )


def _values(attributes: Any) -> dict[str, Any]:
    return {item.key: getattr(item.value, item.value.WhichOneof("value")) for item in attributes}
