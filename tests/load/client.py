"""A load generator: closed loop over keep-alive connections; checks every answer, and prints one JSON object.

python -m tests.load.client URL BODY_FILE CONNECTIONS SECONDS RAMP_S
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import uvloop

_STAMP = re.compile(rb"\"t(\d+) \"")


class Totals:
    def __init__(self) -> None:
        self.answers = self.errors = self.chunks = 0
        self.latencies_ms: list[float] = []
        self.first_ms: list[float] = []
        self.delays_ms: list[float] = []
        self.measuring = False


class Caller(asyncio.Protocol):
    """Sends the same request again and again."""

    def __init__(self, request: bytes, totals: Totals) -> None:
        self._request, self._totals = request, totals

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        self._received = b""
        self._chunks = 0
        self._began = time.perf_counter()
        self._first = 0.0
        self._transport.write(self._request)  # type: ignore[attr-defined]  # a stream transport writes

    def data_received(self, data: bytes) -> None:
        totals = self._totals
        if not self._received and not data.startswith(b"HTTP/1.1 200"):
            totals.errors += 1
            self._transport.close()
            return
        events = data.count(b'"delta":{"content":')
        if events:
            if not self._first:
                self._first = time.perf_counter()
            self._chunks += events
            if totals.measuring:
                totals.chunks += events
                now = time.monotonic_ns()
                totals.delays_ms += [(now - int(stamp)) / 1e6 for stamp in _STAMP.findall(data)]
        self._received = (self._received + data)[-4096:] if self._received else data
        if self._complete():
            if totals.measuring:
                totals.answers += 1
                totals.latencies_ms.append((time.perf_counter() - self._began) * 1000)
                if self._first:
                    totals.first_ms.append((self._first - self._began) * 1000)
            self._send()

    def _complete(self) -> bool:
        received = self._received
        if received.endswith(b"0\r\n\r\n"):
            return b"data: [DONE]" in received
        head, found, body = received.partition(b"\r\n\r\n")
        if not found or b"chunked" in head:
            return False
        length = re.search(rb"(?i)content-length: (\d+)", head)
        return length is not None and len(body) >= int(length[1])

    def connection_lost(self, exc: Exception | None) -> None:
        if self._totals.measuring:
            self._totals.errors += 1


def percentile(values: list[float], share: float) -> float | None:
    ordered = sorted(values)
    return round(ordered[min(int(len(ordered) * share), len(ordered) - 1)], 3) if ordered else None


async def main(url: str, body_file: str, connections: int, seconds: float, ramp_s: float) -> None:
    parts, body = urlsplit(url), await asyncio.to_thread(Path(body_file).read_bytes)
    request = (
        f"POST {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
        f"authorization: Bearer {sys.argv[6]}\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body
    totals = Totals()
    loop = asyncio.get_running_loop()
    for _ in range(connections):
        await loop.create_connection(lambda: Caller(request, totals), parts.hostname or "", parts.port or 80)
        await asyncio.sleep(ramp_s / connections)
    print("measuring", flush=True)
    totals.measuring = True
    await asyncio.sleep(seconds)
    totals.measuring = False
    print(
        json.dumps(
            {
                "answers": totals.answers,
                "errors": totals.errors,
                "chunks": totals.chunks,
                "latency_ms": [percentile(totals.latencies_ms, 0.5), percentile(totals.latencies_ms, 0.99)],
                "first_ms": [percentile(totals.first_ms, 0.5), percentile(totals.first_ms, 0.99)],
                "delay_ms": [percentile(totals.delays_ms, 0.5), percentile(totals.delays_ms, 0.99)],
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    address, file, count, duration, ramp = sys.argv[1:6]
    uvloop.run(main(address, file, int(count), float(duration), float(ramp)))
