"""The time limits of one upstream exchange, on one lazily re-armed timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from gateway.config.models import Timeouts


class Watchdog:
    """Calls `expired(which)` once: "first_byte", "gap" or "total". Activity costs one clock reading, no timer."""

    __slots__ = ("_began", "_expired", "_gap_s", "_handle", "_last", "_limit_s", "_loop", "_paused", "_total_at")

    def __init__(
        self, timeouts: Timeouts, expired: Callable[[str], None], loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        self._loop = loop = loop or asyncio.get_running_loop()
        self._expired = expired
        self._last = now = loop.time()
        self._limit_s = timeouts.first_byte_s
        self._gap_s = timeouts.gap_s
        self._total_at = now + timeouts.total_s
        self._began = False
        self._paused = False
        self._handle: asyncio.TimerHandle | None = loop.call_at(min(now + self._limit_s, self._total_at), self._check)

    def touch(self) -> None:
        """A byte of the reply has come."""
        self._last = self._loop.time()
        if not self._began:
            self._began = True
            self._limit_s = self._gap_s
            handle = self._handle
            if handle is not None and self._last + self._gap_s < handle.when():
                handle.cancel()
                self._handle = self._loop.call_at(self._last + self._gap_s, self._check)

    def pause(self) -> None:
        """The upstream is not being read: its silence says nothing. The total goes on."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._last = self._loop.time()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _check(self) -> None:
        now = self._loop.time()
        self._handle = None
        if now >= self._total_at:
            self._expired("total")
            return
        due = now + self._limit_s if self._paused else self._last + self._limit_s
        if now >= due:
            self._expired("gap" if self._began else "first_byte")
            return
        self._handle = self._loop.call_at(min(due, self._total_at), self._check)
