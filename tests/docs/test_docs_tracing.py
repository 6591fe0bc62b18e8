"""docs/tracing.md: attributes, events, numbers and patterns are those of the code, and its middleware works."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import pytest

from adapters.base import Call, Surface, Usage
from gateway.config.models import TRACE_CHARS
from gateway.config.settings import Settings
from gateway.telemetry import spans as made
from gateway.telemetry import trace_content, trace_context, tracing
from gateway.telemetry.events import CallRecord, Trace, Try
from gateway.telemetry.trace_content import NUMBERS, SECRETS, asked
from tests.docs.reading import page, table

PAGE = page("tracing.md")
WORDS = " ".join(PAGE.split())
TRACE = Trace("a" * 32, "8" * 16, "b" * 16, True)


def spans() -> list[made.Span]:
    """Return the spans of a call that has everything."""
    values: dict[str, Any] = {"messages": [{"role": "user", "content": "hi"}], **dict.fromkeys(NUMBERS, 1)}
    call = Call(Surface.CHAT, "m", {}, values, stream=True, include_usage=False, choices=2, max_tokens=9)
    record = CallRecord("chat", "r", 10.0, key_id="k", team="t", model="m", lane="d", stream=True)
    record.asked, record.usage, record.trace = asked(call, 100), Usage(3, 2, 1), TRACE
    record.tries = [Try("d", 10.0, 10.1, 10.2, "upstream_error", 500), Try("d", 10.3, 10.4, 10.5, "ok", 200)]
    record.attempts, record.first_event_s, record.decoding_s, record.seconds = 2, 0.5, 0.4, 1.0
    record.bytes_in, record.bytes_out, record.status, record.ending, record.events = 1, 1, 200, "complete", 5
    places = {("m", "d"): made.Place("runtime.sagemaker.us-east-1.amazonaws.com", 443, "us-east-1")}
    good = made.spans_of(record, TRACE, places)
    record.code, record.ending = "cancelled", "cancelled"
    return good + made.spans_of(record, TRACE, places)


KINDS = {"server": "call", "client": "attempt", "internal": "stream"}


def test_every_attribute_has_a_row_that_names_its_spans() -> None:
    found: dict[str, set[str]] = {}
    for span in spans():
        for name in span.attributes:
            found.setdefault(name, set()).add(KINDS[span.kind])
    assert {row[0].strip("`"): set(row[1].split(", ")) for row in table(PAGE, "attributes")} == found


def test_every_event_has_a_row() -> None:
    rows = re.search(r"\| Event \|.*?\n\n", PAGE, re.DOTALL)
    assert rows
    named = re.findall(r"^\| `(\w+)` \|", rows[0], re.MULTILINE)
    assert named == [made.HEAD_EVENT, made.FIRST_EVENT, made.LAST_EVENT]
    assert {name for span in spans() for name, _ in span.events} == set(named)


def test_times_and_parents_are_those_of_the_record() -> None:
    call, first, second, stream, *_ = spans()
    assert (call.began, call.ended, call.parent_id) == (10.0, 11.0, "b" * 16)
    assert [(first.began, first.ended), (second.began, second.ended)] == [(10.0, 10.2), (10.3, 10.5)]
    assert (stream.began, stream.ended) == (10.5, 10.9)
    assert stream.events == [("first_token", 10.5), ("last_token", 10.9)]
    assert {span.parent_id for span in (first, second, stream)} == {call.span_id}
    assert [span.failed for span in (call, first, second, stream)] == [False, True, False, False]


def test_every_pattern_has_a_row() -> None:
    assert [row[0].strip("`") for row in table(PAGE, "redacted")] == list(SECRETS)
    assert f"replaced by `{trace_content.MARK}`" in PAGE


def test_every_name_before_a_secret_is_one() -> None:
    (row,) = (row[1] for row in table(PAGE, "redacted") if row[0] == "`named`")
    for name in re.findall(r"`(\w+)`", row):
        assert trace_content.redact(f"x_{name}=canary12 b", 99) == f"x_{name}=[redacted] b" or name == "sig"
    assert trace_content.redact("?sig=canary12&b", 99) == "?sig=[redacted]&b"


@pytest.mark.parametrize(
    ("said", "value"),
    [
        (r"first `trace_content_chars` characters are kept \((\d+)\)", Settings().trace_content_chars),
        (r"the (\d+) newest messages", trace_content.MAX_MESSAGES),
        (r"of all texts together (\d+) characters", trace_content.MAX_TOTAL_CHARS),
        (r"longer than (\d+) characters, is dropped", trace_context.MAX_STATE_CHARS),
        (r"which lose (\d+) of their 1024 characters", TRACE_CHARS),
        (r"has (\d+) seconds to get out", tracing.STOP_S),
        (r"may wait \((\d+)\)", tracing.QUEUE_SIZE),
    ],
)
def test_a_number_is_the_one_in_the_code(said: str, value: float) -> None:
    found = re.search(said, WORDS)
    assert found, f"docs/tracing.md no longer says {said!r}"
    assert float(found[1]) == value


GOOD = f"00-{'a' * 32}-{'b' * 16}-01"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("attributes", "handed_on"),
    [
        pytest.param(f"traceparent={GOOD}", GOOD, id="alone"),
        pytest.param(f"traceparent={GOOD};route=/v1/chat/completions", GOOD, id="before others"),
        pytest.param(f"traceparent={GOOD}0", None, id="malformed"),
        pytest.param("a=1", None, id="not there"),
        pytest.param(None, None, id="no attributes"),
    ],
)
async def test_the_middleware_hands_on_the_trace(attributes: str | None, handed_on: str | None) -> None:
    code = re.search(r"  ```python\n(.*?)  ```", PAGE, re.DOTALL)
    assert code
    namespace: dict[str, Any] = {}
    exec(textwrap.dedent(code[1]), namespace)
    seen: list[dict[bytes, bytes]] = []

    async def app(scope: dict[str, Any], receive: object, send: object) -> None:
        seen.append(dict(scope["headers"]))

    headers = [] if attributes is None else [(b"x-amzn-sagemaker-custom-attributes", attributes.encode())]
    await namespace["TraceMiddleware"](app)({"type": "http", "headers": headers}, None, None)
    assert seen[0].get(b"traceparent") == (None if handed_on is None else handed_on.encode())
