"""Whatever the bytes: a checked call, or TGI's refusal. And every checked call is asked, or refused with a name."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from adapters.base import Adapter, Call
from adapters.errors import UnsupportedParameter
from adapters.lmi import VLLM_MINOR
from adapters.openai.assemble import prefers_stream, streamable
from adapters.openai.request import FieldPolicy
from adapters.registry import make
from adapters.tgi.parameters import PARAMETERS
from adapters.tgi.request import TgiLimits, TgiRefusal, check, read

POLICIES = [
    FieldPolicy(),
    FieldPolicy(context_length=64),
    FieldPolicy(unknown_fields="refuse", modalities=("text", "image"), allow_fields=frozenset({"grammar", "stop"})),
]
ADAPTERS = [make("lmi", str(version)) for version in VLLM_MINOR] + [
    make("vllm", f"0.{minor}") for minor in range(8, 34)
]

NUMBERS = st.one_of(
    st.integers(-3, 3),
    st.sampled_from([2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**64, 10**400, 1e-46, 0.999999999, 1e38, 1e300]),
    st.floats(allow_nan=False, allow_infinity=False),
)
TEXTS = st.text(max_size=6) | st.sampled_from(
    ["![](https://a.example/b)", "![](data:x)", "{}", '{"properties":{}}', ""]
)
TREES = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["type", "value", "properties", "schema", "name"]) | TEXTS, inner, max_size=3)
    ),
    max_leaves=6,
)
SCHEMAS = st.fixed_dictionaries({"properties": st.dictionaries(TEXTS, TREES, max_size=2)})
GRAMMARS = st.one_of(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["json", "json_object"]), "value": SCHEMAS | SCHEMAS.map(json.dumps)}
    ),
    st.fixed_dictionaries({"type": st.just("json_schema"), "value": st.fixed_dictionaries({"schema": SCHEMAS})}),
    st.fixed_dictionaries({"type": st.just("regex"), "value": TEXTS}),
)
LIKELY: dict[str, st.SearchStrategy[Any]] = {
    "best_of": st.integers(0, 3),
    "temperature": st.floats(0.01, 3),
    "top_k": st.integers(1, 50),
    "top_p": st.floats(0.01, 0.99),
    "stop": st.lists(TEXTS, max_size=4),
    "truncate": st.integers(1, 70),
    "max_new_tokens": st.integers(1, 70),
    "seed": st.integers(0, 2**64 - 1),
    "top_n_tokens": st.integers(0, 5),
    "grammar": GRAMMARS,
    "adapter_id": TEXTS,
    "unknown": TREES,
} | {name: st.booleans() for name in ("do_sample", "details", "decoder_input_details", "return_full_text", "watermark")}
PARAMETERS_GIVEN = st.fixed_dictionaries({}, optional=LIKELY) | st.fixed_dictionaries(
    {}, optional=dict.fromkeys((*PARAMETERS, "unknown"), TREES)
)
BODIES = st.fixed_dictionaries(
    {"inputs": TEXTS | st.text(min_size=1, max_size=200)},
    optional={"parameters": PARAMETERS_GIVEN | TREES, "stream": st.booleans() | TREES, "x": TREES},
)
ROUTES = st.sampled_from([None, False, True])


def outcome(body: bytes, route: bool | None, policy: FieldPolicy) -> Call | TgiRefusal:
    """Return what comes of a body; nothing else may be raised."""
    found: Call | TgiRefusal
    try:
        found = check(read(body, route), model="m", policy=policy, limits=TgiLimits(), drawn_seed=5)
    except TgiRefusal as error:
        found = error
    if isinstance(found, TgiRefusal):
        assert found.status in (400, 422)
        assert (found.error_type is None) == found.message.startswith("Failed to ")
    return found


def encoded(adapter: Adapter, call: Call, stream: bool) -> bytes | str:
    """Return the container's body, or the parameter for which there is none."""
    try:
        return adapter.encode(call, stream=stream)
    except UnsupportedParameter as error:
        return error.param


def asked(call: Call) -> None:
    for adapter in ADAPTERS:
        for stream in {call.stream, streamable(call)}:
            body = encoded(adapter, call, stream)
            if isinstance(body, str):
                assert body in PARAMETERS or body == "inputs"
                continue
            fields = json.loads(body)
            assert next(iter(fields)) == "prompt"
            assert fields["max_tokens"] >= 1
            assert fields.get("seed", 0) < 2**63
            assert "adapter_id" not in body.decode()
            assert not call.stream or fields["stream"] is True


@given(st.binary(max_size=60), ROUTES)
@example(b'{"inputs":"\\ud800"}', None)
@example(b'{"inputs":"a","parameters":{"a":' + b"[" * 300 + b"]" * 300 + b"}}", None)
@example(b'{"inputs":"a","inputs":' + b"[" * 2000 + b"]" * 2000 + b"}", None)
@example(b'{"inputs":"a","parameters":{"grammar":{"type":"json","value":"' + b"[" * 5000 + b'"}}}', False)
def test_whatever_the_bytes(body: bytes, route: bool | None) -> None:
    outcome(body, route, POLICIES[0])


@given(BODIES, ROUTES, st.sampled_from(POLICIES))
@example({"inputs": "a", "parameters": {"best_of": 2, "temperature": 1.0}}, False, POLICIES[0])
@example({"inputs": "a" * 100, "parameters": {"truncate": 63}}, True, POLICIES[1])
@example({"inputs": "![](https://a.example/b)"}, True, POLICIES[2])
def test_whatever_the_values(body: dict[str, Any], route: bool | None, policy: FieldPolicy) -> None:
    found = outcome(json.dumps(body).encode(), route, policy)
    if isinstance(found, Call):
        assert json.loads(bytes(found.raw["parameters"])) == found.values["parameters"]
        prefers_stream(found, 16)
        asked(found)


@given(BODIES, st.binary(max_size=200), st.integers(0, 200))
def test_whatever_the_container_says(body: dict[str, Any], reply: bytes, cut: int) -> None:
    found = outcome(json.dumps(body).encode(), True, POLICIES[0])
    if isinstance(found, Call):
        for adapter in ADAPTERS[:: len(ADAPTERS) - 1]:
            try:
                decoder = adapter.stream_decoder(found)
            except UnsupportedParameter:
                continue
            decoder.feed(reply[:cut])
            decoder.feed(reply[cut:])
            decoder.end()
            assert decoder.ended or decoder.fault is not None or decoder.malformed is not None
