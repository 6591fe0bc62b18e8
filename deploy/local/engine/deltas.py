"""The `delta` of each chunk of a chat: which fields it has depends on the release, the parsers and the tool choice.

Three ways to stream a tool call: "parsed" (the model's markup goes through the hermes parser), and for a named or a
required tool before 0.26 "named" and "required" (the model writes bare JSON).
https://github.com/vllm-project/vllm: vllm/entrypoints/openai/chat_completion/serving.py,
vllm/parser/abstract_parser.py, vllm/tool_parsers/{hermes_tool_parser,streaming}.py
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass

from deploy.local.engine import jsontext
from deploy.local.engine.bodies import ChatCompletionRequest
from deploy.local.engine.dialect import Dialect
from deploy.local.engine.generation import ARGUMENTS, CONTENT, NAME, THOUGHT, Part, Run, Step
from deploy.local.engine.options import Options

_FIRST_VALUE = re.compile(r'\s*\{\s*"(?:[^"\\]|\\.)*"\s*:\s*\S')


def tool_style(body: ChatCompletionRequest, dialect: Dialect) -> str:
    """Return how tool calls are written: "", "parsed", "named" or "required"."""
    if not body.tools or body.tool_choice in (None, "none"):
        return ""
    if dialect.tools_by_parser or body.tool_choice == "auto":
        return "parsed"
    return "named" if body.named_tool is not None else "required"


def new_id(dialect: Dialect, prefix: str) -> str:
    """Return an id as vLLM makes them: 32 hexadecimal digits, 16 from 0.12 on."""
    return prefix + secrets.token_hex(8 if dialect.since(0, 12) else 16)


@dataclass(frozen=True, slots=True)
class Forms:
    """The fixed bytes around the text of a delta."""

    content_tail: bytes
    thought_fields: tuple[bytes, ...]
    hides_thoughts: bool
    call_head: bytes
    nothing: bytes
    empty_content: bytes | None
    """What a token without text is, or None if there is no chunk for it."""
    named_in_first: bool
    """Whether the first value of a call's arguments comes in one piece, as the old parser has it."""

    @classmethod
    def of(cls, body: ChatCompletionRequest, dialect: Dialect, options: Options) -> Forms:
        """Return the forms for a request."""
        style = tool_style(body, dialect)
        # From 0.11 to 0.15 the old field is copied into every delta.
        copied = b',"reasoning_content":null' if len(dialect.reasoning_fields) > 1 else b""
        new_parser = dialect.since(0, 19)
        hides = (
            dialect.since(0, 26) and not body.include_reasoning and (options.tool_parser or options.reasoning_parser)
        )
        tail = b',"reasoning":null' if hides else copied
        if style == "parsed" and new_parser and not dialect.since(0, 26):
            tail = b',"tool_calls":[]'
        silent = options.tool_parser if dialect.since(0, 22) else new_parser and style == "parsed"
        return cls(
            content_tail=tail + b"}",
            thought_fields=tuple(f'"{name}":'.encode() for name in dialect.reasoning_fields),
            hides_thoughts=hides,
            call_head=b'"content":null,' if style == "parsed" and new_parser else copied[1:] + b"," if copied else b"",
            nothing=b"{" + copied[1:] + b"}",
            empty_content=None if silent else b'{"content":""' + tail + b"}",
            named_in_first=style == "parsed" and not new_parser,
        )


class DeltaWriter:
    """Writes the deltas of one choice."""

    def __init__(
        self, body: ChatCompletionRequest, dialect: Dialect, options: Options, forms: Forms, index: int
    ) -> None:
        self._dialect, self._options, self._forms = dialect, options, forms
        self._style = tool_style(body, dialect)
        self._named_tool = body.named_tool or ""
        # Until 0.21 a named tool's index was that of its choice.
        self._named_index = 0 if dialect.since(0, 22) else index
        self._ids: dict[int, str] = {}
        self._opened: set[int] = set()
        self._unsent: dict[int, str] = {}

    @property
    def called(self) -> bool:
        """Whether a tool call was streamed."""
        return bool(self._opened)

    def write(self, step: Step) -> list[bytes]:
        """Return the deltas of a step; none means no chunk, unless the step is the last."""
        if not step.runs:
            return self._without_text()
        made = [delta for run in step.runs if (delta := self._of_run(run)) is not None]
        kind = step.runs[-1].part.kind
        if not made and (kind == CONTENT or (kind == ARGUMENTS and self._style == "named")):
            return self._without_text()
        return made

    def _without_text(self) -> list[bytes]:
        if self._style == "named":
            return [self._arguments(Part("", ARGUMENTS, 0, self._named_tool), "")]
        if self._style == "required" or self._forms.empty_content is None:
            return []
        return [self._forms.empty_content]

    def _of_run(self, run: Run) -> bytes | None:
        kind, text = run.part.kind, run.text
        if kind == CONTENT:
            return b'{"content":' + jsontext.string(text) + self._forms.content_tail if text else None
        if kind == THOUGHT:
            if not text or self._forms.hides_thoughts:
                return None
            said = jsontext.string(text)
            return b"{" + b",".join([field + said for field in self._forms.thought_fields]) + b"}"
        if kind == NAME:
            return self._name(run.part) if run.ends_part and self._style == "parsed" else None
        if kind == ARGUMENTS:
            return self._arguments_of(run)
        return None

    def _name(self, part: Part) -> bytes:
        self._opened.add(part.call)
        return self._call(part.call, name=part.tool, opens=True)

    def _arguments_of(self, run: Run) -> bytes | None:
        if not self._forms.named_in_first:
            return self._arguments(run.part, run.text) if run.text else None
        call = run.part.call
        held = self._unsent.get(call)
        if held == "":
            return self._arguments(run.part, run.text) if run.text else None
        held = (held or "") + run.text
        self._unsent[call] = held
        # The old parser says nothing of a call whose arguments stay an empty object.
        if not _FIRST_VALUE.match(held) and not (run.ends_part and held != "{}"):
            return None
        self._unsent[call] = ""
        return self._arguments(run.part, held)

    def _arguments(self, part: Part, text: str) -> bytes:
        if self._style == "parsed":
            return self._call(part.call, arguments=text)
        opens = part.call not in self._opened
        self._opened.add(part.call)
        early = not self._dialect.since(0, 10)
        if self._style == "named":
            name = part.tool if opens or early else None
            return self._call(self._named_index, name=name, arguments=text, opens=opens and not early)
        typed = (opens, True) if early else (opens, opens)
        return self._call(
            part.call,
            name=part.tool if opens else "",
            arguments=text,
            opens=opens and not early,
            typed=typed[1],
        )

    def _call(
        self,
        index: int,
        *,
        name: str | None = None,
        arguments: str | None = None,
        opens: bool = False,
        typed: bool = False,
    ) -> bytes:
        """Return a delta with one tool call; an empty name is null."""
        opens = opens or self._options.repeat_tool_ids
        head = b'{"id":' + jsontext.string(self._id(index)) + b"," if opens else b"{"
        kind = b'"type":"function",' if opens or typed else b""
        members = []
        if name is not None:
            members.append(b'"name":' + (jsontext.string(name) if name else b"null"))
        if arguments is not None:
            members.append(b'"arguments":' + jsontext.string(arguments))
        return b"".join(
            (
                b"{", self._forms.call_head, b'"tool_calls":[', head, kind, b'"index":%d,"function":{' % index,
                b",".join(members), b"}}]}",
            )
        )  # fmt: skip

    def _id(self, index: int) -> str:
        if index not in self._ids:
            self._ids[index] = new_id(self._dialect, "chatcmpl-tool-")
        return self._ids[index]


def finish_reason(engine: str, body: ChatCompletionRequest, dialect: Dialect, *, called: bool, streamed: bool) -> str:
    """Return a choice's finish reason from the engine's own and whether tools were called."""
    if not called:
        return engine
    auto, named = body.tool_choice == "auto", body.named_tool is not None
    if dialect.since(0, 27):
        return "tool_calls" if engine == "stop" and not named else engine
    if not dialect.since(0, 10):
        return "tool_calls" if auto else engine
    if not dialect.since(0, 11):
        return "tool_calls" if auto or streamed else engine
    if named:
        return engine
    return "tool_calls" if auto or streamed or engine == "stop" else engine
