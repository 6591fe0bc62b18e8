"""Errors: the client's own classes, with code and param, whichever way the call was made."""

from __future__ import annotations

from typing import Any

import openai
import pytest

from deploy.local import faults
from tests.support.callers import Caller
from tests.support.stack import KEY, NARROW_KEY, Gateway, Local

HELLO: Any = [{"role": "user", "content": "hello"}]
FAILING: Any = [{"role": "user", "content": "please fail after 5"}]
COUNTING: Any = [{"role": "user", "content": "count to 50"}]
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
NAMED = {"type": "function", "function": {"name": "g"}}


def with_key(gateway: Gateway, key: str, **options: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=gateway.base_url, api_key=key, max_retries=0, **options)


def told(error: openai.APIStatusError) -> tuple[int, str | None, str | None, str | None]:
    return error.status_code, error.type, error.code, error.param


# --- Who calls, and what for ---


@pytest.mark.parametrize("key", ["sk-lmi-" + "x" * 43, "sk-other", KEY[:-1], KEY + "k"])
def test_a_wrong_key(gateway: Gateway, key: str) -> None:
    with with_key(gateway, key) as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model="lmi27", messages=HELLO)
    assert told(caught.value) == (401, "invalid_request_error", "invalid_api_key", None)
    assert caught.value.response.headers["www-authenticate"] == "Bearer"
    assert key not in caught.value.response.text


def test_no_key(gateway: Gateway) -> None:
    with with_key(gateway, "unused", default_headers={"Authorization": ""}) as client:
        for call in (lambda: client.chat.completions.create(model="lmi27", messages=HELLO), client.models.list):
            with pytest.raises(openai.AuthenticationError) as caught:
                call()
            assert told(caught.value) == (401, "invalid_request_error", "missing_api_key", None)


def test_an_unknown_model(caller: Caller) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        caller.chat("nobody/knows-it", "hello")
    assert told(caught.value) == (404, "invalid_request_error", "model_not_found", "model")
    name = f"nobody/knows-it{caller.variant}"
    assert caught.value.body == {
        "message": f"The model `{name}` does not exist or your key may not use it.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }


def test_a_model_of_other_keys_does_not_exist(gateway: Gateway, local: Local) -> None:
    before = len(local.calls)
    with with_key(gateway, NARROW_KEY) as client, pytest.raises(openai.NotFoundError) as caught:
        client.chat.completions.create(model="lmi27", messages=HELLO)
    assert told(caught.value) == (404, "invalid_request_error", "model_not_found", "model")
    assert caught.value.body == {
        "message": "The model `lmi27` does not exist or your key may not use it.",
        "type": "invalid_request_error",
        "param": "model",
        "code": "model_not_found",
    }
    assert len(local.calls) == before


def test_a_url_that_is_not_there(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        client.embeddings.create(model="lmi27", input="hello")
    assert told(caught.value) == (404, "invalid_request_error", "route_not_found", None)


# --- What is asked ---

BAD_CHATS = [
    pytest.param({"messages": {"role": "user"}}, "messages", "invalid_type", id="messages no list"),
    pytest.param({"messages": []}, "messages", "invalid_value", id="no messages"),
    pytest.param({"messages": [{"content": "x"}]}, "messages[0].role", "missing_required_parameter", id="no role"),
    pytest.param({"messages": [{"role": "user", "content": 5}]}, "messages[0].content", "invalid_type", id="content"),
    pytest.param({"temperature": 2.5}, "temperature", "invalid_value", id="temperature too high"),
    pytest.param({"temperature": "hot"}, "temperature", "invalid_type", id="temperature a word"),
    pytest.param({"top_p": 0}, "top_p", "invalid_value", id="top_p zero"),
    pytest.param({"max_tokens": 0}, "max_tokens", "invalid_value", id="max_tokens zero"),
    pytest.param({"max_tokens": 1.5}, "max_tokens", "invalid_type", id="max_tokens a fraction"),
    pytest.param({"max_completion_tokens": -1}, "max_completion_tokens", "invalid_value", id="below zero"),
    pytest.param({"n": 0}, "n", "invalid_value", id="n zero"),
    pytest.param({"n": 129}, "n", "invalid_value", id="n too high"),
    pytest.param({"stop": [""]}, "stop[0]", "invalid_value", id="empty stop"),
    pytest.param({"seed": "x"}, "seed", "invalid_type", id="seed a word"),
    pytest.param({"presence_penalty": 3}, "presence_penalty", "invalid_value", id="presence_penalty"),
    pytest.param({"logit_bias": {"a": 1}}, "logit_bias", "invalid_value", id="logit_bias"),
    pytest.param({"top_logprobs": 3}, "top_logprobs", "invalid_value", id="top_logprobs alone"),
    pytest.param({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "invalid_value", id="top_logprobs too high"),
    pytest.param({"tools": [], "tool_choice": "required"}, "tool_choice", "invalid_value", id="no tools"),
    pytest.param({"tools": [{"type": "function"}]}, "tools[0].function", "invalid_type", id="tool without function"),
    pytest.param({"tool_choice": "auto"}, "tool_choice", "invalid_value", id="tool_choice alone"),
    pytest.param(
        {"tools": [TOOL], "tool_choice": NAMED}, "tool_choice.function.name", "invalid_value", id="no such tool"
    ),
    pytest.param({"response_format": "json"}, "response_format", "invalid_type", id="response_format"),
    pytest.param(
        {"response_format": {"type": "json_schema"}}, "response_format.json_schema", "invalid_type", id="no schema"
    ),
    pytest.param({"functions": [{"name": "f"}]}, "functions", "unsupported_parameter", id="functions"),
    pytest.param({"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter", id="speech"),
    pytest.param({"extra_body": {"prompt": "x"}}, "prompt", "parameter_not_allowed", id="another surface's field"),
    pytest.param({"extra_body": {"chat_template": "{}"}}, "chat_template", "parameter_not_allowed", id="a template"),
    pytest.param(
        {"extra_body": {"kv_transfer_params": {}}}, "kv_transfer_params", "parameter_not_allowed", id="engine"
    ),
    pytest.param({"extra_body": {"target_model": "x"}}, "target_model", "parameter_not_allowed", id="routing"),
    pytest.param({"extra_body": {"adapters": "x"}}, "adapters", "parameter_not_allowed", id="adapters"),
    pytest.param({"extra_body": {"top_k": -2}}, "top_k", "invalid_value", id="top_k"),
    pytest.param(
        {"extra_body": {"chat_template_kwargs": {"tokenize": False}}},
        "chat_template_kwargs.tokenize",
        "parameter_not_allowed",
        id="template argument",
    ),
]


@pytest.mark.parametrize(("fields", "param", "code"), BAD_CHATS)
def test_a_bad_field_is_named(caller: Caller, local: Local, fields: dict[str, Any], param: str, code: str) -> None:
    before = len(local.calls)
    fields = {"messages": HELLO, **fields}
    with pytest.raises(openai.BadRequestError) as caught:
        caller.chat("lmi27", **fields)
    assert told(caught.value) == (400, "invalid_request_error", code, param)
    assert len(local.calls) == before, "refused before anything was sent"


@pytest.mark.parametrize(
    ("fields", "param", "code"),
    [
        pytest.param({"prompt": ""}, "prompt", "invalid_value", id="empty"),
        pytest.param({"prompt": []}, "prompt", "invalid_value", id="empty list"),
        pytest.param({"prompt": ["a", 1]}, "prompt[1]", "invalid_type", id="mixed"),
        pytest.param({"prompt": [[]]}, "prompt[0]", "invalid_value", id="no tokens"),
        pytest.param({"prompt": [-1]}, "prompt[0]", "invalid_value", id="a token below 0"),
        pytest.param({"prompt": "x", "logprobs": 21}, "logprobs", "invalid_value", id="logprobs"),
        pytest.param({"prompt": "x", "max_tokens": 0}, "max_tokens", "invalid_value", id="max_tokens without echo"),
        pytest.param({"prompt": "x", "best_of": 1, "n": 2}, "best_of", "invalid_value", id="best_of below n"),
        pytest.param(
            {"prompt": "x", "extra_body": {"messages": []}}, "messages", "parameter_not_allowed", id="messages"
        ),
    ],
)
def test_a_bad_field_of_a_completion_is_named(caller: Caller, fields: dict[str, Any], param: str, code: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        caller.completion("lmi27", **fields)
    assert told(caught.value) == (400, "invalid_request_error", code, param)


def test_unknown_fields_are_refused_where_the_model_wants_it(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="strict", messages=HELLO, extra_body={"frobnicate": 1})
    assert told(caught.value) == (400, "invalid_request_error", "unknown_parameter", "frobnicate")


# --- How long it is ---


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
def test_more_tokens_than_the_configured_context(client: openai.OpenAI, limit: str) -> None:
    fields: Any = {limit: 64}
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="small", messages=HELLO, **fields)
    assert told(caught.value) == (400, "invalid_request_error", "context_length_exceeded", limit)


LOST = frozenset({"lmi27"})
"""Containers whose front end loses the reason of vLLM's exceptions: djl-serving says `Async Inference Failure`."""


def test_a_prompt_longer_than_the_containers_context(caller: Caller, dialect: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        caller.chat(dialect, "word " * 9000)
    code = "upstream_rejected" if dialect in LOST else "context_length_exceeded"
    assert (caught.value.status_code, caught.value.code) == (400, code)
    assert "context" in caught.value.message


def test_a_body_larger_than_sagemaker_takes(client: openai.OpenAI, local: Local) -> None:
    before = len(local.calls)
    with pytest.raises(openai.APIStatusError) as caught:
        client.chat.completions.create(model="lmi27", messages=[{"role": "user", "content": "x" * 6_291_456}])
    assert told(caught.value) == (413, "invalid_request_error", "request_too_large", None)
    assert len(local.calls) == before


# --- What goes wrong behind ---


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        pytest.param(faults.Throttle(), 503, "upstream_throttled", id="throttled"),
        pytest.param(faults.ServiceUnavailable(), 503, "upstream_unavailable", id="no capacity"),
        pytest.param(faults.InternalFailure(), 502, "upstream_error", id="SageMaker fails"),
        pytest.param(faults.ModelNotReady(), 503, "model_not_ready", id="loading"),
        pytest.param(faults.AccessDenied(), 502, "upstream_auth", id="denied"),
        pytest.param(faults.ModelError(status=500, body="Traceback"), 502, "upstream_error", id="container fails"),
        pytest.param(faults.ModelTimeout(), 504, "upstream_timeout", id="container too slow"),
        pytest.param(faults.Html(), 502, "upstream_error", id="a page in between"),
    ],
)
def test_failures_behind_are_server_errors(
    caller: Caller, local: Local, fault: faults.Fault, status: int, code: str
) -> None:
    local.add_fault(fault, times=None)
    with pytest.raises(openai.InternalServerError) as caught:
        caller.chat("lmi27", "hello")
    assert told(caught.value) == (status, "server_error", code, None)
    told_to_caller = caught.value.response.text
    assert "arn:aws" not in told_to_caller
    assert "Traceback" not in told_to_caller


def test_an_endpoint_that_is_not_there_is_no_fault_of_the_callers(client: openai.OpenAI) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        client.chat.completions.create(model="gone", messages=HELLO)
    assert told(caught.value) == (502, "server_error", "upstream_misconfigured", None)
    assert "no-such-endpoint" not in caught.value.response.text


def test_the_client_tries_again_by_itself(gateway: Gateway, local: Local) -> None:
    local.add_fault(faults.InternalFailure(), times=1)
    before = len(local.calls)
    with openai.OpenAI(base_url=gateway.base_url, api_key=KEY, max_retries=1) as client:
        reply = client.chat.completions.create(model="lmi27-invoke", messages=HELLO)
    assert reply.choices[0].message.content == "Hello! How can I help you today?"
    assert [call.status for call in local.calls[before:]] == [500, 200]


def test_the_gateway_tries_again_where_nothing_was_generated(caller: Caller, local: Local) -> None:
    for _ in range(10):  # repetitions are a tenth of the work, and the faults above have used theirs up
        caller.chat("lmi27", "hello")
    local.add_fault(faults.ServiceUnavailable(), times=1)
    before = len(local.calls)
    assert caller.chat("lmi27", "hello").only.text == "Hello! How can I help you today?"
    assert [call.status for call in local.calls[before:]] == [503, 200]


# --- Once a stream has begun ---

DEAD_ENGINE = {
    "lmi15": "upstream_unavailable",
    "lmi20": "upstream_unavailable",
    "lmi27": "upstream_unavailable",
    "vllm-0.9": "upstream_unavailable",
    "vllm-0.11": "upstream_unavailable",
    "vllm": "upstream_error",  # from 0.33 on its text does not say any more what happened
}


def test_a_failure_after_the_first_event_is_raised_while_reading(client: openai.OpenAI, dialect: str) -> None:
    pieces: list[Any] = []
    with client.chat.completions.create(model=dialect, messages=FAILING, stream=True) as stream:
        with pytest.raises(openai.APIError) as caught:
            pieces.extend(chunk.choices[0] for chunk in stream)
        assert (caught.value.type, caught.value.code) == ("server_error", DEAD_ENGINE[dialect])
    assert "".join(piece.delta.content or "" for piece in pieces).startswith('You wrote "')
    assert all(piece.finish_reason is None for piece in pieces)


def test_a_whole_reply_that_fails_half_way_is_an_error(client: openai.OpenAI, dialect: str) -> None:
    with pytest.raises(openai.InternalServerError) as gathered:
        client.chat.completions.create(model=f"{dialect}-stream", messages=FAILING)
    assert gathered.value.code == DEAD_ENGINE[dialect]
    with pytest.raises(openai.APIStatusError) as invoked:
        client.chat.completions.create(model=f"{dialect}-invoke", messages=FAILING)
    # LMI's front end says the same of a dead engine as of a prompt that is too long.
    assert invoked.value.code == ("upstream_rejected" if dialect.startswith("lmi") else DEAD_ENGINE[dialect])


@pytest.mark.parametrize("after_chunks", [1, 2, 6])
def test_a_stream_cut_short_is_no_answer(client: openai.OpenAI, dialect: str, local: Local, after_chunks: int) -> None:
    local.add_fault(faults.ContainerGone(after_chunks=after_chunks))
    pieces: list[Any] = []
    with client.chat.completions.create(model=dialect, messages=COUNTING, stream=True) as stream:
        with pytest.raises(openai.APIError) as caught:
            pieces.extend(chunk.choices[0] for chunk in stream)
        assert caught.value.code in ("upstream_error", "upstream_protocol")
    assert len(pieces) == after_chunks
    assert all(piece.finish_reason is None for piece in pieces)
