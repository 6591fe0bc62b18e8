"""Which fields vLLM's whole replies have, in which order, by version.

A whole reply spells out every field of its schema, nulls included; a stream leaves out what is not set. From the
classes ChatCompletionResponse, CompletionResponse and those below them in vllm/entrypoints/openai/**/protocol.py of
0.8.4, 0.9.2, 0.10.2, 0.11, 0.12, 0.14, 0.16 to 0.26, 0.28, 0.30, 0.32 and 0.33.
"""

from __future__ import annotations

from dataclasses import dataclass

from adapters.base import Surface


@dataclass(frozen=True, slots=True)
class Layout:
    """Field names of a whole reply, in order."""

    reply: tuple[str, ...]
    choice: tuple[str, ...]
    message: tuple[str, ...]
    """Of a chat; empty for completions."""
    usage: tuple[str, ...]
    prompt_details: tuple[str, ...]
    """Inside `usage.prompt_tokens_details`, if that is not null."""
    empty_tool_calls: bool
    """A message without tool calls has `"tool_calls":[]`."""


def layout(surface: Surface, minor: int) -> Layout:
    """Return the layout of vLLM 0.`minor`, from 0.8 on; versions newer than known are taken for the newest."""
    chat = surface is Surface.CHAT
    reply = ["id", "object", "created", "model", "choices"]
    if minor == 21:
        reply.insert(3, "prompt_routed_experts")
    if minor >= 10:
        reply += ["service_tier", "system_fingerprint"]
    reply.append("usage")
    if chat:
        reply.append("prompt_logprobs")
        if minor >= 10:
            reply.append("prompt_token_ids")
        if minor >= 21:
            reply.append("prompt_text")
    if minor >= 9:
        reply.append("kv_transfer_params")
    if minor >= 26:
        reply.append("ec_transfer_params")
    if minor >= 25:
        reply.append("metrics")

    choice = ["index", "message" if chat else "text", "logprobs", "finish_reason", "stop_reason"]
    if minor >= 10:
        choice.append("token_ids")
    if not chat:
        choice.append("prompt_logprobs")
        if minor >= 10:
            choice.append("prompt_token_ids")
    if minor >= 21:
        choice.append("routed_experts")
    if minor >= 33:
        choice.append("weight_versions")

    details = ("cached_tokens", "created_cache_tokens", "multimodal_tokens")
    usage = ["prompt_tokens", "total_tokens", "completion_tokens", "prompt_tokens_details"]
    if minor >= 28:
        usage.append("completion_tokens_details")
    return Layout(
        reply=tuple(reply),
        choice=tuple(choice),
        message=_message(minor) if chat else (),
        usage=tuple(usage),
        prompt_details=details if minor >= 26 else details[:1],
        empty_tool_calls=minor < 24,
    )


def _message(minor: int) -> tuple[str, ...]:
    if minor < 10:
        return ("role", "reasoning_content", "content", "tool_calls")
    fields = ("role", "content", "refusal", "annotations", "audio", "function_call", "tool_calls")
    if minor < 11:
        return (*fields, "reasoning_content")
    if minor < 16:
        return (*fields, "reasoning", "reasoning_content")
    return (*fields, "reasoning")
