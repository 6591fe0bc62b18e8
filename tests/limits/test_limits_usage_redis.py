"""The books in a real Redis: what a gateway wrote there is what is read, however large, and wherever it lies."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

import pytest
import redis

from gateway.auth.principal import Principal
from gateway.limits.rules import Amounts
from gateway.limits.script import Keys
from gateway.limits.usage import Question, Report, TooManyLines, Unreadable
from gateway.limits.usage_redis import RedisBooks
from tests.limits.world import redis_limits, settled
from tests.support.redis_server import RedisServer, running_redis

KEYS = Keys("test")
DAY = 20_513  # 2026-03-01
PATIENCE_S = 20.0


@pytest.fixture(scope="module")
def shared() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


@pytest.fixture
def server(shared: RedisServer) -> RedisServer:
    with shared.client() as client:
        client.flushall()
    return shared


def read(url: str, *, max_lines: int | None = None, **asked: Any) -> Report:
    """Return what is read within the days around the first of March."""
    asked = {"first": "2026-02-01", "last": "2026-03-31"} | asked
    report = Report(Question.of(datetime.now(UTC).date(), **asked), max_lines=max_lines)
    asyncio.run(RedisBooks(url, prefix="test", timeout_s=0.5).read(report))
    return report


def write(server: RedisServer, day: int, books: dict[str, int | str]) -> None:
    with server.client() as client:
        client.hset(KEYS.books(day), mapping=books)


def requests(report: Report) -> dict[tuple[str, ...], int]:
    return {line.group: line.used[0] for line in report.lines()}


def test_what_a_gateway_settles_is_what_is_read(server: RedisServer) -> None:
    async def use() -> None:
        async with redis_limits(server) as store:
            row = Principal("app", None, team="search").row("llama:law")
            for _ in range(3):
                reservation = await store.reserve(store.rule_set(()), Amounts())
                books = {row.requests: 1, row.prompt_tokens: 10, row.milliseconds: 1500, row.money: 7}
                store.settle(reservation, Amounts(), books)
            await settled(store)

    asyncio.run(use())
    today = datetime.now(UTC).date()
    # The books are of Redis' day, which may have begun since.
    report = read(server.url, first=(today.replace(day=1)).isoformat(), last=today.isoformat(), by="key,team,model")
    assert [tuple(line) for line in report.lines()] == [(("app", "search", "llama:law"), (3, 30, 0, 0, 4500, 21))]


def test_days_before_between_and_after(server: RedisServer) -> None:
    for day, number in {DAY - 29: 1, DAY - 28: 10, DAY: 100, DAY + 30: 1000, DAY + 31: 10_000}.items():
        write(server, day, {"app||llama|requests": number})
    assert read(server.url).total[0] == 1110
    assert requests(read(server.url, by="day")) == {
        ("2026-02-01",): 10,
        ("2026-03-01",): 100,
        ("2026-03-31",): 1000,
    }


def test_a_large_day_is_read_whole_and_once(server: RedisServer) -> None:
    write(server, DAY, {f"key-{n}||llama|requests": n for n in range(20_000)})
    report = read(server.url)
    assert (len(report), report.total[0]) == (20_000, 199_990_000)
    assert requests(read(server.url, key="key-777", by="key")) == {("key-777",): 777}


def test_a_large_day_is_left_when_there_are_too_many_lines(server: RedisServer) -> None:
    write(server, DAY, {f"key-{n}||llama|requests": n for n in range(5000)})
    with pytest.raises(TooManyLines):
        read(server.url, max_lines=1000)


@pytest.mark.parametrize("name", ["a*b", "a[bc]d", "a?b", "a\\b", "a^b", "[^a]", "é"])
def test_a_name_is_no_pattern(server: RedisServer, name: str) -> None:
    others = ("axb", "abd", "acd", "ab", "b", "x")
    write(server, DAY, {f"{key}|{key}|{key}|requests": 1 for key in (name, *others)})
    for part in ("key", "team", "model"):
        asked: dict[str, Any] = {part: name}
        assert requests(read(server.url, by=part, **asked)) == {(name,): 1}


def test_a_name_that_holds_something_else_is_passed_over(server: RedisServer) -> None:
    with server.client() as client:
        client.set(KEYS.books(DAY - 1), "text")
    write(server, DAY, {"app||llama|requests": 1, "hello": "world"})
    report = read(server.url)
    assert (report.total[0], report.skipped) == (1, 2)


def test_books_of_another_prefix_are_others(server: RedisServer) -> None:
    with server.client() as client:
        client.hset(Keys("other").books(DAY), "app||llama|requests", 1)
    assert read(server.url).total[0] == 0


# When Redis does not answer


def test_nobody_listens() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        with pytest.raises(Unreadable, match=r"^there is no connection to Redis$"):
            read(f"redis://u:secret@127.0.0.1:{unused.getsockname()[1]}/0")


def test_a_frozen_redis_is_given_up(server: RedisServer) -> None:
    server.pause()
    try:
        with pytest.raises(Unreadable, match=r"^Redis does not answer within 0\.5 seconds$"):
            read(server.url)
    finally:
        server.resume()


@pytest.mark.parametrize(
    ("user", "reason"),
    [
        pytest.param("", "Redis refuses the user name or the password", id="nobody"),
        pytest.param(":wrong@", "Redis refuses the user name or the password", id="wrong password"),
        pytest.param("blind:secret@", "the user of Redis has no permission for HSCAN", id="may not read"),
        pytest.param("reader:secret@", None, id="may read"),
    ],
)
def test_a_redis_with_users(server: RedisServer, user: str, reason: str | None) -> None:
    write(server, DAY, {"app||llama|requests": 1})
    with server.client() as client, contextlib.ExitStack() as stack:
        client.acl_setuser("blind", enabled=True, passwords="+secret", categories=["+@connection"], keys=["*"])
        client.acl_setuser("reader", enabled=True, passwords="+secret", commands=["+hscan"], keys=["{test}:u:*"])
        client.config_set("requirepass", "right")
        stack.callback(client.config_set, "requirepass", "")
        url = server.url.replace("redis://", f"redis://{user}")
        if reason is None:
            assert read(url).total[0] == 1
        else:
            with pytest.raises(Unreadable) as found:
                read(url)
            assert str(found.value) == reason


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://127.0.0.1", id="another scheme"),
        pytest.param("redis://:pass#word@127.0.0.1", id="a password that is not quoted"),
        pytest.param("redis://127.0.0.1/0?colour=red", id="unknown option"),
        pytest.param("redis://127.0.0.1/0?socket_timeout=red", id="option of another kind"),
    ],
)
def test_a_wrong_url_is_told_before_reading(url: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        RedisBooks(url, prefix="test")


def test_a_host_name_that_cannot_be_one() -> None:
    with pytest.raises(Unreadable, match="there is no connection to Redis"):
        read(f"redis://{'a' * 70}.invalid/0")


# A cluster


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def command(server: RedisServer, *words: Any) -> Any:
    with server.client() as client:
        return client.execute_command(*words)


def test_any_node_of_a_cluster_leads_to_the_books() -> None:
    buses = [free_port(), free_port()]
    options = ("--cluster-enabled", "yes", "--cluster-require-full-coverage", "no", "--cluster-port")
    with running_redis(*options, str(buses[0])) as one, running_redis(*options, str(buses[1])) as two:
        command(two, "CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        command(one, "CLUSTER", "MEET", "127.0.0.1", two.port, buses[1])
        deadline = time.monotonic() + PATIENCE_S
        while True:
            assert time.monotonic() < deadline, "the nodes do not find each other"
            try:
                command(two, "HSET", KEYS.books(DAY), "app||llama|requests", 5)
                command(one, "HLEN", KEYS.books(DAY))
            except redis.exceptions.MovedError:
                break
            except redis.exceptions.ResponseError:  # not yet
                assert two.process
                with contextlib.suppress(subprocess.TimeoutExpired):
                    two.process.wait(0.02)
        for node in (one, two):
            assert requests(read(node.url, by="key")) == {("app",): 5}


def test_over_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with running_redis("--unixsocket", str(path)) as server:
        write(server, DAY, {"app||llama|requests": 5})
        assert read(f"unix://{path}").total[0] == 5


def test_over_tls_the_authorities_are_those_of_the_file(tmp_path: Path) -> None:
    report = Report(Question(date(2026, 3, 1), date(2026, 3, 1)))
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"rediss://127.0.0.1:{silent.getsockname()[1]}"
        books = RedisBooks(url, prefix="test", ca_file=str(tmp_path / "none"), timeout_s=0.5)
        # Otherwise it would be the silence that ends it.
        with pytest.raises(Unreadable, match="there is no connection to Redis"):
            asyncio.run(books.read(report))
