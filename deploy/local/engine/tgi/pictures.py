"""Pictures in a prompt, which TGI takes as Markdown: `![](data:image/png;base64,…)`.

https://github.com/huggingface/text-generation-inference: router/src/validation.rs (fetch_image, prepare_input)
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator

from deploy.local.engine import images
from deploy.local.engine.images import Picture
from deploy.local.engine.tgi.errors import invalid

_MARKUP = re.compile(r"!\[\]\([^)]*\)")


def chunks_of(inputs: str) -> Iterator[str | Picture]:
    """Give the texts of a prompt and the pictures between them.

    Raises:
        TgiError: a picture that cannot be had; nothing is fetched from the network.
    """
    end = 0
    for found in _MARKUP.finditer(inputs):
        if found.start() > end:
            yield inputs[end : found.start()]
        yield _load(found[0])
        end = found.end()
    if end < len(inputs):
        yield inputs[end:]


def without(inputs: str) -> str:
    """Return a prompt's text without its pictures."""
    return _MARKUP.sub("", inputs)


def _load(markup: str) -> Picture:
    url = markup[len("![](") : -1]
    if url.startswith(("http://", "https://")):
        raise invalid(f"Could not fetch image: error sending request for url ({url})")
    if not url.startswith("data:"):
        raise invalid(f"invalid image content: {markup}")
    content = url[len("data:") :]
    parts = content.split(";")
    if len(parts) != 2 or not parts[1].startswith("base64,"):
        raise invalid(f"invalid image content: {content if len(parts) != 2 else parts[1]}")
    try:
        data = base64.b64decode(parts[1][len("base64,") :], validate=True)
    except binascii.Error as error:
        raise invalid(f"base64 encoding is invalid: {error}") from None
    picture = images.measure(data)
    if picture is None:
        raise invalid("invalid image: The image format could not be determined")
    return picture
