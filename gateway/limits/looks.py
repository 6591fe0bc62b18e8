"""What is taken of limits at this moment, for people to look at: read beside the calls, and nothing is changed by it.

In memory the ledger itself is asked; in Redis what `gcra.lua` keeps is read with GET and HGETALL, on a connection apart
from that of the calls.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import MovedError, RedisError

from gateway.limits.gcra import MINUTE_MS, period_of
from gateway.limits.quick import QuickLedger
from gateway.limits.rules import Kind, Rule, Taken
from gateway.limits.script import Keys
from gateway.limits.usage import Unreadable

TIMEOUT_S = 2.0
MOVES = 3
"""How often a cluster may point to another node."""
_DEBT = re.compile(rb"([0-9]{1,19}):([0-9]{1,22})")
_OWNER, _RESERVED = b"o:", b"r:"


class Looks(Protocol):
    """Where limits are counted."""

    async def taken(self, rules: Sequence[Rule]) -> list[Taken]:
        """Return what is taken of each rule.

        Raises:
            Unreadable: nobody can say now.
        """
        ...


class MemoryLooks:
    """The limits of this process."""

    def __init__(self, ledger: Callable[[], QuickLedger | None], clock_ms: Callable[[], int]) -> None:
        self._ledger = ledger
        self._clock_ms = clock_ms

    async def taken(self, rules: Sequence[Rule]) -> list[Taken]:
        ledger = self._ledger()
        if ledger is None:
            raise Unreadable("each worker process counts by itself; count in Redis (`limits_store: redis`)")
        now_ms = self._clock_ms()
        return [ledger.taken(now_ms, rule) for rule in rules]


class RedisLooks:
    """The limits of all gateways that share a Redis and a prefix."""

    def __init__(self, url: str, *, prefix: str, ca_file: str | None = None) -> None:
        self._options: dict[str, Any] = {
            **parse_url(url),
            "socket_timeout": TIMEOUT_S,
            "socket_connect_timeout": TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
        }
        if ca_file is not None and url.startswith("rediss://"):
            self._options["ssl_ca_certs"] = ca_file
        self._keys = Keys(prefix)

    async def taken(self, rules: Sequence[Rule]) -> list[Taken]:
        try:
            return await self._asked(rules, dict(self._options), MOVES)
        except (RedisError, OSError, UnicodeError, ValueError, TypeError):
            raise Unreadable("Redis does not answer, or not as it should") from None

    async def _asked(self, rules: Sequence[Rule], options: dict[str, Any], moves: int) -> list[Taken]:
        client = Redis(connection_pool=ConnectionPool(**options))
        try:
            pipeline = client.pipeline(transaction=False)
            pipeline.time()
            pipeline.hgetall(self._keys.meta)
            for rule in rules:
                name = self._keys.rule(rule)
                pipeline.get(name) if rule.is_rate else pipeline.hgetall(name)
            (seconds, micros), meta, *found = await pipeline.execute()
        except MovedError as moved:
            if not moves:
                raise
            there = {"port": moved.port} | ({"host": moved.host} if moved.host else {})
            return await self._asked(rules, options | there, moves - 1)
        finally:
            await client.aclose(close_connection_pool=True)
        now_ms = seconds * 1000 + micros // 1000
        now = now_ms + int(meta.get(b"offset", 0))
        living = {
            name.removeprefix(_OWNER) for name, ends in meta.items() if name.startswith(_OWNER) and int(ends) > now
        }
        return [taken_of(rule, what, now, now_ms, living) for rule, what in zip(rules, found, strict=True)]


def taken_of(rule: Rule, found: Any, now: int, now_ms: int, living: set[bytes]) -> Taken:
    """Return what is taken of a rule, by what the script keeps of it.

    Args:
        found: a rate's string, None for none; else the hash.
        now: milliseconds on the script's steady clock.
        living: the owners whose lease runs.
    """
    if rule.is_rate:
        debt = _DEBT.fullmatch(found or b"")
        if debt is None:
            return Taken(0)
        left = int(debt[2]) - max(0, now - int(debt[1])) * rule.amount
        return Taken(max(0, -(-left // MINUTE_MS)))
    if rule.kind is Kind.CONCURRENT:
        return Taken(_held(found, b"", living))
    if int(found.get(b"p", -1)) != period_of(rule.kind, now_ms):
        return Taken(0)
    return Taken(int(found.get(b"u", 0)), _held(found, _RESERVED, living))


def _held(found: Mapping[bytes, bytes], prefix: bytes, living: set[bytes]) -> int:
    return sum(
        int(amount) for name, amount in found.items() if name.startswith(prefix) and name.removeprefix(prefix) in living
    )
