"""Parts of requests, and replies, as JSON Schemas of the OpenAPI document; see docs_bodies.py.

Replies are the container's own, with the model's public name in them: what is described is what every container gives.
"""

from __future__ import annotations

from adapters.base import Surface
from gateway.http.docs_bodies import NULL, Schema, ref, request_schema

_TEXT = {"type": "string"}
_MAYBE_TEXT = {"type": ["string", "null"]}
_COUNT = {"type": "integer", "minimum": 0}


def _object(text: str, required: list[str], properties: Schema) -> Schema:
    return {"type": "object", "description": text, "required": required, "properties": properties}


def _function(text: str, more: Schema) -> Schema:
    return _object(
        text,
        ["type", "function"],
        {
            "type": {"const": "function"},
            "function": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": {"type": "string", "minLength": 1}, **more},
            },
        },
    )


_PARTS: dict[str, Schema] = {
    "ChatMessage": _object(
        "One message. Fields beyond these go to the container as they are.",
        ["role"],
        {
            "role": {
                "type": "string",
                "description": "`system`, `user`, `assistant`, `tool`, or what the model knows.",
            },
            "content": {
                "anyOf": [_TEXT, {"type": "array", "items": ref("ContentPart")}, NULL],
                "description": "Text, or parts of text, images, sound and film.",
            },
        },
    ),
    "ContentPart": _object(
        "A part of a message. Kinds other than text must be among the model's `modalities`. A URL is a `data:` URL in "
        "base64, or an `https` URL to a host the model's configuration names.",
        ["type"],
        {
            "type": {
                "type": "string",
                "description": "`text`, `image_url`, `input_audio`, `audio_url`, `video_url`, … names the field that "
                "holds the content.",
            },
            "text": {"type": "string", "description": "The text of a `text` part."},
            "image_url": {
                "description": "The image of an `image_url` part: an object whose `url` is its URL.",
                "type": ["object", "string"],
                "properties": {"url": _TEXT},
            },
            "input_audio": {
                "description": "The sound of an `input_audio` part: base64 `data` and its `format`.",
                "type": "object",
                "properties": {"data": _TEXT, "format": _TEXT},
            },
        },
    ),
    "Tool": _function(
        "A function the model may call.",
        {
            "description": {"description": "What it does, for the model."},
            "parameters": {"type": ["object", "null"], "description": "JSON Schema of its arguments."},
        },
    ),
    "ToolChoice": _function("The one tool to call.", {}),
}

_USAGE = _object(
    "Tokens, as the container counts them.",
    ["prompt_tokens", "total_tokens"],
    {
        "prompt_tokens": _COUNT,
        "completion_tokens": {"type": ["integer", "null"], "minimum": 0},
        "total_tokens": _COUNT,
        "prompt_tokens_details": {
            "type": "object",
            "properties": {
                "cached_tokens": {
                    "type": ["integer", "null"],
                    "description": "Taken from the container's prefix cache.",
                }
            },
        },
    },
)
_FINISH = {
    "type": ["string", "null"],
    "description": "`stop`, `length` or `tool_calls`; in a stream null until the choice ends.",
}
_TOOL_CALL = _object(
    "A call the model makes; in a stream its pieces, joined by `index`.",
    [],
    {
        "index": _COUNT,
        "id": _MAYBE_TEXT,
        "type": _MAYBE_TEXT,
        "function": {
            "type": "object",
            "properties": {
                "name": _MAYBE_TEXT,
                "arguments": {"type": ["string", "null"], "description": "JSON, as the model wrote it."},
            },
        },
    },
)
_MESSAGE = {
    "role": {"type": ["string", "null"]},
    "content": _MAYBE_TEXT,
    "reasoning": {"type": ["string", "null"], "description": "Thoughts, where a container parses them."},
    "reasoning_content": {"type": ["string", "null"], "description": "The same, for clients that look here."},
    "tool_calls": {"type": "array", "items": ref("ToolCall")},
}


def _reply(text: str, kind: str, choice: Schema, required: list[str]) -> Schema:
    return _object(
        text,
        ["id", "object", "created", "model", "choices"],
        {
            "id": _TEXT,
            "object": {"const": kind},
            "created": {"type": "integer", "description": "Unix seconds."},
            "model": {"type": "string", "description": "The name the caller used."},
            "choices": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": required,
                    "properties": {"index": _COUNT, **choice, "finish_reason": _FINISH},
                },
            },
            "usage": {"anyOf": [ref("Usage"), NULL]},
        },
    )


SCHEMAS: dict[str, Schema] = {
    "ChatCompletionRequest": request_schema(Surface.CHAT),
    "CompletionRequest": request_schema(Surface.COMPLETIONS),
    **_PARTS,
    "ChatCompletion": _reply(
        "A whole answer.",
        "chat.completion",
        {
            "message": {"type": "object", "required": ["role"], "properties": _MESSAGE},
            "logprobs": {"type": ["object", "null"]},
        },
        ["index", "message", "finish_reason"],
    ),
    "ChatCompletionChunk": _reply(
        "A piece of a streamed answer. If usage was asked for, the last one has it and no choices.",
        "chat.completion.chunk",
        {"delta": {"type": "object", "properties": _MESSAGE}, "logprobs": {"type": ["object", "null"]}},
        ["index", "delta"],
    ),
    "Completion": _reply(
        "A continuation; in a stream a piece of one.",
        "text_completion",
        {"text": _TEXT, "logprobs": {"type": ["object", "null"]}},
        ["index", "text"],
    ),
    "ToolCall": _TOOL_CALL,
    "Usage": _USAGE,
}
"""By component name."""
