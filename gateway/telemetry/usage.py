"""Records of usage: one JSON line for each admitted call, handed to a destination in batches by a thread of its own.

    UsageRecords.take ─▶ bounded memory ─▶ batches ─▶ Destination, again and again for a while

A call never waits for it. Each record has an id that no other has, whatever callers send as `x-request-id`, and may be
written more than once: who reads them keeps one of each id.
"""

from __future__ import annotations

import logging
import random
import secrets
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

from gateway.telemetry.events import CallRecord
from gateway.telemetry.lines import encode, iso, milliseconds

log = logging.getLogger(__name__)

BATCH_BYTES = 4 * 1024 * 1024
"""So much is written without waiting for more."""
FIRST_WAIT_S = 0.5
LONGEST_WAIT_S = 30.0
CLOSING_WAIT_S = 0.2
CLOSE_S = 5.0
"""What writing the last records gets when the gateway stops."""
Outcome = Literal["written", "dropped", "failed"]


class Destination(Protocol):
    """Where records go. It is called by one thread, but for `abort`."""

    def write(self, lines: Sequence[bytes]) -> tuple[list[bytes], str]:
        """Write lines, each without its end; return those that could not be written, and why.

        Raises:
            Exception: none of them has been written.
        """
        ...

    def close(self) -> None:
        """Nothing more will be written."""
        ...

    def abort(self) -> None:
        """Let a `write` that is waiting fail soon, if that can be; called from another thread."""
        ...


class UsageLine(msgspec.Struct, omit_defaults=True):
    """One record. Its fields mean what they mean in a call's log line."""

    id: str
    """Unlike that of any other record."""
    time: str
    request_id: str
    key: str
    model: str
    deployment: str
    surface: str
    stream: bool
    code: str
    status: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    total_ms: float
    team: str = ""
    money: float | None = None
    estimated: bool = False
    """The container has not counted: the tokens are the gateway's own estimate, as in the limits and books."""
    trace_id: str = ""


class UsageRecords:
    """Takes the records of calls, and keeps them until they are written."""

    def __init__(
        self,
        destination: Destination,
        *,
        gathers_s: float,
        buffer_bytes: int,
        retry_s: float,
        count: Callable[[Outcome, int], None],
    ) -> None:
        """`count` is told what became of how many records, from whatever thread."""
        self._destination = destination
        self._gathers_s = gathers_s
        self._buffer_bytes = buffer_bytes
        self._retry_s = retry_s
        self._count = count
        self._origin, self._number = secrets.token_hex(8), 0
        self._lock = threading.Lock()
        self._lines: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._written_bytes = 0
        """Of the records that are being written."""
        self._left = 0
        """How many those are."""
        self._some = threading.Event()
        self._now = threading.Event()
        self._closing = threading.Event()
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="usage records", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def take(self, record: CallRecord) -> None:
        charged = record.charged
        if charged is None:
            return
        self._number += 1
        line = UsageLine(
            f"{self._origin}-{self._number}",
            iso(time.time()),
            record.request_id,
            record.key_id,
            record.model,
            record.lane,
            record.surface,
            record.stream,
            record.code,
            record.status,
            charged.prompt_tokens,
            charged.cached_tokens,
            charged.completion_tokens,
            milliseconds(record.seconds),
            record.team,
        )
        if record.money is not None:
            line.money = record.money / 1_000_000
        if record.usage is None:
            line.estimated = charged.prompt_tokens + charged.completion_tokens > 0
        if record.trace is not None:
            line.trace_id = record.trace.trace_id
        self._put(encode(line))

    def close(self, timeout_s: float = CLOSE_S) -> None:
        """Write what is left, for as long as that, and tell of what could not be."""
        with self._lock:  # or the thread, which has just seen that there is more time, would take these back
            self._closing.set()
            self._now.set()
            self._some.set()
        self._thread.join(timeout_s)
        self._destination.abort()
        with self._lock:
            lost = len(self._lines) + self._left
            self._lines.clear()
        if lost:
            self._count("dropped", lost)
            log.error("usage records are lost", extra={"records": lost})

    def _put(self, line: bytes) -> None:
        size = len(line) + 1
        with self._lock:
            if self._waiting_bytes + self._written_bytes + size <= self._buffer_bytes:
                first = not self._lines
                self._lines.append(line)
                self._waiting_bytes += size
                if first:
                    self._some.set()
                if self._waiting_bytes >= BATCH_BYTES:
                    self._now.set()
                return
        self._count("dropped", 1)

    def _run(self) -> None:
        while True:
            self._some.wait()
            self._now.wait(self._gathers_s)
            batch = self._batch()
            if batch:
                self._deliver(batch)
            elif self._closing.is_set():
                break
        self._destination.close()

    def _batch(self) -> list[bytes]:
        """Take the oldest records, as many as are written together."""
        batch, size = [], 0
        with self._lock:
            while self._lines and size < BATCH_BYTES:
                batch.append(self._lines.popleft())
                size += len(batch[-1]) + 1
            self._left, self._written_bytes = len(batch), size
            self._waiting_bytes -= size
            if not self._closing.is_set():
                if not self._lines:
                    self._some.clear()
                if self._waiting_bytes < BATCH_BYTES:
                    self._now.clear()
        return batch

    def _deliver(self, batch: list[bytes]) -> None:
        until = time.monotonic() + self._retry_s
        wait_s = FIRST_WAIT_S
        while True:
            try:
                left, reason = self._destination.write(batch)
            except Exception as error:  # a destination's trouble must not end the writing; its text may hold secrets
                left, reason = batch, type(error).__name__
            self._settled("written", len(batch) - len(left), left)
            if not left:
                self._say(None, 0)
                return
            self._say(reason, len(left))
            batch = left
            if time.monotonic() >= until:
                self._settled("failed", len(batch), [])
                log.error("usage records are lost", extra={"records": len(batch)})
                return
            if self._closing.wait(wait_s * random.uniform(0.5, 1.0)):  # noqa: S311 - jitter
                time.sleep(CLOSING_WAIT_S)
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)

    def _settled(self, outcome: Outcome, records: int, left: Sequence[bytes]) -> None:
        with self._lock:
            self._left = len(left)
            self._written_bytes = sum(map(len, left)) + len(left)
        if records:
            self._count(outcome, records)

    def _say(self, reason: str | None, records: int) -> None:
        if reason is not None and not self._failing:
            log.error("usage records cannot be written", extra={"reason": reason, "records": records})
        elif reason is None and self._failing:
            log.info("usage records are written again")
        self._failing = reason is not None
