"""The vLLM container: OpenAI's own schemas, streamed as server-sent events.

POST /invocations takes the first schema that fits the body (vllm/entrypoints/serve/sagemaker/api_router.py). A stream
ends with `data: [DONE]`, also after an error event.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from adapters.base import Assembler, Call, StreamDecoder, Whole
from adapters.drift.parts import check_parts
from adapters.drift.vllm import translator
from adapters.errors import ContainerFault, MalformedReply
from adapters.framing.sse import EventSplitter
from adapters.openai import emit
from adapters.openai.assemble import Gatherer
from adapters.openai.chunks import Wire
from adapters.openai.faults import clip, find_error, judge, judge_object
from adapters.openai.layout import layout
from adapters.openai.relay import EventRelay
from adapters.openai.reply import INVALID_JSON, decode_whole
from adapters.openai.toolcalls import call_mends, mended

_encode = msgspec.json.Encoder().encode
_values = msgspec.json.Decoder().decode


class Vllm:
    """vLLM's server in one minor version."""

    def __init__(
        self,
        minor: int,
        *,
        served_model_name: str | None,
        adapter_name: str | None,
        max_event_bytes: int,
        max_reply_bytes: int,
    ) -> None:
        self._minor = minor
        self._translate = translator(minor).translate
        served = served_model_name if adapter_name is None else adapter_name
        self._served = None if served is None else _encode(served)
        self._adapter = adapter_name
        self._max_reply_bytes = max_reply_bytes
        self._wire = Wire(
            splitter=partial(EventSplitter, max_event_bytes),
            end_mark=b"[DONE]",
            end_mark_completes=True,
            usage_completes=minor <= 10,
            judge=judge_reply,
            unglue=lambda record: None,
            answers_as=adapter_name,
            mends=partial(call_mends, minor=minor),
        )

    def encode(self, call: Call, *, stream: bool) -> bytes:
        if call.part_types:
            check_parts(call.part_types, self._minor)
        return emit.body(self._translate(call), stream=stream, served_model_name=self._served)

    def decode_whole(self, call: Call, body: bytes) -> Whole | ContainerFault:
        if len(body) > self._max_reply_bytes:
            raise MalformedReply("the reply is too long")
        whole = decode_whole(call, body, public_model=_encode(call.model), judge=judge_reply, answers_as=self._adapter)
        return mended(whole, self._wire.mends(call))

    def decode_error(self, status: int, body: bytes, call: Call | None = None) -> ContainerFault:
        try:
            value = _values(body)
        except INVALID_JSON:
            return judge(status, clip(body.decode(errors="replace")))
        fault = judge_reply(value, status) if isinstance(value, dict) else None
        return fault if fault is not None else judge(status, "")

    def stream_decoder(self, call: Call) -> StreamDecoder:
        return EventRelay(call, self._wire, _encode(call.model))

    def assembler(self, call: Call) -> Assembler:
        return Gatherer(
            call,
            self._wire,
            public_model=_encode(call.model),
            layout=layout(call.surface, self._minor),
            limit_bytes=self._max_reply_bytes,
        )


def judge_reply(reply: Mapping[str, Any], status: int) -> ContainerFault | None:
    """Judge a decoded reply or stream record; None if it reports no error.

    Besides vLLM's own there is the `detail` of the framework below it, for unknown routes and methods.
    """
    error = find_error(reply)
    if error is not None:
        return judge_object(error, status)
    detail = reply.get("detail")
    if detail is not None and "choices" not in reply:
        return judge(status, detail if isinstance(detail, str) else _encode(detail).decode())
    return None
