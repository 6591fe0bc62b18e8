"""The books in Redis, read without hurting it: HSCAN by the thousand, never a whole large hash at once.

Apart from the connection of calls, because reading may take its time. In a Redis Cluster all books lie on one node, as
their names share a hash tag: where another node says MOVED, that one is asked.
https://redis.io/docs/latest/commands/scan/
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from typing import Any

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    BusyLoadingError,
    MovedError,
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from gateway.limits.script import Keys
from gateway.limits.usage import Question, Report, Unreadable

PAGE = 1000
"""Fields that Redis looks at for one answer."""
DAYS_AT_ONCE = 32
MOVES = 3
"""How often a cluster may point to another node while it is resharded."""


class RedisBooks:
    """The books of all gateways that share a Redis and a prefix."""

    def __init__(self, url: str, *, prefix: str, ca_file: str | None = None, timeout_s: float = 5.0) -> None:
        """`timeout_s` is for each answer, not for all of them together.

        Raises:
            ValueError: `url` is none of Redis. The text may hold parts of it: not for showing.
        """
        self._url = url
        self._keys = Keys(prefix)
        self._timeout_s = timeout_s
        self._options: dict[str, Any] = {
            "socket_timeout": timeout_s,
            "socket_connect_timeout": timeout_s,
            "retry": Retry(NoBackoff(), 0),
        }
        if ca_file is not None and url.startswith("rediss://"):
            self._options["ssl_ca_certs"] = ca_file
        try:
            self._pool().make_connection()  # type: ignore[no-untyped-call]  # redis-py has no types here
        except TypeError:
            raise ValueError("an option that connections do not have") from None

    async def read(self, report: Report) -> None:
        """Let a report take the books of its question's days.

        Raises:
            Unreadable: Redis is away, or refuses.
            TooManyLines: as of Report.take.
        """
        pool = self._pool()
        client = Redis(connection_pool=pool)
        days, at, moves = report.question.days, 0, 0
        try:
            while at < len(days):
                try:
                    async with aclosing(self._scan(client, report.question, days[at : at + DAYS_AT_ONCE])) as found:
                        async for books in found:
                            if books is None:
                                report.skipped += 1
                            else:
                                report.take(days[at], books.items())
                            at += 1
                except MovedError as moved:
                    moves += 1
                    if moves > MOVES or "path" in pool.connection_kwargs:
                        raise
                    await pool.disconnect()
                    there = {"port": moved.port} | ({"host": moved.host} if moved.host else {})
                    pool = self._pool()
                    pool.connection_kwargs |= there
                    client = Redis(connection_pool=pool)
        except (RedisError, OSError, UnicodeError) as error:  # UnicodeError: a host name that cannot be one
            raise Unreadable(self._reason(error)) from None
        finally:
            await pool.disconnect()

    async def _scan(
        self, client: Redis, question: Question, days: range
    ) -> AsyncGenerator[Mapping[bytes, bytes] | None, None]:
        """Yield the books of each day, None where something else has their name."""
        pattern = _pattern(question)
        async with client.pipeline(transaction=False) as pipeline:
            for day in days:
                pipeline.hscan(self._keys.books(day), 0, pattern, PAGE)
            answers = await pipeline.execute(raise_on_error=False)
        for day, answer in zip(days, answers, strict=True):
            if isinstance(answer, ResponseError) and "WRONGTYPE" in str(answer):
                yield None
                continue
            if isinstance(answer, Exception):
                raise answer
            cursor, books = answer
            while cursor:
                # A field may come twice while the hash grows, so a day is handed on when it is whole.
                cursor, more = await client.hscan(self._keys.books(day), cursor, pattern, PAGE)
                books |= more
            yield books

    def _pool(self) -> ConnectionPool:
        return ConnectionPool.from_url(self._url, **self._options)

    def _reason(self, error: Exception) -> str:
        for kind, reason in _REASONS:
            if isinstance(error, kind):
                return reason.format(timeout_s=self._timeout_s)
        return "there is no connection to Redis"


_REASONS: tuple[tuple[type[Exception], str], ...] = (
    (AuthenticationError, "Redis refuses the user name or the password"),
    (NoPermissionError, "the user of Redis has no permission for HSCAN"),
    (BusyLoadingError, "Redis is still loading its data"),
    (TimeoutError, "Redis does not answer within {timeout_s:g} seconds"),
    (MovedError, "the Redis Cluster points from node to node"),
    (ResponseError, "Redis answers with an error"),
)


def _pattern(question: Question) -> str | None:
    """Return which fields Redis need not send, as far as its patterns can tell; the report looks again."""
    asked = (question.key, question.team, question.model)
    if asked == (None, None, None):
        return None
    return "|".join([*("*" if name is None else "".join(_escaped(name)) for name in asked), "*"])


def _escaped(name: str) -> Iterator[str]:
    for character in name:
        yield f"\\{character}" if character in "*?[]\\^-" else character
