"""Every recorded answer of a real container, through its adapter: streams cut every way, replies by their bytes."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

from adapters.base import Usage
from adapters.errors import FaultKind
from tests.adapters.calls import (
    DONE,
    Recording,
    outcome,
    pieces,
    recording,
    recordings_of_answers,
    relayed,
    whole_reply,
)

STREAMS = recordings_of_answers(stream=True)
WHOLE = recordings_of_answers(stream=False)


def with_both_names(message: Any) -> None:
    """Give a message's thoughts their second name."""
    if message.get("reasoning") is not None:
        message["reasoning_content"] = message["reasoning"]


def records_of(exchange: Recording) -> list[bytes]:
    """Return the records of a recorded stream, by the plainest reading there is."""
    records = exchange.reply.removesuffix(DONE).split(b"\n")
    return [record.removeprefix(b"data: ") for record in records if record]


def test_the_recordings_are_all_here() -> None:
    assert (len(STREAMS), len(WHOLE)) == (53, 53)


@pytest.mark.parametrize("exchange", STREAMS, ids=lambda exchange: exchange.name)
def test_a_recorded_stream_is_relayed_event_for_event(exchange: Recording) -> None:
    asked = json.loads(records_of(exchange)[-1])["choices"] == []
    decoder = exchange.adapter.stream_decoder(exchange.call())
    events = relayed(decoder, [exchange.reply])
    assert events[-1] == DONE
    assert len(events) == len(records_of(exchange)) + 1
    running = "continuous_usage_stats" in exchange.request.get("stream_options", {})
    for event, record in zip(events, records_of(exchange), strict=False):
        expected = json.loads(record)
        expected["model"] = "public"
        if expected["choices"] and not running:
            expected.pop("usage", None)
        for choice in expected["choices"]:
            with_both_names(choice.get("delta", {}))
            if exchange.request.get("logprobs") is True and choice["logprobs"]:
                choice["logprobs"]["refusal"] = None
        if running:
            expected["usage"].pop("completion_tokens_details", None)
        assert json.loads(event.removeprefix(b"data: ")) == expected
    assert decoder.complete
    assert (decoder.usage is not None) is asked
    assert (decoder.fault, decoder.malformed, decoder.dropped) == (None, None, 0)


@pytest.mark.parametrize("exchange", STREAMS, ids=lambda exchange: exchange.name)
def test_a_recorded_stream_comes_out_the_same_however_it_is_cut(exchange: Recording) -> None:
    def run(parts: Any) -> tuple[Any, ...]:
        decoder = exchange.adapter.stream_decoder(exchange.call())
        return relayed(decoder, parts), outcome(decoder)

    data = exchange.reply
    expected = run([data])
    assert run(pieces(data, 1)) == expected
    chance = random.Random(exchange.name)
    first, last = data.find(b"\n") + 3, len(data) - 400
    offsets = {*range(first), *range(last, len(data)), *chance.sample(range(len(data)), min(100, len(data)))}
    for at in offsets:
        assert run([data[:at], data[at:]]) == expected
    for _ in range(20):
        cuts = sorted({0, len(data), *chance.sample(range(len(data)), 9)})
        assert run([data[a:b] for a, b in itertools.pairwise(cuts)]) == expected


@pytest.mark.parametrize("exchange", STREAMS, ids=lambda exchange: exchange.name)
def test_a_recorded_stream_that_stops_early_is_never_complete(exchange: Recording) -> None:
    finish = exchange.reply.rfind(b'"finish_reason":"')
    for at in {*range(0, finish, 97), finish}:
        decoder = exchange.adapter.stream_decoder(exchange.call())
        events = relayed(decoder, [exchange.reply[:at]])
        assert DONE not in events
        assert (decoder.complete, decoder.fault) == (False, None)
        assert decoder.malformed is not None


@pytest.mark.parametrize("exchange", WHOLE, ids=lambda exchange: exchange.name)
def test_a_recorded_reply_changes_only_where_it_breaks_the_schema(exchange: Recording) -> None:
    expected = json.loads(exchange.reply)
    expected["model"] = "public"
    counts = expected["usage"]
    details = counts["prompt_tokens_details"] or {}
    for name in ("prompt_tokens_details", "completion_tokens_details"):
        if counts.get(name, 1) is None:
            del counts[name]
    for choice in expected["choices"]:
        if "message" in choice:
            del choice["message"]["annotations"], choice["message"]["function_call"]
            with_both_names(choice["message"])
            if choice["logprobs"]:
                choice["logprobs"]["refusal"] = None

    whole = whole_reply(exchange.adapter, exchange.call(), exchange.reply)
    assert json.loads(whole.body) == expected
    assert not whole.body[-1:].isspace()
    assert whole.usage == Usage(counts["prompt_tokens"], counts["completion_tokens"], details.get("cached_tokens") or 0)


def test_a_reply_keeps_every_byte_but_the_name() -> None:
    exchange = recording("vllm032-scripted-completion")
    body = whole_reply(exchange.adapter, exchange.call(), exchange.reply).body
    assert body == exchange.reply.replace(b'"tiny-scripted"', b'"public"').replace(
        b',"prompt_tokens_details":null,"completion_tokens_details":null', b""
    )


@pytest.mark.parametrize(
    ("name", "relayed_chunks"), [("lmi-fault-engine-killed", 6), ("vllm032-fault-engine-killed", 12)]
)
def test_a_killed_engine_is_a_fault_after_what_it_said(name: str, relayed_chunks: int) -> None:
    exchange = recording(name)
    for size in (1, 64, len(exchange.reply)):
        decoder = exchange.adapter.stream_decoder(exchange.call())
        events = relayed(decoder, pieces(exchange.reply, size))
        assert len(events) == relayed_chunks
        assert DONE not in events
        assert decoder.fault is not None
        assert decoder.fault.kind is FaultKind.UNAVAILABLE
        assert (decoder.chunks, decoder.complete, decoder.dropped) == (relayed_chunks, False, 0)
