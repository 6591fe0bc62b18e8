"""A stream gathered into the whole reply: against recorded pairs of the same request, and by version."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.base import Adapter, Assembler, Call, Usage, Whole
from adapters.errors import FaultKind
from adapters.openai.assemble import prefers_stream, streamable
from adapters.openai.request import FieldPolicy
from adapters.registry import make
from tests.adapters.calls import (
    Recording,
    chat,
    completion,
    pieces,
    recording,
    recordings_of_answers,
    whole_reply,
)

FREE = FieldPolicy(allow_fields=frozenset({"kv_transfer_params", "best_of", "logits_processors"}))


def assembled(adapter: Adapter, call: Call, data: bytes, size: int = 61) -> tuple[Whole | None, Assembler]:
    assembler = adapter.assembler(call)
    for piece in pieces(data, size):
        assembler.feed(piece)
    return assembler.end(), assembler


def without_identity(value: Any) -> Any:
    """Drop what two calls cannot share: ids, times and the build's fingerprint."""
    if isinstance(value, dict):
        return {k: without_identity(v) for k, v in value.items() if k not in ("id", "created", "system_fingerprint")}
    if isinstance(value, list):
        return [without_identity(item) for item in value]
    return value


def same_request(exchange: Recording) -> str:
    fields = {k: v for k, v in exchange.request.items() if k not in ("stream", "stream_options", "model")}
    return json.dumps([exchange.name.split("-")[:2], fields], sort_keys=True)


def find_pairs() -> list[tuple[Recording, Recording]]:
    whole: dict[str, Recording] = {}
    for exchange in recordings_of_answers(stream=False):
        whole[same_request(exchange)] = exchange  # of several the last, whose prompt was as cached as the stream's
    # A stream without its usage chunk is none the gateway asks for.
    streams = [one for one in recordings_of_answers(stream=True) if b'"choices":[],"usage"' in one.reply]
    return [(one, whole[same_request(one)]) for one in streams if same_request(one) in whole]


# A tool call that was cut or broken: the parser of whole replies gives up and returns the raw text, the parser of
# streams has sent what it understood. docs/unary-streaming.md, "What differs".
UNFINISHED_CALLS = {
    "vllm032-scripted-chat-tool-cut-stream": ("length", "length", '{"city": "Paris",'),
    "vllm032-scripted-chat-tool-broken-stream": ("stop", "tool_calls", '{"city": "Par'),
    "vllm032-scripted-chat-tool-required-length-stream": ("length", "length", '"arguments in Paris. I'),
}
PAIRS = find_pairs()


def test_there_are_pairs_of_every_kind() -> None:
    names = [one.name for one, _ in PAIRS]
    assert len(names) == 31
    assert names == sorted(set(names))


@pytest.mark.parametrize(
    ("streamed", "whole"),
    [pytest.param(*pair, id=pair[0].name) for pair in PAIRS if pair[0].name not in UNFINISHED_CALLS],
)
def test_the_assembled_stream_is_the_whole_reply(streamed: Recording, whole: Recording) -> None:
    call = streamed.call(stream=False, stream_options=None)
    expected = whole_reply(whole.adapter, call, whole.reply)
    for size in (1, 100, len(streamed.reply)):
        reply, assembler = assembled(streamed.adapter, call, streamed.reply, size)
        assert reply is not None, (assembler.fault, assembler.malformed)
        got, wanted = (without_identity(json.loads(one.body)) for one in (reply, expected))
        assert json.dumps(got) == json.dumps(wanted)  # the order of fields, too
        assert reply.usage == expected.usage
        head = json.loads(streamed.reply.removeprefix(b"data: ").splitlines()[0])
        body = json.loads(reply.body)
        assert (body["id"], body["created"], body["model"]) == (head["id"], head["created"], "public")


@pytest.mark.parametrize(
    ("streamed", "whole"),
    [pytest.param(*pair, id=pair[0].name) for pair in PAIRS if pair[0].name in UNFINISHED_CALLS],
)
def test_an_unfinished_tool_call_differs_as_documented(streamed: Recording, whole: Recording) -> None:
    whole_finish, stream_finish, arguments = UNFINISHED_CALLS[streamed.name]
    call = streamed.call(stream=False, stream_options=None)
    (wanted,) = json.loads(whole_reply(whole.adapter, call, whole.reply).body)["choices"]
    assert "tool_calls" not in wanted["message"]
    assert wanted["message"]["content"].startswith("<tool_call>")
    assert wanted["finish_reason"] == whole_finish
    reply, _ = assembled(streamed.adapter, call, streamed.reply)
    assert reply is not None
    (got,) = json.loads(reply.body)["choices"]
    assert got["message"]["tool_calls"][0]["function"]["arguments"] == arguments
    assert got["finish_reason"] == stream_finish
    for choice in (got, wanted):
        del choice["message"], choice["finish_reason"]
    assert got == wanted


def test_cached_tokens_have_their_details() -> None:
    exchange = recording("vllm032-options-chat-cached-tokens-3-stream")
    reply, _ = assembled(exchange.adapter, exchange.call(stream=False, stream_options=None), exchange.reply)
    assert reply is not None
    assert json.loads(reply.body)["usage"]["prompt_tokens_details"] == {
        "cached_tokens": 256,
        "created_cache_tokens": 0,
        "multimodal_tokens": None,
    }
    assert reply.usage == Usage(263, 26, 256)


@pytest.mark.parametrize("exchange", recordings_of_answers(stream=True), ids=lambda exchange: exchange.name)
def test_every_recorded_stream_gives_a_whole_reply(exchange: Recording) -> None:
    call = exchange.call(stream=False, stream_options=None)
    reply, assembler = assembled(exchange.adapter, call, exchange.reply)
    assert reply is not None, (assembler.fault, assembler.malformed)
    # A whole reply of this adapter is what the decoder of whole replies takes for one.
    assert whole_reply(exchange.adapter, call, reply.body) == reply


# Field names of vLLM's own classes, in their order: vllm/entrypoints/openai/**/protocol.py of each version. Left out
# are those that are null and that OpenAI's schema does not allow to be: annotations, function_call, details of usage,
# system_fingerprint. It demands refusal, so that is put in.
CHAT_FIELDS = {
    "0.8": "id object created model choices usage prompt_logprobs",
    "0.9": "id object created model choices usage prompt_logprobs kv_transfer_params",
    "0.10": "id object created model choices service_tier usage prompt_logprobs prompt_token_ids kv_transfer_params",
    "0.21": "id object created prompt_routed_experts model choices service_tier usage"
    " prompt_logprobs prompt_token_ids prompt_text kv_transfer_params",
    "0.23": "id object created model choices service_tier usage prompt_logprobs prompt_token_ids"
    " prompt_text kv_transfer_params",
    "0.25": "id object created model choices service_tier usage prompt_logprobs prompt_token_ids"
    " prompt_text kv_transfer_params metrics",
    "0.33": "id object created model choices service_tier usage prompt_logprobs prompt_token_ids"
    " prompt_text kv_transfer_params ec_transfer_params metrics",
}
CHOICE_FIELDS = {
    "0.8": "index message logprobs finish_reason stop_reason",
    "0.9": "index message logprobs finish_reason stop_reason",
    "0.10": "index message logprobs finish_reason stop_reason token_ids",
    "0.21": "index message logprobs finish_reason stop_reason token_ids routed_experts",
    "0.23": "index message logprobs finish_reason stop_reason token_ids routed_experts",
    "0.25": "index message logprobs finish_reason stop_reason token_ids routed_experts",
    "0.33": "index message logprobs finish_reason stop_reason token_ids routed_experts weight_versions",
}
MESSAGE_FIELDS = {
    "0.8": "role refusal reasoning_content content tool_calls",
    "0.9": "role refusal reasoning_content content tool_calls",
    "0.10": "role content refusal audio tool_calls reasoning_content",
    "0.21": "role content refusal audio tool_calls reasoning",
    "0.23": "role content refusal audio tool_calls reasoning",
    "0.25": "role content refusal audio reasoning",
    "0.33": "role content refusal audio reasoning",
}
COMPLETION_FIELDS = {
    "0.8": "id object created model choices usage",
    "0.9": "id object created model choices usage kv_transfer_params",
    "0.10": "id object created model choices service_tier usage kv_transfer_params",
    "0.33": "id object created model choices service_tier usage kv_transfer_params ec_transfer_params metrics",
}
LMI_VERSIONS = {"15": "0.8", "16": "0.10", "27": "0.23"}


def sse(*records: dict[str, Any]) -> bytes:
    return b"".join(b"data: " + json.dumps(record).encode() + b"\n\n" for record in records) + b"data: [DONE]\n\n"


def chat_chunk(delta: dict[str, Any], finish: str | None = None, **more: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": "served"}
    return {**head, "choices": [choice | more]}


USAGE = {
    "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 5, "model": "served", "choices": [],
    "usage": {"prompt_tokens": 9, "total_tokens": 11, "completion_tokens": 2},
}  # fmt: skip


@pytest.mark.parametrize("version", CHAT_FIELDS)
def test_a_chat_has_the_fields_of_its_version(version: str) -> None:
    data = sse(chat_chunk({"role": "assistant", "content": ""}), chat_chunk({"content": "a"}, "stop"), USAGE)
    reply, _ = assembled(make("vllm", version), chat(), data)
    assert reply is not None
    body = json.loads(reply.body)
    assert " ".join(body) == CHAT_FIELDS[version]
    assert " ".join(body["choices"][0]) == CHOICE_FIELDS[version]
    assert " ".join(body["choices"][0]["message"]) == MESSAGE_FIELDS[version]
    assert body["usage"] == {"prompt_tokens": 9, "total_tokens": 11, "completion_tokens": 2}


@pytest.mark.parametrize("version", COMPLETION_FIELDS)
def test_a_completion_has_the_fields_of_its_version(version: str) -> None:
    head = {"id": "cmpl-1", "object": "text_completion", "created": 5, "model": "served"}
    choice = {"index": 0, "text": "a", "logprobs": None, "finish_reason": "stop", "stop_reason": None}
    reply, _ = assembled(make("vllm", version), completion(), sse({**head, "choices": [choice]}, USAGE | head))
    assert reply is not None
    assert " ".join(json.loads(reply.body)) == COMPLETION_FIELDS[version]


@pytest.mark.parametrize(("lmi", "vllm"), LMI_VERSIONS.items())
def test_lmi_answers_as_the_vllm_inside_it(lmi: str, vllm: str) -> None:
    records = [chat_chunk({"role": "assistant", "content": "a"}, "stop"), USAGE]
    lines = b"".join(json.dumps(record).encode() + b"\n" for record in records) + b"\n"
    one, _ = assembled(make("lmi", lmi), chat(), lines)
    other, _ = assembled(make("vllm", vllm), chat(), sse(*records))
    assert one == other


TOOL = {"type": "function", "function": {"name": "f"}}


def tool_delta(index: int, **fields: Any) -> dict[str, Any]:
    return {"tool_calls": [{"index": index, **fields}]}


def test_tool_calls_are_merged_by_index_and_keep_their_first_id() -> None:
    data = sse(
        chat_chunk({"role": "assistant", "content": ""}),
        chat_chunk(tool_delta(0, id="a", type="function", function={"name": "f"})),
        chat_chunk(tool_delta(1, id="b", type="function", function={"name": "g", "arguments": "{"})),
        # vLLM 0.8 makes up an id for every delta.
        chat_chunk(tool_delta(0, id="c", type="function", function={"arguments": '{"x":'})),
        chat_chunk(tool_delta(1, id="d", function={"name": None, "arguments": "}"})),
        chat_chunk(tool_delta(0, function={"arguments": '"é\\n"}'})),
        chat_chunk({}, "tool_calls"),
        USAGE,
    )
    reply, _ = assembled(make("vllm", "0.32"), chat(tools=[TOOL]), data)
    assert reply is not None
    (choice,) = json.loads(reply.body)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] is None
    assert choice["message"]["tool_calls"] == [
        {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x":"é\\n"}'}},
        {"id": "b", "type": "function", "function": {"name": "g", "arguments": "{}"}},
    ]


@pytest.mark.parametrize(
    ("deltas", "fields", "content"),
    [
        pytest.param([{"content": ""}], {}, "", id="nothing was said"),
        pytest.param([{"content": ""}, {"reasoning": "hm"}], {}, None, id="only thoughts"),
        pytest.param([{"content": "\n\n"}, {"reasoning": "hm"}], {}, "\n\n", id="thoughts and space"),
        pytest.param([{"content": "\n\n"}, tool_delta(0, function={"name": "f"})], {}, None, id="a call and space"),
        pytest.param([{"content": "so"}, tool_delta(0, function={"name": "f"})], {}, "so", id="a call and text"),
        pytest.param([tool_delta(0, function={"name": "f"})], {"tool_choice": "required"}, "", id="a forced call"),
        pytest.param(
            [{"reasoning": "hm"}, tool_delta(0, function={"name": "f"})],
            {"tool_choice": {"type": "function", "function": {"name": "f"}}},
            "",
            id="a named call after thoughts",
        ),
    ],
)
def test_content_is_null_exactly_where_a_parser_found_none(
    deltas: list[dict[str, Any]], fields: dict[str, Any], content: str | None
) -> None:
    data = sse(*map(chat_chunk, deltas), chat_chunk({}, "stop"), USAGE)
    reply, _ = assembled(make("vllm", "0.32"), chat(tools=[TOOL], **fields), data)
    assert reply is not None
    assert json.loads(reply.body)["choices"][0]["message"]["content"] == content


def test_choices_come_in_the_order_of_their_index() -> None:
    def chunk(index: int, text: str, finish: str | None = None) -> dict[str, Any]:
        return chat_chunk({"content": text}, finish, index=index)

    data = sse(chunk(1, "b"), chunk(0, "a"), chunk(1, "B", "stop"), chunk(0, "A", "length"), USAGE)
    reply, _ = assembled(make("vllm", "0.32"), chat(n=2), data)
    assert reply is not None
    choices = json.loads(reply.body)["choices"]
    assert [(one["index"], one["message"]["content"], one["finish_reason"]) for one in choices] == [
        (0, "aA", "length"),
        (1, "bB", "stop"),
    ]


def test_logprobs_of_completions_are_joined_field_by_field() -> None:
    def chunk(text: str, offset: int, finish: str | None = None) -> dict[str, Any]:
        logprobs = {
            "text_offset": [offset],
            "token_logprobs": [-1e-05],
            "tokens": [text],
            "top_logprobs": [{text: -1e-05}],
        }
        choice = {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish, "stop_reason": None}
        return {"id": "cmpl-1", "object": "text_completion", "created": 5, "model": "served", "choices": [choice]}

    reply, _ = assembled(make("vllm", "0.32"), completion(logprobs=1), sse(chunk("a", 0), chunk("b", 1, "stop"), USAGE))
    assert reply is not None
    assert b'"token_logprobs":[-1e-05,-1e-05]' in reply.body  # numbers keep their bytes
    assert json.loads(reply.body)["choices"][0]["logprobs"] == {
        "text_offset": [0, 1],
        "token_logprobs": [-1e-05, -1e-05],
        "tokens": ["a", "b"],
        "top_logprobs": [{"a": -1e-05}, {"b": -1e-05}],
    }


def test_token_ids_are_joined_and_fields_of_the_future_kept() -> None:
    first = chat_chunk({"role": "assistant", "content": ""}) | {"prompt_token_ids": [1, 2], "novelty": {"a": 1}}
    data = sse(
        first, chat_chunk({"content": "a"}, token_ids=[3], twist=1), chat_chunk({}, "stop", token_ids=[4, 5]), USAGE
    )
    reply, _ = assembled(make("vllm", "0.32"), chat(return_token_ids=True), data)
    assert reply is not None
    body = json.loads(reply.body)
    assert (body["prompt_token_ids"], body["novelty"]) == ([1, 2], {"a": 1})
    assert (body["choices"][0]["token_ids"], body["choices"][0]["twist"]) == ([3, 4, 5], 1)


@pytest.mark.parametrize(
    ("chunks", "fields", "finish"),
    [
        pytest.param([chat_chunk({"content": "a"})], {}, "stop", id="by itself"),
        pytest.param([chat_chunk({"content": "a"})], {"max_tokens": 2}, "length", id="at the cap"),
        pytest.param([chat_chunk(tool_delta(0, function={"name": "f"}))], {"tools": [TOOL]}, "tool_calls", id="a call"),
    ],
)
def test_a_finish_reason_an_old_version_left_out_is_inferred(
    chunks: list[dict[str, Any]], fields: dict[str, Any], finish: str
) -> None:
    reply, _ = assembled(make("vllm", "0.8"), chat(**fields), sse(*chunks, USAGE))
    assert reply is not None
    assert json.loads(reply.body)["choices"][0]["finish_reason"] == finish


def test_a_fault_or_a_broken_stream_gives_no_reply() -> None:
    adapter, start = make("vllm", "0.32"), chat_chunk({"content": "a"})
    for data, fault, malformed in (
        (sse(start, {"error": {"message": "busy", "code": 503}}), FaultKind.OVERLOADED, None),
        (sse(start).removesuffix(b"data: [DONE]\n\n"), None, "the stream ended before the answer did"),
        (b"", None, "the stream holds no answer"),
        (
            sse({**start, "choices": [{"index": 0, "delta": 5}]}),
            None,
            "a chunk of the stream has a field of the wrong type",
        ),
        (sse(chat_chunk({"content": 5}, "stop")), None, "a chunk of the stream has a field of the wrong type"),
        (sse(chat_chunk({"tool_calls": {}}, "stop")), None, "a chunk of the stream has a field of the wrong type"),
    ):
        reply, assembler = assembled(adapter, chat(), data)
        assert reply is None
        assert assembler.malformed == malformed
        assert (assembler.fault.kind if assembler.fault else None) is fault


def test_an_answer_over_the_limit_gives_no_reply_and_holds_no_memory() -> None:
    adapter = make("vllm", "0.32", max_reply_bytes=1000)
    assembler = adapter.assembler(chat())
    piece = sse(chat_chunk({"content": "x" * 100})).removesuffix(b"data: [DONE]\n\n")
    for _ in range(100):
        assembler.feed(piece)
    assert assembler.malformed == "the answer is too long"
    assert assembler.chunks < 12
    assert assembler.end() is None


STREAMABLE = [
    (chat(), True),
    (chat(tools=[TOOL], n=2, stop=["x"], response_format={"type": "json_object"}), True),
    (chat(prompt_logprobs=1), False),
    (chat(prompt_logprobs=0), True),
    (chat(use_beam_search=True), False),
    (chat(logprobs=True, top_logprobs=2), False),
    (chat(logprobs=False), True),
    (chat(return_token_ids=True), False),
    (chat(policy=FREE, kv_transfer_params={"a": 1}), False),
    (completion(best_of=2, n=1), False),
    (completion(best_of=2, n=2), True),
    (completion(logprobs=1), True),
    (completion(echo=True), True),
    (completion(echo=True, logprobs=0), False),
    (completion(return_token_ids=True), True),
]


@pytest.mark.parametrize(("call", "expected"), STREAMABLE, ids=[str(sorted(call.values)) for call, _ in STREAMABLE])
def test_a_call_is_streamable_if_its_stream_says_all(call: Call, expected: bool) -> None:
    assert streamable(call) is expected


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        pytest.param(chat(), True, id="a chat without a cap"),
        pytest.param(chat(max_tokens=1024), False, id="a chat at the threshold"),
        pytest.param(chat(max_tokens=1025), True, id="a chat above it"),
        pytest.param(completion(), False, id="a completion without a cap makes 16 tokens"),
        pytest.param(completion(max_tokens=1025), True, id="a completion above it"),
        pytest.param(chat(logprobs=True), False, id="a chat that would lose something"),
    ],
)
def test_long_calls_prefer_a_stream(call: Call, expected: bool) -> None:
    assert prefers_stream(call, above_tokens=1024) is expected


CHUNK = b'{"id":"c","object":"chat.completion.chunk","created":1,"model":"lmi","choices":%b}'
ANSWER = CHUNK % b'[{"index":0,"delta":{"role":"assistant","content":"Hi"},"finish_reason":"stop"}]'


@pytest.mark.parametrize(("usage", "counted"), [
    pytest.param(b"null", None, id="none"),
    pytest.param(b'{"prompt_tokens":-3,"total_tokens":0,"completion_tokens":2}', Usage(0, 2), id="less than nothing"),
    pytest.param(b'{"prompt_tokens":1,"total_tokens":0,"completion_tokens":1e30}', None, id="no whole number"),
    pytest.param(b"[{}]", None, id="a list"),
    pytest.param(b'{"prompt_tokens":1,"total_tokens":2,"completion_tokens":1,"prompt_tokens_details":5}', None, id="x"),
])  # fmt: skip
def test_a_usage_that_cannot_be_true_never_keeps_a_caller_waiting(usage: bytes, counted: Usage | None) -> None:
    stream = ANSWER + b"\n" + (CHUNK % b"[]")[:-1] + b',"usage":' + usage + b"}\n\n"
    whole, assembler = assembled(make("lmi", "27"), chat(), stream)
    assert (whole is not None) != (assembler.malformed is not None)
    if whole is not None:
        assert json.loads(whole.body)["choices"][0]["message"]["content"] == "Hi"
        assert whole.usage == counted
