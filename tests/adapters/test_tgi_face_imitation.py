"""Held against the imitation of a TGI server: the same refusals, and answers with the same fields in the same order."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

import pytest

from adapters.base import Whole
from adapters.openai.request import FieldPolicy
from adapters.registry import make
from adapters.tgi.request import TgiLimits, TgiRefusal, check, read
from deploy.local.container import ContainerReply, ContainerRequest
from deploy.local.engine import Engine, build
from tests.adapters.calls import relayed
from tests.adapters.generating import generate

WINDOW = 512
POLICY = FieldPolicy(context_length=WINDOW)
TGI, VLLM = build("tgi", context_length=WINDOW), build("vllm-0.32", context_length=WINDOW)
PATHS = {None: "/", False: "/generate", True: "/generate_stream"}


def said(engine: Engine, body: bytes, path: str | None = None) -> tuple[int, str]:
    async def ask() -> tuple[int, str]:
        request = ContainerRequest(body, {"content-type": "application/json"})
        reply: ContainerReply = await (engine.invoke(request) if path is None else engine.post(path, request))
        sent = reply.body if isinstance(reply.body, bytes) else b"".join([part async for part in reply.body])
        return reply.status, sent.decode()

    return asyncio.run(ask())


@pytest.mark.parametrize("stream", [None, False, True], ids=["compat", "whole", "stream"])
@pytest.mark.parametrize(
    "fields",
    [
        {"inputs": ""},
        {"inputs": 5},
        {"parameters": {}},
        {"inputs": "a", "parameters": {"best_of": 3, "do_sample": True}},
        {"inputs": "a", "parameters": {"best_of": 2}},
        {"inputs": "a", "parameters": {"best_of": 2, "top_k": 2, "seed": 1}},
        {"inputs": "a", "parameters": {"temperature": 0.0, "top_p": 1.0}},
        {"inputs": "a", "parameters": {"top_p": 1.0, "typical_p": 1.0}},
        {"inputs": "a", "parameters": {"typical_p": 0.0}},
        {"inputs": "a", "parameters": {"repetition_penalty": 0, "temperature": 1}},
        {"inputs": "a", "parameters": {"frequency_penalty": 2.5}},
        {"inputs": "a", "parameters": {"top_k": -1}},
        {"inputs": "a", "parameters": {"max_new_tokens": 0}},
        {"inputs": "a", "parameters": {"stop": list("abcde")}},
        {"inputs": "a", "parameters": {"top_n_tokens": 6}},
        {"inputs": "a", "parameters": {"truncate": 0}},
        {"inputs": "a", "parameters": {"truncate": WINDOW}},
        {"inputs": "a", "parameters": {"grammar": {"type": "json", "value": 1}}},
        {"inputs": "a", "parameters": {"grammar": {"type": "json", "value": {}}}},
        {"inputs": "a", "parameters": {"grammar": {"type": "ebnf", "value": "a"}}},
        {"inputs": "a", "parameters": {"grammar": {"type": "regex", "value": 1}}},
        {"inputs": "a", "parameters": {"grammar": "a"}},
        {"inputs": "a", "parameters": None},
        {"inputs": "a", "parameters": {"seed": -1}},
        {"inputs": "a", "parameters": {"top_k": 2**31}},
        {"inputs": "a", "parameters": {"stop": ["a", None]}},
        {"inputs": "a", "parameters": {"details": None}},
        {"inputs": "a", "parameters": {"temperature": "hot"}},
    ],
    ids=json.dumps,
)
def test_the_same_is_refused_in_the_same_words(fields: dict[str, Any], stream: bool | None) -> None:
    body = json.dumps(fields).encode()
    status, theirs = said(TGI, body, PATHS[stream])
    event = theirs.removeprefix("data:").strip()
    words = json.loads(event)["error"] if event.startswith("{") else re.sub(r" at line 1 column \d+$", "", event)
    with pytest.raises(TgiRefusal) as caught:
        check(read(body, stream), model="m", policy=POLICY, limits=TgiLimits())
    assert caught.value.message == words
    assert status == (200 if theirs.startswith("data:") else caught.value.status)
    if caught.value.error_type is not None:
        assert json.loads(event)["error_type"] == caught.value.error_type


def shape(value: Any) -> Any:
    """Return which fields an answer has, in their order, and which of them are lists or null."""
    if isinstance(value, dict):
        return {name: shape(inner) for name, inner in value.items()} | {"order": list(value)}
    if isinstance(value, list):
        return [shape(inner) for inner in value[:1]]
    return value is None


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"details": True},
        {"details": True, "top_n_tokens": 2},
        {"details": True, "do_sample": True, "seed": 3},
        {"details": True, "best_of": 2, "do_sample": True},
        {"details": True, "best_of": 2, "do_sample": True, "top_n_tokens": 1},
        {"details": True, "stop": ["!"]},
    ],
    ids=json.dumps,
)
def test_answers_have_the_same_fields(parameters: dict[str, Any]) -> None:
    asked = {"max_new_tokens": 6, **parameters}
    status, theirs = said(TGI, json.dumps({"inputs": "hello", "parameters": asked}).encode(), "/generate")
    assert status == 200
    call = generate("hello", drawn_seed=1, **asked)
    adapter = make("vllm", "0.32")
    whole = adapter.decode_whole(call, said(VLLM, adapter.encode(call, stream=False))[1].encode())
    assert isinstance(whole, Whole)
    expected = shape(json.loads(theirs))
    if "best_of" in parameters:  # the seeds of several answers are not known
        expected["details"]["seed"] = True
        for other in expected["details"]["best_of_sequences"]:
            other["seed"] = True
    assert shape(json.loads(whole.body)) == expected


@pytest.mark.parametrize(
    "parameters", [{}, {"details": True}, {"top_n_tokens": 2}, {"details": True, "top_p": 0.5}], ids=json.dumps
)
def test_streams_have_the_same_events(parameters: dict[str, Any]) -> None:
    asked = {"max_new_tokens": 6, **parameters}
    _, theirs = said(TGI, json.dumps({"inputs": "hello", "parameters": asked}).encode(), "/generate_stream")
    frames = [json.loads(event.removeprefix("data:")) for event in theirs.split("\n\n")[:-1]]
    call = generate("hello", stream=True, drawn_seed=1, **asked)
    adapter = make("vllm", "0.32")
    events = relayed(adapter.stream_decoder(call), [said(VLLM, adapter.encode(call, stream=True))[1].encode()])
    assert [shape(json.loads(event.removeprefix(b"data:"))) for event in events] == [shape(frame) for frame in frames]
    assert len(events) == 6
