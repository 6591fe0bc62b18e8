"""What the imitated TGI does differently from release to release."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.local.engine import build
from tests.deploy.tgi_calls import CHAT, COMPLETION, WEATHER, answer, frames, post, text, told, user

pytestmark = pytest.mark.anyio

RELEASES = ["1.4", "2.0", "2.1", "2.2", "2.3", "2.4", "3.0", "3.1", "3.2", "3.3"]
CALLING: dict[str, Any] = {"tools": [WEATHER], "tool_choice": "auto"}


async def chat(release: str, question: str, path: str | None = CHAT, **body: Any) -> Any:
    return await answer(build(f"tgi-{release}"), {"model": "m", "messages": user(question)} | body, path)


async def chunks(release: str, question: str, **body: Any) -> list[Any]:
    asked = {"model": "m", "messages": user(question), "stream": True} | body
    return await frames(build(f"tgi-{release}"), asked, CHAT)


def since(first: str) -> pytest.MarkDecorator:
    """Parametrize a test over all releases and whether they are that one or a later one."""
    later = RELEASES.index(first)
    return pytest.mark.parametrize(
        ("release", "changed"), [(release, place >= later) for place, release in enumerate(RELEASES)], ids=RELEASES
    )


@pytest.mark.parametrize(
    ("name", "version"),
    [
        ("tgi", "3.3.7"),
        ("tgi-1.4", "1.4.5"),
        ("tgi-2.0", "2.0.4"),
        ("tgi2.4", "2.4.1"),
        ("tgi-3.0", "3.0.2"),
        ("tgi-3.0.1", "3.0.1"),
    ],
)
async def test_a_dialect_is_a_release(name: str, version: str) -> None:
    engine = build(name)
    reply = await answer(engine, {"model": "m", "messages": user("hello")}, CHAT)
    assert reply["system_fingerprint"] == f"{version}-sha-f426a33"
    assert engine.tgi is not None
    assert json.loads(engine.tgi.info())["version"] == version


@since("2.1")
@pytest.mark.parametrize("path", ["/generate_stream", CHAT, COMPLETION])
async def test_the_framework_writes_a_space_after_data(path: str, release: str, changed: bool) -> None:
    body = {"model": "m", "inputs": "hello", "prompt": "hello", "messages": user("hello"), "stream": True}
    lines = [line for line in (await text(build(f"tgi-{release}"), body, path)).split("\n") if line]
    assert all(line.startswith("data: {" if changed else "data:{") for line in lines if "[DONE]" not in line)
    assert all(line in ("data: [DONE]", "data:[DONE]") or "{" in line for line in lines)


@since("2.2")
@pytest.mark.parametrize("path", [CHAT, COMPLETION])
async def test_streams_end_with_done(path: str, release: str, changed: bool) -> None:
    body = {"model": "m", "prompt": "hello", "messages": user("hello"), "stream": True}
    assert ((await frames(build(f"tgi-{release}"), body, path))[-1] == "[DONE]") is changed


@pytest.mark.parametrize("release", RELEASES)
async def test_streams_of_generate_do_not_end_with_done(release: str) -> None:
    assert "DONE" not in await text(build(f"tgi-{release}"), {"inputs": "hello"}, "/generate_stream")


@since("2.2")
async def test_what_objects_are_called_and_why_they_ended(release: str, changed: bool) -> None:
    whole, (first, last, *_) = await chat(release, "repeat: a"), await chunks(release, "repeat: a")
    for made, name in ((whole, "chat.completion"), (first, "chat.completion.chunk")):
        assert list(made)[:2] == (["object", "id"] if changed else ["id", "object"])
        assert (made["object"], made["id"]) == (name if changed else "text_completion", "")
    ends = "stop" if changed else "eos_token"
    assert [one["choices"][0]["finish_reason"] for one in (whole, last)] == [ends, ends]
    # The token that ends an answer was shown before.
    assert last["choices"][0]["delta"]["content"] == ("" if changed else "<|im_end|>")


@since("2.4")
async def test_invocations_take_any_payload(release: str, changed: bool) -> None:
    engine, asked = build(f"tgi-{release}"), {"model": "m", "messages": user("repeat: a")}
    assert (await post(engine, {"inputs": "hello"})).status == 200
    for body in (asked, {"model": "m", "prompt": "repeat: a"}):
        assert (await post(engine, body)).status == (200 if changed else 422)


async def test_before_2_4_a_setting_chose_what_invocations_take() -> None:
    engine = build("tgi-2.3", messages_api=True)
    assert (await chat("2.3", "hello"))["choices"][0]["message"]["content"] == "Hello! How can I help you today?"
    assert (await answer(engine, {"model": "m", "messages": user("hello")}))["object"] == "chat.completion"
    reply = await post(engine, {"inputs": "hello"})
    assert (reply.status, await told(reply)) == (
        422,
        "Failed to deserialize the JSON body into the target type: missing field `messages` at line 1 column 19",
    )


@since("3.0")
@pytest.mark.parametrize("said", [{}, {"max_new_tokens": None}], ids=["unsaid", "null"])
async def test_how_long_an_answer_gets_unless_told(said: dict[str, None], release: str, changed: bool) -> None:
    body = {"inputs": "count to 100", "parameters": {"details": True} | said}
    reply = await answer(build(f"tgi-{release}"), body, "/generate")
    # Null always meant all there is room for, here to the end of the counting.
    assert reply["details"]["generated_tokens"] == (391 if changed or said else 100)
    chatted = await chat(release, "count to 100")
    assert chatted["usage"]["completion_tokens"] == (391 if changed else 100)


@since("2.2")
async def test_temperature_0_is_greedy_in_chats(release: str, changed: bool) -> None:
    reply = await post(build(f"tgi-{release}"), {"model": "m", "messages": user("hello"), "temperature": 0}, CHAT)
    assert reply.status == (200 if changed else 422)


@since("3.1")
async def test_the_model_in_a_reply_is_the_one_in_the_request(release: str, changed: bool) -> None:
    assert (await chat(release, "hello"))["model"] == ("m" if changed else "local")


@pytest.mark.parametrize(
    ("release", "options", "prompt_tokens"),
    [
        pytest.param("2.4", {}, 17, id="2.4"),
        pytest.param("3.0", {}, 0, id="3.0"),
        pytest.param("3.1", {}, 0, id="3.1"),
        pytest.param("3.1", {"prefill_logprobs": True}, 17, id="3.1-with-prefill-logprobs"),
        pytest.param("3.2", {}, 17, id="3.2"),
    ],
)
async def test_prompts_that_were_not_counted(release: str, options: dict[str, object], prompt_tokens: int) -> None:
    engine = build(f"tgi-{release}", **options)
    usage = (await answer(engine, {"model": "m", "messages": user("repeat: a")}, CHAT))["usage"]
    assert usage == {"prompt_tokens": prompt_tokens, "completion_tokens": 2, "total_tokens": prompt_tokens + 2}


@pytest.mark.parametrize("release", RELEASES)
async def test_where_a_streams_usage_is(release: str) -> None:
    made = await chunks(release, "repeat: a", stream_options={"include_usage": True})
    usage = {"prompt_tokens": 17, "completion_tokens": 2, "total_tokens": 19}
    told = [(len(chunk["choices"]), chunk.get("usage", "absent")) for chunk in made if chunk != "[DONE]"]
    if release < "2.3":
        assert told == [(1, "absent"), (1, "absent")]
    elif release < "3.2":
        assert told == [(1, None), (1, usage)]
    else:
        assert told == [(1, None), (1, None), (0, usage)]


@pytest.mark.parametrize("release", RELEASES)
async def test_a_refusal_within_a_chats_stream(release: str) -> None:
    message = "Input validation error: `top_p` must be > 0.0 and < 1.0"
    said = await chunks(release, "hello", top_p=1.0)
    if release < "2.4":
        expected: list[Any] = [{"error": message, "error_type": "validation"}]
    elif release < "3.0":
        expected = []  # It is left out.
    else:
        expected = [{"error": {"message": message, "http_status_code": 422}}]
    assert said == (expected if release < "2.2" else [*expected, "[DONE]"])


@since("2.1")
async def test_log_probabilities_need_alternatives(release: str, changed: bool) -> None:
    listed = (await chat(release, "repeat: a", logprobs=True, max_tokens=1))["choices"][0]["logprobs"]
    said = {"token": "a", "logprob": -0.770432, "top_logprobs": []}
    assert listed == {"content": [said] if changed else []}


# Tools


@pytest.mark.parametrize("release", RELEASES)
async def test_a_tool_call(release: str) -> None:
    message = (await chat(release, "weather in Rome", **CALLING))["choices"][0]["message"]
    function: dict[str, Any] = {"description": None, "name": "get_weather"}
    if release < "2.0":
        function |= {"name": "tools", "parameters": {"city": "Rome"}}
    else:
        function["arguments"] = {"city": "Rome"} if release < "3.2" else '{"city":"Rome"}'
    call = {"id": 0 if release < "2.2" else "0", "type": "function", "function": function}
    assert message == {"role": "assistant", "tool_calls": [call]}


@pytest.mark.parametrize("release", RELEASES)
async def test_a_streamed_tool_call(release: str) -> None:
    made = [chunk for chunk in await chunks(release, "weather in Rome", **CALLING) if chunk != "[DONE]"]
    deltas = [chunk["choices"][0]["delta"]["tool_calls"] for chunk in made if "tool_calls" in str(chunk)]
    calls = [delta[0] if release >= "3.2" else delta for delta in deltas]
    arguments = "".join(call["function"]["arguments"] for call in calls)
    named = {call["function"]["name"] for call in calls}
    if release >= "3.2":
        assert (arguments, named, calls[0]["id"]) == ('{ "city": "Rome"}', {"get_weather", None}, "0")
    else:
        written = '"city": "Rome"}}'
        written = '{"function": {' + ("" if release == "1.4" else '"_name": "get_weather", ') + written
        # The token that ends the answer is taken for a piece of the arguments.
        assert arguments == written + "<|im_end|>"
        assert (named, calls[0]["id"]) == ({None}, "")


@pytest.mark.parametrize("release", RELEASES)
async def test_an_answer_that_needs_no_tool(release: str) -> None:
    message = (await chat(release, "hello", temperature=0.5, **CALLING))["choices"][0]["message"]
    if release >= "2.4":
        assert message == {"role": "assistant", "content": "Hello! How can I help you today?"}
        return
    function = message["tool_calls"][0]["function"]
    if release >= "2.2":
        assert function["name"] == "notify_error"
        assert function["arguments"] == {"error": "Hello! How can I help you today?"}
    else:
        assert function["arguments" if release > "1.4" else "parameters"] == {"city": "Paris"}


@pytest.mark.parametrize("release", ["2.4", "3.0", "3.1", "3.2", "3.3"])
async def test_a_streamed_answer_that_needs_no_tool(release: str) -> None:
    made = [chunk for chunk in await chunks(release, "hello", **CALLING) if chunk != "[DONE]"]
    assert "".join(chunk["choices"][0]["delta"]["content"] for chunk in made) == "Hello! How can I help you today?"


@since("2.1")
async def test_tools_without_a_choice(release: str, changed: bool) -> None:
    reply = await chat(release, "weather in Rome", tools=[WEATHER])
    assert ("tool_calls" in reply["choices"][0]["message"]) is changed


@pytest.mark.parametrize(
    ("choice", "calls"),
    [
        pytest.param(None, True, id="null"),
        pytest.param("none", False, id="none"),
        pytest.param("get_weather", True, id="a-name"),
        pytest.param({"function": {"name": "get_weather"}}, True, id="a-function"),
        pytest.param({"type": "function"}, "function key not found in tool choice", id="no-function"),
        pytest.param(5, "invalid token format", id="a-number"),
    ],
)
async def test_what_a_choice_of_tools_was_in_2_0(choice: Any, calls: bool | str) -> None:
    body = {"model": "m", "messages": user("weather"), "tools": [WEATHER], "tool_choice": choice}
    reply = await post(build("tgi-2.0"), body, CHAT)
    said = await told(reply)
    if isinstance(calls, str):
        assert (reply.status, calls in said) == (422, True)
    else:
        assert ("tool_calls" in json.loads(said)["choices"][0]["message"]) is calls


@since("2.4")
async def test_a_required_tool(release: str, changed: bool) -> None:
    body = {"model": "m", "messages": user("hello"), "tools": [WEATHER], "tool_choice": "required"}
    reply = await post(build(f"tgi-{release}"), body, CHAT)
    assert reply.status == (200 if changed else 422)
    if release == "1.4":
        assert json.loads(await told(reply)) == {
            "error": "Tool choice not found in tool names",
            "error_type": "Tool not found",
        }
    elif not changed:
        assert json.loads(await told(reply)) == {
            "error": "Tool error: Tool with name required not found",
            "error_type": "tool_error",
        }


@pytest.mark.parametrize("release", ["2.4", "3.0", "3.1"])
async def test_up_to_3_1_an_answer_without_a_tool_costs_the_tokens_of_its_json(release: str) -> None:
    assert (await chat(release, "hello", **CALLING))["usage"]["completion_tokens"] == 34
    assert (await chat("3.2", "hello", **CALLING))["usage"]["completion_tokens"] == 10


@since("2.1")
async def test_what_info_calls_the_longest_prompt(release: str, changed: bool) -> None:
    tgi = build(f"tgi-{release}").tgi
    assert tgi is not None
    assert json.loads(tgi.info())["max_input_tokens" if changed else "max_input_length"] == 8191


@pytest.mark.parametrize(
    ("release", "status"), [("tgi-1.4", 422), ("tgi-2.0.1", 422), ("tgi-2.0.2", 200), ("tgi-2.1", 200)]
)
async def test_a_message_may_be_in_parts(release: str, status: int) -> None:
    parts = [{"type": "text", "text": "hel"}, {"type": "text", "text": "lo"}]
    body = {"model": "tgi", "messages": [{"role": "user", "content": parts}]}
    assert (await post(build(release), body, CHAT)).status == status
