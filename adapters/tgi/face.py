"""TGI's schema in front of a container that speaks OpenAI's: a generate call is asked as a completion.

Chats and completions pass to the container's own adapter untouched.
"""

from __future__ import annotations

import msgspec
from msgspec import Raw

from adapters.base import Adapter, Assembler, Call, StreamDecoder, Surface, Whole
from adapters.errors import ContainerFault, MalformedReply
from adapters.tgi.completion import plan, to_completion
from adapters.tgi.frames import GenerateAssembler, GenerateDecoder
from adapters.tgi.reply import translate

_encode = msgspec.json.Encoder().encode


class GenerateFace:
    """The Adapter of a container that runs vLLM, with generate calls beside its own surfaces."""

    def __init__(self, inner: Adapter, minor: int, *, max_reply_bytes: int, token_ids: bool | None = None) -> None:
        """Put the schema in front of `inner`, which speaks to vLLM 0.`minor`; `token_ids` is that of `plan`."""
        self.inner = inner
        self._minor = minor
        self._token_ids = token_ids
        self._max_reply_bytes = max_reply_bytes
        self.decode_error = inner.decode_error

    def encode(self, call: Call, *, stream: bool) -> bytes:
        if call.surface is not Surface.GENERATE:
            return self.inner.encode(call, stream=stream)
        wanted = plan(call, self._minor, stream=stream, token_ids=self._token_ids)
        asked = to_completion(call, self._minor, wanted)
        # A completion names its model: the container's adapter puts the name the container knows in its place.
        asked.raw["model"], asked.values["model"] = Raw(_encode(call.model)), call.model
        return self.inner.encode(asked, stream=wanted.streams)

    def decode_whole(self, call: Call, body: bytes) -> Whole | ContainerFault:
        if call.surface is not Surface.GENERATE:
            return self.inner.decode_whole(call, body)
        wanted = plan(call, self._minor, stream=False, token_ids=self._token_ids)
        if wanted.streams:
            return self._gather(call, body)
        whole = self.inner.decode_whole(to_completion(call, self._minor, wanted), body)
        return translate(wanted, whole) if isinstance(whole, Whole) else whole

    def stream_decoder(self, call: Call) -> StreamDecoder:
        if call.surface is not Surface.GENERATE:
            return self.inner.stream_decoder(call)
        wanted = plan(call, self._minor, stream=True, token_ids=self._token_ids)
        return GenerateDecoder(self.inner.stream_decoder(to_completion(call, self._minor, wanted)), wanted)

    def assembler(self, call: Call) -> Assembler:
        if call.surface is not Surface.GENERATE:
            return self.inner.assembler(call)
        wanted = plan(call, self._minor, stream=True, token_ids=self._token_ids)
        inner = self.inner.stream_decoder(to_completion(call, self._minor, wanted))
        return GenerateAssembler(inner, wanted, limit_bytes=self._max_reply_bytes)

    def _gather(self, call: Call, body: bytes) -> Whole | ContainerFault:
        """Read a stream that came as one body."""
        if len(body) > self._max_reply_bytes:
            raise MalformedReply("the reply is too long")
        assembler = self.assembler(call)
        assembler.feed(body)
        whole = assembler.end()
        if whole is not None:
            return whole
        if assembler.fault is not None:
            return assembler.fault
        raise MalformedReply(assembler.malformed or "the stream holds no answer")
