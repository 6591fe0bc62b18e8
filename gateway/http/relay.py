"""One streamed answer: the container's events to the caller, as they come.

A relay is called by the upstream connection and writes to the caller's: no task, queue or await per event, and events
that arrive together leave together. Before the first event it holds back, so that an early failure can still be an
HTTP status, or another attempt. A slow reader stops the upstream socket; a caller who leaves closes it.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections.abc import Callable
from enum import StrEnum
from time import monotonic

from adapters.base import StreamDecoder
from gateway.dispatch import DRAIN_S as DRAIN_S
from gateway.dispatch import NOTHING_MISSING
from gateway.errors import GatewayError, ShuttingDown, UpstreamError, UpstreamProtocol
from gateway.faults import from_container
from gateway.http.protocol import GatewayProtocol
from gateway.sagemaker.errors import ContainerError, fault
from gateway.sagemaker.transport import Stream
from gateway.telemetry.events import GAP_BUCKETS_S, Gaps

COMMENT = b": keep-alive\n\n"


class Ending(StrEnum):
    """Why a stream ended; a metric label."""

    COMPLETE = "complete"
    FAILED = "failed"
    CANCELLED = "cancelled"
    SLOW_READER = "slow_reader"


class Relay:
    """Relays one stream to one caller, over as many attempts as it takes to get a first event."""

    __slots__ = (
        "_chunks",
        "_connection",
        "_done",
        "_event_of",
        "_first",
        "_gaps",
        "_held",
        "_keep_alive_s",
        "_last_write",
        "_live",
        "_loop",
        "_on_over",
        "_outcome",
        "_over",
        "_paused_at",
        "_said_done",
        "_started",
        "_stream",
        "_task",
        "_timer",
        "_write_timeout_s",
        "bytes_out",
        "decoder",
        "ending",
        "error",
        "first_event_at",
        "last_event_at",
    )

    def __init__(
        self,
        connection: GatewayProtocol,
        *,
        keep_alive_s: float,
        write_timeout_s: float,
        event_of: Callable[[GatewayError], bytes] = GatewayError.event,
        gaps: Gaps | None = None,
    ) -> None:
        """`event_of` makes the event of an error with which a stream ends that has begun.

        `gaps` are filled in as events come, but for their total: that is from the first event to the last.
        """
        self._loop = connection.loop
        self._connection = connection
        self._keep_alive_s = keep_alive_s
        self._write_timeout_s = write_timeout_s
        self._event_of = event_of
        self._gaps = gaps
        self._chunks = 0
        """Events so far, of those that the decoder counts."""
        self.bytes_out = 0
        self._task = asyncio.current_task(connection.loop)
        self.decoder: StreamDecoder | None = None
        """The current or last attempt's decoder, for its counts."""
        self._live = False
        self._stream: Stream | None = None
        self._first: asyncio.Future[None] | None = None
        self._done: asyncio.Future[None] | None = None
        self._on_over: Callable[[Relay], None] | None = None
        self._held: list[bytes] = []
        self._outcome: GatewayError | None = None
        self._started = False
        self._said_done = False
        self._over = False
        self._paused_at: float | None = None
        self._last_write = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self.ending: Ending | None = None
        self.error: GatewayError | None = None
        """Why a stream ended with an error event."""
        self.first_event_at: float | None = None
        """When the first event came, on the monotonic clock."""
        self.last_event_at = 0.0
        """Likewise the last one; kept where there are `gaps`."""
        connection.listen(self)

    # One attempt, driven by the walk

    def expect(self, decoder: StreamDecoder) -> asyncio.Future[None]:
        """Get ready for an attempt: the future ends with its first event, or raises why there is none."""
        if self._over:  # the caller has had its last event: no further attempt
            raise asyncio.CancelledError
        self.decoder = decoder
        self._live = True
        self._first = self._loop.create_future()
        return self._first

    def attach(self, stream: Stream) -> None:
        """The attempt's upstream stream, for back-pressure and hanging up."""
        if self._over:
            stream.abort()
            return
        if self._first is None or (self._first.done() and self._first.exception() is not None):
            return
        self._stream = stream
        if self._paused_at is not None:
            stream.pause()

    def detach(self) -> None:
        """Give up the attempt, and hang up if it is still running."""
        stream, self._stream = self._stream, None
        self._live = False
        if stream is not None:
            stream.abort()

    # The caller's side

    @property
    def started(self) -> bool:
        """The status has been sent: from here on a failure is an event."""
        return self._started

    def start(self, head: bytes) -> None:
        """Send the status and what has been held back."""
        if self._over or self._started:
            return
        self._started = True
        self._connection.begin(head)
        self._last_write = self._loop.time()
        if self._held:
            held, self._held = self._held, []
            self._write(held)
        if self._outcome is not None:
            self.fail(self._outcome)
        elif self._said_done and self._stream is None:
            self._finish(Ending.COMPLETE)
        elif not self._over:
            self._arm()

    def then(self, over: Callable[[Relay], None]) -> None:
        """From here on the answer needs no task: `over` is called when it has ended, in whichever way."""
        self._task = None
        self._first = None
        if self._over:
            over(self)
        else:
            self._on_over = over

    async def wait(self) -> None:
        """Return when the answer has ended."""
        if not self._over:
            self._done = self._loop.create_future()
            await self._done

    def fail(self, error: GatewayError) -> None:
        """End a started answer with an error event, and without its end mark."""
        if self._over:
            return
        self.error = error
        self._put(self._event_of(error))
        self._finish(Ending.FAILED)

    def shut_down(self) -> None:
        """The gateway's drain time is over."""
        if self._started:
            self.fail(ShuttingDown("The gateway is shutting down."))
        if self._task is not None:  # connecting, waiting, or between two attempts
            self._task.cancel()

    # Receiver: what the upstream says

    def on_payload(self, data: bytes) -> None:
        decoder = self.decoder
        if decoder is None or not self._live:
            return
        events = decoder.feed(data)
        if events:
            self._pass_on(events, decoder)
        if decoder.fault is not None or decoder.malformed is not None:
            self._failed(_verdict(decoder))

    def on_end(self) -> None:
        decoder, self._stream = self.decoder, None
        if decoder is None or not self._live:
            return
        if not self._said_done:
            events = decoder.end()
            if events:
                self._pass_on(events, decoder)
            if decoder.fault is not None or decoder.malformed is not None:
                self._failed(_verdict(decoder))
                return
        self._live = False
        if self._started and not self._over:
            self._finish(Ending.COMPLETE)

    def on_failure(self, error: GatewayError | ContainerError) -> None:
        self._stream = None
        if not self._live:
            return
        if self._said_done:  # the answer is complete: how its connection ends is no one's concern
            if self._started and not self._over:
                self._finish(Ending.COMPLETE)
            return
        if isinstance(error, NOTHING_MISSING) and self.decoder is not None and self.decoder.complete:
            self.on_end()
            return
        self._failed(error)

    # Listener: what happens to the caller

    def on_gone(self) -> None:
        if self._over:
            return
        self._finish(Ending.COMPLETE if self._said_done else Ending.CANCELLED, gone=True)
        if self._task is not None:
            self._task.cancel()

    def on_pause(self) -> None:
        self._paused_at = self._loop.time()
        if self._stream is not None:
            self._stream.pause()
        self._arm()

    def on_resume(self) -> None:
        self._paused_at = None
        if self._stream is not None:
            self._stream.resume()
        if self._started and not self._over:
            self._arm()  # comments are due earlier than the limit for slow readers was

    def probe(self) -> None:
        if self._started:
            self._put(COMMENT)
        else:
            self._connection.interim()

    # Inside

    def _pass_on(self, events: list[bytes], decoder: StreamDecoder) -> None:
        now = self._loop.time()
        if decoder.ended:
            self._said_done = True
        if self._started:
            self._last_write = now
            self._write(events)
            if self._said_done and not self._over:
                self._arm()
        else:
            self._held += events
        gaps = self._gaps
        if self.first_event_at is None:
            self.first_event_at = self.last_event_at = monotonic()
            if gaps is not None:
                chunks = self._chunks = decoder.chunks
                if chunks > 1:
                    gaps.counts[0] += chunks - 1
            if self._first is not None and not self._first.done():
                self._first.set_result(None)
        elif gaps is not None:
            came, self._chunks = decoder.chunks - self._chunks, decoder.chunks
            if came > 0:
                came_at = monotonic()
                gap_s = came_at - self.last_event_at
                self.last_event_at = came_at
                counts = gaps.counts
                counts[bisect_left(GAP_BUCKETS_S, gap_s)] += 1
                if came > 1:
                    counts[0] += came - 1  # together with the first of them
                if gap_s > gaps.longest_s:
                    gaps.longest_s = gap_s

    def _write(self, events: list[bytes]) -> None:
        if not self._over:
            self._put(events[0] if len(events) == 1 else b"".join(events))

    def _put(self, data: bytes) -> None:
        self.bytes_out += len(data)
        self._connection.write(data)

    def _failed(self, error: GatewayError | ContainerError) -> None:
        """The attempt failed: before its first event that is the walk's concern, afterwards the caller's."""
        self.detach()
        first = self._first
        if first is not None and not first.done():
            first.set_exception(error)
            return
        known = error if isinstance(error, GatewayError) else fault(UpstreamError, "container error in mid-stream")
        if self._started:
            self.fail(known)
        else:
            self._outcome = known

    def _finish(self, ending: Ending, *, gone: bool = False) -> None:
        self._over = True
        self.ending = ending
        self.detach()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        over, self._on_over = self._on_over, None
        if over is not None:
            over(self)  # before its last bytes: whoever has had all of an answer finds it counted
        if self._started and not gone:
            self._connection.finish()
        if self._first is not None and not self._first.done():
            self._first.cancel()
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    def _arm(self) -> None:
        """(Re)set the one timer: keep-alive comments, a reader who has stopped, an upstream that does not end."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        due = self._due()
        if due is not None:
            self._timer = self._loop.call_at(due, self._tick)

    def _due(self) -> float | None:
        if self._paused_at is not None:
            return self._paused_at + self._write_timeout_s
        if self._said_done:
            return self._last_write + DRAIN_S
        return self._last_write + self._keep_alive_s if self._keep_alive_s else None

    def _tick(self) -> None:
        self._timer = None
        due = self._due()
        if self._over or due is None:
            return
        if self._loop.time() >= due:
            if self._paused_at is not None:
                self._finish(Ending.SLOW_READER, gone=True)
                self._connection.cut()
                return
            if self._said_done:
                self._finish(Ending.COMPLETE)
                return
            self._last_write = self._loop.time()
            self._put(COMMENT)
        self._arm()


def _verdict(decoder: StreamDecoder) -> GatewayError:
    if decoder.fault is not None:
        return from_container(decoder.fault)
    return fault(UpstreamProtocol, decoder.malformed or "malformed stream")
