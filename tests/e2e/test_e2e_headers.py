"""Headers and URLs as clients send them and get them back."""

from __future__ import annotations

import re
from typing import Any

import openai
import pytest

from deploy.local import Call
from tests.support.full_stack import ATTRIBUTES, COMPONENT, SESSION
from tests.support.stack import KEY, NARROW_KEY, Gateway, Local

GREETING = "Hello! How can I help you today?"
HELLO: Any = [{"role": "user", "content": "hello"}]
INFERENCE_ID = "x-amzn-sagemaker-inference-id"
OWN_ID = re.compile(r"req_[0-9a-f]{32}")
STREAMED = [pytest.param(False, id="whole"), pytest.param(True, id="stream")]
OPERATIONS = ("InvokeEndpoint", "InvokeEndpointWithResponseStream")
OURS = {
    "accept", "authorization", "content-length", "content-type", "host", "x-amz-date", "x-amzn-sagemaker-accept",
    INFERENCE_ID,
}  # fmt: skip
"""All that the gateway sends where the models file asks for no more."""


def raw_chat(client: openai.OpenAI, *, stream: bool, model: str = "lmi27", **options: Any) -> Any:
    """Return the raw response of a chat, read to its end."""
    create: Any = client.chat.completions.with_raw_response.create
    raw = create(model=model, messages=HELLO, stream=stream, **options)
    reply = raw.parse()
    if stream:
        with reply:
            said = "".join(chunk.choices[0].delta.content or "" for chunk in reply)
    else:
        said = reply.choices[0].message.content
    assert said == GREETING
    return raw


# --- Request ids ---


@pytest.mark.parametrize("stream", STREAMED)
@pytest.mark.parametrize("given", ["a", "trace-1.2_3", "Z" * 64, "0b7f4c4e-5d8e-4a53-9a46-0d2c1b6f9a11"])
def test_a_request_id_is_kept_all_the_way(client: openai.OpenAI, local: Local, given: str, stream: bool) -> None:
    raw = raw_chat(client, stream=stream, extra_headers={"x-request-id": given})
    assert raw.headers["x-request-id"] == given
    assert raw.request_id == given
    assert local.last_call().header(INFERENCE_ID) == given


@pytest.mark.parametrize("stream", STREAMED)
@pytest.mark.parametrize(
    "given", ["", "two words", "Z" * 65, "-first", "semi;colon", 'quo"te', "a,b", "a/b", "%0d%0aX"]
)
def test_a_request_id_that_is_none_is_replaced(client: openai.OpenAI, local: Local, given: str, stream: bool) -> None:
    raw = raw_chat(client, stream=stream, extra_headers={"x-request-id": given})
    assert OWN_ID.fullmatch(raw.headers["x-request-id"])
    assert local.last_call().header(INFERENCE_ID) == raw.headers["x-request-id"]


def test_every_call_has_a_request_id_of_its_own(client: openai.OpenAI, local: Local) -> None:
    ids = []
    for stream in (False, True, False, True):
        raw = raw_chat(client, stream=stream)
        ids.append(raw.headers["x-request-id"])
        assert local.last_call().header(INFERENCE_ID) == ids[-1]
    assert len(set(ids)) == 4
    assert all(OWN_ID.fullmatch(one) for one in ids)


def test_errors_have_a_request_id_too(client: openai.OpenAI, gateway: Gateway) -> None:
    given = {"x-request-id": "mine"}
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(model="lmi27", messages=[], extra_headers=given)
    assert bad.value.request_id == "mine"
    with pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model="gone", messages=HELLO)
    assert OWN_ID.fullmatch(failed.value.request_id or "")
    stranger = openai.OpenAI(base_url=gateway.base_url, api_key="sk-other", max_retries=0)
    with stranger, pytest.raises(openai.AuthenticationError) as refused:
        stranger.chat.completions.create(model="lmi27", messages=HELLO, extra_headers=given)
    assert refused.value.request_id == "mine"


# --- Times ---


@pytest.mark.parametrize("stream", STREAMED)
@pytest.mark.parametrize("surface", ["chat", "completions"])
def test_times_are_told(client: openai.OpenAI, surface: str, stream: bool) -> None:
    if surface == "chat":
        raw = raw_chat(client, stream=stream)
    else:
        create: Any = client.completions.with_raw_response.create
        raw = create(model="lmi27", prompt="hello", stream=stream)
        if stream:
            raw.parse().close()
    assert 0 <= int(raw.headers["openai-processing-ms"]) < 5000
    parts = dict(part.split(";dur=") for part in raw.headers["server-timing"].split(", "))
    of_streams = ["sagemaker", "first-token"] if stream else []
    assert list(parts) == ["gateway", *of_streams, "upstream"]
    assert all(re.fullmatch(r"\d+\.\d", part) for part in parts.values())
    assert float(parts["upstream"]) > 0, "the upstream took some time"
    if stream:
        both = float(parts["sagemaker"]) + float(parts["first-token"])
        assert both == pytest.approx(float(parts["upstream"]), abs=0.2)
    assert raw.headers["content-type"].startswith("text/event-stream" if stream else "application/json")


def test_streams_are_not_to_be_cached_or_held_back(client: openai.OpenAI) -> None:
    headers = raw_chat(client, stream=True).headers
    assert headers["content-type"] == "text/event-stream; charset=utf-8"
    assert headers["cache-control"] == "no-cache"
    assert headers["x-accel-buffering"] == "no"


# --- URLs ---


@pytest.mark.parametrize("path", ["/v1", "/v1/", "/v1//", "//v1", "//v1//"])
def test_base_urls_as_people_write_them(gateway: Gateway, path: str) -> None:
    with openai.OpenAI(base_url=gateway.url + path, api_key=KEY, max_retries=0) as client:
        raw_chat(client, stream=False)
        raw_chat(client, stream=True)
        assert client.completions.create(model="lmi27", prompt="hello").choices[0].text.startswith("Hello!")
        assert "lmi27" in [model.id for model in client.models.list()]
        assert client.models.retrieve("meta/llama-3.3-70b").id == "meta/llama-3.3-70b"


# --- Keys ---


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Authorization": "", "api-key": KEY}, id="api-key"),
        pytest.param({"Authorization": "", "x-api-key": KEY}, id="x-api-key"),
        pytest.param({"Authorization": f"bearer {KEY}"}, id="scheme in lower case"),
        pytest.param({"api-key": KEY, "x-api-key": KEY}, id="the same key thrice"),
    ],
)
def test_keys_come_in_several_headers(gateway: Gateway, headers: dict[str, str]) -> None:
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, default_headers=headers) as client:
        raw_chat(client, stream=False)
        assert len(list(client.models.list())) > 10


def test_two_different_keys_are_refused(gateway: Gateway) -> None:
    headers = {"x-api-key": NARROW_KEY}
    client = openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=0, default_headers=headers)
    with client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model="lmi27", messages=HELLO)
    assert caught.value.code == "invalid_api_key"


# --- What reaches SageMaker ---


@pytest.mark.parametrize("stream", STREAMED)
def test_no_header_of_the_callers_reaches_sagemaker(client: openai.OpenAI, local: Local, stream: bool) -> None:
    smuggled = {
        "X-Amzn-SageMaker-Custom-Attributes": "route=/v1/embeddings",
        "X-Amzn-SageMaker-Target-Variant": "red",
        "X-Amzn-SageMaker-Inference-Component": "other",
        "X-Amzn-SageMaker-Session-Id": "NEW_SESSION",
        "X-Amz-Security-Token": "stolen",
        "OpenAI-Organization": "org-1",
        "Cookie": "a=b",
        "X-Forwarded-For": "192.0.2.1",
    }
    raw_chat(client, stream=stream, extra_headers=smuggled)
    call = local.last_call()
    assert {name for name, _ in call.headers} <= OURS
    for name in ("custom-attributes", "target-variant", "inference-component", "session-id"):
        assert call.header(f"x-amzn-sagemaker-{name}") is None
    assert KEY not in str(call.headers)


def test_both_operations_are_called_as_sagemaker_documents_them(client: openai.OpenAI, local: Local) -> None:
    raw_chat(client, stream=False, model="lmi27-invoke")
    whole = local.last_call()
    raw_chat(client, stream=True)
    streamed = local.last_call()
    assert (whole.operation, streamed.operation) == OPERATIONS
    assert (whole.header("accept"), whole.header("x-amzn-sagemaker-accept")) == ("application/json", None)
    assert (streamed.header("accept"), streamed.header("x-amzn-sagemaker-accept")) == (None, "application/json")
    for call in (whole, streamed):
        assert call.verified
        assert call.header("content-type") == "application/json"


def addressed(call: Call) -> dict[str, str]:
    prefix = "x-amzn-sagemaker-"
    shown = {name.removeprefix(prefix): value for name, value in call.headers if name.startswith(prefix)}
    return {name: value for name, value in shown.items() if name not in ("accept", "inference-id")}


@pytest.mark.parametrize("stream", STREAMED)
def test_an_inference_component_is_called(client: openai.OpenAI, local: Local, stream: bool) -> None:
    raw_chat(client, stream=stream, model="poet", max_tokens=50)
    call = local.last_call()
    assert (call.endpoint, call.operation) == ("shared", OPERATIONS[stream])
    assert addressed(call) == {"inference-component": COMPONENT}


@pytest.mark.parametrize("stream", STREAMED)
def test_variant_attributes_and_session_arrive(client: openai.OpenAI, local: Local, stream: bool) -> None:
    raw_chat(client, stream=stream, model="addressed", max_tokens=50)
    call = local.last_call()
    assert call.operation == OPERATIONS[stream]
    assert addressed(call) == {"target-variant": "blue", "custom-attributes": ATTRIBUTES, "session-id": SESSION}
