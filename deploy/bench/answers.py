"""One answer as it arrives: its times, its tokens, and what went wrong with it.

Streams are read line by line, which serves both kinds: server-sent events (`data: {…}`, ended by `data: [DONE]`) and
the JSON lines of AWS' LMI container. Sans-IO: bytes and times in, values out.
https://platform.openai.com/docs/api-reference/chat-streaming
"""

from __future__ import annotations

import re

import msgspec

from deploy.bench.eventstream import EventStream, Malformed

MAX_LINE_BYTES = 16 * 1024 * 1024
MAX_WHOLE_BYTES = 64 * 1024 * 1024
CHARACTERS_PER_TOKEN = 4
_UNSAFE = re.compile(r"[^A-Za-z0-9_.#-]+")


_NOTHING = msgspec.Raw()


class _Delta(msgspec.Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    refusal: str | None = None
    tool_calls: msgspec.Raw = _NOTHING

    def length(self) -> int:
        """Return about how many characters were generated."""
        found = sum(
            len(text) for text in (self.content, self.reasoning or self.reasoning_content, self.refusal) if text
        )
        tools = bytes(self.tool_calls)
        return found + (len(tools) if tools not in (b"", b"null", b"[]") else 0)


class _Choice(msgspec.Struct):
    delta: _Delta | None = None
    message: _Delta | None = None
    text: str | None = None
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Reply(msgspec.Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: msgspec.Raw = _NOTHING
    code: str | int | None = None


class _Error(msgspec.Struct):
    code: str | int | None = None
    type: str | None = None
    message: str | None = None


class _ErrorBody(msgspec.Struct):
    error: _Error | str | None = None
    code: str | int | None = None
    message: str | None = None
    Message: str | None = None


_reply = msgspec.json.Decoder(_Reply).decode
_error = msgspec.json.Decoder(_Error | str | None).decode
_error_body = msgspec.json.Decoder(_ErrorBody).decode


class Answer:
    """Collects one answer; times are whatever clock the caller gives."""

    __slots__ = (
        "_characters", "_events", "_pending", "_size", "_whole", "amz_error", "chunks", "dialect", "done", "error",
        "first", "framed", "gaps", "input_tokens", "last", "longest_gap", "output_tokens", "status", "streaming",
    )  # fmt: skip

    def __init__(self, *, streaming: bool, framed: bool = False) -> None:
        """`framed`: the body is an AWS event stream around the container's bytes."""
        self.streaming, self.framed = streaming, framed
        self.status = 0
        self.amz_error = ""
        """The X-Amzn-ErrorType header."""
        self.error: str | None = None
        self.first: float | None = None
        self.last: float | None = None
        self.gaps: list[float] = []
        self.longest_gap = 0.0
        self.chunks = 0
        self.input_tokens: int | None = None
        self.output_tokens: int | None = None
        self.done = False
        self.dialect: str | None = None
        """What the stream is made of: `events` or `lines`."""
        self._characters = 0
        self._pending = b""
        self._whole: list[bytes] = []
        self._size = 0
        self._events = EventStream() if framed else None

    def feed(self, data: bytes, now: float) -> None:
        """Take bytes of the body."""
        if self.error is not None:
            return
        if self.status != 200 or not self.streaming:
            self._whole.append(data)
            self._size += len(data)
            if self._size > MAX_WHOLE_BYTES:
                self.error = "oversized"
            return
        if self._events is not None:
            try:
                data = b"".join(self._events.feed(data))
            except Malformed:
                self.error = "malformed_event_stream"
                return
        self._lines(data, now)
        if self._events is not None and self._events.failure is not None and self.error is None:
            self.error = f"stream_error:{_safe(self._events.failure)}"

    def ended(self, now: float) -> None:
        """The body has ended as it should by HTTP: judge whether the answer is complete."""
        if self.error is not None:
            return
        if self.status != 200:
            self.error = self._http_error()
        elif not self.streaming:
            self._take(b"".join(self._whole), now)
            self.first = self.last = None
        else:
            pending, self._pending = self._pending, b""
            if pending.strip():
                self._line(pending.strip(), now)
                if self.error == "malformed_answer" and self.chunks:
                    self.error = "stream_cut"  # in the middle of a line
            if self.error is None and not self.done:
                self.error = "stream_cut" if self.chunks else "malformed_answer"
            if self.error is None and self._events is not None and not self._events.between_messages:
                self.error = "stream_cut"
        if self.error is None and not self.done:
            self.error = "malformed_answer"

    def tokens(self) -> tuple[int, bool]:
        """Return the output tokens, and whether they are an estimate."""
        if self.output_tokens is not None:
            return self.output_tokens, False
        if self.streaming and self.chunks > 1:
            return self.chunks, True
        return -(-self._characters // CHARACTERS_PER_TOKEN), True

    def message(self) -> str:
        """Return what the server said about its refusal, for one line on a terminal; it may quote the caller."""
        try:
            body = _error_body(b"".join(self._whole))
        except (msgspec.DecodeError, UnicodeDecodeError):
            return ""
        inner = body.error.message if isinstance(body.error, _Error) else body.error
        return inner or body.message or body.Message or ""

    def _lines(self, data: bytes, now: float) -> None:
        if self._pending:
            data = self._pending + data
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            line = data[start:end].strip()
            start = end + 1
            if line:
                self._line(line, now)
        self._pending = data[start:]
        if len(self._pending) > MAX_LINE_BYTES:
            self.error = "oversized"

    def _line(self, line: bytes, now: float) -> None:
        if line.startswith(b"data:"):
            self.dialect = self.dialect or "events"
            line = line[5:].strip()
            if line == b"[DONE]":
                self.done = True
                return
        elif not line.startswith(b"{"):
            return  # comments, event names, and what is no stream at all
        else:
            self.dialect = self.dialect or "lines"
        if line:
            self._take(line, now)

    def _take(self, payload: bytes, now: float) -> None:
        try:
            reply = _reply(payload)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self.error = self.error or "malformed_answer"
            return
        if bytes(reply.error) not in (b"", b"null") and not reply.choices:
            self.error = self.error or f"stream_error:{_code_of(reply)}"
            return
        if reply.usage is not None:
            self.input_tokens, self.output_tokens = reply.usage.prompt_tokens, reply.usage.completion_tokens
        length = 0
        for choice in reply.choices or ():
            said = choice.delta or choice.message
            length += len(choice.text) if choice.text else 0
            length += said.length() if said is not None else 0
            if choice.finish_reason is not None:
                self.done = True
        if length:
            self._characters += length
            self._said(now)

    def _said(self, now: float) -> None:
        self.chunks += 1
        if self.last is None:
            self.first = now
        else:
            gap = now - self.last
            self.gaps.append(gap)
            if gap > self.longest_gap:
                self.longest_gap = gap
        self.last = now

    def _http_error(self) -> str:
        code: str | int | None = self.amz_error.partition(":")[0]
        if not code:
            try:
                body = _error_body(b"".join(self._whole))
                code = (body.error.code or body.error.type) if isinstance(body.error, _Error) else body.code
            except (msgspec.DecodeError, UnicodeDecodeError):
                code = None
        return f"http_{self.status}:{_safe(str(code))}" if code else f"http_{self.status}"


def _code_of(reply: _Reply) -> str:
    try:
        found = _error(bytes(reply.error))
    except (msgspec.DecodeError, UnicodeDecodeError):
        found = None
    code = (found.code or found.type) if isinstance(found, _Error) else reply.code
    return _safe(str(code if code is not None else "unnamed"))


def _safe(code: str) -> str:
    """Return a code as reports may show it: it came over the wire."""
    return _UNSAFE.sub("_", code)[:64] or "unnamed"
