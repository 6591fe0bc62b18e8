"""TGI's `/tokenize` and `/chat_tokenize`, where the container's tokenizer can be reached."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import httpx
import pytest

from deploy.local import faults
from tests.support.full_stack import ATTRIBUTES, Stack
from tests.support.stack import KEY, NARROW_KEY, Local

TEXT = "hello wörld 😀!"
TOKENS = "/models/team/tokens"
CHAT: dict[str, Any] = {"messages": [{"role": "user", "content": "hi 😀"}]}
CUSTOM = "x-amzn-sagemaker-custom-attributes"


@pytest.fixture(scope="module")
def http(stack: Stack) -> Iterator[httpx.Client]:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=stack.gateway.url, headers=headers, timeout=20, trust_env=False) as client:
        yield client


def test_the_tokens_of_a_text_with_their_places(http: httpx.Client, local: Local) -> None:
    response = http.post(f"{TOKENS}/tokenize", json={"inputs": TEXT})
    assert response.status_code == 200, response.text
    found = response.json()
    assert [list(token) for token in found] == [["id", "text", "start", "stop"]] * len(found)
    assert all(token["text"] == TEXT[token["start"] : token["stop"]] != "" for token in found)
    assert (found[0]["start"], found[-1]["stop"]) == (0, len(TEXT))
    assert all(later["start"] <= earlier["stop"] for earlier, later in pairwise(found))
    call = local.last_call()
    assert (call.operation, call.header(CUSTOM)) == ("InvokeEndpoint", f"route=/tokenize,{ATTRIBUTES}")
    assert local.last_body() == {"prompt": TEXT, "add_special_tokens": True, "return_token_strs": True}


def test_as_many_tokens_as_are_counted(http: httpx.Client) -> None:
    tokens = http.post(f"{TOKENS}/tokenize", json={"inputs": TEXT}).json()
    answer = http.post(f"{TOKENS}/generate", json={"inputs": TEXT, "parameters": {"max_new_tokens": 1}})
    assert answer.headers["x-prompt-tokens"] == str(len(tokens))


def test_the_tokens_of_a_chat_and_its_text(http: httpx.Client, local: Local) -> None:
    before = len(local.calls)
    answer = http.post(f"{TOKENS}/chat_tokenize", json={**CHAT, "model": "tgi", "stream": True, "max_tokens": 5}).json()
    assert list(answer) == ["tokenize_response", "templated_text"]
    text = answer["templated_text"]
    assert text.startswith("<|im_start|>user\nhi 😀<|im_end|>\n<|im_start|>assistant\n")
    found = answer["tokenize_response"]
    assert found[0] == {"id": found[0]["id"], "text": "<|im_start|>", "start": 0, "stop": 12}
    assert all(token["text"] == text[token["start"] : token["stop"]] != "" for token in found)
    assert found[-1]["stop"] == len(text)
    assert [call.header(CUSTOM) for call in local.calls[before:]] == [
        f"route=/tokenize,{ATTRIBUTES}",
        f"route=/detokenize,{ATTRIBUTES}",
    ]
    assert local.last_body() == {"tokens": [token["id"] for token in found]}


def test_an_older_container_tells_ids_only(http: httpx.Client) -> None:
    found = http.post("/models/old-tokens/tokenize", json={"inputs": "hello"}).json()
    assert found == [{"id": found[0]["id"], "text": "", "start": 0, "stop": 0}]
    chat = http.post("/models/old-tokens/chat_tokenize", json=CHAT).json()
    assert chat["templated_text"].startswith("<|im_start|>user\nhi 😀<|im_end|>\n")


def test_an_adapter_id_names_the_model_here_too(http: httpx.Client) -> None:
    body = {"inputs": "hello", "parameters": {"adapter_id": "team/tokens"}}
    assert http.post("/tokenize", json=body).status_code == 200


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        pytest.param(f"{TOKENS}/tokenize", {"input": "x"}, 422, "validation", id="no inputs"),
        pytest.param(f"{TOKENS}/tokenize", {"inputs": 1}, 422, "validation", id="no text"),
        pytest.param(f"{TOKENS}/chat_tokenize", {}, 422, "validation", id="no messages"),
        pytest.param(f"{TOKENS}/chat_tokenize", {"messages": [{}]}, 422, "validation", id="no role"),
        pytest.param("/models/vllm/tokenize", {"inputs": "x"}, 404, "route_not_found", id="a model without"),
        pytest.param("/models/lmi27/chat_tokenize", CHAT, 404, "route_not_found", id="a model without, for a chat"),
        pytest.param("/models/nobody/tokenize", {"inputs": "x"}, 404, "model_not_found", id="no model"),
    ],
)
def test_refusals_are_tgis(http: httpx.Client, path: str, body: dict[str, Any], status: int, kind: str) -> None:
    response = http.post(path, json=body)
    assert (response.status_code, response.json()["error_type"]) == (status, kind)


def test_other_keys_models_have_no_tokenizer_to_be_seen(stack: Stack) -> None:
    response = httpx.post(
        f"{stack.gateway.url}{TOKENS}/tokenize", json={"inputs": "x"}, headers={"api-key": NARROW_KEY}, trust_env=False
    )
    assert (response.status_code, response.json()["error_type"]) == (404, "model_not_found")


@pytest.mark.parametrize(
    ("fault", "status", "kind"),
    [
        pytest.param(faults.Throttle(), 429, "overloaded", id="throttled"),
        pytest.param(faults.InternalFailure(), 424, "generation", id="SageMaker fails"),
        pytest.param(faults.Oversized(total_bytes=512), 500, "incomplete_generation", id="no JSON"),
        pytest.param(faults.Reply(chunks=['{"tokens":"x"}']), 500, "incomplete_generation", id="no tokens"),
    ],
)
@pytest.mark.parametrize(("path", "body"), [("tokenize", {"inputs": "x"}), ("chat_tokenize", CHAT)])
def test_failures_behind_are_told_as_ever(
    http: httpx.Client, local: Local, path: str, body: dict[str, Any], fault: faults.Fault, status: int, kind: str
) -> None:
    local.add_fault(fault, times=None)
    response = http.post(f"{TOKENS}/{path}", json=body)
    assert (response.status_code, response.json()["error_type"]) == (status, kind)


def test_a_try_that_was_refused_for_want_of_room_is_made_again(http: httpx.Client, local: Local) -> None:
    for _ in range(10):  # repetitions are a tenth of the work
        http.post(f"{TOKENS}/tokenize", json={"inputs": "x"})
    local.add_fault(faults.ServiceUnavailable(), times=1)
    before = len(local.calls)
    assert http.post(f"{TOKENS}/tokenize", json={"inputs": "x"}).status_code == 200
    assert [call.status for call in local.calls[before:]] == [503, 200]
