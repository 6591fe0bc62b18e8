"""The keys in Redis, mirrored in this process: finding one asks nobody.

Every change is announced, and the announcement is not relied on: the version is asked for several times a second. While
Redis is away the mirror goes on with what it has; expiry needs no Redis.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Callable, Iterable
from hashlib import sha256
from math import inf
from time import time

from gateway.auth.keys import raw_digest
from gateway.auth.principal import Principal
from gateway.auth.principals import Principals
from gateway.auth.records import valid
from gateway.auth.registry import KeyRegistry, read_all
from gateway.config.models import Key
from gateway.errors import KeysUnavailable

log = logging.getLogger(__name__)

POLL_S = 0.3
"""How long a change may go unnoticed if its announcement is lost."""
RETRY_S = 0.3
_compare = hmac.compare_digest
_Entry = tuple[bytes, Principal | None, float]
_NOBODY: _Entry = (bytes(32), None, inf)


class MirroredKeyStore:
    """The keys of the file and those in Redis. Where both have an id or a key, the file's counts."""

    __slots__ = (
        "_away",
        "_by_digest",
        "_clock",
        "_file_ids",
        "_held",
        "_principals",
        "_raw",
        "_registry",
        "_task",
        "_version",
    )

    def __init__(
        self,
        registry: KeyRegistry,
        keys: Iterable[Key],
        principals: Principals,
        *,
        clock: Callable[[], float] = time,
    ) -> None:
        """`keys` are the file's. `clock` returns Unix seconds."""
        self._registry = registry
        self._principals = principals
        self._clock = clock
        self._by_digest: dict[bytes, _Entry] = {}
        self._file_ids = set()
        for key in keys:
            raw = raw_digest(key.digest)
            self._by_digest[raw] = (raw, principals.of_key(key), inf)
            self._file_ids.add(key.id)
        self._raw: dict[bytes, bytes] = {}
        """The records in force, as they are stored."""
        self._held: dict[bytes, list[bytes]] = {}
        """Id → the digests that its record has put into `_by_digest`."""
        self._version: bytes | None = None
        self._away = False
        self._task: asyncio.Task[None] | None = None

    def find(self, presented: bytes) -> Principal | None:
        """Return the principal of this key, None if there is none. Costs one hash and one look-up (about 1 µs)."""
        hashed = sha256(presented).digest()
        known, principal, until = self._by_digest.get(hashed, _NOBODY)
        return principal if _compare(known, hashed) and self._clock() < until else None

    async def start(self) -> None:
        """Load the keys, and go on following them. Redis' absence is no reason not to start."""
        try:
            await self._catch_up()
        except KeysUnavailable as error:
            self._away = True
            log.error(
                "keys in redis cannot be loaded: only those of the file are served", extra={"detail": error.detail}
            )
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._registry.close()

    async def _follow(self) -> None:
        while True:
            try:
                async with self._registry.changes() as wait:
                    while True:
                        await self._catch_up()
                        await wait(POLL_S)
            except KeysUnavailable as error:
                if not self._away:
                    log.error("redis is away: keys stay as they are", extra={"detail": error.detail})
                    self._away = True
            except Exception as error:  # a defect must not end the following of revocations
                log.error("unexpected error", exc_info=error)
            await asyncio.sleep(RETRY_S)

    async def _catch_up(self) -> None:
        version = await self._registry.version()
        if version is None and self._version is not None:
            # Nothing ever takes the version away but the loss of everything, which is no revocation of every key.
            if not self._away:
                log.error("redis has lost its keys: those known before go on", extra={"keys": len(self._raw)})
                self._away = True
            return
        if version != self._version:
            self._take(await self._registry.load())
            self._version = version  # asked for before the records: a change in between is found by the next poll
        if self._away:
            self._away = False
            log.info("redis is back: keys are current", extra={"keys": len(self._raw)})

    def _take(self, raw: dict[bytes, bytes]) -> None:
        """Put the records in force. What has not changed keeps its principal, and with it the rules made for it."""
        for id_ in self._raw.keys() - raw.keys():
            self._drop(id_)
        fresh = {id_: data for id_, data in raw.items() if self._raw.get(id_) != data}
        for id_, record in zip(fresh, read_all(fresh).values(), strict=True):
            self._drop(id_)
            if record is None or record.id.encode() != id_:
                log.error(
                    "a key in redis cannot be read and is not served", extra={"key": id_.decode(errors="replace")}
                )
            elif record.id in self._file_ids:
                log.error("a key in redis has the id of one in the file and is not served", extra={"key": record.id})
            else:
                principal = self._principals.of_key(record)
                held = self._held[id_] = []
                for digest, until in valid(record):
                    if digest not in self._by_digest:
                        self._by_digest[digest] = (digest, principal, until)
                        held.append(digest)
        self._raw = raw

    def _drop(self, id_: bytes) -> None:
        for digest in self._held.pop(id_, ()):
            del self._by_digest[digest]

    def __len__(self) -> int:
        return len(self._by_digest)

    def __repr__(self) -> str:
        return f"MirroredKeyStore({len(self._by_digest)} keys)"
