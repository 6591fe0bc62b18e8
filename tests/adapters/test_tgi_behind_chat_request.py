"""Chats as TGI containers are asked for them: by version, taken, renamed, mended or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.base import Adapter
from adapters.openai.urls import UrlPolicy
from adapters.registry import make
from tests.adapters.behind import asked
from tests.adapters.calls import HELLO, chat
from tests.support.pictures import PNG_1, data_url

SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
TOOL = {"type": "function", "function": {"name": "look", "parameters": SCHEMA}}
FORCED = {"type": "function", "function": {"name": "look"}}
CALL = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"a":"b"}'}}
SOUND = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
PNG: dict[str, Any] = {"type": "image_url", "image_url": {"url": data_url("png", PNG_1)}}


def container(version: str) -> Adapter:
    return make("tgi", version, messages_api=version < "2.4")


NEW, OLD = container("3.3"), container("1.4")


def fields(adapter: Adapter, **given: Any) -> Any:
    """Return what is asked besides the messages and the model, or a refusal."""
    body = asked(adapter, chat(**given))
    if isinstance(body, tuple):
        return body
    assert body.pop("model") == "tgi"
    assert body.pop("messages") == HELLO
    return body


def test_messages_come_first_and_byte_for_byte() -> None:
    call = chat(seed=7, temperature=0.50, stream=True)
    assert NEW.encode(call, stream=True) == (
        b'{"messages":[{"role": "user", "content": "hello"}],"temperature":0.5,"model":"tgi","seed":7,"stream":true,'
        b'"stream_options":{"include_usage":true}}'
    )


def test_before_2_4_a_container_chats_only_if_it_was_told_to() -> None:
    for version in ("1.3", "1.4", "2.3"):
        refusal = ("messages", "This model cannot chat: its container completes texts only.")
        assert asked(make("tgi", version), chat()) == refusal
    assert asked(make("tgi", "2.4"), chat()) == {"messages": HELLO, "model": "tgi"}


def test_an_adapter_answers_by_its_name() -> None:
    assert asked(make("tgi", "3.3", served_model_name="my-lora"), chat())["model"] == "my-lora"


@pytest.mark.parametrize(("given", "expected"), [
    pytest.param({"max_tokens": 5}, {"max_tokens": 5}, id="max_tokens"),
    pytest.param({"max_completion_tokens": 5}, {"max_tokens": 5}, id="max_completion_tokens"),
    pytest.param({"max_completion_tokens": 5, "max_tokens": 9}, {"max_tokens": 5}, id="the newer name wins"),
    pytest.param({"temperature": 0, "top_p": 0.5}, {"temperature": 0}, id="greedy, so no top_p to sample for"),
    pytest.param({"top_p": 1, "frequency_penalty": 0, "presence_penalty": 0, "n": 1}, {}, id="switched off"),
    pytest.param({"top_p": 0.5, "frequency_penalty": 1}, {"top_p": 0.5, "frequency_penalty": 1}, id="the same names"),
    pytest.param({"seed": -2}, {"seed": 2**64 - 2}, id="a negative seed"),
    pytest.param({"stop": "x"}, {"stop": ["x"]}, id="stop, a string"),
    pytest.param({"stop": []}, {}, id="no stop"),
    pytest.param({"logprobs": False, "top_logprobs": 0}, {}, id="no logprobs"),
    pytest.param({"logprobs": True}, {"logprobs": True}, id="logprobs"),
    pytest.param({"logprobs": True, "top_logprobs": 5}, {"logprobs": True, "top_logprobs": 5}, id="top_logprobs"),
    pytest.param({"user": "u", "metadata": {}, "store": True, "parallel_tool_calls": False}, {}, id="no matter"),
    pytest.param({"response_format": {"type": "text"}}, {}, id="plain text"),
    pytest.param({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}},
                 {"response_format": {"type": "json", "value": SCHEMA}}, id="a schema"),
    pytest.param({"response_format": {"type": "json_object", "value": SCHEMA}},
                 {"response_format": {"type": "json", "value": SCHEMA}}, id="a schema as TGI writes it"),
    pytest.param({"tools": [TOOL]}, {"tools": [TOOL], "tool_choice": "auto"}, id="tools, and the choice said"),
    pytest.param({"tools": [TOOL], "tool_choice": "required"}, {"tools": [TOOL], "tool_choice": "required"},
                 id="required"),
    pytest.param({"tools": [TOOL], "tool_choice": FORCED}, {"tools": [TOOL], "tool_choice": "look"}, id="forced"),
    pytest.param({"tools": [TOOL], "tool_choice": "none", "tool_prompt": "p"}, {}, id="none"),
    pytest.param({"tools": [TOOL], "tool_prompt": "p"},
                 {"tools": [TOOL], "tool_choice": "auto", "tool_prompt": "p"}, id="tool_prompt"),
])  # fmt: skip
def test_a_chat_in_tgis_terms(given: dict[str, Any], expected: dict[str, Any]) -> None:
    assert fields(NEW, **given) == expected


def test_a_tool_without_parameters_gets_some() -> None:
    tool = {"type": "function", "function": {"name": "look", "description": "d"}}
    function = {"name": "look", "description": "d", "parameters": {"type": "object", "properties": {}}}
    assert fields(NEW, tools=[tool, TOOL])["tools"] == [{"type": "function", "function": function}, TOOL]


def test_a_function_called_like_a_choice_is_named_as_an_object() -> None:
    tool = {"type": "function", "function": {"name": "auto", "parameters": SCHEMA}}
    choice = {"type": "function", "function": {"name": "auto"}}
    assert fields(NEW, tools=[tool], tool_choice=choice)["tool_choice"] == choice
    refusal = ("tool_choice", "This model's container takes 'auto' for no function's name.")
    assert fields(container("2.3"), tools=[tool], tool_choice=choice) == refusal


@pytest.mark.parametrize(("given", "param", "message"), [
    pytest.param({"presence_penalty": 1}, "presence_penalty",
                 "This model's container does not act upon presence_penalty.", id="presence_penalty"),
    pytest.param({"n": 2}, "n", "This model's container does not act upon n. Make a call for each choice.", id="n"),
    pytest.param({"logit_bias": {"1": 1}}, "logit_bias", "This model's container does not act upon logit_bias.",
                 id="logit_bias"),
    pytest.param({"reasoning_effort": "low"}, "reasoning_effort",
                 "This model's container does not act upon reasoning_effort.", id="reasoning"),
    pytest.param({"top_k": 3}, "top_k", "This model's container does not act upon top_k.", id="top_k"),
    pytest.param({"functions": [], "function_call": "auto"}, "functions",
                 "This model's container does not act upon functions. Use tools instead.", id="functions"),
    pytest.param({"modalities": ["text", "audio"]}, "modalities",
                 "This model's container does not act upon modalities.", id="modalities"),
    pytest.param({"made_up": True}, "made_up", "This model's container does not act upon made_up.", id="unknown"),
    pytest.param({"stop": list("abcde")}, "stop", "This model's container takes at most 4 stop strings, not 5.",
                 id="stop"),
    pytest.param({"logprobs": True, "top_logprobs": 6}, "top_logprobs",
                 "This model's container tells at most 5 likely tokens, not 6.", id="top_logprobs"),
    pytest.param({"tools": [TOOL], "response_format": {"type": "regex", "value": "a"}}, "response_format",
                 "This model's container takes either tools or response_format, not both.", id="tools and a format"),
    pytest.param({"response_format": {"type": "json_object"}}, "response_format",
                 "This model's container makes JSON only by a schema: name one in response_format.", id="any JSON"),
])  # fmt: skip
def test_what_tgi_would_ignore_or_garble_is_refused(given: dict[str, Any], param: str, message: str) -> None:
    assert fields(NEW, **given) == (param, message)


def test_usage_in_every_chunk_is_refused() -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    refusal = asked(NEW, chat(stream=True, stream_options=options), stream=True)
    assert refusal[0] == "stream_options"


@pytest.mark.parametrize(("version", "given", "refusal"), [
    pytest.param("1.4", {"tools": [TOOL]},
                 ("tools", "This model's container takes tools from version 2.0 on only."), id="tools"),
    pytest.param("2.0", {"response_format": {"type": "regex", "value": "a"}},
                 ("response_format", "This model's container takes response_format from version 2.1 on only."),
                 id="response_format"),
    pytest.param("1.4", {"temperature": 0},
                 ("temperature", "This model's container always samples in chats: temperature must be above 0."),
                 id="greedy"),
    pytest.param("2.3", {"tools": [TOOL], "tool_choice": "required"},
                 ("tool_choice", "This model's container cannot be made to call just any tool: name one in tool_choice,"
                  " or leave it out."), id="required"),
    pytest.param("2.0", {"messages": [{"role": "user", "content": [PNG]}]},
                 ("messages[0].content[0].type", "This model's container takes no parts of type 'image_url'."),
                 id="images"),
])  # fmt: skip
def test_what_came_with_a_version_is_refused_before(version: str, given: dict[str, Any], refusal: Any) -> None:
    assert asked(container(version), chat(**given)) == refusal


def test_older_versions_tell_log_probabilities_only_with_likely_tokens() -> None:
    assert fields(container("2.3"), logprobs=True) == {"logprobs": True, "top_logprobs": 1}
    assert fields(container("2.4"), logprobs=True) == {"logprobs": True}


# Messages


def mended(adapter: Adapter, *messages: dict[str, Any]) -> Any:
    body = asked(adapter, chat(messages=[*messages]))
    return body if isinstance(body, tuple) else body["messages"]


PARTS = {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]}
WRITTEN = json.dumps([CALL], separators=(",", ":"))


@pytest.mark.parametrize(("version", "message", "expected"), [
    pytest.param("3.3", PARTS, PARTS, id="parts"),
    pytest.param("2.0", PARTS, {"role": "user", "content": "ab"}, id="parts of text, joined for older versions"),
    pytest.param("3.3", {"role": "user", "content": [PNG]}, {"role": "user", "content": [PNG]}, id="an image"),
    pytest.param("3.3", {"role": "assistant", "content": None}, {"role": "assistant", "content": ""}, id="null"),
    pytest.param("3.3", {"role": "assistant"}, {"role": "assistant", "content": ""}, id="no content"),
    pytest.param("3.3", {"role": "tool", "tool_call_id": "x", "content": "6"},
                 {"role": "tool", "tool_call_id": "x", "content": "6"}, id="a tool's result"),
    pytest.param("3.3", {"role": "assistant", "content": None, "tool_calls": [CALL]},
                 {"role": "assistant", "tool_calls": [CALL]}, id="calls, and no content that would hide them"),
    pytest.param("3.3", {"role": "assistant", "content": "", "tool_calls": [CALL]},
                 {"role": "assistant", "tool_calls": [CALL]}, id="calls, and an empty content"),
    pytest.param("3.3", {"role": "assistant", "content": "Well.", "tool_calls": [CALL]},
                 {"role": "assistant", "content": "Well.\n" + WRITTEN}, id="calls and content, both written"),
    pytest.param("3.1", {"role": "assistant", "content": None, "tool_calls": [CALL]},
                 {"role": "assistant", "content": WRITTEN}, id="calls, written for older versions"),
    pytest.param("3.3", {"role": "assistant", "content": "a", "tool_calls": None},
                 {"role": "assistant", "content": "a", "tool_calls": None}, id="no calls"),
])  # fmt: skip
def test_a_message_as_tgi_reads_it(version: str, message: dict[str, Any], expected: dict[str, Any]) -> None:
    assert mended(container(version), *HELLO, message) == [*HELLO, expected]


@pytest.mark.parametrize(("message", "param"), [
    pytest.param({"role": "assistant", "content": "", "function_call": {"name": "f", "arguments": ""}},
                 "messages[0].function_call", id="function_call"),
    pytest.param({"role": "assistant", "content": "", "audio": {"id": "x"}}, "messages[0].audio", id="audio"),
    pytest.param({"role": "user", "content": [SOUND]}, "messages[0].content[0].type", id="a sound"),
    pytest.param({"role": "assistant", "content": [PNG], "tool_calls": [CALL]}, "messages[0].content",
                 id="an image beside calls"),
])  # fmt: skip
def test_what_means_nothing_in_a_message_is_refused(message: dict[str, Any], param: str) -> None:
    assert mended(NEW, message)[0] == param


# Images hidden in texts

VISION = make("tgi", "3.3", image_urls=UrlPolicy("pass", ("images.example.com",)))


@pytest.mark.parametrize(("given", "param", "message"), [
    pytest.param({"messages": [{"role": "user", "content": "![](https://169.254.169.254/latest)"}]}, "messages",
                 "the image URL in messages must be a data: URL, or name a host this model may fetch from.", id="text"),
    pytest.param({"messages": [{"role": "tool", "content": "![](http://images.example.com/a.png)"}]}, "messages",
                 "the image URL in messages must be a data: URL, or a plain https URL without another port.",
                 id="a tool's result"),
    pytest.param({"messages": [{"role": "user", "content": [{"type": "text", "text": "!["},
                                                            {"type": "text", "text": "](https://evil.example/)"}]}]},
                 "messages", "the image URL in messages must be a data: URL, or name a host this model may fetch from.",
                 id="joined parts"),
    pytest.param({"messages": [{"role": "user", "content": "![](https://evil.example/"}, *HELLO]}, "messages",
                 "This model's container takes ![]( for the beginning of an image, so a ) must follow.",
                 id="one that ends elsewhere"),
    pytest.param({"tools": [{"type": "function", "function": {"name": "f", "description": "![](https://evil.example/)"}}]},
                 "tools", "the image URL in tools must be a data: URL, or name a host this model may fetch from.",
                 id="a tool's description"),
    pytest.param({"tools": [{"type": "function", "function": {"name": "f", "parameters": {
                     "properties": {"![](https://evil.example/)": {}}}}}]},
                 "tools", "the image URL in tools must be a data: URL, or name a host this model may fetch from.",
                 id="a parameter's name"),
])  # fmt: skip
def test_a_model_with_vision_fetches_no_more_from_a_text_than_from_a_part(
    given: dict[str, Any], param: str, message: str
) -> None:
    assert asked(VISION, chat(**given)) == (param, message)


def test_where_only_the_gateway_fetches_an_image_in_a_text_must_be_there() -> None:
    fetched_elsewhere = make("tgi", "3.3", image_urls=UrlPolicy("fetch").of_container)
    given = chat(messages=[{"role": "user", "content": "![](https://images.example.com/a.png)"}])
    text = "the image URL in messages must be a data: URL: what a text names is not fetched."
    assert asked(fetched_elsewhere, given) == ("messages", text)
    good = [{"role": "user", "content": f"![]({PNG['image_url']['url']})"}]
    assert asked(fetched_elsewhere, chat(messages=good))["messages"] == good


def test_images_a_model_may_fetch_pass_in_texts_too() -> None:
    good = [{"role": "user", "content": f"a ![](https://images.example.com/a.png) b ![]({PNG['image_url']['url']})"}]
    assert asked(VISION, chat(messages=good))["messages"] == good
    parts = [{"role": "user", "content": [PNG, {"type": "text", "text": "[a](b) ![alt](c)"}]}]
    assert asked(VISION, chat(messages=parts))["messages"] == parts


def test_models_without_vision_take_it_for_text() -> None:
    text = [{"role": "user", "content": "![](https://evil.example/"}]
    assert asked(NEW, chat(messages=text))["messages"] == text
