"""What the tests of TGI containers share: what those write, as they write it, and every way to cut it."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

from adapters.base import Adapter, Call, Whole
from adapters.errors import ContainerFault, MalformedReply, UnsupportedParameter
from tests.adapters.calls import outcome, pieces, relayed

DONE = b"data: [DONE]\n\n"


def dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()


def token(text: str, number: int = 1, logprob: float | None = -0.5, *, special: bool = False) -> dict[str, Any]:
    return {"id": number, "text": text, "logprob": logprob, "special": special}


def details(finish: str = "length", tokens: int = 2, prompt: int | None = 3, seed: int | None = None) -> dict[str, Any]:
    told: dict[str, Any] = {"finish_reason": finish, "generated_tokens": tokens, "seed": seed}
    return told if prompt is None else told | {"input_length": prompt}


def frames(*texts: str, end: dict[str, Any] | None = None, whole: str | None = None, **more: Any) -> list[bytes]:
    """Return the frames of an answer; the last has its text and details."""
    made = []
    for number, text in enumerate(texts, 1):
        last = number == len(texts)
        frame: dict[str, Any] = {"index": number, "token": token(text, number), **more}
        frame["generated_text"] = ("".join(texts) if whole is None else whole) if last else None
        frame["details"] = (end or details(tokens=len(texts))) if last else None
        made.append(dumps(frame))
    return made


def sse(*records: bytes, done: bool = False) -> bytes:
    """Return server-sent events as TGI's older versions write them, without a space."""
    return b"".join(b"data:" + record + b"\n\n" for record in records) + (DONE if done else b"")


def chunk(delta: dict[str, Any] | None = None, finish: str | None = None, **more: Any) -> bytes:
    """Return a chunk of TGI's chats."""
    choice = {"index": 0, "delta": delta or {}, "logprobs": more.pop("logprobs", None), "finish_reason": finish}
    head = {"object": "chat.completion.chunk", "id": "", "created": 5, "model": "served", "system_fingerprint": "3.3"}
    return dumps({**head, "choices": [choice], "usage": None, **more})


def said(text: str, finish: str | None = None, **more: Any) -> bytes:
    return chunk({"role": "assistant", "content": text}, finish, **more)


def counted(prompt: int, completion: int) -> bytes:
    """Return the chunk that has nothing but the usage."""
    usage = {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}
    return chunk(usage=usage, choices=[])


def cuts(data: bytes) -> Iterator[list[bytes]]:
    """Give the data in one piece, byte by byte, and cut in two at every offset."""
    yield [data]
    yield list(pieces(data, 1))
    for at in range(1, len(data)):
        yield [data[:at], data[at:]]


def streamed(adapter: Adapter, call: Call, data: bytes) -> tuple[list[Any], tuple[Any, ...]]:
    """Relay a stream, the same however it is cut; return the events' payloads and what the decoder says."""
    results = []
    for parts in cuts(data):
        decoder = adapter.stream_decoder(call)
        events = relayed(decoder, parts)
        assert decoder.ended is (decoder.complete and decoder.fault is None)
        results.append((events, outcome(decoder)))
    assert all(result == results[0] for result in results)
    return [read(event) for event in results[0][0]], results[0][1]


def read(event: bytes) -> Any:
    """Return an event's JSON, or its text if it is the end mark."""
    assert event.startswith(b"data:")
    assert event.endswith(b"\n\n")
    text = event[5:-2].strip()
    assert b"\n" not in text
    return "[DONE]" if text == b"[DONE]" else json.loads(text)


def gathered(adapter: Adapter, call: Call, data: bytes) -> Any:
    """Gather a stream, the same however it is cut; return the reply, the fault or what is malformed."""
    results: list[Any] = []
    for parts in itertools.islice(cuts(data), 200):
        assembler = adapter.assembler(call)
        for part in parts:
            assembler.feed(part)
        whole = assembler.end()
        results.append((whole, assembler.fault, assembler.malformed, assembler.usage))
    assert all(result == results[0] for result in results)
    whole, fault, malformed, usage = results[0]
    if whole is None:
        return fault or malformed
    assert whole.usage == usage
    return json.loads(whole.body)


def answered(adapter: Adapter, call: Call, reply: Any) -> tuple[Any, Any]:
    """Decode a whole reply; return it and its usage."""
    whole = adapter.decode_whole(call, reply if isinstance(reply, bytes) else dumps(reply))
    assert isinstance(whole, Whole), whole
    return json.loads(whole.body), whole.usage


def faulted(adapter: Adapter, call: Call, reply: Any) -> ContainerFault:
    fault = adapter.decode_whole(call, dumps(reply))
    assert isinstance(fault, ContainerFault), fault
    return fault


def malformed(adapter: Adapter, call: Call, reply: bytes) -> str:
    try:
        adapter.decode_whole(call, reply)
    except MalformedReply as error:
        return str(error)
    raise AssertionError("the reply was taken")


def asked(adapter: Adapter, call: Call, *, stream: bool = False) -> Any:
    """Return the body a container gets, or the parameter and message of a refusal."""
    try:
        return json.loads(adapter.encode(call, stream=stream))
    except UnsupportedParameter as error:
        return error.param, str(error)
