"""Spans of a real gateway process, as a collector receives them."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator

import httpx
import pytest

from deploy.local import faults
from deploy.local.engine import build
from gateway import __version__
from tests.support.collector import Collector, Received, collecting
from tests.support.stack import KEY, Gateway, Local, config, model, running_gateway, running_local

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SAMPLED = {"traceparent": f"00-{TRACE_ID}-{PARENT_ID}-01", "tracestate": "congo=t61rcWkgMzE, rojo=00f067aa0ba902b7"}
CANARY = "canary-in-a-prompt"
BODY = {
    "model": "one",
    "messages": [{"role": "system", "content": CANARY}, {"role": "user", "content": CANARY}],
    "max_tokens": 20,
    "temperature": 0.5,
    "top_p": 1,
    "seed": 7,
    "stop": [CANARY],
    "user": CANARY,
}
QUICK = {"OTEL_BSP_SCHEDULE_DELAY": "50"}


def models() -> list[dict[str, object]]:
    one = {"region": "us-east-1", "container": "lmi", "version": "27"}
    return [
        model("one", "lmi", "27", aliases=["first"]),
        {"name": "two", "deployments": [{**one, "endpoint": "one"}, {**one, "endpoint": "other", "weight": 0}]},
        model("slow", "vllm", "0.33"),
        model("gone", "lmi", "27", deployment={"endpoint": "nowhere"}),
    ]


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    paced = build("vllm", token_delay_s=0.02)
    with running_local({"one": build("lmi27"), "other": build("lmi27"), "slow": paced}) as local:
        yield local


@pytest.fixture(scope="module")
def gateway(local: Local, collector: Collector) -> Iterator[Gateway]:
    with running_gateway(
        config(local.url, *models(), traces_exporter="otlp"),
        OTEL_EXPORTER_OTLP_ENDPOINT=collector.url,
        OTEL_EXPORTER_OTLP_HEADERS="x-collector-key=canary-key",
        OTEL_EXPORTER_OTLP_COMPRESSION="gzip",
        OTEL_RESOURCE_ATTRIBUTES="deployment.environment.name=tests,service.version=mine",
        **QUICK,
    ) as gateway:
        yield gateway


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=gateway.url, headers=headers, timeout=20, trust_env=False) as client:
        yield client


def called(
    client: httpx.Client, request_id: str, body: dict[str, object] | None = None, /, **headers: str
) -> httpx.Response:
    return client.post(
        "/v1/chat/completions", json=BODY | (body or {}), headers={"x-request-id": request_id, **headers}
    )


def assert_in_order(spans: list[Received]) -> None:
    """Everything lies within the call, and events within their spans."""
    call, *below = spans
    assert call.start_ns < call.end_ns <= time.time_ns()
    assert time.time_ns() - call.start_ns < 60e9
    for span in spans:
        assert call.start_ns <= span.start_ns <= span.end_ns <= call.end_ns + 1000  # of rounding
        for moment in span.events.values():
            assert span.start_ns <= moment <= span.end_ns
    assert [span.trace_id for span in below] == [call.trace_id] * len(below)
    assert [span.parent_id for span in below] == [call.span_id] * len(below)
    assert len({span.span_id for span in spans}) == len(spans)


def test_a_whole_reply_continues_its_callers_trace(client: httpx.Client, collector: Collector) -> None:
    response = called(client, "whole-1", **SAMPLED)
    assert response.status_code == 200
    call, attempt = spans = collector.of("whole-1")
    assert_in_order(spans)
    assert (call.name, call.kind, call.trace_id, call.parent_id) == ("chat one", "server", TRACE_ID, PARENT_ID)
    assert (attempt.name, attempt.kind) == ("invoke one", "client")
    assert [span.state for span in spans] == ["congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"] * 2
    assert [span.failed for span in spans] == [False, False]
    usage = response.json()["usage"]
    queue_s = call.attributes.pop("lmi_gateway.queue_s")
    assert queue_s == 0
    expected = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "aws.sagemaker",
        "gen_ai.request.model": "one",
        "gen_ai.response.model": "one",
        "gen_ai.request.max_tokens": 20,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.request.seed": 7,
        "gen_ai.usage.input_tokens": usage["prompt_tokens"],
        "gen_ai.usage.output_tokens": usage["completion_tokens"],
        "http.request.method": "POST",
        "http.request.body.size": len(response.request.content),
        "http.response.status_code": 200,
        "lmi_gateway.surface": "chat",
        "lmi_gateway.request_id": "whole-1",
        "lmi_gateway.key_id": "all",
        "lmi_gateway.deployment": "one",
        "lmi_gateway.attempts": 1,
    }
    assert {name: value for name, value in call.attributes.items() if name in expected} == expected
    assert set(call.attributes) - set(expected) <= {"http.response.body.size"}
    assert attempt.attributes["server.address"] == "127.0.0.1"
    assert attempt.attributes["cloud.region"] == "us-east-1"


def test_the_process_says_what_it_is_and_what_its_variables_say(client: httpx.Client, collector: Collector) -> None:
    called(client, "who-1")
    (call, *_) = collector.of("who-1")
    assert call.scope == ("lmi-gateway", __version__)
    named = {name: call.resource[name] for name in ("service.name", "service.version", "deployment.environment.name")}
    assert named == {
        "service.name": "lmi-gateway",
        "service.version": "mine",
        "deployment.environment.name": "tests",
    }
    assert re.fullmatch("[0-9a-f-]{36}", call.resource["service.instance.id"])
    assert set(collector.paths) == {"/v1/traces"}
    assert {headers["x-collector-key"] for headers in collector.headers} == {"canary-key"}
    assert {headers["content-encoding"] for headers in collector.headers} == {"gzip"}


def test_a_stream_has_a_span_from_its_first_event_to_its_last(client: httpx.Client, collector: Collector) -> None:
    response = called(client, "stream-1", {"stream": True, "model": "slow", "n": 2}, **SAMPLED)
    assert response.text.endswith("data: [DONE]\n\n")
    call, attempt, stream = spans = collector.of("stream-1")
    assert_in_order(spans)
    assert [span.name for span in spans] == ["chat slow", "invoke slow", "stream"]
    assert attempt.end_ns <= stream.start_ns + 5_000_000
    assert stream.kind == "internal"
    assert stream.events["first_token"] == stream.start_ns
    assert stream.attributes["lmi_gateway.stream.ending"] == "complete"
    assert stream.attributes["lmi_gateway.stream.events"] > 5
    assert stream.end_ns - stream.start_ns > 20e6
    assert call.attributes["gen_ai.request.stream"] is True
    assert call.attributes["gen_ai.request.choice.count"] == 2
    first_s = call.attributes["gen_ai.response.time_to_first_chunk"]
    assert abs(first_s - (stream.start_ns - call.start_ns) / 1e9) < 0.001


def test_without_a_traceparent_a_trace_begins(client: httpx.Client, collector: Collector) -> None:
    for request_id in ("root-1", "root-2"):
        called(client, request_id)
    roots = [collector.of(request_id)[0] for request_id in ("root-1", "root-2")]
    assert [root.parent_id for root in roots] == ["", ""]
    assert len({root.trace_id for root in roots}) == 2
    assert all(re.fullmatch("[0-9a-f]{32}", root.trace_id) for root in roots)


def test_a_malformed_traceparent_begins_a_trace_and_goes_nowhere(client: httpx.Client, collector: Collector) -> None:
    canary = "00-CANARY-traceparent-01"
    called(client, "malformed-1", traceparent=canary, tracestate="canary=state")
    call, *_ = collector.of("malformed-1")
    assert (call.parent_id, call.state) == ("", "")
    assert not any(b"CANARY" in body or b"canary=state" in body for body in collector.bodies)


def test_an_unsampled_call_sends_nothing(client: httpx.Client, collector: Collector) -> None:
    unsampled = "1" * 32
    called(client, "unsampled-1", traceparent=f"00-{unsampled}-{PARENT_ID}-00")
    called(client, "unsampled-2")  # spans leave in order: once these are here, the others would be
    collector.of("unsampled-2")
    assert [span for span in collector.spans if span.trace_id == unsampled] == []


def test_every_attempt_has_a_span(client: httpx.Client, local: Local, collector: Collector) -> None:
    local.add_fault(faults.ServiceUnavailable(), times=1)
    try:
        response = called(client, "retried-1")
    finally:
        local.clear_faults()
    assert response.status_code == 200
    call, first, second = spans = collector.of("retried-1")
    assert_in_order(spans)
    assert (call.attributes["lmi_gateway.attempts"], call.failed) == (2, False)
    assert [span.attributes["lmi_gateway.attempt"] for span in (first, second)] == [1, 2]
    assert (first.attributes["error.type"], first.failed) == ("upstream_unavailable", True)
    assert ("error.type" in second.attributes, second.failed) == (False, False)
    assert first.end_ns <= second.start_ns


@pytest.mark.parametrize(
    ("request_id", "body", "status", "code", "failed", "attempts"),
    [
        pytest.param("error-1", {"model": "no-such"}, 404, "model_not_found", False, 0, id="no model"),
        pytest.param("error-2", {"temperature": "hot"}, 400, "invalid_value", False, 0, id="a wrong field"),
        pytest.param("error-3", {"model": "gone"}, 502, "upstream_misconfigured", True, 1, id="no endpoint"),
    ],
)
def test_an_error_has_its_code(
    client: httpx.Client,
    collector: Collector,
    request_id: str,
    body: dict[str, object],
    status: int,
    code: str,
    failed: bool,
    attempts: int,
) -> None:
    response = called(client, request_id, body)
    code = response.json()["error"]["code"] if code == "invalid_value" else code
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    call, *below = collector.of(request_id)
    assert (call.attributes["error.type"], call.attributes["http.response.status_code"]) == (code, status)
    assert (call.failed, call.attributes["lmi_gateway.attempts"], len(below)) == (failed, attempts, attempts)
    assert call.name == ("chat" if code == "model_not_found" else f"chat {(BODY | body)['model']}")
    assert "no-such" not in str(call)


def test_a_refused_key_makes_a_span_of_nobody(client: httpx.Client, collector: Collector) -> None:
    assert called(client, "refused-1", authorization="Bearer sk-canary-key").status_code == 401
    (call,) = collector.of("refused-1")
    assert (call.attributes["error.type"], call.failed) == ("invalid_api_key", False)
    assert "lmi_gateway.key_id" not in call.attributes


def test_a_caller_who_leaves_a_stream_is_no_failure(client: httpx.Client, collector: Collector) -> None:
    body = BODY | {"model": "slow", "stream": True, "max_tokens": 2000}
    with client.stream("POST", "/v1/chat/completions", json=body, headers={"x-request-id": "left-1"}) as response:
        next(response.iter_bytes())
    call, _, stream = spans = collector.of("left-1")
    assert_in_order(spans)
    for span in (call, stream):
        assert (span.attributes["error.type"], span.failed) == ("cancelled", False)
        assert span.attributes["lmi_gateway.stream.ending"] == "cancelled"


def test_a_stream_that_breaks_is_a_failure(client: httpx.Client, local: Local, collector: Collector) -> None:
    local.add_fault(faults.ModelStreamError(after_frames=3), times=1)
    try:
        called(client, "broken-1", {"stream": True, "model": "slow"})
    finally:
        local.clear_faults()
    call, attempt, stream = collector.of("broken-1")
    assert (call.failed, attempt.failed, stream.failed) == (True, False, True)
    assert call.attributes["error.type"] == stream.attributes["error.type"] != "ok"
    assert call.attributes["http.response.status_code"] == 200
    assert stream.attributes["lmi_gateway.stream.ending"] == "failed"


def test_tgis_calls_have_spans_too(client: httpx.Client, collector: Collector) -> None:
    body = {"inputs": CANARY, "parameters": {"max_new_tokens": 9, "temperature": 0.7, "adapter_id": "one"}}
    assert client.post("/generate", json=body, headers={"x-request-id": "tgi-1"}).status_code == 200
    call, *_ = collector.of("tgi-1")
    asked = {name: call.attributes[f"gen_ai.request.{name}"] for name in ("model", "max_tokens", "temperature")}
    assert (call.name, asked) == ("text_completion one", {"model": "one", "max_tokens": 9, "temperature": 0.7})


def test_nothing_of_a_prompt_a_key_or_an_answer_is_in_any_byte(
    client: httpx.Client, gateway: Gateway, collector: Collector
) -> None:
    """Runs last: all of the calls above had canaries in them."""
    response = called(client, "bytes-1", {"model": "first"})
    call, *_ = collector.of("bytes-1")
    assert (call.attributes["gen_ai.request.model"], call.attributes["gen_ai.response.model"]) == ("first", "one")
    answer = response.json()["choices"][0]["message"]["content"]
    assert len(answer) > 10
    for body in collector.bodies:
        for canary in (CANARY, KEY, KEY[:20], "canary-key", answer):
            assert canary.encode() not in body
    log = "".join(gateway.log)
    assert "canary" not in log
    assert "cannot be sent" not in log


def test_spans_are_counted(client: httpx.Client, collector: Collector) -> None:
    called(client, "counted-1")
    collector.of("counted-1")
    metrics = client.get("/metrics").text
    (exported,) = re.findall(r'^gateway_spans_total\{outcome="exported"\} (\S+)$', metrics, re.MULTILINE)
    assert float(exported) >= 2
    assert 'outcome="failed"' not in metrics
    assert 'outcome="dropped"' not in metrics
