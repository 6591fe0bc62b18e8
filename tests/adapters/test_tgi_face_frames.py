"""Streams: a completion's chunks as TGI's events, however they are cut, and gathered into TGI's whole reply."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.base import Call, StreamDecoder, Usage, Whole
from adapters.errors import ContainerFault, FaultKind
from adapters.registry import make
from tests.adapters.calls import outcome, relayed
from tests.adapters.generating import DONE, chunk, event, generate, usage

VLLM, OLD = make("vllm", "0.32"), make("vllm", "0.9")
DETAILED = generate(stream=True, details=True)


def fed(call: Call, data: bytes) -> tuple[list[bytes], StreamDecoder]:
    decoder = VLLM.stream_decoder(call)
    return relayed(decoder, [data]), decoder


def tokens_of(events: list[bytes]) -> list[tuple[int, int, str, bool]]:
    frames = [json.loads(event.removeprefix(b"data:")) for event in events]
    return [(frame["index"], *(frame["token"][key] for key in ("id", "text", "special"))) for frame in frames]


STREAM = (
    chunk("Hel", [5], ["Hel"], prompt_token_ids=[1, 2, 3])
    + b": keep-alive\n\n"
    + chunk("lo", [6], ["lo"])
    + chunk("", [2], ["</s>"], finish_reason="stop")
    + usage(3, 3)
    + DONE
)
EVENTS = [
    b'data:{"index":1,"token":{"id":5,"text":"Hel","logprob":-0.5,"special":false},"generated_text":null,"details":null}'
    b"\n\n",
    b'data:{"index":2,"token":{"id":6,"text":"lo","logprob":-0.5,"special":false},"generated_text":null,"details":null}'
    b"\n\n",
    b'data:{"index":3,"token":{"id":2,"text":"</s>","logprob":-0.5,"special":true},"generated_text":"Hello",'
    b'"details":{"finish_reason":"eos_token","generated_tokens":3,"seed":null,"input_length":3}}\n\n',
]


def test_the_events_of_a_stream_however_it_is_cut() -> None:
    parts = [[STREAM], [STREAM[at : at + 1] for at in range(len(STREAM))]]
    parts += [[STREAM[:at], STREAM[at:]] for at in range(1, len(STREAM))]
    for cut in parts:
        decoder = VLLM.stream_decoder(DETAILED)
        assert relayed(decoder, cut) == EVENTS
        assert outcome(decoder) == (Usage(3, 3), 3, True, None, None, 0)
        assert decoder.ended


def test_without_details_the_last_event_tells_the_text_alone() -> None:
    events, _ = fed(generate("Say ", stream=True, return_full_text=True), STREAM)
    assert events[:2] == EVENTS[:2]
    assert json.loads(events[2].removeprefix(b"data:"))["generated_text"] == "Say Hello"
    assert events[2].endswith(b'"generated_text":"Say Hello","details":null}\n\n')


def test_a_token_leaves_as_soon_as_it_comes_and_the_last_with_the_usage() -> None:
    decoder = VLLM.stream_decoder(DETAILED)
    assert decoder.feed(chunk("Hel", [5], ["Hel"])) == EVENTS[:1]
    assert decoder.feed(chunk("lo", [6], ["lo"])) == EVENTS[1:2]
    assert decoder.feed(chunk("", [2], ["</s>"], finish_reason="stop")) == []
    assert decoder.complete
    assert not decoder.ended
    assert decoder.feed(usage(3, 3)) == EVENTS[2:]
    assert decoder.ended
    assert decoder.feed(DONE) == []
    assert decoder.end() == []


@pytest.mark.parametrize("end", [DONE, b""], ids=["with an end mark", "without"])
def test_an_answer_without_usage_counts_its_tokens(end: bytes) -> None:
    stream = chunk("Hel", [5], ["Hel"], prompt_token_ids=[1, 2, 3]) + chunk("lo", [6], ["lo"])
    events, decoder = fed(DETAILED, stream + chunk("", [2], ["</s>"], finish_reason="stop") + end)
    assert events == EVENTS
    assert decoder.usage is None
    assert decoder.ended


def test_several_tokens_in_one_chunk_are_several_events() -> None:
    stream = chunk("Hello", [5, 6], ["Hel", "lo"]) + chunk("", [2], ["</s>"], finish_reason="stop") + usage(3, 3)
    assert fed(DETAILED, stream)[0] == EVENTS
    stream = chunk("Hello", [5, 6, 2], ["Hel", "lo", "</s>"], finish_reason="stop") + usage(3, 3)
    assert fed(DETAILED, stream)[0] == EVENTS


def test_a_character_of_several_tokens_is_the_last_ones_text() -> None:
    stream = chunk("", [5], ["\ufffd"]) + chunk("😀", [6], ["\ufffd"]) + chunk("!", [7], ["!"], finish_reason="length")
    events, _ = fed(DETAILED, stream + usage(1, 3))
    assert tokens_of(events) == [(1, 5, "", False), (2, 6, "😀", False), (3, 7, "!", False)]
    assert json.loads(events[2].removeprefix(b"data:"))["generated_text"] == "😀!"


def test_top_tokens_stand_after_the_token() -> None:
    call = generate(stream=True, top_n_tokens=1)
    stream = chunk("a", [5], ["a"], top=[{"a": -0.5, "b": -0.25}]) + chunk("b", [6], ["b"], finish_reason="length")
    events, _ = fed(call, stream + usage(1, 2))
    assert events == [
        b'data:{"index":1,"token":{"id":5,"text":"a","logprob":-0.5,"special":false},'
        b'"top_tokens":[{"id":2147483647,"text":"b","logprob":-0.25,"special":false}],'
        b'"generated_text":null,"details":null}\n\n',
        b'data:{"index":2,"token":{"id":6,"text":"b","logprob":-0.5,"special":false},'
        b'"top_tokens":[{"id":6,"text":"b","logprob":-0.5,"special":false}],"generated_text":"ab","details":null}\n\n',
    ]


def test_the_seed_of_a_sampled_stream_is_told() -> None:
    call = generate(stream=True, details=True, do_sample=True, drawn_seed=2**62 - 1)
    events, _ = fed(call, STREAM)
    assert json.loads(events[2].removeprefix(b"data:"))["details"]["seed"] == 2**62 - 1


def test_an_end_without_a_token_is_an_event_of_its_own() -> None:
    events, _ = fed(DETAILED, chunk("a", [5], ["a"]) + chunk("b", [], [], finish_reason="stop") + usage(1, 1) + DONE)
    assert tokens_of(events) == [(1, 5, "a", False), (2, 2147483647, "b", False)]
    assert json.loads(events[1].removeprefix(b"data:"))["generated_text"] == "ab"


# --- What goes wrong -------------------------------------------------------------------------------------------------

ERROR = b'data: {"error":{"message":"broke","type":"InternalServerError","param":null,"code":500}}\n\n'
FIRST = chunk("Hel", [5], ["Hel"])
LAST = chunk("", [2], ["</s>"], finish_reason="stop")


@pytest.mark.parametrize(
    ("data", "events", "fault", "malformed"),
    [
        pytest.param(FIRST + ERROR + DONE, 1, "broke", None, id="error"),
        pytest.param(ERROR + DONE, 0, "broke", None, id="error at once"),
        pytest.param(FIRST, 1, None, "the stream ended before the answer did", id="cut"),
        pytest.param(b"", 0, None, "the stream holds no answer", id="nothing"),
        pytest.param(FIRST + b"data: {\n\n", 1, None, "a record of the stream is not valid JSON", id="no JSON"),
        pytest.param(
            FIRST + event({"choices": [{"index": 0, "text": 5}]}),
            1,
            None,
            "a chunk of the stream has a field of the wrong type",
            id="a text that is none",
        ),
    ],
)
def test_a_stream_that_breaks_has_no_last_event(
    data: bytes, events: int, fault: str | None, malformed: str | None
) -> None:
    for parts in ([data], [data[at : at + 1] for at in range(len(data))]):
        decoder = VLLM.stream_decoder(DETAILED)
        assert relayed(decoder, parts) == EVENTS[:events]
        assert (decoder.fault and decoder.fault.message, decoder.malformed) == (fault, malformed)
        assert not decoder.ended


def test_what_goes_wrong_after_the_last_token_does_not_take_the_answer_back() -> None:
    for late in (ERROR, b"data: {\n\n", usage(1, 2) + ERROR):
        events, decoder = fed(DETAILED, FIRST + LAST + late)
        assert json.loads(events[-1].removeprefix(b"data:"))["generated_text"] == "Hel"
        assert (len(events), decoder.ended, decoder.fault, decoder.malformed) == (2, True, None, None)


# --- LMI, and before vLLM 0.10 ---------------------------------------------------------------------------------------


def test_lines_of_lmi_are_events_too() -> None:
    lines = b"".join(
        record.removeprefix(b"data: ") + b"\n" for record in STREAM.split(b"\n\n") if record.startswith(b"data: {")
    )
    decoder = make("lmi", "27").stream_decoder(DETAILED)
    assert relayed(decoder, [lines + b"\n"]) == EVENTS


def test_older_containers_tell_ids_and_the_texts_are_those_of_the_chunks() -> None:
    call = generate(stream=True, details=True, top_n_tokens=2)
    stream = chunk("a", names=["token_id:5"], top=[{"token_id:5": -0.5, "token_id:6": -1.0}])
    stream += chunk("bc", names=["token_id:6", "token_id:7"], top=[{"token_id:6": -0.5}, {"token_id:5": -0.5}])
    stream += chunk("", names=["token_id:2"], top=[{"token_id:2": -0.5}], finish_reason="stop")
    decoder = OLD.stream_decoder(call)
    events = relayed(decoder, [stream + usage(1, 4) + DONE])
    assert tokens_of(events) == [(1, 5, "a", False), (2, 6, "", False), (3, 7, "bc", False), (4, 2, "", True)]
    assert json.loads(events[0].removeprefix(b"data:"))["top_tokens"] == [
        {"id": 5, "text": "a", "logprob": -0.5, "special": False},
        {"id": 6, "text": "", "logprob": -1.0, "special": False},
    ]


# --- Gathered --------------------------------------------------------------------------------------------------------


def gathered(call: Call, data: bytes, **limits: Any) -> Whole | ContainerFault | str:
    results = []
    for parts in ([data], [data[at : at + 1] for at in range(len(data))]):
        assembler = make("vllm", "0.32", **limits).assembler(call)
        for part in parts:
            assembler.feed(part)
        whole = assembler.end()
        results.append(whole or assembler.fault or assembler.malformed)
        assert assembler.usage == (whole.usage if whole is not None else None)
    assert results[0] == results[1]
    assert results[0] is not None
    return results[0]


def test_a_gathered_stream_is_the_whole_reply() -> None:
    assert gathered(generate(details=True), STREAM) == Whole(
        b'{"generated_text":"Hello","details":{"finish_reason":"eos_token","generated_tokens":3,"seed":null,'
        b'"prefill":[],"tokens":[{"id":5,"text":"Hel","logprob":-0.5,"special":false},'
        b'{"id":6,"text":"lo","logprob":-0.5,"special":false},{"id":2,"text":"</s>","logprob":-0.5,"special":true}]}}',
        Usage(3, 3),
    )


def test_a_gathered_stream_without_details_needs_no_tokens() -> None:
    stream = chunk("Hel") + chunk("lo", finish_reason="length") + usage(3, 2) + DONE
    assert gathered(generate(), stream) == Whole(b'{"generated_text":"Hello"}', Usage(3, 2))


def test_the_best_of_gathered_answers() -> None:
    worse = chunk("a", names=["a"], index=1) + chunk("!", names=["!"], index=1, finish_reason="length")
    better = chunk("b", names=["b"], index=0, finish_reason="stop").replace(b"-0.5", b"-0.25")
    call = generate(best_of=2, do_sample=True)
    assert gathered(call, worse + better + usage(1, 3) + DONE) == Whole(b'{"generated_text":"b"}', Usage(1, 3))


@pytest.mark.parametrize(
    ("data", "outcome"),
    [
        pytest.param(ERROR + DONE, ContainerFault(FaultKind.FAILED, "broke"), id="error"),
        pytest.param(FIRST, "the stream ended before the answer did", id="cut"),
        pytest.param(b"", "the stream holds no answer", id="nothing"),
        pytest.param(
            event({"choices": [{"index": 0, "text": 5, "finish_reason": "stop"}]}) + DONE,
            "a chunk of the stream has a field of the wrong type",
            id="a text that is none",
        ),
        pytest.param(chunk("a" * 3000) + LAST, "the answer is too long", id="too long"),
    ],
)
def test_a_stream_that_breaks_is_no_reply(data: bytes, outcome: ContainerFault | str) -> None:
    assert gathered(generate(), data, max_reply_bytes=2048) == outcome


def test_a_gathered_stream_is_over_with_its_end_mark_or_what_went_wrong() -> None:
    for data, over in ((FIRST, False), (FIRST + LAST, False), (FIRST + LAST + usage(1, 2) + DONE, True), (ERROR, True)):
        assembler = VLLM.assembler(generate(details=True))
        assembler.feed(data)
        assert assembler.over is over
