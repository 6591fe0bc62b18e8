"""Tool calls of older versions of vLLM: numbered, named and ended as OpenAI has it, streamed, whole and gathered."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.openai.toolcalls import CallMends, call_mends
from adapters.registry import make
from tests.adapters.calls import DONE, chat, pieces, relayed, whole_reply
from tests.adapters.engines import DIALECTS, assembled, minor_of, streamed, whole

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
TIME = {
    "type": "function",
    "function": {
        "name": "get_time",
        "parameters": {"type": "object", "properties": {"zone": {"type": "string"}}, "required": ["zone"]},
    },
}
NAMED = {"type": "function", "function": {"name": "get_time"}}
TOOLS: dict[str, Any] = {"tools": [WEATHER, TIME]}
THINKING: dict[str, Any] = {"chat_template_kwargs": {"enable_thinking": True}}
# What is asked → the tools each choice calls, and how each choice ends.
ASKED: dict[str, tuple[str, dict[str, Any], list[list[str]], str]] = {
    "auto": ("weather in Rome?", {}, [["get_weather"]], "tool_calls"),
    "auto, two": ("both", {"tool_choice": "auto"}, [["get_weather", "get_time"]], "tool_calls"),
    "auto, none": ("hello", {"tool_choice": "auto"}, [[]], "stop"),
    "none": ("weather in Rome?", {"tool_choice": "none"}, [[]], "stop"),
    "required": ("hello", {"tool_choice": "required"}, [["get_weather"]], "tool_calls"),
    "required, two": ("both", {"tool_choice": "required"}, [["get_weather", "get_time"]], "tool_calls"),
    "named": ("hello", {"tool_choice": NAMED}, [["get_time"]], "stop"),
    "auto, of two choices": ("both", {"n": 2}, [["get_weather", "get_time"]] * 2, "tool_calls"),
    "required, of two choices": ("hello", {"tool_choice": "required", "n": 2}, [["get_weather"]] * 2, "tool_calls"),
    "named, of two choices": ("hello", {"tool_choice": NAMED, "n": 2}, [["get_time"]] * 2, "stop"),
    "auto, after thoughts": ("weather in Rome?", THINKING, [["get_weather"]], "tool_calls"),
    "required, after thoughts": (
        "hello", {**THINKING, "tool_choice": "required"}, [["get_weather"]], "tool_calls",
    ),
    "named, after thoughts": ("hello", {**THINKING, "tool_choice": NAMED}, [["get_time"]], "stop"),
    "an empty list": ("hello", {"tools": [], "tool_choice": "auto"}, [[]], "stop"),
}  # fmt: skip


def asked(name: str) -> dict[str, Any]:
    question, more, _, _ = ASKED[name]
    return {**TOOLS, "messages": [{"role": "user", "content": question}], "temperature": 0.7, "seed": 1, **more}


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_whole_reply_calls_tools_alike_in_every_version(dialect: str, name: str) -> None:
    for reply in (whole(dialect, **asked(name)), assembled(dialect, **asked(name))):
        _, _, tools, finish = ASKED[name]
        calls = [choice["message"].get("tool_calls") or [] for choice in reply["choices"]]
        assert [[call["function"]["name"] for call in made] for made in calls] == tools
        assert [choice["finish_reason"] for choice in reply["choices"]] == [finish] * len(tools)
        ids = [call["id"] for made in calls for call in made]
        assert len(set(ids)) == len(ids)
        assert all(made_up.startswith("chatcmpl-tool-") for made_up in ids)
        for call in (call for made in calls for call in made):
            assert set(call) == {"id", "type", "function"}
            json.loads(call["function"]["arguments"])


@pytest.mark.parametrize("name", ASKED)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_stream_calls_tools_alike_in_every_version(dialect: str, name: str) -> None:
    _, _, tools, finish = ASKED[name]
    calls: dict[tuple[int, int], list[dict[str, Any]]] = {}
    ends: dict[int, str] = {}
    for chunk in streamed(dialect, **asked(name)):
        for choice in chunk["choices"]:
            assert choice["index"] not in ends, "a choice goes on after its end"
            for call in choice["delta"].get("tool_calls") or ():
                calls.setdefault((choice["index"], call["index"]), []).append(call)
            if choice["finish_reason"] is not None:
                ends[choice["index"]] = choice["finish_reason"]
    assert ends == dict.fromkeys(range(len(tools)), finish)
    assert sorted(calls) == [(choice, at) for choice, names in enumerate(tools) for at in range(len(names))]
    ids = set()
    for (choice, at), (first, *later) in calls.items():
        assert first["function"]["name"] == tools[choice][at]
        assert first["type"] == "function"
        ids.add(first["id"])
        for call in later:
            assert (call.get("id"), call.get("type"), call["function"].get("name")) == (None, None, None)
        json.loads("".join(call["function"].get("arguments") or "" for call in (first, *later)))
    assert len(ids) == len(calls)


@pytest.mark.parametrize(
    ("minor", "fields", "mends"),
    [
        pytest.param(8, {"tools": [TIME]}, CallMends(True, False, {}), id="0.8 auto"),
        pytest.param(9, {"tools": [TIME], "tool_choice": "required"},
                     CallMends(True, False, {"stop": "tool_calls"}), id="0.9 required"),
        pytest.param(9, {"tools": [TIME], "tool_choice": NAMED},
                     CallMends(True, False, {"tool_calls": "stop"}), id="0.9 named"),
        pytest.param(9, {"tools": [TIME], "tool_choice": "none"}, None, id="0.9 none"),
        pytest.param(9, {"tools": []}, None, id="0.9 without tools"),
        pytest.param(9, {}, None, id="0.9 text"),
        pytest.param(10, {"tools": [TIME]}, None, id="0.10 auto"),
        pytest.param(10, {"tools": [TIME], "tool_choice": "required"},
                     CallMends(False, False, {"stop": "tool_calls"}), id="0.10 required"),
        pytest.param(11, {"tools": [TIME], "tool_choice": "required"}, None, id="0.11 required"),
        pytest.param(11, {"tools": [TIME], "tool_choice": NAMED}, None, id="0.11 named"),
        pytest.param(21, {"tools": [TIME], "tool_choice": NAMED, "n": 2}, CallMends(False, True, {}), id="0.21 named"),
        pytest.param(22, {"tools": [TIME], "tool_choice": NAMED, "n": 2}, None, id="0.22 named"),
    ],
)  # fmt: skip
def test_only_what_a_version_gets_wrong_is_mended(minor: int, fields: dict[str, Any], mends: CallMends | None) -> None:
    assert call_mends(chat(**fields), minor) == mends


HEAD = {"id": "chatcmpl-7", "object": "chat.completion.chunk", "created": 5, "model": "lmi"}


def lines(*records: dict[str, Any]) -> bytes:
    return b"".join(json.dumps(record, separators=(",", ":")).encode() + b"\n" for record in records) + b"\n"


def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {**HEAD, "choices": [{"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}]}


def usage(completion: int) -> dict[str, Any]:
    counts = {"prompt_tokens": 9, "total_tokens": 9 + completion, "completion_tokens": completion}
    return {**HEAD, "choices": [], "usage": counts}


def deltas_of(events: list[bytes]) -> list[Any]:
    assert events[-1] == DONE
    chunks = [json.loads(event.removeprefix(b"data: ")) for event in events[:-1]]
    return [choice["delta"] for chunk in chunks for choice in chunk["choices"]]


def tool(index: int, **more: Any) -> dict[str, Any]:
    return {"tool_calls": [{**more, "index": index}]}


def begun(index: int, made_up: str, **function: str) -> dict[str, Any]:
    return {"tool_calls": [{"id": made_up, "type": "function", "index": index, "function": function}]}


NO_CALLS: list[dict[str, Any]] = [{"content": "a"}, {"tool_calls": []}, {"tool_calls": None}]


@pytest.mark.parametrize(
    ("sent", "got"),
    [
        pytest.param(
            [tool(0, function={"name": "f", "arguments": "{"}), tool(0, function={"name": "f", "arguments": "}"})],
            [begun(0, "chatcmpl-tool-7-0-0", name="f", arguments="{"), tool(0, function={"arguments": "}"})],
            id="0.8: a named tool, its name in every delta, and no id",
        ),
        pytest.param(
            [
                tool(0, type="function", function={"name": "f", "arguments": "{"}),
                tool(0, type="function", function={"name": None, "arguments": "}"}),
                tool(1, type="function", function={"name": "g", "arguments": "{}"}),
            ],
            [
                begun(0, "chatcmpl-tool-7-0-0", name="f", arguments="{"),
                tool(0, function={"arguments": "}"}),
                begun(1, "chatcmpl-tool-7-0-1", name="g", arguments="{}"),
            ],
            id="0.8: required tools, a type in every delta, and no id",
        ),
        pytest.param(
            [
                tool(0, id="a", type="function", function={"name": "f"}),
                tool(0, id="b", type="function", function={"arguments": "{}"}),
                tool(0, id="c", function={}),
                tool(0, id="d"),
            ],
            [
                begun(0, "a", name="f"),
                tool(0, function={"arguments": "{}"}),
                tool(0, function={"arguments": ""}),
                tool(0, function={"arguments": ""}),
            ],
            id="an id in every delta: the first counts",
        ),
        pytest.param(
            [
                tool(0, id="a", function={"arguments": ""}),
                tool(0, function={"name": "f"}),
                tool(0, function={"name": "f", "arguments": "{}"}),
            ],
            [begun(0, "a", arguments=""), tool(0, function={"name": "f"}), tool(0, function={"arguments": "{}"})],
            id="a name that comes later",
        ),
        pytest.param(NO_CALLS, NO_CALLS, id="no call"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("size", [1, 4096])
def test_deltas_of_old_versions_are_mended(sent: list[Any], got: list[Any], size: int) -> None:
    decoder = make("lmi", "15").stream_decoder(chat(stream=True, tools=[TIME]))
    data = lines(*(chunk(0, delta) for delta in sent), chunk(0, {}, "stop"), usage(3))
    events = relayed(decoder, pieces(data, size))
    assert deltas_of(events) == [*got, {}]
    assert b'"model":"public"' in events[0]


def test_deltas_of_newer_versions_are_passed_on_as_they_are() -> None:
    sent = [tool(0, id="a", type="function", function={"name": "f"}), tool(0, id="b", function={"name": "f"})]
    for version in ("16", "27"):
        decoder = make("lmi", version).stream_decoder(chat(stream=True, tools=[TIME]))
        assert deltas_of(relayed(decoder, [lines(*(chunk(0, delta) for delta in sent), chunk(0, {}, "stop"))])) == [
            *sent,
            {},
        ]


def test_a_chunk_that_cannot_be_mended_is_passed_on() -> None:
    odd: dict[str, Any] = {"tool_calls": [{"index": "first", "function": 5}]}
    decoder = make("lmi", "15").stream_decoder(chat(stream=True, tools=[TIME]))
    assert deltas_of(relayed(decoder, [lines(chunk(0, odd), chunk(0, {}, "stop"))])) == [odd, {}]


REQUIRED: dict[str, Any] = {"tools": [TIME], "tool_choice": "required"}
CALLED = tool(0, function={"name": "get_time", "arguments": "{}"})


@pytest.mark.parametrize(
    ("fields", "delta", "tokens", "finish"),
    [
        pytest.param({}, {"content": "a"}, 3, "stop", id="text"),
        pytest.param({"max_tokens": 3}, {"content": "a"}, 3, "length", id="text up to the cap"),
        pytest.param({"tools": [TIME]}, CALLED, 3, "tool_calls", id="a call"),
        pytest.param({"tools": [TIME], "max_tokens": 3}, CALLED, 3, "tool_calls", id="a call up to the cap"),
        pytest.param(REQUIRED, CALLED, 3, "tool_calls", id="a required call"),
        pytest.param({**REQUIRED, "max_tokens": 3}, CALLED, 3, "length", id="a required call up to the cap"),
        pytest.param({"tools": [TIME], "tool_choice": NAMED}, CALLED, 3, "stop", id="a named call"),
    ],
)
def test_an_end_that_old_versions_leave_out_is_told(
    fields: dict[str, Any], delta: dict[str, Any], tokens: int, finish: str
) -> None:
    data = lines(chunk(0, delta), usage(tokens))
    for asks in (True, False):
        options: dict[str, Any] = {"stream": True, "stream_options": {"include_usage": asks}}
        decoder = make("lmi", "15").stream_decoder(chat(**fields, **options))
        events = relayed(decoder, [data])
        end = {"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish}
        assert json.loads(events[1].removeprefix(b"data: ")) == {**HEAD, "model": "public", "choices": [end]}
        assert len(events) == (4 if asks else 3)
        assert events[-1] == DONE
    assembler = make("lmi", "15").assembler(chat(**fields))
    assembler.feed(data)
    reply = assembler.end()
    assert reply is not None
    assert json.loads(reply.body)["choices"][0]["finish_reason"] == finish


def test_each_choice_without_an_end_gets_one() -> None:
    data = lines(chunk(0, {"content": "a"}), chunk(1, {"content": "b"}, "length"), chunk(2, {"content": "c"}), usage(9))
    decoder = make("lmi", "15").stream_decoder(chat(stream=True, n=3))
    events = relayed(decoder, [data])
    ends = [json.loads(event.removeprefix(b"data: "))["choices"][0] for event in events[3:-1]]
    assert [(end["index"], end["finish_reason"]) for end in ends] == [(0, "stop"), (2, "stop")]


def test_a_stream_that_stops_gets_no_made_up_end() -> None:
    decoder = make("lmi", "15").stream_decoder(chat(stream=True))
    assert len(relayed(decoder, [lines(chunk(0, {"content": "a"}))])) == 1
    assert decoder.malformed == "the stream ended before the answer did"


def test_a_whole_reply_keeps_every_byte_but_its_end_and_gets_what_the_schema_demands() -> None:
    body = (
        b'{"id":"chatcmpl-7","object":"chat.completion","created":5,"model":"lmi","choices":[{"index":0,"message":'
        b'{"role":"assistant","content":"","tool_calls":[{"id":"a","type":"function","function":{"name":"f",'
        b'"arguments":"{\\"x\\": 1.50}"}}]},"logprobs":null,"finish_reason":"%b","stop_reason":null},{"index":1,'
        b'"message":{"role":"assistant","content":"a","tool_calls":[]},"finish_reason":"stop"}],"usage":null}'
    )
    mended = body.replace(b'"lmi"', b'"public"').replace(b'"assistant",', b'"assistant","refusal":null,')
    reply = whole_reply(make("lmi", "15"), chat(**REQUIRED, n=2), body % b"stop")
    assert reply.body == mended % b"tool_calls"
    cut = whole_reply(make("lmi", "15"), chat(**REQUIRED, n=2), body % b"length")
    assert cut.body == mended % b"length"


def test_the_dialects_stand_for_every_kind_of_version() -> None:
    assert sorted({minor_of(dialect) for dialect in DIALECTS}) == [8, 9, 10, 11, 12, 15, 18, 23, 33]
