"""Prompts in spans: bounded, and rid of what looks like a secret."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.base import Call, Surface
from gateway.telemetry.trace_content import CUT, MARK, MAX_MESSAGES, MAX_TOTAL_CHARS, Asked, asked, redact

JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl"


def call(values: dict[str, Any], surface: Surface = Surface.CHAT, **fields: Any) -> Call:
    own: dict[str, Any] = {"stream": False, "include_usage": False, "choices": 1, "max_tokens": None, **fields}
    return Call(surface=surface, model="m", raw={}, values=values, **own)


def messages(values: dict[str, Any], chars: int = 100) -> Any:
    content = asked(call(values), chars).content()
    return None if content is None else json.loads(content)


def said(content: Any, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": content, **more}]}


@pytest.mark.parametrize(
    ("text", "left"),
    [
        pytest.param("my key sk-lmi-abcdefghijkl, ok", f"my key {MARK}, ok", id="an API key"),
        pytest.param("AKIAIOSFODNN7EXAMPLE", MARK, id="an access key id"),
        pytest.param("x=ASIAIOSFODNN7EXAMPLE.", f"x={MARK}.", id="a temporary one"),
        pytest.param("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", f"aws_secret_access_key = {MARK}", id="by name"),
        pytest.param('{"password": "hunter2", "a": 1}', f'{{"password": "{MARK}", "a": 1}}', id="in JSON"),
        pytest.param('{\\"password\\": \\"hunter2\\"}', f'{{\\"password\\": \\"{MARK}"}}', id="in JSON in JSON"),
        pytest.param("Authorization: Bearer abc.DEF-123456", f"Authorization: Bearer {MARK}", id="a bearer token"),
        pytest.param("token: bearer opaque12345", f"token: {MARK}", id="a bearer token by name"),
        pytest.param("authorization: basic dXNlcjpwYXNz", f"authorization: basic {MARK}", id="basic"),
        pytest.param(f"see {JWT} there", f"see {MARK} there", id="a signed token"),
        pytest.param(f"ghp_{'a' * 36} hf_{'b' * 34}", f"{MARK} {MARK}", id="keys of services"),
        pytest.param("postgres://ann:s3cret@db/x", f"postgres://{MARK}@db/x", id="a password in a URL"),
        pytest.param("s3?X-Amz-Signature=abcdef0123&b=1", f"s3?X-Amz-Signature={MARK}&b=1", id="a signed URL"),
        pytest.param("<img src='data:image/png;base64,iVBORw0KGgo='>", f"<img src='data:image/png;base64,{MARK}'>",
                     id="data"),
        pytest.param("write to ann.lee+x@mail.example.com.", f"write to {MARK}.", id="an e-mail address"),
        pytest.param(
            "a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nAB==\n-----END RSA PRIVATE KEY-----\nb",
            f"a\n{MARK}-----END RSA PRIVATE KEY-----\nb",
            id="a private key",
        ),
        pytest.param("-----BEGIN PRIVATE KEY-----\nMIIE", MARK, id="a private key without end"),
        pytest.param("task-force max_tokens: 4096, a@b, $1 = 2", "task-force max_tokens: 4096, a@b, $1 = 2", id="none"),
        pytest.param("", "", id="nothing"),
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_taken_out(text: str, left: str) -> None:
    assert redact(text, 1000) == left


SECRET = "sk-" + "s" * 40


@pytest.mark.parametrize("before", range(60))
def test_a_secret_across_the_cut_leaves_no_part_of_it(before: int) -> None:
    text = "." * before + SECRET + "." * 600
    left = redact(text, 30)
    assert "sss" not in left
    assert len(left) <= 30 + len(MARK) + len(CUT)
    assert left.endswith(CUT)


@pytest.mark.parametrize("limit", [1, 7, 64, 512])
def test_many_secrets_do_not_pull_what_is_behind_the_cut_before_it(limit: int) -> None:
    text = (SECRET + " ") * 30 + "tail"
    left = redact(text, limit)
    assert left.count(MARK) <= limit // len(SECRET) + 1
    assert "tail" not in left


@given(st.text("sk-=:@.abAKIA eyJ/\"'\\{}data;,bearer\n", max_size=300), st.integers(1, 100))
def test_a_text_never_grows_past_its_marks(text: str, limit: int) -> None:
    left = redact(text, limit)
    assert len(left.replace(MARK, "").replace(CUT, "")) <= limit


@pytest.mark.parametrize("text", [
    "a" * 50_000, "a@" * 25_000, "data:" * 10_000, "eyJ" * 16_000, "://a:" * 10_000, "password" * 6_000,
    "-----BEGIN " * 4_000, "bearer " * 7_000, "a.b@" + "c." * 20_000, " " * 50_000,
], ids=lambda text: repr(text[:6]))  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    began = time.perf_counter()
    redact(text, 32_768)
    assert time.perf_counter() - began < 2


def test_without_content_there_is_none_whatever_is_asked() -> None:
    found = asked(call(said(SECRET)), None)
    assert (found.content(), found.attributes) == (None, {"gen_ai.request.model": "m"})


def test_a_prompt_is_never_printed() -> None:
    assert repr(asked(call(said("secret words")), 100)) == "Asked(...)"
    assert str(Asked({}, [], 0)) == "Asked(...)"


PICTURE = {"type": "image_url", "image_url": {"url": "https://files.example.com/canary.png?sig=canary"}}


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        pytest.param(said("hello"), [{"role": "user", "parts": [{"type": "text", "content": "hello"}]}], id="a text"),
        pytest.param(
            said([{"type": "text", "text": "look"}, PICTURE]),
            [{"role": "user", "parts": [
                {"type": "text", "content": "look"}, {"type": "image_url", "content": MARK}
            ]}],
            id="a picture, and nothing of it",
        ),
        pytest.param(
            {"messages": [
                {"role": "assistant", "content": None, "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "f", "arguments": '{"api_key": "hunter22"}'}}
                ]},
                {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            ]},
            [
                {"role": "assistant", "parts": [
                    {"type": "tool_call", "id": "c1", "name": "f", "arguments": f'{{"api_key": "{MARK}"}}'}
                ]},
                {"role": "tool", "parts": [{"type": "tool_call_response", "id": "c1", "response": "rain"}]},
            ],
            id="a tool",
        ),
        pytest.param({"prompt": "hi"}, [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}], id="a prompt"),
        pytest.param({"prompt": ["a", "b"]}, [
            {"role": "user", "parts": [{"type": "text", "content": text}]} for text in "ab"
        ], id="prompts"),
        pytest.param({"inputs": "hi"}, [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}], id="inputs"),
        pytest.param({"prompt": [1, 2]}, None, id="tokens"),
        pytest.param({"prompt": [[1], [2]]}, None, id="lists of tokens"),
        pytest.param({}, None, id="nothing"),
        pytest.param(
            said("hi", tool_calls=5), [{"role": "user", "parts": [{"type": "text", "content": "hi"}]}], id="no calls"
        ),
        pytest.param(
            said("x" * 101), [{"role": "user", "parts": [{"type": "text", "content": "x" * 100 + CUT}]}], id="cut"
        ),
    ],
)  # fmt: skip
def test_messages_have_the_conventions_shape(values: dict[str, Any], expected: Any) -> None:
    assert messages(values) == expected


def test_a_long_conversation_keeps_its_newest_messages() -> None:
    found = messages({"messages": [{"role": "user", "content": f"{n}"} for n in range(500)]})
    assert [message["parts"][0]["content"] for message in found] == [str(n) for n in range(500 - MAX_MESSAGES, 500)]


def test_all_texts_together_have_a_bound() -> None:
    long = {"messages": [{"role": "user", "content": "x" * 50_000} for _ in range(60)]}
    content = asked(call(long), 10_000).content()
    assert content is not None
    assert 3 * 10_000 < len(content) < MAX_TOTAL_CHARS + 1000
    parts = said([{"type": "text", "text": "y" * 50_000} for _ in range(60)])
    content = asked(call(parts), 10_000).content()
    assert content is not None
    assert 3 * 10_000 < len(content) < MAX_TOTAL_CHARS + 1000


def test_texts_that_no_format_can_hold_are_escaped() -> None:
    content = asked(call(said("a\ud800\x00b")), 100).content()
    assert content is not None
    assert content.isascii()


@pytest.mark.parametrize(
    ("values", "fields", "attributes"),
    [
        pytest.param({"temperature": 1, "top_p": 0.5, "top_k": 5}, {}, {
            "temperature": 1.0, "top_p": 0.5, "top_k": 5
        }, id="numbers"),
        pytest.param({"frequency_penalty": -1, "presence_penalty": 0, "seed": 2**63 - 1}, {}, {
            "frequency_penalty": -1.0, "presence_penalty": 0.0, "seed": 2**63 - 1
        }, id="more numbers"),
        pytest.param({"seed": 2**63, "temperature": True, "top_p": "0.5", "top_k": None}, {}, {}, id="no such numbers"),
        pytest.param({"temperature": 10**400, "top_p": -(10**400), "seed": 10**400}, {}, {}, id="larger than any"),
        pytest.param({"parameters": {"temperature": 0.1, "seed": 3}}, {}, {"temperature": 0.1, "seed": 3}, id="TGI's"),
        pytest.param({"stop": ["canary"], "user": "canary", "metadata": {"a": "canary"}}, {}, {}, id="no texts"),
        pytest.param({}, {"stream": True, "choices": 3, "max_tokens": 9}, {
            "stream": True, "choice.count": 3, "max_tokens": 9
        }, id="what every call has"),
    ],
)  # fmt: skip
def test_settings_become_attributes_where_they_are_numbers(
    values: dict[str, Any], fields: dict[str, Any], attributes: dict[str, Any]
) -> None:
    found = asked(call(values, **fields), None).attributes
    assert found == {"gen_ai.request.model": "m"} | {
        f"gen_ai.request.{key}": value for key, value in attributes.items()
    }
