"""Cutting bytes into records: every wire form, every cut, a limit that holds, and linear time."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.framing.jsonlines import LineSplitter
from adapters.framing.sse import EventSplitter

EVENTS = [
    pytest.param(b"data: a\n\ndata: b\n\n", [b"a", b"b"], id="plain"),
    pytest.param(b"data: a\r\n\r\ndata: b\r\n\r\n", [b"a", b"b"], id="CRLF"),
    pytest.param(b"data: a\r\rdata: b\r\r", [b"a", b"b"], id="lone CR"),
    pytest.param(b"data: a\r\n\ndata: b\n\r\n", [b"a", b"b"], id="line ends mixed"),
    pytest.param(b"data:a\n\ndata:b\n\n", [b"a", b"b"], id="no space"),
    pytest.param(b"data:  a\n\n", [b" a"], id="only one space belongs to the field"),
    pytest.param(b": ping\n\ndata: a\n\n: keep-alive\n\ndata: b\n\n", [b"a", b"b"], id="comments"),
    pytest.param(b"data: a\n: inside\n\n", [b"a"], id="a comment inside an event"),
    pytest.param(b"event: x\nid: 1\nretry: 5\ndata: a\n\n", [b"a"], id="other fields"),
    pytest.param(b"event: x\n\ndata: a\n\n", [b"a"], id="an event without data is none"),
    pytest.param(b"datax: a\n\ndata: b\n\n", [b"b"], id="a field that only starts alike"),
    pytest.param(b"data: a\ndata: b\n\n", [b"a\nb"], id="two data lines"),
    pytest.param(b"data\n\n", [b""], id="a field without colon"),
    pytest.param(b"data: \n\n", [b""], id="empty data"),
    pytest.param(b"\n\n\ndata: a\n\n\n\n", [b"a"], id="blank lines"),
    pytest.param(b"\xef\xbb\xbfdata: a\n\n", [b"a"], id="byte order mark"),
    pytest.param(b"data: \xef\xbb\xbfa\n\n", [b"\xef\xbb\xbfa"], id="a byte order mark elsewhere is data"),
    pytest.param("data: é😀\n\n".encode(), ["é😀".encode()], id="characters of several bytes"),
    pytest.param(b"data: a\n\ndata: b", [b"a", b"b"], id="the last event is not ended"),
    pytest.param(b"data: a\n\ndata: b\n", [b"a", b"b"], id="the last event lacks its blank line"),
    pytest.param(b"", [], id="nothing"),
    pytest.param(b"\xef", [], id="a single byte that is no event"),
]
LINES = [
    pytest.param(b"a\nb\n\n", [b"a", b"b", b""], id="plain, with the end mark"),
    pytest.param(b"a\r\nb\r\n\r\n", [b"a", b"b", b""], id="CRLF"),
    pytest.param(b"a\n\n\nb\n", [b"a", b"", b"", b"b"], id="blank lines are told"),
    pytest.param(b"a\nb", [b"a", b"b"], id="the last line is not ended"),
    pytest.param(b"a\nb\r", [b"a", b"b"], id="the last line ends in half a CRLF"),
    pytest.param("é😀\n".encode(), ["é😀".encode()], id="characters of several bytes"),
    pytest.param(b"", [], id="nothing"),
]


def fed(splitter: EventSplitter | LineSplitter, parts: list[bytes]) -> list[bytes]:
    found = [payload for part in parts for payload in splitter.feed(part)]
    return found + splitter.end()


def cuts(data: bytes) -> list[list[bytes]]:
    """Return the data whole, byte by byte, and in two and three parts cut at every offset."""
    two = [[data[:at], data[at:]] for at in range(len(data) + 1)]
    three = [[data[:a], data[a:b], data[b:]] for a, b in itertools.combinations(range(len(data) + 1), 2)]
    return [[data], [data[at : at + 1] for at in range(len(data))], *two, *three]


@pytest.mark.parametrize(("data", "payloads"), EVENTS)
def test_events_come_out_the_same_however_they_are_cut(data: bytes, payloads: list[bytes]) -> None:
    for parts in cuts(data):
        assert fed(EventSplitter(1000), parts) == payloads, parts


@pytest.mark.parametrize(("data", "lines"), LINES)
def test_lines_come_out_the_same_however_they_are_cut(data: bytes, lines: list[bytes]) -> None:
    for parts in cuts(data):
        assert fed(LineSplitter(1000), parts) == lines, parts


@given(
    st.lists(
        st.sampled_from([b"data: ", b"data:", b"a", b"{}", b"\n", b"\r", b"\r\n", b": c", b"id: 1", b"\n\n", b"\xc3"])
    )
)
def test_any_mixture_of_fields_and_line_ends_is_cut_safe(tokens: list[bytes]) -> None:
    data = b"".join(tokens)
    whole = EventSplitter(1000)
    expected = fed(whole, [data]), whole.line_breaks
    bytewise = EventSplitter(1000)
    assert (fed(bytewise, [data[at : at + 1] for at in range(len(data))]), bytewise.line_breaks) == expected
    tokenwise = EventSplitter(1000)
    assert (fed(tokenwise, tokens), tokenwise.line_breaks) == expected


@pytest.mark.parametrize(
    ("data", "payloads"),
    [
        pytest.param(b"data: 1234\n\ndata: 12345\n\ndata: 1\n\n", [b"1234"], id="one event is too long"),
        pytest.param(b"data: 1234\n\ndata: 1\ndata: 2\n\ndata: 1\n\n", [b"1234"], id="two lines are too long together"),
        pytest.param(b"data: 1234\n\n: 123456789\ndata: 1\n\n", [b"1234"], id="a comment is too long"),
        pytest.param(b"data: 1234\n\ndata: 1234567", [b"1234"], id="it need not even end"),
    ],
)
def test_nothing_follows_an_event_over_the_limit_however_it_is_cut(data: bytes, payloads: list[bytes]) -> None:
    for parts in cuts(data):
        splitter = EventSplitter(10)
        assert fed(splitter, parts) == payloads, parts
        assert splitter.too_long


def test_nothing_follows_a_line_over_the_limit_however_it_is_cut() -> None:
    for parts in cuts(b"1234567890\n12345678901\n1\n"):
        splitter = LineSplitter(10)
        assert fed(splitter, parts) == [b"1234567890"], parts
        assert splitter.too_long


def test_a_limit_is_no_limit_on_what_comes_at_once() -> None:
    assert EventSplitter(10).feed(b"data: 1234\n\n" * 1000) == [b"1234"] * 1000
    assert LineSplitter(10).feed(b"1234567890\n" * 1000) == [b"1234567890"] * 1000


@pytest.mark.parametrize("data", [b"data: a\ndata: b\n\n", b"data: x\n\ndata: a\rdata: b\r\r"])
def test_a_payload_of_several_data_lines_is_told(data: bytes) -> None:
    for parts in cuts(data):
        splitter = EventSplitter(1000)
        fed(splitter, parts)
        assert splitter.line_breaks, parts


def test_a_lone_carriage_return_in_a_line_is_told() -> None:
    for parts in cuts(b"a\n{\r}\n"):
        splitter = LineSplitter(1000)
        assert fed(splitter, parts) == [b"a", b"{\r}"]
        assert splitter.line_breaks, parts


@pytest.mark.parametrize(
    ("splitter", "start", "end"),
    [
        pytest.param(EventSplitter(8_000_000), b"data: ", b"\n\n", id="one data line"),
        pytest.param(LineSplitter(8_000_000), b"", b"\n", id="one line"),
    ],
)
def test_a_long_record_in_small_pieces_costs_linear_time(
    splitter: EventSplitter | LineSplitter, start: bytes, end: bytes
) -> None:
    piece = b"x" * 1024
    splitter.feed(start)
    started = time.perf_counter()
    for _ in range(5000):
        assert splitter.feed(piece) == []
    (payload,) = splitter.feed(end)
    # Quadratic copying moves 12 GB here, which takes seconds; linear time is about 10 ms.
    assert time.perf_counter() - started < 1
    assert len(payload) == 5000 * 1024


def test_many_data_lines_of_one_event_cost_linear_time() -> None:
    splitter = EventSplitter(8_000_000)
    started = time.perf_counter()
    for _ in range(5000):
        assert splitter.feed(b"data: " + b"x" * 1000 + b"\n") == []
    (payload,) = splitter.feed(b"\n")
    assert time.perf_counter() - started < 1
    assert payload.count(b"\n") == 4999
