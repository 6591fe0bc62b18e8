"""TGI's API: what its routes answer, for which model, and with which headers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway import __version__
from tests.support.full_stack import DEFAULT_MODEL, Stack
from tests.support.stack import KEY, NARROW_KEY, Gateway, Local

GREETING = "Hello! How can I help you today?"
EMOJI = "Café — naïve 😀🚀 日本語 ✓ ½ 👨\u200d👩\u200d👧."
HELLO: dict[str, Any] = {"inputs": "hello", "parameters": {"max_new_tokens": 30}}
DETAILED: dict[str, Any] = {"inputs": "hello", "parameters": {"max_new_tokens": 3, "details": True}}
WHOLE_HEADERS = {
    "x-request-id", "server-timing", "x-compute-type", "x-compute-time", "x-compute-characters", "x-total-time",
    "x-validation-time", "x-queue-time", "x-inference-time", "x-time-per-token", "x-prompt-tokens",
    "x-generated-tokens",
}  # fmt: skip
STREAM_HEADERS = {
    "x-request-id", "server-timing", "x-compute-type", "x-compute-characters", "x-accel-buffering", "cache-control",
}  # fmt: skip
HTTP_HEADERS = {"date", "content-type", "content-length", "transfer-encoding"}


@pytest.fixture(scope="module")
def http(stack: Stack) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=stack.gateway.url, headers=headers, timeout=20, trust_env=False) as client:
        yield client


def frames_of(response: httpx.Response) -> list[Any]:
    """Return the frames of a stream, each of which is one event without a space before its JSON."""
    assert response.status_code == 200, response.text
    *events, rest = response.text.split("\n\n")
    assert rest == ""
    assert all(event.startswith('data:{"') for event in events), events
    return [json.loads(event.removeprefix("data:")) for event in events]


# --- Answers ---


@pytest.mark.parametrize("variant", ["", "-invoke", "-stream"])
def test_a_whole_answer_is_tgis(http: httpx.Client, dialect: str, variant: str) -> None:
    response = http.post(f"/models/{dialect}{variant}/generate", json=DETAILED)
    answer = response.json()
    assert response.headers["content-type"] == "application/json"
    assert list(answer) == ["generated_text", "details"]
    assert answer["generated_text"] == "Hello! How"
    details = answer["details"]
    assert list(details) == ["finish_reason", "generated_tokens", "seed", "prefill", "tokens"]
    assert (details["finish_reason"], details["generated_tokens"], details["seed"]) == ("length", 3, None)
    assert [token["text"] for token in details["tokens"]] == ["Hello", "!", " How"]
    assert [list(token) for token in details["tokens"]] == [["id", "text", "logprob", "special"]] * 3


def test_a_stream_is_tgis(http: httpx.Client, dialect: str) -> None:
    frames = frames_of(http.post(f"/models/{dialect}/generate_stream", json=DETAILED))
    assert [list(frame) for frame in frames] == [["index", "token", "generated_text", "details"]] * 3
    assert [frame["index"] for frame in frames] == [1, 2, 3]
    assert [frame["token"]["text"] for frame in frames] == ["Hello", "!", " How"]
    assert [frame["generated_text"] for frame in frames] == [None, None, "Hello! How"]
    assert frames[-1]["details"] == {"finish_reason": "length", "generated_tokens": 3, "seed": None, "input_length": 1}


@pytest.mark.parametrize("parameters", [{}, {"parameters": {}}, {"parameters": {"max_new_tokens": None}}])
def test_parameters_may_be_left_out(http: httpx.Client, parameters: dict[str, Any]) -> None:
    response = http.post("/generate", json={"inputs": "hello", **parameters})
    assert response.json() == {"generated_text": GREETING}


def test_text_beyond_ascii_comes_whole_and_in_pieces(http: httpx.Client, dialect: str) -> None:
    body = {"inputs": "emoji", "parameters": {"max_new_tokens": 100}}
    assert http.post(f"/models/{dialect}/generate", json=body).json()["generated_text"] == EMOJI
    frames = frames_of(http.post(f"/models/{dialect}/generate_stream", json=body))
    assert "".join(frame["token"]["text"] for frame in frames if not frame["token"]["special"]) == EMOJI
    assert frames[-1]["generated_text"] == EMOJI


def test_the_compatible_route_does_either_and_wraps_what_is_whole(http: httpx.Client) -> None:
    (answer,) = http.post("/", json={**HELLO, "parameters": {"return_full_text": False}}).json()
    assert answer == {"generated_text": GREETING}
    frames = frames_of(http.post("/", json={**HELLO, "stream": True}))
    assert frames[-1]["generated_text"] == f"hello{GREETING}"
    assert "".join(frame["token"]["text"] for frame in frames if not frame["token"]["special"]) == GREETING


def test_only_the_compatible_route_repeats_the_prompt_unasked(http: httpx.Client) -> None:
    assert http.post("/", json=HELLO).json() == [{"generated_text": f"hello{GREETING}"}]
    assert http.post("/generate", json=HELLO).json() == {"generated_text": GREETING}
    asked = {"inputs": "hello", "parameters": {"return_full_text": True}}
    assert http.post("/generate", json=asked).json() == {"generated_text": f"hello{GREETING}"}


def test_only_the_compatible_route_looks_for_stream(http: httpx.Client) -> None:
    assert http.post("/generate", json={**HELLO, "stream": True}).json() == {"generated_text": GREETING}
    assert frames_of(http.post("/generate_stream", json={**HELLO, "stream": False}))[-1]["generated_text"] == GREETING


# --- Which model ---


@pytest.mark.parametrize(
    "path",
    [
        "/models/meta/llama-3.3-70b/generate",
        "/models/meta%2Fllama-3.3-70b/generate",
        "/models/team/chat:latest/generate",
        "/models/team%2fchat%3alatest/generate/",
        "/models/meta/llama-3.3-70b",
        "/models/meta/llama-3.3-70b/",
        "/models/gpt-4o",
    ],
)
def test_the_url_names_a_model_by_name_or_alias(http: httpx.Client, local: Local, path: str) -> None:
    response = http.post(path, json={"inputs": "hello", "parameters": {"return_full_text": False}})
    assert response.status_code == 200, response.text
    answer = response.json() if "generate" in path else response.json()[0]
    assert answer == {"generated_text": GREETING}


@pytest.mark.parametrize(
    ("path", "adapter_id", "endpoint"),
    [
        pytest.param("/generate", None, "lmi27", id="the default"),
        pytest.param("/generate", "vllm", "vllm", id="the adapter"),
        pytest.param("/generate", "meta/llama-3.3-70b", "lmi27", id="the adapter, with a slash"),
        pytest.param("/models/vllm/generate", None, "vllm", id="the url"),
    ],
)
def test_the_model_is_the_urls_else_the_adapters_else_the_default(
    http: httpx.Client, local: Local, path: str, adapter_id: str | None, endpoint: str
) -> None:
    before = len(local.calls)
    body = {"inputs": "hello", "parameters": {"adapter_id": adapter_id}}
    assert http.post(path, json=body).json() == {"generated_text": GREETING}
    assert len(local.calls) == before + 1
    assert local.last_call().endpoint == endpoint


def test_a_key_may_use_its_own_models_only_and_is_not_told_of_the_default(gateway: Gateway, local: Local) -> None:
    before = len(local.calls)
    with httpx.Client(base_url=gateway.url, headers={"x-api-key": NARROW_KEY}, trust_env=False) as narrow:
        for path, body in (
            ("/models/lmi27/generate", HELLO),
            ("/generate", {"inputs": "hello", "parameters": {"adapter_id": "lmi27"}}),
        ):
            refused = narrow.post(path, json=body)
            assert (refused.status_code, refused.json()["error_type"]) == (404, "model_not_found")
        for path in ("/generate", "/"):
            refused = narrow.post(path, json=HELLO)
            assert (refused.status_code, refused.json()) == (
                422,
                {
                    "error": "Input validation error: no model is named, and there is no default model for this key: "
                    "name one in the URL, such as /models/YOUR_MODEL/generate, or as `adapter_id` among the "
                    "parameters.",
                    "error_type": "validation",
                },
            )
        assert len(local.calls) == before
        assert narrow.post("/models/gpt-4o/generate", json=HELLO).json() == {"generated_text": GREETING}


# --- Headers ---


def test_the_headers_of_a_whole_answer(http: httpx.Client) -> None:
    response = http.post("/generate", json={"inputs": "héllo 😀", "parameters": {"max_new_tokens": 4}})
    headers = response.headers
    assert set(headers) - HTTP_HEADERS == WHOLE_HEADERS
    assert headers["x-compute-type"] == "gpu+optimized"
    assert headers["x-compute-characters"] == "7"
    assert (headers["x-generated-tokens"], headers["x-queue-time"]) == ("4", "0")
    assert int(headers["x-prompt-tokens"]) > 4
    assert 0 < float(headers["x-compute-time"]) < 20
    total, parts = (
        int(headers["x-total-time"]),
        [int(headers[f"x-{part}-time"]) for part in ("validation", "inference")],
    )
    assert total - 1 <= sum(parts) <= total
    assert int(headers["x-time-per-token"]) <= total


def test_the_headers_of_a_stream(http: httpx.Client) -> None:
    response = http.post("/generate_stream", json=HELLO)
    assert set(response.headers) - HTTP_HEADERS == STREAM_HEADERS
    assert response.headers["content-type"].startswith("text/event-stream")
    assert (response.headers["x-compute-characters"], response.headers["x-accel-buffering"]) == ("5", "no")


@pytest.mark.parametrize(
    "path", ["/generate", "/generate_stream", "/", "/models/lmi27", "/info", "/health", "/tokenize"]
)
def test_a_request_id_comes_back_from_every_route(http: httpx.Client, path: str) -> None:
    given = {"x-request-id": "trace-1.2_3"}
    response = (
        http.get(path, headers=given) if path in ("/info", "/health") else http.post(path, json=HELLO, headers=given)
    )
    assert response.headers["x-request-id"] == "trace-1.2_3"


def test_connections_are_kept_from_call_to_call(gateway: Gateway) -> None:
    with httpx.Client(base_url=gateway.url, headers={"api-key": KEY}, trust_env=False) as client:
        ports = set()
        for method, path in (
            ("POST", "/generate"), ("POST", "/generate_stream"), ("GET", "/"), ("POST", "/"), ("GET", "/info"),
            ("POST", "/models/vllm"), ("GET", "/models/vllm/info"), ("POST", "/models/nobody"), ("POST", "/generate"),
        ):  # fmt: skip
            with client.stream(method, path, content=json.dumps(HELLO) if method == "POST" else b"") as response:
                ports.add(response.extensions["network_stream"].get_extra_info("client_addr"))
                response.read()
            assert "connection" not in response.headers, path
        assert len(ports) == 1


def test_calls_are_counted_as_their_surface(http: httpx.Client) -> None:
    def counted(surface: str, model: str, code: str) -> float:
        lines = http.get("/metrics").text.splitlines()
        wanted = f'gateway_calls_total{{code="{code}",model="{model}",surface="{surface}"}} '
        return sum(float(line.removeprefix(wanted)) for line in lines if line.startswith(wanted))

    series = [
        ("generate", "vllm", "ok"), ("generate", "none", "model_not_found"), ("generate", "vllm", "invalid_value"),
        ("tokenize", "vllm", "route_not_found"),
    ]  # fmt: skip
    before = [counted(*labels) for labels in series]
    http.post("/models/vllm/generate", json=HELLO)
    http.post("/models/vllm/generate_stream", json=HELLO)
    http.post("/models/nobody/generate", json=HELLO)
    http.post("/models/vllm/generate", json={"inputs": ""})
    http.post("/models/vllm/tokenize", json=HELLO)
    assert [counted(*labels) - earlier for labels, earlier in zip(series, before, strict=True)] == [2, 1, 1, 1]


# --- What the server is, and whether it is well ---


def test_info_tells_of_the_default_model_and_of_any_other(http: httpx.Client) -> None:
    told = http.get("/info").json()
    assert told == {
        "model_id": DEFAULT_MODEL,
        "model_sha": None,
        "model_pipeline_tag": "image-text-to-text",
        "max_concurrent_requests": None,
        "max_best_of": 2,
        "max_stop_sequences": 4,
        "max_input_tokens": None,
        "max_total_tokens": None,
        "validation_workers": 1,
        "max_client_batch_size": 256,
        "router": "lmi-gateway",
        "version": __version__,
        "sha": None,
        "docker_label": None,
    }
    assert http.get("/models/text-only/info").json()["model_pipeline_tag"] == "text-generation"
    small = http.get("/models/small/info").json()
    assert (small["model_id"], small["max_input_tokens"], small["max_total_tokens"]) == ("small", 63, 64)
    assert http.get("/models/gpt-4o/info").json()["model_id"] == "meta/llama-3.3-70b"


def test_info_is_for_keys_and_for_their_models(gateway: Gateway, http: httpx.Client) -> None:
    with httpx.Client(base_url=gateway.url, trust_env=False) as client:
        for path, key, status, kind in (
            ("/info", None, 401, "missing_api_key"),
            ("/info", "sk-other", 401, "invalid_api_key"),
            ("/info", NARROW_KEY, 422, "validation"),
            ("/models/lmi27/info", NARROW_KEY, 404, "model_not_found"),
            ("/models/nobody/info", KEY, 404, "model_not_found"),
            ("/models/lmi27/health", NARROW_KEY, 404, "model_not_found"),
            ("/models/lmi27/health", None, 401, "missing_api_key"),
        ):
            answer = client.get(path, headers={"api-key": key} if key else {})
            assert (answer.status_code, answer.json()["error_type"]) == (status, kind), path
        assert client.get("/models/gpt-4o/info", headers={"api-key": NARROW_KEY}).status_code == 200


@pytest.mark.parametrize("path", ["/health", "/", "/health/"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_health_is_told_to_everyone(gateway: Gateway, path: str, method: str) -> None:
    answer = httpx.request(method, f"{gateway.url}{path}", trust_env=False)
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "0")


@pytest.mark.parametrize("path", ["/models/lmi27/health", "/models/lmi27", "/models/meta/llama-3.3-70b/"])
def test_a_model_is_as_healthy_as_the_gateway(http: httpx.Client, path: str) -> None:
    assert (http.get(path).status_code, http.get(path).content) == (200, b"")
