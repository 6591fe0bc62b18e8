"""However a call ends: one count, one line, nothing in flight; and the status, code and bytes that were sent."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from deploy.local import faults
from gateway.http.protocol import GatewayProtocol
from tests.docs.serving import KEY, Served, served

pytestmark = pytest.mark.anyio
STREAM = {"model": "lmi", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 50, "stream": True}
HELD_BACK = {"hold_status_s": 0.02}
"""The status goes out long before the first event."""


class Caller:
    """A caller on a socket of its own, who sees bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, body: bytes, *lines: str) -> None:
        head = [
            "POST /v1/chat/completions HTTP/1.1",
            "host: a",
            f"authorization: Bearer {KEY}",
            "content-type: application/json",
        ]
        self.writer.write("\r\n".join([*head, *lines, "", ""]).encode() + body)

    def ask(self, call: Mapping[str, object]) -> None:
        body = json.dumps(call).encode()
        self.send(body, f"content-length: {len(body)}")

    async def head(self) -> bytes:
        return await self.reader.readuntil(b"\r\n\r\n")


@asynccontextmanager
async def calling(gateway: Served) -> Any:
    reader, writer = await asyncio.open_connection(gateway.client.base_url.host, gateway.client.base_url.port)
    try:
        yield Caller(reader, writer)
    finally:
        writer.close()


def without_chunks(data: bytes) -> bytes:
    """Return what was sent in chunks."""
    found = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        found, data = found + data[: int(size, 16)], data[int(size, 16) + 2 :]
    return found


async def told(gateway: Served, caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """Return the line of the one call there was, once it is over, and look whether the metrics tell the same."""
    async with asyncio.timeout(10):
        while "gateway_calls_total{" not in (metrics := (await gateway.client.get("/metrics")).text):
            assert metrics
    (line,) = [vars(record) for record in caplog.records if record.name == "gateway.calls"]
    model = line.get("model", "none")
    assert f'gateway_calls_total{{code="{line["code"]}",model="{model}",surface="chat"}} 1.0\n' in metrics
    in_flight = [text for text in metrics.splitlines() if "_in_flight" in text and not text.startswith("#")]
    assert {text.rpartition(" ")[2] for text in in_flight} == {"0.0"}, in_flight
    return line


@pytest.fixture(autouse=True)
def _lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "gateway.calls")


async def test_a_caller_who_leaves_after_the_status_and_before_the_first_event(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(monkeypatch, model=HELD_BACK | {"keep_alive_s": 0.02}) as gateway:
        gateway.local.add_fault(faults.Delay())
        async with calling(gateway) as caller:
            caller.ask(STREAM)
            assert (await caller.head()).startswith(b"HTTP/1.1 200 ")
            assert await caller.reader.readuntil(b"\n\n") == b"e\r\n: keep-alive\n\n"
        line = await told(gateway, caplog)
        metrics = (await gateway.client.get("/metrics")).text
    assert (line["code"], line["status"], line["ending"]) == ("cancelled", 200, "cancelled")
    assert line["bytes_out"] >= len(": keep-alive\n\n")
    assert 'gateway_cancellations_total{model="lmi",stage="before_first_token"} 1.0' in metrics
    assert 'gateway_stream_endings_total{ending="cancelled",model="lmi"} 1.0' in metrics


async def test_a_failure_between_the_status_and_the_first_event_counts_the_event_that_tells_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(monkeypatch, model=HELD_BACK | {"attempts": 1}) as gateway:
        gateway.local.add_fault(faults.Delay(0.2))
        gateway.local.add_fault(faults.ServiceUnavailable())
        async with calling(gateway) as caller:
            caller.ask(STREAM)
            assert (await caller.head()).startswith(b"HTTP/1.1 200 ")
            sent = without_chunks(await caller.reader.readuntil(b"0\r\n\r\n"))
        line = await told(gateway, caplog)
    assert json.loads(sent.removeprefix(b"data: "))["error"]["code"] == "upstream_unavailable"
    assert (line["code"], line["status"], line["ending"]) == ("upstream_unavailable", 200, "failed")
    assert line["bytes_out"] == len(sent)


async def test_a_stop_between_the_status_and_the_first_event_counts_the_event_that_tells_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(monkeypatch, settings="{drain_timeout_s: 0.05}", model=HELD_BACK) as gateway:
        gateway.local.add_fault(faults.Delay())
        async with calling(gateway) as caller:
            caller.ask(STREAM)
            assert (await caller.head()).startswith(b"HTTP/1.1 200 ")
            GatewayProtocol.frontend.on_shutdown()
            sent = without_chunks(await caller.reader.readuntil(b"0\r\n\r\n"))
        line = await told(gateway, caplog)
    assert json.loads(sent.removeprefix(b"data: "))["error"]["code"] == "server_shutdown"
    assert (line["code"], line["status"], line["ending"]) == ("server_shutdown", 200, "failed")
    assert line["bytes_out"] == len(sent)


@pytest.mark.parametrize(
    ("body", "line", "status", "code"),
    [
        pytest.param(b'{"model"', "content-length: 99", 408, "request_timeout", id="a body that does not come"),
        pytest.param(b"zz\r\n", "transfer-encoding: chunked", 400, "malformed_http", id="a body that is none"),
    ],
)
async def test_a_refusal_below_http_while_the_body_is_read_is_told_as_it_was_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, body: bytes, line: str, status: int, code: str
) -> None:
    async with served(monkeypatch, settings="{body_timeout_s: 0.05}") as gateway:
        async with calling(gateway) as caller:
            caller.send(body, line)
            head = await caller.head()
            answer = await caller.reader.read()
        found = await told(gateway, caplog)
        metrics = (await gateway.client.get("/metrics")).text
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert json.loads(answer)["error"]["code"] == code
    assert (found["code"], found["status"], found["bytes_out"]) == (code, status, len(answer))
    assert "gateway_cancellations_total{" not in metrics


async def test_a_caller_who_leaves_while_its_body_is_read_has_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with served(monkeypatch) as gateway:
        async with calling(gateway) as caller:
            caller.send(b'{"model"', "content-length: 99")
            async with asyncio.timeout(10):
                while "gateway_calls_in_flight 1.0" not in (metrics := (await gateway.client.get("/metrics")).text):
                    assert metrics
        line = await told(gateway, caplog)
        metrics = (await gateway.client.get("/metrics")).text
    assert (line["code"], line["status"], line["bytes_out"]) == ("cancelled", 0, 0)
    assert 'gateway_cancellations_total{model="none",stage="waiting"} 1.0' in metrics
