"""What has been fetched or made: by URL for a short time, by content for as long as there is room.

A call for what another call is just fetching waits for that. Who has nobody left waiting is given up.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from adapters.openai.media import Kind
from gateway.media.faults import FetchFault, Outcome
from gateway.media.fetch import Fetched, Fetcher, FetchPolicy, Validators

MAX_URLS = 10_000
ENTRY_BYTES = 512
"""What an entry is counted with besides its data."""
LARGE_BYTES = 262_144
"""What is as long is hashed in a thread."""


@dataclass(frozen=True, slots=True)
class Content:
    """Some medium."""

    media_type: str
    data: bytes
    digest: bytes
    """SHA-256 of the data."""

    @property
    def key(self) -> Hashable:
        """The same bytes may be a sound to one part and a film to another."""
        return self.media_type, self.digest


class FetchTelemetry(Protocol):
    """Where fetches are counted."""

    def media_fetched(self, outcome: str, seconds: float, size: int) -> None: ...

    def media_cache(self, result: str) -> None: ...


class Shelf:
    """Contents by key, the least recently used thrown out once they are more than `max_bytes`."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._contents: OrderedDict[Hashable, Content] = OrderedDict()
        self.size = 0

    def get(self, key: Hashable) -> Content | None:
        content = self._contents.get(key)
        if content is not None:
            self._contents.move_to_end(key)
        return content

    def put(self, key: Hashable, content: Content) -> None:
        size = len(content.data) + ENTRY_BYTES
        if size > self._max_bytes:
            return
        before = self._contents.pop(key, None)
        if before is not None:
            self.size -= len(before.data) + ENTRY_BYTES
        self._contents[key] = content
        self.size += size
        while self.size > self._max_bytes:
            _, oldest = self._contents.popitem(last=False)
            self.size -= len(oldest.data) + ENTRY_BYTES


@dataclass(frozen=True, slots=True)
class _Known:
    """What a URL was last seen to lead to."""

    content: Hashable
    validators: Validators | None
    fresh_until: float


@dataclass(slots=True, eq=False)
class _Shared:
    """A fetch, and how many wait for it."""

    task: asyncio.Task[Content]
    waiting: int = 0


class Library:
    """Fetches each thing once."""

    def __init__(
        self,
        fetcher: Fetcher,
        shelf: Shelf,
        telemetry: FetchTelemetry,
        *,
        fresh_s: float,
        now: Callable[[], float] = monotonic,
    ) -> None:
        self._fetcher = fetcher
        self._shelf = shelf
        self._telemetry = telemetry
        self._fresh_s = fresh_s
        self._now = now
        self._known: OrderedDict[Hashable, _Known] = OrderedDict()
        self._running: dict[Hashable, _Shared] = {}

    async def get(self, url: str, kind: Kind, policy: FetchPolicy) -> Content:
        """Return what is at a URL, fetched now or a short while ago.

        Raises:
            FetchFault: it could not be fetched.
        """
        # Another policy may not have got there, or not have taken what came.
        key = (policy, kind, url)
        known = self._known.get(key)
        held = None if known is None else self._shelf.get(known.content)
        if known is not None and held is not None and self._now() < known.fresh_until:
            self._telemetry.media_cache("hit")
            return held
        shared = self._running.get(key)
        if shared is None:
            self._telemetry.media_cache("miss")
            shared = self._running[key] = _Shared(asyncio.create_task(self._fetch(key, url, kind, policy, known, held)))
            shared.task.add_done_callback(lambda _: self._over(key, shared))
        else:
            self._telemetry.media_cache("shared")
        return await self._wait(key, shared)

    async def made(self, key: Hashable, make: Callable[[], Awaitable[Content]]) -> Content:
        """Return what has been made under this key, by `make` if need be."""
        held = self._shelf.get(key)
        if held is None:
            held = await make()
            self._shelf.put(key, held)
        return held

    async def close(self) -> None:
        """Give up every fetch."""
        tasks = [shared.task for shared in self._running.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self, key: Hashable, shared: _Shared) -> Content:
        shared.waiting += 1
        try:
            return await asyncio.shield(shared.task)
        finally:
            shared.waiting -= 1
            if not shared.waiting and not shared.task.done():
                self._over(key, shared)  # whoever comes now starts anew
                shared.task.cancel()

    def _over(self, key: Hashable, shared: _Shared) -> None:
        if self._running.get(key) is shared:
            del self._running[key]
        if shared.task.done() and not shared.task.cancelled():
            shared.task.exception()  # seen, even if nobody waits any more

    async def _fetch(
        self, key: Hashable, url: str, kind: Kind, policy: FetchPolicy, known: _Known | None, held: Content | None
    ) -> Content:
        began, outcome, size = self._now(), Outcome.CANCELLED, 0
        try:
            # Asking whether it is current makes sense only of what is still here.
            validators = known.validators if known is not None and held is not None else None
            fetched = await self._fetcher.fetch(url, kind, policy, validators)
            if fetched.unchanged and held is not None:
                outcome = Outcome.UNCHANGED
                content = held
            else:
                outcome, size = Outcome.OK, len(fetched.data)
                content = Content(fetched.media_type, fetched.data, await digest_of(fetched.data))
            self._remember(key, content, fetched)
            return content
        except FetchFault as fault:
            outcome = fault.outcome
            raise
        finally:
            self._telemetry.media_fetched(outcome, self._now() - began, size)

    def _remember(self, key: Hashable, content: Content, fetched: Fetched) -> None:
        self._known.pop(key, None)
        if not fetched.keep:
            return
        self._shelf.put(content.key, content)
        fresh_s = self._fresh_s if fetched.fresh_s is None else min(self._fresh_s, fetched.fresh_s)
        self._known[key] = _Known(content.key, fetched.validators, self._now() + fresh_s)
        if len(self._known) > MAX_URLS:
            self._known.popitem(last=False)


async def digest_of(data: bytes) -> bytes:
    """Return the SHA-256 of some data, which is no small work where there is much."""
    if len(data) < LARGE_BYTES:
        return _digest(data)
    return await asyncio.to_thread(_digest, data)


def _digest(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
