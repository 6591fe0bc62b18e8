"""Reading from containers: with deadlines, and with one meaning for all the ways in which they fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

from deploy.local.container import Container

log = logging.getLogger(__name__)


class ContainerGone(ConnectionError):
    """The container ended the connection instead of its answer."""


class Health:
    """Whether containers answer `GET /ping` with 200."""

    def __init__(self, *, timeout_s: float, interval_s: float) -> None:
        self._timeout_s, self._interval_s = timeout_s, interval_s
        self._believed_until: dict[int, float] = {}
        self._locks: dict[int, asyncio.Lock] = {}

    async def good(self, container: Container) -> bool:
        """Return the last good word if it is fresh, else ask."""
        if self._fresh(container):
            return True
        async with self._locks.setdefault(id(container), asyncio.Lock()):
            if self._fresh(container):
                return True
            clock = asyncio.timeout(self._timeout_s)
            try:
                async with clock:
                    status = await container.ping()
            except Exception as error:
                if not clock.expired():
                    container_gone(error)
                return False
            if status == 200:
                now = asyncio.get_running_loop().time()
                self._believed_until[id(container)] = now + self._interval_s
            return status == 200

    def doubt(self, container: Container) -> None:
        """Ask again before the next call."""
        self._believed_until.pop(id(container), None)

    def _fresh(self, container: Container) -> bool:
        return self._believed_until.get(id(container), 0.0) > asyncio.get_running_loop().time()


async def next_chunk(chunks: AsyncIterator[bytes], deadline: float) -> bytes | None:
    """Return the container's next chunk, or None at the end of its reply.

    Raises:
        TimeoutError: the deadline passed.
        ContainerGone: the container failed.
    """
    clock = asyncio.timeout_at(deadline)
    try:
        async with clock:
            return await anext(chunks, None)
    except Exception as error:
        if clock.expired():
            raise TimeoutError from None
        raise container_gone(error) from error


def container_gone(error: Exception) -> ContainerGone:
    """Return what a container's failure means to SageMaker; a failure that is no lost connection is logged."""
    if isinstance(error, ContainerGone):
        return error
    if not isinstance(error, ConnectionError):
        log.error("a container failed", exc_info=error)
    return ContainerGone(type(error).__name__)


async def close_body(body: bytes | AsyncIterator[bytes]) -> None:
    """Hang up on the container."""
    aclose = getattr(body, "aclose", None)
    if aclose is not None:
        await aclose()


async def read_whole(body: bytes | AsyncIterator[bytes], limit: int, deadline: float) -> tuple[bytes, bool]:
    """Return a container's body and whether that is all of it: it may end early, or be longer than `limit` bytes.

    Raises:
        TimeoutError: the deadline, on the loop's clock, passed.
    """
    if isinstance(body, bytes):
        return body[:limit], len(body) <= limit
    parts, size = [], 0
    chunks = aiter(body)
    try:
        while (chunk := await next_chunk(chunks, deadline)) is not None:
            parts.append(chunk)
            size += len(chunk)
            if size > limit:
                return b"".join(parts)[:limit], False
    except ConnectionError:
        return b"".join(parts), False
    return b"".join(parts), True
