"""Collectors that are away, slow or broken hold up no call, and are told of once; wrong settings end the start."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry

from adapters.base import Call, Surface
from deploy.local.engine import build
from gateway.config.load import parse
from gateway.config.settings import Settings
from gateway.telemetry.events import CallRecord, Trace
from gateway.telemetry.trace_metrics import TraceMetrics
from gateway.telemetry.tracing import STOP_S, fault_of, is_on, make
from tests.support.collector import Collector, collecting
from tests.support.stack import KEY, Gateway, Local, config, model, running_gateway, running_local

BODY = {"model": "one", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "20", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"}
WARNING = "traces cannot be sent"
WAIT_S = 15


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    with running_local({"one": build("lmi27")}) as local:
        yield local


@contextmanager
def tracing(local: Local, url: str, **environment: str) -> Iterator[tuple[Gateway, httpx.Client]]:
    found = {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_ENDPOINT": url, **QUICK, **environment}
    with (
        running_gateway(config(local.url, model("one", "lmi", "27")), **found) as gateway,
        httpx.Client(
            base_url=gateway.url, headers={"authorization": f"Bearer {KEY}"}, timeout=20, trust_env=False
        ) as client,
    ):
        yield gateway, client


def call(client: httpx.Client, times: int = 1) -> None:
    for _ in range(times):
        assert client.post("/v1/chat/completions", json=BODY).status_code == 200


def spans(client: httpx.Client, outcome: str) -> int:
    found = re.search(rf'^gateway_spans_total{{outcome="{outcome}"}} (\S+)$', client.get("/metrics").text, re.MULTILINE)
    return int(float(found[1])) if found else 0


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what another process does: nothing but asking again can tell."""
    until, pause = time.monotonic() + WAIT_S, threading.Event()
    while not condition():
        assert time.monotonic() < until, "it never came to be"
        pause.wait(0.02)


def told(gateway: Gateway, event: str) -> list[str]:
    return [line for line in gateway.log if event in line]


def test_a_collector_that_is_away_holds_up_nothing_and_is_told_of_once_until_it_is_back(local: Local) -> None:
    reserved = socket.socket()
    reserved.bind(("127.0.0.1", 0))  # and does not listen yet
    port = reserved.getsockname()[1]
    with tracing(local, f"http://127.0.0.1:{port}") as (gateway, client):
        call(client, 3)
        eventually(lambda: spans(client, "failed") >= 6)
        call(client)
        eventually(lambda: spans(client, "failed") == 8)
        collector = Collector(reserved)
        try:
            call(client)
            eventually(lambda: spans(client, "exported") == 2)
            eventually(lambda: bool(told(gateway, "traces are sent again")))
        finally:
            collector.close()
    (warning,) = told(gateway, WARNING)
    # Whether the exporter's time is over while it waits or while it connects is up to the machine.
    assert re.search('"detail":"(no success in time|ConnectionError)"', warning)
    assert not [line for line in gateway.log if str(port) in line or "Traceback" in line or "opentelemetry" in line]


def test_a_collector_that_answers_errors_is_told_of_once(local: Local) -> None:
    with collecting() as collector:
        collector.status = 500
        with tracing(local, collector.url) as (gateway, client):
            for number in (1, 2, 3):
                call(client)
                eventually(lambda number=number: spans(client, "failed") == 2 * number)  # type: ignore[misc]  # a closure
            assert spans(client, "exported") == 0
    (warning,) = told(gateway, WARNING)
    assert '"detail":"status 500"' in warning


def test_a_collector_that_does_not_answer_costs_spans_but_no_call_and_no_end(local: Local) -> None:
    with collecting() as collector:
        collector.hold = threading.Event()
        small = {"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_EXPORTER_OTLP_TIMEOUT": "60"}
        with tracing(local, collector.url, **small) as (gateway, client):
            call(client)
            collector.wait_until(lambda collector: len(collector.bodies) == 1)
            began = time.monotonic()
            call(client, 40)
            assert time.monotonic() - began < 10
            eventually(lambda: spans(client, "dropped") > 0)
            began = time.monotonic()
            assert gateway.stop() == 0
            assert time.monotonic() - began < STOP_S + 5


def test_what_has_not_been_sent_is_sent_at_the_end(local: Local) -> None:
    with collecting() as collector:
        with tracing(local, collector.url, OTEL_BSP_SCHEDULE_DELAY="60000") as (gateway, client):
            call(client, 5)
            assert collector.spans == []
            assert gateway.stop() == 0
        assert len(collector.spans) == 10


@pytest.mark.parametrize(
    ("environment", "sampled"),
    [
        pytest.param({"OTEL_TRACES_SAMPLER": "always_off"}, 0, id="nothing"),
        pytest.param({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, 1, id="what callers sample"),
        pytest.param(
            {"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, 1, id="none of our own"
        ),
        pytest.param({"OTEL_SDK_DISABLED": "true"}, 0, id="switched off"),
    ],
)
def test_the_standard_variables_say_what_is_sampled(local: Local, environment: dict[str, str], sampled: int) -> None:
    with collecting() as collector:
        with tracing(local, collector.url, **environment) as (gateway, client):
            call(client, 3)
            client.headers["traceparent"] = f"00-{'a' * 32}-{'b' * 16}-01"
            call(client)
            assert gateway.stop() == 0
        assert {span.trace_id for span in collector.spans} == ({"a" * 32} if sampled else set())


def test_prompts_are_in_spans_only_where_that_is_switched_on_and_then_without_secrets(local: Local) -> None:
    secret = "sk-canary-" + "c" * 30
    with collecting() as collector:
        on = {"LMI_GATEWAY_TRACE_CONTENT": "true", "LMI_GATEWAY_TRACE_CONTENT_CHARS": "40"}
        with tracing(local, collector.url, **on) as (gateway, client):
            content = f"my key is {secret} " + "and so on " * 50
            body = BODY | {"messages": [{"role": "user", "content": content}]}
            assert client.post("/v1/chat/completions", json=body).status_code == 200
            assert gateway.stop() == 0
        (prompt,) = [text for span in collector.spans if (text := span.attributes.get("gen_ai.input.messages"))]
        assert prompt == ('[{"role": "user", "parts": [{"type": "text", "content": "my key is [redacted][cut]"}]}]')
        assert not any(b"canary" in body for body in collector.bodies)
        assert "my key" not in "".join(gateway.log)


def test_several_workers_send_theirs(local: Local) -> None:
    with collecting() as collector:
        with tracing(local, collector.url, LMI_GATEWAY_WORKERS="2") as (gateway, client):
            call(client, 4)
            eventually(lambda: spans(client, "exported") == 8)
            assert gateway.stop() == 0
        assert len(collector.spans) == 8


# --- Settings -------------------------------------------------------------------------------------------------------

ON = Settings(traces_exporter="otlp")


@pytest.mark.parametrize(
    ("environ", "fault"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, None, id="the protocol it speaks"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: the gateway sends traces by http/protobuf only",
            id="another protocol",
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "user:canary@collector"},
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT: expected a URL such as http://127.0.0.1:4318",
            id="no URL",
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://user:can/ary@collector"},
            "OTEL_EXPORTER_OTLP_ENDPOINT: expected a URL such as http://127.0.0.1:4318",
            id="no port",
        ),
        pytest.param(
            {"OTEL_BSP_MAX_QUEUE_SIZE": "many"},
            "OTEL_BSP_MAX_QUEUE_SIZE: expected a whole number from 1 to 1000000",
            id="no number",
        ),
        pytest.param({"OTEL_BSP_MAX_QUEUE_SIZE": "10"}, None, id="a queue shorter than a batch"),
        pytest.param(
            {"OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "20"},
            "OpenTelemetry refuses one of its OTEL_ variables: ValueError",
            id="a batch longer than the queue",
        ),
        pytest.param(
            {"OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT": "-canary"},
            "OpenTelemetry refuses one of its OTEL_ variables: ValueError",
            id="what only the SDK reads",
        ),
    ],
)
def test_what_the_sdk_cannot_use_ends_the_start(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], fault: str | None
) -> None:
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert fault_of(ON, os.environ) == fault
    assert fault_of(Settings(), os.environ) is None
    assert fault_of(ON, {**os.environ, "OTEL_SDK_DISABLED": "True"}) is None


def test_a_variable_that_the_sdk_does_not_understand_is_told_without_its_value(local: Local) -> None:
    odd = {"OTEL_TRACES_SAMPLER": "canary", "OTEL_EXPORTER_OTLP_HEADERS": "authorization: canary"}
    with collecting() as collector, tracing(local, collector.url, **odd) as (gateway, client):
        call(client)
        collector.wait_until(lambda collector: len(collector.spans) == 2)
        assert gateway.stop() == 0
    lines = told(gateway, "a variable of opentelemetry is not understood")
    assert len(lines) == 2
    assert "Couldn't recognize sampler %s." in "".join(lines)
    assert "canary" not in "".join(gateway.log)


@pytest.mark.parametrize(
    ("settings", "environ", "on"),
    [
        pytest.param("{}", {}, False, id="nothing said"),
        pytest.param("{traces_exporter: otlp}", {}, True, id="the file"),
        pytest.param("{}", {"LMI_GATEWAY_TRACES_EXPORTER": "otlp"}, True, id="the variable"),
        pytest.param("{}", {"OTEL_TRACES_EXPORTER": "otlp"}, True, id="the standard one"),
        pytest.param("{}", {"OTEL_TRACES_EXPORTER": "none"}, False, id="the standard one says none"),
        pytest.param("{traces_exporter: none}", {"OTEL_TRACES_EXPORTER": "otlp"}, False, id="the file wins over it"),
        pytest.param("{traces_exporter: otlp}", {"OTEL_SDK_DISABLED": "true"}, False, id="all is off"),
        pytest.param("{}", {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1"}, False, id="an endpoint is no wish"),
    ],
)
def test_what_switches_traces_on(settings: str, environ: dict[str, str], on: bool) -> None:
    text = f"settings: {settings}\nmodels: [{{name: m, deployments: [{{endpoint: m, region: us-east-1, container: lmi"
    found = parse((text + ", version: 27}]}]\n").encode(), "test.yaml", environ).settings
    assert is_on(found, environ) is on


def test_without_the_extra_the_gateway_says_so_and_does_not_start(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.partition('.')[0] == 'opentelemetry':\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
    )
    path = tmp_path / "gateway.yaml"
    path.write_text("models: [{name: m, deployments: [{endpoint: m, region: us-east-1, container: lmi, version: 27}]}]")
    command = [sys.executable, "-m", "gateway", "serve", "--insecure", "--port", "0", "--config", str(path)]
    environ: dict[str, Any] = {**os.environ, "PYTHONPATH": str(tmp_path), "LMI_GATEWAY_TRACES_EXPORTER": "otlp"}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "traces_exporter: otlp needs OpenTelemetry: see docs/tracing.md\n"


def test_a_call_that_cannot_be_described_goes_on_without(caplog: pytest.LogCaptureFixture) -> None:
    tracing = make(Settings(traces_exporter="otlp"), {}, TraceMetrics(CollectorRegistry()), {})
    record = CallRecord("chat", "r-1", 0.0, trace=Trace("a" * 32, "b" * 16, None, True))
    fields: dict[str, Any] = {"stream": False, "include_usage": False, "choices": 1, "max_tokens": None}
    odd: Any = []  # what no parser makes
    tracing.called(record, Call(surface=Surface.CHAT, model="m", raw={}, values=odd, **fields))
    assert record.asked is None
    (line,) = caplog.records
    assert (line.getMessage(), line.__dict__["request_id"]) == ("unexpected error", "r-1")
