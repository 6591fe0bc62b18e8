"""The container's request body: whose bytes, in which order, and what a version would ignore."""

from __future__ import annotations

import json
from contextlib import nullcontext
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Surface
from adapters.errors import UnsupportedParameter
from adapters.openai.request import FieldPolicy, check, read
from adapters.registry import make
from tests.adapters.calls import IMAGES, chat

LMI = make("lmi", "27")
VLLM = make("vllm", "0.32")


def encoded(body: bytes, *, stream: bool = False, served: str | None = None, surface: Surface = Surface.CHAT) -> bytes:
    adapter = make("vllm", "0.32", served_model_name=served)
    return adapter.encode(check(read(surface, body), IMAGES), stream=stream)


def test_the_prompt_comes_first_and_what_varies_last() -> None:
    body = (
        b'{"stream":true,"seed":1,"user":"u","zebra":1,"model":"public","metadata":{"k":"v"},"temperature":0.5,'
        b'"max_tokens":5,"messages":[{"role":"user","content":"hi"}],"a":[1, 2]}'
    )
    assert encoded(body, stream=True) == (
        b'{"messages":[{"role":"user","content":"hi"}],"a":[1, 2],"max_tokens":5,"temperature":0.5,"zebra":1,'
        b'"user":"u","metadata":{"k":"v"},"seed":1,"stream":true,"stream_options":{"include_usage":true}}'
    )


def test_values_keep_their_bytes_and_space_between_fields_goes() -> None:
    body = (
        b'\n{ "model" : "m" ,\t"temperature" : 1.50e0 ,'
        b' "messages" : [ { "role" : "user", "content" : "\\u00e9\\/" } ]\r\n}\n'
    )
    assert encoded(body) == b'{"messages":[ { "role" : "user", "content" : "\\u00e9\\/" } ],"temperature":1.50e0}'


def test_a_completion_starts_with_its_prompt() -> None:
    body = b'{"model":"m","max_tokens":3,"prompt":["a", "b"],"echo":true}'
    assert encoded(body, surface=Surface.COMPLETIONS) == b'{"prompt":["a", "b"],"echo":true,"max_tokens":3}'


def test_the_served_name_replaces_the_public_one() -> None:
    body = b'{"model":"public","messages":[{"role":"user","content":"hi"}]}'
    assert encoded(body, served='ser"ved') == (b'{"messages":[{"role":"user","content":"hi"}],"model":"ser\\"ved"}')


def test_a_whole_call_says_nothing_of_streams_even_if_the_caller_streams() -> None:
    call = chat(stream=True, stream_options={"include_usage": True})
    assert json.loads(LMI.encode(call, stream=False)) == {"messages": call.values["messages"]}


@pytest.mark.parametrize(
    ("options", "sent"),
    [
        pytest.param(None, {"include_usage": True}, id="none"),
        pytest.param({}, {"include_usage": True}, id="empty"),
        pytest.param({"include_usage": False}, {"include_usage": True}, id="not wanted, dropped on the way back"),
        pytest.param(
            {"include_usage": True, "continuous_usage_stats": True},
            {"include_usage": True, "continuous_usage_stats": True},
            id="in every chunk",
        ),
        pytest.param({"continuous_usage_stats": True}, {"include_usage": True}, id="in every chunk, but not at all"),
        pytest.param(
            {"z": 1, "include_obfuscation": False, "y": None},
            {"include_usage": True, "include_obfuscation": False, "z": 1},
            id="others",
        ),
    ],
)
def test_a_stream_always_asks_for_usage(options: dict[str, Any] | None, sent: dict[str, Any]) -> None:
    call = chat(stream=True, stream_options=options)
    assert json.loads(LMI.encode(call, stream=True))["stream_options"] == sent


@given(st.permutations(["model", "messages", "temperature", "seed", "x", "user", "max_tokens"]))
def test_equal_calls_give_equal_bytes(order: list[str]) -> None:
    values = {
        "model": "m", "messages": [{"role": "user", "content": "a"}], "temperature": 1, "seed": 2, "x": {"a": 1},
        "user": "u", "max_tokens": 9,
    }  # fmt: skip
    spread = json.dumps({name: values[name] for name in order}, separators=(" ,  ", " :\n")).encode()
    compact = json.dumps(values, separators=(",", ":")).encode()
    one, two = (VLLM.encode(check(read(Surface.CHAT, body), IMAGES), stream=True) for body in (spread, compact))
    assert json.loads(one) == json.loads(two)
    top = one.replace(b" :\n", b":").replace(b" ,  ", b",")  # inside values the caller's spacing stays
    assert top == two


def test_the_body_a_container_gets_is_json_whatever_the_names() -> None:
    body = json.dumps(
        {"model": "m", "messages": [{"role": "user", "content": "a"}], 'q"\\\n': 1, "é": 2, "": 3}
    ).encode()
    assert json.loads(encoded(body)) == {"messages": [{"role": "user", "content": "a"}], 'q"\\\n': 1, "é": 2, "": 3}


@pytest.mark.parametrize(
    ("choice", "passes"),
    [
        pytest.param({"type": "function", "function": {"name": "f"}}, True, id="the one tool named"),
        pytest.param("none", True, id="no tool"),
        pytest.param("required", False, id="one or more"),
        pytest.param("auto", False, id="any number"),
    ],
)
def test_where_one_tool_at_most_can_be_called_several_may_be_forbidden_in_any_version(
    choice: Any, passes: bool
) -> None:
    tools = [{"type": "function", "function": {"name": "f"}}]
    call = chat(parallel_tool_calls=False, tools=tools, tool_choice=choice)
    with nullcontext() if passes else pytest.raises(UnsupportedParameter):
        assert b'"parallel_tool_calls":false' in make("lmi", "15").encode(call, stream=False)


def test_a_salt_that_the_gateway_adds_is_sent_in_a_fixed_place() -> None:
    policy = FieldPolicy(allow_fields=frozenset({"cache_salt"}))
    call = chat(policy=policy, cache_salt="s", seed=1, temperature=0.1)
    assert VLLM.encode(call, stream=False).endswith(b'"temperature":0.1,"seed":1,"cache_salt":"s"}')


@pytest.mark.parametrize(
    ("container", "version"),
    [
        ("lmi", "14"),
        ("lmi", "29"),
        ("lmi", "27.0"),
        ("lmi", ""),
        ("vllm", "0.7"),
        ("vllm", "1.0"),
        ("vllm", "0"),
        ("tgi", "3"),
    ],
)
def test_there_is_no_adapter_for_an_unknown_container(container: str, version: str) -> None:
    with pytest.raises(ValueError, match="no adapter"):
        make(container, version)
