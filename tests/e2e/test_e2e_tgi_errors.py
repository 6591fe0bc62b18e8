"""TGI's API where there is no answer: its statuses, kinds and words, before a stream and in one; callers who leave."""

from __future__ import annotations

import json
import signal
import socket
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from deploy.local import faults
from deploy.local.engine import build
from tests.support.full_stack import Stack
from tests.support.stack import KEY, Gateway, Local, config, model, running_gateway, running_local

HELLO: dict[str, Any] = {"inputs": "hello", "parameters": {"max_new_tokens": 30}}
COUNT: dict[str, Any] = {"inputs": "count to 100", "parameters": {"max_new_tokens": 400}}
FAILING: dict[str, Any] = {"inputs": "please fail after 5", "parameters": {"max_new_tokens": 30}}
HUNG_UP_WITHIN_MS = 250
"""Generous, as other work may share the machine."""
ROUTES = [
    pytest.param("/generate", id="generate"),
    pytest.param("/generate_stream", id="stream"),
    pytest.param("", id="/"),
]


@pytest.fixture(scope="module")
def http(stack: Stack) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=stack.gateway.url, headers=headers, timeout=20, trust_env=False) as client:
        yield client


def refused(response: httpx.Response) -> tuple[int, str, str]:
    """Return the status, kind and text of an error, having checked its shape."""
    assert response.headers["content-type"] == "application/json"
    assert {"x-request-id", "server-timing"} <= set(response.headers)
    body = response.json()
    assert list(body) == ["error", "error_type"], body
    return response.status_code, body["error_type"], body["error"]


def last_of(response: httpx.Response) -> tuple[str, str]:
    """Return the kind and text of the error with which a stream ends, having checked that it is its only end."""
    assert response.status_code == 200
    *events, rest = response.text.split("\n\n")
    assert rest == ""
    events = [event for event in events if not event.startswith(":")]
    assert all('"generated_text":null' in event for event in events[:-1]), "an answer that failed ends as if complete"
    assert events[-1].startswith('data:{"error":"'), events[-1]
    body = json.loads(events[-1].removeprefix("data:"))
    assert list(body) == ["error", "error_type"]
    return body["error_type"], body["error"]


# --- Before anything is generated ---


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("body", "status", "text"),
    [
        pytest.param({"inputs": ""}, 422, "Input validation error: `inputs` cannot be empty", id="empty"),
        pytest.param(
            {"inputs": "x", "parameters": {"temperature": 0.0}},
            422,
            "Input validation error: `temperature` must be strictly positive",
            id="cold",
        ),
        pytest.param(
            {"inputs": "x", "parameters": {"stop": list("abcde")}},
            422,
            "Input validation error: `stop` supports up to 4 stop sequences. Given: 5",
            id="stops",
        ),
        pytest.param(
            {"inputs": "x", "parameters": {"max_new_tokens": "many"}},
            422,
            "Failed to deserialize the JSON body into the target type: parameters.max_new_tokens: invalid type: string "
            '"many", expected u32',
            id="type",
        ),
        pytest.param(
            {"parameters": {}},
            422,
            "Failed to deserialize the JSON body into the target type: missing field `inputs`",
            id="no inputs",
        ),
        pytest.param({"inputs": "x", "parameters": {"watermark": True}}, 422, None, id="watermark"),
        pytest.param({"inputs": "x", "parameters": {"typical_p": 0.5}}, 422, None, id="typical_p"),
    ],
)
def test_a_request_is_refused_in_tgis_words(
    http: httpx.Client, local: Local, route: str, body: dict[str, Any], status: int, text: str | None
) -> None:
    before = len(local.calls)
    found = refused(http.post(f"/models/lmi27{route}", json={**body, "stream": True} if not route else body))
    assert found[:2] == (status, "validation")
    assert text is None or found[2] == text
    assert found[2].startswith(("Input validation error: ", "Failed to deserialize the JSON body"))
    assert len(local.calls) == before


@pytest.mark.parametrize(
    ("content", "status", "kind"),
    [
        pytest.param(b"{", 400, "validation", id="cut"),
        pytest.param(b"", 400, "validation", id="nothing"),
        pytest.param(b'{"inputs":"\xff"}', 400, "validation", id="no UTF-8"),
        pytest.param(b"[]", 422, "validation", id="a list"),
        pytest.param(b'{"inputs":"a","inputs":"b"}', 422, "validation", id="twice"),
        pytest.param(b'{"inputs":"' + b"x" * 6_291_456 + b'"}', 413, "request_too_large", id="too large"),
    ],
)
def test_a_body_that_is_none_is_refused_as_json_too(http: httpx.Client, content: bytes, status: int, kind: str) -> None:
    assert refused(http.post("/generate", content=content))[:2] == (status, kind)


@pytest.mark.parametrize(
    ("method", "path", "headers", "status", "kind"),
    [
        pytest.param("POST", "/generate", {"authorization": ""}, 401, "missing_api_key", id="no key"),
        pytest.param("POST", "/", {"authorization": "Bearer x"}, 401, "invalid_api_key", id="a wrong key"),
        pytest.param("POST", "/generate", {"content-type": "text/plain"}, 415, "unsupported_media_type", id="text"),
        pytest.param("POST", "/generate", {"content-encoding": "gzip"}, 415, "unsupported_media_type", id="gzip"),
        pytest.param("POST", "/models/nobody/generate", {}, 404, "model_not_found", id="no such model"),
        pytest.param("POST", "/models/nobody", {}, 404, "model_not_found", id="no such model, on the model's own URL"),
        pytest.param("GET", "/generate", {}, 405, "method_not_allowed", id="GET"),
        pytest.param("DELETE", "/models/lmi27", {}, 405, "method_not_allowed", id="DELETE"),
        pytest.param("POST", "/info", {}, 405, "method_not_allowed", id="POST for info"),
        pytest.param("POST", "/models/lmi27/health", {}, 405, "method_not_allowed", id="POST for health"),
        pytest.param("POST", "/tokenize", {}, 404, "route_not_found", id="no tokenizer"),
    ],
)
def test_what_tgi_has_no_word_for_keeps_its_own(
    http: httpx.Client, method: str, path: str, headers: dict[str, str], status: int, kind: str
) -> None:
    response = http.request(method, path, content=json.dumps(HELLO) if method == "POST" else b"", headers=headers)
    assert refused(response)[:2] == (status, kind)
    assert ("www-authenticate" in response.headers) is (status == 401)
    assert ("allow" in response.headers) is (status == 405)


@pytest.mark.parametrize("path", ["/models", "/models/", "/models//", "/generatex", "/v1/generate"])
def test_urls_that_are_none_of_tgis_are_refused_in_openais_words(http: httpx.Client, path: str) -> None:
    answer = http.post(path, json=HELLO)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "route_not_found")


def test_what_does_not_fit_the_window_is_a_validation_error(http: httpx.Client, dialect: str) -> None:
    body = {"inputs": "word " * 20_000, "parameters": {"max_new_tokens": 30}}
    for route in ("/generate", "/generate_stream"):
        status, kind, text = refused(http.post(f"/models/{dialect}-invoke{route}", json=body))
        assert (status, kind) == (422, "validation")
        assert text.startswith("Input validation error: ")


# --- What goes wrong behind ---


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize(
    ("fault", "status", "kind", "begins"),
    [
        pytest.param(faults.Throttle(), 429, "overloaded", "", id="throttled"),
        pytest.param(faults.ServiceUnavailable(), 429, "overloaded", "", id="no capacity"),
        pytest.param(faults.ModelNotReady(), 503, "model_not_ready", "", id="loading"),
        pytest.param(faults.ModelTimeout(), 504, "upstream_timeout", "", id="too slow"),
        pytest.param(
            faults.InternalFailure(), 424, "generation", "Request failed during generation: ", id="SageMaker fails"
        ),
        pytest.param(faults.AccessDenied(), 424, "generation", "Request failed during generation: ", id="denied"),
        pytest.param(
            faults.ModelError(status=500, body="Traceback"),
            424,
            "generation",
            "Request failed during generation: ",
            id="container fails",
        ),
        pytest.param(
            faults.Oversized(total_bytes=512), 500, "incomplete_generation", "Incomplete generation: ", id="empty"
        ),
    ],
)
def test_failures_behind_have_tgis_status_and_kind(
    http: httpx.Client, local: Local, route: str, fault: faults.Fault, status: int, kind: str, begins: str
) -> None:
    local.add_fault(fault, times=None)
    response = http.post(f"/models/lmi27{route}", json=HELLO)
    found = refused(response)
    assert found[:2] == (status, kind), found
    assert found[2].startswith(begins)
    assert "arn:aws" not in found[2]
    assert "Traceback" not in found[2]
    # Told to wait where the other surfaces are.
    usual = http.post("/v1/completions", json={"model": "lmi27", "prompt": "hello", "stream": "stream" in route})
    assert response.headers.get("retry-after") == usual.headers.get("retry-after")


@pytest.mark.parametrize("body", [pytest.param(FAILING, id="an engine that dies"), pytest.param(COUNT, id="a cut")])
def test_a_stream_that_fails_ends_with_an_error_and_nothing_else(
    http: httpx.Client, local: Local, dialect: str, body: dict[str, Any]
) -> None:
    if body is COUNT:
        local.add_fault(faults.ContainerGone(after_chunks=4))
    response = http.post(f"/models/{dialect}/generate_stream", json=body)
    kind, text = last_of(response)
    assert (kind, text.partition(": ")[0]) in (
        ("generation", "Request failed during generation"),
        ("incomplete_generation", "Incomplete generation"),
    )
    assert response.text.count("data:") in range(3, 7)


def test_a_whole_answer_that_fails_half_way_is_an_error(http: httpx.Client, dialect: str) -> None:
    status, kind, _ = refused(http.post(f"/models/{dialect}-stream/generate", json=FAILING))
    assert (status, kind) in ((424, "generation"), (429, "overloaded"))


def test_a_stream_is_kept_alive_and_an_error_after_the_status_is_an_event(http: httpx.Client, local: Local) -> None:
    local.add_fault(faults.Delay(s=0.2), times=None)
    local.add_fault(faults.InternalFailure(), times=None)
    response = http.post("/models/held-at-once/generate_stream", json=HELLO)
    assert response.text.startswith(": keep-alive\n\n")
    assert last_of(response)[0] == "generation"


def test_comments_come_while_tokens_do_not(http: httpx.Client, local: Local) -> None:
    local.add_fault(faults.Stall(after_frames=4, s=0.3))
    response = http.post("/models/held-at-once/generate_stream", json=HELLO)
    *events, _ = response.text.split("\n\n")
    assert len([event for event in events if event.startswith(":")]) >= 3
    assert json.loads(events[-1].removeprefix("data:"))["generated_text"] == "Hello! How can I help you today?"


# --- Callers who leave, and a gateway that does ---


def send(gateway: Gateway, path: str, body: dict[str, Any]) -> socket.socket:
    """Send a request on a connection of its own and return that."""
    content = json.dumps(body).encode()
    caller = socket.create_connection((gateway.host, gateway.port), timeout=20)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\napi-key: {KEY}\r\ncontent-length: {len(content)}\r\n\r\n"
    caller.sendall(head.encode() + content)
    return caller


@pytest.mark.parametrize(
    "path",
    ["/models/vllm-slow/generate_stream", "/models/lmi27-slow/generate_stream", "/models/vllm-slow-invoke/generate"],
)
def test_sagemaker_sees_that_a_caller_has_left(gateway: Gateway, slow: Local, path: str) -> None:
    n = len(slow.calls) + 1
    caller = send(gateway, path, COUNT)
    slow.call_started(n)
    if "stream" in path:
        slow.call_sent_frames(n, 4)
        assert b"200 OK" in caller.recv(1 << 16)
    left = time.monotonic()
    caller.close()
    call = slow.last_call()
    assert call.hung_up_ms is not None, "nobody hung up"
    assert call.hung_up_ms - call.ms_since_start(left) < HUNG_UP_WITHIN_MS


def test_a_stream_longer_than_the_drain_time_ends_in_tgis_error() -> None:
    with (
        running_local({"only": build("lmi27", token_delay_s=0.02)}) as local,
        running_gateway(config(local.url, model("only", "lmi", "27"), drain_timeout_s=0.2)) as gateway,
    ):
        url, headers = f"{gateway.url}/generate_stream", {"authorization": f"Bearer {KEY}"}
        with httpx.stream("POST", url, json=COUNT, headers=headers, timeout=20, trust_env=False) as answer:
            parts = answer.iter_text()
            text = next(parts)
            gateway.process.send_signal(signal.SIGTERM)
            text += "".join(parts)
        assert text.endswith('data:{"error":"The gateway is shutting down.","error_type":"server_shutdown"}\n\n')
        assert '"generated_text":"' not in text
        assert gateway.process.wait(10) == 0


def test_without_credentials_the_gateway_is_unhealthy() -> None:
    entries = model("one", "lmi", "27"), model("two", "lmi", "27")
    with (
        running_local({"one": build("lmi27")}) as local,
        running_gateway(config(local.url, *entries), AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="") as gateway,
        httpx.Client(base_url=gateway.url, headers={"api-key": KEY}, trust_env=False) as client,
    ):
        for path in ("/health", "/", "/models/one/health"):
            answer = client.get(path)
            assert (answer.status_code, answer.json()) == (503, {"error": "unhealthy", "error_type": "healthcheck"})
        assert refused(client.post("/models/one/generate", json=HELLO))[:2] == (424, "generation")
        # Two models, none of them the default.
        assert refused(client.post("/generate", json=HELLO))[:2] == (422, "validation")
        assert client.get("/info").status_code == 422
