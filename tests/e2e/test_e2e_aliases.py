"""OpenAI's calls at the URLs where Azure's clients, and TGI's, look for them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from tests.support.callers import Caller
from tests.support.stack import KEY, NARROW_KEY, Gateway, Local

GREETING = "Hello! How can I help you today?"
HELLO: Any = [{"role": "user", "content": "hello"}]
VERSION = "2024-10-21"


@pytest.fixture(scope="module")
def azure(stack: Any) -> Iterator[openai.AzureOpenAI]:
    """Azure's client, with nothing but an address and a key."""
    with openai.AzureOpenAI(
        azure_endpoint=stack.gateway.url, api_key=KEY, api_version=VERSION, max_retries=0, timeout=20
    ) as client:
        yield client


@pytest.fixture(scope="module")
def async_azure(stack: Any, runner: asyncio.Runner) -> Iterator[openai.AsyncAzureOpenAI]:
    client = openai.AsyncAzureOpenAI(
        azure_endpoint=stack.gateway.url, api_key=KEY, api_version=VERSION, max_retries=0, timeout=20
    )
    yield client
    runner.run(client.close())


@pytest.fixture(params=["azure-whole", "azure-stream", "async-azure-whole", "async-azure-stream"])
def azure_caller(
    request: pytest.FixtureRequest,
    azure: openai.AzureOpenAI,
    async_azure: openai.AsyncAzureOpenAI,
    runner: asyncio.Runner,
) -> Caller:
    stream = request.param.endswith("stream")
    if request.param.startswith("async"):
        return Caller(async_azure, stream=stream, runner=runner)
    return Caller(azure, stream=stream)


@pytest.fixture(scope="module")
def http(stack: Any) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=stack.gateway.url, headers={"api-key": KEY}, timeout=20, trust_env=False) as client:
        yield client


# --- Azure's clients ---


@pytest.mark.parametrize("name", ["lmi27", "vllm", "meta/llama-3.3-70b", "team/chat:latest"])
def test_azures_clients_get_chats(azure_caller: Caller, name: str) -> None:
    answer = azure_caller.chat(name, "hello")
    assert (answer.only.text, answer.only.finish, answer.model) == (GREETING, "stop", name)
    assert answer.usage.completion_tokens > 0


def test_azures_clients_get_completions(azure_caller: Caller, client: openai.OpenAI) -> None:
    plain = client.completions.create(model="lmi27", prompt="once upon a time", max_tokens=12, temperature=0)
    answer = azure_caller.completion("lmi27", "once upon a time", max_tokens=12, temperature=0)
    assert (answer.only.text, answer.only.finish) == (plain.choices[0].text, "length")


def test_azures_clients_list_models(azure: openai.AzureOpenAI, client: openai.OpenAI) -> None:
    assert [model.id for model in azure.models.list()] == [model.id for model in client.models.list()]
    assert azure.models.retrieve("meta/llama-3.3-70b").to_dict() == client.models.retrieve("gpt-4o").to_dict()


@pytest.mark.parametrize("stream", [pytest.param(False, id="whole"), pytest.param(True, id="stream")])
def test_a_client_of_one_deployment_may_call_the_model_anything(gateway: Gateway, local: Local, stream: bool) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=gateway.url, azure_deployment="vllm", api_key=KEY, api_version=VERSION, max_retries=0
    ) as one:
        answer = Caller(one, stream=stream).chat("no-such-model", "hello")
    assert (answer.only.text, answer.model) == (GREETING, "vllm")
    assert local.last_call().endpoint == "vllm"


def test_a_wrong_key_and_an_unknown_deployment_are_told_as_ever(gateway: Gateway, azure: openai.AzureOpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as missing:
        azure.chat.completions.create(model="nobody", messages=HELLO)
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with (
        openai.AzureOpenAI(azure_endpoint=gateway.url, api_key="no", api_version=VERSION, max_retries=0) as other,
        pytest.raises(openai.AuthenticationError) as refused,
    ):
        other.chat.completions.create(model="lmi27", messages=HELLO)
    assert refused.value.code == "invalid_api_key"


def test_a_narrow_key_reaches_its_own_deployment_only(gateway: Gateway) -> None:
    with openai.AzureOpenAI(
        azure_endpoint=gateway.url, api_key=NARROW_KEY, api_version=VERSION, max_retries=0
    ) as narrow:
        assert narrow.chat.completions.create(model="gpt-4o", messages=HELLO).model == "gpt-4o"
        with pytest.raises(openai.NotFoundError):
            narrow.chat.completions.create(model="lmi27", messages=HELLO)


def test_the_plain_client_works_below_openai_v1(gateway: Gateway, client: openai.OpenAI) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/openai/v1", api_key=KEY, max_retries=0) as other:
        for stream in (False, True):
            assert Caller(other, stream=stream).chat("lmi27", "hello").only.text == GREETING
            assert Caller(other, stream=stream).completion("lmi27", "hello", max_tokens=3).only.finish == "length"
        assert [model.id for model in other.models.list()] == [model.id for model in client.models.list()]
        assert other.models.retrieve("meta/llama-3.3-70b").id == "meta/llama-3.3-70b"


def test_the_plain_client_works_below_a_models_own_url(gateway: Gateway, local: Local) -> None:
    with openai.OpenAI(base_url=f"{gateway.url}/models/meta/llama-3.3-70b/v1", api_key=KEY, max_retries=0) as one:
        for stream in (False, True):
            answer = Caller(one, stream=stream).chat("tgi", "hello")
            assert (answer.only.text, answer.model) == (GREETING, "meta/llama-3.3-70b")
            assert Caller(one, stream=stream).completion("tgi", "hello", max_tokens=3).only.finish == "length"


# --- The URL's model ---


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({}, id="absent"),
        pytest.param({"model": None}, id="null"),
        pytest.param({"model": ""}, id="empty"),
        pytest.param({"model": 7}, id="no text"),
        pytest.param({"model": "vllm"}, id="another"),
    ],
)
@pytest.mark.parametrize("stream", [pytest.param(False, id="whole"), pytest.param(True, id="stream")])
def test_the_urls_model_goes_before_the_bodys(
    http: httpx.Client, local: Local, body: dict[str, Any], stream: bool
) -> None:
    response = http.post(
        "/openai/deployments/lmi27/chat/completions", json={"messages": HELLO, **body, "stream": stream}
    )
    assert response.status_code == 200
    text = response.text.partition("data: ")[2].partition("\n")[0] if stream else response.text
    assert json.loads(text)["model"] == "lmi27"
    assert local.last_call().endpoint == "lmi27"
    assert "model" not in local.last_body()


@pytest.mark.parametrize(
    "path",
    [
        "/openai/deployments/meta/llama-3.3-70b/chat/completions",
        "/openai/deployments/meta%2Fllama-3.3-70b/chat/completions",
        "/openai/deployments/meta%2fllama%2D3.3-70b/chat/completions?api-version=2024-10-21",
        "/openai/deployments/meta/llama-3.3-70b/chat/completions/",
        "/openai/deployments/team/chat:latest/chat/completions",
        "/openai/deployments/team%2Fchat%3Alatest/chat/completions",
    ],
)
def test_names_may_hold_anything_a_name_may(http: httpx.Client, path: str) -> None:
    response = http.post(path, json={"messages": HELLO})
    assert response.status_code == 200
    assert response.json()["model"] in ("meta/llama-3.3-70b", "team/chat:latest")


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/openai/deployments/chat/completions", 404, "model_not_found"),
        ("POST", "/openai/deployments//chat/completions", 404, "model_not_found"),
        ("POST", "/openai/deployments/lmi27", 404, "route_not_found"),
        ("POST", "/openai/deployments/lmi27/embeddings", 404, "route_not_found"),
        ("POST", "/openai/deployments/lmi27/chat/completions/x", 404, "route_not_found"),
        ("POST", "/openai/deployments/no%00name/completions", 404, "model_not_found"),
        ("POST", "/openai/deployments/%ff%fe/completions", 404, "model_not_found"),
        ("GET", "/openai/deployments/lmi27/chat/completions", 405, "method_not_allowed"),
        ("DELETE", "/openai/v1/completions", 405, "method_not_allowed"),
        ("POST", "/openai/models", 405, "method_not_allowed"),
        ("GET", "/openai/deployments", 404, "route_not_found"),
        ("GET", "/openai/v1/nothing", 404, "route_not_found"),
    ],
)
def test_other_urls_are_refused_in_openais_words(
    http: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    response = http.request(method, path, content=b'{"prompt":"x"}' if method == "POST" else b"")
    assert (response.status_code, response.json()["error"]["code"]) == (status, code)
    if status == 405:
        assert response.headers["allow"]


def test_the_answers_headers_are_the_usual_ones(http: httpx.Client) -> None:
    response = http.post("/openai/deployments/lmi27/completions", json={"prompt": "hi", "max_tokens": 3})
    usual = http.post("/v1/completions", json={"model": "lmi27", "prompt": "hi", "max_tokens": 3})
    assert set(response.headers) == set(usual.headers) >= {"x-request-id", "openai-processing-ms", "server-timing"}


def test_connections_are_kept_from_call_to_call(http: httpx.Client) -> None:
    for path in ("/openai/deployments/lmi27/completions", "/openai/v1/completions", "/models/lmi27/v1/completions"):
        response = http.post(path, json={"model": "lmi27", "prompt": "hi", "max_tokens": 3})
        assert response.status_code == 200
        assert "connection" not in response.headers
