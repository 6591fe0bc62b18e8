"""The names of request fields: which are known, and which could do more than shape one answer.

Known fields are OpenAI's (https://platform.openai.com/docs/api-reference/chat/create) and those of vLLM 0.8 to 0.33
(ChatCompletionRequest and CompletionRequest, vllm/entrypoints/openai/**/protocol.py).
"""

from __future__ import annotations

from adapters.base import Surface


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_COMMON = _names(
    # OpenAI's, both surfaces
    "model frequency_penalty logit_bias logprobs max_tokens n presence_penalty seed stop stream stream_options "
    "temperature top_p user "
    # vLLM's, both surfaces
    "best_of use_beam_search top_k min_p repetition_penalty length_penalty stop_token_ids include_stop_str_in_output "
    "ignore_eos min_tokens skip_special_tokens spaces_between_special_tokens truncate_prompt_tokens truncation_side "
    "allowed_token_ids bad_words prompt_logprobs logprob_token_ids add_special_tokens response_format "
    "structured_outputs structural_tag guided_json guided_regex guided_choice guided_grammar guided_whitespace_pattern "
    "echo return_tokens_as_token_ids return_token_ids return_token_offsets repetition_detection thinking_token_budget "
    "watermarking stream_interval routed_experts_prompt_start return_weight_versions"
)
KNOWN: dict[Surface, frozenset[str]] = {
    Surface.CHAT: _COMMON
    | _names(
        "messages audio function_call functions max_completion_tokens metadata modalities moderation "
        "parallel_tool_calls prediction prompt_cache_key prompt_cache_options prompt_cache_retention reasoning_effort "
        "safety_identifier service_tier store tool_choice tools top_logprobs verbosity web_search_options "
        "include_reasoning add_generation_prompt continue_final_message documents chat_template_kwargs "
        "return_prompt_text return_assistant_tokens_mask"
    ),
    Surface.COMPLETIONS: _COMMON | frozenset({"prompt", "suffix"}),
}
"""Fields that are not refused and need no policy."""

_CONTROL = {
    # djl-serving vllm_async_service.py tells the kind of a call by the keys prompt, inputs, messages and requestType;
    # vLLM's /invocations takes the first schema that fits (vllm/entrypoints/serve/sagemaker/api_router.py).
    Surface.CHAT: _names("prompt inputs prompt_embeds requestType adapters adapter parameters"),
    Surface.COMPLETIONS: _names("messages inputs prompt_embeds requestType adapters adapter parameters"),
}
_ROUTING = _names(
    # Read by gateways and SDKs as where to send a call, or with whose credentials.
    "api_base base_url api_key api_type api_version endpoint endpoint_name endpoint_url url host region region_name "
    "custom_llm_provider custom_attributes role_arn target_model target_variant target_container_hostname "
    "inference_component inference_component_name inference_id session_id extra_headers extra_body extra_query headers "
    "lora_request lora_name lora_path"
)
_ENGINE = _names(
    # Reach past the answer into the template, the processors, the scheduler, the caches or other hosts.
    "chat_template mm_processor_kwargs media_io_kwargs mm_payload return_mm_kwargs kv_transfer_params "
    "ec_transfer_params vllm_xargs request_id priority cache_salt guided_decoding_backend guided_options_request "
    "logits_processors"
)


def is_refused(surface: Surface, name: str) -> bool:
    """Say whether a field outside KNOWN is refused unless the model's configuration allows it."""
    return (
        name in _CONTROL[surface]
        or name in _ROUTING
        or name in _ENGINE
        or name.startswith("aws_")
        or name.endswith("_embeds")
    )
