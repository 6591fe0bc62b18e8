"""What a parameter or a prompt may not be, in vLLM's words."""

from __future__ import annotations

import json
from typing import Any

import pytest

from deploy.local.engine import build
from tests.deploy.test_engine_calls import answer, ask

pytestmark = pytest.mark.anyio

HELLO = {"messages": [{"role": "user", "content": "hello"}], "temperature": 0}

CHECKED = [
    ({"temperature": -1}, "temperature must be non-negative, got -1.0.", ("temperature", -1.0)),
    ({"temperature": 2.5}, "temperature must be in [0, 2], got 2.5.", ("temperature", 2.5)),
    ({"top_p": 0}, "top_p must be in (0, 1], got 0.0.", ("top_p", 0.0)),
    ({"top_p": 3}, "top_p must be in (0, 1], got 3.0.", ("top_p", 3.0)),
    ({"max_tokens": 0}, "max_tokens must be at least 1, got 0.", ("max_tokens", 0)),
    ({"max_tokens": -5}, "max_tokens must be at least 1, got -5.", ("max_tokens", -5)),
    ({"top_k": -2}, "top_k must be 0 (disable), or at least 1, got -2.", None),
    ({"min_p": 1.5}, "min_p must be in [0, 1], got 1.5.", None),
    ({"n": 0}, "n must be at least 1, got 0.", None),
    ({"n": 2, "temperature": 0}, "n must be 1 when using greedy sampling, got 2.", None),
    ({"presence_penalty": 3}, "presence_penalty must be in [-2, 2], got 3.0.", None),
    ({"frequency_penalty": -3}, "frequency_penalty must be in [-2, 2], got -3.0.", None),
    ({"repetition_penalty": 0}, "repetition_penalty must be greater than zero, got 0.0.", None),
    ({"min_tokens": -1}, "min_tokens must be greater than or equal to 0, got -1.", None),
    ({"min_tokens": 9, "max_tokens": 5}, "min_tokens must be less than or equal to max_tokens=5, got 9.", None),
    ({"stop": [""]}, "stop cannot contain an empty string.", None),
    (
        {"logprobs": True, "top_logprobs": 21},
        "Requested sample logprobs of 21, which is greater than max allowed: 20",
        ("logprobs", 21),
    ),
    (
        {"logprobs": True, "top_logprobs": -1},
        "Requested sample logprobs of 3236, which is greater than max allowed: 20",
        ("logprobs", 3236),
    ),
    (
        {"prompt_logprobs": 30},
        "Requested prompt logprobs of 30, which is greater than max allowed: 20",
        ("prompt_logprobs", 30),
    ),
    ({"top_logprobs": 2}, "when using `top_logprobs`, `logprobs` must be set to true.", ("top_logprobs", None)),
    (
        {"prompt_logprobs": 1, "stream": True},
        "`prompt_logprobs` are not available when `stream=True`.",
        ("prompt_logprobs", None),
    ),
    (
        {"stream_options": {"include_usage": True}},
        "Stream options can only be defined when `stream=True`.",
        ("stream_options", None),
    ),
    (
        {"max_tokens": 9000},
        "max_tokens=9000 cannot be greater than max_model_len=8192. Please request fewer output tokens.",
        ("max_tokens", 9000),
    ),
    (
        {"max_completion_tokens": 9000},
        "max_completion_tokens=9000 cannot be greater than max_model_len=8192. Please request fewer output tokens.",
        ("max_completion_tokens", 9000),
    ),
]  # fmt: skip


@pytest.mark.parametrize(("more", "message", "named"), CHECKED, ids=[json.dumps(more) for more, _, _ in CHECKED])
async def test_values_out_of_bounds(more: dict[str, Any], message: str, named: tuple[str, Any] | None) -> None:
    reply = await ask(build("vllm"), {"messages": HELLO["messages"], **more})
    assert isinstance(reply.body, bytes)
    if named is not None:
        extra = "" if named[1] is None else f", value={named[1]}"
        message = f"{message} (parameter={named[0]}{extra})"
    param = None if named is None else named[0]
    assert reply.status == 400
    assert json.loads(reply.body) == {
        "error": {"message": message, "type": "BadRequestError", "param": param, "code": 400}
    }


LONG = {"messages": [{"role": "user", "content": "one " * 100}]}


@pytest.mark.parametrize(
    ("dialect", "body", "message"),
    [
        pytest.param(
            "lmi15",
            LONG,
            "This model's maximum context length is 64 tokens. However, you requested 113 tokens in the messages, "
            "Please reduce the length of the messages.",
            id="0.8.4",
        ),
        pytest.param(
            "lmi15",
            {**HELLO, "max_tokens": 60},
            "This model's maximum context length is 64 tokens. However, you requested 73 tokens (13 in the messages, "
            "60 in the completion). Please reduce the length of the messages or completion.",
            id="0.8.4: with the answer",
        ),
        pytest.param(
            "vllm-0.11",
            LONG,
            "This model's maximum context length is 64 tokens. However, your request has 113 input tokens. Please "
            "reduce the length of the input messages. None",
            id="0.11",
        ),
        pytest.param(
            "vllm-0.14",
            {**HELLO, "max_tokens": 60},
            "'max_tokens' or 'max_completion_tokens' is too large: 60. This model's maximum context length is 64 "
            "tokens and your request has 13 input tokens (60 > 64 - 13). (parameter=max_tokens, value=60) None",
            id="0.14: with the answer",
        ),
        pytest.param(
            "vllm-0.14",
            {"prompt": "hello", "max_tokens": 64},
            "'max_tokens' or 'max_completion_tokens' is too large: 64. This model's maximum context length is 64 "
            "tokens and your request has 1 input tokens (64 > 64 - 1). (parameter=max_tokens, value=64)",
            id="0.14: a completion",
        ),
        pytest.param(
            "lmi22",
            LONG,
            "error=ErrorInfo(message=\"This model's maximum context length is 64 tokens. However, your request has 113 "
            'input tokens. Please reduce the length of the input messages. (parameter=input_tokens, value=113)", '
            "type='BadRequestError', param='input_tokens', code=400)",
            id="0.17",
        ),
        pytest.param(
            "vllm-0.23",
            {**HELLO, "max_tokens": 60},
            "This model's maximum context length is 64 tokens. However, you requested 60 output tokens and your "
            "prompt contains at least 5 input tokens, for a total of at least 65 tokens. Please reduce the length of "
            "the input prompt or the number of requested output tokens. (parameter=input_tokens, value=5)",
            id="0.23: with the answer",
        ),
        pytest.param(
            "vllm",
            LONG,
            "This model's maximum context length is 64 tokens. However, your prompt contains at least 65 input tokens, "
            "which exceeds this limit even without any output tokens. Please reduce the length of the input prompt. "
            "(parameter=input_tokens, value=65)",
            id="0.33",
        ),
    ],
)
async def test_a_prompt_that_does_not_fit(dialect: str, body: Any, message: str) -> None:
    reply = await ask(build(dialect, context_length=64), body)
    assert isinstance(reply.body, bytes)
    error = json.loads(reply.body)["error"]
    assert reply.status == (500 if dialect == "lmi22" else 400)
    assert (error if isinstance(error, str) else error["message"]) == message


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"prompt": [5000]}, "Token id 5000 is out of vocabulary"),
        ({"prompt": []}, "please provide at least one prompt"),
        ({"prompt": [[1], []]}, "The decoder prompt cannot be empty"),
        ({"prompt": "a", "suffix": "b"}, "suffix is only supported for models with FIM completion rendering"),
    ],
)
async def test_prompts_that_are_none(body: Any, message: str) -> None:
    reply = await ask(build("vllm"), body)
    assert isinstance(reply.body, bytes)
    assert (reply.status, json.loads(reply.body)["error"]["message"]) == (400, message)


async def test_what_has_no_effect_is_accepted() -> None:
    more = {"logit_bias": {"33": 5}, "top_k": 5, "min_p": 0.1, "presence_penalty": 1, "user": "u", "metadata": {}}
    reply = await answer(build("lmi15"), {**HELLO, **more})
    assert reply["choices"][0]["message"]["content"] == "Hello! How can I help you today?"
