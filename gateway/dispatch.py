"""The walk of a call, from a checked request to a container and back.

1. `http/` reads the request: key, model, fields.
2. A lane is chosen (`routing/`): the deployment first, because the container behind it decides the dialect.
3. The lane's adapter encodes the untouched request for its container.
4. `sagemaker/` sends it and hands back what comes.
5. The adapter decodes: a whole reply, or events to the relay.
6. A failure that left nothing running upstream may go back to 2, within the retry budget, and only before the first
   event. A stream's first event is awaited here, so that such a failure is still an HTTP status.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Protocol, TypeVar

from adapters.base import Assembler, Call, StreamDecoder, Whole
from adapters.errors import ContainerFault, MalformedReply, UnsupportedParameter
from adapters.openai.assemble import prefers_stream, streamable
from gateway.errors import (
    GatewayError,
    UnsupportedParameterError,
    UpstreamError,
    UpstreamProtocol,
    UpstreamTimeout,
)
from gateway.faults import from_container
from gateway.routing.attempts import RetryBudget, backoff_s
from gateway.routing.catalog import ServedModel
from gateway.routing.lane import Lane
from gateway.sagemaker.errors import ContainerError, fault
from gateway.sagemaker.transport import Head, Receiver, Stream
from gateway.telemetry.events import CallRecord, Telemetry, Try
from gateway.telemetry.trace_context import traceparent_of

T = TypeVar("T")
DRAIN_S = 2.0
"""After the last event the upstream gets this long to end its reply, so that its connection can be used again."""
NOTHING_MISSING = (UpstreamError, UpstreamProtocol, UpstreamTimeout)
"""How a connection may end after the last record of an answer: what is missing is no more than the end mark."""


class StreamSink(Receiver, Protocol):
    """Where a stream goes: see `http/relay.py`."""

    def expect(self, decoder: StreamDecoder) -> asyncio.Future[None]: ...

    def attach(self, stream: Stream) -> None: ...

    def detach(self) -> None: ...


class Dispatcher:
    """Walks calls."""

    def __init__(self, budget: RetryBudget, telemetry: Telemetry) -> None:
        self._budget = budget
        self._telemetry = telemetry

    async def complete(self, model: ServedModel, call: Call, record: CallRecord) -> Whole:
        """Return a whole reply.

        Raises:
            GatewayError: every attempt failed; this is the last one's reason.
        """
        as_stream = fetch_as_stream(model, call)

        async def attempt(lane: Lane, head: Head) -> Whole:
            if as_stream and lane.target.streams:
                return await self._assembled(lane, call, record, head)
            body = _encode(lane, call, stream=False)
            reply = await lane.target.invoke(body, record.request_id, head, _traceparent(record))
            try:
                decoded = lane.adapter.decode_whole(call, reply)
            except MalformedReply as error:
                raise fault(UpstreamProtocol, f"malformed reply: {error}") from error
            if isinstance(decoded, ContainerFault):
                raise from_container(decoded)
            return decoded

        return await self._attempts(model, call, record, attempt)

    async def stream(self, model: ServedModel, call: Call, record: CallRecord, sink: StreamSink) -> StreamDecoder:
        """Return once the first event of a stream has reached `sink`, which from then on is on its own.

        Raises:
            GatewayError: every attempt failed before its first event.
        """

        async def attempt(lane: Lane, head: Head) -> StreamDecoder:
            if not lane.target.streams:
                raise UnsupportedParameterError("This model cannot stream its answers.", param="stream")
            body = _encode(lane, call, stream=True)
            decoder = lane.adapter.stream_decoder(call)
            first = sink.expect(decoder)
            try:
                sink.attach(await lane.target.stream(body, record.request_id, sink, head, _traceparent(record)))
                await first
            except BaseException:
                sink.detach()
                raise
            return decoder

        return await self._attempts(model, call, record, attempt, lasts=True)

    async def ask(self, model: ServedModel, body: bytes, record: CallRecord) -> bytes:
        """Return a container's reply to what is no call for an answer, as it is.

        Raises:
            GatewayError: every attempt failed; this is the last one's reason.
        """

        async def attempt(lane: Lane, head: Head) -> bytes:
            return await lane.target.invoke(body, record.request_id, head, _traceparent(record))

        return await self._attempts(model, None, record, attempt)

    async def _assembled(self, lane: Lane, call: Call, record: CallRecord, head: Head) -> Whole:
        body = _encode(lane, call, stream=True)
        receiver = _Assembling(lane.adapter.assembler(call))
        stream = await lane.target.stream(body, record.request_id, receiver, head, _traceparent(record))
        try:
            return await receiver.whole
        finally:
            stream.abort()

    async def _attempts(
        self,
        model: ServedModel,
        call: Call | None,
        record: CallRecord,
        attempt: Callable[[Lane, Head], Awaitable[T]],
        *,
        lasts: bool = False,
    ) -> T:
        """Make attempts until one succeeds, which is then over, or `lasts` as long as the call."""
        self._budget.first_attempt()
        telemetry = self._telemetry
        tried: list[Lane] = []
        while True:
            lane = model.balancer.choose(tried)
            if tried:
                telemetry.retried(model.name, "same" if lane in tried else "other")
            name = record.lane = lane.target.name
            record.stops = lane.stops
            head = Head()
            began = record.trying_since = monotonic()
            telemetry.attempt_began(model.name, name)
            code = "internal_error"
            try:
                result = await attempt(lane, head)
                code = "ok"
                return result
            except ContainerError as error:
                failure = from_container(lane.adapter.decode_error(error.status, error.body, call))
                code = failure.code
            except GatewayError as error:
                failure = error
                code = failure.code
            except asyncio.CancelledError:
                code = "cancelled"
                raise
            finally:
                ended = monotonic()
                record.trying_since = None
                record.upstream_s += ended - began
                record.head_s = None if head.at is None else head.at - began
                record.tries.append(Try(name, began, head.at, ended, code, head.status))
                telemetry.attempt(model.name, name, code, lasts=lasts and code == "ok")
            tried.append(lane)
            if not failure.retryable or len(tried) >= model.config.attempts or not self._budget.spend():
                raise failure
            record.attempts += 1
            await asyncio.sleep(backoff_s(len(tried) + 1))


class _Assembling:
    """Gathers a stream into a whole reply."""

    def __init__(self, assembler: Assembler) -> None:
        self._assembler = assembler
        self._ending = False
        self.whole: asyncio.Future[Whole] = asyncio.get_running_loop().create_future()

    def on_payload(self, data: bytes) -> None:
        if self.whole.done() or self._ending:
            return
        self._assembler.feed(data)
        if not self._check() and self._assembler.over:
            # All has come; the upstream gets a moment to end its reply, so that its connection can be used again.
            self._ending = True
            self.whole.get_loop().call_later(DRAIN_S, self.on_end)

    def on_end(self) -> None:
        if self.whole.done():
            return
        whole = self._assembler.end()
        if whole is not None:
            self.whole.set_result(whole)
        elif not self._check():
            self.whole.set_exception(fault(UpstreamProtocol, "the stream held no reply"))

    def on_failure(self, error: GatewayError | ContainerError) -> None:
        if self.whole.done():
            return
        if self._assembler.complete and isinstance(error, NOTHING_MISSING):
            self.on_end()
        else:
            self.whole.set_exception(error)

    def _check(self) -> bool:
        assembler = self._assembler
        if assembler.fault is not None:
            self.whole.set_exception(from_container(assembler.fault))
        elif assembler.malformed is not None:
            self.whole.set_exception(fault(UpstreamProtocol, assembler.malformed))
        return self.whole.done()


def fetch_as_stream(model: ServedModel, call: Call) -> bool:
    """Tell whether a whole reply is fetched as a stream and assembled: docs/unary-streaming.md."""
    match model.config.unary:
        case "invoke":
            return False
        case "stream":
            return streamable(call)
        case "auto":
            return prefers_stream(call, model.config.unary_stream_above_tokens)


def _traceparent(record: CallRecord) -> str | None:
    """Return what a container may be told of the trace that its attempt belongs to."""
    return None if record.trace is None else traceparent_of(record.trace, len(record.tries) + 1)


def _encode(lane: Lane, call: Call, *, stream: bool) -> bytes:
    try:
        return lane.adapter.encode(call, stream=stream)
    except UnsupportedParameter as error:
        raise UnsupportedParameterError(str(error), param=error.param) from error
