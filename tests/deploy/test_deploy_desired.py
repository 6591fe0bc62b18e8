"""What manifests become: the requests themselves, checked by botocore's own model of the services."""

from __future__ import annotations

from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from deploy.images import NoImage
from deploy.manifest import parse
from deploy.resources import ArnOf, Desired, Resource, SecretRef, in_order
from tests.deploy.manifests import LEAST, REGION, text_of, wanted, with_components

OPERATIONS = {
    "model": ("sagemaker", "CreateModel"),
    "endpoint-config": ("sagemaker", "CreateEndpointConfig"),
    "endpoint": ("sagemaker", "CreateEndpoint"),
    "inference-component": ("sagemaker", "CreateInferenceComponent"),
    "scalable-target": ("application-autoscaling", "RegisterScalableTarget"),
    "scaling-policy": ("application-autoscaling", "PutScalingPolicy"),
    "scheduled-action": ("application-autoscaling", "PutScheduledAction"),
    "alarm": ("cloudwatch", "PutMetricAlarm"),
}
SESSION = botocore.session.get_session()


def plain(value: Any) -> Any:
    """Return a spec as a request would be: references as text."""
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return [plain(child) for child in value]
    return str(value) if isinstance(value, SecretRef | ArnOf) else value


def report(resource: Resource) -> str:
    service, operation = OPERATIONS[resource.kind]
    shape = SESSION.get_service_model(service).operation_model(operation).input_shape
    assert shape is not None
    return str(ParamValidator().validate(plain(resource.spec), shape).generate_report())


def only(found: Desired, kind: Any) -> dict[str, Any]:
    (resource,) = found.of(kind)
    return dict(resource.spec)


SLEEPY = with_components(
    {
        "copies": 0,
        "scaling": {"min": 0, "max": 3, "concurrency_per_copy": 4},
        "schedules": [{"name": "morning", "when": "cron(0 7 ? * MON-FRI *)", "timezone": "Europe/Berlin", "min": 1}],
        "option": {"enable_lora": True},
        "adapters": [{"name": "legal", "artifact": "s3://bucket/legal.tar.gz"}],
        "placement": "spread",
    },
    instances={"type": "ml.g5.12xlarge", "count": 1, "managed": {"min": 0, "max": 2}},
    network={"subnets": ["subnet-1"], "security_groups": ["sg-1"]},
)
EVERYTHING: dict[str, Any] = {
    **LEAST,
    "model": {"id": "Qwen/QwQ-32B", "revision": "main", "token": {"secret": "hub", "json_key": "HF_TOKEN"}},
    "environment": {"NCCL_DEBUG": "INFO", "OTHER_TOKEN": {"env": "OTHER"}},
    "instances": {"type": "ml.p3.8xlarge", "count": 2, "volume_gb": 300},
    "network": {"subnets": ["subnet-1"], "security_groups": ["sg-1"]},
    "kms_key": "alias/disk",
    "tags": {"team": "search"},
    "routing": {"strategy": "least_outstanding_requests"},
    "capture": {"to": "s3://bucket/calls/", "percent": 5, "kms_key": "alias/calls"},
    "scaling": {"min": 1, "max": 4, "concurrency_per_copy": 8, "scale_in": False},
    "schedules": [{"name": "night", "when": "cron(0 20 * * ? *)", "max": 1}],
    "update": {
        "strategy": "linear",
        "percent": 25,
        "rollback": {"alarms": ["mine"], "server_errors_per_minute": 5, "latency_s": 2.5},
    },
}


@pytest.mark.parametrize(
    "values",
    [
        pytest.param(LEAST, id="least"),
        pytest.param(EVERYTHING, id="everything"),
        pytest.param({**LEAST, "update": {"strategy": "rolling", "count": 1}}, id="rolling"),
        pytest.param({**LEAST, "model": {"id": "s3://bucket/prefix/", "accept_eula": True}}, id="prefix"),
        pytest.param({**LEAST, "container": {"kind": "tgi", "version": "3.3"}}, id="tgi"),
        pytest.param({**LEAST, "container": {"kind": "vllm", "version": "0.25"}}, id="vllm"),
    ],
)
def test_requests_are_as_the_service_takes_them(values: dict[str, Any]) -> None:
    for resource in wanted(values).resources:
        assert report(resource) == "", resource.key


def test_what_only_newer_releases_of_boto_know() -> None:
    found = wanted(
        {
            **LEAST,
            "instances": {"types": ["ml.g6e.12xlarge", "ml.g5.12xlarge"]},
            "routing": {"strategy": "prefix_aware", "prefix_bytes": 4096, "concurrency_threshold": 16},
        }
    )

    (variant,) = only(found, "endpoint-config")["ProductionVariants"]
    assert variant["InstancePools"] == [
        {"InstanceType": "ml.g6e.12xlarge", "Priority": 1},
        {"InstanceType": "ml.g5.12xlarge", "Priority": 2},
    ]
    assert "InstanceType" not in variant
    assert variant["RoutingConfig"] == {
        "RoutingStrategy": "PREFIX_AWARE",
        "PrefixAwareRoutingConfig": {"PrefixLength": 4096, "ConcurrencyThreshold": 16},
    }


def test_the_order_is_one_in_which_they_can_be_made() -> None:
    for values in (EVERYTHING, SLEEPY):
        resources = wanted(values).resources
        assert in_order(resources) == list(resources)


def test_the_environment_of_lmi() -> None:
    (model,) = wanted(EVERYTHING).of("model")

    assert model.spec["PrimaryContainer"]["Environment"] == {
        "HF_MODEL_ID": "Qwen/QwQ-32B",
        "HF_REVISION": "main",
        "HF_TOKEN": SecretRef("secretsmanager", "hub", "HF_TOKEN"),
        "NCCL_DEBUG": "INFO",
        "OPTION_ASYNC_MODE": "true",
        "OPTION_ENABLE_AUTO_TOOL_CHOICE": "true",
        "OPTION_ENTRYPOINT": "djl_python.lmi_vllm.vllm_async_service",
        "OPTION_MODEL_LOADING_TIMEOUT": "1740",
        "OPTION_REASONING_PARSER": "deepseek_r1",
        "OPTION_ROLLING_BATCH": "disable",
        "OPTION_TENSOR_PARALLEL_DEGREE": "max",
        "OPTION_TOOL_CALL_PARSER": "hermes",
        "OTHER_TOKEN": SecretRef("env", "OTHER"),
        "SERVING_FAIL_FAST": "true",
    }


def test_lmi_15_is_told_that_there_is_reasoning() -> None:
    (model,) = wanted({**LEAST, "container": {"kind": "lmi", "version": 15}}).of("model")

    assert model.spec["PrimaryContainer"]["Environment"]["OPTION_ENABLE_REASONING"] == "true"


def test_the_environment_of_vllm() -> None:
    (model,) = wanted(
        {
            **LEAST,
            "container": {"kind": "vllm", "version": "0.25"},
            "engine": {"max_model_len": 8192, "tool_call_parser": None},
        }
    ).of("model")

    assert model.spec["PrimaryContainer"]["Environment"] == {
        "SM_VLLM_MAX_MODEL_LEN": "8192",
        "SM_VLLM_MODEL": "Qwen/QwQ-32B",
        "SM_VLLM_REASONING_PARSER": "deepseek_r1",
        "SM_VLLM_TENSOR_PARALLEL_SIZE": "4",
    }


def test_the_environment_of_tgi() -> None:
    (model,) = wanted(
        {**LEAST, "model": {"id": "s3://bucket/model.tar.gz"}, "container": {"kind": "tgi", "version": "3.3"},
         "engine": {"max_total_tokens": 4096}}
    ).of("model")  # fmt: skip

    assert model.spec["PrimaryContainer"]["Environment"] == {
        "HF_MODEL_ID": "/opt/ml/model",
        "MAX_TOTAL_TOKENS": "4096",
        "SM_NUM_GPUS": "4",
    }
    assert model.spec["PrimaryContainer"]["ModelDataSource"]["S3DataSource"] == {
        "S3Uri": "s3://bucket/model.tar.gz",
        "S3DataType": "S3Object",
        "CompressionType": "Gzip",
    }


def test_a_changed_model_is_another_model_and_so_another_configuration() -> None:
    before, after = wanted(LEAST), wanted({**LEAST, "option": {"max_model_len": 8192}})

    assert before.of("model")[0].name != after.of("model")[0].name
    assert before.of("endpoint-config")[0].name != after.of("endpoint-config")[0].name
    assert before.of("endpoint")[0].name == after.of("endpoint")[0].name == "chat"


def test_tags_change_no_name() -> None:
    assert [one.name for one in wanted(LEAST).resources] == [
        one.name for one in wanted({**LEAST, "tags": {"team": "search"}}).resources
    ]


def test_rollback_makes_its_alarms_before_the_endpoint() -> None:
    found = wanted(EVERYTHING)

    assert [alarm.name for alarm in found.of("alarm")] == ["chat-server-errors", "chat-latency"]
    deployment = only(found, "endpoint")["DeploymentConfig"]
    assert deployment["AutoRollbackConfiguration"] == {
        "Alarms": [{"AlarmName": "mine"}, {"AlarmName": "chat-server-errors"}, {"AlarmName": "chat-latency"}]
    }
    assert deployment["BlueGreenUpdatePolicy"]["TrafficRoutingConfiguration"] == {
        "Type": "LINEAR",
        "WaitIntervalInSeconds": 300,
        "LinearStepSize": {"Type": "CAPACITY_PERCENT", "Value": 25},
    }
    assert found.of("alarm")[1].spec["Threshold"] == 2_500_000


def test_a_component_that_sleeps_is_woken_by_an_alarm() -> None:
    found = wanted(SLEEPY)

    (config,) = found.of("endpoint-config")
    (variant,) = config.spec["ProductionVariants"]
    assert "ModelName" not in variant
    assert variant["ManagedInstanceScaling"] == {"Status": "ENABLED", "MinInstanceCount": 0, "MaxInstanceCount": 2}
    assert config.spec["ExecutionRoleArn"] == LEAST["role"]
    assert config.spec["VpcConfig"] == {"SecurityGroupIds": ["sg-1"], "Subnets": ["subnet-1"]}
    component, adapter = found.of("inference-component")
    assert component.spec["RuntimeConfig"] == {"CopyCount": 0}
    assert component.spec["Specification"]["ComputeResourceRequirements"] == {
        "MinMemoryRequiredInMb": 32_000,
        "NumberOfAcceleratorDevicesRequired": 4,
    }
    assert adapter.spec["Specification"] == {
        "BaseInferenceComponentName": "chat-small",
        "Container": {"ArtifactUrl": "s3://bucket/legal.tar.gz"},
    }
    assert [policy.name for policy in found.of("scaling-policy")] == [
        "chat-chat-small-concurrency",
        "chat-chat-small-wake",
    ]
    alarm = only(found, "alarm")
    assert alarm["MetricName"] == "NoCapacityInvocationFailures"
    assert alarm["AlarmActions"] == [ArnOf("scaling-policy", "chat-chat-small-wake")]
    assert only(found, "scheduled-action")["ScalableTargetAction"] == {"MinCapacity": 1}
    for resource in found.resources:
        if resource.key != component.key:  # this release of botocore knows no SchedulingConfig
            assert report(resource) == "", resource.key


def test_a_region_without_images_is_refused() -> None:
    from deploy.desired import desired

    with pytest.raises(NoImage):
        desired(parse(text_of(LEAST), "chat.yaml"), "xx-moon-1")
    assert desired(parse(text_of(LEAST), "chat.yaml"), REGION).region == REGION
