"""A chat turned into one prompt, as a ChatML template would: its text, its tokens, and what the answer goes by.

https://huggingface.co/Qwen/Qwen3-0.6B (tokenizer_config.json, chat_template)
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import InitErrorDetails

from deploy.local.engine import images, tokens
from deploy.local.engine.bodies import ChatCompletionRequest, Message
from deploy.local.engine.images import Picture
from deploy.local.engine.refusal import Refusal

NO_THOUGHTS = "<think>\n\n</think>\n\n"
"""What the template writes ahead of an answer that is not to be thought about."""


@dataclass(slots=True)
class Conversation:
    """A prompt, and the parts of it that decide the answer."""

    ids: list[int] = field(default_factory=list)
    question: str = ""
    """The last thing the user wrote."""
    results: list[tuple[str, str]] = field(default_factory=list)
    """What tools answered since: their names and texts."""
    pictures: list[Picture] = field(default_factory=list)
    """What the user's last message shows."""


class ImageUrl(BaseModel):
    url: str


class ChatCompletionContentPartTextParam(BaseModel):
    text: str
    type: Literal["text"]


class ChatCompletionContentPartImageParam(BaseModel):
    image_url: ImageUrl
    type: Literal["image_url"]


class ChatCompletionContentPartInputAudioParam(BaseModel):
    input_audio: dict[str, Any]
    type: Literal["input_audio"]


class File(BaseModel):
    file: dict[str, Any]
    type: Literal["file"]


_Part = (
    ChatCompletionContentPartTextParam
    | ChatCompletionContentPartImageParam
    | ChatCompletionContentPartInputAudioParam
    | File
)
_PARTS: TypeAdapter[_Part] = TypeAdapter(_Part)


def render(body: ChatCompletionRequest, *, thinks: bool, vision: bool, model: str) -> Conversation:
    """Return the prompt of a chat.

    Raises:
        Refusal: there are no messages, a part is none, or a picture that the model cannot see or nobody can read.
    """
    if not body.messages:
        raise Refusal("Cannot apply chat template to an empty conversation. Provide at least one message.")
    made = Conversation()
    called: dict[str, str] = {}
    if body.tools and body.tool_choice != "none":
        tools = "\n".join(json.dumps(tool.model_dump(), ensure_ascii=False) for tool in body.tools)
        made.ids += tokens.encode(f"<|im_start|>system\n# Tools\n\n{tools}<|im_end|>\n", markup=True)
    for message in body.messages:
        for call in message.tool_calls or ():
            function = call.get("function")
            if isinstance(function, dict):
                called[str(call.get("id"))] = str(function.get("name"))
        _add(made, message, called, vision=vision, model=model)
    if body.continue_final_message:
        # The last message stays open: its end of turn and line break go.
        del made.ids[-2:]
    elif body.add_generation_prompt:
        made.ids += tokens.encode(f"<|im_start|>assistant\n{'' if thinks else NO_THOUGHTS}", markup=True)
    return made


def question_of(prompt: str) -> str:
    """Return what a raw prompt asks: the user's last message where it is a rendered chat, else all of it."""
    _, found, rest = prompt.rpartition("<|im_start|>user\n")
    return rest.partition("<|im_end|>")[0] if found else prompt


def _add(made: Conversation, message: Message, called: dict[str, str], *, vision: bool, model: str) -> None:
    made.ids += tokens.encode(f"<|im_start|>{message.role}\n", markup=True)
    texts: list[str] = []
    pictures: list[Picture] = []
    content = [message.content] if isinstance(message.content, str) else message.content or []
    for place, raw in enumerate(content):
        part = raw if isinstance(raw, str) else _read_part(raw, place)
        if isinstance(part, str):
            texts.append(part)
            made.ids += tokens.encode(part, markup=True)
        else:
            if not vision:
                raise Refusal(f"{model} is not a multimodal model")
            pictures.append(images.load(part.url))
            made.ids += [tokens.IMAGE] * pictures[-1].tokens
    for call in message.tool_calls or ():
        made.ids += tokens.encode(json.dumps(call.get("function"), ensure_ascii=False))
    made.ids += tokens.encode("<|im_end|>\n", markup=True)
    text = "\n".join(texts)
    if message.role == "tool":
        extra = message.model_extra or {}
        made.results.append((called.get(str(extra.get("tool_call_id"))) or str(extra.get("name", "last")), text))
        return
    made.results.clear()
    if message.role == "user":
        made.question, made.pictures = text, pictures


def _read_part(raw: Any, place: int) -> str | ImageUrl:
    """Return a part's text or where its picture is."""
    try:
        part = _PARTS.validate_python(raw)
    except ValidationError as error:
        raise Refusal(str(_as_iterated(error, place))) from error
    if isinstance(part, ChatCompletionContentPartTextParam):
        return part.text
    if isinstance(part, ChatCompletionContentPartImageParam):
        return part.image_url
    kind = "audio" if isinstance(part, ChatCompletionContentPartInputAudioParam) else "file"
    raise Refusal(f"At most 0 {kind}(s) may be provided in one prompt.")


def _as_iterated(error: ValidationError, place: int) -> ValidationError:
    """Return the error under the name it has in vLLM, where parts are read one after the other."""
    lines = [
        InitErrorDetails(
            type=line["type"], loc=(place, *line["loc"]), input=line["input"], ctx=dict(line.get("ctx", {}))
        )
        for line in error.errors()
    ]
    return ValidationError.from_exception_data("ValidatorIterator", lines)
