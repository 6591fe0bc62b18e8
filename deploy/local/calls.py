"""What callers did: a bounded record of every call, and ways to wait for what one of them does next."""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from deploy.local.httpreply import Request

MAX_CALLS = 10_000
MAX_BODY_BYTES = 64 * 1024 * 1024
"""Of all recorded bodies together; the oldest calls are forgotten first."""
REDACTED = "[redacted]"
SECRET_HEADERS = frozenset({"authorization", "x-amz-security-token"})


@dataclass(slots=True)
class Call:
    """One call. Times are in milliseconds since it started, on a monotonic clock."""

    n: int
    """1 for the first call of this server."""
    endpoint: str
    operation: str
    headers: tuple[tuple[str, str], ...]
    """All the client sent, names in lower case; credentials are replaced by [redacted]."""
    body: bytes
    started_at: float
    """Seconds since the epoch."""
    request_id: str = field(default_factory=lambda: str(uuid.uuid4()))
    access_key_id: str | None = None
    """The key the client claims to be."""
    verified: bool = False
    """Its signature was right."""
    faults: tuple[str, ...] = ()
    """The kinds of the faults it took."""
    status: int | None = None
    """The HTTP status sent, or None if none was."""
    error: str | None = None
    """The name of the AWS error sent, before or in a stream."""
    frames_sent: int = 0
    """Whole event-stream frames handed to the network."""
    hung_up_ms: float | None = None
    """When the client left before the answer was complete, or None."""
    ended_ms: float | None = None
    """When nothing ran for this call any more, the container's side included; None until then."""
    _started: float = field(default_factory=time.monotonic)

    @property
    def ended(self) -> bool:
        return self.ended_ms is not None

    def header(self, name: str) -> str | None:
        """Return a request header by its name in lower case."""
        return dict(self.headers).get(name)

    def ms_since_start(self, moment: float | None = None) -> float:
        """Return the milliseconds from the start to a moment of the monotonic clock, by default now."""
        return round(((time.monotonic() if moment is None else moment) - self._started) * 1000, 3)

    def as_json(self) -> dict[str, object]:
        """Return the record for the control route; the body as text, or as base64 where it is none."""
        try:
            body: dict[str, str] = {"text": self.body.decode()}
        except UnicodeDecodeError:
            body = {"base64": base64.b64encode(self.body).decode()}
        shown = ("n", "endpoint", "operation", "headers", "started_at", "request_id", "access_key_id", "verified")
        outcome = ("faults", "status", "error", "frames_sent", "hung_up_ms", "ended_ms", "ended")
        return {name: getattr(self, name) for name in shown} | {"body": body} | {n: getattr(self, n) for n in outcome}


class CallLog:
    """The latest calls, oldest first."""

    def __init__(self) -> None:
        self._calls: deque[Call] = deque()
        self._body_bytes = 0
        self._count = 0
        self._waiters: list[tuple[int, Callable[[Call], bool], asyncio.Future[Call]]] = []

    def begin(self, request: Request, endpoint: str, operation: str) -> Call:
        """Record that a call started."""
        self._count += 1
        headers = tuple((name, REDACTED if name in SECRET_HEADERS else value) for name, value in request.headers)
        call = Call(self._count, endpoint, operation, headers, request.body, time.time())
        self._calls.append(call)
        self._body_bytes += len(call.body)
        while len(self._calls) > MAX_CALLS or (self._body_bytes > MAX_BODY_BYTES and len(self._calls) > 1):
            self._body_bytes -= len(self._calls.popleft().body)
        self.changed(call)
        return call

    def changed(self, call: Call) -> None:
        """Wake those who wait for what this call just did."""
        if not self._waiters:
            return
        for n, wanted, future in self._waiters:
            if n == call.n and not future.done() and wanted(call):
                future.set_result(call)

    def all(self) -> list[Call]:
        """Return the recorded calls, oldest first."""
        return list(self._calls)

    async def wait(self, n: int, wanted: Callable[[Call], bool], timeout_s: float) -> Call:
        """Return call number `n` once it fits.

        Raises:
            TimeoutError: it did not in time; the text says how far it came.
            LookupError: it is so old that it was forgotten.
        """
        call = self._find(n)
        if call is not None and wanted(call):
            return call
        future: asyncio.Future[Call] = asyncio.get_running_loop().create_future()
        entry = (n, wanted, future)
        self._waiters.append(entry)
        try:
            async with asyncio.timeout(timeout_s):
                return await future
        except TimeoutError:
            call = self._find(n)
            state = f"there were {self._count} calls" if call is None else f"it is {call.as_json() | {'body': '…'}}"
            raise TimeoutError(f"call {n} did not get there in {timeout_s} s: {state}") from None
        finally:
            self._waiters.remove(entry)

    def _find(self, n: int) -> Call | None:
        if self._calls and n < self._calls[0].n:
            raise LookupError(f"call {n} is no longer recorded")
        return self._calls[n - self._calls[0].n] if self._calls and n <= self._calls[-1].n else None
