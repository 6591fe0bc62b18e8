"""The manifests that come along, one per family of models: what each makes, whether it fits, and its gateway's entry.

`python -m tests.deploy.test_deploy_endpoints` writes the golden files anew.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import deploy.endpoints
from deploy import instances
from deploy.desired import desired
from deploy.environment import environment_of
from deploy.export import context_length, export, public_names
from deploy.manifest import Manifest, load
from deploy.resources import ArnOf, Resource, SecretRef
from gateway.config.load import parse as gateway_config
from tests.deploy.manifests import REGION

FOLDER = Path(str(deploy.endpoints.__file__)).parent
GOLDEN = Path(__file__).with_name("golden")
NAMES = sorted(path.stem for path in FOLDER.glob("*.yaml"))

# GB of weights, bytes of cache that a token takes on all GPUs together, the machine, parsers of tools and of thoughts.
# The cache of DeepSeek's attention stands whole on each of the eight GPUs.
FACTS = {
    "deepseek-r1": (689, 8 * 61 * 576 * 2, "ml.p5e.48xlarge", "deepseek_v3", "deepseek_r1"),
    "deepseek-r1-distill-llama-70b": (141, 80 * 8 * 128 * 4, "ml.g6e.48xlarge", None, "deepseek_r1"),
    "deepseek-v3": (689, 8 * 61 * 576 * 2, "ml.p5e.48xlarge", "deepseek_v3", None),
    "gemma-3-27b": (55, 62 * 16 * 128 * 4, "ml.g5.12xlarge", None, None),
    "llama-3-1-8b": (16.1, 32 * 8 * 128 * 4, "ml.g5.2xlarge", "llama3_json", None),
    "llama-3-3-70b": (141, 80 * 8 * 128 * 4, "ml.p4d.24xlarge", "llama3_json", None),
    "llama-4-maverick": (405, 48 * 8 * 128 * 4, "ml.p5.48xlarge", "llama4_pythonic", None),
    "llama-4-scout": (218, 48 * 8 * 128 * 4, "ml.p5.48xlarge", "llama4_pythonic", None),
    "mistral-7b": (14.5, 32 * 8 * 128 * 4, "ml.g5.2xlarge", "mistral", None),
    "mistral-large": (246, 88 * 8 * 128 * 4, "ml.g6e.48xlarge", "mistral", None),
    "qwen2-5-vl-32b": (67, 64 * 8 * 128 * 4, "ml.g5.12xlarge", "hermes", None),
    "qwq-32b": (65.5, 64 * 8 * 128 * 4, "ml.g5.12xlarge", "hermes", "deepseek_r1"),
}


def manifest_of(name: str) -> Manifest:
    return load(FOLDER / f"{name}.yaml")


def golden_text(name: str) -> str:
    def told(value: object) -> object:
        if isinstance(value, SecretRef | ArnOf):
            return f"({value})"
        raise TypeError(value)

    def entry(resource: Resource) -> dict[str, object]:
        after = [f"{kind} {other}" for kind, other in resource.after]
        return {"kind": resource.kind, "name": resource.name, "after": after, "spec": resource.spec}

    made = [entry(resource) for resource in desired(manifest_of(name), REGION).resources]
    return json.dumps(made, indent=1, default=told) + "\n"


def test_every_family_is_here() -> None:
    assert sorted(FACTS) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_what_is_planned(name: str) -> None:
    assert golden_text(name) == (GOLDEN / f"{name}.json").read_text()


@pytest.mark.parametrize("name", NAMES)
def test_machine_and_parsers(name: str) -> None:
    made = manifest_of(name)
    environment = environment_of(made, made)
    _, _, machine, tools, thoughts = FACTS[name]

    assert made.instances.type == machine
    assert environment.get("OPTION_TOOL_CALL_PARSER") == tools
    assert environment.get("OPTION_ENABLE_AUTO_TOOL_CHOICE") == ("true" if tools else None)
    assert environment.get("OPTION_REASONING_PARSER") == thoughts


@pytest.mark.parametrize("name", NAMES)
def test_weights_and_one_call_of_full_length_fit_the_memory(name: str) -> None:
    """A tenth of the memory is not vLLM's to take, and 1.2 GB a GPU go to activations and graphs."""
    made = manifest_of(name)
    weights_gb, token_bytes, machine, _, _ = FACTS[name]
    room_gb = instances.MACHINES[machine].gpus * (instances.MACHINES[machine].gpu_gib * 0.9 - 1.2)

    length = context_length(made)
    assert length is not None
    assert weights_gb + length * token_bytes / 1e9 < room_gb


@pytest.mark.parametrize("name", NAMES)
def test_a_gated_model_takes_its_token_from_a_secret(name: str) -> None:
    made = manifest_of(name)
    assert made.model is not None
    gated = made.model.id.startswith(("meta-llama/", "google/", "mistralai/"))

    assert (made.model.token is not None) is gated


@pytest.mark.parametrize("name", NAMES)
def test_the_gateway_takes_the_entry_that_goes_with_it(name: str) -> None:
    made = manifest_of(name)
    (model,) = gateway_config(export(made, REGION).encode(), "gateway.yaml", {}).models

    assert made.model is not None
    assert [model.name] == public_names(made) == [made.model.id.rsplit("/")[-1].lower()]
    (deployment,) = model.deployments
    assert (deployment.endpoint, deployment.region) == (name, REGION)
    assert (deployment.container, deployment.version) == ("lmi", "18")
    assert model.context_length == int(str(made.option["max_model_len"]))
    sees = name.startswith(("gemma", "llama-4", "qwen2-5-vl"))
    assert model.modalities == (("text", "image") if sees else ("text",))


if __name__ == "__main__":
    for one in NAMES:
        (GOLDEN / f"{one}.json").write_text(golden_text(one))
