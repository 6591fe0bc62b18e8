"""Odd requests to TGI's routes, and of OpenAI's callers to TGI's containers, over a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.base import Surface
from deploy.local.engine import build
from tests.faults.test_faults_fuzz import METHODS, ODD_HEADERS, PATHS, is_openais
from tests.faults.wire import Answer, Caller, request
from tests.faults.world import World, running_world
from tests.support.odd_bodies import odd_bodies
from tests.support.openai_schema import validate
from tests.support.stack import model

CONTAINERS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "lmi15": ("lmi", "15", {}),
    "vllm": ("vllm", "0.33", {}),
    "tgi": ("tgi", "3.3", {}),
    "tgi-old": ("tgi", "1.4", {}),
    "inputs": ("lmi", "27", {"schema": "tgi"}),
}
ROUTES = ("/", "/generate", "/generate_stream")
CALLERS_OWN = {400, 401, 404, 405, 408, 413, 415, 422, 431}


@pytest.fixture(scope="module")
def tgi_world() -> Iterator[World]:
    containers, entries = {}, []
    for name, (container, version, deployment) in CONTAINERS.items():
        containers[name] = build(f"lmi{version}" if container == "lmi" else f"{container}-{version}")
        options = {"context_length": 100_000, "modalities": ["text", "image"], "media": {"urls": "off"}}
        for suffix, unary in (("", "invoke"), ("-assembled", "stream")):
            behind = {"endpoint": name, **deployment}
            entries.append(model(name + suffix, container, version, unary=unary, deployment=behind, **options))
    with running_world(containers, entries) as world:
        yield world


def is_tgis(answer: Answer, route: str) -> None:
    """Check an answer to a call: a reply, a stream that ends as it should, or an error in TGI's envelope."""
    assert answer.complete
    if answer.status != 200:
        assert answer.status in CALLERS_OWN, (answer.status, answer.body)
        is_error(answer.json)
    elif answer.header("content-type") == "application/json":
        assert route != "/generate_stream"
        reply = answer.json
        if route == "/":
            (reply,) = reply
        assert set(reply) <= {"generated_text", "details"}
        assert isinstance(reply["generated_text"], str)
    else:
        assert route != "/generate"
        assert answer.header("content-type") == "text/event-stream; charset=utf-8"
        assert all(event.startswith(b"data:{") for event in answer.body.split(b"\n\n") if event)
        frames = [json.loads(event.removeprefix(b"data:")) for event in answer.body.split(b"\n\n")[:-1]]
        assert [frame["index"] for frame in frames] == list(range(1, len(frames) + 1))
        *before, last = [frame["generated_text"] for frame in frames]
        assert set(before) <= {None}
        assert isinstance(last, str)


def is_error(document: Any) -> None:
    assert list(document) == ["error", "error_type"]
    assert all(isinstance(value, str) and value for value in document.values())


@pytest.mark.parametrize("name", [*CONTAINERS, "lmi15-assembled", "tgi-assembled"])
@pytest.mark.parametrize("route", ROUTES)
def test_no_body_makes_a_route_of_tgis_fail(tgi_world: World, route: str, name: str) -> None:
    tgi_world.begin()
    lines = len(tgi_world.gateway.log)

    @settings(max_examples=max(1, settings().max_examples // 4))
    @given(body=odd_bodies(Surface.GENERATE, name), by_url=st.booleans())
    def answers(body: bytes, by_url: bool) -> None:
        target = f"/models/{name}{route.rstrip('/')}" if by_url else route
        with Caller(tgi_world.port) as caller:
            caller.send(request("POST", target, body))
            is_tgis(caller.answer(), route)

    answers()
    tgi_world.settle()
    assert tgi_world.gateway.log[lines:] == []


@pytest.mark.parametrize("name", ["tgi", "tgi-assembled", "inputs", "inputs-assembled"])
@pytest.mark.parametrize("surface", list(PATHS))
def test_no_body_makes_a_container_with_tgis_schema_fail(tgi_world: World, surface: Surface, name: str) -> None:
    tgi_world.begin()
    lines = len(tgi_world.gateway.log)

    @settings(max_examples=max(1, settings().max_examples // 4))
    @given(body=odd_bodies(surface, name))
    def answers(body: bytes) -> None:
        with Caller(tgi_world.port) as caller:
            caller.send(request("POST", PATHS[surface], body))
            is_openais(caller.answer(), surface)

    answers()
    tgi_world.settle()
    assert tgi_world.gateway.log[lines:] == []


TARGETS = st.sampled_from([
    *ROUTES, "/models/tgi", "/models/tgi/", "/models/tgi/generate", "/models/tgi%2Fgenerate", "/models/%ff/generate",
    "/models/a/b/generate_stream", "/models/generate", "/tokenize", "/chat_tokenize", "/models/vllm/tokenize", "/info",
    "/models/tgi/info", "/health", "/models/tgi/health", "/models/nobody/health", "/generate?a=b", "/models/?/generate",
])  # fmt: skip
BODIES = st.sampled_from(
    [b'{"inputs":"x","parameters":{"adapter_id":"tgi","max_new_tokens":3}}', b'{"inputs":"x"}', b""]
)


def test_no_request_makes_a_route_of_tgis_fail(tgi_world: World) -> None:
    tgi_world.begin()
    lines = len(tgi_world.gateway.log)

    @given(method=METHODS, target=TARGETS, headers=ODD_HEADERS, body=BODIES | st.binary(max_size=20))
    def answers(method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        with Caller(tgi_world.port) as caller:
            caller.send(request(method, target, body, headers=headers))
            answer = caller.answer(to=method)
            assert answer.complete
            assert answer.status in {200, 204, 417} | CALLERS_OWN, (answer.status, answer.body)
            if method == "HEAD" or answer.status < 400:
                return
            if b'"code":"malformed_http"' in answer.body or b'"code":"route_not_found"' in answer.body:
                validate("error", answer.json)  # no URL of TGI's: of one, the code is the `error_type`
            else:
                is_error(answer.json)

    answers()
    tgi_world.settle()
    assert tgi_world.gateway.log[lines:] == []
