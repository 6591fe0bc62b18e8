"""The vLLM container's tokenizer, behind `route=` in the custom attributes."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.local.engine import build, tokens
from deploy.local.engine.tokenizing import spell
from tests.deploy.test_engine_calls import answer, ask

pytestmark = pytest.mark.anyio

TOKENIZE = {"x_amzn_sagemaker_custom_attributes": "route=/tokenize"}
DETOKENIZE = {"x_amzn_sagemaker_custom_attributes": "route=/detokenize,trace=1"}


async def test_a_text_becomes_tokens_and_their_spellings() -> None:
    said = await answer(build("vllm"), {"prompt": "hello world é", "return_token_strs": True}, **TOKENIZE)
    assert said == {
        "count": 5,
        "max_model_len": build("vllm").options.context_length,
        "tokens": tokens.encode("hello world é"),
        "token_strs": ["hello", "Ġworld", "Ġ", "Ã", "©"],
    }


@pytest.mark.parametrize(("dialect", "spelled"), [("vllm-0.8", False), ("vllm-0.9.0", False), ("vllm-0.9.1", True)])
async def test_spellings_came_with_0_9_1(dialect: str, spelled: bool) -> None:
    assert ("token_strs" in await answer(build(dialect), {"prompt": "x"}, **TOKENIZE)) is spelled


async def test_a_chat_becomes_the_tokens_of_its_prompt() -> None:
    engine = build("vllm")
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "hello"}], "return_token_strs": True}
    said = await answer(engine, body, **TOKENIZE)
    assert said["token_strs"][0] == "<|im_start|>"
    assert said["count"] == len(said["tokens"]) == len(said["token_strs"])
    text = (await answer(engine, {"tokens": said["tokens"]}, **DETOKENIZE))["prompt"]
    assert text.startswith("<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n")
    open_ended = await answer(engine, {**body, "add_generation_prompt": False}, **TOKENIZE)
    assert open_ended["count"] < said["count"]


@pytest.mark.parametrize(
    ("body", "headers", "status"),
    [
        pytest.param({"prompt": 1}, TOKENIZE, 400, id="no text"),
        pytest.param({}, TOKENIZE, 400, id="nothing"),
        pytest.param({"prompt": "x", "model": "nope"}, TOKENIZE, 404, id="another model"),
        pytest.param({"messages": []}, TOKENIZE, 400, id="no messages"),
        pytest.param({"tokens": [-1]}, DETOKENIZE, 400, id="no token"),
        pytest.param({"tokens": [10**6]}, DETOKENIZE, 400, id="a token that is not there"),
        pytest.param({"tokens": [1], "model": "nope"}, DETOKENIZE, 404, id="another model for the way back"),
    ],
)
async def test_other_bodies_are_refused(body: Any, headers: dict[str, str], status: int) -> None:
    assert (await ask(build("vllm"), body, **headers)).status == status


async def test_lmi_has_no_such_route() -> None:
    assert (await ask(build("lmi27"), {"messages": []}, **TOKENIZE)).status != 200


def test_every_token_is_spelled_and_no_two_alike() -> None:
    plain = [token for token in range(tokens.VOCABULARY_SIZE) if tokens.raw_bytes(token)]
    assert len({spell(token) for token in plain}) == len(plain)
    assert (spell(32), spell(10), spell(65), spell(tokens.IM_START)) == ("Ġ", "Ċ", "A", "<|im_start|>")
