"""The engine's bytes beside those of real containers: every recorded exchange is asked again and compared.

Compared are statuses, content types, whole error bodies, and of answers the shape: fields in their order at every
level, nulls, types, how the JSON is spaced and framed, and the sequence of chunks of each choice. Texts, ids, counts
and probabilities are the model's own.
"""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import pytest

from deploy.local.container import ContainerRequest
from deploy.local.engine import Engine, build

pytestmark = pytest.mark.anyio

RECORDINGS = Path(__file__).parents[1] / "recordings"

OPTIONS: dict[str, tuple[str, dict[str, object]]] = {
    "lmi": ("lmi27", {"reasoning_parser": False, "thinking": True}),
    "lmi-reasoning": ("lmi27", {"thinking": True}),
    "scripted": ("vllm-0.32", {"served_name": "tiny-scripted", "reasoning_parser": False, "vision": False}),
    "reasoning": ("vllm-0.32", {"served_name": "tiny-scripted", "vision": False, "thinking": True}),
    "vl": ("vllm-0.32", {"served_name": "tiny-vl", "reasoning_parser": False, "tool_parser": False}),
    "random": ("vllm-0.32", {"served_name": "tiny-random", "reasoning_parser": False, "tool_parser": False}),
}
"""How the engine is set up like the server of a recording's `config`; the window is 1,024 tokens everywhere."""

OWN_OPTIONS: dict[str, dict[str, object]] = {
    "lmi-fault-engine-killed": {"fail_after_tokens": 5},
    "vllm032-fault-engine-killed": {"fail_after_tokens": 11},
    "vllm032-fault-engine-killed-then-chat": {"fail_after_tokens": 0},
}

LONGER_PROMPT = {"lmi-tgi-details-prefill", "vllm032-scripted-completion-echo-logprobs"}
"""Recordings whose "Hello" is several tokens to the recorded model and one to the engine: asked "Hello there"."""

NOT_COMPARED = {
    "-messages": "Anthropic's API is not the engine's",
    "-responses": "the Responses API is not the engine's",
    "-tokenize": "a route of its own",
    "-detokenize": "a route of its own",
    "-metrics": "a route of its own",
    "-load": "a route of its own",
    "-version": "a route of its own",
    "-health": "a route of its own",
    "-ping": "a container's ping is a status",
    "-cached-tokens-": "--enable-prompt-tokens-details is not imitated",
    "-err-method": "the container has one method",
    "-err-not-found": "a route of its own",
    "-err-embeddings": "a route of its own",
}
COMPARED_ALL_THE_SAME = {
    "lmi-err-empty-messages",
    "vllm032-scripted-err-empty-messages",
    "vllm032-scripted-err-no-messages",
    "vllm032-scripted-err-invocations-responses",
}

Recording = dict[str, Any]


def recordings() -> list[Any]:
    """Return every recording that is compared, by name."""
    names = sorted(path.stem for path in RECORDINGS.glob("*.json"))
    return [
        pytest.param(name, id=name)
        for name in names
        if name in COMPARED_ALL_THE_SAME or not any(part in name for part in NOT_COMPARED)
    ]


def test_most_recordings_are_compared() -> None:
    assert len(recordings()) >= 145
    for part in NOT_COMPARED:
        assert any(part in path.stem for path in RECORDINGS.glob("*.json")), f"nothing is called {part} any more"


@pytest.mark.parametrize("name", recordings())
async def test_an_answer_has_the_shape_of_the_recorded_one(name: str) -> None:
    recording = json.loads((RECORDINGS / f"{name}.json").read_text())
    dialect, options = OPTIONS[recording["config"]]
    engine = build(dialect, context_length=1024, **options, **OWN_OPTIONS.get(name, {}))
    status, content_type, got = await replay(engine, recording)
    recorded = recording["response"]
    chunks = [chunk["text"] for chunk in recorded.get("chunks", [])]
    want = chunks if len(chunks) > 1 else [recorded["body"]["text"]]
    assert status == recorded["status"]
    assert content_type == header(recorded, "content-type")
    if status >= 400:
        assert got == want
    else:
        assert by_choice(got) == by_choice(want)


async def replay(engine: Engine, recording: Recording) -> tuple[int, str | None, list[str]]:
    """Ask what was recorded; return the status, the content type and the chunks."""
    asked = recording["request"]
    headers = {name.lower(): value for name, value in asked["headers"]}
    if asked["path"].startswith("/v1/") and recording["config"] != "lmi":
        headers["x-amzn-sagemaker-custom-attributes"] = f"route={asked['path']}"
    body = asked["body"]
    if recording["name"] in LONGER_PROMPT:
        body = body.replace('"Hello"', '"Hello there"')
    reply = await engine.invoke(ContainerRequest(body.encode(), headers))
    if isinstance(reply.body, bytes):
        return reply.status, reply.headers.get("content-type"), [reply.body.decode()]
    return reply.status, reply.headers.get("content-type"), [chunk.decode() async for chunk in reply.body]


def header(recorded: Recording, wanted: str) -> str | None:
    """Return a header of a recorded response."""
    return next((value for name, value in recorded["headers"] if name.lower() == wanted), None)


# --- Shapes ----------------------------------------------------------------------------------------------------------

LITERAL = {"object", "role", "type", "finish_reason", "stop_reason", "index", "code", "error", "message"}
"""Fields whose values are the container's and not the model's; a choice's `message` is an object and no text."""
KEYED_BY_TOKENS = {"top_logprobs", "prompt_logprobs"}


def by_choice(chunks: list[str]) -> dict[int, list[Any]]:
    """Return the shapes of chunks, equal neighbours once, for each choice; choices come side by side in any order."""
    shapes: dict[int, list[Any]] = {}
    for chunk in chunks:
        record = frame(chunk)
        choices = record[1].get("choices", []) if isinstance(record[1], dict) else []
        index = choices[0]["index"] if choices and "object" in record[1] and len(chunks) > 1 else -1
        shapes.setdefault(index, []).append((record[0], shape(record[1]), record[2]))
    return {index: [shape for shape, _ in groupby(found)] for index, found in shapes.items()}


def frame(chunk: str) -> tuple[str, Any, str]:
    """Return what is before a chunk's JSON, the JSON, and what is after it with the way the JSON is spaced."""
    head = "data: " if chunk.startswith("data: ") else ""
    text = chunk.removeprefix(head).rstrip("\n")
    tail = chunk[len(head) + len(text) :]
    try:
        value = json.loads(text)
    except ValueError:
        return head, text, tail
    for spaced, separators in ((True, (", ", ": ")), (False, (",", ":"))):
        if json.dumps(value, ensure_ascii=False, separators=separators) == text:
            return head, value, f"{tail!r} spaced={spaced}"
    return head, value, f"{tail!r} irregular: {text}"


def shape(value: Any, key: str = "") -> Any:
    """Return what a value is made of: a list is the shapes in it, each once."""
    if isinstance(value, dict):
        if key in KEYED_BY_TOKENS and "token" not in value:
            return ("by token", {repr(shape(member)) for member in value.values()})
        return [(name, shape(member, name)) for name, member in value.items()]
    if isinstance(value, list):
        shapes = [shape(member, key) for member in value]
        return ("list", [found for place, found in enumerate(shapes) if found not in shapes[:place]])
    if key in LITERAL:
        return ("exactly", value)
    return type(value).__name__
