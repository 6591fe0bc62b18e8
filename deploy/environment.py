"""The environment that makes a container serve a model as its manifest says.

LMI: https://docs.djl.ai/master/docs/serving/serving/docs/lmi/deployment_guide/configurations.html, and for what is
recommended, the announcement of LMI 15 at https://aws.amazon.com/blogs/machine-learning/; vLLM:
https://aws.github.io/deep-learning-containers/vllm/configuration/; TGI:
https://huggingface.co/docs/text-generation-inference/reference/launcher and the image's sagemaker-entrypoint.sh.
"""

from __future__ import annotations

import json
from typing import Any

from deploy import families, images, instances, options
from deploy.manifest import Component, Manifest
from deploy.manifestfile import meaning
from deploy.resources import SecretRef
from deploy.sections import Container, Model, Secret

HANDLER = "djl_python.lmi_vllm.vllm_async_service"
MOUNTED = "/opt/ml/model"
"""Where SageMaker puts what it fetched from S3."""
MODEL_VARIABLES = {
    "lmi": ("HF_MODEL_ID", "HF_REVISION", "HF_MODEL_TRUST_REMOTE_CODE", "HF_TOKEN"),
    "vllm": ("SM_VLLM_MODEL", "SM_VLLM_REVISION", "SM_VLLM_TRUST_REMOTE_CODE", "HF_TOKEN"),
    # Every release of TGI reads this name of the token; HF_TOKEN only later ones.
    "tgi": ("HF_MODEL_ID", "HF_MODEL_REVISION", "HF_MODEL_TRUST_REMOTE_CODE", "HUGGING_FACE_HUB_TOKEN"),
}
"""Container → the variables that say which model, which revision, whether its code runs, and the hub's token."""
PREFIXES = {"lmi": "OPTION_", "vllm": "SM_VLLM_", "tgi": ""}
"""Container → what stands before an option's or argument's name in capitals."""
ONLY_ON = frozenset(
    {
        *("aggregate_engine_logging", "data_parallel_multi_port_external_lb", "disable_log_stats", "grpc", "headless"),
        *("data_parallel_external_lb", "data_parallel_hybrid_lb", "fail_on_environ_validation"),
    }
)
"""Arguments of vLLM that have no `--no-…`: they are off by themselves. vllm/engine/arg_utils.py, cli_args.py"""
MOST_VARIABLES = 100
LONGEST_VALUE = 1024


def environment_of(manifest: Manifest, served: Manifest | Component) -> dict[str, str | SecretRef]:
    """Return the environment of a model's container, in the order of the alphabet."""
    container, model = manifest.container_of(served), served.model
    if container is None or model is None:
        raise ValueError("a manifest that was checked has both")
    found = _of_model(container.kind, model)
    if container.kind == "lmi":
        found["SERVING_FAIL_FAST"] = "true"
    # The image's entry point puts SM_NUM_GPUS over NUM_SHARD.
    if container.kind == "tgi" and served.engine.get("num_shard") is None and (count := gpus_of(manifest, served)):
        found["SM_NUM_GPUS"] = str(count)
    engine = images.engine_version(container.kind, container.version)
    for name, value in _arguments(container, model, manifest, served).items():
        if value is None:
            continue
        if container.kind == "vllm" and meaning(value) is False and name not in ONLY_ON:
            name, value = f"no_{name}", True  # the image drops what is false, and then what is on by itself stays on
        if container.kind == "lmi" and isinstance(value, list) and len(value) == 1 and options.one_value_in_lmi(name):
            (value,) = value
        found[f"{PREFIXES[container.kind]}{name.upper()}"] = written(name, value, engine)
    for name, setting in served.environment.items():
        found[name] = reference(setting) if setting.value is None else str(setting.value)
    return dict(sorted(found.items()))


def _of_model(kind: str, model: Model) -> dict[str, str | SecretRef]:
    where, revision, trusted, token = MODEL_VARIABLES[kind]
    found: dict[str, str | SecretRef] = {}
    # LMI finds by itself what SageMaker has mounted.
    if not model.in_s3 or kind != "lmi":
        found[where] = MOUNTED if model.in_s3 else model.id
    if model.revision:
        found[revision] = model.revision
    if model.trust_remote_code:
        found[trusted] = "true"
    if model.token:
        found[token] = reference(model.token)
    return found


def _arguments(container: Container, model: Model, manifest: Manifest, served: Manifest | Component) -> dict[str, Any]:
    """Return options and arguments by name: what is recommended, and over it what the manifest says."""
    if container.kind == "tgi":
        return served.engine
    if container.kind == "lmi":
        found = recommended(container, model, served.timeouts.loading)
    else:
        found = parsers_of(model, images.engine_version("vllm", container.version) or container.version)
        if count := gpus_of(manifest, served):
            found["tensor_parallel_size"] = count
    said = served.option | served.engine
    for parser, switch in PARSER_SWITCHES.items():
        # Either engine refuses to start with the switch alone: it goes with the parser.
        if parser in said and said[parser] is None:
            found.pop(switch, None)
    return found | said


PARSER_SWITCHES = {"tool_call_parser": "enable_auto_tool_choice", "reasoning_parser": "enable_reasoning"}


def reference(secret: Secret) -> SecretRef:
    """Return where a secret is, as specs have it."""
    if secret.env is not None:
        return SecretRef("env", secret.env)
    return SecretRef("secretsmanager", secret.secret or "", secret.json_key)


def gpus_of(manifest: Manifest, served: Manifest | Component) -> int | None:
    """Return how many GPUs a copy of the model has, None if that is not known."""
    if isinstance(served, Component):
        return served.accelerators
    return min((count for one in manifest.instances.all_types if (count := instances.gpus(one))), default=None)


def recommended(container: Container, model: Model, startup_s: int) -> dict[str, Any]:
    """Return LMI's options as its makers recommend them, and the parsers of the model's family."""
    version = int(container.version)
    found: dict[str, Any] = {
        "async_mode": True,
        "rolling_batch": "disable",
        "entrypoint": HANDLER,
        "tensor_parallel_degree": "max",
        "model_loading_timeout": startup_s,
    }
    return found | parsers_of(model, images.LMI_VLLM[version], reasoning_switch=version == 15)


def parsers_of(model: Model, engine: str, *, reasoning_switch: bool = False) -> dict[str, Any]:
    """Return the arguments that a model's family needs for tools, thoughts and contents."""
    family = families.of_model(model.known_as)
    found: dict[str, Any] = {}
    if family and (parser := family.tool_parser(engine)):
        found |= {"enable_auto_tool_choice": True, "tool_call_parser": parser}
    if family and (thoughts := family.thoughts(engine)):
        # vLLM 0.8 wants to be told that there is reasoning at all.
        found |= {"reasoning_parser": thoughts} | ({"enable_reasoning": True} if reasoning_switch else {})
    if family and family.content_format:
        found["chat_template_content_format"] = family.content_format
    return found


def written(name: str, value: Any, engine: str | None = None) -> str:
    """Return an option's value as the environment has it.

    vLLM 0.8 takes limits of images as image=2,video=1, later releases as JSON.
    """
    value = meaning(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    if name == "limit_mm_per_prompt" and engine and engine.startswith("0.8.") and isinstance(value, dict):
        return ",".join(f"{kind}={most}" for kind, most in value.items())
    if isinstance(value, dict | list):
        return json.dumps(value, separators=(",", ":"))
    return str(value)
