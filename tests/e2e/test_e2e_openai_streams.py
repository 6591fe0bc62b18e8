"""Streams on the wire: wherever SageMaker cuts them, how long they wait for their status, how they are kept alive."""

from __future__ import annotations

import json
import time
from typing import Any

import httpx
import openai
import pytest

from deploy.local import faults
from tests.support.callers import Caller
from tests.support.full_stack import LATE_S
from tests.support.stack import KEY, Gateway, Local

EMOJI = "Café — naïve 😀🚀 日本語 ✓ ½ 👨\u200d👩\u200d👧."
CUTS = ["as-written", "bytes", "sizes:1,2,3,5,8,13", "sizes:100", "random:1", "random:2:7", "random:3:500", "merge:3"]
FRAMINGS = [
    *((cut, "frame") for cut in [*CUTS, "merge"]),
    *((cut, "join:5") for cut in ["as-written", "bytes", "random:4"]),
    *((cut, "split:7") for cut in ["as-written", "random:5:500", "merge"]),
]
"""How bytes become PayloadParts, and those HTTP chunks."""
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
HEADERS = {"authorization": f"Bearer {KEY}"}


@pytest.mark.parametrize(("cut", "chunking"), FRAMINGS)
@pytest.mark.parametrize("dialect", ["lmi15", "lmi27", "vllm"])
def test_no_cut_changes_an_answer(client: openai.OpenAI, dialect: str, local: Local, cut: str, chunking: str) -> None:
    for variant, stream in (("", True), ("-stream", False)):
        local.add_fault(faults.Cut(mode=cut))
        local.add_fault(faults.Chunking(mode=chunking))
        answer = Caller(client, stream=stream, variant=variant).chat(dialect, "emoji", n=2)
        assert [choice.text for choice in answer.choices] == [EMOJI, EMOJI]
        assert local.last_call().faults == ("cut", "chunking")


@pytest.mark.parametrize("cut", CUTS)
def test_no_cut_changes_a_chunk(client: openai.OpenAI, dialect: str, local: Local, cut: str) -> None:
    thinking = {"chat_template_kwargs": {"enable_thinking": True}}
    asked: Any = {"tools": [WEATHER], "extra_body": thinking, "temperature": 0}
    caller = Caller(client, stream=True)
    plain = caller.chat(dialect, "look up the weather in Rome", **asked)
    local.add_fault(faults.Cut(mode=cut))
    again = caller.chat(dialect, "look up the weather in Rome", **asked)
    assert [deltas(chunk) for chunk in again.chunks] == [deltas(chunk) for chunk in plain.chunks]
    assert (again.only.text, again.only.thoughts) == (plain.only.text, plain.only.thoughts)
    assert json.loads(again.only.tools[0].arguments) == {"city": "Rome"}


def deltas(chunk: Any) -> Any:
    """Return what a chunk says, without the ids that are new in every answer."""
    made = chunk.to_dict()
    for choice in made["choices"]:
        for call in choice["delta"].get("tool_calls") or ():
            call.pop("id", None)
    return made["choices"], made.get("usage")


@pytest.mark.parametrize("asked", [True, False], ids=["usage asked for", "no usage asked for"])
def test_a_stream_on_the_wire(gateway: Gateway, dialect: str, asked: bool) -> None:
    events = [line for _, line in read(gateway, dialect, "emoji", stream_options={"include_usage": asked})]
    assert events[1::2] == [""] * (len(events) // 2), "an event is one line and a blank one"
    assert all(event.startswith("data: {") for event in events[:-2:2])
    assert events[-2] == "data: [DONE]"
    chunks = [json.loads(event[6:]) for event in events[:-2:2]]
    assert {chunk["model"] for chunk in chunks} == {dialect}
    assert "".join(choice["delta"].get("content") or "" for chunk in chunks for choice in chunk["choices"]) == EMOJI
    assert [chunk["choices"] == [] for chunk in chunks] == [False] * (len(chunks) - asked) + [True] * asked
    assert (chunks[-1].get("usage") is not None) == asked


def read(gateway: Gateway, model: str, text: str, **fields: Any) -> list[tuple[float, str]]:
    """Return the lines of a stream, each with the seconds since the status came."""
    body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": True, **fields}
    url = f"{gateway.base_url}/chat/completions"
    with httpx.stream("POST", url, json=body, headers=HEADERS, timeout=20) as reply:
        assert (reply.status_code, reply.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        began = time.monotonic()
        return [(time.monotonic() - began, line) for line in reply.iter_lines()]


# --- The status is held back, but not for ever ---


def test_the_status_waits_for_the_first_event(gateway: Gateway, local: Local) -> None:
    local.add_fault(faults.Delay(s=0.2))
    asked = time.monotonic()
    lines = read(gateway, "vllm", "hello")
    ended_s = time.monotonic() - asked
    assert ended_s - lines[-1][0] >= 0.2, "the status is held until the first event"
    assert lines[0][0] < 0.1, "the first event comes with the status"
    assert lines[0][1].startswith("data: {")


def test_a_status_held_long_enough_is_sent_with_comments(gateway: Gateway) -> None:
    lines = read(gateway, "held", "hello")
    comments = [at for at, line in lines if line.startswith(":")]
    events = [(at, line) for at, line in lines if line.startswith("data: ")]
    assert 2 <= len(comments) <= 5
    assert comments[0] < LATE_S
    assert all(at < events[0][0] for at in comments)
    assert events[0][0] > LATE_S / 2
    assert events[-1][1] == "data: [DONE]"


def test_clients_read_past_comments(client: openai.OpenAI) -> None:
    assert Caller(client, stream=True).chat("held", "hello").only.text == "Hello! How can I help you today?"


def test_a_stream_is_kept_alive_while_nothing_comes(gateway: Gateway, local: Local) -> None:
    local.add_fault(faults.Stall(after_frames=4, s=0.3))
    lines = [line for _, line in read(gateway, "held-at-once", "count to 5") if line]
    silence = [place for place, line in enumerate(lines) if line.startswith(":")]
    assert silence == list(range(silence[0], silence[0] + len(silence))), "comments come while nothing else does"
    assert len(silence) >= 3
    before = [line for line in lines[: silence[0]] if line.startswith("data: ")]
    assert len(before) == 4
    assert lines[-1] == "data: [DONE]"


def late_failure(gateway: Gateway, client: openai.OpenAI, model: str, text: str) -> str:
    """Return the code of a failure that comes after the status, having seen it as bytes and through the client."""
    events = [line for _, line in read(gateway, model, text) if line.startswith("data: ")]
    (event,) = events
    error = json.loads(event[6:])["error"]
    assert (error["type"], error["param"]) == ("server_error", None)
    with pytest.raises(openai.APIError) as caught:
        Caller(client, stream=True).chat(model, text)
    assert not isinstance(caught.value, openai.APIStatusError), "the status was 200"
    assert caught.value.code == error["code"]
    return str(error["code"])


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param(faults.InternalFailure(), "upstream_error", id="SageMaker fails"),
        pytest.param(faults.Throttle(), "upstream_throttled", id="throttled"),
        pytest.param(faults.ModelStreamError(), "upstream_timeout", id="an error in the stream"),
        pytest.param(faults.ContainerGone(after_chunks=0), "upstream_error", id="nothing"),
    ],
)
def test_a_failure_after_the_status_is_an_event_without_done(
    gateway: Gateway, client: openai.OpenAI, local: Local, fault: faults.Fault, code: str
) -> None:
    local.add_fault(faults.Delay(s=0.05), times=None)
    local.add_fault(fault, times=None)
    assert late_failure(gateway, client, "held-at-once", "hello") == code


def test_an_engine_that_dies_after_the_status_is_an_event_without_done(gateway: Gateway, client: openai.OpenAI) -> None:
    assert late_failure(gateway, client, "held", "please fail after 0") == "upstream_unavailable"


def test_a_failure_before_the_status_is_a_status(client: openai.OpenAI, local: Local) -> None:
    local.add_fault(faults.InternalFailure(), times=None)
    with pytest.raises(openai.InternalServerError) as caught:
        Caller(client, stream=True).chat("vllm", "hello")
    assert (caught.value.status_code, caught.value.code) == (502, "upstream_error")
