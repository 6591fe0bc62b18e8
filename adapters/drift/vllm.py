"""What vLLM 0.8 to 0.33 makes of each field, and so LMI 15 to 28, whose handler hands bodies on to the vLLM inside it.

Compared from ChatCompletionRequest and CompletionRequest, and what becomes of their fields (to_sampling_params,
vllm/entrypoints/openai/**/serving*.py, vllm/v1/engine/processor.py, vllm/sampling_params.py), in 0.8.4, 0.9.2, 0.10.0,
0.10.2, 0.11.1, 0.12 to 0.14, 0.16 to 0.19, 0.20.1, 0.21, 0.22.1 and 0.23 to 0.33. A version is its minor number, which
stands for its last patch release.
"""

from __future__ import annotations

from functools import cache

from adapters.drift import constraints, values
from adapters.drift.messages import thoughts_renamed
from adapters.drift.table import (
    CHAT,
    COMPLETIONS,
    Cell,
    Dialect,
    Does,
    Row,
    Section,
    Translator,
    always,
    never,
    refused,
    since,
    until,
)

PASSED = Cell(Does.PASSED)
_LOW = ("low", "medium", "high")


def _efforts(*known: str) -> Cell:
    return Cell(Does.PASSED, ", ".join(known), values.effort_among(*known))


_TO_STRUCTURED = constraints.guided_to_structured
_CHECKED = Cell(
    Does.PASSED,
    "`disable_additional_properties` refused; white space as the server has it",
    constraints.check_structured,
)
_NO_TAGS = Cell(Does.REFUSED, "", constraints.tag_refused)
_REGEX_TO_STRUCTURED = Cell(
    Does.PASSED, "TGI's `regex` translated to `structured_outputs`", constraints.format_regex_to_structured
)
_TAG_TO_STRUCTURED = Cell(Does.RENAMED, "`structured_outputs.structural_tag`", constraints.tag_to_structured)


def _guided(name: str) -> Row:
    renamed = Cell(Does.RENAMED, f"`structured_outputs.{constraints.GUIDED[name]}`", _TO_STRUCTURED)
    return Row(name, ((0, PASSED), (12, renamed)))


SECTIONS = (
    Section(
        "Prompts",
        (
            Row(
                "messages",
                (
                    (0, Cell(Does.PASSED, "reasoning in the history is ignored")),
                    (11, Cell(Does.PASSED, "`reasoning_content` in the history renamed `reasoning`", thoughts_renamed)),
                    (22, Cell(Does.PASSED)),
                ),
                CHAT,
            ),
            *always("prompt", Does.PASSED, surfaces=COMPLETIONS),
            *always("add_special_tokens echo", Does.PASSED),
            *always(
                "add_generation_prompt chat_template_kwargs continue_final_message documents",
                Does.PASSED,
                surfaces=CHAT,
            ),
            Row(
                "truncate_prompt_tokens",
                ((0, Cell(Does.PASSED, "`-1` refused", values.truncated_to_number)), (10, PASSED)),
            ),
            since("truncation_side", 22, "left"),
            Row(
                "suffix",
                ((0, refused("suffix", "", "")), (31, Cell(Does.PASSED, "if the model fills in the middle"))),
                COMPLETIONS,
            ),
            never("suffix", surfaces=CHAT),
            never("documents", "", [], surfaces=COMPLETIONS),
            never("chat_template_kwargs", "", {}, surfaces=COMPLETIONS),
            never("continue_final_message", "", False, surfaces=COMPLETIONS),
        ),
    ),
    Section(
        "Sampling and length",
        (
            *always(
                "n temperature top_p min_p frequency_penalty presence_penalty repetition_penalty seed logit_bias"
                " use_beam_search length_penalty min_tokens ignore_eos stop stop_token_ids include_stop_str_in_output"
                " skip_special_tokens spaces_between_special_tokens",
                Does.PASSED,
            ),
            Row("top_k", ((0, Cell(Does.PASSED, "`0` becomes `-1`", values.top_k_off)), (10, PASSED))),
            *always("max_tokens", Does.PASSED, surfaces=CHAT),
            *always("max_tokens", Does.PASSED, "16 if absent", surfaces=COMPLETIONS),
            *always("max_completion_tokens", Does.PASSED, surfaces=CHAT),
            never("max_completion_tokens", "Use max_tokens instead.", surfaces=COMPLETIONS),
            Row("best_of", ((0, Cell(Does.IGNORED, "if equal to `n`; else refused", values.best_of)),)),
            since("allowed_token_ids", 9, surfaces=CHAT),
            *always("allowed_token_ids", Does.PASSED, surfaces=COMPLETIONS),
            since("bad_words", 9, [], surfaces=CHAT),
            since("bad_words", 26, [], surfaces=COMPLETIONS),
            since("repetition_detection", 17),
            since("watermarking", 30, False),
        ),
    ),
    Section(
        "Structured output",
        (
            Row(
                "response_format",
                (
                    (
                        0,
                        Cell(
                            Does.PASSED,
                            "`structural_tag` refused; TGI's `regex` translated to `guided_regex`",
                            constraints.format_without_tags,
                        ),
                    ),
                    (
                        9,
                        Cell(
                            Does.PASSED,
                            "TGI's `regex` translated to `guided_regex`",
                            constraints.format_regex_to_guided,
                        ),
                    ),
                    (11, _REGEX_TO_STRUCTURED),
                ),
                CHAT,
            ),
            Row(
                "response_format",
                (
                    (
                        0,
                        Cell(
                            Does.TRANSLATED,
                            "`json_schema` to `guided_json`, TGI's `regex` to `guided_regex`; `structural_tag` refused",
                            constraints.format_schema_to_guided,
                        ),
                    ),
                    (
                        11,
                        Cell(
                            Does.PASSED,
                            "`structural_tag` and TGI's `regex` translated to `structured_outputs`",
                            constraints.format_tag_to_structured,
                        ),
                    ),
                    (12, _REGEX_TO_STRUCTURED),
                ),
                COMPLETIONS,
            ),
            *(_guided(name) for name in constraints.GUIDED),
            Row(
                "guided_whitespace_pattern",
                (
                    (0, PASSED),
                    (12, Cell(Does.IGNORED, "sent as `structured_outputs.whitespace_pattern`", _TO_STRUCTURED)),
                ),
            ),
            Row(
                "structured_outputs",
                (
                    (
                        0,
                        Cell(
                            Does.TRANSLATED,
                            "to `guided_*`; `structural_tag` and `disable_additional_properties` refused",
                            constraints.structured_without_tags_to_guided,
                        ),
                    ),
                    (
                        9,
                        Cell(
                            Does.TRANSLATED,
                            "to `guided_*`, `structural_tag`; `disable_additional_properties` refused",
                            constraints.structured_to_guided,
                        ),
                    ),
                    (11, _CHECKED),
                ),
                CHAT,
            ),
            Row(
                "structured_outputs",
                (
                    (
                        0,
                        Cell(
                            Does.TRANSLATED,
                            "to `guided_*`; `structural_tag` and `disable_additional_properties` refused",
                            constraints.structured_without_tags_to_guided,
                        ),
                    ),
                    (11, _CHECKED),
                ),
                COMPLETIONS,
            ),
            Row("structural_tag", ((0, _NO_TAGS), (9, PASSED), (12, _TAG_TO_STRUCTURED)), CHAT),
            Row("structural_tag", ((0, _NO_TAGS), (11, _TAG_TO_STRUCTURED)), COMPLETIONS),
        ),
    ),
    Section(
        "Tools",
        (
            *always("tools tool_choice", Does.PASSED, surfaces=CHAT),
            never("tools", "", [], surfaces=COMPLETIONS),
            never("tool_choice", "", "none", surfaces=COMPLETIONS),
            Row(
                "parallel_tool_calls",
                ((0, Cell(Does.PASSED, "`false` refused", values.one_tool_at_once)), (12, PASSED)),
                CHAT,
            ),
            never("functions", "Use tools instead."),
            never("function_call", "Use tool_choice instead."),
        ),
    ),
    Section(
        "Reasoning",
        (
            Row(
                "reasoning_effort",
                (
                    (0, refused("reasoning_effort")),
                    (10, _efforts(*_LOW)),
                    (18, _efforts("none", *_LOW)),
                    (21, _efforts("none", "minimal", *_LOW, "xhigh", "max")),
                ),
                CHAT,
            ),
            never("reasoning_effort", surfaces=COMPLETIONS),
            Row(
                "include_reasoning",
                (
                    (0, refused("include_reasoning", "", True)),
                    (10, Cell(Does.PASSED, "`false` in a stream refused", values.thoughts_in_streams)),
                    (26, PASSED),
                ),
                CHAT,
            ),
            since("thinking_token_budget", 19, surfaces=CHAT),
            since("thinking_token_budget", 22, surfaces=COMPLETIONS),
        ),
    ),
    Section(
        "What the answer tells",
        (
            *always("logprobs prompt_logprobs return_tokens_as_token_ids", Does.PASSED),
            *always("top_logprobs", Does.PASSED, surfaces=CHAT),
            never("top_logprobs", "Use logprobs instead.", surfaces=COMPLETIONS),
            since("logprob_token_ids", 26, []),
            since("return_token_ids", 10, False),
            since("return_prompt_text", 21, False, surfaces=CHAT),
            since("return_token_offsets", 25, False),
            Row(
                "return_assistant_tokens_mask",
                (
                    (0, refused("return_assistant_tokens_mask", "", False)),
                    (25, PASSED),
                    (31, refused("return_assistant_tokens_mask", "", False)),
                ),
                CHAT,
            ),
            since("routed_experts_prompt_start", 28, 0),
            since("return_weight_versions", 33, False),
        ),
    ),
    Section(
        "Streams and other kinds of answers",
        (
            *always("stream", Does.PASSED),
            *always("stream_options", Does.TRANSLATED, "usage is always asked for"),
            Row("stream_interval", ((0, Cell(Does.IGNORED)), (27, PASSED))),
            Row("modalities", ((0, Cell(Does.IGNORED, '`["text"]`; else refused', values.text_only)),), CHAT),
            never("audio", surfaces=CHAT),
            never("moderation", surfaces=CHAT),
            never("verbosity", "", "medium", surfaces=CHAT),
            never("web_search_options", surfaces=CHAT),
        ),
    ),
    Section(
        "What changes no answer",
        (
            *always("model", Does.TRANSLATED, "to the container's name for it, or left out"),
            *always("user", Does.IGNORED),
            *always(
                "metadata prediction prompt_cache_key prompt_cache_options prompt_cache_retention safety_identifier"
                " service_tier store",
                Does.IGNORED,
                surfaces=CHAT,
            ),
        ),
    ),
    Section(
        "Only where `allow_fields` lets them through",
        (
            *always("priority", Does.PASSED),
            *always("chat_template mm_processor_kwargs", Does.PASSED, surfaces=CHAT),
            since("media_io_kwargs", 18, {}, surfaces=CHAT),
            *always("request_id", Does.PASSED, surfaces=CHAT),
            Row("request_id", ((0, Cell(Does.IGNORED)), (10, PASSED)), COMPLETIONS),
            since("cache_salt", 9, surfaces=CHAT),
            since("cache_salt", 10, surfaces=COMPLETIONS),
            since("kv_transfer_params", 9),
            since("ec_transfer_params", 26),
            since("vllm_xargs", 9, {}),
            until("guided_decoding_backend", 11),
            until("logits_processors", 16),
        ),
    ),
)

VLLM = Dialect("vLLM", {minor: f"0.{minor}" for minor in range(8, 34)}, SECTIONS)


@cache
def translator(minor: int) -> Translator:
    """Return what translates calls for vLLM 0.`minor`; versions newer than known are taken for the newest."""
    return Translator(VLLM, minor)
