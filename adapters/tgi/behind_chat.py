"""TGI's chats as OpenAI's: replies and streams, mended in every place where TGI has its own idea of them.

In all versions an answer has no id, `finish_reason` is stop_sequence at times and never tool_calls, the stop string
stays in the text, and ids of calls are 0, 1, 2. In older ones `object` says text_completion, streams tell the token
that ends the text, `arguments` of a call is an object, in streams the grammar's raw text with the name inside,
`tool_calls` no list there, and a function that nobody gave, `notify_error` or `no_tool`, stands for an answer in words.

router/src/{lib,chat,server}.rs of https://github.com/huggingface/text-generation-inference, its issues 2136 and 2794,
and https://platform.openai.com/docs/api-reference/chat/object
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from adapters.base import Call, Usage, Whole
from adapters.errors import ContainerFault, FaultKind, MalformedReply
from adapters.openai.reply import INVALID_JSON, JudgeError, join_fields
from adapters.tgi.behind_frames import Stamp, count
from adapters.tgi.behind_generate import sum_of
from adapters.tgi.behind_request import stops
from adapters.tgi.behind_stops import cut

_LEAST_LOGPROB = -9999.0
_NOBODYS_TOOLS = {"notify_error": "error", "no_tool": "content"}
"""Functions TGI adds to the caller's for answers in words, and the argument that holds the words."""
UNFINISHED_CALL = ContainerFault(FaultKind.FAILED, "The model's call of a tool broke off.")

_encode = msgspec.json.Encoder().encode
_values = msgspec.json.Decoder().decode


class Function(msgspec.Struct):
    name: str | None = None
    arguments: Any = None
    """A text, in older versions' whole replies an object."""


class ToolCall(msgspec.Struct):
    index: int = 0
    function: Function | None = None


class Message(msgspec.Struct):
    """A message, or a delta of one."""

    content: str | None = None
    tool_calls: list[ToolCall] | ToolCall | None = None

    def calls(self) -> list[ToolCall]:
        """Return the calls of tools, which older versions' streams write without their list."""
        return [self.tool_calls] if isinstance(self.tool_calls, ToolCall) else self.tool_calls or []


class Likely(msgspec.Struct):
    token: str
    logprob: float | None = None


class TokenLogprob(Likely):
    top_logprobs: list[Likely] = []


class Logprobs(msgspec.Struct):
    content: list[TokenLogprob] | None = None


class Counts(msgspec.Struct):
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def usage(self) -> Usage:
        return Usage(count(self.prompt_tokens), count(self.completion_tokens))


class Choice(msgspec.Struct):
    message: Message | None = None
    delta: Message | None = None
    logprobs: Logprobs | None = None
    finish_reason: str | None = None

    def added(self) -> Message:
        """Return what a chunk adds to the message: nothing, if its token is the one that ends the text."""
        return Message() if self.delta is None or self.finish_reason in ("eos_token", "stop") else self.delta


class Chat(msgspec.Struct):
    """A whole reply, or a chunk of a stream."""

    choices: list[Choice]
    created: int = 0
    system_fingerprint: str | None = None
    usage: Counts | None = None


decode_chat = msgspec.json.Decoder(Chat).decode


class Facts:
    """What a call says about the form of its answer."""

    __slots__ = (
        "call_id",
        "created_s",
        "forced",
        "id",
        "keeps_stop",
        "model",
        "stops",
        "tools",
        "top_logprobs",
        "wants_logprobs",
    )

    def __init__(self, call: Call, stamp: Stamp) -> None:
        values = call.values
        choice = values.get("tool_choice", "auto")
        self.id = f"chatcmpl-{stamp.id}"
        self.call_id = f"call_{stamp.id}"
        self.created_s = stamp.created_s
        self.model = call.model
        self.stops = stops(values)
        self.keeps_stop = values.get("include_stop_str_in_output") is True
        self.wants_logprobs = values.get("logprobs") is True
        self.top_logprobs: int = values.get("top_logprobs") or 0
        self.tools = {tool["function"]["name"] for tool in values.get("tools") or ()} if choice != "none" else set()
        self.forced: str | None = choice["function"]["name"] if isinstance(choice, dict) else None


def decode_whole(call: Call, body: bytes, stamp: Stamp, judge: JudgeError) -> Whole | ContainerFault:
    """Return a whole chat as OpenAI writes it, or the fault a container reported with a 2xx status.

    Raises:
        MalformedReply: `body` is no chat.
    """
    try:
        reply = decode_chat(body)
    except INVALID_JSON:
        return _not_a_chat(body, judge)
    if not reply.choices or reply.choices[0].message is None:
        raise MalformedReply("the reply has no choices")
    choice = reply.choices[0]
    message: Message = reply.choices[0].message
    answer = Answer(message.content or "", choice.logprobs, choice.finish_reason, reply)
    for call_of_tool in message.calls():
        function = call_of_tool.function
        if function is None or not function.name:
            raise MalformedReply("a call of a tool has no name")
        answer.calls.append((function.name, arguments_text(function.arguments)))
    return whole(Facts(call, stamp), answer)


class Answer:
    """What has come of an answer, however it came."""

    __slots__ = ("calls", "content", "finish", "logprobs", "reply")

    def __init__(self, content: str, logprobs: Logprobs | None, finish: str | None, reply: Chat) -> None:
        self.content = content
        self.logprobs = logprobs
        self.finish = finish
        self.reply = reply
        """Has what is said once: time, fingerprint, usage."""
        self.calls: list[tuple[str, str]] = []
        """Names and arguments."""


def whole(facts: Facts, answer: Answer) -> Whole:
    """Return a whole chat."""
    content, stopped = cut(answer.content, facts.stops, keeps=facts.keeps_stop)
    calls: list[tuple[str, str]] = []
    for name, arguments in answer.calls:
        words = words_of(facts, name, arguments)
        if words is None:
            calls.append((name, arguments))
        else:
            content += words
    message: dict[str, Any] = {"role": "assistant", "content": content or (None if calls else ""), "refusal": None}
    if calls:
        message["tool_calls"] = [
            {"id": f"{facts.call_id}-{at}", "type": "function", "function": {"name": name, "arguments": arguments}}
            for at, (name, arguments) in enumerate(calls)
        ]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": logprobs_fields(facts, answer.logprobs),
        "finish_reason": finish_reason(facts, answer.finish, stopped=stopped, called=bool(calls)),
    }
    reply = answer.reply
    fields = {
        "id": _encode(facts.id),
        "object": b'"chat.completion"',
        "created": _encode(reply.created or facts.created_s),
        "model": _encode(facts.model),
        "choices": _encode([choice]),
        "system_fingerprint": _encode(reply.system_fingerprint),
    }
    usage = None if reply.usage is None else reply.usage.usage()
    if usage is not None:
        fields["usage"] = _encode(sum_of(usage))
    return Whole(join_fields(fields), usage)


def finish_reason(facts: Facts, told: str | None, *, stopped: bool, called: bool) -> str:
    """Return why an answer ended, in OpenAI's words."""
    if told == "length" and not stopped:
        return "length"
    # As OpenAI and vLLM do it: a call that the caller forced is how such an answer ends anyway.
    return "tool_calls" if called and facts.forced is None else "stop"


def words_of(facts: Facts, name: str, arguments: str) -> str | None:
    """Return the words that a call of TGI's own function stands for; None for a call of the caller's."""
    if name in facts.tools or name not in _NOBODYS_TOOLS:
        return None
    try:
        given = _values(arguments)
    except INVALID_JSON:
        return arguments
    words = given.get(_NOBODYS_TOOLS[name]) if isinstance(given, dict) else None
    return words if isinstance(words, str) else ""


def arguments_text(arguments: Any) -> str:
    """Return a call's arguments as the text OpenAI has them as."""
    if isinstance(arguments, str):
        return arguments
    return "{}" if arguments is None else _encode(arguments).decode()


def read_grammar(facts: Facts, text: str) -> tuple[str, str] | None:
    """Return the name and the arguments in the raw text of a grammar for tools; None if it broke off.

    It is `{"function": {"_name": "…", …}}`, of which streams of some versions leave out the outer braces, and some tell
    the token behind it.
    """
    text = text[: text.rfind("}") + 1].strip()
    for attempt in (text, text + "}", text.removesuffix("}")):
        try:
            value = _values(attempt)
        except INVALID_JSON:
            continue
        function = value.get("function", value) if isinstance(value, dict) else None
        if isinstance(function, dict):
            name = function.pop("_name", None) or facts.forced or (min(facts.tools) if len(facts.tools) == 1 else None)
            if isinstance(name, str):
                return name, _encode(function).decode()
    return None


def logprobs_fields(facts: Facts, logprobs: Logprobs | None) -> Mapping[str, Any] | None:
    """Return log probabilities with what OpenAI's schema demands besides: the tokens' bytes."""
    if not facts.wants_logprobs or logprobs is None or logprobs.content is None:
        return None
    content = [
        {
            **_likely(entry),
            "top_logprobs": [_likely(likely) for likely in entry.top_logprobs[: facts.top_logprobs]],
        }
        for entry in logprobs.content
    ]
    return {"refusal": None, "content": content}


def _likely(likely: Likely) -> dict[str, Any]:
    logprob = _LEAST_LOGPROB if likely.logprob is None else likely.logprob
    # U+FFFD stands for bytes that are no whole character, so the bytes are not known.
    known = None if "\ufffd" in likely.token else list(likely.token.encode())
    return {"token": likely.token, "logprob": logprob, "bytes": known}


def _not_a_chat(body: bytes, judge: JudgeError) -> ContainerFault:
    try:
        value = _values(body)
    except INVALID_JSON:
        raise MalformedReply("the reply is not valid JSON") from None
    fault = judge(value, 500) if isinstance(value, dict) else None
    if fault is None:
        raise MalformedReply("the reply is JSON, but no chat")
    return fault
