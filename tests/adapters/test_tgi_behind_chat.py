"""TGI's chats in OpenAI's exact shape: whole, streamed and gathered, of every version's making."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.base import Adapter, Usage
from adapters.errors import ContainerFault, FaultKind
from adapters.registry import make
from adapters.tgi.behind_frames import Stamp
from tests.adapters.behind import (
    DONE,
    answered,
    chunk,
    counted,
    dumps,
    faulted,
    gathered,
    malformed,
    said,
    sse,
    streamed,
)
from tests.adapters.calls import chat


def container(version: str) -> Adapter:
    return make("tgi", version, messages_api=version < "2.4", new_stamp=lambda: Stamp("abc", 1700000000))


TGI, TGI_2_4, TGI_2_0 = container("3.3"), container("2.4"), container("2.0")
TOOLS = [{"type": "function", "function": {"name": name}} for name in ("look", "find")]
STREAM, USAGE = chat(stream=True), chat(stream=True, stream_options={"include_usage": True})
HEAD = {
    "id": "chatcmpl-abc",
    "object": "chat.completion.chunk",
    "created": 5,
    "model": "public",
    "system_fingerprint": "3.3",
}


def reply(message: dict[str, Any], finish: str = "stop", **more: Any) -> dict[str, Any]:
    """Return a whole reply as the newest version writes it."""
    return {
        "object": "chat.completion",
        "id": "",
        "created": 5,
        "model": "served",
        "system_fingerprint": "3.3",
        "choices": [
            {"index": 0, "message": {"role": "assistant", **message}, "logprobs": None, "finish_reason": finish}
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
        **more,
    }


def public(message: dict[str, Any], finish: str = "stop", usage: tuple[int, int] = (3, 2), logprobs: Any = None) -> Any:
    """Return what a caller gets of it."""
    counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    whole = {"role": "assistant", "refusal": None, **message}
    choice = {"index": 0, "message": whole, "logprobs": logprobs, "finish_reason": finish}
    return {**HEAD, "object": "chat.completion", "choices": [choice], "usage": counts}


def call_of(name: str, arguments: str, at: int = 0) -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"id": f"call_abc-{at}", "type": "function", "function": function}


def events(*deltas: Any, finish: str = "stop", usage: tuple[int, int] | None = None) -> list[Any]:
    """Return a stream's events: the first delta with the role, then the end."""
    made = [{"role": "assistant", "content": None if "tool_calls" in deltas[0] else "", **deltas[0]}, *deltas[1:]]
    choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in made]
    choices.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": finish})
    told: list[Any] = [HEAD | {"choices": [choice]} for choice in choices]
    if usage is not None:
        counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
        told.append(HEAD | {"choices": [], "usage": counts})
    return [*told, "[DONE]"]


# Whole


@pytest.mark.parametrize(("told", "finish"), [
    ("stop", "stop"), ("length", "length"), ("stop_sequence", "stop"), ("eos_token", "stop"),
])  # fmt: skip
def test_a_whole_chat(told: str, finish: str) -> None:
    assert answered(TGI, chat(), reply({"content": "Hello"}, told)) == (
        public({"content": "Hello"}, finish),
        Usage(3, 2),
    )


def test_older_versions_call_a_chat_a_text_completion() -> None:
    old = reply({"content": "Hello", "name": None}, "eos_token", object="text_completion")
    assert answered(TGI_2_0, chat(), old)[0] == public({"content": "Hello"})


def test_the_stop_string_is_cut_off() -> None:
    cut = answered(TGI, chat(stop="lo"), reply({"content": "Hello"}, "stop_sequence"))[0]
    assert cut == public({"content": "Hel"})


@pytest.mark.parametrize("arguments", [
    pytest.param({"a": [1, 2.5], "b": "é"}, id="an object, up to 3.1"),
    pytest.param('{"a":[1,2.5],"b":"é"}', id="a text, from 3.2 on"),
])  # fmt: skip
@pytest.mark.parametrize("number", [0, "0"], ids=["a number", "a text"])
def test_a_call_of_a_tool(arguments: Any, number: Any) -> None:
    told = {"id": number, "type": "function", "function": {"description": None, "name": "look", "arguments": arguments}}
    expected = {"content": None, "tool_calls": [call_of("look", '{"a":[1,2.5],"b":"é"}')]}
    whole, _ = answered(TGI, chat(tools=TOOLS), reply({"tool_calls": [told]}))
    assert whole == public(expected, "tool_calls")


def test_a_forced_call_ends_as_it_had_to() -> None:
    told = {"id": "0", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    call = chat(tools=TOOLS, tool_choice={"type": "function", "function": {"name": "look"}})
    assert answered(TGI, call, reply({"tool_calls": [told]}))[0]["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(("name", "argument"), [("notify_error", "error"), ("no_tool", "content")])
def test_a_function_nobody_gave_stands_for_an_answer_in_words(name: str, argument: str) -> None:
    told = {"id": 0, "type": "function", "function": {"name": name, "arguments": {argument: "I cannot."}}}
    assert answered(TGI_2_0, chat(tools=TOOLS), reply({"tool_calls": [told]}))[0] == public({"content": "I cannot."})
    own = [{"type": "function", "function": {"name": name}}]
    whole, _ = answered(TGI_2_0, chat(tools=own), reply({"tool_calls": [told]}))
    assert whole["choices"][0]["message"]["tool_calls"][0]["function"]["name"] == name


def test_log_probabilities_get_their_tokens_bytes() -> None:
    likely = [{"token": "é", "logprob": -0.5}, {"token": "\ufffd", "logprob": None}]
    content: list[Any] = [{"token": "é", "logprob": -0.5, "top_logprobs": likely}]
    given = reply({"content": "é"})
    given["choices"][0]["logprobs"] = {"content": content}
    expected = [
        {"token": "é", "logprob": -0.5, "bytes": [195, 169]},
        {"token": "\ufffd", "logprob": -9999.0, "bytes": None},
    ]
    for asked, top in ((2, expected), (1, expected[:1]), (0, [])):
        whole, _ = answered(TGI, chat(logprobs=True, top_logprobs=asked), given)
        assert whole["choices"][0]["logprobs"] == {"refusal": None, "content": [{**expected[0], "top_logprobs": top}]}
    assert answered(TGI, chat(), given)[0]["choices"][0]["logprobs"] is None


@pytest.mark.parametrize(("given", "what"), [
    (b"", "the reply is not valid JSON"),
    (b'{"a":1}', "the reply is JSON, but no chat"),
    (b"[1]", "the reply is JSON, but no chat"),
    (b'{"choices":[]}', "the reply has no choices"),
    (dumps(reply({"tool_calls": [{"function": {"arguments": "{}"}}]})), "a call of a tool has no name"),
])  # fmt: skip
def test_what_is_no_chat(given: bytes, what: str) -> None:
    assert malformed(TGI, chat(), given) == what


def test_an_error_with_status_200_is_one() -> None:
    fault = faulted(TGI, chat(), {"error": "Model is overloaded", "error_type": "overloaded"})
    assert fault == ContainerFault(FaultKind.OVERLOADED, "Model is overloaded")


# Streams of text


def test_a_stream_of_the_newest_version() -> None:
    data = sse(said("Hel"), said("lo"), said("", "stop"), counted(3, 2), done=True)
    told, summary = streamed(TGI, STREAM, data)
    assert told == events({"content": "Hel"}, {"content": "lo"})
    assert summary == (Usage(3, 2), 3, True, None, None, 0)
    assert streamed(TGI, USAGE, data)[0] == events({"content": "Hel"}, {"content": "lo"}, usage=(3, 2))


def test_a_stream_whose_last_chunk_has_the_usage() -> None:
    last = said("", "length", usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5})
    told, summary = streamed(TGI_2_4, USAGE, sse(said("Hello"), last, done=True))
    assert told == events({"content": "Hello"}, finish="length", usage=(3, 2))
    assert summary[0] == Usage(3, 2)


def test_a_stream_of_an_older_version_ends_with_its_bytes_and_tells_the_last_token() -> None:
    data = sse(said("Hello", object="text_completion"), said("</s>", "eos_token", object="text_completion"))
    told, summary = streamed(TGI_2_0, STREAM, data)
    assert told == events({"content": "Hello"})
    assert summary == (Usage(0, 2), 2, True, None, None, 0)


def test_where_no_chunk_tells_usage_the_end_mark_brings_it() -> None:
    """From 2.2 on streams end with a mark, and from 2.3 on with the usage before it."""
    data = sse(said("Hel"), said("lo"), said("</s>", "stop"), done=True)
    told, summary = streamed(TGI, USAGE, data)
    assert told == events({"content": "Hel"}, {"content": "lo"}, usage=(0, 3))
    assert summary == (Usage(0, 3), 3, True, None, None, 0)
    assert gathered(TGI, chat(), data) == public({"content": "Hello"}, usage=(0, 3))


def test_text_in_the_last_chunk_is_told_unless_its_token_ends_the_text() -> None:
    told, _ = streamed(TGI, STREAM, sse(said("Hel"), said("lo", "length"), done=True))
    assert told == events({"content": "Hel"}, {"content": "lo"}, finish="length")


@pytest.mark.parametrize(("stop", "text"), [("lo", "Hel"), ("l", "He"), ("never", "Hello you"), (["o y", "x"], "Hell")])
def test_a_stream_ends_before_its_stop_string(stop: Any, text: str) -> None:
    data = sse(said("Hel"), said("lo"), said(" you", "stop_sequence"), counted(3, 3), done=True)
    told, _ = streamed(TGI, chat(stream=True, stop=stop), data)
    assert "".join(event["choices"][0]["delta"].get("content", "") for event in told[:-1]) == text
    assert told[-2]["choices"][0]["finish_reason"] == "stop"
    assert gathered(TGI, chat(stop=stop), data) == public({"content": text}, usage=(3, 3))


def test_log_probabilities_come_with_their_chunks() -> None:
    listed = {"content": [{"token": "a", "logprob": -0.5, "top_logprobs": [{"token": "a", "logprob": -0.5}]}]}
    data = sse(said("a", logprobs=listed), said("", "stop", logprobs=listed), done=True)
    entry = {"token": "a", "logprob": -0.5, "bytes": [97]}
    expected: dict[str, Any] = {"refusal": None, "content": [{**entry, "top_logprobs": [entry]}]}
    told, _ = streamed(TGI, chat(stream=True, logprobs=True, top_logprobs=1), data)
    assert [event["choices"][0]["logprobs"] for event in told[:-1]] == [expected, expected, None]
    whole = gathered(TGI, chat(logprobs=True, top_logprobs=1), data)
    assert whole["choices"][0]["logprobs"]["content"] == expected["content"] * 2


# Streams of calls


def piece(arguments: str, name: str | None = None, finish: str | None = None) -> bytes:
    """Return a chunk of a call as versions from 3.2 on write it."""
    call = {"index": 0, "id": "0", "type": "function", "function": {"name": name, "arguments": arguments}}
    return chunk({"role": "assistant", "tool_calls": [call]}, finish)


def raw(arguments: str, finish: str | None = None) -> bytes:
    """Return a chunk of a call as versions up to 3.1 write it."""
    call = {"index": 0, "id": "", "type": "function", "function": {"name": None, "arguments": arguments}}
    return chunk({"role": "assistant", "tool_calls": call}, finish)


def begun(arguments: str, name: str = "look") -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, **call_of(name, arguments)}]}


def more(arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "function": {"arguments": arguments}}]}


@pytest.mark.parametrize(("pieces", "told"), [
    pytest.param([piece("{", "look"), piece('"a":'), piece(" 1"), piece("}")],
                 [begun("{"), more('"a":'), more(" 1"), more("}")], id="as it should be"),
    pytest.param([piece("{", "look"), piece(', "a": 1'), piece("}"), piece("")],
                 [begun("{"), more('"a": 1'), more("}")], id="with the comma that came behind the name"),
    pytest.param([piece("{", "look")], [begun("{"), more("}")], id="with its end in the name's token"),
])  # fmt: skip
def test_a_call_comes_piece_by_piece_and_ends_with_the_end_mark(pieces: list[bytes], told: list[Any]) -> None:
    data = sse(*pieces, counted(3, 4), done=True)
    call = chat(stream=True, tools=TOOLS, stream_options={"include_usage": True})
    assert streamed(TGI, call, data)[0] == events(*told, finish="tool_calls", usage=(3, 4))
    arguments = "".join(delta["tool_calls"][0]["function"]["arguments"] for delta in told)
    expected = {"content": None, "tool_calls": [call_of("look", arguments)]}
    assert gathered(TGI, chat(tools=TOOLS), data) == public(expected, "tool_calls", (3, 4))


def test_a_call_that_met_its_cap_says_so() -> None:
    data = sse(piece("{", "look"), piece('"a', finish="length"), counted(3, 4), done=True)
    told, _ = streamed(TGI, chat(stream=True, tools=TOOLS), data)
    assert told == events(begun("{"), more('"a'), finish="length")


@pytest.mark.parametrize("pieces", [
    pytest.param(['{"function": {"_name": "look", "a"', ": 1}}"], id="2.0 to 3.1"),
    pytest.param(['{"function": {"_name": "look", "a": 1}}', "<|eot_id|>"], id="with the token behind it"),
    pytest.param(['"_name": "look", "a": 1}}'.join(['{"function": {', ""])], id="in one piece"),
])  # fmt: skip
@pytest.mark.parametrize("finish", ["eos_token", "stop", None])
def test_a_call_in_the_grammars_own_text(pieces: list[str], finish: str | None) -> None:
    ending = [raw("</s>", finish)] if finish else []
    data = sse(*map(raw, pieces), *ending, done=True)
    for adapter in (TGI_2_0, TGI_2_4):
        told, _ = streamed(adapter, chat(stream=True, tools=TOOLS), data)
        assert told == events(begun('{"a":1}'), finish="tool_calls")
        whole = gathered(adapter, chat(tools=TOOLS), data)
        assert whole["choices"][0]["message"]["tool_calls"] == [call_of("look", '{"a":1}')]


def test_a_grammars_text_may_stand_for_words() -> None:
    data = sse(raw('{"function": {"_name": "notify_error", '), raw('"error": "I cannot."}}'), raw("", "eos_token"))
    assert streamed(TGI_2_0, chat(stream=True, tools=TOOLS), data)[0] == events({"content": "I cannot."})
    whole = gathered(TGI_2_0, chat(tools=TOOLS), data)
    assert whole == public({"content": "I cannot."}, usage=(0, 3))


@pytest.mark.parametrize("pieces", [
    pytest.param([raw('{"function": {"_name": "look", "a'), raw("", "length")], id="raw text"),
    pytest.param([piece("{", "look"), piece('"a')], id="pieces, with the end mark behind them"),
])  # fmt: skip
def test_a_call_that_broke_off_is_no_call(pieces: list[bytes]) -> None:
    data = sse(*pieces, done=True)
    fault = ContainerFault(FaultKind.FAILED, "The model's call of a tool broke off.")
    told, summary = streamed(TGI_2_4, chat(stream=True, tools=TOOLS), data)
    assert "[DONE]" not in told
    assert summary[2:5] == (False, fault, None)
    assert gathered(TGI_2_4, chat(tools=TOOLS), data) == fault


# Words where there are tools


def test_words_in_place_of_a_call_end_with_the_end_mark_and_lose_jsons_escapes() -> None:
    data = sse(said("a\\"), said("nb \\u00"), said("e9 \\ud83d"), said("\\ude00 \\\\"), done=True)
    told, _ = streamed(TGI_2_4, chat(stream=True, tools=TOOLS), data)
    deltas = [{"content": text} for text in ("a", "\nb ", "é ", "😀 \\")]
    assert told == events(*deltas)
    assert gathered(TGI_2_4, chat(tools=TOOLS), data) == public({"content": "a\nb é 😀 \\"}, usage=(0, 4))


def test_other_versions_and_chats_without_tools_have_no_escapes() -> None:
    data = sse(said("a\\nb"), said("", "stop"), done=True)
    for adapter, call in ((TGI_2_4, STREAM), (TGI, chat(stream=True, tools=TOOLS))):
        assert streamed(adapter, call, data)[0] == events({"content": "a\\nb"})


def test_without_tools_an_end_mark_is_no_end() -> None:
    told, summary = streamed(TGI, STREAM, sse(said("a"), done=True))
    assert len(told) == 1
    assert summary[2:5] == (False, None, "the stream ended before the answer did")


# What goes wrong


@pytest.mark.parametrize(("data", "what"), [
    pytest.param(b"", "the stream holds no answer", id="nothing"),
    pytest.param(sse(said("a")), "the stream ended before the answer did", id="cut"),
    pytest.param(sse(said("a"), b"{"), "a record of the stream is not valid JSON", id="no JSON"),
    pytest.param(sse(b'{"a":1}'), "a record of the stream is JSON, but no chunk of a chat", id="another schema"),
])  # fmt: skip
def test_a_broken_stream_is_told_and_gets_no_end(data: bytes, what: str) -> None:
    told, summary = streamed(TGI, STREAM, data)
    assert "[DONE]" not in told
    assert summary[2:5] == (False, None, what)
    assert gathered(TGI, chat(), data) == what


@pytest.mark.parametrize("error", [
    pytest.param({"error": {"message": "Request failed during generation: x", "http_status_code": 422}}, id="3.0 on"),
    pytest.param({"error": "Request failed during generation: x", "error_type": "generation"}, id="before"),
])  # fmt: skip
def test_an_error_in_a_stream_is_a_fault(error: Any) -> None:
    fault = ContainerFault(FaultKind.FAILED, "Request failed during generation: x")
    told, summary = streamed(TGI, STREAM, sse(said("a"), dumps(error), done=True))
    assert len(told) == 1
    assert summary[2:5] == (False, fault, None)
    assert gathered(TGI, chat(), sse(dumps(error), done=True)) == fault


def test_an_error_that_2_4_left_out_is_a_refusal_nobody_explained() -> None:
    told, summary = streamed(TGI_2_4, STREAM, DONE)
    assert told == []
    assert summary[3].kind is FaultKind.REJECTED
    assert gathered(TGI_2_4, chat(), DONE).kind is FaultKind.REJECTED


def test_what_comes_after_the_end_is_counted_and_dropped() -> None:
    data = sse(said("a"), said("", "stop"), said("b"), done=True) + sse(said("c"))
    told, summary = streamed(TGI, STREAM, data)
    assert told == events({"content": "a"})
    assert summary[5] == 2


def test_records_and_answers_have_limits() -> None:
    small = make("tgi", "3.3", max_event_bytes=400, max_reply_bytes=700)
    assert streamed(small, STREAM, sse(said("a" * 400)))[1][4] == "a record of the stream is too long"
    assert gathered(small, chat(), sse(*[said("a")] * 3, said("", "stop"), done=True)) == "the answer is too long"
    assert malformed(small, chat(), dumps(reply({"content": "a" * 700}))) == "the reply is too long"


def test_a_gathered_stream_is_the_whole_reply() -> None:
    data = sse(said("Hel"), said("lo", "length"), counted(3, 2), done=True)
    assert gathered(TGI, chat(), data) == answered(TGI, chat(), reply({"content": "Hello"}, "length"))[0]
