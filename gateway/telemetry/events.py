"""What happens to calls, as records: the walk fills them in, the backends read them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from adapters.base import Usage

if TYPE_CHECKING:
    from gateway.telemetry.trace_content import Asked

GAP_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5)
"""Upper bounds for times between tokens."""


class Try(NamedTuple):
    """One attempt at a deployment."""

    lane: str
    began: float
    """On the monotonic clock, as all of these times."""
    head: float | None
    """When the head of SageMaker's reply came."""
    ended: float
    """Of a stream, when its first event came."""
    code: str
    """`ok`, an error's code, or `cancelled`."""
    status: int
    """SageMaker's HTTP status; 0 without one."""


@dataclass(slots=True)
class Gaps:
    """A histogram of the times between a stream's events, kept by the stream itself."""

    counts: list[int]
    """One for each of GAP_BUCKETS_S, and one for what is above them all."""
    total_s: float = 0.0
    longest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Trace:
    """Where a call stands in a trace: https://www.w3.org/TR/trace-context/"""

    trace_id: str
    """32 lower-case hexadecimal digits."""
    span_id: str
    """Of the call itself, 16 such digits; the caller's own where the gateway makes no spans."""
    parent_id: str | None
    """Of the caller's span; None where the trace begins here."""
    sampled: bool
    state: str = ""
    """The caller's `tracestate`, checked."""


@dataclass(slots=True)
class CallRecord:
    """One call, from its first byte to its last.

    Times are seconds of the monotonic clock: the event loop's own counts milliseconds only.
    """

    surface: str
    request_id: str
    began: float
    key_id: str = ""
    team: str = ""
    """The key's team; empty without one."""
    model: str = ""
    """The configured public name; empty until it is known, so that no caller's text becomes a label."""
    lane: str = ""
    stream: bool = False
    asked_tokens: int | None = None
    """The most tokens that the answers together may have, as the caller has it; None where it names no bound."""
    bytes_in: int = 0
    """Of the request's body."""
    bytes_out: int = 0
    """Of the answer's body, without the framing of HTTP."""
    attempts: int = 1
    tries: list[Try] = field(default_factory=list)
    """Each attempt, in order."""
    queue_s: float = 0.0
    """Standing in a model's line."""
    queued_at: float | None = None
    """When that began."""
    trying_since: float | None = None
    """When the attempt began that is running; None while none is."""
    upstream_s: float = 0.0
    """Waiting for the upstream: whole replies entirely, streams until their first event."""
    first_event_s: float | None = None
    """From the beginning to the first event of a stream."""
    head_s: float | None = None
    """Of the last attempt, from its beginning to the head of SageMaker's reply."""
    decoding_s: float = 0.0
    """From the first event of a stream to its last."""
    gaps: Gaps | None = None
    """The times between the events of a stream."""
    seconds: float = 0.0
    code: str = "ok"
    """`ok`, an error code, or `cancelled`."""
    status: int = 0
    ending: str = ""
    """How a stream ended; empty for whole replies."""
    events: int = 0
    dropped: int = 0
    """Records that came after the end of a stream."""
    usage: Usage | None = None
    charged: Usage | None = None
    """What the call is charged: as the container has counted, or an estimate; None if it was not admitted."""
    money: int | None = None
    """What that costs, in millionths; None where the model has no prices."""
    detail: str | None = None
    limit_headers: bytes = b""
    """What the caller is told about its limits: header lines."""
    trace: Trace | None = None
    """The trace that the call belongs to, where there is one."""
    asked: Asked | None = None
    """What a call asks for of which spans will be made."""
    line: bytes = b""
    """The call's log line, once it is made: `lines.py`."""
    measured: bool = False
    """The key has asked for series of its own."""
    stops: bool = False
    """What serves the call stops generating when its caller leaves."""
    ended: bool = False
    """It has been counted."""


def shares_s(tries: list[Try]) -> tuple[float, float]:
    """Return what attempts at a stream took until the heads of SageMaker's replies, and from there to their ends."""
    to_head_s = from_head_s = 0.0
    for attempt in tries:
        head = attempt.ended if attempt.head is None else attempt.head
        to_head_s += head - attempt.began
        from_head_s += attempt.ended - head
    return to_head_s, from_head_s


class Sink(Protocol):
    """Takes the record of every call that has ended; it must not wait for anything."""

    def take(self, record: CallRecord) -> None: ...


class Telemetry(Protocol):
    """Where records go."""

    @property
    def wants_gaps(self) -> bool:
        """Streams are to keep the times between their events."""
        ...

    def call_began(self) -> None: ...

    def call_ended(self, record: CallRecord) -> None: ...

    def attempt_began(self, model: str, lane: str) -> None: ...

    def attempt(self, model: str, lane: str, code: str, *, lasts: bool = False) -> None:
        """An attempt has ended; if it `lasts`, with the first event of a stream that is in flight until its call ends.

        Args:
            code: `ok`, an error's, or `cancelled`.
        """
        ...

    def retried(self, model: str, kind: str) -> None:
        """Another attempt is made, at the `same` deployment or an `other` one."""
        ...

    def resent(self, lane: str) -> None:
        """A request was sent again, because its kept-alive connection had been closed before it arrived."""
        ...
