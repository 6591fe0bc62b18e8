"""What SageMaker or a container would refuse half an hour later is refused at once, and what is said reaches it."""

from __future__ import annotations

from typing import Any

import pytest
from botocore.exceptions import SSOTokenLoadError, TokenRetrievalError

from deploy.aws import Aws, plain
from deploy.cost import Cost, cost_of_desired
from deploy.desired import desired
from deploy.export import context_length
from deploy.importing_environment import sections
from deploy.manifest import Manifest, parse
from deploy.resources import DIGEST_TAG, SecretRef
from deploy.sections import Container
from tests.deploy.deploy_cloud import COMPONENTS, MANIFEST, Cloud
from tests.deploy.manifests import LEAST, REGION, manifest, problems, text_of, with_components

VLLM = {"kind": "vllm", "version": "0.25"}
LMI_15 = {"kind": "lmi", "version": 15}
TGI = {"kind": "tgi", "version": "3.3"}
DISKS = "SageMaker refuses it for ml.g5.12xlarge, which has disks of its own, encrypted by themselves"
TOO_LONG = (
    "is more than the 40960 tokens that the model is made for, so that vLLM would not start; where its own"
    " configuration says more, say so in gateway.context_length"
)


def environment(**changes: Any) -> dict[str, Any]:
    (model,) = desired(manifest(**changes), REGION).of("model")
    found: dict[str, Any] = model.spec["PrimaryContainer"]["Environment"]
    return found


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        pytest.param({"kms_key": "alias/disk"}, f"kms_key: {DISKS}", id="key for disks that have their own"),
        pytest.param(
            {"instances": {"type": "ml.g5.12xlarge", "volume_gb": 300}}, f"instances.volume_gb: {DISKS}", id="volume"
        ),
        pytest.param(
            {"update": {"strategy": "linear", "percent": 9}},
            "update.percent: steps are 10 to 50 percent of the machines",
            id="small steps",
        ),
        pytest.param({"tags": {"AWS:team": "a"}}, "tags.AWS:team: names that begin with AWS: are taken", id="AWS' tag"),
        pytest.param(
            {"tags": {"lmi-deploy:manifest": "a"}},
            "tags.lmi-deploy:manifest: names that begin with lmi-deploy: are taken",
            id="tag of lmi-deploy",
        ),
        pytest.param(
            {"tags": {"team": "a*b"}},
            "tags.team: expected letters, digits, spaces and _ . : / = + - @, found 'a*b'",
            id="characters of a tag",
        ),
        pytest.param(
            {"scaling": {"max": 4, "concurrency_per_copy": "inf"}},
            "scaling.concurrency_per_copy: expected a finite number, found 'inf'",
            id="infinite",
        ),
        pytest.param(
            {"update": {"rollback": {"latency_s": "inf"}}},
            "update.rollback.latency_s: expected a finite number, found 'inf'",
            id="infinite latency",
        ),
        pytest.param(
            {"option": {"enable_auto_tool_choice": True, "tool_call_parser": None}},
            "option.enable_auto_tool_choice: needs tool_call_parser",
            id="tools without parser",
        ),
        pytest.param(
            {"container": VLLM, "engine": {"enable_auto_tool_choice": True, "tool_call_parser": None}},
            "engine.enable_auto_tool_choice: needs tool_call_parser",
            id="tools without parser in vllm",
        ),
        pytest.param(
            {"container": LMI_15, "option": {"enable_reasoning": True, "reasoning_parser": None}},
            "option.enable_reasoning: needs reasoning_parser",
            id="thoughts without parser",
        ),
        pytest.param(
            {"option": {"rolling_batch": "vllm"}},
            "option.rolling_batch: async mode takes no other than disable: set async_mode: false with it",
            id="rolling batch in async mode",
        ),
        pytest.param({"option": {"max_model_len": 40_961}}, f"option.max_model_len: {TOO_LONG}", id="too long"),
        pytest.param({"option": {"max_model_len": "41K"}}, f"option.max_model_len: {TOO_LONG}", id="too long, in K"),
        pytest.param(
            {"option": {"max_model_len": 0}}, "option.max_model_len: expected more than 0, found '0'", id="no length"
        ),
        pytest.param(
            {"option": {"tensor_parallel_degree": "all"}},
            "option.tensor_parallel_degree: expected a whole number, found 'all'",
            id="degree",
        ),
        pytest.param(
            {"option": {"gpu_memory_utilization": 90}},
            "option.gpu_memory_utilization: expected a share of 1 at most, such as 0.9, found '90'",
            id="percent",
        ),
        pytest.param(
            {"engine": {"cudagraph_capture_sizes": [1, 2]}},
            "engine.cudagraph_capture_sizes: is a list, of which LMI passes one value on to vLLM, and not more",
            id="list in LMI",
        ),
        pytest.param(
            {"option": {"chat_template": "/opt/ml/model/chat.jinja"}},
            "option.chat_template: is the template itself in LMI 18, which would take this for its text: LMI 24 opens"
            " files",
            id="path of a template in LMI before 24",
        ),
        pytest.param(
            {"environment": {"HF_MODEL_ID": "a/b"}},
            "environment.HF_MODEL_ID: is said under model",
            id="another model in the environment",
        ),
        pytest.param(
            {"option": {"chat_template": "hf_" + "a" * 30}},
            "option.chat_template: is a secret: say where it is with a variable under environment",
            id="secret in an option",
        ),
        pytest.param(
            {"model": {"id": "s3://bucket/r1/", "family": "unheard/of"}},
            "model.family: is of no family that is known here: docs/models.md says what to set for others",
            id="unknown family",
        ),
    ],
)  # fmt: skip
def test_what_would_fail_later_is_refused(changes: dict[str, Any], told: str) -> None:
    assert problems({**LEAST, **changes}) == [told]


def test_a_component_needs_gpus() -> None:
    told = "components[0].accelerators: missing: without GPUs, none of these containers starts"
    assert problems(with_components({"accelerators": None})) == [told]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"option": {"max_model_len": 40_960}}, id="as long as the model was made for"),
        pytest.param(
            {"container": {"kind": "lmi", "version": 24}, "option": {"chat_template": "/opt/ml/model/chat.jinja"}},
            id="path of a template since LMI 24",
        ),
        pytest.param({"option": {"chat_template": "{% for one in messages %}/{% endfor %}"}}, id="template"),
        pytest.param({"option": {"max_model_len": -1}}, id="as long as memory allows"),
        pytest.param(
            {"option": {"max_model_len": 131_072}, "gateway": {"context_length": 131_072}}, id="longer, and it is known"
        ),
        pytest.param(
            {"option": {"max_model_len": 131_072}, "engine": {"hf_overrides": {"rope_scaling": {"factor": 4}}}},
            id="stretched",
        ),
        pytest.param({"option": {"async_mode": False, "rolling_batch": "vllm"}}, id="rolling batch, not async"),
        pytest.param({"tags": {"équipe": "a b_.:/=+-@"}}, id="every character of a tag"),
        pytest.param({"instances": {"type": "ml.p3.8xlarge", "volume_gb": 9}, "kms_key": "alias/k"}, id="no own disks"),
    ],
)
def test_what_works_is_taken(changes: dict[str, Any]) -> None:
    assert problems({**LEAST, **changes}) == []


def test_what_is_false_reaches_vllm() -> None:
    found = environment(container=VLLM, engine={"enable_prefix_caching": False, "disable_log_stats": False})

    assert found["SM_VLLM_NO_ENABLE_PREFIX_CACHING"] == "true"
    assert "SM_VLLM_ENABLE_PREFIX_CACHING" not in found
    assert "SM_VLLM_NO_DISABLE_LOG_STATS" not in found  # vLLM has no such switch


def test_what_is_false_is_imported_as_false() -> None:
    read = sections(Container(kind="vllm", version="0.25"), {"SM_VLLM_NO_ENABLE_PREFIX_CACHING": "true"}, None, {})
    assert read.engine["enable_prefix_caching"] is False


def test_a_switch_of_tools_without_a_parser_is_not_imported() -> None:
    lone = {"SM_VLLM_MODEL": "Qwen/QwQ-32B", "SM_VLLM_ENABLE_AUTO_TOOL_CHOICE": "true"}
    read = sections(Container(kind="vllm", version="0.25"), lone, None, {})

    assert "enable_auto_tool_choice is left out: it needs tool_call_parser" in read.notes
    assert environment(container=VLLM, **read.as_dict()) == {"SM_VLLM_MODEL": "Qwen/QwQ-32B"}


def test_what_is_not_set_in_vllm_is_not_set_by_an_import() -> None:
    read = sections(Container(kind="vllm", version="0.25"), {"SM_VLLM_MODEL": "Qwen/QwQ-32B"}, None, {})

    assert environment(container=VLLM, **read.as_dict()) == {"SM_VLLM_MODEL": "Qwen/QwQ-32B"}


def test_without_its_parser_the_switch_of_tools_is_off() -> None:
    assert "OPTION_ENABLE_AUTO_TOOL_CHOICE" not in environment(option={"tool_call_parser": None})


def test_a_list_of_one_reaches_lmi_as_that_one() -> None:
    assert environment(engine={"cudagraph_capture_sizes": [8]})["OPTION_CUDAGRAPH_CAPTURE_SIZES"] == "8"


def test_the_shards_of_tgi_are_those_of_the_manifest() -> None:
    found = environment(container=TGI, engine={"num_shard": 2})

    assert found["NUM_SHARD"] == "2"
    assert "SM_NUM_GPUS" not in found  # the image's entry point would put it in its place


def test_a_copy_in_s3_is_served_as_its_family() -> None:
    found = environment(model={"id": "s3://bucket/r1/", "family": "deepseek-ai/DeepSeek-R1"})
    assert found["OPTION_REASONING_PARSER"] == "deepseek_r1"


@pytest.mark.parametrize(
    ("length", "tokens"),
    [pytest.param(8192, 8192, id="plain"), pytest.param("8k", 8000, id="k"), pytest.param("8K", 8192, id="K")],
)
def test_the_gateway_is_told_the_length_that_vllm_reads(length: int | str, tokens: int) -> None:
    made: Manifest = parse(text_of({**LEAST, "option": {"max_model_len": length}}), "chat.yaml")
    assert context_length(made) == tokens


def test_what_several_types_cost_lies_between_them() -> None:
    found = desired(manifest(instances={"types": ["ml.g6e.12xlarge", "ml.g5.12xlarge"], "count": 2}), REGION)
    assert cost_of_desired(found, {"ml.g6e.12xlarge": 13.0, "ml.g5.12xlarge": 7.0}) == Cost(14.0, 26.0)


def test_the_end_of_a_line_is_no_part_of_a_secret() -> None:
    assert Aws("us-east-1", {"HUB": "hf_token\n"}).secret(SecretRef("env", "HUB")) == "hf_token"


@pytest.mark.parametrize(
    "error",
    [
        SSOTokenLoadError(error_msg="The SSO session has expired"),
        TokenRetrievalError(provider="sso", error_msg="Token has expired and refresh failed"),
    ],
)
def test_an_expired_sign_in_says_to_sign_in(error: Exception) -> None:
    assert plain(error).startswith("AWS credentials could not be had: sign in again")


def test_destroying_leaves_what_scales_an_endpoint_of_somebody_else(cloud: Cloud) -> None:
    cloud.apply(MANIFEST)
    cloud.edge.sagemaker.things["endpoint", "chat"].tags.clear()

    cloud.destroy(MANIFEST)

    scaling = cloud.client("application-autoscaling")
    targets = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    policies = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert [target["ResourceId"] for target in targets] == ["endpoint/chat/variant/AllTraffic"]
    assert [policy["PolicyName"] for policy in policies] == ["chat-concurrency"]


def test_an_index_of_tags_that_lags_changes_nothing(cloud: Cloud, monkeypatch: pytest.MonkeyPatch) -> None:
    cloud.apply(COMPONENTS)
    there = cloud.edge.sagemaker.tagged

    def lagging(request: dict[str, Any]) -> Any:
        found = there(request)
        for tag in (tag for mapping in found for tag in mapping["Tags"] if tag["Key"] == DIGEST_TAG):
            tag["Value"] = "00000000"
        return found

    monkeypatch.setattr(cloud.edge.sagemaker, "tagged", lagging)

    assert cloud.run(COMPONENTS, "plan", "--detailed-exitcode").code == 0
