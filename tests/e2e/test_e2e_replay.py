"""Recorded answers of real containers, replayed through a local SageMaker that cuts them anew, and the gateway.

What a caller gets must be what the container said, up to the model's name and the rules in docs/streaming.md: usage
only if asked for, `[DONE]` at the end of a complete answer, OpenAI's envelope for errors, a few fields mended.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from adapters.openai.conform import conform
from adapters.openai.thoughts import both_names
from deploy.local import ContainerReply, ContainerRequest, Endpoint
from tests.support.stack import KEY, Gateway, config, model, running_gateway, running_local

RECORDINGS = Path(__file__).parent.parent / "recordings"


class Replay:
    """Answers every call with one recording."""

    def __init__(self) -> None:
        self.recording: dict[str, Any] = {}
        self.seen: bytes = b""

    async def ping(self) -> int:
        return 200

    async def invoke(self, request: ContainerRequest) -> ContainerReply:
        self.seen = request.body
        response = self.recording["response"]
        headers = {name.lower(): value for name, value in response["headers"]}
        if "chunks" not in response:
            return ContainerReply(response["status"], headers, response["body"]["text"].encode())
        return ContainerReply(response["status"], headers, self._chunks(response["chunks"]))

    async def _chunks(self, chunks: list[dict[str, Any]]) -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk["text"].encode()

    async def aclose(self) -> None:
        """Nothing is held open."""


replay = Replay()


@pytest.fixture(scope="module", params=["random:7", "sizes:3,50", "merge"])
def gateway(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    allowed = {"allow_fields": ["prompt_logprobs", "return_token_ids"]}
    models = [
        model("lmi", "lmi", "27", unary="invoke", modalities=["text", "image"], **allowed),
        model("vllm", "vllm", "0.32", unary="invoke", modalities=["text", "image"], **allowed),
    ]
    with (
        running_local({"lmi": Endpoint(replay), "vllm": Endpoint(replay)}, cut=request.param) as local,
        running_gateway(config(local.url, *models)) as running,
    ):
        yield running


def recordings(*, stream: bool, failed: bool) -> list[Any]:
    """Return the recorded calls of the two APIs, by name."""
    found = []
    for path in sorted(RECORDINGS.glob("*.json")):
        recording = json.loads(path.read_text())
        try:
            asked = json.loads(recording["request"]["body"])
        except (ValueError, TypeError, KeyError):
            continue
        if not isinstance(asked, dict) or recording["request"]["path"] not in (
            "/v1/chat/completions",
            "/v1/completions",
            "/invocations",
        ):
            continue
        if ("messages" in asked) == ("prompt" in asked) or asked.get("stream", False) != stream:
            continue
        if (recording["response"]["status"] != 200) == failed:
            found.append(pytest.param(recording, id=path.stem))
    return found


def send(gateway: Gateway, recording: dict[str, Any]) -> tuple[httpx.Response, dict[str, Any], str]:
    replay.recording = recording
    asked = json.loads(recording["request"]["body"])
    name = "lmi" if recording["name"].startswith("lmi-") else "vllm"
    asked["model"] = name
    surface = "chat/completions" if "messages" in asked else "completions"
    answer = httpx.post(
        f"{gateway.base_url}/{surface}", json=asked, headers={"authorization": f"Bearer {KEY}"}, timeout=20
    )
    return answer, asked, name


def payloads(text: str) -> list[str]:
    """Return the data of server-sent events, in order."""
    return [event.removeprefix("data: ") for event in text.split("\n\n") if event]


def recorded_payloads(recording: dict[str, Any]) -> list[str]:
    text = recording["response"]["body"]["text"]
    if recording["name"].startswith("lmi-"):
        return [line for line in text.split("\n") if line]
    return payloads(text)


def as_relayed(document: dict[str, Any], name: str) -> Any:
    """Return what a caller should see of a container's document."""
    document = {**document, "model": name}
    return json.loads(both_names(conform(json.dumps(document, separators=(",", ":")).encode())))


@pytest.mark.parametrize("recording", recordings(stream=False, failed=False))
def test_a_whole_reply_is_what_the_container_said(gateway: Gateway, recording: dict[str, Any]) -> None:
    answer, _, name = send(gateway, recording)

    assert answer.status_code == 200, answer.text
    assert answer.json() == as_relayed(json.loads(recording["response"]["body"]["text"]), name)


@pytest.mark.parametrize("recording", recordings(stream=True, failed=False))
def test_a_stream_is_what_the_container_said(gateway: Gateway, recording: dict[str, Any]) -> None:
    answer, asked, name = send(gateway, recording)

    said: list[dict[str, Any]] = []
    failed = False
    for payload in recorded_payloads(recording):
        if payload == "[DONE]":
            continue
        document = json.loads(payload)
        if "choices" not in document:
            failed = True
            break
        options = asked.get("stream_options") or {}
        if document["choices"] and not options.get("continuous_usage_stats"):
            document.pop("usage", None)  # some servers send running counts to everyone
        if document["choices"] or options.get("include_usage"):
            said.append(as_relayed(document, name))
    got = payloads(answer.text)
    relayed = [json.loads(payload) for payload in got if payload != "[DONE]"]

    assert answer.status_code == 200, answer.text
    if failed:
        assert relayed[:-1] == said
        assert isinstance(relayed[-1]["error"]["code"], str)
        assert "[DONE]" not in got
    else:
        assert relayed == said
        assert got.count("[DONE]") == 1
        assert got[-1] == "[DONE]"


@pytest.mark.parametrize("recording", [*recordings(stream=False, failed=True), *recordings(stream=True, failed=True)])
def test_a_refusal_is_an_error_the_caller_can_use(gateway: Gateway, recording: dict[str, Any]) -> None:
    answer, _, _ = send(gateway, recording)

    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["code"] is None or isinstance(error["code"], str)
    # A request the caller can mend is a 400; a deployment that is set up wrongly, or down, is not the caller's fault.
    name = recording["name"]
    if any(word in name for word in ("unknown-model", "adapter-unknown", "session-header")):
        assert (answer.status_code, error["code"]) == (502, "upstream_misconfigured")
    elif "engine-killed" in name:
        assert (answer.status_code, error["code"]) == (503, "upstream_unavailable")
    else:
        assert answer.status_code == 400, error
