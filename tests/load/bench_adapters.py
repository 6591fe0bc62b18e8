"""What the adapters cost: CPU time per record of a stream and per request. `python -m tests.load.bench_adapters`

Each number is the best of several runs, since anything else on the machine only adds. One process, one core, no IO.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from adapters.base import Surface
from adapters.openai.request import FieldPolicy, check, read
from adapters.registry import make

RECORD = (
    b'{"id":"chatcmpl-a43029ecba8d9125","object":"chat.completion.chunk","created":1795331134,"model":"lmi",'
    b'"choices":[{"index":0,"delta":{"content":" help"},"logprobs":null,"finish_reason":null,"token_ids":null}]}'
)
THOUGHT = RECORD.replace(b'"content"', b'"reasoning"')
RUNNING_USAGE = RECORD[:-1] + b',"usage":{"prompt_tokens":18,"total_tokens":19,"completion_tokens":1}}'
REPLY = (
    b'{"id":"chatcmpl-1","object":"chat.completion","created":1795331134,"model":"lmi","choices":[{"index":0,"message":'
    b'{"role":"assistant","content":"' + b"Hello! How can I help you today? " * 60 + b'","refusal":null,"annotations":'
    b'null,"audio":null,"function_call":null,"tool_calls":[],"reasoning":null},"logprobs":null,"finish_reason":"stop",'
    b'"stop_reason":null}],"usage":{"prompt_tokens":18,"total_tokens":33,"completion_tokens":15}}'
)
POLICY = FieldPolicy(modalities=("text", "image"), context_length=131_072)


def microseconds(work: Callable[..., object], *arguments: object, times: int, units: int = 1, **more: object) -> float:
    """Return the CPU time of one unit of `work`, which does `units` of them a call."""
    best = float("inf")
    for _ in range(7):
        started = time.process_time()
        for _ in range(times):
            work(*arguments, **more)
        best = min(best, time.process_time() - started)
    return best / times / units * 1e6


def body(size: int) -> bytes:
    """Return a chat of about `size` bytes, as the official client writes one."""
    messages = [{"role": "system", "content": "You are a helpful assistant. " * 20}]
    while len(json.dumps(messages)) < size:
        messages.append({"role": "user", "content": "Tell me about the weather in Paris, please. " * 6})
        messages.append({"role": "assistant", "content": "It is sunny. " * 10})
    messages.append({"role": "user", "content": "And now?"})
    options = {"temperature": 0.7, "top_p": 0.95, "max_tokens": 512, "stream": True, "user": "u-1"}
    return json.dumps({"model": "public", "messages": messages, **options}, separators=(",", ":")).encode()


def main() -> None:
    print(f"Python {sys.version.split()[0]}, µs of CPU")
    request = body(3600)
    draft = read(Surface.CHAT, request)
    call = check(draft, POLICY)
    print(f"\na request of {len(request)} bytes")
    print(f"  read    {microseconds(read, Surface.CHAT, request, times=5000):6.2f}")
    print(f"  check   {microseconds(check, draft, POLICY, times=5000):6.2f}")
    for container, version, frame in (("lmi", "27", b"%b\n"), ("vllm", "0.32", b"data: %b\n\n")):
        adapter = make(container, version)
        print(f"\n{container} {version}")
        print(f"  encode  {microseconds(adapter.encode, call, times=5000, stream=True):6.2f}")
        print(f"  whole   {microseconds(adapter.decode_whole, call, REPLY, times=5000):6.2f}")
        for name, record, count in (
            ("one record a read", RECORD, 1),
            ("8 records a read", RECORD, 8),
            ("64 records a read", RECORD, 64),
            ("64, cut in records", RECORD, 64),
            ("64 of thoughts", THOUGHT, 64),
            ("64, usage in each", RUNNING_USAGE, 64),
        ):
            decoder = adapter.stream_decoder(call)
            data = (frame % record) * count
            decoder.feed(frame % RECORD)
            if "cut" in name:
                decoder.feed(data[:100])
                data = data[100:] + data[:100]
            cost = microseconds(decoder.feed, data, times=8000 // count, units=count)
            assert decoder.fault is None
            assert decoder.malformed is None
            print(f"  {name:20} {cost:6.2f} a record")
        gather = adapter.assembler(call).feed
        cost = microseconds(gather, (frame % RECORD) * 64, times=50, units=64)
        print(f"  {'gathered, 64 a read':20} {cost:6.2f} a record")


if __name__ == "__main__":
    main()
