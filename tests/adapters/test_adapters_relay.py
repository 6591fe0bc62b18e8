"""A container's stream as the caller's events: names, ends, errors, and nothing lost or made up however it is cut."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Call, Usage
from adapters.errors import FaultKind
from adapters.registry import make
from tests.adapters.calls import DONE, chat, completion, outcome, relayed

LMI, VLLM = make("lmi", "27"), make("vllm", "0.32")
CALL = chat(stream=True)


def chunk(content: str | None = None, finish: str | None = None, index: int = 0, **more: Any) -> bytes:
    """Return a chunk as vLLM writes it."""
    delta = {} if content is None else {"content": content}
    choice: dict[str, Any] = {"index": index, "delta": delta, "logprobs": None, "finish_reason": finish}
    if finish is not None:
        choice["stop_reason"] = None
    record = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "served",
        "choices": [choice],
    }
    return json.dumps(record | more, separators=(",", ":"), ensure_ascii=False).encode()


def closing(prompt: int = 9, new: int = 2, **more: Any) -> bytes:
    usage = {"prompt_tokens": prompt, "total_tokens": prompt + new, "completion_tokens": new, **more}
    return chunk(usage=usage).replace(b'[{"index":0,"delta":{},"logprobs":null,"finish_reason":null}]', b"[]")


def public(record: bytes) -> bytes:
    return b"data: " + record.replace(b'"model":"served"', b'"model":"public"') + b"\n\n"


def sse(*records: bytes) -> bytes:
    return b"".join(b"data: " + record + b"\n\n" for record in records)


def lines(*records: bytes) -> bytes:
    return b"".join(record + b"\n" for record in records)


def both(records: list[bytes], *, end: bool = True, call: Call = CALL) -> list[tuple[list[bytes], Any]]:
    """Relay records through both dialects, in one piece and byte by byte; return events and decoder of each."""
    results = []
    for adapter, data in (
        (LMI, lines(*records) + (b"\n" if end else b"")),
        (VLLM, sse(*records) + (DONE if end else b"")),
    ):
        whole, bytewise = adapter.stream_decoder(call), adapter.stream_decoder(call)
        events = relayed(whole, [data])
        assert relayed(bytewise, [data[at : at + 1] for at in range(len(data))]) == events
        assert outcome(bytewise) == outcome(whole)
        results.append((events, whole))
    return results


def test_a_clean_stream_gets_the_public_name_and_one_end() -> None:
    records = [chunk(""), chunk("Hi"), chunk(" you"), chunk(finish="stop"), closing()]
    for events, decoder in both(records):
        assert events == [*map(public, records[:-1]), DONE]
        assert outcome(decoder) == (Usage(9, 2), 4, True, None, None, 0)


def test_the_usage_chunk_is_relayed_to_those_who_asked() -> None:
    records = [chunk("Hi"), chunk(finish="stop"), closing()]
    for events, _ in both(records, call=chat(stream=True, stream_options={"include_usage": True})):
        assert events == [*map(public, records), DONE]


def test_cached_tokens_are_counted() -> None:
    records = [chunk(finish="stop"), closing(prompt_tokens_details={"cached_tokens": 4, "created_cache_tokens": 1})]
    for _, decoder in both(records):
        assert decoder.usage == Usage(9, 2, cached_tokens=4)


def test_the_end_comes_with_the_containers_own_end_mark() -> None:
    for adapter, data, mark in ((LMI, lines(chunk("a", "stop")), b"\n"), (VLLM, sse(chunk("a", "stop")), DONE)):
        decoder = adapter.stream_decoder(CALL)
        assert len(decoder.feed(data)) == 1
        assert decoder.feed(mark) == [DONE]
        assert decoder.end() == []


def test_an_end_mark_that_never_comes_is_added_once() -> None:
    records = [chunk("Hi"), chunk(finish="stop")]
    for events, decoder in both(records, end=False):
        assert events == [*map(public, records), DONE]
        assert decoder.complete


def test_every_choice_must_finish() -> None:
    call = chat(stream=True, n=2)
    records = [chunk("a"), chunk("b", index=1), chunk(finish="stop", index=1)]
    for events, decoder in both(records, end=False, call=call):
        assert events == list(map(public, records))
        assert decoder.malformed == "the stream ended before the answer did"
    for events, decoder in both([*records, chunk(finish="length")], end=False, call=call):
        assert events[-1] == DONE
        assert decoder.complete


@pytest.mark.parametrize("end", [b"", b"\n"], ids=["no blank line", "blank line"])
def test_without_a_finish_reason_lmi_is_not_complete(end: bytes) -> None:
    decoder = LMI.stream_decoder(CALL)
    assert relayed(decoder, [lines(chunk("a")) + end]) == [public(chunk("a"))]
    assert decoder.malformed == "the stream ended before the answer did"


def test_the_end_mark_of_vllm_completes_by_itself() -> None:
    decoder = VLLM.stream_decoder(CALL)
    assert relayed(decoder, [sse(chunk("a")) + DONE]) == [public(chunk("a")), DONE]
    assert decoder.complete


def test_the_usage_chunk_completes_what_an_old_version_leaves_without_finish_reason() -> None:
    for version, complete in (("15", True), ("16", False)):
        decoder = make("lmi", version).stream_decoder(CALL)
        events = relayed(decoder, [lines(chunk("a"), closing()) + b"\n"])
        assert (events[-1] == DONE, decoder.complete) == (complete, complete)


@pytest.mark.parametrize("data", [b"", b"\n", b"\n\n\n"])
def test_an_empty_reply_of_lmi_is_no_answer(data: bytes) -> None:
    decoder = LMI.stream_decoder(CALL)
    assert relayed(decoder, [data]) == []
    assert decoder.malformed == "the stream holds no answer"


@pytest.mark.parametrize("data", [b"", b": ping\n\n", DONE, b"\n\n"])
def test_an_empty_reply_of_vllm_is_no_answer(data: bytes) -> None:
    decoder = VLLM.stream_decoder(CALL)
    assert relayed(decoder, [data]) == []
    assert decoder.malformed == "the stream holds no answer"


def test_what_follows_the_end_is_dropped_and_counted() -> None:
    data = sse(chunk("a", "stop")) + DONE + sse(chunk("b")) + DONE + sse(b"garbage")
    decoder = VLLM.stream_decoder(CALL)
    assert relayed(decoder, [data]) == [public(chunk("a", "stop")), DONE]
    assert outcome(decoder) == (None, 1, True, None, None, 3)

    decoder = LMI.stream_decoder(CALL)
    data = lines(chunk("a", "stop"), b"", chunk("b"), b"", b"garbage")
    assert relayed(decoder, [data]) == [public(chunk("a", "stop")), DONE]
    assert outcome(decoder) == (None, 1, True, None, None, 2)


def test_content_after_the_last_finish_reason_is_dropped() -> None:
    records = [chunk("a", "stop"), chunk("b"), closing()]
    for events, decoder in both(records):
        assert events == [public(records[0]), DONE]
        assert (decoder.dropped, decoder.usage) == (1, Usage(9, 2))


ERRORS = [
    pytest.param(
        b'{"error": {"message": "EngineCore encountered an issue.", "code": 500}}', FaultKind.UNAVAILABLE, id="engine"
    ),
    pytest.param(
        b'{"error":{"object":"error","message":"bad n","param":"n","code":400}}', FaultKind.INVALID_REQUEST, id="0.8"
    ),
    pytest.param(b'{"object":"error","message":"bad n","code":400}', FaultKind.INVALID_REQUEST, id="flat"),
]


@pytest.mark.parametrize(("error", "kind"), ERRORS)
@pytest.mark.parametrize("before", [[], [chunk("a")], [chunk("a"), chunk("b")]], ids=["first", "second", "third"])
def test_an_error_record_ends_the_stream_without_an_end_mark(
    before: list[bytes], error: bytes, kind: FaultKind
) -> None:
    for events, decoder in both([*before, error, chunk("x")]):
        assert events == list(map(public, before))
        assert decoder.fault is not None
        assert decoder.fault.kind is kind
        assert (decoder.complete, decoder.malformed, decoder.dropped) == (False, None, 1)


@pytest.mark.parametrize(
    ("tail", "kind"),
    [
        pytest.param(b'{"error":"division by zero","code":424}', FaultKind.FAILED, id="formatter"),
        pytest.param(
            b'{"code":500,"message":"Inference Engine Failure","properties":{},"content":{"keys":[],"values":[]}}',
            FaultKind.UNAVAILABLE,
            id="engine",
        ),
    ],
)
@pytest.mark.parametrize(
    ("last", "kept"),
    [
        pytest.param(b"", False, id="on a line of its own"),
        pytest.param(chunk("b"), True, id="glued to a whole line"),
        pytest.param(chunk("b{")[:-40], False, id="glued to a cut line"),
    ],
)
@pytest.mark.parametrize("end", [b"", b"\n", b"\n\n"], ids=["at the end", "then a line end", "then a blank line"])
def test_what_djl_appends_when_something_dies_is_the_fault(
    last: bytes, kept: bool, tail: bytes, kind: FaultKind, end: bytes
) -> None:
    data = lines(chunk("a")) + last + tail + end
    expected = [public(chunk("a"))] + ([public(last)] if kept else [])
    for parts in ([data], [data[at : at + 1] for at in range(len(data))]):
        decoder = LMI.stream_decoder(CALL)
        assert relayed(decoder, parts) == expected
        assert decoder.fault is not None
        assert decoder.fault.kind is kind


@pytest.mark.parametrize(("reason", "kind"), [("abort", FaultKind.UNAVAILABLE), ("error", FaultKind.FAILED)])
def test_a_finish_reason_that_means_unfinished_is_a_fault(reason: str, kind: FaultKind) -> None:
    for events, decoder in both([chunk("a"), chunk(finish=reason), closing()]):
        assert events == [public(chunk("a"))]
        assert decoder.fault is not None
        assert decoder.fault.kind is kind


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(b"garbage", id="text"),
        pytest.param(b"<html></html>", id="a page"),
        pytest.param(b"5", id="a number"),
        pytest.param(b'"x"', id="a string"),
        pytest.param(b"[]", id="an array"),
        pytest.param(b"{}", id="an empty object"),
        pytest.param(chunk("b")[:-1], id="a chunk without its last brace"),
        pytest.param(chunk("b") + b"x", id="a chunk and more"),
        pytest.param(chunk("b").replace(b'"b"', b'"b'), id="a chunk with a broken middle"),
        pytest.param(b'{"index":0,"token":{"id":1,"text":"Hi"},"generated_text":null}', id="another schema"),
        pytest.param(chunk("b").replace(b".chunk", b""), id="a whole reply"),
        pytest.param(b'{"choices":null}', id="choices null"),
        pytest.param(b'{"choices":[{"finish_reason":5}]}', id="a reason that is a number"),
        pytest.param(b'{"choices":[5]}', id="a choice that is a number"),
        pytest.param(b"[" * 5000, id="deep"),
        pytest.param(b'{"choices":[{"delta":{"content":"\xff"}}]}', id="not UTF-8"),
        pytest.param(chunk("b").replace(b'"b"', b'"\xff"'), id="a chunk with a broken character"),
    ],
)
@pytest.mark.parametrize("before", [[], [chunk("a")], [chunk("a"), chunk("b")]], ids=["first", "second", "third"])
def test_a_record_that_is_no_chunk_ends_the_stream_as_malformed(before: list[bytes], record: bytes) -> None:
    for events, decoder in both([*before, record, chunk("x", "stop")]):
        assert events == list(map(public, before))
        assert decoder.malformed is not None
        assert (decoder.fault, decoder.complete) == (None, False)


@pytest.mark.parametrize("cut", range(1, len(chunk("b")), 7))
def test_a_stream_cut_inside_a_record_is_malformed(cut: int) -> None:
    for adapter, data in ((LMI, lines(chunk("a"), chunk("b"))), (VLLM, sse(chunk("a"), chunk("b")))):
        decoder = adapter.stream_decoder(CALL)
        events = relayed(decoder, [data[: -2 - cut]])
        assert events == [public(chunk("a"))]
        assert decoder.malformed is not None


def test_a_cut_after_the_last_finish_reason_loses_no_answer() -> None:
    for adapter, data in (
        (LMI, lines(chunk("a"), chunk(finish="stop")) + closing()[:-9]),
        (VLLM, sse(chunk("a"), chunk(finish="stop")) + b"data: " + closing()[:-9]),
    ):
        decoder = adapter.stream_decoder(CALL)
        assert relayed(decoder, [data])[-1] == DONE
        assert outcome(decoder) == (None, 2, True, None, None, 1)


def test_a_last_record_without_its_line_end_counts() -> None:
    for adapter, data in ((LMI, chunk("a", "stop")), (VLLM, b"data: " + chunk("a", "stop"))):
        decoder = adapter.stream_decoder(CALL)
        assert relayed(decoder, [data]) == [public(chunk("a", "stop")), DONE]


@pytest.mark.parametrize(
    "text",
    [
        "\n\ndata: [DONE]\n\n",
        "\r\n\r\ndata: [DONE]\r\n\r\n",
        "event: error\ndata: {}\n\n",
        '"finish_reason":null}]}',
        '","finish_reason":"stop","x":"',
        '"model":"served"',
        '{"error":{"message":"no","code":500}}',
        '}{"code":500,"message":"Inference Engine Failure"}',
        '{"code":',
        "[DONE]",
        "\u2028\u2029\u0085\x0b\x0c\x1c",
        "\x00\x7f",
    ],
)
def test_model_text_cannot_break_out_of_its_event(text: str) -> None:
    records = [chunk("a"), chunk(text), chunk(text, "stop"), closing()]
    for events, decoder in both(records):
        assert events == [*map(public, records[:3]), DONE]
        assert json.loads(events[1][6:])["choices"][0]["delta"]["content"] == text
        assert all(b"\n" not in event[:-2] and b"\r" not in event for event in events)
        assert decoder.complete


def test_a_chunk_over_several_data_lines_becomes_one_line() -> None:
    spread = json.dumps(json.loads(chunk("a\nb", "stop")), indent=1).encode()
    data = b"".join(b"data: " + line + b"\r\n" for line in spread.splitlines()) + b"\r\n" + DONE
    for parts in ([data], [data[at : at + 1] for at in range(len(data))]):
        decoder = VLLM.stream_decoder(CALL)
        events = relayed(decoder, parts)
        assert events == [public(chunk("a\nb", "stop")), DONE]


def test_spread_chunks_stay_one_event_each_even_after_the_start_is_known() -> None:
    spread = chunk("b").replace(b',"delta"', b',\n"delta"')
    data = (
        sse(chunk("a"))
        + b"".join(b"data: " + line + b"\n" for line in spread.split(b"\n"))
        + b"\n"
        + sse(chunk("c", "stop"))
    )
    decoder = VLLM.stream_decoder(CALL)
    assert relayed(decoder, [data]) == [public(chunk("a")), public(chunk("b")), public(chunk("c", "stop")), DONE]


def test_a_carriage_return_between_tokens_stays_inside_the_event() -> None:
    odd = chunk("b").replace(b',"delta"', b',\r"delta"')
    decoder = LMI.stream_decoder(CALL)
    events = relayed(decoder, [lines(chunk("a")), lines(odd), lines(chunk("c", "stop"))])
    assert events == [public(chunk("a")), public(chunk("b")), public(chunk("c", "stop")), DONE]


@pytest.mark.parametrize("name", ["served", 'quo"te\\back', "é😀", "a/b:c@d", "\u2028"])
def test_any_public_name_is_written_as_json(name: str) -> None:
    for events, _ in both([chunk("a"), chunk("b"), chunk(finish="stop"), closing()], call=chat(name, stream=True)):
        assert [json.loads(event[6:])["model"] for event in events[:-1]] == [name] * 3


def test_equal_names_let_the_containers_bytes_pass() -> None:
    data = sse(chunk("a"), chunk("b"), chunk(finish="stop")) + DONE
    assert b"".join(relayed(VLLM.stream_decoder(chat("served", stream=True)), [data])) == data


@pytest.mark.parametrize(
    "record",
    [
        pytest.param(b'{"id":"x","choices":[{"index":0,"delta":{"content":"a"}}]}', id="no model, no object"),
        pytest.param(b'{"model":"served","id":"x","choices":[{"index":0,"delta":{"content":"a"}}]}', id="model first"),
        pytest.param(b'{"id":"x","choices":[{"index":0,"delta":{"content":"a"}}],"model":"served"}', id="model last"),
        pytest.param(b'{ "id" : "x" , "model" : "served" , "choices" : [ {"delta":{"content":"a"}} ] }', id="spaced"),
        pytest.param(b'{"id":"x","model":null,"choices":[{"delta":{"content":"a"}}]}', id="model null"),
        pytest.param(
            b'{"id":"x","object":"chat.completion.chunk","created":1,"model":"served","extra":{"model":"served"},'
            b'"choices":[{"delta":{"content":"a"}}]}',
            id="another model inside",
        ),
    ],
)
def test_chunks_in_another_order_get_the_public_name_too(record: bytes) -> None:
    for events, decoder in both([record, record, chunk(finish="stop")]):
        assert len(events) == 4
        for event in events[:2]:
            value = json.loads(event[6:])
            assert value["model"] == "public"
            assert value["choices"][0]["delta"] == {"content": "a"}
            assert value.get("extra", {"model": "served"}) == {"model": "served"}
        assert decoder.complete


USAGE = {"prompt_tokens": 9, "total_tokens": 10, "completion_tokens": 1, "completion_tokens_details": None}


def test_usage_in_every_chunk_is_taken_out_unless_asked_for() -> None:
    records = [chunk("a", usage=USAGE), chunk("b", usage=USAGE), chunk(finish="stop", usage=USAGE), closing()]
    plain = [chunk("a"), chunk("b"), chunk(finish="stop")]
    for events, decoder in both(records):
        assert events == [*map(public, plain), DONE]
        assert decoder.usage == Usage(9, 2)
    asked = chat(stream=True, stream_options={"include_usage": True, "continuous_usage_stats": True})
    for events, _ in both(records, call=asked):
        assert [json.loads(event[6:])["usage"]["completion_tokens"] for event in events[:-1]] == [1, 1, 1, 2]


def test_a_chunk_of_two_choices_is_read_to_its_end() -> None:
    two = (
        chunk("a")
        .replace(b'}],"', b'}],"')
        .replace(b'"choices":[', b'"choices":[{"index":1,"delta":{},"finish_reason":"stop"},')
    )
    for events, decoder in both([chunk("a"), two, chunk(finish="stop")], call=chat(stream=True, n=2), end=False):
        assert events == [public(chunk("a")), public(two), public(chunk(finish="stop")), DONE]
        assert decoder.complete


def test_logprobs_get_the_field_openai_requires() -> None:
    logprobs = {"content": [{"token": "a", "logprob": -0.1, "bytes": [97], "top_logprobs": []}]}
    record = chunk("a").replace(
        b'"logprobs":null', b'"logprobs":' + json.dumps(logprobs, separators=(",", ":")).encode()
    )
    for events, _ in both([chunk(""), record, chunk(finish="stop")], call=chat(stream=True, logprobs=True)):
        assert json.loads(events[1][6:])["choices"][0]["logprobs"] == {"refusal": None, **logprobs}


def test_a_completion_stream_is_relayed_alike() -> None:
    head = b'{"id":"cmpl-1","object":"text_completion","created":1,"model":"served","choices":[{"index":'
    records = [
        head + b'0,"text":"a","logprobs":null,"finish_reason":null,"stop_reason":null}]}',
        head + b'1,"text":"b","logprobs":null,"finish_reason":"stop","stop_reason":null}]}',
        head + b'0,"text":"c","logprobs":null,"finish_reason":"length","stop_reason":null}]}',
    ]
    for events, decoder in both(records, call=completion(stream=True, prompt=["x", "y"]), end=False):
        assert events == [*map(public, records), DONE]
        assert decoder.complete


@pytest.mark.parametrize("cut", [1000, 7])
def test_a_record_over_the_limit_is_malformed_and_holds_no_memory(cut: int) -> None:
    for container, start in (("lmi", b"{"), ("vllm", b"data: {")):
        adapter = make(container, {"lmi": "27", "vllm": "0.32"}[container], max_event_bytes=100_000)
        decoder = adapter.stream_decoder(CALL)
        first = chunk("a")
        assert len(decoder.feed(lines(first) if container == "lmi" else sse(first))) == 1
        tracemalloc.start()
        decoder.feed(start)
        for _ in range(2_000_000 // 1000):
            assert decoder.feed(b"x" * cut) == []
            if cut == 7 and decoder.malformed is None:
                decoder.feed(b"x" * 993)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert decoder.malformed == "a record of the stream is too long"
        assert decoder.end() == []
        assert peak < 500_000


def test_ten_thousand_records_in_one_read_come_out_as_many_events() -> None:
    data = [chunk("a")] * 10_000
    for adapter, read in ((LMI, lines(*data)), (VLLM, sse(*data))):
        assert adapter.stream_decoder(CALL).feed(read) == [public(chunk("a"))] * 10_000


RECORDS = st.sampled_from(
    [
        chunk("a"), chunk("é\n"), chunk("b", index=1), chunk(finish="stop"), chunk(finish="length", index=1), closing(),
        chunk("c", usage=USAGE), b"", b"[DONE]", b"garbage", b"{}", b'{"error":{"message":"m","code":400}}',
        b'{"error":"e","code":424}', chunk("x")[:50], chunk("x") + b'{"code":500,"message":"m"}', b": comment",
    ]
)  # fmt: skip


@given(
    st.lists(RECORDS, max_size=12), st.lists(st.integers(0, 4000), max_size=12), st.sampled_from([1, 2]), st.booleans()
)
def test_no_stream_raises_and_every_cut_gives_the_same(
    records: list[bytes], offsets: list[int], n: int, asked: bool
) -> None:
    call = chat(stream=True, n=n, stream_options={"include_usage": asked})
    for adapter, data in ((LMI, lines(*records)), (VLLM, sse(*records))):
        whole, cut = adapter.stream_decoder(call), adapter.stream_decoder(call)
        events = relayed(whole, [data])
        at = sorted({0, len(data), *(offset for offset in offsets if offset < len(data))})
        assert relayed(cut, [data[a:b] for a, b in itertools.pairwise(at)]) == events
        assert outcome(cut) == outcome(whole)
        assert events.count(DONE) == (1 if whole.complete and whole.fault is None else 0)
        assert sum([whole.complete and whole.fault is None, whole.fault is not None, whole.malformed is not None]) == 1
        for event in events:
            assert event.startswith(b"data: ")
            assert event.endswith(b"\n\n")
            assert b"\n" not in event[:-2]
            if event != DONE:
                assert json.loads(event[6:])["model"] == "public"


@given(st.lists(st.binary(max_size=80), max_size=8))
def test_no_bytes_at_all_raise(parts: list[bytes]) -> None:
    for adapter in (LMI, VLLM):
        decoder, assembler = adapter.stream_decoder(CALL), adapter.assembler(CALL)
        relayed(decoder, parts)
        for part in parts:
            assembler.feed(part)
        assert (assembler.end() is None) == (assembler.fault is not None or assembler.malformed is not None)
