"""Answers as they arrive: both kinds of streams, cut anywhere, ended in every way."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from deploy.bench.answers import Answer
from deploy.bench.eventstream import EventStream, Malformed
from deploy.local import eventstream as frames

RECORDINGS = Path(__file__).parents[2] / "recordings"
EVENTS = (
    b": hello\n\n"
    b'data: {"choices":[{"delta":{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
    b'data: {"choices":[{"delta":{"content":"One"},"finish_reason":null}]}\r\n\r\n'
    b'data:{"choices":[{"delta":{"content":" two"},"finish_reason":"stop"}]}\n\n'
    b'data: {"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'
    b"data: [DONE]\n\n"
)
LINES = (
    b'{"choices":[{"text":"One","finish_reason":null}]}\n'
    b'{"choices":[{"text":" two","finish_reason":"length"}]}\n'
    b'{"choices":[],"usage":{"prompt_tokens":5,"completion_tokens":2}}\n\n'
)


def read(*parts: bytes, streaming: bool = True, framed: bool = False, status: int = 200, amz: str = "") -> Answer:
    """Return the answer of parts that come a second apart, from second 10 on."""
    answer = Answer(streaming=streaming, framed=framed)
    answer.status, answer.amz_error = status, amz
    now = 10.0
    for part in parts:
        answer.feed(part, now)
        now += 1
    answer.ended(now)
    return answer


@pytest.mark.parametrize(
    ("body", "dialect"), [pytest.param(EVENTS, "events", id="events"), pytest.param(LINES, "lines", id="lines")]
)
def test_a_stream_is_read_wherever_it_is_cut(body: bytes, dialect: str) -> None:
    for cut in range(len(body)):
        answer = read(body[:cut], body[cut:])
        assert (answer.error, answer.chunks, answer.input_tokens, answer.tokens()) == (None, 2, 5, (2, False)), cut
    answer = read(*(body[at : at + 1] for at in range(len(body))))
    assert (answer.error, answer.chunks, answer.dialect) == (None, 2, dialect)


def test_times_are_those_of_the_pieces_with_text() -> None:
    answer = read(*EVENTS.splitlines(keepends=True))
    # Of the lines, an empty one after each, the fifth and the seventh have text.
    assert (answer.first, answer.last, answer.gaps, answer.longest_gap) == (14.0, 16.0, [2.0], 2.0)


@pytest.mark.parametrize(
    ("delta", "counts"),
    [
        pytest.param({"content": "x"}, 1, id="text"),
        pytest.param({"content": ""}, 0, id="no text"),
        pytest.param({"role": "assistant"}, 0, id="a role"),
        pytest.param({"reasoning_content": "hm"}, 1, id="thoughts of old"),
        pytest.param({"reasoning": "hm"}, 1, id="thoughts"),
        pytest.param({"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}, 1, id="a tool call"),
        pytest.param({"tool_calls": []}, 0, id="no tool call"),
    ],
)
def test_what_counts_as_a_piece(delta: dict[str, object], counts: int) -> None:
    payload = json.dumps({"choices": [{"delta": delta, "finish_reason": "stop"}]})
    assert read(f"data: {payload}\n\ndata: [DONE]\n\n".encode()).chunks == counts


@pytest.mark.parametrize(
    ("parts", "options", "error"),
    [
        pytest.param([EVENTS[:200]], {}, "stream_cut", id="a stream without its end"),
        pytest.param([b""], {}, "malformed_answer", id="nothing"),
        pytest.param([b"<html>busy</html>"], {}, "malformed_answer", id="a page"),
        pytest.param([b"data: {nonsense\n\n"], {}, "malformed_answer", id="no JSON"),
        pytest.param([b'data: {"choices": 5}\n\n'], {}, "malformed_answer", id="another shape"),
        pytest.param(
            [b'data: {"error":{"code":"oops","message":"m"}}\n\n'], {}, "stream_error:oops", id="an event of error"
        ),
        pytest.param([b'data: {"error":{"code":500}}\n\n'], {}, "stream_error:500", id="a number for a code"),
        pytest.param([b'{"error":"died","code":424}\n'], {}, "stream_error:424", id="a line of error, as LMI's"),
        pytest.param([b'{"error":{"code":"a b\\n<c>"}}\n'], {}, "stream_error:a_b_c_", id="a code that is no word"),
        pytest.param(
            [b'{"error":{"code":"rate_limit_exceeded"}}'], {"status": 429}, "http_429:rate_limit_exceeded", id="429"
        ),
        pytest.param([b"<html>"], {"status": 503}, "http_503", id="503 without a word"),
        pytest.param(
            [b'{"message":null}'],
            {"status": 400, "amz": "ThrottlingException"},
            "http_400:ThrottlingException",
            id="AWS",
        ),
        pytest.param([b'{"detail":"x"}'], {"status": 422}, "http_422", id="an error of another shape"),
        pytest.param([b"{}"], {"streaming": False}, "malformed_answer", id="a whole answer without choices"),
        pytest.param([b"\xff\xfe"], {"streaming": False}, "malformed_answer", id="a whole answer that is no text"),
    ],
)
def test_what_went_wrong_has_a_name(parts: list[bytes], options: dict[str, object], error: str) -> None:
    assert read(*parts, **options).error == error  # type: ignore[arg-type]  # options of several types


def test_tokens_are_estimated_where_no_usage_is_told() -> None:
    stream = b"".join(b'data: {"choices":[{"delta":{"content":"word "}}]}\n\n' for _ in range(9)) + b"data: [DONE]\n\n"
    assert read(stream).tokens() == (9, True)
    whole = b'{"choices":[{"message":{"content":"%b"},"finish_reason":"stop"}]}' % (b"x" * 41)
    assert read(whole, streaming=False).tokens() == (11, True)


def test_a_whole_answer_has_no_first_token() -> None:
    usage = b'"usage":{"prompt_tokens":3,"completion_tokens":1}'
    body = b'{"choices":[{"message":{"content":"Hi"},"finish_reason":"stop"}],%b}' % usage
    answer = read(body[:20], body[20:], streaming=False)
    assert (answer.error, answer.first, answer.tokens(), answer.input_tokens) == (None, None, (1, False), 3)


def test_an_event_stream_is_taken_apart_wherever_it_is_cut() -> None:
    body = b"".join(frames.payload_part(LINES[at : at + 7]) for at in range(0, len(LINES), 7))
    for cut in range(0, len(body), 5):
        answer = read(body[:cut], body[cut:], framed=True)
        assert (answer.error, answer.chunks, answer.tokens()) == (None, 2, (2, False)), cut


@pytest.mark.parametrize(
    ("tail", "error"),
    [
        pytest.param(
            frames.exception("ModelStreamError", {"ErrorCode": "x"}), "stream_error:ModelStreamError", id="exception"
        ),
        pytest.param(frames.error("InternalError", "m"), "stream_error:InternalError", id="error"),
        pytest.param(b"\0\0\0\x20" + b"\0" * 20, "malformed_event_stream", id="damage"),
        pytest.param(frames.payload_part(b"x")[:9], "stream_cut", id="half a frame"),
    ],
)
def test_how_an_event_stream_can_fail(tail: bytes, error: str) -> None:
    assert read(frames.payload_part(LINES) + tail, framed=True).error == error


def test_a_flipped_bit_is_found() -> None:
    frame = bytearray(frames.payload_part(b"some text"))
    frame[-8] ^= 1
    with pytest.raises(Malformed, match="checksum"):
        EventStream().feed(bytes(frame))


@pytest.mark.parametrize("name", ["lmi-chat-stream-usage", "lmi-chat-emoji-stream", "lmi-chat-tool-auto-stream"])
def test_streams_of_real_containers_are_complete(name: str) -> None:
    reply = json.loads((RECORDINGS / f"{name}.json").read_text(encoding="utf-8"))["response"]
    answer = read(*(chunk["text"].encode() for chunk in reply["chunks"] if "text" in chunk))
    assert (answer.error, answer.done, answer.dialect) == (None, True, "lines")
    assert answer.chunks > 1
