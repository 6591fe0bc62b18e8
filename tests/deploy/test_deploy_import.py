"""Manifests made of what stands: they want what is there, hold no secret, and say what they leave out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.desired import desired
from deploy.importing_growth import update
from deploy.manifest import Manifest, parse
from deploy.resources import Desired
from tests.deploy.deploy_cloud import CANARY, COMPONENTS, MANIFEST, Cloud
from tests.deploy.deploy_edge import Ran
from tests.deploy.manifests import LEAST, REGION, text_of

VLLM = """\
name: chat
region: us-east-1
role: arn:aws:iam::123456789012:role/sagemaker
variant: main
model: {id: "s3://bucket/model.tar.gz"}
container: {kind: vllm, version: 0.25.1}
engine: {max_model_len: 8192, enable_prefix_caching: true, limit_mm_per_prompt: {image: 2}}
environment: {NCCL_DEBUG: INFO, SM_VLLM_API_KEY: {secret: hub}}
instances: {type: ml.p3.8xlarge, count: 2, volume_gb: 200}
timeouts: {startup_s: 900, download_s: 600}
network: {isolation: true, subnets: [subnet-1], security_groups: [sg-1]}
kms_key: alias/disk
routing: {strategy: least_outstanding_requests}
capture: {to: "s3://bucket/calls/", percent: 10}
update: {strategy: rolling, count: 1, rollback: {alarms: [mine]}}
"""
LMI_15 = """\
name: chat
region: us-east-1
role: arn:aws:iam::123456789012:role/sagemaker
model: {id: mistralai/Mistral-7B-Instruct-v0.3, token: {secret: hub, json_key: token}, revision: main}
container: {kind: lmi, version: 15}
option: {rolling_batch: vllm, async_mode: null, entrypoint: null, max_model_len: 8192, max_rolling_batch_size: 64}
engine: {limit_mm_per_prompt: {image: 2}, gpu_memory_utilization: 0.90}
environment: {SERVING_FAIL_FAST: "false", SERVING_JOB_QUEUE_SIZE: "50"}
instances: {type: ml.g5.12xlarge}
timeouts: {startup_s: 900, loading_s: 700}
"""


def manifest_in(ran: Ran) -> Manifest:
    assert ran.code == 0, ran
    return parse(ran.out.encode(), "imported.yaml")


def wanted(text: str) -> Desired:
    return desired(parse(text.encode(), "chat.yaml"), REGION)


@pytest.mark.parametrize(
    "text", [pytest.param(VLLM, id="vllm"), pytest.param(MANIFEST, id="lmi"), pytest.param(COMPONENTS, id="components")]
)
def test_what_is_imported_wants_what_is_there(cloud: Cloud, text: str) -> None:
    assert cloud.apply(text).code == 0
    name = yaml.safe_load(text)["name"]

    ran = cloud.command("import", name)

    found = manifest_in(ran)
    # What is made by itself for a rollback comes back as alarms that are there already.
    before = [one for one in wanted(text).resources if one.name not in (f"{name}-server-errors",)]
    after = {one.key: one for one in desired(found, REGION).resources}
    assert {one.key for one in before} == set(after)
    for one in before:
        # How a change would reach the machines, AWS tells only of an endpoint that has been changed.
        spec = {name: value for name, value in one.spec.items() if name != "DeploymentConfig"}
        assert after[one.key].spec == spec, one.key
    assert CANARY not in ran.out


def test_a_plan_of_what_was_imported_has_nothing_to_do(cloud: Cloud) -> None:
    cloud.apply(VLLM)
    again = cloud.command("import", "chat").out

    ran = cloud.run(again, "plan", "--detailed-exitcode")

    assert ran.code == 0, ran


def test_what_the_makers_recommend_is_not_put_over_what_is_there(cloud: Cloud) -> None:
    secret = '{"token": "hf_CANARY0123456789"}'
    cloud.client("secretsmanager").put_secret_value(SecretId="hub", SecretString=secret)
    assert cloud.apply(LMI_15).code == 0

    ran = cloud.command("import", "chat")

    found = manifest_in(ran)
    assert [one.name for one in desired(found, REGION).resources] == [one.name for one in wanted(LMI_15).resources]
    assert found.option["async_mode"] is None
    assert "# - option.async_mode is not set there; true is recommended: take its line away\n" in ran.out


@pytest.mark.parametrize(
    "section",
    [
        pytest.param({"strategy": "all_at_once", "wait_s": 60, "keep_old_s": 30, "timeout_s": 900}, id="at once"),
        pytest.param(
            {"strategy": "canary", "wait_s": 60, "percent": 10, "keep_old_s": 30, "timeout_s": 900,
             "rollback": {"alarms": ["mine"]}},
            id="canary",
        ),
        pytest.param({"strategy": "linear", "wait_s": 60, "count": 1, "keep_old_s": 30, "timeout_s": 900}, id="linear"),
        pytest.param({"strategy": "rolling", "wait_s": 60, "percent": 25, "timeout_s": 900}, id="rolling"),
    ],
)  # fmt: skip
def test_how_changes_reach_the_machines_comes_back(section: dict[str, Any]) -> None:
    (endpoint,) = wanted(text_of({**LEAST, "update": section}).decode()).of("endpoint")

    assert update(endpoint.spec["DeploymentConfig"]) == section


def test_an_endpoint_that_is_not_there(cloud: Cloud) -> None:
    ran = cloud.command("import", "absent")

    assert (ran.code, ran.out) == (1, "")
    assert ran.err == "there is no endpoint 'absent' in us-east-1\n"


def standing(cloud: Cloud, image: str, environment: dict[str, str]) -> None:
    """Put up an endpoint by hand."""
    sagemaker = cloud.client("sagemaker")
    role = "arn:aws:iam::123456789012:role/sagemaker"
    container = {"Image": image, "Environment": environment}
    sagemaker.create_model(ModelName="m", PrimaryContainer=container, ExecutionRoleArn=role)
    variant = {
        "VariantName": "AllTraffic",
        "ModelName": "m",
        "InstanceType": "ml.g5.12xlarge",
        "InitialInstanceCount": 1,
    }
    sagemaker.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    sagemaker.create_endpoint(EndpointName="byhand", EndpointConfigName="c")


LMI_14 = "763104351884.dkr.ecr.us-east-1.amazonaws.com/djl-inference:0.32.0-lmi14.0.0-cu126"


def test_an_older_container_is_raised_and_its_secret_left_where_it_is(cloud: Cloud) -> None:
    standing(
        cloud,
        LMI_14,
        {
            "HF_MODEL_ID": "meta-llama/Llama-3.1-8B-Instruct",
            "HF_TOKEN": CANARY,
            "OPTION_ROLLING_BATCH": "lmi-dist",
            "TENSOR_PARALLEL_DEGREE": "4",
            "OPTION_MAX_MODEL_LEN": "8192",
            "OPTION_MODEL_LOADING_TIMEOUT": "1200",
        },
    )

    ran = cloud.command("import", "byhand")

    found = manifest_in(ran)
    assert found.container is not None
    assert found.container.version == "15"
    assert found.model is not None
    assert found.model.token is not None
    assert found.model.token.env == "HF_TOKEN"
    assert (str(found.option["tensor_parallel_degree"]), found.timeouts.loading) == ("4", 1200)
    assert "rolling_batch" not in found.option
    assert "the endpoint runs LMI 14: applying raises it to 15, a new image" in ran.out
    assert "option.rolling_batch=lmi-dist: LMI 15 and later have no lmi-dist" in ran.out
    assert "the value of HF_TOKEN was left where it is" in ran.out


def test_an_image_of_ones_own_has_to_be_explained(cloud: Cloud) -> None:
    image = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1"
    standing(cloud, image, {"HF_MODEL_ID": "Qwen/QwQ-32B"})

    refused = cloud.command("import", "byhand")
    assert refused.code == 1
    assert refused.err == f"what is in the image {image} is not known: say it with --container, such as lmi:18\n"

    found = manifest_in(cloud.command("import", "byhand", "--container", "lmi:18"))
    assert found.container is not None
    assert (found.container.kind, found.container.version, found.container.image) == ("lmi", "18", image)


HUB_ID = "meta-llama/Llama-3.1-8B-Instruct"
LINES = """\
# what was there
export HF_MODEL_ID=meta-llama/Llama-3.1-8B-Instruct
HF_TOKEN=hf_CANARY0123456789
OPTION_ROLLING_BATCH=auto
OPTION_MAX_MODEL_LEN=8192
OPTION_GPU_MEMORY_UTILIZATION=0.90
OPTION_GUIDED_DECODING_BACKEND=outlines
OPTION_USE_V2_BLOCK_MANAGER=true
OPTION_OUTPUT_FORMATTER=jsonlines
MAX_CONCURRENT_REQUESTS=50
"""
PROPERTIES = """\
engine=Python
option.model_id=s3://bucket/model
option.entryPoint=djl_python.huggingface
option.max_rolling_batch_size=64
option.revision=main
job_queue_size=50
"""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(LINES, id="lines"),
        pytest.param(json.dumps({"Environment": {"HF_MODEL_ID": HUB_ID, "OPTION_MAX_MODEL_LEN": "8192"}}), id="JSON"),
        pytest.param(f"HF_MODEL_ID: {HUB_ID}\nOPTION_MAX_MODEL_LEN: 8192\n", id="YAML"),
    ],
)
def test_an_environment_in_a_file(cloud: Cloud, tmp_path: Path, text: str) -> None:
    file = tmp_path / "environment"
    file.write_text(text)

    found = manifest_in(
        cloud.command("import", "--environment", str(file), "--from-lmi", "14", "--container", "lmi:18")
    )

    assert found.model is not None
    assert found.model.id == HUB_ID
    assert {**found.option, **found.engine}["max_model_len"] == "8192"
    assert cloud.edge.calls == []


def test_what_becomes_of_options_that_a_newer_container_lacks(cloud: Cloud, tmp_path: Path) -> None:
    file = tmp_path / "environment"
    file.write_text(LINES)

    ran = cloud.command("import", "--environment", str(file), "--from-lmi", "14")

    found = manifest_in(ran)
    assert found.engine["structured_outputs_config"] == {"backend": "outlines"}
    assert found.engine["gpu_memory_utilization"] == "0.9"
    assert found.environment["SERVING_JOB_QUEUE_SIZE"].value == "50"
    for told in (
        "written for LMI 14, raised to LMI 18",
        "option.rolling_batch=auto: rolling batches are left behind",
        "option.guided_decoding_backend is structured_outputs_config now",
        "option.use_v2_block_manager=true: unknown to LMI 18, which runs vLLM 0.12.0: last seen in vLLM 0.9.2",
        "option.output_formatter=jsonlines: has no meaning in async mode",
    ):
        assert f"# - {told}" in ran.out


def test_serving_properties(cloud: Cloud, tmp_path: Path) -> None:
    file = tmp_path / "serving.properties"
    file.write_text(PROPERTIES)

    found = manifest_in(cloud.command("import", "--environment", str(file), "--from-lmi", "14"))

    assert found.model is not None
    assert found.model.id == "s3://bucket/model/"
    assert found.option == {"max_rolling_batch_size": "64"}
    assert found.environment["SERVING_JOB_QUEUE_SIZE"].value == "50"


@pytest.mark.parametrize(
    ("args", "told"),
    [
        pytest.param((), "say either ENDPOINT or --environment FILE", id="nothing"),
        pytest.param(("chat", "--container", "lmi:14"), "such as lmi:18, vllm:0.25 or tgi:3.3", id="container"),
    ],
)
def test_a_wrong_command_line(cloud: Cloud, args: tuple[str, ...], told: str) -> None:
    ran = cloud.command("import", *args)

    assert ran.code == 2
    assert told in ran.err


def test_a_file_that_is_no_environment(cloud: Cloud, tmp_path: Path) -> None:
    file = tmp_path / "environment"
    file.write_text("[1, 2]")

    ran = cloud.command("import", "--environment", str(file))

    assert ran.code == 1
    assert "expected names and values: JSON, YAML, lines of NAME=value, or a serving.properties" in ran.err


def test_export_prints_the_gateways_entry(cloud: Cloud) -> None:
    ran = cloud.run(COMPONENTS, "export")

    assert ran.code == 0, ran
    assert yaml.safe_load(ran.out)["models"][0] == {
        "name": "qwen3-4b",
        "context_length": 40_960,
        "deployments": [
            {
                "endpoint": "shared",
                "region": "us-east-1",
                "container": "lmi",
                "version": "27",
                "inference_component": "shared-small",
            }
        ],
        "adapters": [{"name": "shared-small-law", "inference_component": "shared-small-law"}],
    }


@pytest.mark.parametrize("command", ["export", "plan"])
def test_a_region_comes_from_either_variable_or_its_lack_is_told(cloud: Cloud, command: str) -> None:
    nameless = COMPONENTS.replace("region: us-east-1\n", "")

    assert cloud.run(nameless, command, AWS_DEFAULT_REGION="").code == 0
    assert cloud.run(nameless, command, AWS_REGION="").code == 0
    ran = cloud.run(nameless, command, AWS_REGION="", AWS_DEFAULT_REGION="")
    assert (ran.code, ran.err) == (1, "no AWS region is set: name it in the manifest, with --region or as AWS_REGION\n")
