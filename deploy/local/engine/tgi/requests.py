"""The bodies TGI takes, release by release: their fields, defaults and types, under the names in serde's texts.

https://github.com/huggingface/text-generation-inference: router/src/lib.rs
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from deploy.local.engine.tgi.jsonreader import Object, Path, Problem
from deploy.local.engine.tgi.release import Release, Version
from deploy.local.engine.tgi.shapes import Anything, Field, Flag, Many, Maybe, Real, Record, Shape, Text, Whole
from deploy.local.engine.tgi.unions import OneOf, Tagged, Turned

U32 = Whole("u32", 0, 2**32 - 1)
I32 = Whole("i32", -(2**31), 2**31 - 1)
U64 = Whole("u64", 0, 2**64 - 1)
USIZE = Whole("usize", 0, 2**64 - 1)
F32, TEXT, FLAG, ANYTHING = Real(), Text(), Flag(), Anything()

Json = dict[str, Any]


def _option(shape: Shape, alias: str = "") -> Field:
    return Field(Maybe(shape), None, alias)


def _grammar(release: Release) -> Tagged:
    variants: dict[str, Shape] = {"json": ANYTHING, "regex": TEXT}
    if release.since(3, 3):
        variants["json_schema"] = Record(
            "JsonSchemaConfig", {"name": _option(TEXT), "strict": _option(FLAG), "schema": Field(ANYTHING)}
        )
    return Tagged("GrammarType", variants, {"json_object": "json"})


def _parameters(release: Release) -> Field:
    fields = {
        "best_of": _option(USIZE),
        "temperature": _option(F32),
        "repetition_penalty": _option(F32),
        "frequency_penalty": _option(F32),
        "top_k": _option(I32),
        "top_p": _option(F32),
        "typical_p": _option(F32),
        "do_sample": Field(FLAG, False),
        "max_new_tokens": Field(Maybe(U32), release.default_tokens),
        "return_full_text": _option(FLAG),
        "stop": Field(Many(TEXT), list),
        "truncate": _option(USIZE),
        "watermark": Field(FLAG, False),
        "details": Field(FLAG, False),
        "decoder_input_details": Field(FLAG, False),
        "seed": _option(U64),
        "top_n_tokens": _option(U32),
        "grammar": _option(_grammar(release)),
    }
    if release.since(2, 1):
        fields["adapter_id"] = _option(TEXT)
    shape = Record("GenerateParameters", fields)
    # Without any parameters the answer is sampled; with some, only if they say so.
    return Field(shape, lambda: shape.of({}, ()) | {"do_sample": True})


@cache
def generate(version: Version) -> Record:
    """Return the body of /generate and /generate_stream."""
    return Record("GenerateRequest", {"inputs": Field(TEXT), "parameters": _parameters(Release(version))})


@cache
def compat(version: Version) -> Record:
    """Return the body of /."""
    fields = {"inputs": Field(TEXT), "parameters": _parameters(Release(version)), "stream": Field(FLAG, False)}
    return Record("CompatGenerateRequest", fields)


@cache
def completion(version: Version) -> Record:
    """Return the body of /v1/completions."""
    release = Release(version)
    several = OneOf("PromptDeserializer", (TEXT, Many(TEXT)))
    fields = {
        "model": _option(TEXT) if release.since(2, 1) else Field(TEXT),
        "prompt": Field(Turned(several, _prompts) if release.since(2, 0) else TEXT),
        "max_tokens": _option(U32),
        "temperature": _option(F32),
        "top_p": _option(F32),
        "stream": Field(FLAG, False),
        "seed": _option(U64),
        "suffix": _option(TEXT),
        "repetition_penalty": _option(F32),
        "frequency_penalty": _option(F32),
    }
    if release.since(2, 0):
        fields["stop"] = _option(Many(TEXT))
    return Record("CompletionRequest", fields)


def _prompts(prompt: Any) -> list[str]:
    if prompt == []:
        raise ValueError("Empty array detected. Do not use an empty array for the prompt.")
    return [prompt] if isinstance(prompt, str) else list(prompt)


@cache
def chat(version: Version) -> Record:
    """Return the body of /v1/chat/completions."""
    release = Release(version)
    options = Record("StreamOptions", {"include_usage": Field(FLAG, False) if release.since(3, 1) else Field(FLAG)})
    fields = {
        "model": _option(TEXT) if release.since(2, 1) else Field(TEXT),
        "messages": Field(Many(_message(release))),
        "frequency_penalty": _option(F32),
        "logit_bias": _option(Many(F32)),
        "logprobs": _option(FLAG),
        "top_logprobs": _option(U32),
        "max_tokens": _option(U32, "max_completion_tokens" if release.since(3, 1) else ""),
        "n": _option(U32),
        "presence_penalty": _option(F32),
        "stop": _option(Many(TEXT)),
        "stream": Field(FLAG, False),
        "seed": _option(U64),
        "temperature": _option(F32),
        "top_p": _option(F32),
        "tools": _option(Many(_tool(release))),
        "tool_prompt": _option(TEXT),
        "tool_choice": Field(_tool_choice(release), "auto" if release.since(2, 1) else None),
    }
    if release.since(2, 1):  # PR 2046
        fields["response_format"] = _option(_grammar(release))
    if release.since(2, 3):
        apart = release.since(3, 1)
        fields["stream_options"] = Field(options, lambda: {"include_usage": False}) if apart else _option(options)
    return Record("ChatRequest", fields)


def _tool(release: Release) -> Record:
    alias = "parameters" if release.since(2, 0) else ""
    function = {
        "description": _option(TEXT),
        "name": Field(TEXT),
        "arguments" if alias else "parameters": Field(ANYTHING, alias=alias),
    }
    return Record("Tool", {"type": Field(TEXT), "function": Field(Record("FunctionDefinition", function))})


def _message(release: Release) -> Record:
    call = Record(
        "ToolCall",
        {
            "id": Field(U32 if release.old_schema else TEXT),
            "type": Field(TEXT),
            "function": _tool(release).fields["function"],
        },
    )
    content = OneOf("MessageContent", (TEXT, Many(_Chunk())))
    if release.old_schema:
        return Record(
            "Message",
            {
                "role": Field(TEXT),
                "content": _option(content if release.takes_parts else TEXT),
                "name": _option(TEXT),
                "tool_calls": _option(Many(call)),
            },
        )
    if not release.openai_calls:
        return Record("Message", {"role": Field(TEXT), "content": Field(content), "name": _option(TEXT)})
    body = OneOf(
        "MessageBody",
        (Record("Content", {"content": Field(content)}), Record("Tool", {"tool_calls": Field(Many(call))})),
    )
    return Record("Message", {"role": Field(TEXT), "name": _option(TEXT)}, rest=body)


class _Chunk(Shape):
    """A part of a message: text, or where a picture is."""

    def of(self, value: Any, path: Path) -> Json:
        """Return the part with its type; only found within buffered values, so its problems are never told."""
        kind = value.get("type") if isinstance(value, dict) else None
        if kind == "text":
            return {"type": kind, "text": TEXT.of(value.get("text"), path)}
        url = value.get("image_url") if kind == "image_url" else None
        if isinstance(url, dict):
            return {"type": kind, "image_url": {"url": TEXT.of(url.get("url"), path)}}
        raise Problem("no MessageChunk", path)


def _tool_choice(release: Release) -> Shape:
    if not release.since(2, 1):
        return Turned(ANYTHING, _old_tool_choice)
    named = Record("FunctionName", {"name": Field(TEXT)})
    kind = {"type": Field(Turned(TEXT, _only_function))} if release.since(2, 4) else {}
    typed = Record("TypedChoice", {"function": Field(named)} | kind)
    return Turned(OneOf("ToolTypeDeserializer", (_Null(), TEXT, typed)), _tool_name)


def _only_function(kind: str) -> str:
    if kind != "function":
        raise ValueError(f"unknown variant `{kind}`, expected `function`")
    return kind


class _Null(Shape):
    """null."""

    def of(self, value: Any, path: Path) -> None:
        """Return None."""
        if value is not None:
            raise Problem("no null", path)


def _tool_name(choice: Any) -> str:
    """Return auto, none, required, or a tool's name after `function:`."""
    if choice is None:
        return "auto"
    if isinstance(choice, Mapping):
        return f"function:{choice['function']['name']}"
    return choice if choice in ("auto", "none", "required") else f"function:{choice}"


def _old_tool_choice(choice: Any) -> str | None:
    """Return what `_tool_name` does, or None for none; what is required is a tool of that name there."""
    if choice is None or choice == "auto":
        return "auto"
    if choice == "none":
        return None
    if isinstance(choice, str):
        return f"function:{choice}"
    if isinstance(choice, Object):
        function = choice.get("function")
        name = function.get("name") if isinstance(function, dict) else None
        if isinstance(name, str):
            return f"function:{name}"
        raise ValueError("function key not found in tool choice")
    raise ValueError("invalid token format")


@cache
def invocation(version: Version) -> OneOf:
    """Return the body of /invocations where it may be any of the others: a shape and what it read."""
    kinds = {"generate": compat(version), "chat": chat(version), "completion": completion(version)}
    return OneOf("SagemakerRequest", tuple(Turned(shape, _kind(kind)) for kind, shape in kinds.items()))


def _kind(kind: str) -> Any:
    return lambda read: (kind, read)
