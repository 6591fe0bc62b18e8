"""Odd requests over a real socket: no input is a defect of the gateway's, and every answer is one of OpenAI's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.base import Surface
from tests.faults.wire import CHAT, COMPLETIONS, Answer, Caller, request
from tests.faults.world import World
from tests.support.odd_bodies import odd_bodies
from tests.support.openai_schema import Kind, validate
from tests.support.stack import KEY

PATHS = {Surface.CHAT: CHAT, Surface.COMPLETIONS: COMPLETIONS}
WHOLE: dict[Surface, Kind] = {Surface.CHAT: "chat", Surface.COMPLETIONS: "completion"}
CHUNK: dict[Surface, Kind] = {Surface.CHAT: "chunk", Surface.COMPLETIONS: "completion chunk"}
CALLERS_OWN = {400, 401, 404, 405, 408, 413, 415, 431}


def is_openais(answer: Answer, surface: Surface) -> None:
    """Check an answer to a call: a reply, a stream that ends as it should, or an error in OpenAI's envelope."""
    assert answer.complete
    if answer.status != 200:
        assert answer.status in CALLERS_OWN, answer.body
        assert answer.error["type"] == "invalid_request_error"
        validate("error", answer.json)
    elif answer.header("content-type") == "application/json":
        validate(WHOLE[surface], answer.json)
    else:
        assert answer.header("content-type") == "text/event-stream; charset=utf-8"
        *events, last = answer.events
        for event in events:
            validate(CHUNK[surface], json.loads(event))
        assert last == b"[DONE]", last


@pytest.mark.parametrize("model", ["lmi", "lmi-assembled", "vllm", "vllm-assembled"])
@pytest.mark.parametrize("surface", list(PATHS))
def test_no_body_makes_the_gateway_fail(shared_world: World, surface: Surface, model: str) -> None:
    shared_world.begin()
    lines = len(shared_world.gateway.log)

    @settings(max_examples=max(1, settings().max_examples // 4))
    @given(body=odd_bodies(surface, model))
    def answers(body: bytes) -> None:
        with Caller(shared_world.port) as caller:
            caller.send(request("POST", PATHS[surface], body))
            is_openais(caller.answer(), surface)

    answers()
    shared_world.settle()
    assert shared_world.gateway.log[lines:] == []


HEADERS = {
    "content-type": st.sampled_from([
        "application/json", "application/json; charset=utf-16", "APPLICATION/JSON;", "application/json, text/plain",
        "application/x-json", "application/vnd.api+json", "text/plain", "multipart/form-data; boundary=", "", "/", ";",
        "application/json\xff", "a" * 5_000,
    ]),
    "content-encoding": st.sampled_from(["identity", "gzip", "", "x", "identity, identity"]),
    "accept": st.sampled_from(["*/*", "text/event-stream", "image/png", "", "\xff"]),
    "accept-encoding": st.sampled_from(["gzip, br, zstd", "*;q=0", ""]),
    "expect": st.sampled_from(["100-continue", "200-ok"]),
    "x-request-id": st.sampled_from(["a", "a" * 65, "\xe9", "a b", ""]),
    "authorization": st.sampled_from(["Bearer", "Bearer ", "Basic YTpi", "bearer sk-lmi-x", "\xff", f"Bearer {KEY}x"]),
    "x-amzn-sagemaker-custom-attributes": st.just("route=/v1/x"),
    "openai-organization": st.text(st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_characters="\x7f")),
}  # fmt: skip
ODD_HEADERS = st.dictionaries(st.sampled_from(sorted(HEADERS)), st.none(), max_size=3).flatmap(
    lambda names: st.fixed_dictionaries({name: HEADERS[name] for name in names})
)
METHODS = st.sampled_from(
    ["POST"] * 6 + ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "post", "FOO", "PRI"]
)
TARGETS = st.sampled_from([CHAT] * 4 + [COMPLETIONS] * 2 + [
    "/v1/models", "/v1/models/lmi", "/v1/models/%ff", "/v1/embeddings", "/v1", "*", "/V1/CHAT/COMPLETIONS",
    f"{CHAT}/", f"{CHAT}?a=b", f"/{CHAT}", f"{CHAT}%2f", "/v1/./chat/completions",
])  # fmt: skip


def test_no_request_makes_the_gateway_fail(shared_world: World) -> None:
    shared_world.begin()
    lines = len(shared_world.gateway.log)
    sound = [
        b'{"model":"lmi","messages":[{"role":"user","content":"hello"}]}',
        b'{"model":"lmi","prompt":"hello"}',
        b"",
    ]

    @given(method=METHODS, target=TARGETS, headers=ODD_HEADERS, body=st.sampled_from(sound) | st.binary(max_size=20))
    def answers(method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        with Caller(shared_world.port) as caller:
            caller.send(request(method, target, body, headers=headers))
            answer = caller.answer(to=method)
            assert answer.complete
            assert answer.status in {200, 204, 417} | CALLERS_OWN, (answer.status, answer.body)
            if method != "HEAD" and answer.status >= 400:
                validate("error", answer.json)
            elif method != "HEAD" and answer.status == 200:
                assert answer.json["object"] in ("chat.completion", "text_completion", "list", "model")

    answers()
    shared_world.settle()
    assert shared_world.gateway.log[lines:] == []
