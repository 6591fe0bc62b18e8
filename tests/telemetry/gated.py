"""A SageMaker that can be held still in the middle of everything, and callers who count what they have had."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.load.upstream import Upstream
from tests.support.stack import KEY

CHUNKS = 8
PROMPT_TOKENS, COMPLETION_TOKENS = 24, 64
"""As every answer of the upstream has them."""


class Gate:
    """Holds back what upstream connections write."""

    def __init__(self) -> None:
        self.held = False
        self.running = 0
        """Requests without their whole answer."""
        self.changed = asyncio.Event()
        self.waiting: list[tuple[Gated, bytes]] = []

    def hold(self) -> None:
        self.held = True

    def release(self) -> None:
        self.held = False
        waiting, self.waiting = self.waiting, []
        for connection, data in waiting:
            connection.pass_on(data)

    async def until_running(self, count: int) -> None:
        while self.running != count:
            self.changed.clear()
            await self.changed.wait()

    def count(self, change: int) -> None:
        self.running += change
        self.changed.set()


class Gated(Upstream):
    """One upstream connection."""

    def __init__(self, gate: Gate) -> None:
        super().__init__()
        self._gate = gate
        self._busy = False

    def on_message_complete(self) -> None:
        self._busy = True
        self._gate.count(1)
        super().on_message_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._done()

    def _write(self, data: bytes) -> None:
        if self._gate.held:
            self._gate.waiting.append((self, data))
        else:
            self.pass_on(data)

    def pass_on(self, data: bytes) -> None:
        if data.endswith(b"0\r\n\r\n") or data.startswith(b"HTTP/1.1 200 OK\r\ncontent-type: application/json"):
            self._done()
        super()._write(data)

    def _done(self) -> None:
        if self._busy:
            self._busy = False
            self._gate.count(-1)


@asynccontextmanager
async def gated_upstream() -> AsyncIterator[tuple[Gate, str]]:
    gate = Gate()
    server = await asyncio.get_running_loop().create_server(lambda: Gated(gate), "127.0.0.1", 0)
    try:
        yield gate, f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@dataclass
class Callers:
    """Callers with a connection each, one call after the other, half of them streams."""

    host: str
    port: int
    seen: Counter[str] = field(default_factory=Counter)
    """Answers that came whole, by kind."""
    chunks: int = 0
    cut: int = 0
    """Calls whose connection ended without their answer."""
    stopping: bool = False
    answered: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, count: int) -> None:
        self.tasks = [asyncio.create_task(self._call_on("stream" if n % 2 else "whole")) for n in range(count)]

    async def stop(self) -> None:
        """Let every caller have the answer it waits for."""
        self.stopping = True
        await asyncio.gather(*self.tasks)

    async def _call_on(self, kind: str) -> None:
        body = json.dumps(
            {
                "model": "m",
                "messages": [{"role": "user", "content": f"[[chunks={CHUNKS} pace_ms=3]]"}],
                "max_tokens": 99,
                "stream": kind == "stream",
            }
        ).encode()
        request = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {KEY}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body
        while not self.stopping:
            reader, writer = await asyncio.open_connection(self.host, self.port)
            try:
                while not self.stopping:
                    writer.write(request)
                    answer = await self._answer(reader, kind)
                    self.seen[kind] += 1
                    self.answered.set()
                    self.chunks += answer.count(b'"delta":{"content":"t')
            except (ConnectionError, asyncio.IncompleteReadError):
                self.cut += 1
            finally:
                writer.close()

    async def _answer(self, reader: asyncio.StreamReader, kind: str) -> bytes:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head
        if kind == "stream":
            return await reader.readuntil(b"\r\n0\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        return await reader.readexactly(int(length.partition(b":")[2]))
