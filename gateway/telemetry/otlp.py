"""OpenTelemetry's SDK, as far as the gateway uses it: who is sampled, and spans on their way to a collector.

The only module that needs the extra `otel`. The SDK reads its own variables:
https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/ and
https://opentelemetry.io/docs/specs/otel/protocol/exporter/
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Sequence
from time import monotonic
from uuid import uuid4

from opentelemetry.attributes import BoundedAttributes
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import Event, ReadableSpan, SpanLimits, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.sampling import Decision
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, TraceFlags, TraceState, set_span_in_context
from opentelemetry.trace.status import Status, StatusCode

from gateway import __version__
from gateway.telemetry.events import Trace
from gateway.telemetry.spans import Span

log = logging.getLogger(__name__)

SERVICE = "lmi-gateway"
KINDS = {"server": SpanKind.SERVER, "client": SpanKind.CLIENT, "internal": SpanKind.INTERNAL}
_SAMPLED, _NOT_SAMPLED = TraceFlags(TraceFlags.SAMPLED), TraceFlags(TraceFlags.DEFAULT)
INT64 = range(-(1 << 63), 1 << 63)
BATCH_VARIABLE = "OTEL_BSP_MAX_EXPORT_BATCH_SIZE"
BATCH_SIZE = 512
NO_REASON = "no success in time"
_LIBRARIES = "opentelemetry"
_warned: set[str] = set()
"""What has been logged already: the variables are read once to be checked, and once to be used."""


class Otlp:
    """Everything between the gateway's spans and the collector."""

    def __init__(self, counted: Callable[[str, int], None], *, max_queue: int) -> None:
        """`counted` hears, on other threads, what became of how many spans; at most `max_queue` wait to be sent.

        Raises:
            ValueError: the SDK refuses one of its variables.
        """
        self._said = _Said()
        self._max_queue = max_queue
        self._sampler = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False).sampler
        self._limits = SpanLimits()
        self._resource = _resource()
        self._scope = InstrumentationScope(SERVICE, __version__)
        self._exporter = _Counting(OTLPSpanExporter(), self._gone, self._said)
        self._counted = counted
        self._room = threading.Condition()
        self._under_way = 0
        self._processor: BatchSpanProcessor | None = None
        self._said.done()

    def is_sampled(self, parent: Trace | None, trace_id: str) -> bool:
        """Return what the sampler says of a call in the caller's trace, or in one that begins with it."""
        context = Context()
        if parent is not None and parent.parent_id is not None:
            above = SpanContext(
                int(trace_id, 16), int(parent.parent_id, 16), True, _SAMPLED if parent.sampled else _NOT_SAMPLED
            )
            context = set_span_in_context(NonRecordingSpan(above), context)
        return self._sampler.should_sample(context, int(trace_id, 16), "").decision is Decision.RECORD_AND_SAMPLE

    def start(self) -> None:
        """Get ready to send.

        Raises:
            ValueError: the SDK refuses one of its variables.
        """
        # The SDK's own queue overflows in silence: `hand` waits before it can.
        batch = None if os.environ.get(BATCH_VARIABLE) else min(BATCH_SIZE, self._max_queue)
        self._processor = BatchSpanProcessor(
            self._exporter, max_queue_size=self._max_queue, max_export_batch_size=batch
        )

    def hand(self, span: Span, trace: Trace, since_epoch_s: float, deadline: Callable[[], float | None]) -> None:
        """Hand a span on; waits while the queue is full, and gives up on the span once `deadline` is past.

        Args:
            since_epoch_s: what makes a time of the monotonic clock one since 1970.
            deadline: on the monotonic clock; None while there is none.
        """
        readable = self._readable(span, trace, since_epoch_s)
        with self._room:
            while self._under_way >= self._max_queue:
                until = deadline()
                if until is not None and monotonic() >= until:
                    self._counted("dropped", 1)
                    return
                self._room.wait(0.1)
            self._under_way += 1
        assert self._processor is not None  # noqa: S101 - started before anything is handed on
        self._processor.on_end(readable)

    def stop(self, timeout_s: float) -> None:
        """Send what there is, within `timeout_s`; the rest is dropped."""
        if self._processor is None:
            return
        # The SDK waits longer than a process that is told to stop may, and cannot be told how long.
        flushing = threading.Thread(target=self._processor.shutdown, name="traces: last flush", daemon=True)
        flushing.start()
        flushing.join(max(timeout_s, 0.0))
        if flushing.is_alive():
            self._exporter.shutdown()
        with self._room:
            left, self._under_way = self._under_way, 0
        if left:
            self._counted("dropped", left)

    def _gone(self, outcome: str, spans: int) -> None:
        with self._room:
            late = spans > self._under_way  # after `stop`, which has counted them
            self._under_way = max(self._under_way - spans, 0)
            self._room.notify_all()
        if not late:
            self._counted(outcome, spans)

    def _readable(self, span: Span, trace: Trace, since_epoch_s: float) -> ReadableSpan:
        def at(seconds: float) -> int:
            return int((seconds + since_epoch_s) * 1e9)

        def context(span_id: str, *, remote: bool = False) -> SpanContext:
            return SpanContext(int(trace.trace_id, 16), int(span_id, 16), remote, _SAMPLED, state)

        state = TraceState.from_header([trace.state]) if trace.state else TraceState()
        limits = self._limits
        return ReadableSpan(
            span.name,
            context=context(span.span_id),
            parent=context(span.parent_id, remote=span.kind == "server") if span.parent_id else None,
            resource=self._resource,
            attributes=BoundedAttributes(
                limits.max_span_attributes,
                # OTLP has no larger numbers, and one would take a whole batch with it: usage is a container's word.
                {
                    name: value
                    for name, value in span.attributes.items()
                    if not isinstance(value, int) or value in INT64
                },
                immutable=False,
                max_value_len=limits.max_span_attribute_length,
            ),
            events=[Event(name, timestamp=at(moment)) for name, moment in span.events],
            kind=KINDS[span.kind],
            status=Status(StatusCode.ERROR if span.failed else StatusCode.UNSET),
            start_time=at(span.began),
            end_time=at(span.ended),
            instrumentation_scope=self._scope,
        )


class _Counting(SpanExporter):
    """An exporter whose outcomes are counted, and whose failures are logged when they begin and when they end."""

    def __init__(self, inner: SpanExporter, gone: Callable[[str, int], None], said: _Said) -> None:
        self._inner = inner
        self._gone = gone
        self._said = said
        self._failing = False

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self._said.reason = NO_REASON
        try:
            sent = self._inner.export(spans) is SpanExportResult.SUCCESS
        except Exception as error:  # the SDK would log it whole, and it may quote what is being sent
            self._said.reason, sent = type(error).__name__, False
        self._gone("exported" if sent else "failed", len(spans))
        if sent and self._failing:
            log.info("traces are sent again")
        elif not sent and not self._failing:
            log.warning("traces cannot be sent", extra={"detail": self._said.reason})
        self._failing = not sent
        return SpanExportResult.SUCCESS if sent else SpanExportResult.FAILURE

    def shutdown(self) -> None:
        self._inner.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        return True


class _Said(logging.Handler):
    """Hears what the SDK logs, in place of the log: its lines quote headers and URLs, and come with every batch.

    While the SDK reads its variables its warnings are logged, without the values in them; later ones are only looked
    through for the reason of a failure.
    """

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.reason = NO_REASON
        """The status of the collector's last answer, or the name of an error's type."""
        self._reading = True
        logger = logging.getLogger(_LIBRARIES)
        logger.handlers[:] = [self]
        logger.propagate = False

    def done(self) -> None:
        """The variables have been read."""
        self._reading = False

    def emit(self, record: logging.LogRecord) -> None:
        arguments = record.args if isinstance(record.args, tuple) else ()
        if self._reading:
            # With arguments the message is a fixed text that they would be put into.
            detail = record.msg if arguments and isinstance(record.msg, str) else f"{record.name}, {record.funcName}"
            if detail not in _warned:
                log.warning("a variable of opentelemetry is not understood", extra={"detail": detail})
            _warned.add(detail)
            return
        for argument in arguments:
            if isinstance(argument, int) and 400 <= argument < 600:
                self.reason = f"status {argument}"
            elif isinstance(argument, BaseException):
                self.reason = type(argument).__name__


def _resource() -> Resource:
    """Return what the variables say of this process, completed."""
    found = Resource.create({})
    own: dict[str, str] = {"service.version": __version__, "service.instance.id": str(uuid4())}
    if str(found.attributes.get("service.name", "")).startswith("unknown_service"):
        own["service.name"] = SERVICE
    return found.merge(
        Resource({name: value for name, value in own.items() if name == "service.name" or name not in found.attributes})
    )
