"""A call's line: what is written down about a call once it has ended, as JSON for machines and as words for a terminal.

The log, the records of usage and the console show the same fields by the same names: docs/logging.md. They hold what
the configuration names, what the gateway counts and words of its own; nothing of a prompt, an answer or a key.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from typing import Literal

import msgspec

from gateway.errors import GatewayError, ShuttingDown
from gateway.telemetry.events import CallRecord

LOGGER = "gateway.calls"


def _kinds(of: type[GatewayError]) -> Iterator[type[GatewayError]]:
    yield of
    for kind in of.__subclasses__():
        yield from _kinds(kind)


FAULTS = frozenset(kind.code for kind in _kinds(GatewayError) if kind.status >= 500) - {ShuttingDown.code}
"""Codes of calls that failed through no doing of their callers', and that no wanted stop has cut."""


class TryLine(msgspec.Struct, omit_defaults=True, frozen=True):
    """One attempt of a call that took several."""

    deployment: str
    code: str
    ms: float
    status: int = 0


class CallLine(msgspec.Struct, omit_defaults=True):
    """A call's line; what does not apply to a call is left out. Times are milliseconds, sizes bytes."""

    time: str
    """The end of the call: ISO 8601, UTC, with milliseconds."""
    level: Literal["info", "error"]
    logger: str
    event: Literal["call ended", "call failed"]
    request_id: str
    surface: str
    stream: bool
    code: str
    """`ok`, an error's code, or `cancelled`."""
    status: int
    """Of the answer; 0 if the caller left before there was one."""
    attempts: int
    bytes_in: int
    bytes_out: int
    total_ms: float
    gateway_ms: float
    """The gateway's own share: until a whole answer, or a stream's first event, less the waiting for others."""
    upstream_ms: float
    key: str = ""
    """The key's id."""
    team: str = ""
    model: str = ""
    deployment: str = ""
    """Of the last attempt."""
    prompt_tokens: int | None = None
    cached_tokens: int = 0
    completion_tokens: int | None = None
    money: float | None = None
    """In the currency of the model's prices; absent without prices."""
    queue_ms: float = 0.0
    sagemaker_ms: float | None = None
    """Of the last attempt, from its beginning to the head of SageMaker's reply."""
    first_token_ms: float | None = None
    decoding_ms: float = 0.0
    events: int = 0
    dropped: int = 0
    ending: str = ""
    upstream_status: int = 0
    """SageMaker's HTTP status, of the last attempt."""
    tries: list[TryLine] | None = None
    """Each attempt, of a call with several."""
    detail: str | None = None
    """What failed, in words of the gateway's own."""
    trace_id: str = ""
    span_id: str = ""


def line_of(record: CallRecord, now: float) -> CallLine:
    """Return the line of a call that has ended at `now`, in Unix seconds."""
    failed = record.code in FAULTS
    first_event_s, usage, tries, trace = record.first_event_s, record.usage, record.tries, record.trace
    own_s = (record.seconds if first_event_s is None else first_event_s) - record.upstream_s - record.queue_s
    line = CallLine(
        iso(now),
        "error" if failed else "info",
        LOGGER,
        "call failed" if failed else "call ended",
        record.request_id,
        record.surface,
        record.stream,
        record.code,
        record.status,
        record.attempts if record.lane else 0,
        record.bytes_in,
        record.bytes_out,
        milliseconds(record.seconds),
        milliseconds(own_s) if own_s > 0 else 0.0,
        milliseconds(record.upstream_s),
        record.key_id,
        record.team,
        record.model,
        record.lane,
    )
    if usage is not None:
        line.prompt_tokens, line.completion_tokens = usage.prompt_tokens, usage.completion_tokens
        line.cached_tokens = usage.cached_tokens
    if record.money is not None:
        line.money = record.money / 1_000_000
    if record.queue_s:
        line.queue_ms = milliseconds(record.queue_s)
    if record.head_s is not None:
        line.sagemaker_ms = milliseconds(record.head_s)
    if record.stream:
        if first_event_s is not None:
            line.first_token_ms, line.decoding_ms = milliseconds(first_event_s), milliseconds(record.decoding_s)
        line.events, line.dropped, line.ending = record.events, record.dropped, record.ending
    if tries:
        line.upstream_status = tries[-1].status
        if len(tries) > 1:
            line.tries = [TryLine(one.lane, one.code, milliseconds(one.ended - one.began), one.status) for one in tries]
    if record.detail is not None:
        line.detail = record.detail
    if trace is not None:
        line.trace_id, line.span_id = trace.trace_id, trace.span_id
    return line


_encoder = msgspec.json.Encoder().encode


def told(record: CallRecord, now: float) -> bytes:
    """Return the encoded line of a call, made once for all who tell of it."""
    if not record.line:
        record.line = encode(line_of(record, now))
    return record.line


def encode(line: msgspec.Struct) -> bytes:
    """Return one JSON object in ASCII, without a line's end: nothing in it can begin a line of its own."""
    try:
        data = _encoder(line)
        if data.isascii():
            return data
    except UnicodeEncodeError:  # half of a pair of surrogates
        pass
    return json.dumps(msgspec.to_builtins(line), ensure_ascii=True, separators=(",", ":")).encode()


_OK, _CALLERS, _OURS, _DIM, _PLAIN = "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[2m", "\x1b[0m"


def words_of(line: CallLine, clock: str, *, colour: bool = False) -> str:
    """Return a line for people: what, how it ended, how long it took, and for whom.

    Args:
        clock: the time of day to begin with.
    """
    first = f"{line.surface} {line.model or '-'} {_readable(line.total_ms)}"
    parts = [first]
    if line.code != "ok":
        parts.append(line.code if line.detail is None else f"{line.code} ({line.detail})")
    if line.first_token_ms is not None:
        parts.append(f"first token {_readable(line.first_token_ms)}")
    if line.prompt_tokens is not None:
        parts.append(f"{line.prompt_tokens}→{line.completion_tokens} tokens")
    if line.attempts > 1:
        parts.append(f"{line.attempts} attempts")
    if line.key:
        parts.append(f"key {line.key}")
    text = " · ".join(parts)
    if not text.isprintable():  # the rest, of the name of a token's holder, say, would be a command to the terminal
        text = "".join(one if one.isprintable() else "?" for one in text)
    status = str(line.status or "---")
    if not colour:
        return f"{clock} {status} {text} · {line.request_id}"
    kind = _OK if line.code == "ok" else _OURS if line.level == "error" else _CALLERS
    return f"{clock} {kind}{status}{_PLAIN} {text} · {_DIM}{line.request_id}{_PLAIN}"


def _readable(ms: float) -> str:
    return f"{ms / 1000:.1f} s" if ms >= 10_000 else f"{ms:.0f} ms" if ms >= 10 else f"{ms:.1f} ms"


def milliseconds(seconds: float) -> float:
    return int(seconds * 100_000) / 100


_second = (-1, "")


def iso(now: float) -> str:
    global _second
    second = int(now)
    known, text = _second
    if known != second:
        text = time.strftime("%Y-%m-%dT%H:%M:%S.", time.gmtime(second))
        _second = second, text
    return f"{text}{int((now - second) * 1000):03d}Z"
