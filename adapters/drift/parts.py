"""Which vLLM takes which parts of a message: MM_PARSER_MAP and what is beside it in vllm/entrypoints/chat_utils.py."""

from __future__ import annotations

from adapters.errors import UnsupportedParameter

FIRST: dict[str, int] = {
    "thinking": 10,
    "input_text": 10,
    "input_image": 10,
    "output_text": 12,
    "audio_embeds": 12,
    "prompt_embeds": 21,
    "tool_reference": 21,
    "video_embeds": 30,
}
"""Type of a content part → the first minor version that takes it; the others are as old as 0.8."""
_INSTEAD = {"input_text": " Use text instead.", "input_image": " Use image_url instead."}


def check_parts(types: frozenset[str], minor: int) -> None:
    """Pass parts of these types to vLLM 0.`minor`.

    vLLM answers `Unknown part type` from deep inside, which some versions of LMI lose on the way.

    Raises:
        UnsupportedParameter: that version does not take one of them.
    """
    for name in sorted(types):
        if minor < FIRST.get(name, 0):
            raise UnsupportedParameter(
                f"This model's container takes no parts of the type {name}.{_INSTEAD.get(name, '')}", "messages"
            )
