"""One call, three ways, in every version: the whole reply, the stream and the stream gathered say the same."""

from __future__ import annotations

from typing import Any

import pytest
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from tests.adapters.engines import DIALECTS, assembled, streamed, whole

FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": {"type": "object", "properties": {}}}}


def saying(text: str, **fields: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}], "seed": 3, **fields}


CALLS: dict[str, dict[str, Any]] = {
    "text": saying("hello"),
    "emoji": saying("emoji"),
    "cut": saying("count", max_completion_tokens=5),
    "stopped": saying("count to 9", stop=["4"]),
    "choices": saying("tell me", n=3, temperature=0.7),
    "logprobs": saying("hello", logprobs=True, top_logprobs=2),
    "logprobs of choices": saying("tell me", n=2, temperature=0.7, logprobs=True),
    "a schema": saying("well?", response_format=FORMAT),
    "thoughts of choices": saying("hello", n=2, temperature=0.7, chat_template_kwargs={"enable_thinking": True}),
    "a completion": {"prompt": "hello", "seed": 3},
    "prompts": {"prompt": ["count to 3", "hello"], "n": 2, "seed": 3, "temperature": 0.7},
    "logprobs of prompts": {"prompt": ["count to 3", "hello"], "logprobs": 2, "max_tokens": 4, "seed": 3},
    "an echo": {"prompt": "hello", "echo": True, "max_tokens": 4, "seed": 3},
    "an echo of prompts": {"prompt": ["hello", "emoji"], "echo": True, "max_tokens": 4, "seed": 3},
}


def same(reply: Any) -> Any:
    """Drop what two calls cannot share, and a field that patch releases of 0.9 differ in."""
    if isinstance(reply, dict):
        own = ("id", "created", "system_fingerprint", "kv_transfer_params")
        return {name: same(value) for name, value in reply.items() if name not in own}
    return [same(item) for item in reply] if isinstance(reply, list) else reply


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_three_ways_say_the_same(dialect: str, name: str) -> None:
    fields = CALLS[name]
    reply, gathered, chunks = whole(dialect, **fields), assembled(dialect, **fields), streamed(dialect, **fields)
    assert same(gathered) == same(reply)
    chat = "messages" in fields
    joined: list[dict[str, Any]] = [{"text": "", "thoughts": "", "lists": {}, "finish": None} for _ in reply["choices"]]
    for chunk in chunks:
        (choice,) = chunk["choices"]
        into = joined[choice["index"]]
        assert into["finish"] is None, "a choice goes on after its end"
        said = choice["delta"] if chat else choice
        into["text"] += said.get("content" if chat else "text") or ""
        into["thoughts"] += said.get("reasoning") or ""
        into["finish"] = choice["finish_reason"]
        for key, values in (choice["logprobs"] or {}).items():
            into["lists"].setdefault(key, []).extend(values or [])
    for choice, into in zip(reply["choices"], joined, strict=True):
        said = choice["message"] if chat else choice
        assert into["text"] == (said["content" if chat else "text"] or "")
        assert into["thoughts"] == (said.get("reasoning") or "")
        assert into["finish"] == choice["finish_reason"]
        assert into["lists"] == {key: values or [] for key, values in (choice["logprobs"] or {}).items()}


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("dialect", DIALECTS)
def test_answers_have_the_form_of_openais_own_types(dialect: str, name: str) -> None:
    fields = CALLS[name]
    kinds: tuple[Any, Any] = (ChatCompletion, ChatCompletionChunk) if "messages" in fields else (Completion, Completion)
    for reply in (whole(dialect, **fields), assembled(dialect, **fields)):
        kinds[0].model_validate(reply, strict=True)
    chunks = streamed(dialect, **fields)
    for chunk in chunks:
        kinds[1].model_validate(unended(chunk) if kinds[1] is Completion else chunk, strict=True)
    if "messages" in fields:
        first = {choice["index"]: choice["delta"] for chunk in reversed(chunks) for choice in chunk["choices"]}
        assert {delta["role"] for delta in first.values()} == {"assistant"}
        for logprobs in (choice["logprobs"] for chunk in chunks for choice in chunk["choices"]):
            assert logprobs is None or logprobs["refusal"] is None


def unended(chunk: Any) -> Any:
    """Return a completion's chunk with an end: OpenAI's type is that of whole replies, which have one."""
    return {
        **chunk,
        "choices": [{**choice, "finish_reason": choice["finish_reason"] or "stop"} for choice in chunk["choices"]],
    }
