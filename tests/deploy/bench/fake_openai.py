"""An OpenAI-compatible server for the benchmark's tests: as slow, as broken and as talkative as a script says.

It runs in a thread of its own, so that the measuring under test has its own event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

WAIT_S = 10.0


@dataclass(frozen=True)
class Script:
    """What becomes of a call."""

    first_s: float = 0.0
    """Before the first piece of text."""
    gap_s: float = 0.0
    """Between two of them."""
    pieces: int = 4
    per_piece: int = 1
    """Output tokens that usage tells for each piece; 0 tells none."""
    input_tokens: int = 7
    status: int = 200
    body: bytes | None = None
    """Answered instead of anything else, whole."""
    lines: bool = False
    """JSON lines in place of server-sent events."""
    cut_after: int | None = None
    """The connection closes after so many pieces, in the middle of the chunked body."""
    end_after: int | None = None
    """The body ends properly after so many pieces, without a mark that the answer is complete."""
    error_after: int | None = None
    hang: bool = False
    """Nothing is ever answered."""
    close: str = ""
    """`told` answers with Connection: close; `untold` closes after the answer without a word; `length` leaves out how
    long the body is, and closes."""


@dataclass
class Fake:
    """The server, and what it has seen."""

    script: Callable[[int], Script]
    """Called with the number of the call, from 0 on."""
    port: int = 0
    bodies: list[dict[str, Any]] = field(default_factory=list)
    heads: list[str] = field(default_factory=list)
    arrived_s: list[float] = field(default_factory=list)
    connections: int = 0
    active: int = 0
    most_active: int = 0
    stalled_until_s: float = 0.0
    """By time.perf_counter(): until then nothing is answered."""
    reached: threading.Event = field(default_factory=threading.Event)
    """Set as soon as `calls_wanted` calls have arrived."""
    calls_wanted: int = 10**9
    scheme: str = "http"

    @property
    def url(self) -> str:
        return f"{self.scheme}://127.0.0.1:{self.port}/v1"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._one(reader, writer):
                    pass
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        except asyncio.CancelledError:
            writer.transport.abort()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        length = next(
            int(line.split(":")[1]) for line in head.split("\r\n") if line.lower().startswith("content-length")
        )
        body = json.loads(await reader.readexactly(length))
        number = len(self.bodies)
        self.heads.append(head)
        self.bodies.append(body)
        self.arrived_s.append(time.perf_counter())
        if len(self.bodies) >= self.calls_wanted:
            self.reached.set()
        self.active += 1
        self.most_active = max(self.most_active, self.active)
        try:
            return await self._answer(self.script(number), body, writer)
        finally:
            self.active -= 1

    async def _answer(self, script: Script, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        await _until(self.stalled_until_s)
        if script.hang:
            await asyncio.sleep(3600)
        if script.body is not None or script.status != 200:
            self._whole(writer, script, script.body or b'{"error": {"message": "no", "code": "scripted"}}')
        elif body.get("stream"):
            if not await self._stream(script, body, writer):
                return False
        else:
            await asyncio.sleep(script.first_s + script.gap_s * (script.pieces - 1))
            text = {"message": {"role": "assistant", "content": "word " * script.pieces}}
            reply = {"choices": [{"index": 0, "finish_reason": "stop", **text}], "usage": self._usage(script)}
            self._whole(writer, script, json.dumps(reply).encode())
        await writer.drain()
        return not script.close

    def _whole(self, writer: asyncio.StreamWriter, script: Script, body: bytes) -> None:
        told = "connection: close\r\n" if script.close == "told" else ""
        size = "" if script.close == "length" else f"content-length: {len(body)}\r\n"
        writer.write(
            f"HTTP/1.1 {script.status} X\r\ncontent-type: application/json\r\n{told}{size}\r\n".encode() + body
        )

    def _usage(self, script: Script) -> dict[str, int] | None:
        if not script.per_piece:
            return None
        return {"prompt_tokens": script.input_tokens, "completion_tokens": script.pieces * script.per_piece}

    async def _stream(self, script: Script, body: dict[str, Any], writer: asyncio.StreamWriter) -> bool:
        """Return whether the connection may go on."""
        told = "connection: close\r\n" if script.close == "told" else ""
        kind = "application/jsonlines" if script.lines else "text/event-stream"
        writer.write(f"HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\n{told}transfer-encoding: chunked\r\n\r\n".encode())
        chat = "messages" in body

        def event(payload: Any) -> None:
            text = payload if isinstance(payload, str) else json.dumps(payload)
            data = (f"{text}\n" if script.lines else f"data: {text}\n\n").encode()
            writer.write(b"%x\r\n%b\r\n" % (len(data), data))

        if chat:
            event({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
        due = time.perf_counter() + script.first_s
        for piece in range(script.pieces):
            await _until(due)
            if script.cut_after == piece:
                return False
            if script.end_after == piece:
                break
            if script.error_after == piece:
                event({"error": {"message": "broke", "type": "server_error", "code": "engine_died"}})
                break
            said = {"delta": {"content": "word "}} if chat else {"text": "word "}
            last = "stop" if piece == script.pieces - 1 else None
            event({"choices": [{"index": 0, "finish_reason": last, **said}]})
            await writer.drain()
            due += script.gap_s
        else:
            if usage := self._usage(script):
                event({"choices": [], "usage": usage})
            event("" if script.lines else "[DONE]")
        writer.write(b"0\r\n\r\n")
        return True


async def _until(moment: float) -> None:
    while (left := moment - time.perf_counter()) > 0:  # noqa: ASYNC110 - it waits for the clock, not for an event
        await asyncio.sleep(left)


@contextlib.contextmanager
def fake_openai(script: Callable[[int], Script] | Script, tls: ssl.SSLContext | None = None) -> Iterator[Fake]:
    """Run the server until this is left."""
    fake = Fake((lambda _: script) if isinstance(script, Script) else script)
    fake.scheme = "http" if tls is None else "https"
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="fake OpenAI", daemon=True)
    thread.start()

    async def start() -> asyncio.Server:
        return await asyncio.start_server(fake.serve, "127.0.0.1", 0, backlog=2048, ssl=tls)

    async def stop() -> None:
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0.01)  # in which aborted transports close their sockets

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(WAIT_S)
    fake.port = server.sockets[0].getsockname()[1]
    try:
        yield fake
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result(WAIT_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)
        loop.close()
