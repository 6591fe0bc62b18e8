"""Guessing is slowed: each address may present a wrong key only so often.

The budget is a bucket that refills all the time, kept as the one time at which it is full again (GCRA). The address is
the other end of the connection, never what a header says.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from time import monotonic

BURST = 20
"""Wrong keys at once."""
PER_S = 1.0
"""Wrong keys per second after that."""
MOST_ADDRESSES = 10_000
"""Remembered at the same time, some 2 MB; those that failed longest ago are forgotten first."""


class Failures:
    """Counts wrong keys by address."""

    __slots__ = ("_clock", "_full_at", "_most")

    def __init__(self, *, most: int = MOST_ADDRESSES, clock: Callable[[], float] = monotonic) -> None:
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._most = most
        self._clock = clock

    def add(self, host: str | None) -> int | None:
        """Count one wrong key from `host`; None stands for callers without an address, on a Unix socket.

        Returns:
            None while the address is within its budget; else milliseconds until it is again, and nothing is counted.
        """
        address, now = _network_of(host), self._clock()
        full_at = max(self._full_at.get(address, now), now) + 1 / PER_S
        over_s = full_at - now - BURST / PER_S
        if over_s > 1e-9:
            return max(1, round(over_s * 1000))
        self._full_at[address] = full_at
        self._full_at.move_to_end(address)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
        return None

    def __len__(self) -> int:
        return len(self._full_at)


def _network_of(host: str | None) -> str:
    """Return what one caller holds as a rule: an IPv4 address, or the first 64 bits of an IPv6 address."""
    try:
        address = ip_address(host or "")
    except ValueError:
        return ""
    if isinstance(address, IPv6Address):
        return str(address.ipv4_mapped or IPv6Address(int(address) >> 64 << 64))
    return str(address)
