"""What is being answered right now, so that a stop can wait for it, and end what does not end."""

from __future__ import annotations

import asyncio

from gateway.http.relay import Relay


class Running:
    """Calls in progress in this process."""

    def __init__(self) -> None:
        self.streams: set[Relay] = set()
        self.stopping = False
        """The process has been told to stop: it is no longer ready for new work."""
        self.cut_calls = 0
        """That were ended because the drain time was over."""

    def stop(self, drain_timeout_s: float) -> None:
        """The process has been told to stop; what is still streaming after `drain_timeout_s` is ended."""
        if not self.stopping:
            self.stopping = True
            asyncio.get_running_loop().call_later(drain_timeout_s, self.cut)

    def cut(self) -> None:
        """The drain time is over: end every stream with an error event."""
        for relay in list(self.streams):
            relay.shut_down()
