"""The frames are sound, but the container's text inside them is cut, spelled or ended in its own way."""

from __future__ import annotations

import base64
import json

import pytest

from deploy.local import faults
from tests.faults.talk import DIALECTS, WORDS, answer_of, events_of, record, records, says, written
from tests.faults.wire import chat
from tests.faults.world import World

TEXTS = ["one", "two", "three"]
CUTS = ["bytes", "sizes:1,2,3", "sizes:7", "sizes:100,1", "random:1:40", "random:2:400", "merge:3", "merge"]
both = pytest.mark.parametrize("dialect", DIALECTS)


def sse(*records_: bytes) -> bytes:
    return b"".join(b"data: " + record_ + b"\n\n" for record_ in records_)


def raw(*pieces: bytes) -> faults.Reply:
    """Return the fault that makes a container stream bytes that need not be text by themselves."""
    encoded = [base64.b64encode(piece).decode() for piece in pieces]
    return faults.Reply(chunks_base64=encoded, content_type="text/event-stream")


@both
@pytest.mark.parametrize("cut", CUTS)
def test_u18_records_split_over_parts_or_joined_in_one_come_out_alike(world: World, dialect: str, cut: str) -> None:
    world.fault(answer_of(dialect), faults.Cut(cut))
    assert world.ask(chat(dialect, stream=True)).events == events_of(dialect)


@both
@pytest.mark.parametrize("cut", ["bytes", "sizes:7", "merge"])
def test_u18_an_assembled_reply_is_the_same_however_its_records_are_cut(world: World, dialect: str, cut: str) -> None:
    world.fault(answer_of(dialect), faults.Cut(cut))
    assert world.ask(chat(f"{dialect}-assembled")).text == "".join(WORDS)


@both
@pytest.mark.parametrize("offset", [1, 2, 3])
def test_u19_a_character_of_four_bytes_may_be_cut_at_any_of_them(world: World, dialect: str, offset: int) -> None:
    texts = ["a 😀 b", "🚀", "日本語"]
    pieces = written(dialect, records(texts))
    cut = pieces[1].index("😀".encode()) + offset
    world.fault(raw(pieces[0], pieces[1][:cut], pieces[1][cut:], *pieces[2:]))
    assert world.ask(chat(dialect, stream=True)).events == events_of(dialect, texts)
    world.fault(raw(pieces[0], pieces[1][:cut], pieces[1][cut:], *pieces[2:]))
    assert world.ask(chat(f"{dialect}-assembled")).text == "".join(texts)


PLAIN = records(TEXTS)
SPELLINGS = {
    "CR LF": b"".join(b"data: " + one + b"\r\n\r\n" for one in PLAIN) + b"data: [DONE]\r\n\r\n",
    "lone CR": b"".join(b"data: " + one + b"\r\r" for one in PLAIN) + b"data: [DONE]\r\r",
    "no space after the colon": b"".join(b"data:" + one + b"\n\n" for one in PLAIN) + b"data:[DONE]\n\n",
    "comments": b": hello\n\n" + b"".join(b": ping\ndata: " + one + b"\n\n" for one in PLAIN) + sse(b"[DONE]"),
    "event, id and retry fields": b"retry: 10\n\n"
    + b"".join(b"event: chunk\nid: %d\ndata: %b\n\n" % (number, one) for number, one in enumerate(PLAIN))
    + sse(b"[DONE]"),
    "a field nobody knows": b"".join(b"colour: red\ndata: " + one + b"\n\n" for one in PLAIN) + sse(b"[DONE]"),
    "a byte order mark": b"\xef\xbb\xbf" + sse(*PLAIN, b"[DONE]"),
    "blank lines between events": b"".join(b"\n\ndata: " + one + b"\n\n\n" for one in PLAIN) + sse(b"[DONE]"),
    "no blank line at the end": sse(*PLAIN) + b"data: [DONE]",
}


@pytest.mark.parametrize("cut", ["as-written", "bytes"])
@pytest.mark.parametrize("text", [pytest.param(text, id=name) for name, text in SPELLINGS.items()])
def test_u20_every_spelling_of_server_sent_events_comes_out_in_one(world: World, text: bytes, cut: str) -> None:
    world.fault(raw(text), faults.Cut(cut))
    assert world.ask(chat("vllm", stream=True)).events == events_of("vllm", TEXTS)


def test_u20_a_record_over_several_data_lines_is_one_event(world: World) -> None:
    pretty = json.dumps(json.loads(PLAIN[1]), indent=1, ensure_ascii=False).encode()
    lines = b"".join(b"data: " + line + b"\n" for line in pretty.split(b"\n"))
    world.fault(raw(sse(PLAIN[0]) + lines + b"\n" + sse(*PLAIN[2:], b"[DONE]")))
    events = world.ask(chat("vllm", stream=True)).events
    assert [event for event in events if event == b"[DONE]"] == [b"[DONE]"]
    said = [json.loads(event)["choices"][0]["delta"].get("content", "") for event in events[:-1]]
    assert said == ["", *TEXTS, ""]


@pytest.mark.parametrize("text", ["\r\n".join, "\n".join], ids=["CR LF", "LF"])
def test_u20_json_lines_may_end_in_either_way(world: World, text: object) -> None:
    assert callable(text)
    world.fault(raw(text([*(one.decode() for one in PLAIN), "", ""]).encode()))
    assert world.ask(chat("lmi", stream=True)).events == events_of("lmi", TEXTS)


@both
def test_u22_a_finish_reason_without_an_end_mark_is_an_end(world: World, dialect: str) -> None:
    world.fault(says(written(dialect, PLAIN)[:-1]))
    assert world.ask(chat(dialect, stream=True)).events == events_of(dialect, TEXTS)


@both
def test_u23_what_follows_the_end_mark_is_dropped_and_counted(world: World, dialect: str) -> None:
    before = world.counted("gateway_stream_records_dropped_total", model=dialect)
    complete = written(dialect, PLAIN)
    world.fault(says([*complete, *complete]))
    assert world.ask(chat(dialect, stream=True)).events == events_of(dialect, TEXTS)
    # Every chunk after the end, and the second [DONE]; a second blank line is nothing.
    dropped = len(PLAIN) + (1 if dialect == "vllm" else 0)
    assert world.counted("gateway_stream_records_dropped_total", model=dialect) - before == dropped


@both
@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"this is no JSON", id="words"),
        pytest.param(b'{"choices":[{"index":0,"delta":{"content":"cut', id="cut JSON"),
        pytest.param(b'["an array"]', id="an array"),
        pytest.param(b'{"choices":7}', id="choices are no list"),
        pytest.param(b'{"choices":[{"index":0,"delta":{"content":"\xff\xfe"}}]}', id="not UTF-8"),
        pytest.param(b'{"choices":[{"index":0,"delta":{"content":"a\tb\x00"}}]}', id="a control character"),
        pytest.param(b"[" * 100_000, id="brackets without end"),
        pytest.param(b"<html><body>502</body></html>", id="HTML"),
    ],
)
def test_u24_a_record_that_is_no_chunk_ends_the_stream_in_an_error(world: World, dialect: str, text: bytes) -> None:
    failed = world.counted("gateway_calls_total", model=dialect, code="upstream_protocol")
    pieces = written(dialect, PLAIN)
    bad = text + b"\n" if dialect == "lmi" else sse(text)
    world.fault(raw(*pieces[:2], bad, *pieces[2:]))
    answer = world.ask(chat(dialect, stream=True))
    assert answer.events[:-1] == events_of(dialect, TEXTS)[:2]
    assert answer.last_error["code"] == "upstream_protocol"
    world.fault(raw(bad, *pieces))
    assert world.ask(chat(dialect, stream=True)).status == 502
    assert world.counted("gateway_calls_total", model=dialect, code="upstream_protocol") - failed == 2


VLLM_ERROR = b'{"error":{"message":"the engine said 7","type":"BadRequestError","param":null,"code":400}}'
VLLM_FAILURE = b'{"error":{"message":"CUDA error in /opt/x.py","type":"InternalServerError","param":null,"code":500}}'


@both
@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        pytest.param(VLLM_ERROR, "invalid_value", "the engine said 7", id="the request's fault"),
        pytest.param(
            VLLM_FAILURE,
            "upstream_error",
            "The model's endpoint failed while working on the request.",
            id="the engine's fault",
        ),
    ],
)
def test_u35_an_error_chunk_of_the_container_becomes_one_error_event(
    world: World, dialect: str, error: bytes, code: str, message: str
) -> None:
    pieces = written(dialect, PLAIN)
    bad = error + b"\n" if dialect == "lmi" else sse(error)
    world.fault(raw(*pieces[:3], bad, pieces[-1]))
    answer = world.ask(chat(dialect, stream=True))
    assert answer.events[:-1] == events_of(dialect, TEXTS)[:3]
    assert (answer.last_error["code"], answer.last_error["message"]) == (code, message)


@both
def test_u35_an_error_chunk_before_the_first_event_is_a_status(world: World, dialect: str) -> None:
    bad = VLLM_ERROR + b"\n" if dialect == "lmi" else sse(VLLM_ERROR)
    world.fault(raw(bad))
    answer = world.ask(chat(dialect, stream=True))
    assert (answer.status, answer.code, answer.error["message"]) == (400, "invalid_value", "the engine said 7")


def test_an_event_over_the_limit_ends_the_stream(world: World) -> None:
    huge = record({"content": "x" * 9_000_000})
    world.fault(says(written("vllm", [PLAIN[0], huge, PLAIN[-1]])))
    answer = world.ask(chat("vllm", stream=True))
    assert answer.events[:-1] == events_of("vllm", TEXTS)[:1]
    assert answer.last_error["code"] == "upstream_protocol"
