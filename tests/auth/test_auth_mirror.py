"""Keys in a real Redis, mirrored: changes arrive in under a second, and Redis' absence changes nothing."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from time import monotonic

import pytest

from gateway.auth.keys import digest, new_key
from gateway.auth.mirror import MirroredKeyStore
from gateway.auth.principals import Principals
from gateway.auth.records import KeyRecord, made, rotated
from gateway.auth.registry import KeyRegistry
from gateway.config.models import Key
from gateway.errors import KeyExists, KeyNotFound, KeysUnavailable
from tests.support.redis_server import RedisServer, running_redis

pytestmark = pytest.mark.anyio
NAMES = {"fast": ("qwen",)}
FILE_KEY = new_key()
FILE = (Key(id="file", digest=digest(FILE_KEY), models=("*",)),)
WITHIN_S = 0.9
NOW = 1_800_000_000.0


class Clock:
    now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


@pytest.fixture
async def registry(server: RedisServer) -> AsyncIterator[KeyRegistry]:
    if server.process is None:
        server.start()
    with server.client() as client:
        client.flushall()
    opened = KeyRegistry(server.url, prefix="t")
    yield opened
    await opened.close()


@contextlib.asynccontextmanager
async def mirror(server: RedisServer, clock: Clock | None = None) -> AsyncIterator[MirroredKeyStore]:
    store = MirroredKeyStore(KeyRegistry(server.url, prefix="t"), FILE, Principals(NAMES), clock=clock or Clock())
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


async def comes(wanted: Callable[[], bool], within_s: float = WITHIN_S) -> bool:
    end = monotonic() + within_s
    while not wanted():
        if monotonic() > end:
            return False
        await asyncio.sleep(0.005)
    return True


def key_id(store: MirroredKeyStore, key: str) -> str | None:
    principal = store.find(key.encode())
    return None if principal is None else principal.key_id


def record(id_: str = "app", **terms: object) -> tuple[KeyRecord, str]:
    return made({"id": id_, "models": ["llama", "fast"], **terms}, NOW)


async def test_a_key_lives_in_every_mirror_from_its_making_to_its_revocation(
    server: RedisServer, registry: KeyRegistry
) -> None:
    async with mirror(server) as one, mirror(server) as other:
        found, key = record(team="search", priority="high", limits={"requests_per_minute": 60})
        await registry.create(found)
        assert await comes(lambda: key_id(one, key) == key_id(other, key) == "app")
        principal = one.find(key.encode())
        assert principal is not None
        assert (principal.models, principal.team, principal.priority) == (
            frozenset({"llama", "qwen"}),
            "search",
            "high",
        )
        assert [rule.id for rule in principal.limits] == ["key:app:requests_per_minute"]

        off = await registry.change("app", lambda now: now.model_copy(update={"disabled": True}))
        assert off.disabled
        assert await comes(lambda: key_id(one, key) is None and key_id(other, key) is None)
        await registry.change("app", lambda now: now.model_copy(update={"disabled": False}))
        assert await comes(lambda: key_id(one, key) == key_id(other, key) == "app")

        await registry.revoke("app")
        assert await comes(lambda: key_id(one, key) is None and key_id(other, key) is None)
        assert key_id(one, FILE_KEY) == key_id(other, FILE_KEY) == "file"


async def test_a_revocation_arrives_although_its_announcement_is_lost(
    server: RedisServer, registry: KeyRegistry
) -> None:
    found, key = record()
    await registry.create(found)
    async with mirror(server) as store:
        assert key_id(store, key) == "app"
        with server.client() as client:  # as the script does, but for PUBLISH
            client.hdel("{t}:k:records", "app")
            client.set("{t}:k:version", "another")
        assert await comes(lambda: key_id(store, key) is None)


async def test_a_rotated_key_and_its_successor_are_valid_for_the_overlap(
    server: RedisServer, registry: KeyRegistry
) -> None:
    found, old = record()
    await registry.create(found)
    clock, keys = Clock(), []

    def rotate(before: KeyRecord) -> KeyRecord:
        after, key = rotated(before, 60, NOW)
        keys.append(key)
        return after

    async with mirror(server, clock) as store:
        await registry.change("app", rotate)
        assert await comes(lambda: key_id(store, keys[-1]) == "app")
        assert key_id(store, old) == "app"
        assert store.find(old.encode()) is store.find(keys[-1].encode()), "one principal, one set of counters"
        clock.now = NOW + 59.9
        assert key_id(store, old) == "app"
        clock.now = NOW + 60
        assert (key_id(store, old), key_id(store, keys[-1])) == (None, "app")


async def test_a_key_expires_by_the_clock_without_redis(server: RedisServer, registry: KeyRegistry) -> None:
    found, key = record(expires=int(NOW) + 10)
    await registry.create(found)
    clock = Clock()
    async with mirror(server, clock) as store:
        server.kill()
        assert key_id(store, key) == "app"
        clock.now = NOW + 10
        assert key_id(store, key) is None


async def test_while_redis_is_away_the_mirror_goes_on_and_then_catches_up(
    server: RedisServer, registry: KeyRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    found, key = record()
    await registry.create(found)
    async with mirror(server) as store:
        server.pause()
        assert await comes(lambda: "redis is away: keys stay as they are" in caplog.messages, 10)
        assert key_id(store, key) == "app"
        server.resume()
        await registry.revoke("app")
        assert await comes(lambda: key_id(store, key) is None, 5)


async def test_a_redis_that_has_lost_everything_revokes_nothing(
    server: RedisServer, registry: KeyRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    found, key = record()
    await registry.create(found)
    async with mirror(server) as store:
        server.kill()
        server.start()
        assert await comes(lambda: "redis has lost its keys: those known before go on" in caplog.messages, 5)
        assert key_id(store, key) == "app"
        await registry.create(found)
        assert await comes(lambda: any(m.startswith("redis is back") for m in caplog.messages), 5)
        assert key_id(store, key) == "app"


async def test_without_redis_at_the_start_the_file_is_served_and_it_is_told(
    server: RedisServer, registry: KeyRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    server.kill()
    async with mirror(server) as store:
        assert "keys in redis cannot be loaded: only those of the file are served" in caplog.messages
        assert key_id(store, FILE_KEY) == "file"
        server.start()
        found, key = record()
        await registry.create(found)
        assert await comes(lambda: key_id(store, key) == "app", 5)


async def test_what_has_not_changed_keeps_its_principal(server: RedisServer, registry: KeyRegistry) -> None:
    (one, key), (two, _) = record("one"), record("two")
    await registry.create(one)
    async with mirror(server) as store:
        before = store.find(key.encode())
        await registry.create(two)
        assert await comes(lambda: len(store) == 3)
        assert store.find(key.encode()) is before
        await registry.change("one", lambda now: now.model_copy(update={"team": "search"}))
        assert await comes(lambda: store.find(key.encode()) is not before)


async def test_records_that_cannot_be_served_are_told_and_left_out(
    server: RedisServer, registry: KeyRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    (taken, taken_key), (good, key) = record("file"), record("good")
    for each in (taken, good):
        await registry.create(each)
    with server.client() as client:
        client.hset("{t}:k:records", "broken", b'{"id": "broken", "from_the_future": 1}')
    async with mirror(server) as store:
        assert (key_id(store, key), key_id(store, taken_key), key_id(store, FILE_KEY)) == ("good", None, "file")
    assert "a key in redis cannot be read and is not served" in caplog.messages
    assert "a key in redis has the id of one in the file and is not served" in caplog.messages
    assert [found.id for found in await registry.all()] == ["file", "good"]


async def test_no_key_is_anywhere_in_redis_and_every_name_has_the_hash_tag(
    server: RedisServer, registry: KeyRegistry
) -> None:
    found, key = record()
    await registry.create(found)
    with server.client() as client:
        assert sorted(client.keys()) == [b"{t}:k:records", b"{t}:k:version"]
        stored = client.hget("{t}:k:records", "app")
    assert isinstance(stored, bytes)
    assert key.encode() not in stored
    assert digest(key).encode() in stored


async def test_ids_are_taken_once_and_what_is_not_there_is_said(registry: KeyRegistry) -> None:
    await registry.create(record()[0])
    with pytest.raises(KeyExists):
        await registry.create(record()[0])
    for attempt in (registry.get("x"), registry.revoke("x"), registry.change("x", lambda now: now)):
        with pytest.raises(KeyNotFound):
            await attempt


async def test_changes_by_several_at_once_are_all_made(server: RedisServer, registry: KeyRegistry) -> None:
    await registry.create(record()[0])

    def allow(network: str) -> Callable[[KeyRecord], KeyRecord]:
        return lambda now: now.model_copy(update={"networks": (*now.networks, network)})

    others = [KeyRegistry(server.url, prefix="t") for _ in range(5)]
    await asyncio.gather(*(each.change("app", allow(f"10.{n}.0.0/16")) for n, each in enumerate(others)))
    for each in others:
        await each.close()
    assert sorted((await registry.get("app")).networks) == [f"10.{n}.0.0/16" for n in range(5)]


async def test_a_redis_that_refuses_is_told_without_its_words(server: RedisServer, registry: KeyRegistry) -> None:
    wrong = KeyRegistry(f"redis://someone:hunter2@127.0.0.1:{server.port}/0", prefix="t")
    with pytest.raises(KeysUnavailable) as raised:
        await wrong.all()
    await wrong.close()
    assert raised.value.message == "Redis does not answer. Please retry later."
    assert "hunter2" not in str(raised.value.detail) + raised.value.message


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


async def test_the_rights_that_the_documentation_names_are_enough(server: RedisServer, registry: KeyRegistry) -> None:
    names = ("~{t}:k:*", "&{t}:k:*")
    with server.client() as client:
        client.execute_command("ACL", "SETUSER", "reader", "on", ">pw", *names, "+get", "+hgetall", "+subscribe")
        write = ("+hget", "+eval", "+hset", "+hdel", "+set", "+publish")
        client.execute_command("ACL", "SETUSER", "writer", "on", ">pw", *names, *write)
    writer = KeyRegistry(server.url.replace("//", "//writer:pw@"), prefix="t")
    reader = KeyRegistry(server.url.replace("//", "//reader:pw@"), prefix="t")
    store = MirroredKeyStore(reader, (), Principals({}))
    await store.start()
    found, key = record()
    await writer.create(found)
    assert await comes(lambda: key_id(store, key) == "app")
    await writer.revoke("app")
    assert await comes(lambda: key_id(store, key) is None)
    with pytest.raises(KeysUnavailable):
        await reader.create(found)
    await store.stop()
    await writer.close()


async def test_another_node_of_a_cluster_is_found_by_its_redirection() -> None:
    options = ("--cluster-enabled", "yes", "--cluster-port")
    with running_redis(*options, free_port()) as one, running_redis(*options, bus := free_port()) as two:
        with one.client() as client:
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
            client.execute_command("CLUSTER", "MEET", "127.0.0.1", two.port, bus)
        with two.client() as client:
            assert await comes(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"), 15)
        registry = KeyRegistry(two.url, prefix="t")
        store = MirroredKeyStore(KeyRegistry(two.url, prefix="t"), (), Principals({}))
        await store.start()
        found, key = made({"id": "app", "models": ["*"]}, NOW)
        await registry.create(found)
        assert await comes(lambda: key_id(store, key) == "app")
        await registry.revoke("app")
        assert await comes(lambda: key_id(store, key) is None)
        await store.stop()
        await registry.close()


WATCH = """
import asyncio, sys
from gateway.auth.mirror import MirroredKeyStore
from gateway.auth.principals import Principals
from gateway.auth.registry import KeyRegistry

async def main():
    store = MirroredKeyStore(KeyRegistry(sys.argv[1], prefix="t"), (), Principals({}))
    await store.start()
    for word, wanted in (("known", True), ("unknown", False)):
        while (store.find(sys.argv[2].encode()) is not None) is not wanted:
            await asyncio.sleep(0.002)
        print(word, flush=True)

asyncio.run(main())
"""


async def test_two_processes_see_a_revocation_in_under_a_second(server: RedisServer, registry: KeyRegistry) -> None:
    found, key = record()
    await registry.create(found)
    command = [sys.executable, "-c", WATCH, server.url, key]
    watchers = [await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE) for _ in range(2)]

    async def says(word: bytes, within_s: float) -> None:
        async with asyncio.timeout(within_s):
            for watcher in watchers:
                assert watcher.stdout is not None
                assert await watcher.stdout.readline() == word

    await says(b"known\n", 20)
    await registry.revoke("app")
    await says(b"unknown\n", 1.0)
    for watcher in watchers:
        watcher.kill()
        await watcher.wait()
