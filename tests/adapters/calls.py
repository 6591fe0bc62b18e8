"""What the adapters' tests share: calls as a caller would write them, recorded exchanges, and ways to cut a stream."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adapters.base import Adapter, Call, StreamDecoder, Surface, Whole
from adapters.openai.request import FieldPolicy, check, read
from adapters.registry import make

RECORDINGS = Path(__file__).parent.parent / "recordings"
DONE = b"data: [DONE]\n\n"
HELLO = [{"role": "user", "content": "hello"}]
IMAGES = FieldPolicy(modalities=("text", "image", "audio", "video"))


def chat(model: str = "public", policy: FieldPolicy = IMAGES, **fields: Any) -> Call:
    return check(read(Surface.CHAT, json.dumps({"model": model, "messages": HELLO, **fields}).encode()), policy)


def completion(model: str = "public", policy: FieldPolicy = IMAGES, **fields: Any) -> Call:
    return check(read(Surface.COMPLETIONS, json.dumps({"model": model, "prompt": "Hi", **fields}).encode()), policy)


@dataclass(frozen=True)
class Recording:
    """One exchange with a real container."""

    name: str
    request: dict[str, Any]
    """The body that was sent, decoded; empty if it was not one JSON object."""
    status: int
    reply: bytes

    @property
    def adapter(self) -> Adapter:
        return make("lmi", "27") if self.name.startswith("lmi") else make("vllm", "0.32.0")

    def call(self, **changes: Any) -> Call:
        """Return the call that a caller of the public model would have made."""
        make_call = chat if "messages" in self.request else completion
        fields = {name: value for name, value in self.request.items() if name != "model"}
        return make_call(**{**fields, **changes})


@functools.cache
def recording(name: str) -> Recording:
    exchange = json.loads((RECORDINGS / f"{name}.json").read_text())
    try:
        request = json.loads(exchange["request"]["body"])
    except ValueError:
        request = {}
    response = exchange["response"]
    return Recording(
        name,
        request if isinstance(request, dict) else {},
        response["status"],
        response["body"].get("text", "").encode(),
    )


@functools.cache
def recordings_of_answers(*, stream: bool) -> tuple[Recording, ...]:
    """Return every recorded chat or text completion that succeeded."""
    found = (recording(path.stem) for path in sorted(RECORDINGS.glob("*.json")))
    kept = []
    for exchange in found:
        head = exchange.reply[:80]
        is_answer = b'"object":"chat.completion' in head or b'"object":"text_completion' in head
        if is_answer and bool(exchange.request.get("stream")) is stream and "killed" not in exchange.name:
            kept.append(exchange)
    return tuple(kept)


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    for start in range(0, len(data), size):
        yield data[start : start + size]


def relayed(decoder: StreamDecoder, parts: Iterator[bytes] | list[bytes]) -> list[bytes]:
    """Feed every part, end, and return all events."""
    events: list[bytes] = []
    for part in parts:
        events += decoder.feed(part)
    return events + decoder.end()


def outcome(decoder: StreamDecoder) -> tuple[Any, ...]:
    """Return everything a decoder says besides its events."""
    return decoder.usage, decoder.chunks, decoder.complete, decoder.fault, decoder.malformed, decoder.dropped


def whole_reply(adapter: Adapter, call: Call, body: bytes) -> Whole:
    whole = adapter.decode_whole(call, body)
    assert isinstance(whole, Whole), whole
    return whole
