"""Four workers, of which one is killed in the middle of its calls and replaced: what is counted is what callers had.

A call is counted before the last bytes of its answer go out. So a call that was answered is always counted; one that a
kill has cut is not, but for the moment between the two, in which it may be.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import time
from pathlib import Path

import httpx
import pytest
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.parser import text_string_to_metric_families

from gateway.auth.keys import digest, new_key
from tests.support.stack import Gateway, config, model, running_gateway
from tests.telemetry.gated import CHUNKS, COMPLETION_TOKENS, PROMPT_TOKENS, Callers, gated_upstream

WORKERS, CALLERS = 4, 24
ADMIN = new_key()
BOUND_S = 40.0

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]


async def scraped(url: str, **headers: str) -> tuple[Samples, set[tuple[str, frozenset[tuple[str, str]]]]]:
    """Return all samples, and which of them may never go back."""
    async with httpx.AsyncClient(trust_env=False, timeout=10) as client:  # a connection of its own: any worker
        response = await client.get(f"{url}/metrics", headers=headers)
    assert response.status_code == 200
    found, counting = {}, set()
    for metric in text_string_to_metric_families(response.text):
        for sample in metric.samples:
            key = sample.name, frozenset(sample.labels.items())
            found[key] = sample.value
            if metric.type in ("counter", "histogram"):
                counting.add(key)
    return found, counting


def total(samples: Samples, name: str, **labels: str) -> float:
    return sum(value for (one, has), value in samples.items() if one == name and labels.items() <= dict(has).items())


def workers_of(gateway: Gateway) -> dict[int, float]:
    """Return each worker and how many calls are in flight in it."""
    children = Path(f"/proc/{gateway.pid}/task/{gateway.pid}/children").read_text().split()
    found = {}
    for pid in map(int, children):
        with contextlib.suppress(OSError):
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            folder = next(line for line in environment if line.startswith(b"PROMETHEUS_MULTIPROC_DIR="))
            file = Path(folder.partition(b"=")[2].decode(), f"gauge_livesum_{pid}.db")
            values = MmapedDict.read_all_values_from_file(str(file))  # type: ignore[no-untyped-call]  # likewise
            found[pid] = next(value for key, value, *_ in values if '"gateway_calls_in_flight"' in key)
    return found


async def kill_one(gateway: Gateway) -> None:
    """Kill the worker with the most calls; return once another is in its place."""
    before = workers_of(gateway)
    busiest = max(before, key=lambda pid: before[pid])
    assert before[busiest] > 0
    os.kill(busiest, signal.SIGKILL)

    def replaced() -> None:
        end = time.monotonic() + BOUND_S
        while busiest in (now := workers_of(gateway)) or len(now) < WORKERS:
            assert time.monotonic() < end
            time.sleep(0.05)  # no event announces it

    await asyncio.to_thread(replaced)


async def until_seen(callers: Callers, more: int) -> None:
    wanted = callers.seen.total() + more
    async with asyncio.timeout(BOUND_S):
        while callers.seen.total() < wanted:
            callers.answered.clear()
            await callers.answered.wait()


@pytest.mark.anyio
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="finds the workers in /proc")
async def test_what_is_counted_is_what_callers_had() -> None:
    async with gated_upstream() as (gate, upstream):
        configuration = config(
            upstream,
            model("m", "vllm", "0.33"),
            workers=WORKERS,
            admin_port=0,
            admin_key_digest=digest(ADMIN),
        )
        configuration["keys"][0]["metrics"] = True
        opened = running_gateway(configuration)
        gateway = await asyncio.to_thread(opened.__enter__)
        try:
            callers = Callers(gateway.host, gateway.port)
            callers.start(CALLERS)
            await until_seen(callers, 100)
            first, counting = await scraped(gateway.url)

            # Every caller is in the middle of a call: who is killed now has counted none of its own.
            gate.hold()
            async with asyncio.timeout(BOUND_S):
                await gate.until_running(CALLERS)
            seen, running = callers.seen.total(), (await scraped(gateway.url))[0]
            assert total(running, "gateway_calls_total", code="ok") == seen
            assert total(running, "gateway_calls_in_flight") == CALLERS
            assert total(running, "gateway_upstream_in_flight") == CALLERS
            await kill_one(gateway)
            async with asyncio.timeout(BOUND_S):
                await gate.until_running(CALLERS)
            assert callers.seen.total() == seen
            second, _ = await scraped(gateway.url)
            assert total(second, "gateway_calls_total", code="ok") == seen
            assert total(second, "gateway_calls_in_flight") == CALLERS, "those that were killed are in flight no more"
            assert total(second, "gateway_upstream_in_flight") == CALLERS
            assert total(second, "gateway_workers") == WORKERS
            assert total(second, "gateway_worker_restarts_total") == 1
            cut_held = callers.cut
            assert cut_held > 0
            gate.release()
            await until_seen(callers, 100)

            # And once more at a moment that nobody has chosen.
            await kill_one(gateway)
            await until_seen(callers, 50)
            third, _ = await scraped(gateway.url)
            await callers.stop()
            last, _ = await scraped(gateway.url)
            url = next(found[1] for line in gateway.log if (found := re.search(r'"admin_url":"(http[^"]+)"', line)))
            from_admin, _ = await scraped(url, authorization=f"Bearer {ADMIN}")
        finally:
            await asyncio.to_thread(opened.__exit__, None, None, None)

    for before, after in ((first, second), (second, third), (third, last)):
        assert [key for key in counting if after[key] < before[key]] == [], "no counter goes back"
    ok = total(last, "gateway_calls_total", code="ok")
    cut = callers.cut - cut_held
    assert callers.seen.total() <= ok <= callers.seen.total() + cut
    assert total(last, "gateway_call_seconds_count") == ok
    streams = total(last, "gateway_stream_endings_total", ending="complete")
    assert callers.seen["stream"] <= streams <= callers.seen["stream"] + cut
    assert callers.chunks == callers.seen["stream"] * CHUNKS
    # What a call is counted in agrees with itself, to the unit, whatever became of the worker that counted.
    assert total(last, "gateway_tokens_total", kind="completion") == ok * COMPLETION_TOKENS
    assert total(last, "gateway_tokens_total", kind="prompt") == ok * PROMPT_TOKENS
    assert total(last, "gateway_key_calls_total", key="all", code="ok") == ok
    assert total(last, "gateway_key_tokens_total", kind="completion") == ok * COMPLETION_TOKENS
    assert total(last, "gateway_time_to_first_token_seconds_count") == streams
    assert total(last, "gateway_calls_in_flight") == 0
    assert total(last, "gateway_upstream_in_flight") == 0
    assert total(last, "gateway_worker_restarts_total") == 2
    assert total(from_admin, "gateway_calls_total", code="ok") == ok
    assert {key for key in from_admin if key[0].endswith("_total")} == {
        key for key in last if key[0].endswith("_total")
    }
