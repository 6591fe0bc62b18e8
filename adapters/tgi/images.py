"""Images in a prompt, as TGI's vision models take them: `![](https://…)` or `![](data:image/png;base64,…)`.

router/src/validation.rs `prepare_input` of https://github.com/huggingface/text-generation-inference; models without
vision take the same for text.
"""

from __future__ import annotations

import re

from adapters.openai.caps import MAX_MEDIA_PARTS
from adapters.openai.refusal import BadRequest
from adapters.openai.request import FieldPolicy
from adapters.openai.urls import check_media_url
from adapters.tgi.refusal import invalid

_IMAGE = re.compile(r"!\[\]\(([^)]*)\)")


def check(inputs: str, policy: FieldPolicy) -> list[str]:
    """Return the URLs of the images in a prompt; none for models without vision.

    Raises:
        TgiRefusal: a URL may not be fetched from inside the operator's network, or there are too many.
    """
    if "image" not in policy.modalities or "![](" not in inputs:
        return []
    urls = _IMAGE.findall(inputs)
    if len(urls) > MAX_MEDIA_PARTS and "messages" not in policy.allow_fields:
        raise invalid(f"`inputs` must hold at most {MAX_MEDIA_PARTS} images. Given: {len(urls)}")
    of_container = policy.urls.of_container
    for url in urls:
        if of_container.mode == "off" and not url.startswith("data:"):
            raise invalid("images in `inputs` must be data: URLs: what a text names is not fetched")
        try:
            check_media_url(url, "image", "inputs", of_container, policy.max_pixels)
        except BadRequest as error:
            raise invalid(error.message) from None
    return urls
