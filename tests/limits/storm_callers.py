"""Callers of a whole gateway in a storm: `python -m tests.limits.storm_callers URL CALLERS CALLS SEED LEAVING KEY…`.

Each caller has a key and a connection of its own, and calls again and again, whole replies and streams. Of LEAVING
callers half of the calls are left by closing the connection, at whatever moment. It prints a line of progress now and
then, and at the end one JSON object: for each caller how many calls were seen to their end, left, cut or refused.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
from collections.abc import Callable, Iterator
from typing import cast
from urllib.parse import urlsplit

import uvloop

SHARE_LEFT = 0.5
BODIES = (
    {"messages": [{"role": "user", "content": "hello"}]},
    {"messages": [{"role": "user", "content": "hello [[chunks=4]]"}], "stream": True},
    {"messages": [{"role": "user", "content": "hello [[chunks=6 pace_ms=1]]"}], "stream": True},
)
_LENGTH = re.compile(rb"(?i)content-length: (\d+)")


class Caller(asyncio.Protocol):
    """One key's caller."""

    def __init__(
        self, name: str, key: str, leaves: bool, numbers: Iterator[int], chance: random.Random, gone: Callable[[], None]
    ) -> None:
        self.seen = {"complete": 0, "left": 0, "cut": 0, "refused": 0, "wrong": 0}
        self.name = name
        self._leaves = leaves
        self._numbers = numbers
        self._chance = chance
        self._gone = gone
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._received = b""
        self._calling = False
        self._requests = [
            (
                f"POST /v1/chat/completions HTTP/1.1\r\nhost: storm\r\nauthorization: Bearer {key}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
            ).encode()
            for body in (json.dumps({"model": "bench", "max_tokens": 100, **fields}) for fields in BODIES)
        ]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses of it
        self._call()

    def _call(self) -> None:
        transport = self._transport
        assert transport is not None
        if next(self._numbers, None) is None:
            transport.close()
            return
        self._received = b""
        self._calling = True
        transport.write(self._chance.choice(self._requests))
        if self._leaves and self._chance.random() < SHARE_LEFT:
            self._loop.call_later(self._chance.choice([0.0, 0.001, 0.003, 0.01]), self._leave, transport)

    def _leave(self, transport: asyncio.Transport) -> None:
        if self._calling and transport is self._transport:
            self.seen["left"] += 1
            self._calling = False
            transport.abort()

    def data_received(self, data: bytes) -> None:
        self._received += data
        if self._calling and (outcome := _outcome(self._received)):
            self.seen[outcome] += 1
            self._calling = False
            self._call()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._calling:
            self.seen["cut"] += 1
            self._calling = False
        self._transport = None
        self._gone()


def _outcome(received: bytes) -> str | None:
    """Return what became of a call, None while its answer is still coming."""
    head, found, body = received.partition(b"\r\n\r\n")
    if not found:
        return None
    if b"chunked" in head:
        if not body.endswith(b"0\r\n\r\n"):
            return None
        return "complete" if b"data: [DONE]" in body else "wrong"
    length = _LENGTH.search(head)
    if length is None or len(body) < int(length[1]):
        return None
    return "complete" if head.startswith(b"HTTP/1.1 200") else "refused" if b" 429 " in head else "wrong"


async def main(url: str, callers: int, calls: int, seed: int, leaving: int, keys: list[str]) -> None:
    parts, chance = urlsplit(url), random.Random(seed)
    numbers = _counted(calls)
    everyone = []

    async def life(at: int) -> None:
        over = asyncio.Event()
        caller = Caller(f"key{at}", keys[at], at < leaving, numbers, chance, over.set)
        everyone.append(caller)
        while True:
            over.clear()
            try:
                await asyncio.get_running_loop().create_connection(
                    lambda: caller, parts.hostname or "", parts.port or 80
                )
            except OSError:
                await asyncio.sleep(0.01)
                continue
            await over.wait()
            if next(numbers, None) is None:
                return

    await asyncio.gather(*(life(at) for at in range(callers)))
    print(json.dumps({caller.name: caller.seen for caller in everyone}), flush=True)


def _counted(calls: int) -> Iterator[int]:
    """Yield as many numbers, and tell of each tenth of them."""
    for number in range(calls):
        if number % (calls // 10) == 0:
            print(json.dumps({"begun": number}), flush=True)
        yield number


if __name__ == "__main__":
    address, count, total, start, leavers, *given = sys.argv[1:]
    uvloop.run(main(address, int(count), int(total), int(start), int(leavers), given))
