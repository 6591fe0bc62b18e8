"""What happens to calls, as records: the walk fills them in, the backends read them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from adapters.base import Usage


@dataclass(slots=True)
class CallRecord:
    """One call, from its first byte to its last.

    Times are seconds of the monotonic clock: the event loop's own counts milliseconds only.
    """

    surface: str
    request_id: str
    began: float
    key_id: str = ""
    model: str = ""
    """The configured public name; empty until it is known, so that no caller's text becomes a label."""
    lane: str = ""
    stream: bool = False
    attempts: int = 1
    upstream_s: float = 0.0
    """Waiting for the upstream: whole replies entirely, streams until their first event."""
    first_event_s: float | None = None
    """From the beginning to the first event of a stream."""
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
    detail: str | None = None
    limit_headers: bytes = b""
    """What the caller is told about its limits: header lines."""


class Telemetry(Protocol):
    """Where records go."""

    def call_began(self) -> None: ...

    def call_ended(self, record: CallRecord) -> None: ...

    def attempt(self, model: str, lane: str, code: str) -> None: ...

    def resent(self, lane: str) -> None:
        """A request was sent again, because its kept-alive connection had been closed before it arrived."""
        ...
