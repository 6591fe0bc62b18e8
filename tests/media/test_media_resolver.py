"""Looking names up: what comes back, and what slow name servers cannot do."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading

import pytest

from gateway.media.resolver import MAX_LOOKUPS, Resolver
from tests.sagemaker.peer import anyio_backend, until

__all__ = ["anyio_backend"]  # the fixture: both event loops
pytestmark = pytest.mark.anyio


async def test_the_system_is_asked() -> None:
    assert await Resolver()("127.0.0.1", 443) == ["127.0.0.1"]
    assert set(await Resolver()("localhost", 443)) <= {"127.0.0.1", "::1"}


async def test_what_the_system_does_not_know_is_an_error() -> None:
    with pytest.raises(OSError, match=r"."):
        await Resolver()("nowhere.invalid", 443)


async def test_any_failure_is_the_callers() -> None:
    def fail(host: str, port: int) -> list[str]:
        raise UnicodeError(host)

    with pytest.raises(UnicodeError, match="name"):
        await Resolver(fail)("name", 443)


async def test_a_name_is_looked_up_off_the_loop() -> None:
    threads = []

    def ask(host: str, port: int) -> list[str]:
        threads.append(threading.current_thread())
        return [f"{host}:{port}"]

    assert await Resolver(ask)("name", 443) == ["name:443"]
    assert threads[0] is not threading.main_thread()
    assert threads[0].daemon


async def test_stuck_lookups_keep_their_places_and_no_more_are_begun() -> None:
    begun: list[str] = []
    go = threading.Event()

    def ask(host: str, port: int) -> list[str]:
        begun.append(host)
        go.wait(10)
        return [host]

    resolver = Resolver(ask)
    stuck = [asyncio.create_task(resolver(f"stuck-{number}", 443)) for number in range(MAX_LOOKUPS)]
    await until(lambda: len(begun) == MAX_LOOKUPS)
    for task in stuck:
        task.cancel()
    await asyncio.gather(*stuck, return_exceptions=True)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(resolver("late", 443), 0.05)
    assert len(begun) == MAX_LOOKUPS
    go.set()
    assert await asyncio.wait_for(resolver("later", 443), 10) == ["later"]


async def test_where_no_thread_can_be_had_the_place_is_free_again(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = Resolver(lambda host, port: [host])
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", fail)
        for _ in range(MAX_LOOKUPS + 1):
            with pytest.raises(OSError, match="no thread"):
                await resolver("name", 443)
    assert await resolver("name", 443) == ["name"]


def test_a_process_ends_without_waiting_for_a_lookup() -> None:
    program = """
import asyncio, threading
from gateway.media.resolver import Resolver

async def main():
    begun = threading.Event()
    def ask(host, port):
        begun.set()
        threading.Event().wait(60)
    task = asyncio.create_task(Resolver(ask)("stuck", 443))
    await asyncio.to_thread(begun.wait, 10)
    task.cancel()

asyncio.run(main())
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)
