"""The trace on its way to the container, in CustomAttributes, which containers execute."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from deploy.local import Call, Container, Endpoint, faults
from deploy.local.engine import build
from gateway.config.load import parse
from gateway.config.problems import ConfigError
from tests.support.collector import Collector, collecting
from tests.support.stack import KEY, Gateway, Local, config, model, running_gateway, running_local

TRACE_ID, PARENT_ID = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE_ID}-{PARENT_ID}-01"
ROUTED = "route=/v1/chat/completions"
HEADER = "x-amzn-sagemaker-custom-attributes"


def models() -> list[dict[str, Any]]:
    def told(name: str, container: str, version: str, **deployment: Any) -> dict[str, Any]:
        own = {"trace_context": "custom_attributes", **deployment}
        return model(name, container, version, unary="invoke", deployment=own)

    return [
        told("lmi", "lmi", "27"),
        told("full", "lmi", "27", endpoint="addressed", custom_attributes="a=1;b=two words", target_variant="blue",
             session_id="0b7f4c4e-5d8e-4a53-9a46-0d2c1b6f9a11"),
        told("routed", "vllm", "0.33", endpoint="vllm", custom_attributes=ROUTED),
        told("tokens", "vllm", "0.33", endpoint="vllm", tokenizes=True, custom_attributes="a=1"),
        model("untold", "lmi", "27", unary="invoke", deployment={"endpoint": "lmi", "custom_attributes": "a=1"}),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def local() -> Iterator[Local]:
    endpoints: dict[str, Container | Endpoint] = {
        "lmi": build("lmi27"),
        "vllm": build("vllm"),
        "addressed": Endpoint(build("lmi27"), variant="blue"),
    }
    with running_local(endpoints) as local:
        yield local


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


@pytest.fixture(scope="module")
def tracing(local: Local, collector: Collector) -> Iterator[Gateway]:
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_BSP_SCHEDULE_DELAY": "50"}
    with running_gateway(config(local.url, *models(), traces_exporter="otlp"), **environment) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def silent(local: Local) -> Iterator[Gateway]:
    """A gateway that makes no spans itself."""
    with running_gateway(config(local.url, *models())) as gateway:
        yield gateway


def arrived(gateway: Gateway, local: Local, name: str, stream: bool = False, /, **headers: str) -> Call:
    body = {"model": name, "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5, "stream": stream}
    response = httpx.post(
        f"{gateway.base_url}/chat/completions",
        json=body,
        headers={"authorization": f"Bearer {KEY}", **headers},
        trust_env=False,
    )
    assert response.status_code == 200, response.text
    found = local.last_call()
    assert found.verified
    return found


EXPECTED = [
    pytest.param("lmi", f"traceparent={GOOD}", id="nothing else"),
    pytest.param("full", f"traceparent={GOOD};a=1;b=two words", id="before what is configured"),
    pytest.param("routed", f"traceparent={GOOD};{ROUTED}", id="before a route, which is followed"),
    pytest.param("untold", "a=1", id="not asked for"),
]


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(("name", "value"), EXPECTED)
def test_without_spans_of_its_own_the_gateway_hands_on_the_callers(
    silent: Gateway, local: Local, name: str, value: str, stream: bool
) -> None:
    call = arrived(silent, local, name, stream, traceparent=GOOD, tracestate="a=canary")
    assert call.header(HEADER) == value
    assert "canary" not in str(call.headers)


@pytest.mark.parametrize("name", ["lmi", "full"])
@pytest.mark.parametrize(
    "traceparent", ["", f"{GOOD};route=/v1/embeddings", f"{GOOD},route=/x", f"00-{'0' * 32}-{PARENT_ID}-01"]
)
def test_nothing_unchecked_goes_on(silent: Gateway, local: Local, name: str, traceparent: str) -> None:
    headers = {"traceparent": traceparent} if traceparent else {}
    assert arrived(silent, local, name, **headers).header(HEADER) == (None if name == "lmi" else "a=1;b=two words")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_the_container_is_below_its_attempts_span(
    tracing: Gateway, local: Local, collector: Collector, stream: bool
) -> None:
    before = len(local.calls)
    local.add_fault(faults.ServiceUnavailable(), times=1)
    request_id = f"below-{stream}"
    try:
        arrived(tracing, local, "lmi", stream, traceparent=GOOD, **{"x-request-id": request_id})
    finally:
        local.clear_faults()
    call, *below = collector.of(request_id)
    attempts = [span for span in below if span.kind == "client"]
    told = [made.header(HEADER) for made in local.calls[before:]]
    assert told == [f"traceparent=00-{TRACE_ID}-{span.span_id}-01" for span in attempts]
    assert (len(told), call.parent_id) == (2, PARENT_ID)


def test_a_trace_that_begins_here_goes_on_too_and_says_whether_it_is_sampled(tracing: Gateway, local: Local) -> None:
    told = arrived(tracing, local, "lmi").header(HEADER)
    assert told is not None
    assert re.fullmatch(r"traceparent=00-[0-9a-f]{32}-[0-9a-f]{16}-01", told)
    told = arrived(tracing, local, "lmi", traceparent=GOOD[:-1] + "0").header(HEADER)
    assert told is not None
    assert told.startswith(f"traceparent=00-{TRACE_ID}-")
    assert told.endswith("-00")
    assert PARENT_ID not in told


def test_the_tokenizer_is_still_found(silent: Gateway, local: Local) -> None:
    response = httpx.post(
        f"{silent.url}/models/tokens/tokenize",
        json={"inputs": "one two"},
        headers={"authorization": f"Bearer {KEY}", "traceparent": GOOD},
        trust_env=False,
    )
    assert response.status_code == 200, response.text
    assert local.last_call().header(HEADER) == f"traceparent={GOOD};route=/tokenize,a=1"


AWS_IMAGE = re.compile(r"route=(/[^\s,]+)")


def read_by_lmi(header: str) -> dict[str, str]:
    """As serving/src/main/java/ai/djl/serving/http/RequestParser.java of DJL Serving reads it."""
    pairs = [token.split("=", 1) for token in header.split(";")]
    return {pair[0].strip(): pair[1].strip() for pair in pairs if len(pair) == 2}


@pytest.mark.parametrize("own", ["a=1;b=2", ROUTED, f"{ROUTED},a=1", f"a=1 {ROUTED}", "handler=x ; model_name=y"])
def test_containers_read_what_is_configured_as_if_nothing_stood_before_it(own: str) -> None:
    header = f"traceparent={GOOD};{own}"
    assert AWS_IMAGE.findall(header) == AWS_IMAGE.findall(own)
    assert read_by_lmi(header) == {"traceparent": GOOD} | read_by_lmi(own)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        pytest.param("custom_attributes: {a956}", None, id="the longest"),
        pytest.param("custom_attributes: {a957}", "with trace_context, 68 characters have to stay free", id="one more"),
        pytest.param("tokenizes: true, custom_attributes: {a938}", None, id="the longest with a tokenizer"),
        pytest.param(
            "tokenizes: true, custom_attributes: {a939}",
            "with tokenizes and trace_context, 86 characters have to stay free",
            id="one more with a tokenizer",
        ),
        pytest.param(
            "custom_attributes: traceparent=x",
            "with trace_context, traceparent is not a name for attributes of your own",
            id="a second one",
        ),
    ],
)
def test_the_header_never_grows_too_long(fields: str, message: str | None) -> None:
    fields = re.sub(r"\{a(\d+)\}", lambda found: "a" * int(found[1]), fields)
    text = (
        "models: [{name: m, deployments: [{endpoint: m, region: us-east-1, container: vllm, version: 0.11,"
        f" trace_context: custom_attributes, {fields}}}]}}]\n"
    )
    if message is None:
        parse(text.encode(), "test.yaml", {})
    else:
        with pytest.raises(ConfigError, match=message):
            parse(text.encode(), "test.yaml", {})


def test_both_questions_of_a_chats_tokens_are_below_spans_of_their_own(
    tracing: Gateway, local: Local, collector: Collector
) -> None:
    before = len(local.calls)
    response = httpx.post(
        f"{tracing.url}/models/tokens/chat_tokenize",
        json={"messages": [{"role": "user", "content": "hi"}]},
        headers={"authorization": f"Bearer {KEY}", "traceparent": GOOD, "x-request-id": "both"},
        trust_env=False,
    )
    assert response.status_code == 200, response.text
    told = [str(made.header(HEADER)).partition(";")[0] for made in local.calls[before:]]
    _, *below = collector.of("both")
    assert told == [f"traceparent=00-{TRACE_ID}-{span.span_id}-01" for span in below]
    assert len(set(told)) == 2
