"""A container whose every answer is written down beforehand, and which remembers what became of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

from deploy.local.container import ContainerReply, ContainerRequest


class ScriptedContainer:
    """Answers each call with the same chunks, waiting where it is told to.

    `chunks` is a whole body as bytes or the chunks of a streamed one. With `pause_after=k` it stops before chunk k
    (0: before the head; the number of chunks: before the end) until `resume` is set.
    """

    def __init__(
        self,
        chunks: bytes | Sequence[bytes] = b"{}",
        *,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        pause_after: int | None = None,
    ) -> None:
        self.chunks = chunks
        self.status = status
        self.headers = {"content-type": content_type} | dict(headers or {})
        self.pause_after = pause_after
        self.resume = asyncio.Event()
        self.ping_status = 200
        self.requests: list[ContainerRequest] = []
        self.paused = asyncio.Event()
        """Set when a call stopped at `pause_after`."""
        self.hung_up = asyncio.Event()
        """Set when a caller left before the answer's end."""
        self.closed = False

    async def ping(self) -> int:
        return self.ping_status

    async def invoke(self, request: ContainerRequest) -> ContainerReply:
        self.requests.append(request)
        if self.pause_after == 0:
            try:
                await self._pause()
            except asyncio.CancelledError:
                self.hung_up.set()
                raise
        body = self.chunks if isinstance(self.chunks, bytes) else self._stream(self.chunks)
        return ContainerReply(self.status, self.headers, body)

    async def _stream(self, chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
        complete = False
        try:
            for index, chunk in enumerate(chunks):
                if index and index == self.pause_after:
                    await self._pause()
                yield chunk
            if self.pause_after is not None and self.pause_after >= len(chunks):
                await self._pause()
            complete = True
        finally:
            if not complete:
                self.hung_up.set()

    async def _pause(self) -> None:
        self.paused.set()
        await self.resume.wait()

    async def aclose(self) -> None:
        self.closed = True
