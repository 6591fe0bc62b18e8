"""The check against OpenAI's description of its API: what it sees, what it admits, and what stands in for it."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.adapters.calls import recordings_of_answers
from tests.support import openai_schema
from tests.support.openai_schema import Check, Kind, NotOpenAIs, by_client, by_description, description, validate

DESCRIBED = pytest.param(
    by_description,
    id="by the description",
    marks=pytest.mark.skipif(
        description() is None, reason=f"no description beside the repository or in {openai_schema.VARIABLE}"
    ),
)
CHECKS = pytest.mark.parametrize("check_of", [DESCRIBED, pytest.param(by_client, id="by the client's types")])

USAGE = {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3}
TOOL = {"id": "call-1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MESSAGE = {"role": "assistant", "content": "Hi", "refusal": None, "reasoning": None, "tool_calls": [TOOL]}
TOKEN = {"token": "Hi", "logprob": -0.5, "bytes": [72, 105], "top_logprobs": []}
HEAD: dict[str, Any] = {"id": "x-1", "created": 1, "model": "m"}
GOOD: dict[Kind, dict[str, Any]] = {
    "chat": {
        **HEAD,
        "object": "chat.completion",
        "choices": [
            {
                "index": 0,
                "message": MESSAGE,
                "logprobs": {"content": [TOKEN], "refusal": None},
                "finish_reason": "tool_calls",
                "stop_reason": None,
            }
        ],
        "usage": USAGE,
        "service_tier": None,
        "prompt_logprobs": None,
    },
    "chunk": {
        **HEAD,
        "object": "chat.completion.chunk",
        "choices": [
            {"index": 0, "delta": {"tool_calls": [{"index": 0, **TOOL}]}, "logprobs": None, "finish_reason": None}
        ],
        "usage": None,
    },
    "completion": {
        **HEAD,
        "object": "text_completion",
        "choices": [
            {
                "index": 0,
                "text": "Hi",
                "logprobs": {"tokens": ["H", "i"], "token_logprobs": [None, -1], "top_logprobs": [None, {"i": -1}]},
                "finish_reason": "length",
            }
        ],
        "usage": USAGE,
    },
    "completion chunk": {
        **HEAD,
        "object": "text_completion",
        "choices": [{"index": 0, "text": "Hi", "logprobs": None, "finish_reason": None}],
        "usage": None,
    },
    "models": {
        "object": "list",
        "data": [{"id": "m", "object": "model", "created": 0, "owned_by": "o", "aliases": []}],
    },
    "model": {"id": "m", "object": "model", "created": 0, "owned_by": "o", "context_length": None},
    "error": {"error": {"message": "No.", "type": "server_error", "param": None, "code": "x"}},
}
KINDS: list[Kind] = list(GOOD)
ABSENT: Any = object()


def changed(body: Any, path: str, value: Any) -> Any:
    """Return the body with one value replaced, or taken out."""
    body = copy.deepcopy(body)
    *steps, last = (int(step) if step.isdigit() else step for step in path.split("."))
    inner = body
    for step in steps:
        inner = inner[step]
    if value is ABSENT:
        del inner[last]
    else:
        inner[last] = value
    return body


@CHECKS
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_as_openai_has_it_passes_with_whatever_else_there_is(check_of: Any, kind: Kind) -> None:
    assert check_of(kind)(GOOD[kind]) == ()


@CHECKS
@pytest.mark.parametrize(("kind", "path", "value"), [
    ("chat", "object", "chat.completion.chunk"), ("chat", "id", None), ("chat", "created", "1"),
    ("chat", "choices", None), ("chat", "choices.0.finish_reason", "abort"), ("chat", "choices.0.index", "0"),
    ("chat", "choices.0.message.content", 1), ("chat", "choices.0.message.role", "user"),
    ("chat", "choices.0.message.tool_calls.0.function.arguments", {}), ("chat", "usage.prompt_tokens", None),
    ("chat", "choices.0.message.tool_calls.0.id", ABSENT), ("chat", "usage.completion_tokens", ABSENT),
    ("chat", "choices.0.logprobs.content.0.logprob", "-0.5"), ("chat", "choices.0.message", ABSENT),
    ("chunk", "object", "chat.completion"), ("chunk", "choices.0.delta", ABSENT), ("chunk", "model", None),
    ("chunk", "choices.0.delta.tool_calls.0.index", ABSENT), ("chunk", "choices.0.finish_reason", "eos"),
    ("chunk", "choices.0.delta.content", ["Hi"]), ("chunk", "choices.0.delta.tool_calls.0.function.arguments", {}),
    ("completion", "choices.0.text", None), ("completion", "choices.0.finish_reason", None),
    ("completion", "choices.0.logprobs.tokens", [1]), ("completion", "created", 1.5),
    ("completion chunk", "choices.0.text", ABSENT), ("completion chunk", "choices.0.finish_reason", "tool_calls"),
    ("models", "object", "models"), ("models", "data", {}), ("models", "data.0.created", None),
    ("model", "owned_by", ABSENT), ("model", "object", "Model"),
    ("error", "error", "No."), ("error", "error.code", 404), ("error", "error.code", ABSENT),
    ("error", "error.param", ABSENT), ("error", "error.message", None), ("error", "error", ABSENT),
])  # fmt: skip
def test_what_is_not_is_named(check_of: Any, kind: Kind, path: str, value: Any) -> None:
    problems = check_of(kind)(changed(GOOD[kind], path, value))
    assert len(problems) >= 1
    *place, last = path.split(".")
    named = "$" + re.sub(r"\.(\d+)", r"[\1]", "".join(f".{step}" for step in place))
    assert any(problem.startswith(named) and last in problem for problem in problems), problems


@pytest.mark.skipif(description() is None, reason="the client's types ask for less")
@pytest.mark.parametrize(("kind", "path", "value"), [
    ("chat", "choices.0.message.refusal", ABSENT), ("chat", "choices.0.message.function_call", None),
    ("chat", "choices.0.logprobs", ABSENT), ("chat", "choices.0.logprobs.refusal", ABSENT),
    ("chat", "system_fingerprint", None), ("chunk", "choices.0.finish_reason", ABSENT),
    ("chunk", "choices.0.delta.tool_calls.0.function.name", None), ("completion", "usage", None),
])  # fmt: skip
def test_the_description_asks_for_more_than_the_client(kind: Kind, path: str, value: Any) -> None:
    body = changed(GOOD[kind], path, value)
    assert by_client(kind)(body) == () or kind == "completion"
    assert len(by_description(kind)(body)) == 1


@pytest.mark.skipif(description() is None, reason="the client's types ask for less")
def test_vllm_breaks_the_description_in_five_places_only() -> None:
    """So it does by itself: what the gateway mends (adapters/openai/conform.py)."""
    found = set()
    for stream in (False, True):
        for recording in recordings_of_answers(stream=stream):
            chat = "messages" in recording.request
            kinds: tuple[Kind, Kind] = ("chat", "chunk") if chat else ("completion", "completion chunk")
            lines = recording.reply.decode().split("\n") if stream else [recording.reply.decode()]
            for line in lines:
                if line.removeprefix("data: ").startswith("{"):
                    found |= set(by_description(kinds[stream])(json.loads(line.removeprefix("data: "))))
    assert {re.sub(r"\[\d+\]", "[]", problem) for problem in found} == {
        "$.choices[].logprobs: 'refusal' is a required property",
        "$.choices[].message.annotations: None is not of type 'array'",
        "$.choices[].message.function_call: None is not of type 'object'",
        "$.usage.prompt_tokens_details: None is not of type 'object'",
        "$.usage.completion_tokens_details: None is not of type 'object'",
    }


@CHECKS
def test_equal_shapes_are_told_apart_where_more_than_the_shape_matters(check_of: Any) -> None:
    check: Check = check_of("chat")
    for finish in ("stop", "abort", "length", "error", "stop"):
        problems = check(changed(GOOD["chat"], "choices.0.finish_reason", finish))
        assert bool(problems) is (finish in ("abort", "error"))
    for content in ("stop", "abort", None, 5, None):
        assert bool(check(changed(GOOD["chat"], "choices.0.message.content", content))) is (content == 5)


def test_a_failure_names_every_field() -> None:
    body = changed(changed(GOOD["error"], "error.code", 404), "error.message", None)
    with pytest.raises(NotOpenAIs) as caught:
        validate("error", body)
    lines = str(caught.value).splitlines()
    assert [line.partition(": ")[0] for line in lines] == ["error", "error"]
    assert {line.split(": ")[1] for line in lines} == {"$.error.code", "$.error.message"}


# --- Where the description is found


@pytest.fixture
def looked_for_anew(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """Forget what was found; nothing is beside the repository."""
    monkeypatch.delenv(openai_schema.VARIABLE, raising=False)
    monkeypatch.setattr(openai_schema, "BESIDE", tmp_path / "openai-openapi.json")
    description.cache_clear()
    yield tmp_path / "openai-openapi.json"
    description.cache_clear()


def test_without_a_description_the_clients_types_are_asked(looked_for_anew: Path) -> None:
    assert description() is None
    validate("chat", changed(GOOD["chat"], "choices.0.message.refusal", ABSENT))
    with pytest.raises(NotOpenAIs, match=re.escape("chat: $.choices[0].message.content: ")):
        validate("chat", changed(GOOD["chat"], "choices.0.message.content", 1))


def test_the_description_lies_beside_the_repository_or_where_the_variable_says(
    looked_for_anew: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_for_anew.write_text("{}")
    assert description() == looked_for_anew
    other = looked_for_anew.with_name("other.json")
    monkeypatch.setenv(openai_schema.VARIABLE, str(other))
    description.cache_clear()
    with pytest.raises(FileNotFoundError):
        description()
    other.write_text("{}")
    assert description() == other


def test_a_word_of_a_newer_description_is_not_passed_over(looked_for_anew: Path) -> None:
    schema = {"type": "object", "properties": {"object": {"type": "string", "pattern": "^l"}}}
    looked_for_anew.write_text(json.dumps({"components": {"schemas": {"ListModelsResponse": schema}}}))
    with pytest.raises(NotImplementedError, match="'pattern'"):
        openai_schema._schema(looked_for_anew, "ListModelsResponse")
