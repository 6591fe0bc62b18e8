"""What LMI itself reads from `option.*`, beside the arguments of the vLLM it carries.

https://github.com/deepjavalibrary/djl-serving: engines/python/setup/djl_python/properties_manager, lmi_vllm and
lmcache_utils.py; engines/python/src/main/java/ai/djl/python/engine/{PyModel,PyEnv}.java;
wlm/src/main/java/ai/djl/serving/wlm; serving/docs/lmi, serving/docs/stateful_sessions.md
"""

from __future__ import annotations

from typing import NamedTuple


class Option(NamedTuple):
    """One option of LMI's own."""

    kind: str
    """How its value is written: bool, int, float, str, list or json."""
    since: int = 15
    """The first version that has it, of those that the tool knows."""


OPTIONS: dict[str, Option] = {
    # How requests are served.
    "async_mode": Option("bool"),
    "rolling_batch": Option("str"),
    "max_rolling_batch_size": Option("int"),
    "max_rolling_batch_prefill_tokens": Option("int"),
    "entrypoint": Option("str"),
    "handler": Option("str"),
    "task": Option("str"),
    "normalize": Option("bool", 25),
    "enable_streaming": Option("str"),
    "batch_size": Option("int"),
    "max_batch_delay": Option("int"),
    "max_output_size": Option("int"),
    "output_formatter": Option("str"),
    "input_formatter": Option("str", 16),
    "tgi_compat": Option("bool"),
    "bedrock_compat": Option("bool"),
    "waiting_steps": Option("int"),
    # How the model is spread over the machine.
    "tensor_parallel_degree": Option("int"),
    "pipeline_parallel_degree": Option("int"),
    "cluster_size": Option("int"),
    "parallel_loading": Option("bool"),
    "mpi_mode": Option("bool"),
    "device_map": Option("str"),
    "cpu_offload_gb_per_gpu": Option("float"),
    # How it is loaded.
    "model_id": Option("str"),
    "revision": Option("str"),
    "trust_remote_code": Option("bool"),
    "dtype": Option("str"),
    "quantize": Option("str"),
    "load_in_4bit": Option("bool"),
    "load_in_8bit": Option("bool"),
    "low_cpu_mem_usage": Option("bool"),
    "disable_flash_attn": Option("bool"),
    "draft_model_id": Option("str"),
    "spec_length": Option("int"),
    "device": Option("str"),
    "device_id": Option("int"),
    # The worker processes.
    "model_loading_timeout": Option("int"),
    "predict_timeout": Option("int"),
    "python_executable": Option("str"),
    "enable_venv": Option("bool"),
    # Chats, tools and thoughts.
    "chat_template": Option("str"),
    "chat_template_content_format": Option("str"),
    "enable_auto_tool_choice": Option("bool"),
    "tool_call_parser": Option("str"),
    "enable_reasoning": Option("bool"),
    "reasoning_parser": Option("str"),
    # LoRA: the others are vLLM's own arguments.
    "enable_lora": Option("bool"),
    "max_loras": Option("int"),
    "long_lora_scaling_factors": Option("list"),
    # Sessions, and the cache outside the GPU.
    "enable_stateful_sessions": Option("bool", 16),
    "sessions_path": Option("str", 16),
    "sessions_expiration": Option("int", 16),
    "lmcache_auto_config": Option("bool", 19),
    "lmcache_config_file": Option("str", 19),
}

INSTEAD = {
    "model": "model_id",
    "tensor_parallel_size": "tensor_parallel_degree",
    "pipeline_parallel_size": "pipeline_parallel_degree",
    "max_num_seqs": "max_rolling_batch_size",
}
"""vLLM's arguments that LMI passes by another name, and refuses where both differ."""

IN_MANIFEST = {
    "model_id": "model.id",
    "revision": "model.revision",
    "trust_remote_code": "model.trust_remote_code",
    "model_loading_timeout": "timeouts.loading_s",
}
"""Options that a manifest says elsewhere."""

_LISTED = (
    "BAD_REQUEST_HTTP_CODE BATCH_SIZE CHUNKED_READ_TIMEOUT ERROR_RATE_ANY ERROR_RATE_MODEL "
    "ERROR_RATE_SERVER ERROR_RATE_WLM FAIL_FAST FEATURES HEALTH_CHECK_OVERRIDE INFERENCE_ADDRESS "
    "JOB_QUEUE_SIZE LOAD_MODELS LOG_REQUEST_METRIC MANAGEMENT_ADDRESS MAX_BATCH_DELAY MAX_IDLE_TIME "
    "MAX_REQUEST_SIZE MAX_WORKERS MIN_WORKERS MODEL_STORE NUMBER_OF_NETTY_THREADS OPTS PROMETHEUS "
    "RETRY_THRESHOLD SERVER_ERROR_HTTP_CODE THROTTLE_ERROR_HTTP_CODE TIMEOUT_HTTP_CODE "
    "WLM_ERROR_HTTP_CODE"
)
SERVING = tuple(_LISTED.split())
"""Settings of the model server, `SERVING_` before them:
serving/src/main/java/ai/djl/serving/util/ConfigManager.java, serving/docs/configurations_model.md"""
