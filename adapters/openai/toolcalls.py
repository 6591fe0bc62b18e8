"""Tool calls of older versions of vLLM, as OpenAI numbers, names and ends them, and as newer versions do.

Versions up to 0.9 stream calls that the caller forces without an id or a type, or with the tool's name in every delta;
up to 0.10 their finish reasons are others; up to 0.21 a named tool's call has the number of its choice
(chat_completion_stream_generator and chat_completion_full_generator in vllm/entrypoints/openai/serving_chat.py of
0.8.4, 0.9.2, 0.10.2 and 0.21.0; resolve_finish_reason in vllm/entrypoints/serve/utils/tool_calls_utils.py of 0.33.0).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from adapters.base import Call, Surface, Usage, Whole
from adapters.errors import ContainerFault, MalformedReply
from adapters.openai.reply import INVALID_JSON, join_fields

_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_objects = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_index = msgspec.json.Decoder(int).decode
_text = msgspec.json.Decoder(str | None).decode
_NULLS = (None, b"null")


@dataclass(frozen=True, slots=True)
class CallMends:
    """What the answer to one call needs."""

    deltas: bool
    """The first delta of a tool call may lack its id and type, and later ones repeat them or the name."""
    one_each: bool
    """Each choice has one tool call at most, whatever its number."""
    finish: Mapping[str, str]
    """Finish reason of a choice that called a tool → the one it should have."""


def call_mends(call: Call, minor: int) -> CallMends | None:
    """Return what vLLM 0.`minor` gets wrong about a call's tools; None if it is nothing."""
    if minor > _LAST_NUMBERED_BY_CHOICE or "tools" not in call.values or call.surface is not Surface.CHAT:
        return None
    choice = call.values.get("tool_choice", "auto")
    if choice == "none":
        return None
    named = isinstance(choice, dict)
    finish: dict[str, str] = {}
    if minor <= _LAST_OTHER_FINISH and choice != "auto":
        finish = {"tool_calls": "stop"} if named else {"stop": "tool_calls"}
    mends = CallMends(minor <= _LAST_WITHOUT_IDS, named and call.choices > 1, finish)
    return mends if mends.deltas or mends.one_each or finish else None


_LAST_WITHOUT_IDS = 9
_LAST_OTHER_FINISH = 10
_LAST_NUMBERED_BY_CHOICE = 21


def forces_tool(call: Call) -> bool:
    """Say whether the caller demands a tool call."""
    return call.surface is Surface.CHAT and call.values.get("tool_choice", "auto") not in ("auto", "none")


def asks_auto(call: Call) -> bool:
    """Say whether the caller leaves it to the model to call tools, which every version needs a tool parser for."""
    return call.surface is Surface.CHAT and "tools" in call.values and call.values.get("tool_choice", "auto") == "auto"


def made_up_id(reply_id: str, choice: int, number: int) -> str:
    """Return the id of a tool call that has none, as vLLM's look; equal replies give equal ids."""
    return f"chatcmpl-tool-{reply_id.removeprefix('chatcmpl-')}-{choice}-{number}"


def missing_finish(call: Call, usage: Usage | None, *, called: bool) -> str:
    """Return the finish reason that vLLM up to 0.10.0 leaves out of a stream when a parser swallows the last token.

    The choice ended for one of three reasons: a call of a tool, the caller's cap, or by itself.
    """
    forced = forces_tool(call)
    if called and not forced:
        return "tool_calls"
    if usage is not None and call.max_tokens is not None and usage.completion_tokens >= call.max_tokens * call.choices:
        return "length"
    return "tool_calls" if called and call.values["tool_choice"] == "required" else "stop"


def mended(whole: Whole | ContainerFault, mends: CallMends | None) -> Whole | ContainerFault:
    """Return a whole reply with the finish reasons mended, every other value byte for byte."""
    if mends is None or not mends.finish or isinstance(whole, ContainerFault):
        return whole
    try:
        fields = _object(whole.body)
        choices = [_mended_finish(choice, mends, called=_calls_tools(choice)) for choice in _objects(fields["choices"])]
    except INVALID_JSON:
        raise MalformedReply("the reply has a field of the wrong type") from None
    text = join_fields({**fields, "choices": b"[" + b",".join(map(join_fields, choices)) + b"]"})
    return Whole(text, whole.usage)


class StreamedCalls:
    """Mends the tool calls of one stream, chunk by chunk."""

    __slots__ = ("_mends", "_named", "_reply_id")

    def __init__(self, mends: CallMends) -> None:
        self._mends = mends
        self._named: dict[tuple[int, int], bool] = {}
        """Choice and number of each tool call that has begun → its name has been sent."""
        self._reply_id = ""

    def called(self, choice: int) -> bool:
        return any(begun == choice for begun, _ in self._named)

    def mend(self, fields: Mapping[str, bytes]) -> dict[str, bytes]:
        """Return the fields of a chunk, mended.

        Raises:
            msgspec.DecodeError: one of them has the wrong type.
        """
        if not self._reply_id and "id" in fields:
            self._reply_id = _text(fields["id"]) or ""
        choices = [self._mended_choice(choice) for choice in _objects(fields["choices"])]
        return {**fields, "choices": b"[" + b",".join(map(join_fields, choices)) + b"]"}

    def _mended_choice(self, choice: Mapping[str, bytes]) -> Mapping[str, bytes]:
        number = _index(choice["index"]) if "index" in choice else 0
        delta = choice.get("delta")
        if delta not in _NULLS:
            parts = _object(delta)
            calls = parts.get("tool_calls")
            if calls not in _NULLS:
                made = [self._mended_delta(number, call) for call in _objects(calls)]
                choice = {**choice, "delta": join_fields({**parts, "tool_calls": b"[" + b",".join(made) + b"]"})}
        return _mended_finish(choice, self._mends, called=self.called(number))

    def _mended_delta(self, choice: int, call: Mapping[str, bytes]) -> bytes:
        number = 0 if self._mends.one_each or "index" not in call else _index(call["index"])
        named = self._named.get((choice, number))
        function = dict(_object(call["function"])) if call.get("function") not in _NULLS else {}
        name = function.get("name")
        self._named[choice, number] = bool(named) or name not in _NULLS
        if not self._mends.deltas:
            return join_fields({**call, "index": _encode(number)})
        if named or name in _NULLS:
            function.pop("name", None)
        fields = {"index": _encode(number), "function": join_fields(function or {"arguments": b'""'})}
        if named is None:
            given = call.get("id", b"null")
            made = _encode(made_up_id(self._reply_id, choice, number)) if given in _NULLS else given
            fields = {"id": made, "type": b'"function"', **fields}
        return join_fields(fields)


def _mended_finish(choice: Mapping[str, bytes], mends: CallMends, *, called: bool) -> Mapping[str, bytes]:
    if not called or choice.get("finish_reason") in _NULLS:
        return choice
    reason = mends.finish.get(_text(choice["finish_reason"]) or "")
    return choice if reason is None else {**choice, "finish_reason": _encode(reason)}


def _calls_tools(choice: Mapping[str, bytes]) -> bool:
    message = choice.get("message")
    calls = _object(message).get("tool_calls") if message not in _NULLS else None
    return calls not in _NULLS and _objects(calls) != []
