"""The keys in Redis: read, changed, and followed.

    {prefix}:k:records   hash: id → record as JSON
    {prefix}:k:version   a word that is another one after every change
    {prefix}:k:changes   channel: told the new version

All names share a hash tag, so on a cluster they live on one node, which is found by its redirection.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MovedError, RedisError

from gateway.auth.records import KeyRecord
from gateway.errors import KeyExists, KeyNotFound, KeysUnavailable

TIMEOUT_S = 2.0
"""What Redis may take for connecting, and for an answer."""
MAX_TRIES = 20
"""Attempts at changing a record that others are changing at the same time."""

# The same change sent twice, over a connection that broke, is one change.
_PUT = """
local before = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if before ~= ARGV[2] then return before == ARGV[3] and 1 or 0 end
if ARGV[3] == '' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
end
redis.call('SET', KEYS[2], ARGV[4])
redis.call('PUBLISH', KEYS[3], ARGV[4])
return 1
"""


class KeyRegistry:
    """The records of all keys. Every method raises KeysUnavailable if Redis does not do as it is asked."""

    def __init__(self, url: str, *, prefix: str, ca_bundle: Path | None = None) -> None:
        """`url` as in the setting `redis_url`; nothing is connected yet."""
        self._url = url
        self._options: dict[str, Any] = {
            "socket_timeout": TIMEOUT_S,
            "socket_connect_timeout": TIMEOUT_S,
            # A kept connection may have been closed meanwhile; a second attempt takes a new one.
            "retry": Retry(NoBackoff(), 1),
            **({"ssl_ca_certs": str(ca_bundle)} if ca_bundle and url.startswith("rediss:") else {}),
        }
        self._records, self._version, self._changes = (
            f"{{{prefix}}}:k:{name}" for name in ("records", "version", "changes")
        )
        self._redis = self._connected()

    async def close(self) -> None:
        await self._redis.aclose(close_connection_pool=True)

    async def get(self, id_: str) -> KeyRecord:
        """Return one record.

        Raises:
            KeyNotFound: there is none.
        """
        return _parsed(await self._raw(id_), id_)

    async def all(self) -> list[KeyRecord]:
        """Return every record that can be read, by id."""
        return [record for _, record in sorted(read_all(await self.load()).items()) if record is not None]

    async def create(self, record: KeyRecord) -> None:
        """Add a record.

        Raises:
            KeyExists: there is one of this id.
        """
        if not await self._put(record.id, b"", _encoded(record)):
            raise KeyExists(f"There is a key {record.id!r} already.", param="id")

    async def change(self, id_: str, change: Callable[[KeyRecord], KeyRecord]) -> KeyRecord:
        """Put what `change` makes of a record in its place, and return it. It is called again if others interfere.

        Raises:
            KeyNotFound: there is none.
        """
        for _ in range(MAX_TRIES):
            before = await self._raw(id_)
            record = change(_parsed(before, id_))
            after = _encoded(record)
            if before == after or await self._put(id_, before, after):
                return record
        raise KeysUnavailable("This key is being changed by others. Please retry.")

    async def revoke(self, id_: str) -> None:
        """Delete a record.

        Raises:
            KeyNotFound: there is none.
        """
        for _ in range(MAX_TRIES):
            if await self._put(id_, await self._raw(id_), b""):
                return
        raise KeysUnavailable("This key is being changed by others. Please retry.")

    async def version(self) -> bytes | None:
        """Return a word that changes with every change; None if there has never been one."""
        version: bytes | None = await self._do("GET", self._version)
        return version

    async def load(self) -> dict[bytes, bytes]:
        """Return every record as it is stored, by id."""
        records: dict[bytes, bytes] = await self._do("HGETALL", self._records)
        return records

    @contextlib.asynccontextmanager
    async def changes(self) -> AsyncIterator[Callable[[float], Any]]:
        """Listen to changes: yield a coroutine function that returns after one, or after that many seconds."""
        async with self._redis.pubsub() as listener:
            with _unavailable():
                await listener.subscribe(self._changes)

            async def wait(timeout_s: float) -> None:
                with _unavailable():
                    await listener.get_message(timeout=timeout_s)

            yield wait

    async def _raw(self, id_: str) -> bytes:
        raw: bytes | None = await self._do("HGET", self._records, id_)
        if raw is None:
            raise KeyNotFound(f"There is no key {id_!r} in Redis.")
        return raw

    async def _put(self, id_: str, before: bytes, after: bytes) -> bool:
        names = (self._records, self._version, self._changes)
        return bool(await self._do("EVAL", _PUT, 3, *names, id_, before, after, secrets.token_hex(8)))

    async def _do(self, *command: Any) -> Any:
        with _unavailable():
            for _ in range(3):
                try:
                    return await self._redis.execute_command(*command)  # type: ignore[no-untyped-call]  # redis-py's way
                except MovedError as moved:
                    await self._take(self._connected(moved.host, moved.port))
                except RedisError:
                    await self._take(self._connected())  # the node it had moved to may be no more
                    raise
            raise RedisError("MOVED again and again")

    async def _take(self, redis: Redis) -> None:
        before, self._redis = self._redis, redis
        with contextlib.suppress(RedisError, OSError):
            await before.aclose(close_connection_pool=True)

    def _connected(self, host: str | None = None, port: int = 0) -> Redis:
        options: dict[str, Any] = {**parse_url(self._url), **self._options}
        if host is not None:
            options |= {"host": host or options.get("host", "localhost"), "port": port}
        return Redis(connection_pool=ConnectionPool(**options))


def read_all(raw: dict[bytes, bytes]) -> dict[str, KeyRecord | None]:
    """Return the records by id; None for one that this version cannot read, and which therefore is not valid."""
    found: dict[str, KeyRecord | None] = {}
    for id_, data in raw.items():
        try:
            found[id_.decode()] = KeyRecord.model_validate_json(data)
        except ValueError:  # pydantic's ValidationError is one
            found[id_.decode(errors="replace")] = None
    return found


def _encoded(record: KeyRecord) -> bytes:
    return record.model_dump_json(exclude_defaults=True).encode()


def _parsed(data: bytes, id_: str) -> KeyRecord:
    try:
        return KeyRecord.model_validate_json(data)
    except ValueError:
        raise KeysUnavailable(f"The record of the key {id_!r} cannot be read by this version.") from None


@contextlib.contextmanager
def _unavailable() -> Any:
    """Give errors of the connection, and refusals by Redis, one name."""
    try:
        yield
    except (RedisError, OSError) as error:
        # Redis' own refusals begin with a word; the rest of the text may name users and commands.
        word = str(error).split(" ", 1)[0]
        detail = f"{type(error).__name__} {word}" if word.isupper() else type(error).__name__
        raise KeysUnavailable("Redis does not answer. Please retry later.", detail=detail) from None
