"""The AWS LMI container, version 15 on: vLLM behind DJL Serving, streamed as JSON lines that end with a blank one.

djl-serving engines/python/setup/djl_python/lmi_vllm/*.py (the handler), engines/python/src/main/java/**/Request.java
and AsyncRequestManager.java, serving/src/main/java/**/NettyUtils.java (the errors; their shapes are below).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

import msgspec

from adapters.base import Assembler, Call, StreamDecoder, Whole
from adapters.drift.parts import check_parts
from adapters.drift.vllm import translator
from adapters.errors import ContainerFault, FaultKind, MalformedReply, UnsupportedParameter
from adapters.framing.jsonlines import LineSplitter
from adapters.openai import emit
from adapters.openai.assemble import Gatherer
from adapters.openai.chunks import Wire
from adapters.openai.faults import clip, find_error, judge, judge_object, judge_validation, parse_repr
from adapters.openai.layout import layout
from adapters.openai.relay import EventRelay
from adapters.openai.reply import INVALID_JSON, decode_whole
from adapters.openai.toolcalls import asks_auto, call_mends, forces_tool, mended

VLLM_MINOR = {
    15: 8,
    16: 10,
    17: 11,
    18: 12,
    19: 14,
    20: 15,
    21: 16,
    22: 17,
    23: 18,
    24: 19,
    25: 20,
    26: 22,
    27: 23,
    28: 26,
}
"""LMI version → minor version of its vLLM: aws/deep-learning-containers docs/src/data/djl-inference/*.yml."""

FIRST_WITH_ADAPTERS = 16
"""The first LMI version that reads `adapters`: djl-serving djl_python/async_utils.py; version 15 overlooks it."""

_encode = msgspec.json.Encoder().encode
_values = msgspec.json.Decoder().decode


class Lmi:
    """LMI's asynchronous vLLM handler in one version."""

    def __init__(
        self,
        version: int,
        *,
        served_model_name: str | None,
        adapter_name: str | None,
        max_event_bytes: int,
        max_reply_bytes: int,
    ) -> None:
        self._version = version
        self._minor = VLLM_MINOR[version]
        self._translate = translator(self._minor).translate
        self._served = None if served_model_name is None else _encode(served_model_name)
        self._adapter = adapter_name
        # The handler takes this field out again and puts the adapter's name in place of the model's.
        self._own = b"" if adapter_name is None else b',"adapters":' + _encode(adapter_name)
        self._max_reply_bytes = max_reply_bytes
        self._judge = partial(judge_reply, version)
        self._wire = Wire(
            splitter=partial(LineSplitter, max_event_bytes),
            end_mark=b"",
            end_mark_completes=False,
            usage_completes=self._minor < 10,
            judge=self._judge,
            unglue=unglue,
            answers_as=adapter_name,
            mends=partial(call_mends, minor=self._minor),
        )

    def encode(self, call: Call, *, stream: bool) -> bytes:
        if call.part_types:
            check_parts(call.part_types, self._minor)
        if self._adapter is not None and "adapters" in call.raw:
            raise UnsupportedParameter("This model is an adapter itself.", "adapters")
        return emit.body(self._translate(call), stream=stream, served_model_name=self._served, own=self._own)

    def decode_whole(self, call: Call, body: bytes) -> Whole | ContainerFault:
        if len(body) > self._max_reply_bytes:
            raise MalformedReply("the reply is too long")
        whole = decode_whole(call, body, public_model=_encode(call.model), judge=self._judge, answers_as=self._adapter)
        return mended(whole, self._wire.mends(call))

    def decode_error(self, status: int, body: bytes, call: Call | None = None) -> ContainerFault:
        try:
            value = _values(body)
        except INVALID_JSON:
            text = clip(body.decode(errors="replace"))
            return judge(status, text)
        fault = self._judge(value, status) if isinstance(value, dict) else None
        if fault is None:
            return judge(status, "")
        if fault.kind is FaultKind.REJECTED and call is not None and _needs_parser(self._version, call):
            return ContainerFault(fault.kind, f"{_LOST}: {_LOST_WITH_TOOLS}.")
        return fault

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


# A  {"error":"<text>","code":424}                           the handler set a code (Request.java)
# B  {"code":400,"type":"BadRequestException","message":…}   the front end refused (NettyUtils.java)
# C  {"code":424,"message":"Async Inference Failure …","properties":{},"content":{…},"cancelled":false}
#                                                            the handler raised; its words are in the log only
# and vLLM's own objects, as records of a stream.


def judge_reply(version: int, reply: Mapping[str, Any], status: int) -> ContainerFault | None:
    """Judge a decoded reply or stream record; None if it reports no error."""
    text, code = reply.get("error"), _code(reply, status)
    if isinstance(text, str):
        return _judge_text(text, code)
    error = find_error(reply)
    if error is not None:
        return judge_object(error, status)
    message = reply.get("message")
    if not isinstance(message, str) or "choices" in reply:
        return None
    if "type" in reply:
        return _judge_front_end(message, code)
    return _judge_lost(version, message, code)


def _judge_text(text: str, code: int) -> ContainerFault:
    """Shape A: vLLM's message, pydantic's print of vLLM's error object, or what the handler makes of bad input."""
    fields = parse_repr(text)
    if fields is not None:
        return judge_object(fields, code)
    kind, separator, reason = text.partition("Input parsing failed: ")
    if separator and not kind:
        return judge_validation(reason)
    return judge(code, text)


_PROHIBITED = re.compile(r"reasonPhrase contains one of the following prohibited characters: (?:\\r\\n|\s+): ")
"""Netty refuses an error of several lines as reason phrase, so the error of shape A comes as one of shape B."""


_WORKER_DOWN = "Backend Python process is stopped."
"""TranslateException's message while the Python worker restarts; its status is 400."""


def _judge_front_end(message: str, code: int) -> ContainerFault:
    refused = _PROHIBITED.match(message)
    if refused is not None:
        return _judge_text(message[refused.end() :], 400)
    if message == _WORKER_DOWN:
        return ContainerFault(FaultKind.UNAVAILABLE, message)
    return judge(code, message)


_LOST_REASONS = {
    16: "most often an unknown served model name, a prompt that is too long, or a parameter out of range",
    17: "most often an unknown served model name, a prompt that is too long, or a parameter out of range",
}
_LOST_WITH_TOOLS = (
    "most often it runs without a tool parser, which a call with tools needs; or the served model name is unknown, the"
    " prompt too long, or a parameter out of range"
)
"""vLLM reports a missing parser as an object, which the handlers of 16 and 17 fail on."""
_USUAL_LOST_REASON = "most often prompt and max_tokens exceed the model's context, or a parameter is out of range"
_LOST = "The container refused the request without saying why"


def _judge_lost(version: int, message: str, code: int) -> ContainerFault:
    """Shape C: nobody knows the reason any more but the container's log."""
    if code == 424:
        reason = _LOST_REASONS.get(version, _USUAL_LOST_REASON)
        return ContainerFault(FaultKind.REJECTED, f"{_LOST}: {reason}.")
    return judge(code, message)


def _needs_parser(version: int, call: Call) -> bool:
    """Say whether a call with tools may have failed for want of a tool parser, its reason lost.

    vLLM 0.10 calls the tools that a caller demands without one.
    """
    return version in _LOST_REASONS and (asks_auto(call) or (version == 17 and forces_tool(call)))


def _code(reply: Mapping[str, Any], status: int) -> int:
    code = reply.get("code")
    return code if isinstance(code, int) and not isinstance(code, bool) and 400 <= code <= 599 else status


_GLUED = re.compile(rb'\{"(?:code|error|message)":')


def unglue(record: bytes) -> tuple[bytes, bytes] | None:
    """Cut off an error object that was written without a line break after what came before, whole or cut itself.

    Inside a string the quote after the brace would be escaped, so each match is the start of an object.
    """
    for found in _GLUED.finditer(record):
        try:
            value = _values(record[found.start() :])
        except INVALID_JSON:
            continue
        if isinstance(value, dict) and "choices" not in value:
            return record[: found.start()], record[found.start() :]
    return None
