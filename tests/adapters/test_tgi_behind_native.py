"""TGI's own calls to TGI containers: what these write passes, and nothing they did not write is made up."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.base import Usage, Whole
from adapters.errors import ContainerFault, FaultKind
from adapters.registry import make
from tests.adapters.behind import (
    DONE,
    answered,
    cuts,
    details,
    dumps,
    faulted,
    frames,
    gathered,
    malformed,
    sse,
    streamed,
    token,
)
from tests.adapters.calls import relayed
from tests.adapters.generating import generate

TGI = make("tgi", "3.3")
PLAIN, DETAILED = generate(stream=True), generate(stream=True, details=True)
PREFILL = [{"id": 1, "text": "a", "logprob": None}, {"id": 2, "text": "b", "logprob": -1.0}]


def generation(**more: Any) -> dict[str, Any]:
    tokens = [token("Hello", 1), token(" you", 2)]
    told = {"finish_reason": "length", "generated_tokens": 2, "seed": 2**64 - 1, "prefill": PREFILL, "tokens": tokens}
    return {"generated_text": "Hello you", "details": told | more}


# Whole


def test_a_whole_reply_is_an_object_without_details_nobody_asked_for() -> None:
    assert answered(TGI, generate(), [generation()]) == ({"generated_text": "Hello you"}, Usage(2, 2))


def test_an_object_is_taken_as_well() -> None:
    assert answered(TGI, generate(), generation()) == ({"generated_text": "Hello you"}, Usage(2, 2))


def test_details_come_without_the_prompts_tokens_nobody_asked_for() -> None:
    whole, usage = answered(TGI, generate(details=True), [generation()])
    assert whole == generation(prefill=[])
    assert list(whole["details"]) == list(generation()["details"])
    assert usage == Usage(2, 2)


@pytest.mark.parametrize("details", [True, False])
def test_whoever_asks_for_the_prompts_tokens_gets_the_containers_own_bytes(details: bool) -> None:
    body = b'[ {"generated_text":"Hello you","details":%b} ]' % dumps(generation()["details"])
    whole = TGI.decode_whole(generate(decoder_input_details=True, details=details), body)
    assert isinstance(whole, Whole)
    assert whole.body == body[1:-1].strip()


def test_every_sequence_of_best_of_is_counted() -> None:
    others = [{"generated_text": "x", "generated_tokens": 5, "prefill": PREFILL, "tokens": []}]
    call = generate(best_of=2, details=True, do_sample=True)
    whole, usage = answered(TGI, call, [generation(best_of_sequences=others)])
    assert whole == generation(prefill=[], best_of_sequences=[{**others[0], "prefill": []}])
    assert usage == Usage(2, 7)


def test_without_details_nothing_is_counted() -> None:
    assert answered(TGI, generate(), [{"generated_text": "a"}]) == ({"generated_text": "a"}, None)


@pytest.mark.parametrize(("reply", "what"), [
    (b"", "the reply is not valid JSON"),
    (b"[[]]", "the reply is JSON, but no generated text"),
    (b'{"choices":[]}', "the reply is JSON, but no generated text"),
    (b'[{"generated_text":"a","x":"\xff"}]', "the reply is not valid JSON"),
])  # fmt: skip
def test_what_is_no_reply(reply: bytes, what: str) -> None:
    assert malformed(TGI, generate(), reply) == what


def test_an_error_with_status_200_is_one() -> None:
    error = {"error": "Input validation error: `inputs` cannot be empty", "error_type": "validation"}
    assert faulted(TGI, generate(), error) == ContainerFault(FaultKind.INVALID_REQUEST, "`inputs` cannot be empty")


# Streams


def test_frames_are_relayed_byte_for_byte() -> None:
    made = frames("é", " you", whole="é you", extra=[1.50])
    for parts in cuts(sse(*made)):
        decoder = TGI.stream_decoder(DETAILED)
        assert relayed(decoder, parts) == [b"data:" + frame + b"\n\n" for frame in made]
        assert decoder.usage == Usage(3, 2)
        assert decoder.ended


def test_details_nobody_asked_for_are_taken_out() -> None:
    told, summary = streamed(TGI, PLAIN, sse(*frames("Hello", " you")))
    assert [frame["details"] for frame in told] == [None, None]
    assert list(told[1]) == ["index", "token", "generated_text", "details"]
    assert told[1]["generated_text"] == "Hello you"
    assert summary == (Usage(3, 2), 2, True, None, None, 0)


def test_frames_of_the_oldest_versions_get_their_index() -> None:
    made = [frame.replace(b'"index":1,', b"").replace(b'"index":2,', b"") for frame in frames("a", "b")]
    told, _ = streamed(TGI, DETAILED, sse(*made))
    assert [frame["index"] for frame in told] == [1, 2]
    assert next(iter(told[0])) == "index"


def test_a_frame_over_several_lines_becomes_one() -> None:
    frame = frames("a")[0]
    data = b"data:" + frame.replace(b',"generated_text"', b'\ndata:,"generated_text"') + b"\n\n"
    assert streamed(TGI, DETAILED, data) == streamed(TGI, DETAILED, sse(frame))


def test_top_tokens_and_whatever_else_a_version_tells_pass() -> None:
    made = frames("a", "b", top_tokens=[token("x", 7)], energy=5)
    told, _ = streamed(TGI, DETAILED, sse(*made))
    assert told[0]["top_tokens"] == [token("x", 7)]
    assert told[1]["energy"] == 5


@pytest.mark.parametrize(("data", "what", "told"), [
    pytest.param(b"", "the stream holds no answer", 0, id="nothing"),
    pytest.param(b":\n\n:\n\n", "the stream holds no answer", 0, id="comments alone"),
    pytest.param(sse(*frames("a", "b")[:1]), "the stream ended before the answer did", 1, id="cut"),
    pytest.param(sse(*frames("a", "b"))[:-9], "a record of the stream is not valid JSON", 1, id="cut inside a frame"),
    pytest.param(sse(b'{"index":1}'), "a record of the stream is JSON, but no token", 0, id="no token"),
    pytest.param(DONE, "a record of the stream is not valid JSON", 0, id="an end mark"),
])  # fmt: skip
def test_a_broken_stream_is_told(data: bytes, what: str, told: int) -> None:
    events, summary = streamed(TGI, PLAIN, data)
    assert len(events) == told
    assert summary[2:5] == (False, None, what)
    assert gathered(TGI, generate(), data) == what


@pytest.mark.parametrize(("error", "fault"), [
    ({"error": "Incomplete generation stream", "error_type": "incomplete_generation_stream"},
     ContainerFault(FaultKind.FAILED, "Incomplete generation stream")),
    ({"error": "Model is overloaded", "error_type": "overloaded"},
     ContainerFault(FaultKind.OVERLOADED, "Model is overloaded")),
    ({"error": "Input validation error: `temperature` must be strictly positive", "error_type": "validation"},
     ContainerFault(FaultKind.INVALID_REQUEST, "`temperature` must be strictly positive", "temperature")),
])  # fmt: skip
def test_an_error_frame_is_a_fault(error: Any, fault: ContainerFault) -> None:
    for before in (b"", sse(*frames("a", "b")[:1])):
        events, summary = streamed(TGI, PLAIN, before + sse(dumps(error)))
        assert len(events) == bool(before)
        assert summary[2:5] == (False, fault, None)
        assert gathered(TGI, generate(), before + sse(dumps(error))) == fault


def test_what_comes_after_the_end_is_counted_and_dropped() -> None:
    told, summary = streamed(TGI, PLAIN, sse(*frames("a", "b"), *frames("c")))
    assert len(told) == 2
    assert summary[5] == 1


# Gathered


def test_a_gathered_stream_is_the_whole_reply() -> None:
    data = sse(*frames("Hello", " you", end=details("length", seed=7), top_tokens=[token("x", 9)]))
    reply = [generation(seed=7, prefill=[], top_tokens=[[token("x", 9)]] * 2)]
    for call in (generate(), generate(details=True, top_n_tokens=1)):
        assert gathered(TGI, call, data) == answered(TGI, call, reply)[0]
    plain = sse(*frames("Hello", " you", end=details("length", seed=7)))
    whole = gathered(TGI, generate(details=True), plain)
    assert whole == generation(seed=7, prefill=[])
    assert list(whole["details"]) == ["finish_reason", "generated_tokens", "seed", "prefill", "tokens"]
