"""Text completions over TGI's generate: whole, streamed and gathered, in OpenAI's exact shape."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Usage
from adapters.errors import ContainerFault, FaultKind
from adapters.registry import make
from adapters.tgi.behind_frames import Stamp
from adapters.tgi.behind_stops import StopCutter, cut
from tests.adapters.behind import (
    DONE,
    answered,
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
from tests.adapters.calls import completion, relayed

TGI = make("tgi", "3.3", new_stamp=lambda: Stamp("abc", 1700000000))
HEAD = {"id": "cmpl-abc", "object": "text_completion", "created": 1700000000, "model": "public"}
CALL = completion(stream=True)


def choice(text: str, finish: str | None = None, logprobs: Any = None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": logprobs, "finish_reason": finish}


def chunks(*choices: dict[str, Any]) -> list[Any]:
    return [HEAD | {"choices": [one]} for one in choices]


def whole(text: str, finish: str = "stop", logprobs: Any = None, usage: tuple[int, int] = (3, 2)) -> dict[str, Any]:
    counts = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return HEAD | {"choices": [choice(text, finish, logprobs)], "usage": counts}


def generation(text: str = "Hello you", finish: str = "eos_token", **more: Any) -> Any:
    tokens = [token("Hello", 1), token(" you", 2)]
    told = {"finish_reason": finish, "generated_tokens": 2, "seed": None, "prefill": [], "tokens": tokens}
    return [{"generated_text": text, "details": told | more}]


PREFILL = [{"id": 1, "text": "a", "logprob": None}, {"id": 2, "text": "b", "logprob": -1.0}]


# Whole


@pytest.mark.parametrize(("told", "finish"), [("length", "length"), ("eos_token", "stop"), ("stop_sequence", "stop")])
def test_a_whole_completion(told: str, finish: str) -> None:
    reply = generation(finish=told, prefill=PREFILL)
    assert answered(TGI, completion(), reply) == (whole("Hello you", finish, usage=(2, 2)), Usage(2, 2))


def test_an_object_is_taken_as_well_as_the_array_around_it() -> None:
    assert answered(TGI, completion(), generation()[0]) == answered(TGI, completion(), generation())


def test_a_whole_completion_of_tgis_own_completions() -> None:
    own = {
        "object": "text_completion",
        "id": "",
        "created": 1,
        "model": "served",
        "system_fingerprint": "3.3.4-sha",
        "choices": [{"index": 0, "text": "Hello", "logprobs": None, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 7, "completion_tokens": 4, "total_tokens": 11},
    }
    assert answered(TGI, completion(), own) == (whole("Hello", "length", usage=(7, 4)), Usage(7, 4))


def test_the_stop_string_which_tgi_leaves_in_the_text_is_cut_off() -> None:
    call = completion(stop=[" you", "lo"])
    assert answered(TGI, call, generation(finish="stop_sequence"))[0]["choices"] == [choice("Hel", "stop")]
    kept = completion(stop=" you", include_stop_str_in_output=True)
    assert answered(TGI, kept, generation("Hello you!", "length"))[0]["choices"] == [choice("Hello you", "stop")]


def test_a_prompt_is_echoed_and_no_stop_string_is_looked_for_in_it() -> None:
    call = completion(prompt="you and", echo=True, stop="you")
    assert answered(TGI, call, generation())[0]["choices"] == [choice("you andHello ", "stop")]


def test_log_probabilities_with_offsets() -> None:
    likely = [[token("Hello", 1), token("Hi", 3, -1.5)], [token(" he", 4, -0.1)]]
    call = completion(logprobs=2)
    logprobs = {
        "text_offset": [0, 5],
        "token_logprobs": [-0.5, -0.5],
        "tokens": ["Hello", " you"],
        "top_logprobs": [{"Hello": -0.5, "Hi": -1.5}, {" you": -0.5, " he": -0.1}],
    }
    assert answered(TGI, call, generation(top_tokens=likely))[0] == whole("Hello you", logprobs=logprobs, usage=(0, 2))


def test_special_tokens_have_no_place_in_the_text_and_none_among_the_log_probabilities() -> None:
    tokens = [token("é", 1, None), token("</s>", 2, special=True)]
    listed = answered(TGI, completion(logprobs=0), generation("é", tokens=tokens))[0]["choices"][0]["logprobs"]
    assert listed == {
        "text_offset": [0],
        "token_logprobs": [-9999.0],
        "tokens": ["é"],
        "top_logprobs": [{"é": -9999.0}],
    }


@pytest.mark.parametrize(("reply", "what"), [
    (b"", "the reply is not valid JSON"),
    (b"[{", "the reply is not valid JSON"),
    (b'[{"generated_text":"\xff"}]', "the reply is not valid JSON"),
    (b"[]", "the reply is JSON, but no generated text"),
    (b"[1]", "the reply is JSON, but no generated text"),
    (dumps(generation() + generation()), "the reply is JSON, but no generated text"),
    (b'[{"generated_text":"a"}]', "the reply has no details"),
    (b'{"choices":[],"usage":{}}', "the reply has no choices"),
    (b'{"generated_text":1}', "the reply is JSON, but no generated text"),
])  # fmt: skip
def test_what_is_no_reply(reply: bytes, what: str) -> None:
    assert malformed(TGI, completion(), reply) == what


def test_an_error_with_status_200_is_one() -> None:
    fault = faulted(TGI, completion(), {"error": "Incomplete generation", "error_type": "incomplete_generation"})
    assert fault == ContainerFault(FaultKind.FAILED, "Incomplete generation")


def test_a_reply_that_is_too_long_is_not_read() -> None:
    small = make("tgi", "3.3", max_reply_bytes=10)
    assert malformed(small, completion(), dumps(generation())) == "the reply is too long"


# Streams


def test_a_stream_comes_token_by_token() -> None:
    events, said = streamed(TGI, CALL, sse(*frames("Hello", " you", end=details("eos_token"))))
    assert events == [*chunks(choice("Hello"), choice(" you", "stop")), "[DONE]"]
    assert said == (Usage(3, 2), 2, True, None, None, 0)


def test_the_usage_chunk_comes_to_those_who_asked() -> None:
    call = completion(stream=True, stream_options={"include_usage": True})
    events, _ = streamed(TGI, call, sse(*frames("Hello", " you")))
    usage = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}
    assert events[-2:] == [HEAD | {"choices": [], "usage": usage}, "[DONE]"]


def test_the_last_event_comes_with_the_last_frame_as_there_is_no_end_mark() -> None:
    decoder = TGI.stream_decoder(CALL)
    assert decoder.feed(sse(*frames("Hello", " you")))[-1] == DONE
    assert decoder.ended
    assert decoder.end() == []


def test_versions_before_2_3_do_not_tell_the_prompts_tokens() -> None:
    _, said = streamed(TGI, CALL, sse(*frames("a", "b", end=details(prompt=None))))
    assert said[0] == Usage(0, 2)


def test_special_tokens_are_not_told() -> None:
    end = dumps({"index": 2, "token": token("</s>", 2, special=True), "generated_text": "a", "details": details()})
    events, _ = streamed(TGI, CALL, sse(frames("a", "x")[0], end))
    assert events == [*chunks(choice("a"), choice("", "length")), "[DONE]"]


def test_what_tokens_held_back_comes_at_the_end() -> None:
    events, _ = streamed(TGI, CALL, sse(*frames("a", "", "", whole="a\ufffd")))
    assert events == [*chunks(choice("a"), choice("\ufffd", "length")), "[DONE]"]


def test_a_text_that_is_not_its_tokens_leaves_them_as_they_are() -> None:
    events, _ = streamed(TGI, CALL, sse(*frames(" a", "b", whole="ab")))
    assert [event["choices"][0]["text"] for event in events[:-1]] == [" a", "b"]


def test_an_echoed_prompt_comes_first() -> None:
    events, _ = streamed(TGI, completion(stream=True, echo=True), sse(*frames("a", "b")))
    assert events == [*chunks(choice("Hi"), choice("a"), choice("b", "length")), "[DONE]"]


@pytest.mark.parametrize(("stop", "texts", "told"), [
    pytest.param("you", ["Hello", " you"], ["Hello", " "], id="in one token"),
    pytest.param("o y", ["Hello", " ", "you"], ["Hell", ""], id="across tokens"),
    pytest.param(["x", "lo!"], ["Hel", "lo", " you"], ["Hel", "lo you"], id="begun, but not gone on with"),
    pytest.param("l", ["Hello", " you"], ["He", ""], id="in the middle of a token, where TGI goes on"),
    pytest.param("never", ["Hello", " you"], ["Hello", " you"], id="not there"),
    pytest.param("you!", ["Hello", " you"], ["Hello", " you"], id="held back up to the end"),
])  # fmt: skip
def test_a_stream_ends_before_its_stop_string(stop: Any, texts: list[str], told: list[str]) -> None:
    data = sse(*frames(*texts, end=details("stop_sequence", len(texts))))
    events, _ = streamed(TGI, completion(stream=True, stop=stop), data)
    assert "".join(event["choices"][0]["text"] for event in events[:-1]) == "".join(told)
    assert events[-2]["choices"][0]["finish_reason"] == "stop"
    assert gathered(TGI, completion(stop=stop), data)["choices"] == [choice("".join(told), "stop")]


def test_log_probabilities_come_with_their_tokens() -> None:
    data = sse(*frames("He", "y", top_tokens=[token("I", 9, -2.0)]))
    events, _ = streamed(TGI, completion(stream=True, logprobs=1, stop="y"), data)
    lists = [event["choices"][0]["logprobs"] for event in events[:-1]]
    assert lists == [
        {"text_offset": [0], "token_logprobs": [-0.5], "tokens": ["He"], "top_logprobs": [{"He": -0.5, "I": -2.0}]},
        {"text_offset": [2], "token_logprobs": [-0.5], "tokens": ["y"], "top_logprobs": [{"y": -0.5, "I": -2.0}]},
    ]


def test_keep_alive_comments_are_no_frames() -> None:
    first, last = frames("a", "b")
    events, _ = streamed(TGI, CALL, b":\n\n" + sse(first) + b":\n\n" + sse(last) + b":\n\n")
    assert events == [*chunks(choice("a"), choice("b", "length")), "[DONE]"]


def test_newer_versions_write_a_space_behind_data() -> None:
    data = sse(*frames("a", "b"))
    assert streamed(TGI, CALL, data.replace(b"data:", b"data: ")) == streamed(TGI, CALL, data)


# What goes wrong


@pytest.mark.parametrize(("data", "what", "told"), [
    pytest.param(b"", "the stream holds no answer", 0, id="nothing"),
    pytest.param(sse(*frames("a", "b")[:1]), "the stream ended before the answer did", 1, id="cut"),
    pytest.param(sse(*frames("a", "b"))[:-20], "a record of the stream is not valid JSON", 1, id="cut inside a frame"),
    pytest.param(sse(b"{"), "a record of the stream is not valid JSON", 0, id="no JSON"),
    pytest.param(sse(b'"text"'), "a record of the stream is JSON, but no token", 0, id="no object"),
    pytest.param(sse(b'{"choices":[]}'), "a record of the stream is JSON, but no token", 0, id="another schema"),
    pytest.param(sse(b'{"token":{"id":1,"text":"\xff"}}'), "a record of the stream is not valid JSON", 0, id="UTF-8"),
    pytest.param(DONE, "a record of the stream is not valid JSON", 0, id="an end mark"),
])  # fmt: skip
def test_a_broken_stream_is_told_and_gets_no_end(data: bytes, what: str, told: int) -> None:
    events, said = streamed(TGI, CALL, data)
    assert len(events) == told
    assert "[DONE]" not in events
    assert said[2:5] == (False, None, what)
    assert gathered(TGI, CALL, data) == what


def test_an_error_frame_ends_the_stream() -> None:
    error = {"error": "Request failed during generation: CUDA error", "error_type": "generation"}
    events, said = streamed(TGI, CALL, sse(frames("a", "b")[0], dumps(error)))
    assert events == chunks(choice("a"))
    fault = ContainerFault(FaultKind.FAILED, "Request failed during generation: CUDA error")
    assert said[2:5] == (False, fault, None)
    assert gathered(TGI, completion(), sse(dumps(error))) == fault


def test_what_comes_after_the_end_is_counted_and_dropped() -> None:
    data = sse(*frames("a", "b"), *frames("c", "d"), b"{")
    events, said = streamed(TGI, CALL, data)
    assert events[-1] == "[DONE]"
    assert said[5] == 3


def test_a_record_has_a_limit() -> None:
    small = make("tgi", "3.3", max_event_bytes=300)
    assert streamed(small, CALL, sse(*frames("a", "b")))[1][4] is None
    assert streamed(small, CALL, sse(*frames("a" * 300, "b")))[1][4] == "a record of the stream is too long"
    unended = small.stream_decoder(CALL)
    relayed(unended, [b"data:" + b"x" * 400])
    assert unended.malformed == "a record of the stream is too long"


def test_a_gathered_answer_has_a_limit() -> None:
    small = make("tgi", "3.3", max_reply_bytes=1000, new_stamp=lambda: Stamp("abc", 1700000000))
    assert gathered(small, completion(), sse(*frames(*"abcd"))) == whole("abcd", "length", usage=(3, 4))
    assert gathered(small, completion(), sse(*frames(*"abcdefghijkl"))) == "the answer is too long"


# Gathered


def test_a_gathered_stream_is_the_whole_reply() -> None:
    data = sse(*frames("Hello", " you", end=details("eos_token"), top_tokens=[token("I", 9, -2.0)]))
    likely = [[token("I", 9, -2.0)]] * 2
    reply = generation(top_tokens=likely, prefill=[PREFILL[0]] * 3)
    for call in (completion(), completion(logprobs=1), completion(echo=True), completion(stop=" you")):
        assert gathered(TGI, call, data) == answered(TGI, call, reply)[0]


def test_a_gatherer_is_over_with_the_last_frame() -> None:
    assembler = TGI.assembler(completion())
    first, last = frames("a", "b")
    assembler.feed(sse(first))
    assert not assembler.over
    assembler.feed(sse(last))
    assert assembler.over
    assert assembler.complete


# Stop strings by themselves


@pytest.mark.parametrize(("text", "stops", "expected"), [
    ("abc", [], ("abc", False)),
    ("abc", ["c"], ("ab", True)),
    ("abcabc", ["c", "bc"], ("a", True)),
    ("aab", ["ab"], ("a", True)),
    ("", ["x"], ("", False)),
    ("aaa", ["aaaa"], ("aaa", False)),
])  # fmt: skip
def test_a_text_is_cut_at_its_first_stop_string(text: str, stops: list[str], expected: tuple[str, bool]) -> None:
    assert cut(text, stops) == expected


@given(
    st.lists(st.text("ab", max_size=4), max_size=8),
    st.lists(st.text("ab", min_size=1, max_size=3), max_size=3),
    st.booleans(),
)
def test_pieces_never_tell_what_a_stop_string_may_take_back(pieces: list[str], stops: list[str], keeps: bool) -> None:
    cutter = StopCutter(stops, keeps=keeps)
    told = [cutter.feed(piece) for piece in pieces]
    text = "".join(pieces)
    first = min((text.find(stop) for stop in stops if stop in text), default=len(text))
    assert text.startswith("".join(told))
    whole = "".join(told) + cutter.end()
    assert cutter.stopped is any(stop in text for stop in stops)
    if not cutter.stopped:
        assert whole == text
    elif keeps:
        assert any(whole.endswith(stop) for stop in stops)
    else:
        assert len(whole) >= first
        assert any(text.startswith(whole + stop) for stop in stops)
