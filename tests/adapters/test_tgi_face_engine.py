"""Generate calls against the engine that stands in for vLLM's releases: every version, whole and streamed."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from adapters.base import Call, Whole
from adapters.lmi import VLLM_MINOR
from adapters.openai.request import FieldPolicy
from adapters.registry import make
from adapters.tgi.tokens import UNKNOWN_ID
from deploy.local.container import ContainerRequest
from deploy.local.engine import build
from tests.adapters.calls import pieces, relayed
from tests.adapters.generating import generate

CONTAINERS = [("lmi", str(version)) for version in VLLM_MINOR]
CONTAINERS += [
    ("vllm", f"0.{release}") for release in ("8", "9", "10", "10.2", "11", "14", "20", "26", "30", "32", "33")
]
POLICY = FieldPolicy(context_length=4096)
PROPERTIES = {"properties": {"city": {"type": "string"}}, "required": ["city"]}


def said(container: tuple[str, str], body: bytes) -> bytes:
    """Return what the container answers: a whole reply, or all of its stream."""
    name, version = container

    async def ask() -> bytes:
        engine = build(f"{name}{version}" if name == "lmi" else f"{name}-{version}")
        reply = await engine.invoke(ContainerRequest(body, {"content-type": "application/json"}))
        sent = reply.body if isinstance(reply.body, bytes) else b"".join([part async for part in reply.body])
        assert reply.status == 200, sent
        return sent

    return asyncio.run(ask())


def whole(container: tuple[str, str], call: Call) -> Whole:
    adapter = make(*container)
    found = adapter.decode_whole(call, said(container, adapter.encode(call, stream=False)))
    assert isinstance(found, Whole)
    return found


def assembled(container: tuple[str, str], call: Call) -> Whole:
    adapter = make(*container)
    assembler = adapter.assembler(call)
    for part in pieces(said(container, adapter.encode(call, stream=True)), 37):
        assembler.feed(part)
    found = assembler.end()
    assert found is not None, (assembler.fault, assembler.malformed)
    return found


def frames(container: tuple[str, str], call: Call) -> list[dict[str, Any]]:
    adapter = make(*container)
    decoder = adapter.stream_decoder(call)
    events = relayed(decoder, pieces(said(container, adapter.encode(call, stream=True)), 37))
    assert (decoder.fault, decoder.malformed, decoder.ended) == (None, None, True)
    assert decoder.usage is not None
    assert all(event.startswith(b"data:{") and event.endswith(b"}\n\n") for event in events)
    return [json.loads(event.removeprefix(b"data:")) for event in events]


@pytest.mark.parametrize("container", CONTAINERS, ids=" ".join)
def test_the_same_answer_whole_gathered_and_streamed(container: tuple[str, str]) -> None:
    parameters: dict[str, Any] = {"details": True, "do_sample": True, "max_new_tokens": 40, "seed": 7}
    told = whole(container, generate("Tell me a story", policy=POLICY, **parameters))
    assert assembled(container, generate("Tell me a story", policy=POLICY, **parameters)) == told
    streamed = frames(container, generate("Tell me a story", stream=True, policy=POLICY, **parameters))

    answer = json.loads(told.body)
    details = answer["details"]
    assert told.usage is not None
    assert details["generated_tokens"] == len(details["tokens"]) == told.usage.completion_tokens > 0
    assert (details["seed"], details["prefill"]) == (7, [])
    assert all(token["id"] < UNKNOWN_ID for token in details["tokens"])
    assert "".join(token["text"] for token in details["tokens"] if not token["special"]) == answer["generated_text"]
    assert [frame["token"] for frame in streamed] == details["tokens"]
    assert [frame["index"] for frame in streamed] == list(range(1, len(streamed) + 1))
    assert {frame["generated_text"] for frame in streamed[:-1]} <= {None}
    assert streamed[-1]["generated_text"] == answer["generated_text"]
    assert streamed[-1]["details"] == {
        "finish_reason": details["finish_reason"],
        "generated_tokens": details["generated_tokens"],
        "seed": 7,
        "input_length": told.usage.prompt_tokens,
    }


@pytest.mark.parametrize("container", CONTAINERS, ids=" ".join)
def test_an_answer_without_a_cap_is_as_long_as_it_wants_to_be(container: tuple[str, str]) -> None:
    call = generate("Tell me a story", policy=POLICY, details=True)
    found = json.loads(whole(container, call).body)["details"]
    assert found["finish_reason"] == "eos_token"
    assert found["generated_tokens"] > 16
    assert found["tokens"][-1]["special"] is True


@pytest.mark.parametrize("container", CONTAINERS, ids=" ".join)
@pytest.mark.parametrize(
    "grammar",
    [
        pytest.param({"type": "json", "value": PROPERTIES}, id="json"),
        pytest.param({"type": "regex", "value": "(yes|no), [0-9]{2}"}, id="regex"),
    ],
)
def test_a_grammar_is_kept_to(container: tuple[str, str], grammar: dict[str, Any]) -> None:
    text = json.loads(whole(container, generate(policy=POLICY, grammar=grammar)).body)["generated_text"]
    if grammar["type"] == "json":
        assert list(json.loads(text)) == ["city"]
    else:
        assert text[:3] in ("yes", "no,")


@pytest.mark.parametrize("container", CONTAINERS, ids=" ".join)
def test_several_answers_to_choose_from(container: tuple[str, str]) -> None:
    call = generate(policy=POLICY, best_of=2, do_sample=True, details=True, max_new_tokens=5, top_n_tokens=2)
    details = json.loads(whole(container, call).body)["details"]
    (other,) = details["best_of_sequences"]
    assert list(other) == [
        "generated_text",
        "finish_reason",
        "generated_tokens",
        "seed",
        "prefill",
        "tokens",
        "top_tokens",
    ]
    assert [len(top) for top in details["top_tokens"]] == [2] * 5
    assert list(details)[-2:] == ["best_of_sequences", "top_tokens"]


@pytest.mark.parametrize(
    "container", [one for one in CONTAINERS if one[1] not in ("15", "0.8", "0.9", "0.10")], ids=" ".join
)
def test_the_tokens_of_the_prompt_add_up_to_it(container: tuple[str, str]) -> None:
    call = generate("Say hello to the world", policy=POLICY, decoder_input_details=True, max_new_tokens=3)
    found = whole(container, call)
    details = json.loads(found.body)["details"]
    assert found.usage is not None
    assert len(details["prefill"]) == found.usage.prompt_tokens
    assert "".join(token["text"] for token in details["prefill"]) == "Say hello to the world"
    assert [token["logprob"] is None for token in details["prefill"]] == [True] + [False] * (
        len(details["prefill"]) - 1
    )
    assert details["generated_tokens"] == len(details["tokens"]) == 3
