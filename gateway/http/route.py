"""A generating call, from the request's bytes to the answer's: `POST /v1/chat/completions` and its like.

1. Who is calling: the key, before the body is read.
2. The body: read, parsed once, its model looked up, its fields checked against the model's policy; its limits
   (`limits/`); with images and the like, made ready by `media/`.
3. The walk (`dispatch.py`) to a container and back.
4. The answer: a whole one in one write; a stream by a relay, which after its first event needs no task.

What a request and an answer look like is for the `Face` to say: OpenAI's (`face.py`) or TGI's (`tgi.py`). Questions
for tokens (`tgi_tokenize.py`) take the same way.
"""

from __future__ import annotations

import asyncio
import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Any

from adapters.base import Call, Whole
from adapters.openai.request import BadRequest
from gateway.dispatch import Dispatcher
from gateway.errors import GatewayError, InternalError, MethodNotAllowed, ShuttingDown
from gateway.http.authenticate import Authenticator
from gateway.http.errors import INTERNAL, from_adapter
from gateway.http.face import Face
from gateway.http.protocol import GatewayProtocol, connection_of
from gateway.http.relay import Ending, Relay
from gateway.http.request import read_body, read_head
from gateway.http.running import Running
from gateway.limits.admission import Admission, Permit
from gateway.media.prepare import Preparer
from gateway.routing.catalog import ServedModel
from gateway.telemetry.events import GAP_BUCKETS_S, CallRecord, Gaps, Sink, Telemetry
from gateway.telemetry.trace_context import continued
from gateway.telemetry.tracing import Tracing

log = logging.getLogger(__name__)

POST_ONLY = b"allow: POST\r\n"
Complete = Callable[[ServedModel, Call, CallRecord], Awaitable[Whole]]


class GeneratingRoute:
    """One generating surface."""

    def __init__(
        self,
        face: Face,
        *,
        authenticate: Authenticator,
        dispatcher: Dispatcher,
        complete: Complete | None = None,
        telemetry: Telemetry,
        sinks: Sequence[Sink] = (),
        tracing: Tracing | None = None,
        running: Running,
        admission: Admission,
        media: Preparer,
        max_body_bytes: int,
        write_timeout_s: float,
    ) -> None:
        """`complete` makes whole answers, if not the dispatcher's walk of that name."""
        self._face = face
        self._authenticate = authenticate
        self._dispatcher = dispatcher
        self._complete = complete or dispatcher.complete
        self._telemetry = telemetry
        self._sinks = sinks
        self._tracing = tracing
        self._wants_gaps = telemetry.wants_gaps or bool(sinks)
        self._running = running
        self._admission = admission
        self._media = media
        self._max_body_bytes = max_body_bytes
        self._write_timeout_s = write_timeout_s

    async def __call__(self, scope: Any, receive: Any, name: str | None = None) -> Relay | None:
        """Answer one request on the connection it came in on; return the relay of a stream that is still running.

        Never raises.

        Args:
            name: the model, where the URL names it.
        """
        face = self._face
        connection = connection_of(scope)
        headers = scope["headers"]
        head = read_head(headers)
        record = CallRecord(face.surface, head.request_id, monotonic())
        if self._tracing is not None:
            record.trace = self._tracing.begin(head.traceparent, headers)
        elif head.traceparent:
            record.trace = continued(head.traceparent, headers)
        self._telemetry.call_began()
        relay: Relay | None = None
        permit: Permit | None = None
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed("This URL answers POST only.")
            principal = self._authenticate(headers, scope["client"])
            record.key_id, record.team = principal.key_id, principal.team or ""
            record.measured = principal.measured
            body = await read_body(head, receive, self._max_body_bytes)
            if body is None:
                raise asyncio.CancelledError
            record.bytes_in = len(body)
            model, call = face.take(body, principal, name, record)
            if self._tracing is not None:
                self._tracing.called(record, call)
            if call.max_tokens is not None:
                record.asked_tokens = call.max_tokens * call.choices
            try:
                permit = await self._admission.enter(
                    principal, model.name, call, functools.partial(_stand_in_line, record, connection)
                )
            finally:
                if record.queued_at is not None:
                    record.queue_s = monotonic() - record.queued_at
            record.limit_headers = permit.header_lines
            if call.media or len(body) > self._media.max_bytes:
                _Waiter(connection)  # a caller who leaves meanwhile stops what is fetched for the call
                call = await self._media.prepare(call, model.name)
            if not call.stream:
                await self._whole(model, call, record, connection, permit)
            else:
                record.stream = True
                if self._wants_gaps:
                    record.gaps = Gaps([0] * (len(GAP_BUCKETS_S) + 1))
                relay = Relay(
                    connection,
                    keep_alive_s=model.config.keep_alive_s,
                    write_timeout_s=self._write_timeout_s,
                    event_of=face.event,
                    gaps=record.gaps,
                )
                await self._first_event(model, call, record, connection, relay, permit)
                return relay
        except GatewayError as error:
            self._refuse(error, record, connection, relay, permit)
        except BadRequest as error:
            self._refuse(from_adapter(error), record, connection, relay, permit)
        except asyncio.CancelledError:
            # Either the caller has left, which cancels this task, or the server is stopping: then it is still there.
            if relay is not None and relay.started and relay.ending is not None:
                self._stream_over(record, permit, relay)
            elif connection.refused is not None:  # below HTTP, while the body was read
                record.code, record.status = connection.refused.code, connection.refused.status
                record.bytes_out = len(connection.refused.body())
            else:
                record.code = "cancelled"
                record.ending = Ending.CANCELLED if record.stream else ""
                if self._running.stopping and connection.answerable:
                    self._refuse(ShuttingDown("The gateway is shutting down."), record, connection, relay, permit)
        except Exception as error:
            log.error("unexpected error", exc_info=error, extra={"request_id": record.request_id})
            self._refuse(InternalError(INTERNAL), record, connection, relay, permit)
        if relay is not None:
            self._running.streams.discard(relay)
            relay.detach()
        self._ended(record, permit)
        return None

    async def _whole(
        self, model: ServedModel, call: Call, record: CallRecord, connection: GatewayProtocol, permit: Permit
    ) -> None:
        waiter = _Waiter(connection)
        whole = await self._complete(model, call, record)
        if waiter.gone:
            raise asyncio.CancelledError
        record.usage = whole.usage
        record.status = 200
        headers, body = self._face.whole(call, whole, record)
        record.bytes_out = len(body)
        self._ended(record, permit)
        connection.answer(200, headers, body)

    async def _first_event(
        self,
        model: ServedModel,
        call: Call,
        record: CallRecord,
        connection: GatewayProtocol,
        relay: Relay,
        permit: Permit,
    ) -> None:
        """Return when the status and the first event have been sent."""

        def send_status() -> None:
            relay.start(self._face.begin(call, record))

        self._running.streams.add(relay)
        # A load balancer in front cuts a connection that stays silent: so the status cannot be held back for ever.
        holding = connection.loop.call_later(model.config.hold_status_s, send_status)
        try:
            await self._dispatcher.stream(model, call, record, relay)
        finally:
            holding.cancel()
        relay.then(functools.partial(self._stream_over, record, permit))
        send_status()

    def _stream_over(self, record: CallRecord, permit: Permit | None, relay: Relay) -> None:
        self._running.streams.discard(relay)
        record.status = 200
        record.ending = relay.ending or ""
        record.bytes_out = relay.bytes_out
        if relay.first_event_at is not None:
            record.first_event_s = relay.first_event_at - record.began
            if record.gaps is not None:
                record.decoding_s = record.gaps.total_s = relay.last_event_at - relay.first_event_at
        decoder = relay.decoder
        if decoder is not None:
            record.usage, record.events, record.dropped = decoder.usage, decoder.chunks, decoder.dropped
        if relay.error is not None:
            record.code, record.detail = relay.error.code, relay.error.detail
        elif relay.ending is not Ending.COMPLETE:
            record.code = "cancelled"
        self._ended(record, permit)

    def _ended(self, record: CallRecord, permit: Permit | None) -> None:
        """Count a call, once: before its last bytes, so that no answer is seen that has not been counted."""
        if record.ended:
            return
        record.ended = True
        record.seconds = monotonic() - record.began
        try:
            if permit is not None:
                # A caller who left is not a container that failed: what was asked for has been worked on.
                left = record.code in ("cancelled", ShuttingDown.code) and record.lane != ""
                charge = permit.settle(record.usage, delivered=record.events, worked=left)
                if charge is not None:
                    record.charged, record.money = charge
            self._telemetry.call_ended(record)
            for sink in self._sinks:
                sink.take(record)
        except Exception as error:  # what cannot be counted is no reason to fail, or to keep a connection
            log.error("unexpected error", exc_info=error, extra={"request_id": record.request_id})
        if record.code == ShuttingDown.code:
            self._running.cut_calls += 1

    def _refuse(
        self,
        error: GatewayError,
        record: CallRecord,
        connection: GatewayProtocol,
        relay: Relay | None,
        permit: Permit | None,
    ) -> None:
        if relay is not None and relay.started:
            relay.then(functools.partial(self._stream_over, record, permit))
            relay.fail(error)
            return
        record.code, record.detail = error.code, error.detail
        record.ending = Ending.FAILED if record.stream else ""
        record.status, headers, body = self._face.refusal(error, record)
        record.bytes_out = len(body)
        self._ended(record, permit)
        connection.answer(record.status, headers if record.status != 405 else headers + POST_ONLY, body)


class _Waiter:
    """A caller waiting for a whole reply: its leaving cancels the task that works for it."""

    __slots__ = ("_connection", "_task", "gone")

    def __init__(self, connection: GatewayProtocol) -> None:
        self._connection = connection
        self._task = asyncio.current_task(connection.loop)
        self.gone = False
        connection.listen(self)

    def on_gone(self) -> None:
        self.gone = True
        if self._task is not None:
            self._task.cancel()

    def on_pause(self) -> None:
        """Nothing is being written yet."""

    def on_resume(self) -> None:
        """Nothing is being written yet."""

    def probe(self) -> None:
        self._connection.interim()


def _stand_in_line(record: CallRecord, connection: GatewayProtocol) -> None:
    record.queued_at = monotonic()
    _Waiter(connection)  # a caller who leaves gives up its place
