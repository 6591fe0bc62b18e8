"""A container's stream, gathered into the reply the container would have given whole.

SageMaker cuts a call that answers in one piece after 60 seconds, but not one that streams. docs/unary-streaming.md
says when a whole reply is fetched this way, and lists every difference that remains.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec

from adapters.base import Call, Surface, Whole
from adapters.openai.chunks import Chunk, ChunkReader, Wire
from adapters.openai.conform import conform
from adapters.openai.layout import Layout
from adapters.openai.reply import INVALID_JSON, join_fields
from adapters.openai.thoughts import NAMES as THOUGHTS
from adapters.openai.thoughts import both_names
from adapters.openai.toolcalls import forces_tool, made_up_id, missing_finish

DEFAULT_COMPLETION_TOKENS = 16
"""New tokens of a text completion without `max_tokens`, by OpenAI's and vLLM's default."""

_UNSTREAMABLE = frozenset(
    # vLLM refuses these in a stream, answers them whole all the same, or gives what they ask for in whole replies only.
    (
        "prompt_logprobs",
        "use_beam_search",
        "kv_transfer_params",
        "ec_transfer_params",
        "routed_experts_prompt_start",
        "return_weight_versions",
        "return_token_offsets",
        "return_assistant_tokens_mask",
    )
)
_UNSTREAMABLE_CHATS = frozenset(
    # vLLM up to 0.31 drops these together with the chunks its tool and reasoning parsers hold back.
    {"logprobs", "return_token_ids"}
)
_NULL = b"null"

_encode = msgspec.json.Encoder().encode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_objects = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_text = msgspec.json.Decoder(str | None).decode
_index = msgspec.json.Decoder(int).decode


def streamable(call: Call) -> bool:
    """Say whether the assembled stream of a call says all that its whole reply would."""
    values = call.values
    if call.surface is Surface.GENERATE:
        return not values["parameters"].get("decoder_input_details")
    if any(values.get(name) for name in _UNSTREAMABLE):
        return False
    if values.get("best_of", 1) > values.get("n", 1):
        return False
    if call.surface is Surface.CHAT:
        return not any(values.get(name) for name in _UNSTREAMABLE_CHATS)
    return not (values.get("echo") and values.get("logprobs") is not None)


def prefers_stream(call: Call, above_tokens: int) -> bool:
    """Say whether a whole reply is better fetched as a stream: it may be long, and nothing is lost by it.

    Args:
        above_tokens: new tokens per choice up to which one InvokeEndpoint is expected to end in time.
    """
    most = call.max_tokens
    if most is None and call.surface is Surface.COMPLETIONS:
        most = DEFAULT_COMPLETION_TOKENS
    return (most is None or most > above_tokens) and streamable(call)


class _FunctionDelta(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


class _ToolDelta(msgspec.Struct):
    index: int = 0
    id: str | None = None
    type: str | None = None
    function: _FunctionDelta | None = None


_tool_deltas = msgspec.json.Decoder(list[_ToolDelta] | None).decode


class _Tool:
    """One tool call of a message."""

    __slots__ = ("arguments", "id", "name", "type")

    def __init__(self) -> None:
        self.id, self.type, self.name = "", "function", ""
        self.arguments: list[str] = []


class _Choice:
    """What has come of one choice."""

    __slots__ = ("fields", "lists", "logprobs", "texts", "tools")

    def __init__(self) -> None:
        self.texts: dict[str, list[str]] = {}
        """`text` of a completion; of a chat, every field of the message that is a string."""
        self.tools: dict[int, _Tool] = {}
        self.logprobs: dict[str, list[bytes]] = {}
        """Field of `logprobs` → the insides of the arrays that came."""
        self.lists: dict[str, list[bytes]] = {}
        """Other fields that are arrays, likewise."""
        self.fields: dict[str, bytes] = {}
        """Other fields: the last value that is not null."""


class Gatherer(ChunkReader):
    """The Assembler of containers that speak OpenAI's chunks."""

    __slots__ = ("_choices", "_fields", "_layout", "_limit", "_mends", "_public_model", "_size", "_usage")

    def __init__(self, call: Call, wire: Wire, *, public_model: bytes, layout: Layout, limit_bytes: int) -> None:
        """`public_model` is the model's public name as a JSON string, `limit_bytes` the most a reply may hold."""
        super().__init__(call, wire)
        self._public_model = public_model
        self._layout = layout
        self._mends = wire.mends(call)
        self._limit = limit_bytes
        self._size = 0
        self._choices: dict[int, _Choice] = {}
        self._fields: dict[str, bytes] = {}
        self._usage: bytes | None = None

    def feed(self, data: bytes) -> None:
        for record in self._splitter.feed(data):
            self._take(record)
        self._take_overlong()

    def end(self) -> Whole | None:
        """Return the whole reply, or None with `fault` or `malformed` set."""
        for record in self._splitter.end():
            self._take(record)
        self._take_end()
        if self.fault is not None or self.malformed is not None:
            return None
        try:
            return Whole(conform(both_names(self._whole())), self.usage)
        except INVALID_JSON:
            self.malformed = "a chunk of the stream has a field of the wrong type"
            return None

    def _take(self, record: bytes) -> None:
        chunk = self._read(record)
        if chunk is None:
            return
        try:
            self._gather(chunk)
        except INVALID_JSON:
            self.complete = False
            self._break("a chunk of the stream has a field of the wrong type")
        if self._size > self._limit:
            self.complete = False
            self._break("the answer is too long")

    def _gather(self, chunk: Chunk) -> None:
        for name, value in chunk.fields.items():
            if name == "choices":
                for fields in _objects(value):
                    self._gather_choice(fields)
            elif name == "usage":
                if chunk.closing and value != _NULL:
                    self._usage = bytes(value)
            elif name not in ("object", "model"):
                self._set(self._fields, name, value)

    def _gather_choice(self, fields: dict[str, msgspec.Raw]) -> None:
        index = fields.pop("index", None)
        choice = self._choices.setdefault(0 if index is None else _index(index), _Choice())
        for name, raw in fields.items():
            value = bytes(raw)
            if value == _NULL:
                continue
            if name == "delta":
                for key, part in _object(value).items():
                    if key == "tool_calls":
                        self._gather_tools(choice, part)
                    else:
                        self._add_text(choice, key, part)
            elif name == "text":
                self._add_text(choice, name, value)
            elif name == "logprobs":
                for key, array in _object(value).items():
                    self._add_array(choice.logprobs, key, array)
            elif name == "token_ids" or (name == "prompt_token_ids" and self._call.values.get("return_token_ids")):
                self._add_array(choice.lists, name, value)
            elif name != "prompt_token_ids":  # vLLM 0.32 gives them in an echoed stream to callers who did not ask
                self._set(choice.fields, name, value)

    def _gather_tools(self, choice: _Choice, deltas: bytes) -> None:
        for delta in _tool_deltas(deltas) or ():
            tool = choice.tools.setdefault(delta.index, _Tool())
            # The first id and type count: vLLM 0.8 makes up a new id for every delta.
            tool.id = tool.id or delta.id or ""
            tool.type = delta.type or tool.type
            if delta.function is not None:
                tool.name = tool.name or delta.function.name or ""
                if delta.function.arguments:
                    tool.arguments.append(delta.function.arguments)
        self._size += len(deltas)

    def _add_text(self, choice: _Choice, name: str, value: bytes) -> None:
        text = _text(value)
        if text is not None:
            if name == "role":
                choice.texts.setdefault(name, [text])
            else:
                choice.texts.setdefault(name, []).append(text)
            self._size += len(value)

    def _add_array(self, arrays: dict[str, list[bytes]], name: str, value: bytes) -> None:
        array = bytes(value)
        if array != _NULL:
            if not array.startswith(b"["):
                raise msgspec.ValidationError("not an array")
            arrays.setdefault(name, []).append(array[1:-1].strip())
            self._size += len(array)

    def _set(self, fields: dict[str, bytes], name: str, value: bytes) -> None:
        value = bytes(value)
        if value != _NULL:
            self._size += len(value) - len(fields.get(name, b""))
            fields[name] = value

    def _whole(self) -> bytes:
        chat = self._call.surface is Surface.CHAT
        fields = {
            **self._fields,
            "object": b'"chat.completion"' if chat else b'"text_completion"',
            "model": self._public_model,
            "choices": _array(self._whole_choice(index) for index in sorted(self._choices)),
        }
        names = self._layout.reply
        if self._usage is None:
            names = tuple(name for name in names if name != "usage")
        else:
            fields["usage"] = self._whole_usage(self._usage)
        return _laid_out(names, fields)

    def _whole_choice(self, index: int) -> bytes:
        choice = self._choices[index]
        fields = dict(choice.fields)
        fields["index"] = _encode(index)
        for name, arrays in choice.lists.items():
            fields[name] = _array(arrays)
        if choice.logprobs:
            fields["logprobs"] = join_fields({name: _array(arrays) for name, arrays in choice.logprobs.items()})
        if self._call.surface is Surface.CHAT:
            fields["message"] = self._whole_message(index, choice)
        else:
            fields["text"] = _encode("".join(choice.texts.get("text", ())))
        fields["finish_reason"] = self._whole_finish(choice)
        return _laid_out(self._layout.choice, fields)

    def _whole_message(self, index: int, choice: _Choice) -> bytes:
        texts = {name: "".join(parts) for name, parts in choice.texts.items()}
        if self._call.values.get("include_reasoning") is False:  # vLLM up to 0.25 streams them all the same
            texts = {name: text for name, text in texts.items() if name not in THOUGHTS}
        fields = {name: _encode(text) for name, text in texts.items()}
        fields.setdefault("role", b'"assistant"')
        content = texts.get("content", "")
        if choice.tools and forces_tool(self._call):
            fields["content"] = b'""'
        elif choice.tools and not content.strip():
            fields["content"] = _NULL
        elif not content:
            # A reasoning parser that finds no text says null; without a parser the text is empty.
            fields["content"] = _NULL if any(texts.get(name) for name in THOUGHTS) else b'""'
        names = self._layout.message
        if choice.tools:
            reply_id = self._fields.get("id", b"").decode(errors="replace").strip('"')
            calls = sorted(choice.tools.items())
            fields["tool_calls"] = _array(_whole_tool(tool, made_up_id(reply_id, index, at)) for at, tool in calls)
        elif self._layout.empty_tool_calls:
            fields["tool_calls"] = b"[]"
        else:
            names = tuple(name for name in names if name != "tool_calls")
        return _laid_out(names, fields)

    def _whole_usage(self, usage: bytes) -> bytes:
        fields: dict[str, bytes] = dict(_object(usage))
        details = bytes(fields.get("prompt_tokens_details", _NULL))
        if details != _NULL:
            fields["prompt_tokens_details"] = _laid_out(self._layout.prompt_details, _object(details))
        return _laid_out(self._layout.usage, fields)

    def _whole_finish(self, choice: _Choice) -> bytes:
        given = choice.fields.get("finish_reason")
        if given is None:
            return _encode(missing_finish(self._call, self.usage, called=bool(choice.tools)))
        mended = self._mends.finish.get(given.decode().strip('"')) if self._mends is not None and choice.tools else None
        return given if mended is None else _encode(mended)


def _whole_tool(tool: _Tool, made_up_id: str) -> bytes:
    """Return a call; vLLM up to 0.9 streams those that the caller forces without an id."""
    function = {"name": tool.name, "arguments": "".join(tool.arguments)}
    return _encode({"id": tool.id or made_up_id, "type": tool.type, "function": function})


def _array(items: Iterable[bytes]) -> bytes:
    """Return a JSON array of items, or of the insides of arrays; empty ones add nothing."""
    return b"[" + b",".join(item for item in items if item) + b"]"


def _laid_out(names: Iterable[str], fields: Mapping[str, bytes]) -> bytes:
    """Return an object with every field of `names`, null where it is not known, then those that are not among them."""
    ordered = {name: fields.get(name, _NULL) for name in names}
    ordered.update(fields)
    return join_fields(ordered)
