"""Streams of TGI's chats, taken apart: what each record adds to the answer, whichever version wrote it.

What is told, and how, changed often:

- `[DONE]` ends a stream from 2.2 on, before that the bytes' end.
- Calls of tools are the grammar's raw text up to 3.1, and come with their name from 3.2 on. No finish reason is told
  then, nor from 2.4 on of answers in words where there are tools: `[DONE]` alone says that the answer is whole.
- From 2.4 to 3.1 such answers in words are cut out of the grammar's JSON as they are, escapes and all.
- In 2.4 errors are left out, so that nothing but `[DONE]` is left of a request that was refused.
- Usage comes with the finish reason or in a chunk of its own, and before 2.3 not at all.

router/src/{chat,server}.rs of https://github.com/huggingface/text-generation-inference.
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import msgspec

from adapters.base import Call, Usage
from adapters.errors import ContainerFault, FaultKind
from adapters.openai.chunks import Splitter
from adapters.openai.reply import INVALID_JSON, JudgeError
from adapters.tgi import behind_chat as chats
from adapters.tgi.behind_chat import Chat, Facts, Function, Logprobs, decode_chat

END_MARK = b"[DONE]"
_NOTHING_SAID = ContainerFault(
    FaultKind.REJECTED,
    "The container ended the stream without a word: most often prompt and max_tokens exceed the model's context, or a"
    " parameter is out of range.",
)
_ESCAPED = re.compile(
    r"(?:[^\\]|\\[^u]|\\u(?![dD][89abAB])[0-9a-fA-F]{4}|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[0-9a-fA-F]{4})*", re.DOTALL
)
"""Text of a JSON string up to an escape, or a pair of them, that has not come to its end."""

_values = msgspec.json.Decoder().decode
_text = msgspec.json.Decoder(str).decode


class Part(NamedTuple):
    """Something an answer goes on with; of the fields but `logprobs` one has a value."""

    text: str = ""
    name: str | None = None
    """Of a function: a call of it begins. `arguments` come with it."""
    arguments: str | None = None
    """Of the call that has begun, or a piece of them."""
    finish: str | None = None
    """The answer is whole; TGI's word for why."""
    logprobs: Logprobs | None = None


class ChatReader:
    """Takes records one by one and keeps what they say about the answer as a whole."""

    __slots__ = (
        "_arguments",
        "_calls",
        "_escaped",
        "_facts",
        "_held",
        "_judge",
        "_over",
        "_raw",
        "_said",
        "_splitter",
        "chunks",
        "complete",
        "dropped",
        "fault",
        "first",
        "malformed",
        "usage",
    )

    def __init__(self, call: Call, splitter: Splitter, judge: JudgeError, facts: Facts, *, escaped: bool) -> None:
        """`escaped` says that text is JSON's, if there are tools."""
        self.usage: Usage | None = None
        self.chunks: int = 0
        self.complete: bool = False
        self.fault: ContainerFault | None = None
        self.malformed: str | None = None
        self.dropped: int = 0
        self.first: Chat | None = None
        """The first chunk."""
        self._facts = facts
        self._splitter = splitter
        self._judge = judge
        self._escaped = escaped and bool(facts.tools)
        self._held = ""
        """The beginning of an escape."""
        self._over = False
        """The end mark, a fault or malformed bytes have come: nothing that follows matters."""
        self._raw: list[str] = []
        """A call whose name comes inside its arguments."""
        self._calls = 0
        self._arguments = ""
        """Those of the last call that came with its name."""
        self._said = False
        """Some text has come."""

    @property
    def over(self) -> bool:
        """Nothing that follows matters: the end mark has come, or what went wrong."""
        return self._over

    def _read(self, record: bytes) -> list[Part]:
        """Take one record; return what it adds to the answer."""
        if self._over:
            self.dropped += bool(record) and self.complete and record != END_MARK
            return []
        if record == END_MARK:
            return self._read_end_mark()
        try:
            chunk = decode_chat(record)
        except INVALID_JSON:
            self._read_error(record)
            return []
        if chunk.usage is not None:
            self.usage = chunk.usage.usage()
        if not chunk.choices:
            return []
        if self.complete:
            self.dropped += 1
            return []
        self.first = self.first or chunk
        self.chunks += 1
        choice = chunk.choices[0]
        delta = choice.added()
        parts = [part for call in delta.calls() for part in self._take_call(call.function or Function())]
        text = self._plain(delta.content or "")
        if text or choice.logprobs is not None:
            self._said = self._said or bool(text)
            parts.append(Part(text, logprobs=choice.logprobs))
        return parts + self._ending(choice.finish_reason) if choice.finish_reason else parts

    def _read_end_mark(self) -> list[Part]:
        if self.complete:
            self._over = True
            self._count()
            return []
        if not self.chunks:
            self._fail(_NOTHING_SAID)
            return []
        parts: list[Part] = []
        if self._raw or self._calls or (self._facts.tools and self._said):
            parts = self._ending("stop")
        if not self.complete and self.fault is None:
            self._break("the stream ended before the answer did")
        self._over = True
        self._count()
        return parts

    def _take_call(self, function: Function) -> list[Part]:
        """Return what a delta's call adds; what has no name yet is kept."""
        arguments = chats.arguments_text(function.arguments or "")
        if function.name and not self._raw:
            self._calls += 1
            self._arguments = arguments
            return [Part(name=function.name, arguments=arguments)]
        if not self._calls:
            self._raw.append(arguments)
            return []
        if self._arguments == "{":
            arguments = arguments.lstrip(", ")  # the comma behind the name, which is not there any more
        self._arguments += arguments
        return [Part(arguments=arguments)] if arguments else []

    def _ending(self, finish: str) -> list[Part]:
        """Return what is due once nothing more will come."""
        parts: list[Part] = []
        if self._held:
            parts.append(Part(self._held))
        if self._raw:
            call = chats.read_grammar(self._facts, "".join(self._raw))
            if call is None:
                self._fail(chats.UNFINISHED_CALL)
                return []
            words = chats.words_of(self._facts, *call)
            parts.append(Part(name=call[0], arguments=call[1]) if words is None else Part(words))
        elif self._calls and not _is_json(self._arguments):
            if _is_json(self._arguments + "}"):
                parts.append(Part(arguments="}"))  # swallowed with the token that ended the name
            elif finish != "length":
                self._fail(chats.UNFINISHED_CALL)
                return []
        self.complete = True
        return [*parts, Part(finish=finish)]

    def _plain(self, text: str) -> str:
        """Return text without JSON's escapes, where the container leaves them in."""
        if not self._escaped or not (text or self._held):
            return text
        text = self._held + text
        end = _ESCAPED.match(text)
        whole = text[: end.end()] if end is not None else ""
        self._held = text[len(whole) :]
        try:
            return _text(f'"{whole}"'.encode())
        except INVALID_JSON:  # a line break, which JSON would have escaped: so it is plain text
            return whole

    def _read_error(self, record: bytes) -> None:
        try:
            value: Any = _values(record)
        except INVALID_JSON:
            self._break("a record of the stream is not valid JSON")
            return
        fault = self._judge(value, 500) if isinstance(value, dict) else None
        if fault is None:
            self._break("a record of the stream is JSON, but no chunk of a chat")
        else:
            self._fail(fault)

    def _take_end(self) -> None:
        """The bytes are over: judge what is missing."""
        self._take_overlong()
        if not self.complete and not self._over:
            self._break("the stream ended before the answer did" if self.chunks else "the stream holds no answer")
        self._count()

    def _count(self) -> None:
        """Make up for usage that older versions do not tell: each chunk is a token, and the prompt's are not known."""
        if self.complete and self.usage is None:
            self.usage = Usage(0, self.chunks)

    def _take_overlong(self) -> None:
        if self._splitter.too_long and not self._over:
            self._break("a record of the stream is too long")

    def _fail(self, fault: ContainerFault) -> None:
        self._over = True
        self.complete = False
        self.fault = fault

    def _break(self, what: str) -> None:
        """Give the stream up, unless all that a caller needs has come."""
        self._over = True
        if self.complete:
            self.dropped += 1
        else:
            self.malformed = what


def _is_json(text: str) -> bool:
    try:
        _values(text)
    except INVALID_JSON:
        return False
    return True
