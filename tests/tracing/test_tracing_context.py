"""The callers' trace headers: what is taken over, what counts as absent, and what goes on to a container."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.http.request import read_head
from gateway.telemetry.events import Trace
from gateway.telemetry.trace_context import STREAM_SPAN, begun, child_id, continued, new_trace_id, traceparent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


@pytest.mark.parametrize(
    ("traceparent", "sampled"),
    [
        pytest.param(f"00-{TRACE}-{SPAN}-01", True, id="sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-00", False, id="not sampled"),
        pytest.param(f"00-{TRACE}-{SPAN}-03", True, id="random besides"),
        pytest.param(f"00-{TRACE}-{SPAN}-02", False, id="random only"),
        pytest.param(f"00-{TRACE}-{SPAN}-ff", True, id="unknown flags"),
        pytest.param(f"01-{TRACE}-{SPAN}-01", True, id="a later version"),
        pytest.param(f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like", True, id="a later version with more"),
        pytest.param(f" \t{GOOD} ", True, id="white space around"),
    ],
)
def test_a_trace_is_continued(traceparent: str, sampled: bool) -> None:
    trace = continued(traceparent.encode(), [])
    assert trace == Trace(TRACE, SPAN, SPAN, sampled)


MALFORMED = [
    pytest.param("", id="empty"),
    pytest.param("00", id="a version"),
    pytest.param(GOOD[:-1], id="one digit short"),
    pytest.param(GOOD + "0", id="one digit long"),
    pytest.param(GOOD + "-", id="version 00 with an empty field more"),
    pytest.param(GOOD + "-00", id="version 00 with a field more"),
    pytest.param(f"ff-{TRACE}-{SPAN}-01", id="the forbidden version"),
    pytest.param(f"01-{TRACE}-{SPAN}-01.more", id="a later version, wrongly more"),
    pytest.param(f"00-{'0' * 32}-{SPAN}-01", id="trace id of zeros"),
    pytest.param(f"00-{TRACE}-{'0' * 16}-01", id="parent id of zeros"),
    pytest.param(GOOD.upper(), id="upper case"),
    pytest.param(GOOD.replace("4", "g", 1), id="no digit"),
    pytest.param(GOOD.replace("-", "_"), id="other dashes"),
    pytest.param(f"00-{TRACE}-{SPAN}-.1", id="flags that are none"),
    pytest.param(f"0-{TRACE}-{SPAN}-01", id="a short version"),
    pytest.param(f"{GOOD},{GOOD}", id="two in one header"),
    pytest.param(f"{GOOD};route=/v1/embeddings", id="an attribute behind it"),
    pytest.param(f"{GOOD}\n", id="a line end"),
    pytest.param(f"{GOOD}\x00", id="a zero byte"),
    pytest.param("\u0660" * 55, id="other digits"),
]


@pytest.mark.parametrize("traceparent", MALFORMED)
def test_what_is_malformed_counts_as_absent(traceparent: str) -> None:
    assert continued(traceparent.encode(), [(b"tracestate", b"a=1")]) is None


def test_two_headers_count_as_none() -> None:
    headers = [(b"traceparent", GOOD.encode())] * 2
    assert read_head(headers[:1]).traceparent == GOOD.encode()
    assert continued(read_head(headers).traceparent, headers) is None


@given(st.binary(max_size=80) | st.text("0123456789abcdef-", max_size=60).map(str.encode))
def test_whatever_comes_only_digits_and_dashes_go_on(data: bytes) -> None:
    trace = continued(data, [])
    if trace is not None:
        assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]", traceparent_of(trace, 1))


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param(["congo=t61rcWkgMzE"], "congo=t61rcWkgMzE", id="one"),
        pytest.param(["rojo=1,congo=2"], "rojo=1,congo=2", id="two"),
        pytest.param(["rojo=1", "congo=2"], "rojo=1,congo=2", id="two headers"),
        pytest.param([" rojo=1 , ,\tcongo=2"], "rojo=1,congo=2", id="white space and empty members"),
        pytest.param(["fw529a3039@dt=FfAAAA"], "fw529a3039@dt=FfAAAA", id="a tenant"),
        pytest.param([",".join(f"k{n}=1" for n in range(32))], ",".join(f"k{n}=1" for n in range(32)), id="32"),
        pytest.param([",".join(f"k{n}=1" for n in range(33))], "", id="33"),
        pytest.param(["a=1,a=2"], "", id="a name twice"),
        pytest.param(["A=1"], "", id="upper case"),
        pytest.param(["1a=1"], "", id="a digit first"),
        pytest.param(["a"], "", id="no value"),
        pytest.param(["a="], "", id="an empty value"),
        pytest.param(["a=b=c"], "", id="two equals signs"),
        pytest.param(["a=\x7f"], "", id="a control character"),
        pytest.param(["a=ä"], "", id="not ASCII"),
        pytest.param(["a=1;route=/x,b c=1"], "", id="a space in a name"),
        pytest.param([f"a={'x' * 256}"], f"a={'x' * 256}", id="the longest value"),
        pytest.param([f"a={'x' * 257}"], "", id="a longer one"),
        pytest.param([f"a={'x' * 250},b={'x' * 250},c={'x' * 10}"], "", id="more than must be carried"),
    ],
)
def test_a_state_is_carried_if_it_is_right(given: list[str], kept: str) -> None:
    trace = continued(GOOD.encode(), [(b"tracestate", value.encode("latin-1")) for value in given])
    assert trace is not None
    assert trace.state == kept


def test_the_gateways_own_span_stands_below_the_callers() -> None:
    parent = continued(GOOD.encode(), [(b"tracestate", b"a=1")])
    assert parent is not None
    own = begun(parent, parent.trace_id, sampled=True)
    assert (own.trace_id, own.parent_id, own.state) == (TRACE, SPAN, "a=1")
    assert own.span_id != SPAN


def test_ids_are_never_zero_and_never_the_same() -> None:
    traces = [begun(None, new_trace_id(), sampled=True) for _ in range(100)]
    ids = [child_id(trace, number) for trace in traces for number in (0, 1, 2, 3, 4, 5, STREAM_SPAN)]
    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch("[0-9a-f]{16}", id_) and int(id_, 16) for id_ in ids)
    assert child_id(traces[0], 0) == traces[0].span_id


def test_a_container_is_told_of_its_attempt_or_of_the_caller_where_there_are_no_spans() -> None:
    parent = continued(GOOD.encode(), [])
    assert parent is not None
    assert traceparent_of(parent, 1) == GOOD
    own = begun(parent, parent.trace_id, sampled=False)
    assert traceparent_of(own, 2) == f"00-{TRACE}-{child_id(own, 2)}-00"
