"""The TGI container: Hugging Face's Text Generation Inference, versions 1.0 to 3.x, through its route `/invocations`.

What each version takes there is in behind_table.py. Text completions are asked for as generate, which tells log
probabilities and takes grammars, or, whole, as TGI's own completions where those tell more: the prompt's tokens.
Streams are server-sent events; generate's have no end mark, the last frame is the one with the text.
https://github.com/huggingface/text-generation-inference: router/src/{server,sagemaker,lib}.rs.
"""

from __future__ import annotations

from functools import partial

from adapters.base import Assembler, Call, StreamDecoder, Surface, Whole
from adapters.errors import ContainerFault, MalformedReply, UnsupportedParameter
from adapters.framing.sse import EventSplitter
from adapters.openai.urls import UrlPolicy
from adapters.tgi import behind_chat, behind_table
from adapters.tgi.behind_chat_request import chat_body
from adapters.tgi.behind_chat_stream import ChatGatherer, ChatRelay
from adapters.tgi.behind_completion import CompletionGatherer, CompletionRelay, Facts, decode_completion
from adapters.tgi.behind_faults import decode_error, judge_reply
from adapters.tgi.behind_frames import FrameWire, NewStamp, never_glued
from adapters.tgi.behind_generate import NativeGatherer, NativeRelay, decode_native, native_object
from adapters.tgi.behind_images import check_texts
from adapters.tgi.behind_request import (
    completion_as_generate,
    completion_body,
    fits_completions,
    native_body,
    stops,
)
from adapters.tgi.behind_table import Version


class Tgi:
    """TGI's router in one minor version."""

    def __init__(
        self,
        version: Version,
        *,
        messages_api: bool,
        adapter: str | None,
        image_urls: UrlPolicy | None,
        max_event_bytes: int,
        max_reply_bytes: int,
        new_stamp: NewStamp,
    ) -> None:
        """Speak to a container.

        Args:
            messages_api: a container before 2.4 runs with MESSAGES_API_ENABLED.
            adapter: the LoRA adapter that answers, None for the model itself.
            image_urls: URLs that images in a text may have; None if the model takes no images, and so takes such
                a text for text.
            max_event_bytes: the longest record of a stream.
            max_reply_bytes: the longest whole reply.
        """
        self._version = version
        every = version >= behind_table.ALL_SCHEMAS
        self._chats = every or messages_api
        self._generates = every or not messages_api
        self._escapes = behind_table.ALL_SCHEMAS <= version < behind_table.CALLS_WITH_NAMES
        self._adapter = adapter
        self._image_urls = image_urls
        self._max_reply_bytes = max_reply_bytes
        self._splitter = partial(EventSplitter, max_event_bytes)
        self._wire = FrameWire(splitter=self._splitter, judge=judge_reply, unglue=never_glued)
        self._new_stamp = new_stamp

    def encode(self, call: Call, *, stream: bool) -> bytes:
        if call.surface is Surface.GENERATE:
            self._must_generate("inputs")
            return native_body(call, self._version, adapter=self._adapter, stream=stream)
        if self._image_urls is not None:
            check_texts(call, self._image_urls)
        if call.surface is Surface.CHAT:
            if not self._chats:
                raise UnsupportedParameter("This model cannot chat: its container completes texts only.", "messages")
            return chat_body(call, self._version, adapter=self._adapter, stream=stream)
        self._must_generate("prompt")
        if not stream and fits_completions(call, self._version):
            return completion_body(call, self._version, adapter=self._adapter)
        return completion_as_generate(call, self._version, adapter=self._adapter, stream=stream)

    def decode_whole(self, call: Call, body: bytes) -> Whole | ContainerFault:
        if len(body) > self._max_reply_bytes:
            raise MalformedReply("the reply is too long")
        if call.surface is Surface.GENERATE:
            return decode_native(call, body, judge_reply)
        if call.surface is Surface.CHAT:
            return behind_chat.decode_whole(call, body, self._new_stamp(), judge_reply)
        return decode_completion(call, body, self._new_stamp(), judge_reply)

    def decode_error(self, status: int, body: bytes, call: Call | None = None) -> ContainerFault:
        return decode_error(status, body)

    def stream_decoder(self, call: Call) -> StreamDecoder:
        if call.surface is Surface.GENERATE:
            return NativeRelay(call, self._wire)
        if call.surface is Surface.CHAT:
            facts = behind_chat.Facts(call, self._new_stamp())
            return ChatRelay(call, self._splitter(), judge_reply, facts, escaped=self._escapes)
        return CompletionRelay(call, self._wire, Facts(call, self._new_stamp(), stops(call.values)))

    def assembler(self, call: Call) -> Assembler:
        limit = self._max_reply_bytes
        if call.surface is Surface.GENERATE:
            return NativeGatherer(self._wire, limit, partial(native_object, call))
        if call.surface is Surface.CHAT:
            facts = behind_chat.Facts(call, self._new_stamp())
            return ChatGatherer(call, self._splitter(), judge_reply, facts, limit, escaped=self._escapes)
        return CompletionGatherer(self._wire, limit, Facts(call, self._new_stamp(), stops(call.values)))

    def _must_generate(self, param: str) -> None:
        if not self._generates:
            raise UnsupportedParameter("This model only chats: its container completes no texts.", param)
