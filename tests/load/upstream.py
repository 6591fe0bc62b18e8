"""A SageMaker runtime that does nothing but answer: every byte is prepared, so that it costs little beside a gateway.

The reply is steered by a marker inside the prompt: `[[chunks=64 pace_ms=20]]`; without `pace_ms` a stream is one burst.
Paced chunks carry the time they were written, in nanoseconds of the monotonic clock, so that their delay can be read.
"""

from __future__ import annotations

import asyncio
import re
import struct
import sys
import time
import zlib

import httptools
import uvloop

_MARKER = re.compile(rb"\[\[chunks=(\d+)(?: pace_ms=(\d+))?\]\]")
_ID = b'"id":"chatcmpl-4f1d2c3b5a697887","object":"%b","created":1763790000,"model":"local"'
_CHUNK = b"data: {" + _ID % b"chat.completion.chunk" + b',"choices":[%b]}\n\n'
_DELTA = b'{"index":0,"delta":{"content":"%b "},"logprobs":null,"finish_reason":null}'
_LAST = b'{"index":0,"delta":{"content":""},"logprobs":null,"finish_reason":"stop","stop_reason":null}'
_USAGE = b'"usage":{"prompt_tokens":24,"total_tokens":88,"completion_tokens":64}'
_TAIL = _CHUNK % _LAST + _CHUNK.replace(b"[%b]}", b"[]," + _USAGE + b"}") + b"data: [DONE]\n\n"
_TEXT = b"The quick brown fox jumps over the lazy dog, and then it does it again, because a benchmark needs a sentence."
_WHOLE = (
    b"{%b"
    % (_ID % b"chat.completion")
    + b',"choices":[{"index":0,"message":{"role":"assistant","content":"%b"},"logprobs":null,"finish_reason":"stop",'
    b'"stop_reason":null}],%b}' % (_TEXT, _USAGE)
)
_WHOLE_REPLY = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (
    len(_WHOLE),
    _WHOLE,
)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: application/vnd.amazon.eventstream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_HEADERS = b"".join(
    bytes([len(name)]) + name + b"\x07" + struct.pack(">H", len(value)) + value
    for name, value in (
        (b":message-type", b"event"),
        (b":event-type", b"PayloadPart"),
        (b":content-type", b"application/octet-stream"),
    )
)


def frame(payload: bytes) -> bytes:
    """Return a PayloadPart in an HTTP chunk of its own."""
    prelude = struct.pack(">II", 16 + len(_HEADERS) + len(payload), len(_HEADERS))
    crc = zlib.crc32(prelude)
    message = prelude + struct.pack(">I", crc) + _HEADERS + payload
    message += struct.pack(">I", zlib.crc32(message[8:], crc))
    return b"%x\r\n%b\r\n" % (len(message), message)


_TAIL_FRAMES = b"".join(frame(part + b"\n\n") for part in _TAIL.split(b"\n\n")[:-1]) + b"0\r\n\r\n"
_bursts: dict[int, bytes] = {}


def burst(chunks: int) -> bytes:
    if chunks not in _bursts:
        deltas = b"".join(frame(_CHUNK % (_DELTA % b"word%04d" % index)) for index in range(chunks))
        _bursts[chunks] = _STREAM_HEAD + deltas + _TAIL_FRAMES
    return _bursts[chunks]


class Upstream(asyncio.Protocol):
    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._parts: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._streams = url.endswith(b"-stream")

    def on_body(self, body: bytes) -> None:
        self._parts.append(body)

    def on_message_complete(self) -> None:
        body = b"".join(self._parts)
        self._parts = []
        if not self._streams:
            self._write(_WHOLE_REPLY)
            return
        found = _MARKER.search(body)
        chunks, pace_ms = (int(found[1]), int(found[2] or 0)) if found else (64, 0)
        if pace_ms:
            self._write(_STREAM_HEAD)
            self._pace(chunks, pace_ms / 1000, self._loop.time())
        else:
            self._write(burst(chunks))

    def _pace(self, left: int, pace_s: float, due: float) -> None:
        if self._transport.is_closing():
            return
        if left == 0:
            self._write(_TAIL_FRAMES)
            return
        self._write(frame(_CHUNK % (_DELTA % b"t%d" % time.monotonic_ns())))
        self._loop.call_at(due + pace_s, self._pace, left - 1, pace_s, due + pace_s)

    def _write(self, data: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(data)  # type: ignore[attr-defined]  # a stream transport writes


async def main() -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    sys.exit(uvloop.run(main()))
