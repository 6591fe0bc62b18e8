"""A call's line: its fields, as JSON and as words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.base import Usage
from gateway.telemetry.events import CallRecord, Trace, Try
from gateway.telemetry.lines import FAULTS, encode, line_of, words_of

NOW = 1_790_000_000.25


def record(**fields: Any) -> CallRecord:
    made = CallRecord("chat", "req_1", 5.0, seconds=0.812, status=200, bytes_in=63, bytes_out=900)
    for name, value in fields.items():
        setattr(made, name, value)
    return made


CALLED: dict[str, Any] = {"key_id": "app", "team": "search", "model": "llama", "lane": "llama-70b", "upstream_s": 0.8}
BASE = {
    "time": "2026-09-21T14:13:20.250Z",
    "level": "info",
    "logger": "gateway.calls",
    "event": "call ended",
    "request_id": "req_1",
    "surface": "chat",
    "stream": False,
    "code": "ok",
    "status": 200,
    "attempts": 1,
    "bytes_in": 63,
    "bytes_out": 900,
    "total_ms": 812.0,
    "gateway_ms": 12.0,
    "upstream_ms": 800.0,
    "key": "app",
    "team": "search",
    "model": "llama",
    "deployment": "llama-70b",
}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param(CALLED, BASE, id="a whole answer"),
        pytest.param(
            {**CALLED, "usage": Usage(120, 310, 64), "money": 1_250, "queue_s": 0.002},
            {
                **BASE,
                "gateway_ms": 10.0,
                "prompt_tokens": 120,
                "cached_tokens": 64,
                "completion_tokens": 310,
                "money": 0.00125,
                "queue_ms": 2.0,
            },
            id="tokens, money and waiting",
        ),
        pytest.param(
            {
                **CALLED,
                "stream": True,
                "upstream_s": 0.09,
                "first_event_s": 0.0955,
                "head_s": 0.05,
                "decoding_s": 0.7,
                "events": 312,
                "dropped": 2,
                "ending": "complete",
                "tries": [Try("llama-70b", 5.0, 5.05, 5.09, "ok", 200)],
            },
            {
                **BASE,
                "stream": True,
                "gateway_ms": 5.5,
                "upstream_ms": 90.0,
                "sagemaker_ms": 50.0,
                "first_token_ms": 95.5,
                "decoding_ms": 700.0,
                "events": 312,
                "dropped": 2,
                "ending": "complete",
                "upstream_status": 200,
            },
            id="a stream",
        ),
        pytest.param(
            {
                **CALLED,
                "code": "upstream_throttled",
                "status": 503,
                "attempts": 2,
                "detail": "400 ThrottlingException",
                "tries": [
                    Try("llama-70b", 5.0, None, 5.25, "upstream_unavailable", 503),
                    Try("llama-70b", 5.5, 5.6, 5.75, "upstream_throttled", 400),
                ],
            },
            {
                **BASE,
                "level": "error",
                "event": "call failed",
                "code": "upstream_throttled",
                "status": 503,
                "attempts": 2,
                "upstream_status": 400,
                "tries": [
                    {"deployment": "llama-70b", "code": "upstream_unavailable", "ms": 250.0, "status": 503},
                    {"deployment": "llama-70b", "code": "upstream_throttled", "ms": 250.0, "status": 400},
                ],
                "detail": "400 ThrottlingException",
            },
            id="a failure after two attempts",
        ),
        pytest.param(
            {"code": "invalid_api_key", "status": 401, "seconds": 0.0002},
            {
                **{name: BASE[name] for name in list(BASE)[:15]},
                "code": "invalid_api_key",
                "status": 401,
                "attempts": 0,
                "total_ms": 0.2,
                "gateway_ms": 0.2,
                "upstream_ms": 0.0,
            },
            id="refused before anything was known",
        ),
        pytest.param(
            {**CALLED, "stream": True, "code": "cancelled", "status": 0, "ending": "cancelled", "upstream_s": 0.812},
            {
                **BASE,
                "stream": True,
                "code": "cancelled",
                "status": 0,
                "gateway_ms": 0.0,
                "upstream_ms": 812.0,
                "ending": "cancelled",
            },
            id="left before the first event of a stream",
        ),
        pytest.param(
            {**CALLED, "trace": Trace("0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331", None, True)},
            {**BASE, "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"},
            id="part of a trace",
        ),
        pytest.param({**CALLED, "upstream_s": 0.9}, {**BASE, "gateway_ms": 0.0, "upstream_ms": 900.0}, id="clocks"),
    ],
)
def test_the_fields_of_a_line(fields: dict[str, Any], told: dict[str, Any]) -> None:
    found = json.loads(encode(line_of(record(**fields), NOW)))
    assert found == told
    assert list(found)[:4] == ["time", "level", "logger", "event"]


@pytest.mark.parametrize(
    ("code", "event"),
    [
        ("ok", "call ended"),
        ("cancelled", "call ended"),
        ("invalid_json", "call ended"),
        ("rate_limit_exceeded", "call ended"),
        ("server_shutdown", "call ended"),
        ("internal_error", "call failed"),
        ("gateway_busy", "call failed"),
        ("limits_unavailable", "call failed"),
        ("upstream_error", "call failed"),
        ("upstream_timeout", "call failed"),
        ("model_not_ready", "call failed"),
    ],
)
def test_failures_are_those_that_are_neither_the_callers_nor_wanted(code: str, event: str) -> None:
    assert line_of(record(code=code), NOW).event == event
    assert (code in FAULTS) == (event == "call failed")


@pytest.mark.parametrize(
    "text",
    ['a"b\\c', "line\nbreak\r\x00\x1b[2J", "schön 日本 😀", "\x7f\x85\u2028", "\ud800", "half \udfff"],
    ids=["quotes", "control", "letters", "separators", "a surrogate", "another"],
)
def test_a_line_is_one_line_of_ascii_whatever_a_name_holds(text: str) -> None:
    data = encode(line_of(record(key_id=text), NOW))
    assert data.isascii()
    assert [byte for byte in data if byte < 0x20] == []
    assert json.loads(data)["key"] == text


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        pytest.param(
            {**CALLED, "stream": True, "first_event_s": 0.095, "usage": Usage(120, 310)},
            "12:00:01 200 chat llama 812 ms · first token 95 ms · 120→310 tokens · key app · req_1",
            id="a stream",
        ),
        pytest.param(
            {"code": "invalid_api_key", "status": 401, "seconds": 0.0002},
            "12:00:01 401 chat - 0.2 ms · invalid_api_key · req_1",
            id="refused",
        ),
        pytest.param(
            {**CALLED, "code": "upstream_error", "status": 502, "seconds": 61.5, "attempts": 2, "detail": "500 X"},
            "12:00:01 502 chat llama 61.5 s · upstream_error (500 X) · 2 attempts · key app · req_1",
            id="failed",
        ),
        pytest.param(
            {**CALLED, "status": 0, "code": "cancelled"},
            "12:00:01 --- chat llama 812 ms · cancelled · key app · req_1",
            id="left before an answer",
        ),
        pytest.param(
            {**CALLED, "key_id": "a\x1b[31mb\n"},
            "12:00:01 200 chat llama 812 ms · key a?[31mb? · req_1",
            id="a name with commands to a terminal",
        ),
    ],
)
def test_a_line_in_words(fields: dict[str, Any], words: str) -> None:
    assert words_of(line_of(record(**fields), NOW), "12:00:01") == words


@pytest.mark.parametrize(
    ("code", "status", "shown"),
    [
        ("ok", 200, "\x1b[32m200\x1b[0m"),
        ("model_not_found", 404, "\x1b[33m404\x1b[0m"),
        ("cancelled", 0, "\x1b[33m---\x1b[0m"),
        ("upstream_error", 502, "\x1b[31m502\x1b[0m"),
        ("upstream_error", 200, "\x1b[31m200\x1b[0m"),
    ],
)
def test_colours_tell_who_is_to_blame(code: str, status: int, shown: str) -> None:
    line = line_of(record(code=code, status=status, key_id="\x1b[0m"), NOW)
    assert words_of(line, "12:00:01", colour=True).startswith(f"12:00:01 {shown} chat")
    assert words_of(line, "12:00:01", colour=True).count("\x1b") == 4
