"""TGI containers of several versions behind a gateway, and LMI's schema of `inputs`, called by the official client.

Each model is called as a whole by one InvokeEndpoint, as a whole gathered from a stream, and as a stream.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest

from deploy.local import Endpoint
from deploy.local.engine import build
from tests.support.callers import Caller
from tests.support.stack import KEY, Gateway, Local, config, model, running_gateway, running_local

GREETING = "Hello! How can I help you today?"
CHATS = ("tgi-3-3", "tgi-3-0", "tgi-2-4", "chats-2-3")
OLD_CHATS = ("chats-2-2", "chats-2-0", "chats-1-4")
TEXTS = ("tgi-3-3", "tgi-2-4", "texts-2-0", "texts-1-4", "inputs-lmi27", "inputs-lmi15")
VERSIONS = {
    name: name.rpartition("-")[0][-1] + "." + name[-1] for name in (*CHATS, *OLD_CHATS, *TEXTS) if "lmi" not in name
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Tells the weather.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
}
FORMAT = {"type": "json_schema", "json_schema": {"name": "person", "schema": PERSON}}


def _containers() -> dict[str, Any]:
    made: dict[str, Any] = {
        "inputs-lmi27": build("lmi27", context_length=512),
        "inputs-lmi15": build("lmi15", context_length=512),
    }
    for name, version in VERSIONS.items():
        made[name] = build(f"tgi-{version}", messages_api=name.startswith("chats"), context_length=512)
    return made


def _models() -> Iterator[dict[str, Any]]:
    for name in (*VERSIONS, "inputs-lmi27", "inputs-lmi15"):
        for variant, unary in (("", "auto"), ("-invoke", "invoke"), ("-stream", "stream")):
            deployment: dict[str, Any] = {"endpoint": name}
            if name.startswith("chats"):
                deployment["messages_api"] = True
            if "lmi" in name:
                deployment["schema"] = "tgi"
            container, version = ("lmi", name[-2:]) if "lmi" in name else ("tgi", VERSIONS[name])
            modalities = ["text", "image"] if name == "tgi-3-3" else ["text"]
            yield model(name + variant, container, version, unary=unary, modalities=modalities, deployment=deployment)


@pytest.fixture(scope="module")
def local_tgi() -> Iterator[Local]:
    with running_local({name: Endpoint(container) for name, container in _containers().items()}) as local:
        yield local


@pytest.fixture(scope="module")
def tgi_gateway(local_tgi: Local) -> Iterator[Gateway]:
    with running_gateway(config(local_tgi.url, *_models())) as gateway:
        yield gateway


@pytest.fixture(scope="module")
def tgi_client(tgi_gateway: Gateway) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=tgi_gateway.base_url, api_key=KEY, max_retries=0, timeout=20) as client:
        yield client


@pytest.fixture(params=["invoke", "gathered", "stream"])
def way(request: pytest.FixtureRequest, tgi_client: openai.OpenAI) -> Caller:
    variant = {"invoke": "-invoke", "gathered": "-stream", "stream": ""}[request.param]
    return Caller(tgi_client, stream=request.param == "stream", variant=variant)


def counts(answer: Any) -> tuple[int, int, int]:
    usage = answer.usage
    return usage.prompt_tokens, usage.completion_tokens, usage.total_tokens


# Chats


@pytest.mark.parametrize("name", CHATS)
def test_a_chat_is_answered(way: Caller, name: str) -> None:
    answer = way.chat(name, "hello")
    assert (answer.only.text, answer.only.role, answer.only.finish) == (GREETING, "assistant", "stop")
    assert answer.object == ("chat.completion.chunk" if way.stream else "chat.completion")
    assert answer.model == name + way.variant
    assert answer.id.startswith("chatcmpl-")
    assert len(answer.id) == len("chatcmpl-") + 24
    # Whole replies of 3.0 count the prompt's tokens by a list that is empty by default.
    assert counts(answer) == ((0, 10, 10) if (name, way.variant) == ("tgi-3-0", "-invoke") else (13, 10, 23))


def test_every_answer_has_an_id_of_its_own(way: Caller) -> None:
    assert way.chat("tgi-3-3", "hello").id != way.chat("tgi-3-3", "hello").id


@pytest.mark.parametrize("name", CHATS)
def test_a_chat_ends_at_its_limit(way: Caller, name: str) -> None:
    answer = way.chat(name, "count to 50", max_completion_tokens=7)
    assert (answer.only.text, answer.only.finish) == ("1, 2, 3", "length")
    assert answer.usage.completion_tokens == 7


@pytest.mark.parametrize("name", CHATS)
@pytest.mark.parametrize(("stop", "text"), [("4", "1, 2, 3, "), (["9", ", 3"], "1, 2"), (["x"], "1, 2, 3, 4, 5, 6")])
def test_a_chat_ends_before_its_stop_string(way: Caller, name: str, stop: Any, text: str) -> None:
    answer = way.chat(name, "count to 6", stop=stop)
    assert (answer.only.text, answer.only.finish) == (text, "stop")


@pytest.mark.parametrize("name", CHATS)
def test_log_probabilities_of_a_chat(way: Caller, name: str) -> None:
    answer = way.chat(name, "count to 2", logprobs=True, top_logprobs=2)
    entries = [entry for entry in answer.only.logprobs if entry.token.strip("<|>") == entry.token]
    assert "".join(entry.token for entry in entries) == "1, 2"
    assert all(len(entry.top_logprobs) == 2 for entry in entries)
    assert entries[0].bytes == [49]


@pytest.mark.parametrize("name", CHATS)
def test_a_tool_is_called_and_its_result_told(way: Caller, name: str) -> None:
    messages: list[Any] = [{"role": "user", "content": "What is the weather in Rome?"}]
    answer = way.chat(name, messages, tools=[WEATHER])
    (call,) = answer.only.tools
    assert (call.name, json.loads(call.arguments)) == ("get_weather", {"city": "Rome"})
    assert call.id.startswith("call_")
    assert (answer.only.text, answer.only.finish) == ("", "tool_calls")

    function = {"name": call.name, "arguments": call.arguments}
    told = {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": call.id, "type": "function", "function": function}],
    }
    messages += [told, {"role": "tool", "tool_call_id": call.id, "content": "21 degrees"}]
    answer = way.chat(name, messages)
    assert "21 degrees" in answer.only.text
    assert answer.only.finish == "stop"


@pytest.mark.parametrize("name", CHATS)
def test_words_are_told_as_words_where_there_are_tools(way: Caller, name: str) -> None:
    answer = way.chat(name, "hello", tools=[WEATHER])
    assert (answer.only.text, answer.only.tools, answer.only.finish) == (GREETING, [], "stop")


@pytest.mark.parametrize("name", CHATS)
def test_a_forced_tool_is_called(way: Caller, name: str) -> None:
    choice = {"type": "function", "function": {"name": "get_weather"}}
    answer = way.chat(name, "weather in Rome", tools=[WEATHER], tool_choice=choice)
    assert [call.name for call in answer.only.tools] == ["get_weather"]
    assert answer.only.finish == "stop"


@pytest.mark.parametrize("name", CHATS)
def test_no_tool_is_called_if_none_may_be(way: Caller, name: str) -> None:
    answer = way.chat(name, "weather in Rome", tools=[WEATHER], tool_choice="none")
    assert answer.only.tools == []
    assert answer.only.text


@pytest.mark.parametrize("name", CHATS)
def test_a_chat_answers_by_a_schema(way: Caller, name: str) -> None:
    answer = way.chat(name, "json", response_format=FORMAT)
    person = json.loads(answer.only.text)
    assert (type(person["name"]), type(person["age"])) == (str, int)


def test_a_chat_with_an_image(way: Caller) -> None:
    png = (
        "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
        "rkJggg=="
    )
    parts = [{"type": "text", "text": "What is it?"}, {"type": "image_url", "image_url": {"url": png}}]
    answer = way.chat("tgi-3-3", [{"role": "user", "content": parts}])
    assert "png" in answer.only.text.lower()


@pytest.mark.parametrize("name", OLD_CHATS)
def test_an_older_container_counts_no_prompt_in_streams(way: Caller, name: str) -> None:
    answer = way.chat(name, "count to 3", stop="3")
    assert (answer.only.text, answer.only.finish) == ("1, 2, ", "stop")
    assert counts(answer) == ((18, 7, 25) if way.variant == "-invoke" else (0, 7, 7))


def test_an_older_container_calls_tools(way: Caller) -> None:
    answer = way.chat("chats-2-0", "weather in Rome", tools=[WEATHER])
    assert [(call.name, json.loads(call.arguments)) for call in answer.only.tools] == [
        ("get_weather", {"city": "Rome"})
    ]
    assert answer.only.finish == "tool_calls"


# Text completions


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_is_completed(way: Caller, name: str) -> None:
    answer = way.completion(name, "count to 3")
    assert (answer.only.text, answer.only.finish, answer.object) == ("1, 2, 3", "stop", "text_completion")
    assert answer.id.startswith("cmpl-")
    prompt, completion, total = counts(answer)
    # A stream before 2.3 does not tell the prompt's tokens, nor does a whole reply to `inputs`.
    assert prompt in ((6,) if name in ("tgi-3-3", "tgi-2-4") else (6, 0))
    assert (completion, total) == (8, prompt + 8)


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_has_openais_default_limit(way: Caller, name: str) -> None:
    answer = way.completion(name, "count to 50")
    assert answer.only.finish == "length"
    assert answer.usage.completion_tokens == 16


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize(("stop", "text"), [("3", "1, 2, "), ([", 2", "x"], "1"), ("never", "1, 2, 3, 4")])
def test_a_text_ends_before_its_stop_string(way: Caller, name: str, stop: Any, text: str) -> None:
    answer = way.completion(name, "count to 4", stop=stop)
    assert (answer.only.text, answer.only.finish) == (text, "stop")


@pytest.mark.parametrize("name", TEXTS)
def test_a_prompt_is_echoed(way: Caller, name: str) -> None:
    answer = way.completion(name, "repeat: é😀", echo=True, temperature=0)
    assert answer.only.text == "repeat: é😀é😀"


@pytest.mark.parametrize("name", TEXTS)
def test_log_probabilities_of_a_text(way: Caller, name: str) -> None:
    answer = way.completion(name, "count to 2", logprobs=0)
    assert [token for token in answer.only.logprobs if token.isprintable() and "<" not in token and token] == list(
        "1, 2"
    )


@pytest.mark.parametrize("name", [name for name in TEXTS if "lmi" not in name])
def test_likely_tokens_of_a_text(tgi_client: openai.OpenAI, name: str) -> None:
    reply = tgi_client.completions.create(model=f"{name}-invoke", prompt="count to 2", logprobs=2)
    logprobs = reply.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.tokens == list("1, 2")
    assert logprobs.text_offset == [0, 1, 2, 3]
    assert logprobs.top_logprobs is not None
    assert all(token in likely for token, likely in zip(logprobs.tokens, logprobs.top_logprobs, strict=True))


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_by_a_schema(way: Caller, name: str) -> None:
    answer = way.completion(name, "json", max_tokens=100, extra_body={"response_format": FORMAT})
    assert set(json.loads(answer.only.text)) == {"name", "age"}


@pytest.mark.parametrize("name", TEXTS)
def test_characters_of_several_tokens_arrive_whole(way: Caller, name: str) -> None:
    text = "Café — naïve 😀🚀 日本語 ✓ ½ 👨‍👩‍👧."
    assert way.completion(name, f"repeat: {text}", max_tokens=100).only.text == text


# Errors


@pytest.mark.parametrize("name", CHATS)
def test_a_chat_that_does_not_fit_says_so(way: Caller, name: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        way.chat(name, "word " * 600)
    # The streams of 2.4 swallow every error.
    lost = name == "tgi-2-4" and not way.variant.endswith("invoke")
    assert caught.value.code == ("upstream_rejected" if lost else "context_length_exceeded")


@pytest.mark.parametrize("name", TEXTS)
def test_a_text_that_does_not_fit_says_so(way: Caller, name: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        way.completion(name, "hello", max_tokens=100_000)
    assert caught.value.code in ("context_length_exceeded", "upstream_rejected")


@pytest.mark.parametrize(("name", "fields", "param"), [
    ("tgi-3-3", {"n": 2}, "n"),
    ("tgi-3-3", {"presence_penalty": 1.0}, "presence_penalty"),
    ("tgi-3-3", {"logit_bias": {"5": 1}}, "logit_bias"),
    ("tgi-3-3", {"stop": list("abcde")}, "stop"),
    ("texts-2-0", {}, "messages"),
])  # fmt: skip
def test_what_a_container_cannot_do_is_refused(way: Caller, name: str, fields: dict[str, Any], param: str) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        way.chat(name, "hello", **fields)
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", param)


def test_a_container_that_only_chats_completes_nothing(way: Caller) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        way.completion("chats-2-3", "hello")
    assert (caught.value.code, caught.value.param) == ("unsupported_parameter", "prompt")


def test_an_engine_that_dies_in_an_answer_leaves_no_whole_one(way: Caller) -> None:
    for name in ("tgi-3-3", "inputs-lmi27"):
        with pytest.raises((openai.APIError, json.JSONDecodeError)):
            way.completion(name, "fail after 3")


# TGI's own API


def native(gateway: Gateway, name: str, path: str, **body: Any) -> httpx.Response:
    return httpx.post(
        f"{gateway.url}/models/{name}{path}", json=body, headers={"authorization": f"Bearer {KEY}"}, timeout=20
    )


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("variant", ["-invoke", "-stream"])
def test_tgis_own_call_whole(tgi_gateway: Gateway, name: str, variant: str) -> None:
    parameters = {"max_new_tokens": 20, "details": True, "stop": ["3"], "return_full_text": True}
    reply = native(tgi_gateway, name + variant, "/generate", inputs="count to 5", parameters=parameters).json()
    assert reply["generated_text"] == "count to 51, 2, 3"
    details = reply["details"]
    assert (details["finish_reason"], details["generated_tokens"], details["prefill"]) == ("stop_sequence", 7, [])
    assert "".join(token["text"] for token in details["tokens"]) == "1, 2, 3"
    assert {name for token in details["tokens"] for name in token} == {"id", "text", "logprob", "special"}


@pytest.mark.parametrize("name", TEXTS)
def test_tgis_own_call_streamed(tgi_gateway: Gateway, name: str) -> None:
    reply = native(tgi_gateway, name, "/generate_stream", inputs="count to 3", parameters={"max_new_tokens": 20})
    assert reply.headers["content-type"].startswith("text/event-stream")
    frames = [json.loads(event.removeprefix("data:")) for event in reply.text.strip().split("\n\n")]
    assert [frame["index"] for frame in frames] == list(range(1, len(frames) + 1))
    assert [frame["generated_text"] for frame in frames] == [None] * (len(frames) - 1) + ["1, 2, 3"]
    assert "".join(frame["token"]["text"] for frame in frames if not frame["token"]["special"]) == "1, 2, 3"
    assert all(frame["details"] is None for frame in frames)


@pytest.mark.parametrize("name", TEXTS)
def test_the_compatible_route_gives_a_list(tgi_gateway: Gateway, name: str) -> None:
    reply = native(
        tgi_gateway, name, "", inputs="count to 3", parameters={"return_full_text": False, "max_new_tokens": 9}
    )
    assert reply.json() == [{"generated_text": "1, 2, 3"}]


@pytest.mark.parametrize("name", TEXTS)
def test_an_error_comes_in_tgis_words(tgi_gateway: Gateway, name: str) -> None:
    reply = native(tgi_gateway, f"{name}-invoke", "/generate", inputs="a", parameters={"max_new_tokens": 100_000})
    assert reply.status_code == 422
    assert reply.json()["error_type"] == "validation"
