"""The launcher's arguments of Text Generation Inference, each an environment variable in capitals.

https://huggingface.co/docs/text-generation-inference/reference/launcher, and
https://github.com/huggingface/text-generation-inference: launcher/src/main.rs
"""

from __future__ import annotations

_NAMES = {
    "int": (
        "validation_workers num_shard speculate max_concurrent_requests max_best_of max_stop_sequences "
        "max_top_n_tokens max_input_tokens max_input_length max_total_tokens max_batch_prefill_tokens "
        "max_batch_total_tokens max_waiting_tokens max_batch_size max_client_batch_size payload_limit port "
        "master_port prometheus_port graceful_termination_timeout"
    ),
    "float": "waiting_served_ratio cuda_memory_fraction rope_factor watermark_gamma watermark_delta",
    "bool": (
        "sharded disable_custom_kernels json_output disable_grammar_support enable_prefill_logprobs "
        "messages_api_enabled trust_remote_code env"
    ),
    "str": (
        "quantize dtype kv_cache_dtype cuda_graphs hostname shard_uds_path master_addr huggingface_hub_cache "
        "weights_cache_override rope_scaling otlp_endpoint otlp_service_name cors_allow_origin "
        "tokenizer_config_path lora_adapters usage_stats revision model_id"
    ),
}
ARGUMENTS = {name: kind for kind, names in _NAMES.items() for name in names.split()}
"""Argument → how its value is written."""

IN_MANIFEST = {
    "model_id": "model.id",
    "revision": "model.revision",
    "trust_remote_code": "model.trust_remote_code",
}
"""Arguments that a manifest says elsewhere."""
