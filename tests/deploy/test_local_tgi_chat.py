"""The imitated TGI's chats and completions in its newest release, against what TGI's source says of them."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.local.engine import build
from tests.deploy.tgi_calls import CHAT, COMPLETION, WEATHER, answer, frames, post, text, told, user

pytestmark = pytest.mark.anyio

HEAD = '{"object":"chat.completion","id":"","created":0,"model":"local","system_fingerprint":"3.3.7-sha-f426a33"'
CHUNK = HEAD.replace("completion", "completion.chunk", 1)
RAW = HEAD.replace("chat.completion", "text_completion", 1)
CALLING = {"tools": [WEATHER], "tool_choice": "auto"}
PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
DIED = "Request failed during generation: Server error: transport error"


async def chat(*texts: str, of: str = "tgi", **body: Any) -> Any:
    return await answer(build(of), {"messages": user(*texts)} | body, CHAT)


async def chat_chunks(*texts: str, **body: Any) -> list[Any]:
    return await frames(build("tgi"), {"messages": user(*texts), "stream": True} | body, CHAT)


def events(*payloads: str) -> str:
    return "".join(f"data: {payload}\n\n" for payload in payloads)


# Chats


@pytest.mark.parametrize("path", [CHAT, None], ids=["its-route", "invocations"])
async def test_a_chat(path: str | None) -> None:
    assert await text(build("tgi"), {"messages": user("hello")}, path) == (
        HEAD + ',"choices":[{"index":0,"message":{"role":"assistant","content":"Hello! How can I help you today?"},'
        '"logprobs":null,"finish_reason":"stop"}],'
        '"usage":{"prompt_tokens":13,"completion_tokens":10,"total_tokens":23}}'
    )


async def test_a_chat_has_the_headers_of_a_generate_request() -> None:
    reply = await post(build("tgi"), {"messages": user("hello")}, CHAT)
    assert reply.headers["x-compute-characters"] == "74"
    assert (reply.headers["x-prompt-tokens"], reply.headers["x-generated-tokens"]) == ("13", "10")


@pytest.mark.parametrize("path", [CHAT, None], ids=["its-route", "invocations"])
async def test_a_chats_stream(path: str | None) -> None:
    body = {"messages": user("repeat: a"), "stream": True, "stream_options": {"include_usage": True}}
    assert await text(build("tgi"), body, path) == events(
        CHUNK + ',"choices":[{"index":0,"delta":{"role":"assistant","content":"a"},'
        '"logprobs":null,"finish_reason":null}],"usage":null}',
        CHUNK + ',"choices":[{"index":0,"delta":{"role":"assistant","content":""},'
        '"logprobs":null,"finish_reason":"stop"}],"usage":null}',
        CHUNK + ',"choices":[],"usage":{"prompt_tokens":17,"completion_tokens":2,"total_tokens":19}}',
        "[DONE]",
    )


async def test_usage_is_not_told_in_a_stream_unless_asked_for() -> None:
    chunks = await chat_chunks("repeat: a")
    assert [chunk if chunk == "[DONE]" else chunk["usage"] for chunk in chunks] == [None, None, "[DONE]"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param({"max_tokens": 1}, "length", id="length"),
        pytest.param({"stop": ["4"]}, "stop_sequence", id="stop"),
        pytest.param({}, "stop", id="end"),
    ],
)
async def test_why_a_chat_ended(body: dict[str, Any], reason: str) -> None:
    assert (await chat("count to 5", **body))["choices"][0]["finish_reason"] == reason
    assert (await chat_chunks("count to 5", **body))[-2]["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize(
    ("named", "told"),
    [("other", "other"), ("tgi", "local"), (None, "local"), ("", "")],
    ids=["echoed", "tgi", "none", "empty"],
)
async def test_the_model_is_whatever_the_request_calls_it(named: str | None, told: str) -> None:
    body = {} if named is None else {"model": named}
    assert (await chat("hello", max_tokens=1, **body))["model"] == told


async def test_alternatives_begin_with_what_was_said() -> None:
    listed = (await chat("repeat: a", logprobs=True, top_logprobs=2))["choices"][0]["logprobs"]
    assert listed == {
        "content": [
            {
                "token": "a",
                "logprob": -0.770432,
                "top_logprobs": [{"token": "a", "logprob": -0.770432}, {"token": " .", "logprob": -4.006412}],
            },
            {
                "token": "<|im_end|>",
                "logprob": -0.523988,
                "top_logprobs": [
                    {"token": "<|im_end|>", "logprob": -0.523988},
                    {"token": "user", "logprob": -4.001677},
                ],
            },
        ]
    }
    streamed = await chat_chunks("repeat: a", logprobs=True, top_logprobs=2)
    assert [chunk["choices"][0]["logprobs"]["content"] for chunk in streamed[:-1]] == [
        [entry] for entry in listed["content"]
    ]


async def test_there_are_no_alternatives_unless_asked_for() -> None:
    listed = (await chat("repeat: a", logprobs=True))["choices"][0]["logprobs"]["content"]
    assert [entry["top_logprobs"] for entry in listed] == [[], []]


async def test_temperature_0_is_greedy_and_none_is_not() -> None:
    greedy = await chat("tell me", temperature=0)
    assert greedy["choices"] == (await chat("tell me", temperature=0, seed=4))["choices"]
    assert (await chat("tell me", seed=4))["choices"] != (await chat("tell me", seed=5))["choices"]


async def test_content_may_be_parts() -> None:
    parts = [{"type": "text", "text": "hello"}]
    assert (await answer(build("tgi"), {"messages": [{"role": "user", "content": parts}]}, CHAT))["usage"] == {
        "prompt_tokens": 13,
        "completion_tokens": 10,
        "total_tokens": 23,
    }


async def test_a_picture_is_a_part_that_becomes_markdown() -> None:
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}},
    ]
    reply = await answer(build("tgi"), {"messages": [{"role": "user", "content": parts}]}, CHAT)
    assert reply["choices"][0]["message"]["content"].startswith("I see 1 image: image/png 1x1.")


async def test_an_answer_in_a_grammar() -> None:
    wanted = {"type": "json_object", "value": {"properties": {"a": {"const": 1}}, "required": ["a"]}}
    assert (await chat("hello", response_format=wanted))["choices"][0]["message"]["content"] == '{"a": 1}'


async def test_thoughts_are_part_of_the_text() -> None:
    reply = await answer(build("tgi", thinking=True), {"messages": user("hello")}, CHAT)
    assert reply["choices"][0]["message"]["content"] == (
        "<think>\nThe user greets me. I greet back.\n</think>\n\nHello! How can I help you today?"
    )


# Tools


@pytest.mark.parametrize(
    ("question", "choice", "arguments"),
    [
        pytest.param("weather in Rome", {"tool_choice": "auto"}, '{"city":"Rome"}', id="auto"),
        pytest.param("weather in Rome", {}, '{"city":"Rome"}', id="auto-is-the-default"),
        pytest.param("hello", {"tool_choice": "required"}, '{"city":"Paris"}', id="required"),
        pytest.param("hello", {"tool_choice": "get_weather"}, '{"city":"Paris"}', id="a-name"),
        pytest.param(
            "hello",
            {"tool_choice": {"type": "function", "function": {"name": "get_weather"}}},
            '{"city":"Paris"}',
            id="a-function",
        ),
    ],
)
async def test_a_tool_call(question: str, choice: dict[str, Any], arguments: str) -> None:
    reply = await chat(question, tools=[WEATHER], temperature=0, **choice)
    function = {"description": None, "name": "get_weather", "arguments": arguments}
    (choice,) = reply["choices"]
    assert choice["message"] == {
        "role": "assistant",
        "tool_calls": [{"id": "0", "type": "function", "function": function}],
    }
    assert choice["finish_reason"] == "stop"


@pytest.mark.parametrize("choice", ["auto", "none"])
async def test_no_tool_call(choice: str) -> None:
    with_tools = await chat("hello", tools=[WEATHER], tool_choice=choice)
    assert with_tools == await chat("hello")
    assert await chat_chunks("hello", tools=[WEATHER], tool_choice=choice) == await chat_chunks("hello")


async def test_a_streamed_tool_call_never_says_why_it_ended() -> None:
    *chunks, usage, done = await chat_chunks("weather in Rome", stream_options={"include_usage": True}, **CALLING)
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    calls = [delta["tool_calls"][0] for delta in deltas]
    assert all(list(delta) == ["role", "tool_calls"] for delta in deltas)
    assert all((call["index"], call["id"], call["type"]) == (0, "0", "function") for call in calls)
    assert [call["function"]["name"] for call in calls] == ["get_weather", *[None] * 6]
    assert "".join(call["function"]["arguments"] for call in calls) == '{ "city": "Rome"}'
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None] * 7
    assert (usage["choices"], usage["usage"]["completion_tokens"], done) == ([], 23, "[DONE]")


@pytest.mark.parametrize(
    ("before", "told"),
    [
        pytest.param(["3", "7"], "8", id="one-more"),
        pytest.param(["call_a"], None, id="no-number"),
    ],
)
async def test_the_id_of_a_streamed_call_follows_those_before(before: list[str], told: str | None) -> None:
    called = [{"id": one, "type": "function", "function": {"name": "f", "arguments": "{}"}} for one in before]
    messages = [*user("a"), {"role": "assistant", "tool_calls": called}, *user("weather in Rome")]
    first, *_ = await frames(build("tgi"), {"messages": messages, "stream": True} | CALLING, CHAT)
    found = first["choices"][0]["delta"]["tool_calls"][0]["id"]
    assert found == told if told is not None else len(found) == 36


async def test_results_of_tools_are_quoted() -> None:
    call = {"id": "3", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    messages = [*user("weather"), {"role": "assistant", "tool_calls": [call]}]
    messages += [{"role": "tool", "content": "sunny", "tool_call_id": "3"}]
    reply = await answer(build("tgi"), {"messages": messages}, CHAT)
    assert reply["choices"][0]["message"]["content"] == "The get_weather tool answered: sunny"


# Refused


@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        pytest.param(
            {"tools": [WEATHER], "tool_choice": "nope"},
            "tool_error",
            "Tool error: Tool with name nope not found",
            id="unknown-tool",
        ),
        pytest.param(
            CALLING | {"response_format": {"type": "regex", "value": "a"}},
            "tool_error",
            "Tool error: Grammar and tools are mutually exclusive",
            id="tools-and-grammar",
        ),
        pytest.param(
            CALLING | {"max_tokens": 9, "tool_choice": "required"},
            "tool_error",
            "Tool error: Failed to parse generated text: EOF while parsing a string at line 1 column 16 "
            '"{\\"function\\": {\\"_"',
            id="cut-call",
        ),
        pytest.param(
            {"top_p": 1.0}, "validation", "Input validation error: `top_p` must be > 0.0 and < 1.0", id="value"
        ),
        pytest.param(
            {"response_format": {"type": "json", "value": {"properties": {}, "type": "thing"}}},
            "validation",
            "Input validation error: grammar is not valid: ",
            id="schema",
        ),
        pytest.param(
            {"presence_penalty": -2.0},
            "validation",
            "Input validation error: `repetition_penalty` must be strictly positive",
            id="presence-penalty-is-repetition-penalty",
        ),
    ],
)
async def test_a_refused_chat(body: dict[str, Any], kind: str, message: str) -> None:
    reply = await post(build("tgi"), {"messages": user("hello")} | body, CHAT)
    said = json.loads(await told(reply))
    assert (reply.status, list(said), said["error_type"]) == (422, ["error", "error_type"], kind)
    assert said["error"].startswith(message)


async def test_a_pattern_that_the_model_server_cannot_use() -> None:
    body = {"messages": user("hello"), "response_format": {"type": "regex", "value": "(a"}}
    reply = await post(build("tgi"), body, CHAT)
    assert (reply.status, json.loads(await told(reply))["error_type"]) == (424, "generation")


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
async def test_a_model_without_a_template_has_no_chats(stream: bool) -> None:
    reply = await post(build("tgi", chat_template=False), {"messages": user("hello"), "stream": stream}, CHAT)
    assert (reply.status, reply.body) == (
        422,
        b'{"error":"Template error: template not found","error_type":"template_error"}',
    )


async def test_a_chats_stream_has_its_refusal_inside_with_a_status() -> None:
    assert await text(build("tgi"), {"messages": user("hello"), "stream": True, "top_p": 1.0}, CHAT) == events(
        '{"error":{"message":"Input validation error: `top_p` must be > 0.0 and < 1.0","http_status_code":422}}',
        "[DONE]",
    )


async def test_a_model_server_that_dies_within_a_chat() -> None:
    assert (await post(build("tgi"), {"messages": user("fail after 1")}, CHAT)).status == 424
    first, error, done = await chat_chunks("fail after 1")
    assert first["choices"][0]["delta"]["content"] == "You"
    # The reply would have had 424; the stream says 422 whatever it is.
    assert (error, done) == ({"error": {"message": DIED, "http_status_code": 422}}, "[DONE]")


# Completions


async def test_a_completion() -> None:
    reply = await post(build("tgi"), {"prompt": "repeat: a"}, COMPLETION)
    assert "x-compute-time" not in reply.headers
    assert await told(reply) == (
        RAW + ',"choices":[{"index":0,"text":"a","logprobs":null,"finish_reason":"stop"}],'
        '"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}'
    )


async def test_the_prompts_of_a_completion_are_counted_together() -> None:
    reply = await answer(build("tgi"), {"prompt": ["repeat: a", "repeat: b"]}, COMPLETION)
    assert [(choice["index"], choice["text"]) for choice in reply["choices"]] == [(0, "a"), (1, "b")]
    assert reply["usage"] == {"prompt_tokens": 10, "completion_tokens": 4, "total_tokens": 14}


async def test_the_end_of_a_completions_stream_is_told_as_the_model_tells_it() -> None:
    def said(number: int, word: str) -> str:
        choice = f'"choices":[{{"index":{number},"text":"{word}","logprobs":null,"finish_reason":""}}]'
        head, model = RAW.split(',"model"')
        return f'{head},{choice},"model"{model}}}'

    def ended(number: int) -> str:
        return (
            RAW + f',"choices":[{{"index":{number},"text":"<|im_end|>","logprobs":null,"finish_reason":"eos_token"}}],'
            '"usage":{"prompt_tokens":5,"completion_tokens":2,"total_tokens":7}}'
        )

    body = {"prompt": ["repeat: a", "repeat: b"], "stream": True}
    assert await text(build("tgi"), body, COMPLETION) == events(
        said(0, "a"), said(1, "b"), ended(0), ended(1), "[DONE]"
    )


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
@pytest.mark.parametrize(
    ("body", "kind", "message"),
    [
        pytest.param(
            {"suffix": "b"},
            "suffix not supported",
            "Suffix is not supported and can be achieved by preprocessing the prompt.",
            id="suffix",
        ),
        pytest.param(
            {"prompt": list("abcde")},
            "batch size exceeded",
            "Number of prompts exceeds the maximum allowed batch size of 4",
            id="many-prompts",
        ),
    ],
)
async def test_a_refused_completion(stream: bool, body: dict[str, Any], kind: str, message: str) -> None:
    reply = await post(build("tgi"), {"prompt": "a", "stream": stream} | body, COMPLETION)
    assert (reply.status, json.loads(await told(reply))) == (422, {"error": message, "error_type": kind})


async def test_a_completions_stream_has_a_refusal_for_each_prompt() -> None:
    body = {"prompt": ["repeat: a", ""], "stream": True}
    said = await frames(build("tgi"), body, COMPLETION)
    error = {"error": {"message": "Input validation error: `inputs` cannot be empty", "http_status_code": 422}}
    assert [frame for frame in said if "error" in frame] == [error]
    assert len(said) == 4
    reply = await post(build("tgi"), {"prompt": ["repeat: a", ""]}, COMPLETION)
    assert reply.status == 422


async def test_a_model_server_that_dies_takes_all_prompts_with_it() -> None:
    body = {"prompt": ["fail after 1", "count to 9"], "stream": True}
    said = await frames(build("tgi"), body, COMPLETION)
    error = {"error": {"message": DIED, "http_status_code": 422}}
    assert [frame.get("choices", [frame])[0].get("text") for frame in said[:2]] == ["You", "1"]
    assert said[2:] == [error, error, "[DONE]"]
