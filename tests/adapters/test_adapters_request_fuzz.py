"""Whatever a body holds: it is refused with a sentence, or each container gets exactly what was checked."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from adapters.base import Adapter, Call, Surface
from adapters.drift.vllm import VLLM
from adapters.errors import UnsupportedParameter
from adapters.openai.request import BadRequest, FieldPolicy, check, read
from adapters.openai.urls import UrlPolicy
from adapters.registry import make
from gateway.errors import UnsupportedParameterError
from gateway.http.errors import from_adapter
from tests.support.odd_bodies import ALL_ODD, NAMES, VALID, as_bytes, odd_bodies, with_each_value_replaced
from tests.support.openai_schema import validate

ADAPTERS: list[Adapter] = [
    *(make("lmi", str(version)) for version in range(15, 29)),
    *(make("vllm", f"0.{minor}", served_model_name="served") for minor in range(8, 34)),
]
POLICIES = [
    FieldPolicy(),
    FieldPolicy(modalities=("text", "image", "audio", "video"), urls=UrlPolicy("pass", ("*.example.com",))),
    FieldPolicy(unknown_fields="drop", context_length=4096),
    FieldPolicy(unknown_fields="refuse", allow_fields=frozenset({"cache_salt", "n"})),
    FieldPolicy(allow_fields=frozenset(NAMES), modalities=("text", "image")),
]
LONGEST_MESSAGE = 1000


def is_told(error: BadRequest | UnsupportedParameter) -> None:
    """Check that a refusal becomes an answer: OpenAI's envelope, in UTF-8, of a size that is no echo of the body."""
    if isinstance(error, BadRequest):
        answer = from_adapter(error)
    else:
        answer = UnsupportedParameterError(str(error), param=error.param)
    assert 400 <= answer.status < 500
    assert answer.message.endswith("."), answer.message
    assert len(answer.message) < LONGEST_MESSAGE
    validate("error", json.loads(answer.body()))


def fields_of(text: bytes) -> dict[str, Any]:
    """Return the fields of a JSON object in UTF-8, its numbers as they are written; a name given twice is a fault."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), [name for name, _ in pairs]
        return dict(pairs)

    outer: dict[str, Any] = {}

    def keep(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal outer
        outer = dict(pairs)
        keep.last = pairs  # type: ignore[attr-defined]  # objects are told innermost first: the last is the outermost
        return outer

    json.loads(text.decode(), object_pairs_hook=keep, parse_int=str, parse_float=str)
    return once(keep.last)  # type: ignore[attr-defined]  # set above


TRANSLATED = {row.name for section in VLLM.sections for row in section.rows if any(cell.step for _, cell in row.cells)}
"""Fields that some version does not get as the caller wrote them: tests/adapters/test_adapters_drift.py."""


def is_sent_on(call: Call, adapters: list[Adapter]) -> None:
    """Check what containers get of a call."""
    caller = {name: fields_of(b'{"x":%b}' % bytes(raw))["x"] for name, raw in call.raw.items()}
    for adapter in adapters:
        for stream in (False, True):
            try:
                body = adapter.encode(call, stream=stream)
            except UnsupportedParameter as error:
                is_told(error)
                continue
            sent = fields_of(body)
            assert sent.pop("model", "served") == "served"
            assert sent.pop("stream", False) is stream
            if not stream:
                assert "stream_options" not in sent
            sent.pop("stream_options", None)
            for name in ("model", "stream", "stream_options", *TRANSLATED):
                sent.pop(name, None)
                caller.pop(name, None)
            assert sent == caller


def is_handled(surface: Surface, body: bytes, policy: FieldPolicy, adapters: list[Adapter] = ADAPTERS) -> None:
    try:
        call = check(read(surface, body), policy)
    except BadRequest as error:
        is_told(error)
    else:
        assert all(value is not None for value in call.values.values())
        assert math.isfinite(call.choices)
        is_sent_on(call, adapters)


@pytest.mark.parametrize("surface", list(VALID))
def test_every_odd_value_in_every_place(surface: Surface) -> None:
    handled = 0
    for tree in VALID[surface]:
        for value in ALL_ODD:
            for changed in with_each_value_replaced(tree, value):
                body = as_bytes(changed)
                try:
                    is_handled(surface, body, POLICIES[1], ADAPTERS[-1:])
                except Exception as error:
                    raise AssertionError(f"{body[:500]!r}") from error
                handled += 1
    assert handled > 1_000


@pytest.mark.parametrize("surface", list(VALID))
@given(data=st.data(), policy=st.sampled_from(POLICIES))
def test_a_valid_body_with_something_wrong_in_it(surface: Surface, data: st.DataObject, policy: FieldPolicy) -> None:
    is_handled(surface, data.draw(odd_bodies(surface)), policy)


@pytest.mark.parametrize("surface", list(VALID))
@given(body=st.binary(max_size=60) | st.text(alphabet='{}[]",:\\0eE-.tfnul \n\u00e9😀', max_size=40).map(str.encode))
@example(b"")
@example(b"\xef\xbb\xbf{}")
@example(b"null")
@example(b'{"model":"m"}{}')
def test_bytes(surface: Surface, body: bytes) -> None:
    is_handled(surface, body, POLICIES[0])


@pytest.mark.parametrize("surface", list(VALID))
def test_the_bodies_that_are_changed_are_valid_themselves(surface: Surface) -> None:
    for tree in VALID[surface]:
        policy = FieldPolicy(modalities=("text", "image", "audio"))
        is_sent_on(check(read(surface, as_bytes(tree)), policy), ADAPTERS)
