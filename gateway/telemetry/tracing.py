"""Traces: where a call stands in one, and its spans once it is over.

A call costs the event loop no more than its ids, the sampler's word and a place in a queue; a thread makes its spans
afterwards and hands them to OpenTelemetry's SDK (`otlp.py`), which sends them. Nothing here can hold up a call: what
finds the queue full is dropped, and counted.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Mapping
from time import monotonic, time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from adapters.base import Call
from gateway.config.settings import Settings
from gateway.telemetry.events import CallRecord, Trace
from gateway.telemetry.silence import SilentTraces
from gateway.telemetry.spans import Places, count, spans_of
from gateway.telemetry.trace_content import asked
from gateway.telemetry.trace_context import Headers, begun, continued, new_trace_id

if TYPE_CHECKING:
    from gateway.telemetry.otlp import Otlp

log = logging.getLogger(__name__)

STOP_S = 5.0
"""What the last spans get to be sent in when the gateway stops."""
LOOK_S = 0.2
"""How often the thread looks for calls that have ended: to be woken for each would cost them more than this."""
SWITCH_S = 0.0005
"""How long the thread may keep the interpreter from the event loop, in place of 5 ms."""
QUEUE_VARIABLE = "OTEL_BSP_MAX_QUEUE_SIZE"
QUEUE_SIZE = 2048
PROTOCOL = "http/protobuf"


class Tracing:
    """Begins traces, and takes what has become of their calls. Made where nothing else runs yet."""

    def __init__(
        self, sdk: Otlp, metrics: SilentTraces, places: Places, *, content_chars: int | None, max_queue: int
    ) -> None:
        """`content_chars` of each text of a prompt are recorded, None for no content at all."""
        self._sdk = sdk
        self._metrics = metrics
        self._places = places
        self._content_chars = content_chars
        self._max_queue = max_queue
        self._records: deque[CallRecord] = deque()
        self._stopping = threading.Event()
        self._deadline: float | None = None
        self._thread = threading.Thread(target=self._run, name="traces", daemon=True)
        self._switch_s = sys.getswitchinterval()

    def begin(self, traceparent: bytes, headers: Headers) -> Trace:
        """Return where a call stands, by its caller's headers; `traceparent` is empty without one."""
        parent = continued(traceparent, headers) if traceparent else None
        trace_id = new_trace_id() if parent is None else parent.trace_id
        return begun(parent, trace_id, sampled=self._sdk.is_sampled(parent, trace_id))

    def called(self, record: CallRecord, call: Call) -> None:
        """Keep what is needed of a sampled call, as the call itself will be gone by then."""
        if record.trace is not None and record.trace.sampled:
            try:
                record.asked = asked(call, self._content_chars)
            except Exception as error:  # what cannot be recorded is no reason to fail
                log.error("unexpected error", exc_info=error, extra={"request_id": record.request_id})

    def take(self, record: CallRecord) -> None:
        if record.trace is None or not record.trace.sampled:
            return
        if len(self._records) >= self._max_queue:
            self._metrics.spans("dropped", count(record))
        else:
            self._records.append(record)

    def start(self) -> None:
        sys.setswitchinterval(min(SWITCH_S, self._switch_s))
        self._sdk.start()
        self._thread.start()

    def stop(self) -> None:
        """Send what there is, and end; takes no longer than STOP_S."""
        self._deadline = monotonic() + STOP_S
        self._stopping.set()
        self._thread.join(STOP_S)
        self._sdk.stop(self._deadline - monotonic())
        sys.setswitchinterval(self._switch_s)

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_S):
            self._make_spans()
        self._make_spans()

    def _make_spans(self) -> None:
        since_epoch_s = time() - monotonic()
        while self._records:
            record, handed = self._records.popleft(), 0
            try:
                assert record.trace is not None  # noqa: S101 - no others are taken
                for span in spans_of(record, record.trace, self._places):
                    self._sdk.hand(span, record.trace, since_epoch_s, lambda: self._deadline)
                    handed += 1
            except Exception as error:
                self._metrics.spans("failed", count(record) - handed)
                log.error("unexpected error", exc_info=error, extra={"request_id": record.request_id})


def is_on(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Tell whether traces are wanted: by the setting, unless OpenTelemetry's SDK is switched off as a whole."""
    return settings.traces_exporter == "otlp" and environ.get("OTEL_SDK_DISABLED", "").strip().lower() != "true"


def fault_of(settings: Settings, environ: Mapping[str, str]) -> str | None:
    """Say why the gateway cannot trace although it shall; None if it can, or need not. No value is repeated."""
    if not is_on(settings, environ):
        return None
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
        if (environ.get(variable) or PROTOCOL) != PROTOCOL:
            return f"{variable}: the gateway sends traces by {PROTOCOL} only"
    for variable in ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"):
        if environ.get(variable) and not _is_url(environ[variable]):
            return f"{variable}: expected a URL such as http://127.0.0.1:4318"
    queue = environ.get(QUEUE_VARIABLE) or "1"
    if not queue.isdecimal() or not 0 < int(queue) <= 1_000_000:
        return f"{QUEUE_VARIABLE}: expected a whole number from 1 to 1000000"
    try:
        from gateway.telemetry.otlp import Otlp  # imported late, as in `make`

        sdk = Otlp(lambda outcome, spans: None, max_queue=int(environ.get(QUEUE_VARIABLE) or QUEUE_SIZE))
        sdk.start()
        sdk.stop(1.0)
    except ImportError:
        return "traces_exporter: otlp needs OpenTelemetry: see docs/tracing.md"
    except Exception as error:  # its text may quote a header
        return f"OpenTelemetry refuses one of its OTEL_ variables: {type(error).__name__}"
    return None


def make(settings: Settings, environ: Mapping[str, str], metrics: SilentTraces, places: Places) -> Tracing:
    """Return what traces, not started yet.

    Raises:
        ImportError: the extra `otel` is not installed.
        ValueError: the SDK refuses one of its variables.
    """
    from gateway.telemetry.otlp import Otlp  # imported late: without traces nobody needs the SDK

    max_queue = int(environ.get(QUEUE_VARIABLE) or QUEUE_SIZE)
    content_chars = settings.trace_content_chars if settings.trace_content else None
    sdk = Otlp(metrics.spans, max_queue=max_queue)
    return Tracing(sdk, metrics, places, content_chars=content_chars, max_queue=max_queue)


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False
