"""Where a call's time went, from the bytes on the wire into its record: the gateway as served, and its relay alone."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

import httpx
import pytest

from adapters.base import Usage
from adapters.errors import ContainerFault
from deploy.local import faults
from gateway.http import relay as relaying
from gateway.http.protocol import GatewayProtocol
from gateway.http.relay import Relay
from gateway.telemetry.calls import CallMetrics
from gateway.telemetry.events import GAP_BUCKETS_S, CallRecord, Gaps
from tests.docs.serving import Served, read_events, served

pytestmark = pytest.mark.anyio
HELLO = {"model": "lmi", "messages": [{"role": "user", "content": "count to 9"}], "max_tokens": 99}


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> list[CallRecord]:
    """The records of all calls, as they were when they were counted."""
    found: list[CallRecord] = []
    count = CallMetrics.call_ended

    def noting(self: CallMetrics, record: CallRecord) -> None:
        count(self, record)
        found.append(record)

    monkeypatch.setattr(CallMetrics, "call_ended", noting)
    return found


async def ask(gateway: Served, **more: Any) -> httpx.Response:
    return await gateway.client.post("/v1/chat/completions", json=HELLO | more)


async def test_a_whole_reply(monkeypatch: pytest.MonkeyPatch, records: list[CallRecord]) -> None:
    async with served(monkeypatch) as gateway:
        answer = await ask(gateway)
    (record,) = records
    (attempt,) = record.tries
    assert (attempt.lane, attempt.code, attempt.status) == ("lmi", "ok", 200)
    assert attempt.head is not None
    assert record.began < attempt.began < attempt.head <= attempt.ended
    assert record.head_s == attempt.head - attempt.began
    assert record.upstream_s == attempt.ended - attempt.began < record.seconds
    assert record.bytes_out == len(answer.content)
    assert (record.queue_s, record.trying_since, record.gaps, record.ended) == (0, None, None, True)


async def test_a_stream(monkeypatch: pytest.MonkeyPatch, records: list[CallRecord]) -> None:
    async with served(monkeypatch) as gateway:
        answer = await ask(gateway, stream=True)
    (record,) = records
    (attempt,) = record.tries
    assert attempt.head is not None
    assert attempt.began < attempt.head <= attempt.ended
    assert record.first_event_s is not None
    assert record.gaps is not None
    assert record.events > 9
    assert sum(record.gaps.counts) == record.events - 1
    assert record.gaps.longest_s <= record.gaps.total_s == record.decoding_s
    assert 0 <= record.decoding_s <= record.seconds - record.first_event_s
    assert record.bytes_out == len(answer.content)


async def test_attempts_that_failed_are_kept_with_what_sagemaker_said(
    monkeypatch: pytest.MonkeyPatch, records: list[CallRecord]
) -> None:
    async with served(monkeypatch) as gateway:
        gateway.local.add_fault(faults.ServiceUnavailable())
        assert (await ask(gateway)).status_code == 200
        metrics = (await gateway.client.get("/metrics")).text
    (record,) = records
    assert [(attempt.code, attempt.status) for attempt in record.tries] == [("upstream_unavailable", 503), ("ok", 200)]
    assert all(attempt.head is not None for attempt in record.tries)
    assert 'gateway_upstream_retries_total{kind="same",model="lmi"} 1.0' in metrics


@pytest.mark.parametrize("stream", [True, False])
async def test_an_attempt_whose_caller_leaves_is_kept(
    monkeypatch: pytest.MonkeyPatch, records: list[CallRecord], stream: bool
) -> None:
    async with served(monkeypatch) as gateway:
        gateway.local.add_fault(faults.Delay())
        asking = asyncio.create_task(ask(gateway, stream=stream, model="vllm"))
        await gateway.local.call_started(1)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)
        await gateway.local.call_ended(1)
        metrics = (await gateway.client.get("/metrics")).text
    (record,) = records
    assert [(attempt.code, attempt.head, attempt.status) for attempt in record.tries] == [("cancelled", None, 0)]
    assert record.code == "cancelled"
    assert record.upstream_s > 0
    stage = "before_first_token" if stream else "whole"
    assert f'gateway_cancellations_total{{model="vllm",stage="{stage}"}} 1.0' in metrics
    assert 'gateway_tokens_avoided_total{model="vllm"} 99.0' in metrics
    assert 'gateway_upstream_in_flight{deployment="vllm",model="vllm"} 0.0' in metrics


async def test_a_call_that_stood_in_line_says_so(monkeypatch: pytest.MonkeyPatch, records: list[CallRecord]) -> None:
    line = {"limits": {"concurrent_requests": 1}, "waiting": {"most": 8, "seconds": 20}}
    async with served(monkeypatch, model=line) as gateway:
        gateway.local.add_fault(faults.Delay())
        first = asyncio.create_task(ask(gateway))
        await gateway.local.call_started(1)
        second = asyncio.create_task(ask(gateway))
        async with asyncio.timeout(10):
            while "gateway_limit_waiting" not in (metrics := (await gateway.client.get("/metrics")).text):
                assert metrics
        gateway.local.clear_faults()
        answers = await asyncio.gather(first, second)
        metrics = (await gateway.client.get("/metrics")).text
    assert [answer.status_code for answer in answers] == [200, 200]
    assert [bool(record.queue_s) for record in records] == [False, True]
    waited = records[1]
    assert waited.queued_at is not None
    assert waited.began < waited.queued_at < waited.queued_at + waited.queue_s < waited.tries[0].began
    parts = dict(part.split(";dur=") for part in answers[1].headers["server-timing"].split(", "))
    assert list(parts) == ["gateway", "queue", "upstream"]
    assert float(parts["queue"]) == pytest.approx(waited.queue_s * 1000, abs=0.06)
    assert "queue" not in answers[0].headers["server-timing"]
    assert 'gateway_phase_seconds_count{model="lmi",phase="queue"} 1.0' in metrics


async def test_a_status_that_goes_out_before_the_first_event_tells_the_wait_so_far(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with served(monkeypatch, model={"hold_status_s": 0.05}) as gateway:
        gateway.local.add_fault(faults.Delay(0.2))
        request = gateway.client.build_request("POST", "/v1/chat/completions", json=HELLO | {"stream": True})
        answer = await gateway.client.send(request, stream=True)
        parts = dict(part.split(";dur=") for part in answer.headers["server-timing"].split(", "))
        assert (await read_events(answer))[-1] == "[DONE]"
    assert list(parts) == ["gateway", "upstream"]
    assert 40 <= float(parts["upstream"]) < 200
    assert float(parts["gateway"]) < 40


async def test_only_keys_that_ask_for_it_are_counted_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    for asked in (False, True):
        async with served(monkeypatch, key={"metrics": asked}) as gateway:
            answer = await ask(gateway)
            metrics = (await gateway.client.get("/metrics")).text
        prompt = json.loads(answer.content)["usage"]["prompt_tokens"]
        assert ('gateway_key_calls_total{code="ok",key="test"} 1.0' in metrics) is asked
        assert (f'gateway_key_tokens_total{{key="test",kind="prompt"}} {prompt}.0' in metrics) is asked


async def test_without_telemetry_calls_are_served_and_nothing_is_counted(
    monkeypatch: pytest.MonkeyPatch, records: list[CallRecord]
) -> None:
    async with served(monkeypatch, settings="{telemetry_enabled: false}") as gateway:
        for stream in (True, False):
            assert (await ask(gateway, stream=stream)).status_code == 200
        assert (await gateway.client.get("/metrics")).status_code == 404
    assert records == []


async def test_openmetrics_is_for_those_who_ask_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as gateway:
        plain = await gateway.client.get("/metrics")
        accept = {"accept": "application/openmetrics-text; version=1.0.0"}
        other = await gateway.client.get("/metrics", headers=accept)
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert other.headers["content-type"] == "application/openmetrics-text; version=1.0.0; charset=utf-8"
    assert other.text.endswith("# EOF\n")
    assert "# EOF" not in plain.text


class Decoder:
    """Takes each byte for an event that it counts, but for `.`, which is one that is none of the answer's."""

    usage: Usage | None = None
    fault: ContainerFault | None = None
    malformed: str | None = None
    complete = ended = False
    dropped = 0

    def __init__(self) -> None:
        self.chunks = 0

    def feed(self, data: bytes) -> list[bytes]:
        self.chunks += len(data.replace(b".", b""))
        return [data]

    def end(self) -> list[bytes]:
        return []


class Connection:
    """A caller who takes everything."""

    def __init__(self) -> None:
        self.loop = asyncio.get_running_loop()
        self.steps: list[str] = []

    def listen(self, _: object) -> None: ...

    def begin(self, _: bytes) -> None: ...

    def write(self, _: bytes) -> None:
        self.steps.append("write")

    def finish(self) -> None:
        self.steps.append("finish")


async def test_gaps_are_counted_as_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [50.0]
    monkeypatch.setattr(relaying, "monotonic", lambda: now[0])
    connection, gaps = Connection(), Gaps([0] * (len(GAP_BUCKETS_S) + 1))
    relay = Relay(cast("GatewayProtocol", connection), keep_alive_s=0, write_timeout_s=9, gaps=gaps)
    first = relay.expect(Decoder())
    for data, after_s in ((b"ab", 5.0), (b".", 0.5), (b"c", 0.5), (b"def", 0.0009), (b"g", 9.0), (b"h", 0.019)):
        now[0] += after_s
        relay.on_payload(data)
    await first
    relay.then(lambda _: connection.steps.append("counted"))
    relay.start(b"")
    relay.on_gone()
    found = {bound: count for bound, count in zip((*GAP_BUCKETS_S, "above"), gaps.counts, strict=True) if count}
    # b, and e with f, came together with others; what is no part of the answer does not end a gap
    assert found == {0.001: 4, 0.02: 1, 1.0: 1, "above": 1}
    assert gaps.longest_s == pytest.approx(9.0)
    assert relay.last_event_at - (relay.first_event_at or 0) == pytest.approx(10.0199)
    assert relay.bytes_out == len(b"ab.cdefgh")
    assert connection.steps == ["write", "counted"]


async def test_a_stream_is_counted_before_its_last_bytes(
    monkeypatch: pytest.MonkeyPatch, records: list[CallRecord]
) -> None:
    finished: list[int] = []
    finish, respond = GatewayProtocol.finish, GatewayProtocol.respond

    def noting(self: GatewayProtocol, *, clean: bool = True) -> None:
        finished.append(len(records))
        finish(self, clean=clean)

    def also(self: GatewayProtocol, status: int, headers: bytes, body: bytes) -> None:
        finished.append(len(records))
        respond(self, status, headers, body)

    monkeypatch.setattr(GatewayProtocol, "finish", noting)
    monkeypatch.setattr(GatewayProtocol, "respond", also)
    calls: tuple[dict[str, Any], ...] = ({"stream": True}, {}, {"max_tokens": -1}, {"model": "none"})
    async with served(monkeypatch) as gateway:
        for n, more in enumerate(calls, 1):
            await ask(gateway, **more)
            assert finished[-1] == n
