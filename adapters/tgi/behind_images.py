"""Images hidden in a text: TGI's vision models take every `![](…)` of a prompt for one, whoever wrote it, and fetch it.

Parts of a chat's messages are joined, and what begins in one text may end in another, so nothing may begin that does
not end. router/src/validation.rs `prepare_input` of https://github.com/huggingface/text-generation-inference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from adapters.base import Call, Surface
from adapters.errors import UnsupportedParameter
from adapters.openai.refusal import BadRequest
from adapters.openai.urls import UrlPolicy, check_media_url

_BEGINNING, _END = "![](", ")"


def check_texts(call: Call, urls: UrlPolicy) -> None:
    """Pass a chat or text completion for a model with vision.

    Args:
        urls: those that the container may be sent to.

    Raises:
        UnsupportedParameter: the container would fetch something that may not be fetched.
    """
    names = ("messages", "tools", "tool_prompt") if call.surface is Surface.CHAT else ("prompt",)
    for name in names:
        for text in _texts(call.values.get(name)):
            if _BEGINNING in text:
                _check(text, name, urls)


def _check(text: str, param: str, urls: UrlPolicy) -> None:
    for after in text.split(_BEGINNING)[1:]:
        url, end, _ = after.partition(_END)
        if not end:
            raise UnsupportedParameter(
                "This model's container takes ![]( for the beginning of an image, so a ) must follow.", param
            )
        if urls.mode == "off" and not url.startswith("data:"):
            raise UnsupportedParameter(
                f"the image URL in {param} must be a data: URL: what a text names is not fetched.", param
            )
        try:
            check_media_url(url, "image", f"the image URL in {param}", urls, None)
        except BadRequest as error:
            raise UnsupportedParameter(error.message, param) from None


def _texts(value: Any) -> Iterator[str]:
    """Give every text in a JSON value; those of a list of parts as the one text they become."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield name
            if name == "content" and isinstance(inner, list):
                yield "".join(map(_part, inner))
            else:
                yield from _texts(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _texts(inner)


def _part(part: dict[str, Any]) -> str:
    if part.get("type") == "image_url":
        return f"{_BEGINNING}{part['image_url']['url']}{_END}"
    text = part.get("text")
    return text if isinstance(text, str) else ""
