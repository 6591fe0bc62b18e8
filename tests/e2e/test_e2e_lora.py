"""LoRA adapters, called as `model:adapter` with the official client, in each way a container can be told which one."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import httpx
import openai
import pytest

from deploy.local import Endpoint
from deploy.local.engine import build
from tests.support.callers import Caller
from tests.support.stack import KEY, Gateway, Local, config, digest, model, running_gateway, running_local

GREETING = "Hello! How can I help you today?"
KEYS = {
    "base": (["lmi"], ["lmi"]),
    "one": (["lmi:poet"], ["lmi:poet"]),
    "alias": (["lawyer"], ["lmi:legal/v2"]),
    "adapters": (["lmi:*"], ["lmi:poet", "lmi:legal/v2", "lmi:lost"]),
    "both": (["lmi-ic", "lmi-ic:*"], ["lmi-ic", "lmi-ic:poet", "lmi-ic:lost", "lmi-ic:gone"]),
}
"""Key id → what it may use as the file says, and as its holder sees it."""
COMPONENTS = {"base": None, "poet-ic": "poet-1", "lost-ic": "not-loaded"}
BY_COMPONENT = [
    {"name": "poet", "inference_component": "poet-ic"},
    {"name": "lost", "inference_component": "lost-ic"},
    {"name": "gone", "inference_component": "gone-ic"},
]
BY_NAME = [{"name": "poet", "served_name": "poet-1"}, {"name": "lost", "served_name": "not-loaded"}]
LEGAL = {"name": "legal/v2", "served_name": "legal 2", "aliases": ["lawyer"]}
LOADED = {"adapters": ["poet-1", "legal 2"]}


@dataclass(frozen=True)
class Serving:
    gateway: Gateway
    local: Local


def key(name: str) -> str:
    return f"sk-lmi-{name:x<43}"


@pytest.fixture(scope="module")
def serving() -> Iterator[Serving]:
    """One gateway; behind it an endpoint for each model, of the same name."""
    endpoints = {
        "lmi": Endpoint(build("lmi27", **LOADED)),
        "lmi16": Endpoint(build("lmi16", **LOADED)),
        "lmi-ic": Endpoint(build("lmi27", **LOADED), components=COMPONENTS),
        "vllm-ic": Endpoint(build("vllm", **LOADED), components=COMPONENTS),
        "vllm-old": Endpoint(build("vllm-0.10.2", **LOADED)),
        "vllm-routed": Endpoint(build("vllm", **LOADED)),
        # The file says 0.10, which goes by the body's model; what runs is newer, and does not.
        "vllm-deaf": Endpoint(build("vllm", **LOADED)),
    }
    base = {"inference_component": "base"}
    routed = {"custom_attributes": "route=/v1/chat/completions"}
    models = [
        model("lmi", "lmi", "27", adapters=[BY_NAME[0], LEGAL, BY_NAME[1]], owned_by="team", created=7, aliases=["l"]),
        model("lmi16", "lmi", "16", adapters=BY_NAME),
        model("lmi-ic", "lmi", "27", adapters=BY_COMPONENT, deployment=base),
        model("vllm-ic", "vllm", "0.33", adapters=BY_COMPONENT, deployment=base),
        model("vllm-old", "vllm", "0.10", adapters=BY_NAME),
        model("vllm-routed", "vllm", "0.33", adapters=BY_NAME, deployment=routed),
        model("vllm-deaf", "vllm", "0.10", adapters=BY_NAME),
    ]
    with ExitStack() as opened:
        local = opened.enter_context(running_local(endpoints))
        configuration = config(local.url, *models) | {"tgi": {"default_model": "l"}}
        configuration["keys"] += [
            {"id": name, "digest": digest(key(name)), "models": opens} for name, (opens, _) in KEYS.items()
        ]
        yield Serving(opened.enter_context(running_gateway(configuration)), local)


@pytest.fixture(scope="module")
def adapted(serving: Serving) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=serving.gateway.base_url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


WAYS: dict[str, dict[str, Any]] = {"invoked": {"max_tokens": 50}, "gathered": {"max_tokens": 2000}, "stream": {}}
"""How an answer is fetched → what makes the gateway fetch it so."""


@pytest.fixture(params=WAYS)
def ask(request: pytest.FixtureRequest, adapted: openai.OpenAI) -> Any:
    """Ask a model to say hello in one of WAYS, and return the answer."""
    caller = Caller(adapted, stream=request.param == "stream")
    return lambda name: caller.chat(name, "hello", **WAYS[request.param])


@pytest.mark.parametrize("name", [
    "lmi", "lmi:poet", "lmi:legal/v2", "lawyer", "lmi16:poet", "lmi-ic", "lmi-ic:poet", "vllm-ic", "vllm-ic:poet",
    "vllm-old", "vllm-old:poet", "vllm-routed", "vllm-routed:poet",
])  # fmt: skip
def test_an_adapter_answers_under_its_public_name(ask: Any, name: str) -> None:
    answer = ask(name)
    assert (answer.model, answer.only.text, answer.only.finish) == (name, GREETING, "stop")


COMPONENT = "x-amzn-sagemaker-inference-component"


@pytest.mark.parametrize(("name", "component", "sent"), [
    pytest.param("lmi:poet", None, {"adapters": "poet-1"}, id="LMI by name"),
    pytest.param("lawyer", None, {"adapters": "legal 2"}, id="LMI by alias"),
    pytest.param("lmi", None, {}, id="LMI's base"),
    pytest.param("lmi-ic:poet", "poet-ic", {}, id="LMI by component"),
    pytest.param("lmi-ic", "base", {}, id="the base component"),
    pytest.param("vllm-ic:poet", "poet-ic", {}, id="vLLM by component"),
    pytest.param("vllm-old:poet", None, {"model": "poet-1"}, id="vLLM by name"),
])  # fmt: skip
def test_the_container_is_told_which_one(
    ask: Any, serving: Serving, name: str, component: str | None, sent: dict[str, str]
) -> None:
    ask(name)
    call, body = serving.local.last_call(), serving.local.last_body()
    assert call.header(COMPONENT) == component
    assert {field: body[field] for field in ("model", "adapters") if field in body} == sent


def test_text_completions_have_adapters_too(adapted: openai.OpenAI, serving: Serving) -> None:
    for stream in (False, True):
        answer = Caller(adapted, stream=stream).completion("lmi:poet", "hello", max_tokens=50)
        assert (answer.model, answer.only.text) == ("lmi:poet", GREETING)
        assert serving.local.last_body()["adapters"] == "poet-1"


@pytest.mark.parametrize("name", [
    pytest.param("lmi:lost", id="LMI does not know the name"),
    pytest.param("lmi-ic:lost", id="LMI does not know what the component holds"),
    pytest.param("lmi-ic:gone", id="SageMaker does not know the component"),
    pytest.param("vllm-ic:lost", id="vLLM does not know what the component holds"),
    pytest.param("vllm-old:lost", id="vLLM does not know the name"),
    pytest.param("vllm-routed:lost", id="vLLM does not know the name at its own route"),
    pytest.param("vllm-deaf:poet", id="vLLM overlooks the name and the base answers"),
])  # fmt: skip
def test_an_adapter_that_is_not_there_is_no_fault_of_the_callers(ask: Any, name: str) -> None:
    with pytest.raises(openai.InternalServerError) as caught:
        ask(name)
    assert (caught.value.status_code, caught.value.type, caught.value.code, caught.value.param) == (
        502,
        "server_error",
        "upstream_misconfigured",
        None,
    )
    for inside in ("poet-1", "not-loaded", "gone-ic"):
        assert inside not in caught.value.response.text


@pytest.mark.parametrize("name", ["lmi:nope", "lmi:", "lmi:*", "l:poet", "lmi:poet:poet", "poet", ":poet", "lmi:POET"])
def test_other_adapters_do_not_exist(ask: Any, adapted: openai.OpenAI, name: str) -> None:
    for call in (lambda: ask(name), lambda: adapted.models.retrieve(name)):
        with pytest.raises(openai.NotFoundError) as caught:
            call()
        assert (caught.value.code, caught.value.param) == ("model_not_found", "model")


def test_adapters_are_listed_after_their_models(adapted: openai.OpenAI) -> None:
    listed = [found.to_dict() for found in adapted.models.list()]
    assert [found["id"] for found in listed][:7] == [
        "lmi",
        "lmi:poet",
        "lmi:legal/v2",
        "lmi:lost",
        "lmi16",
        "lmi16:poet",
        "lmi16:lost",
    ]
    shared = {"object": "model", "created": 7, "owned_by": "team", "modalities": ["text"]}
    unknown = {"context_length": None, "max_model_len": None}
    base = {**shared, **unknown, "id": "lmi", "aliases": ["l"], "root": "lmi", "parent": None}
    legal = {**shared, **unknown, "id": "lmi:legal/v2", "aliases": ["lawyer"], "root": "lmi", "parent": "lmi"}
    assert (listed[0], listed[2]) == (base, legal)
    for name in ("lmi:legal/v2", "lawyer"):
        assert adapted.models.retrieve(name).to_dict() == legal


@pytest.mark.parametrize("name", KEYS)
def test_a_key_opens_what_it_names_and_no_more(serving: Serving, name: str) -> None:
    opens = KEYS[name][1]
    with openai.OpenAI(base_url=serving.gateway.base_url, api_key=key(name), max_retries=0, timeout=20) as client:
        assert [found.id for found in client.models.list()] == opens
        for asked in ("lmi", "lmi:poet", "lmi-ic", "lmi-ic:poet", "lawyer"):
            caller = Caller(client, stream=False)
            if asked in opens or (asked == "lawyer" and "lmi:legal/v2" in opens):
                assert caller.chat(asked, "hello").model == asked
            else:
                with pytest.raises(openai.NotFoundError, match="does not exist or your key may not use it"):
                    caller.chat(asked, "hello")


def test_metrics_count_an_adapter_by_its_configured_name(adapted: openai.OpenAI, serving: Serving) -> None:
    Caller(adapted, stream=False).chat("lawyer", "hello")
    with urllib.request.urlopen(f"{serving.gateway.url}/metrics") as reply:
        text = reply.read().decode()
    assert 'gateway_calls_total{code="ok",model="lmi:legal/v2",surface="chat"}' in text
    assert "lawyer" not in text


@pytest.mark.parametrize(("path", "adapter_id", "component", "sent"), [
    pytest.param("/generate", "poet", None, "poet-1", id="the default model's"),
    pytest.param("/generate", "lmi:poet", None, "poet-1", id="whole name"),
    pytest.param("/generate", "lawyer", None, "legal 2", id="alias"),
    pytest.param("/", "legal/v2", None, "legal 2", id="compatible route, with a slash"),
    pytest.param("/generate_stream", "poet", None, "poet-1", id="stream"),
    pytest.param("/generate", "lmi", None, None, id="the base"),
    pytest.param("/generate", "lmi-ic:poet", "poet-ic", None, id="another model's, whole name"),
    pytest.param("/models/lmi-ic/generate", "poet", "poet-ic", None, id="the URL's model"),
    pytest.param("/models/l/generate", "poet", None, "poet-1", id="the URL's alias"),
    pytest.param("/models/lmi/generate", "lmi:poet", None, "poet-1", id="whole name beside the URL"),
    pytest.param("/models/lmi:legal/v2/generate", None, None, "legal 2", id="all in the URL"),
    pytest.param("/models/lawyer/generate_stream", None, None, "legal 2", id="alias in the URL"),
])  # fmt: skip
def test_tgis_callers_name_adapters_too(
    serving: Serving, path: str, adapter_id: str | None, component: str | None, sent: str | None
) -> None:
    body = {"inputs": "hello", "parameters": {"adapter_id": adapter_id, "return_full_text": False}}
    headers = {"authorization": f"Bearer {KEY}"}
    response = httpx.post(serving.gateway.url + path, json=body, headers=headers, timeout=20, trust_env=False)
    assert (response.status_code, GREETING in response.text) == (200, True), response.text
    assert serving.local.last_call().header(COMPONENT) == component
    assert serving.local.last_body().get("adapters") == sent


@pytest.mark.parametrize(("path", "adapter_id", "told"), [
    ("/generate", "nope", "nope"),
    ("/models/lmi-ic/generate", "lmi:poet", "lmi:poet"),
    ("/", "lmi16:nope", "lmi16:nope"),
])  # fmt: skip
def test_tgis_callers_are_told_of_no_others(serving: Serving, path: str, adapter_id: str, told: str) -> None:
    body = {"inputs": "hello", "parameters": {"adapter_id": adapter_id}}
    headers = {"authorization": f"Bearer {KEY}"}
    response = httpx.post(serving.gateway.url + path, json=body, headers=headers, timeout=20, trust_env=False)
    text = f"The model `{told}` does not exist or your key may not use it."
    assert (response.status_code, response.json()) == (404, {"error": text, "error_type": "model_not_found"})
