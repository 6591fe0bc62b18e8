"""Request bodies as nobody should send them: valid ones with something wrong in them, anywhere, as bytes.

@given(odd_bodies(Surface.CHAT))
def test_it(body: bytes) -> None: ...
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from adapters.base import Surface
from adapters.openai.fields import KNOWN
from adapters.openai.rules import RULES


@dataclass(frozen=True, slots=True)
class Raw:
    """A value as it is to stand in the body, JSON or not."""

    text: bytes


@dataclass(frozen=True, slots=True)
class Pairs:
    """An object whose names may occur more than once."""

    pairs: tuple[tuple[Any, Any], ...]
    """Names are texts or Raw."""


def as_bytes(tree: Any) -> bytes:
    """Return the body that a tree of JSON values, Raw and Pairs stands for."""
    match tree:
        case Raw(text):
            return text
        case Pairs(pairs):
            return b"{" + b",".join(as_bytes(name) + b":" + as_bytes(value) for name, value in pairs) + b"}"
        case dict():
            return as_bytes(Pairs(tuple(tree.items())))
        case list():
            return b"[" + b",".join(map(as_bytes, tree)) + b"]"
        case str():
            return json.dumps(tree, ensure_ascii=False).encode("utf-8", "surrogatepass")
        case _:
            return json.dumps(tree).encode()


_TOOL = {
    "type": "function",
    "function": {"name": "f", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
_PIXEL = (
    "data:image/png;base64,"
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
_CONVERSATION = [
    {"role": "system", "content": "Be brief."},
    {
        "role": "user",
        "content": [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": _PIXEL, "detail": "low"}},
            {"type": "input_audio", "input_audio": {"data": "aGk=", "format": "wav"}},
        ],
    },
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [{"id": "c", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
    },
    {"role": "tool", "tool_call_id": "c", "content": [{"type": "text", "text": "sunny"}]},
]
_SAMPLING = {
    "temperature": 0.5,
    "top_p": 0.9,
    "max_tokens": 5,
    "stop": ["a", "b"],
    "seed": 1,
    "n": 2,
    "logit_bias": {"1": -5},
    "user": "u",
}
_SCHEMA = {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object", "properties": {}}}}
_HELLO = [{"role": "user", "content": "hello"}]
_CHATS: list[Any] = [
    {"model": "m", "messages": _HELLO},
    {"model": "m", "messages": _CONVERSATION, **_SAMPLING},
    {"model": "m", "messages": _HELLO, "stream": True, "stream_options": {"include_usage": True}},
    {
        "model": "m",
        "messages": _HELLO,
        "tools": [_TOOL],
        "tool_choice": {"type": "function", "function": {"name": "f"}},
    },
    {"model": "m", "messages": _HELLO, "tools": [_TOOL], "tool_choice": "auto", "parallel_tool_calls": False},
    {"model": "m", "messages": _HELLO, "logprobs": True, "top_logprobs": 2, "response_format": _SCHEMA},
    {"model": "m", "messages": _HELLO, "structured_outputs": {"choice": ["a"]}, "chat_template_kwargs": {"x": True}},
    {"model": "m", "messages": _HELLO, "max_completion_tokens": 9, "min_tokens": 1, "guided_regex": "a+", "best_of": 1},
]
_COMPLETIONS: list[Any] = [
    {"model": "m", "prompt": "hello"},
    {"model": "m", "prompt": ["a", "b"], **_SAMPLING, "logprobs": 2, "echo": True},
    {"model": "m", "prompt": [[1, 2], [3]], "stream": True, "stream_options": {"include_usage": True}},
    {
        "model": "m",
        "prompt": [1, 2, 3],
        "suffix": None,
        "guided_json": {"type": "object"},
        "max_tokens": 0,
        "echo": True,
    },
]
_GENERATES: list[Any] = [
    {"inputs": "hello"},
    {"inputs": "count to 9", "parameters": {"max_new_tokens": 5, "details": True, "top_n_tokens": 2, "stop": ["4"]}},
    {"inputs": "hello", "parameters": {"do_sample": True, "temperature": 0.5, "top_k": 5, "top_p": 0.9, "seed": 1}},
    {"inputs": "hello", "parameters": {"best_of": 2, "do_sample": True, "max_new_tokens": 3, "return_full_text": True}},
    {"inputs": "hello", "parameters": {"decoder_input_details": True, "repetition_penalty": 1.1, "truncate": 5}},
    {"inputs": "json", "parameters": {"grammar": {"type": "json", "value": {"properties": {"n": {"type": "null"}}}}}},
    {"inputs": "x", "parameters": {"grammar": {"type": "regex", "value": "a+"}, "frequency_penalty": 0.5}},
    {"inputs": "x", "parameters": {"typical_p": 0.5, "watermark": False}, "stream": True},
    {"inputs": "hello", "parameters": {"max_new_tokens": 3}, "stream": True},
]
VALID: dict[Surface, list[Any]] = {Surface.CHAT: _CHATS, Surface.COMPLETIONS: _COMPLETIONS}
"""Of OpenAI's surfaces; they name a model."""

_REFUSED = [
    "prompt", "messages", "inputs", "requestType", "adapters", "parameters", "prompt_embeds", "api_base", "aws_region",
    "lora_path", "chat_template", "mm_processor_kwargs", "cache_salt", "request_id", "kv_transfer_params",
    "logits_processors", "image_url", "uuid", "__class__", "x_embeds",
]  # fmt: skip
NAMES = sorted({*KNOWN[Surface.CHAT], *KNOWN[Surface.COMPLETIONS], *RULES[Surface.CHAT], *_REFUSED})

_DEEP = 200
_BROKEN = [
    Raw(b'"\\ud800"'), Raw(b'"\\udc00\\ud800"'), Raw(b'"\xff"'), Raw(b'"\xed\xa0\x80"'), Raw(b'"\xc0\x80"'),
    Raw(b'"\x00"'), Raw(b'"\n"'), Raw(b'"\\x41"'), Raw(b'"'), Raw(b"'a'"),
    Raw(b"01"), Raw(b"+1"), Raw(b".5"), Raw(b"5."), Raw(b"0x1"), Raw(b"1_0"), Raw(b"NaN"), Raw(b"-Infinity"),
    Raw(b"1e999"), Raw(b"-" + b"9" * 5000),
    Raw(b"[" * 5_000), Raw(b"[" * 5_000 + b"]" * 5_000), Raw(b'{"a":' * 5_000),
    Raw(b"undefined"), Raw(b"nul"), Raw(b""), Raw(b"// x"), Raw(b"1 1"), Raw(b"[1,]"), Raw(b'{"a":1,}'),
    Raw(b'{"a" 1}'), Raw(b"{1:2}"),
]  # fmt: skip
"""What is no JSON, or more of it than a reader need take."""
_TEXTS = [
    Raw(b'"\\ud83d\\ude00"'), Raw(b'"\\u0000"'), Raw(b'"\\/"'), "", " ", "\u2028", "\ufeff", "\x7f", "a\\", 'a"b',
    "😀" * 40, "x" * 2_000, "auto", "required", "none", "text", "f", "data:image/png;base64,AAAA", "https://a.example.com/",
]  # fmt: skip
_NUMBERS = [
    Raw(b"1e-999"), Raw(b"-0"), Raw(b"-0.0"), Raw(b"1E5"), Raw(b"1.0"), Raw(b"0.10"), Raw(b"9" * 400),
    Raw(b"0." + b"9" * 400), Raw(b"1" + b"0" * 400 + b"e-400"),
    0, 1, -1, 2, 3, 20, 21, 128, 129, 2**31 - 1, 2**31, 2**53 + 1, 2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64,
    0.5, -0.5, 1.5, 2.5, 1e300, 5e-324,
]  # fmt: skip
_SHAPES: list[Any] = [
    None, True, False, [], {}, [[]], [None], [{}], {"": None}, {"type": "text"}, [{"type": "text", "text": 5}],
    {"type": "function"}, {"type": "json_schema"}, ["a", 1], [1, "a"], [1, True], [[1], "a"], [[1.0]], [0.5],
    Raw(b"[" * _DEEP + b"]" * _DEEP), Raw(b'{"a":' * _DEEP + b"1" + b"}" * _DEEP), Raw(b"[" * 60 + b"]" * 60),
    Raw(b"[" + b"[]," * 1_100 + b"[]]"), Raw(b"[" + b"1," * 1_100 + b"1]"), Raw(b" 1 "), Raw(b'{"a":1,"a":2}'),
]  # fmt: skip
_GROWN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
ODD_VALUES: st.SearchStrategy[Any] = st.one_of(
    *(st.sampled_from(_TEXTS), st.sampled_from(_NUMBERS), st.sampled_from(_SHAPES), _GROWN) * 4,
    st.sampled_from(_BROKEN),
)
_ODD_NAMES: st.SearchStrategy[Any] = st.one_of(
    *[st.sampled_from(NAMES)] * 8, st.sampled_from(_TEXTS), st.text(max_size=8), st.sampled_from(_BROKEN)
)
_CHANGES = [*["inside"] * 6, *["replace"] * 3, "remove", "double", "rename"]


@st.composite
def odd_bodies(draw: st.DrawFn, surface: Surface, model: str = "m") -> bytes:
    """Draw a body of a surface, seldom of another, with one to three things changed, and now and then a few bytes."""
    bodies = _GENERATES if surface is Surface.GENERATE else VALID[surface]
    tree = {**draw(st.sampled_from(bodies * 4 + _CHATS + _COMPLETIONS)), "model": model}
    if surface is Surface.GENERATE:
        tree.setdefault("parameters", {})
        if draw(st.integers(0, 3)) == 3:
            tree = {"parameters": {**tree.pop("parameters"), "adapter_id": model}, **tree}
    for _ in range(draw(st.integers(1, 3))):
        tree = _changed(draw, tree)
    body = as_bytes(tree)
    if draw(st.integers(0, 9)) == 9:
        start = draw(st.integers(0, len(body)))
        end = draw(st.integers(start, min(len(body), start + 8)))
        body = (
            body[:start] + draw(st.binary(max_size=8) | st.sampled_from([b"", b"\xef\xbb\xbf", b"\x00"])) + body[end:]
        )
    return body


ALL_ODD: list[Any] = [*_TEXTS, *_NUMBERS, *_SHAPES, *_BROKEN]


def with_each_value_replaced(tree: Any, value: Any) -> Iterator[Any]:
    """Yield the tree with `value` in each of its places in turn, on every level, itself included."""
    yield value
    items = list(tree.items()) if isinstance(tree, dict) else list(enumerate(tree)) if isinstance(tree, list) else []
    for name, inner in items:
        for changed in with_each_value_replaced(inner, value):
            copy = tree.copy()
            copy[name] = changed
            yield copy


def _changed(draw: st.DrawFn, tree: Any) -> Any:
    """Return the tree with one value replaced, taken out, given twice or put beside, on any level."""
    items: list[tuple[Any, Any]]
    match tree:
        case Pairs(pairs):
            items = list(pairs)
        case dict():
            items = list(tree.items())
        case list():
            items = list(enumerate(tree))
        case _:
            return draw(ODD_VALUES)
    at = draw(st.integers(0, len(items)))
    if at == len(items):
        items.append((draw(_ODD_NAMES), draw(ODD_VALUES)))
    else:
        name, value = items[at]
        match draw(st.sampled_from(_CHANGES)):
            case "inside":
                items[at] = (name, _changed(draw, value))
            case "replace":
                items[at] = (name, draw(ODD_VALUES))
            case "remove":
                del items[at]
            case "double":
                items.insert(draw(st.integers(0, len(items))), (name, draw(st.just(value) | ODD_VALUES)))
            case "rename":
                items[at] = (draw(_ODD_NAMES), value)
    return [value for _, value in items] if isinstance(tree, list) else Pairs(tuple(items))
