"""What is known of families of models: their parsers of tool calls and of reasoning, and what a prompt may hold.

https://docs.vllm.ai/en/latest/features/tool_calling.html, https://docs.vllm.ai/en/latest/features/reasoning_outputs.html,
https://docs.vllm.ai/en/latest/models/supported_models.html, and the models' cards on the hub.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from deploy import options

Modality = Literal["text", "image", "audio", "video"]


@dataclass(frozen=True, slots=True)
class Family:
    """Models that are served alike."""

    pattern: str
    """What the part of the id after the owner begins with, whatever its capitals."""
    tool_parsers: tuple[str, ...] = ()
    """Parsers of tool calls, the best first: a release of vLLM that lacks one may have the next."""
    reasoning_parser: str | None = None
    modalities: tuple[Modality, ...] = ("text",)
    context_length: int | None = None
    """Tokens that the model was made for."""
    content_format: Literal["string", "openai"] | None = None
    """How its chat template wants contents, where vLLM's own guess is not to be left to chance."""

    def tool_parser(self, engine: str) -> str | None:
        """Return the parser of tool calls for a release of vLLM, None where it has none."""
        return next(
            (one for one in self.tool_parsers if options.parser_fault("tool_parsers", one, engine) is None), None
        )

    def thoughts(self, engine: str) -> str | None:
        """Return the parser of reasoning for a release of vLLM, None where it has none."""
        name = self.reasoning_parser
        return name if name and options.parser_fault("reasoning_parsers", name, engine) is None else None


VISION: tuple[Modality, ...] = ("text", "image")
FAMILIES = (
    # Distillations speak as their base does, but think as R1.
    Family(r"deepseek-r1-distill-llama", reasoning_parser="deepseek_r1", context_length=131_072),
    Family(r"deepseek-r1-distill-qwen", reasoning_parser="deepseek_r1", context_length=131_072),
    Family(r"deepseek-r1", ("deepseek_v3",), "deepseek_r1", context_length=163_840),
    Family(r"deepseek-v3\.1", ("deepseek_v31",), "deepseek_v3", context_length=163_840),
    Family(r"deepseek-v3\.2", ("deepseek_v32",), "deepseek_v3", context_length=163_840),
    Family(r"deepseek-v3", ("deepseek_v3",), context_length=163_840),
    Family(r"llama-4-scout", ("llama4_pythonic", "pythonic"), modalities=VISION, context_length=10_485_760,
           content_format="openai"),
    Family(r"llama-4-maverick", ("llama4_pythonic", "pythonic"), modalities=VISION, context_length=1_048_576,
           content_format="openai"),
    Family(r"llama-3\.2-(11b|90b)-vision", ("llama3_json",), modalities=VISION, context_length=131_072),
    Family(r"(meta-)?llama-3\.[1-3]", ("llama3_json",), context_length=131_072),
    Family(r"gemma-3-(4b|12b|27b)", modalities=VISION, context_length=131_072, content_format="openai"),
    # Its card says 131,072, which it has with YaRN alone: its configuration says this.
    Family(r"qwq-32b", ("hermes",), "deepseek_r1", context_length=40_960),
    Family(r"qwen2\.5-vl", ("hermes",), modalities=("text", "image", "video"), context_length=128_000,
           content_format="openai"),
    Family(r"qwen2\.5.*-1m", ("hermes",), context_length=1_010_000),
    Family(r"qwen2\.5", ("hermes",), context_length=32_768),
    Family(r"qwen3-coder", ("qwen3_coder", "hermes"), context_length=262_144),
    Family(r"qwen3-.*thinking", ("hermes",), "deepseek_r1", context_length=262_144),
    Family(r"qwen3-.*instruct-2507|qwen3-next", ("hermes",), context_length=262_144),
    Family(r"qwen3-vl", ("hermes",), modalities=("text", "image", "video"), context_length=262_144,
           content_format="openai"),
    Family(r"qwen3-", ("hermes",), "qwen3", context_length=40_960),
    Family(r"mistral-small-3\.[12]|mistral-small-24.*2503|pixtral", ("mistral",), modalities=VISION,
           context_length=131_072),
    Family(r"mistral-large", ("mistral",), context_length=131_072),
    Family(r"mistral-7b-instruct-v0\.3", ("mistral",), context_length=32_768),
    Family(r"mistral-7b", context_length=32_768),
    Family(r"gpt-oss", ("openai",), "openai_gptoss", context_length=131_072),
)  # fmt: skip
"""The first that fits is the one."""


def of_model(model_id: str) -> Family | None:
    """Return the family of a model on the hub, None if it is unknown or its artefacts are in S3."""
    name = model_id.rsplit("/", 1)[-1]
    if model_id.startswith("s3://"):
        return None
    return next((family for family in FAMILIES if re.match(family.pattern, name, re.IGNORECASE)), None)
