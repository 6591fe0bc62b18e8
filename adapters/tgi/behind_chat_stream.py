"""Streams of TGI's chats as OpenAI's, and gathered into whole chats.

https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from adapters.base import Call, Whole
from adapters.openai.chunks import Splitter
from adapters.openai.relay import DONE
from adapters.openai.reply import JudgeError, join_fields
from adapters.tgi import behind_chat as chats
from adapters.tgi.behind_chat import Answer, Facts, Logprobs, TokenLogprob
from adapters.tgi.behind_chat_parts import ChatReader, Part
from adapters.tgi.behind_generate import sum_of
from adapters.tgi.behind_stops import StopCutter

_encode = msgspec.json.Encoder().encode


class ChatRelay(ChatReader):
    """The StreamDecoder of TGI's chats."""

    __slots__ = ("_begun", "_cutter", "_head", "_include_usage", "_told_calls", "ended")

    def __init__(self, call: Call, splitter: Splitter, judge: JudgeError, facts: Facts, *, escaped: bool) -> None:
        super().__init__(call, splitter, judge, facts, escaped=escaped)
        self._include_usage = call.include_usage
        self._cutter = StopCutter(facts.stops, keeps=facts.keeps_stop)
        self._head = b""
        """How every chunk begins, up to its choices."""
        self._begun = False
        """The caller knows the role."""
        self._told_calls = 0
        """Calls of tools so far."""
        self.ended: bool = False

    def feed(self, data: bytes) -> list[bytes]:
        """Return the events completed by `data`, oldest first, each a whole SSE event."""
        events: list[bytes] = []
        for record in self._splitter.feed(data):
            self._take(record, events)
        self._take_overlong()
        return events

    def end(self) -> list[bytes]:
        """The container's bytes are over: return the last events, `data: [DONE]` if the answer is complete."""
        events: list[bytes] = []
        for record in self._splitter.end():
            self._take(record, events)
        self._take_end()
        self._finish(events)
        return events

    def _take(self, record: bytes, events: list[bytes]) -> None:
        for part in self._read(record):
            events += self._events(part)
        if self._over and self.complete:
            self._finish(events)

    def _events(self, part: Part) -> list[bytes]:
        if part.name is not None:
            function = {"name": part.name, "arguments": part.arguments}
            at = self._told_calls
            self._told_calls += 1
            call = {"index": at, "id": f"{self._facts.call_id}-{at}", "type": "function", "function": function}
            return [self._chunk({"tool_calls": [call]}, None)]
        if part.arguments is not None:
            more = {"index": self._told_calls - 1, "function": {"arguments": part.arguments}}
            return [self._chunk({"tool_calls": [more]}, None)]
        if part.finish is None:
            logprobs = chats.logprobs_fields(self._facts, part.logprobs)
            text = self._cutter.feed(part.text)
            return [self._chunk({"content": text}, logprobs)] if text or logprobs is not None else []
        rest = self._cutter.end()
        events = [self._chunk({"content": rest}, None)] if rest else []
        finish = chats.finish_reason(
            self._facts, part.finish, stopped=self._cutter.stopped, called=self._told_calls > 0
        )
        return [*events, self._chunk({}, None, finish)]

    def _finish(self, events: list[bytes]) -> None:
        if self.ended or not self.complete or self.fault is not None or self.malformed is not None:
            return
        if self._include_usage and self.usage is not None:
            events.append(b"data: " + self._head + b'"choices":[],"usage":' + _encode(sum_of(self.usage)) + b"}\n\n")
        events.append(DONE)
        self.ended = True

    def _head_of_chunks(self) -> bytes:
        facts, first = self._facts, self.first
        created_s = first.created if first is not None else 0
        fields = {
            "id": _encode(facts.id),
            "object": b'"chat.completion.chunk"',
            "created": _encode(created_s or facts.created_s),
            "model": _encode(facts.model),
        }
        if first is not None and first.system_fingerprint is not None:
            fields["system_fingerprint"] = _encode(first.system_fingerprint)
        return join_fields(fields)[:-1] + b","

    def _chunk(self, delta: dict[str, Any], logprobs: Mapping[str, Any] | None, finish: str | None = None) -> bytes:
        if not self._begun:
            self._begun = True
            self._head = self._head_of_chunks()
            delta = {"role": "assistant", "content": None if "tool_calls" in delta else "", **delta}
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return b"data: " + self._head + b'"choices":[' + _encode(choice) + b"]}\n\n"


class ChatGatherer(ChatReader):
    """The Assembler of TGI's chats."""

    __slots__ = ("_calls_made", "_content", "_finish", "_limit", "_size", "_tops")

    def __init__(
        self,
        call: Call,
        splitter: Splitter,
        judge: JudgeError,
        facts: Facts,
        limit_bytes: int,
        *,
        escaped: bool,
    ) -> None:
        """`limit_bytes` is the most a reply may hold."""
        super().__init__(call, splitter, judge, facts, escaped=escaped)
        self._limit = limit_bytes
        self._size = 0
        self._content: list[str] = []
        self._calls_made: list[tuple[str, list[str]]] = []
        """Names, and the pieces of their arguments."""
        self._tops: list[TokenLogprob] = []
        self._finish: str | None = None

    def feed(self, data: bytes) -> None:
        for record in self._splitter.feed(data):
            self._take(record)
        self._take_overlong()

    def end(self) -> Whole | None:
        """Return the whole reply, or None with `fault` or `malformed` set."""
        for record in self._splitter.end():
            self._take(record)
        self._take_end()
        if self.fault is not None or self.malformed is not None or self.first is None:
            return None
        logprobs = Logprobs(self._tops) if self._facts.wants_logprobs else None
        answer = Answer("".join(self._content), logprobs, self._finish, self.first)
        answer.calls = [(name, "".join(pieces)) for name, pieces in self._calls_made]
        if self.usage is not None:
            answer.reply.usage = chats.Counts(self.usage.prompt_tokens, self.usage.completion_tokens)
        return chats.whole(self._facts, answer)

    def _take(self, record: bytes) -> None:
        for part in self._read(record):
            self._content.append(part.text)
            if part.logprobs is not None:
                self._tops += part.logprobs.content or []
            if part.name is not None:
                self._calls_made.append((part.name, [part.arguments or ""]))
            elif part.arguments is not None:
                self._calls_made[-1][1].append(part.arguments)
            self._finish = part.finish or self._finish
        if not self._over:
            self._size += len(record)
            if self._size > self._limit:
                self.complete = False
                self._break("the answer is too long")
