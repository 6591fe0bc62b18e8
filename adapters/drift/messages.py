"""Thoughts that a caller sends back with the history, under the name that a version of vLLM reads.

0.11 to 0.21 read `reasoning` only: CustomChatCompletionMessageParam in vllm/entrypoints/chat_utils.py keeps no other
name. From 0.22 on the old name is taken for the new one (_normalize_messages_before in
vllm/entrypoints/openai/chat_completion/protocol.py); up to 0.10 no version reads either.
"""

from __future__ import annotations

import msgspec

from adapters.drift.table import Edit
from adapters.openai.reply import join_fields

_list = msgspec.json.Decoder(list[msgspec.Raw]).decode
_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_NULL = msgspec.Raw(b"null")


def thoughts_renamed(edit: Edit) -> None:
    """`reasoning_content` → `reasoning`, in messages that have no other thoughts; all other bytes stay."""
    for message in edit.values["messages"]:
        if "reasoning_content" in message:
            break
    else:
        return
    messages = [_renamed(message) for message in _list(edit.raw["messages"])]
    edit.put("messages", b"[" + b",".join(messages) + b"]")


def _renamed(message: bytes) -> bytes:
    fields = _object(message)
    thoughts = fields.pop("reasoning_content", _NULL)
    if thoughts == _NULL:
        return message
    if fields.get("reasoning", _NULL) == _NULL:
        fields["reasoning"] = thoughts
    return join_fields(fields)
