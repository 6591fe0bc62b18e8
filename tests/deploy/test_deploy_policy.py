"""The policy for whoever runs lmi-deploy allows every call it makes, and no others."""

from __future__ import annotations

import json
from pathlib import Path

import botocore.session

import deploy
from deploy.manifest import load
from tests.deploy.deploy_cloud import COMPONENTS, MANIFEST, Cloud

POLICY = Path(deploy.__file__).with_name("stack") / "lmi-deploy-policy.json"
PREFIXES = {"monitoring": "cloudwatch", "tagging": "tag"}
"""Where the name that signatures bear is not that of IAM's actions."""
UNSEEN = {
    # What AWS asks for beside a call, or what goes another way than to the endpoints of these tests.
    "application-autoscaling:TagResource",
    "iam:CreateServiceLinkedRole",
    "iam:PassRole",
    "sagemaker:InvokeEndpoint",
    "sagemaker:InvokeEndpointWithResponseStream",
    "sagemaker:UpdateEndpointWeightsAndCapacities",
    "sagemaker:UpdateInferenceComponentRuntimeConfig",
}
SERVICES = {"tag": "resourcegroupstaggingapi"}


def allowed() -> set[str]:
    statements = json.loads(POLICY.read_text("utf-8"))["Statement"]
    each = [statement["Action"] for statement in statements]
    return {action for actions in each for action in ([actions] if isinstance(actions, str) else actions)}


def test_every_call_is_allowed_and_nothing_else(cloud: Cloud) -> None:
    smaller = COMPONENTS[: COMPONENTS.index("  - name: shared-large")].replace("memory_mb: 4096", "memory_mb: 5000")
    without_schedule = MANIFEST.replace('  - {name: night, when: "cron(0 20 * * ? *)", min: 1, max: 1}\n', "")
    cloud.edge.sagemaker.failing["chat"] = "no capacity"
    logs = cloud.client("logs")
    logs.create_log_group(logGroupName="/aws/sagemaker/Endpoints/chat")
    logs.create_log_stream(logGroupName="/aws/sagemaker/Endpoints/chat", logStreamName="AllTraffic/i-1")
    cloud.edge.every_call.clear()

    cloud.apply(MANIFEST)
    cloud.edge.sagemaker.failing.clear()
    for manifest in (
        MANIFEST,
        MANIFEST.replace("Qwen3-4B", "Qwen3-8B"),
        MANIFEST.replace("minute: 5", "minute: 9"),
        COMPONENTS,
        smaller,
    ):
        assert cloud.apply(manifest).code == 0
    cloud.apply(without_schedule.replace("schedules:\n", ""))
    cloud.client("application-autoscaling").put_scaling_policy(
        PolicyName="another",
        ServiceNamespace="sagemaker",
        ResourceId="endpoint/chat/variant/AllTraffic",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        PolicyType="TargetTrackingScaling",
        TargetTrackingScalingPolicyConfiguration={
            "TargetValue": 1,
            "PredefinedMetricSpecification": {"PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"},
        },
    )
    cloud.apply(MANIFEST[: MANIFEST.index("scaling:")])
    cloud.run(MANIFEST, "status")
    cloud.run(MANIFEST, "logs")
    cloud.edge.sagemaker.index_lags = True
    cloud.apply(COMPONENTS)
    assert cloud.destroy(MANIFEST).code == 0
    assert cloud.destroy(COMPONENTS).code == 0

    made = {f"{PREFIXES.get(service, service)}:{operation}" for service, operation in cloud.edge.every_call}
    assert made == allowed() - UNSEEN


def test_the_secret_of_the_manifests_that_come_along_may_be_read() -> None:
    folder = Path(deploy.__file__).with_name("endpoints")
    named = {token.secret for file in folder.glob("*.yaml") if (model := load(file).model) and (token := model.token)}
    (reading,) = [each for each in json.loads(POLICY.read_text("utf-8"))["Statement"] if "Secrets" in each["Sid"]]
    # Secrets Manager adds a hyphen and six characters to the name in an ARN.
    assert reading["Resource"] == f"arn:aws:secretsmanager:*:*:secret:{named.pop()}-*"
    assert not named


def test_every_action_is_one_of_its_service() -> None:
    session = botocore.session.get_session()
    for action in allowed() - {"iam:PassRole"}:  # a permission without a call
        service, _, operation = action.partition(":")
        names = session.get_service_model(SERVICES.get(service, service)).operation_names
        runtime = session.get_service_model("sagemaker-runtime").operation_names if service == "sagemaker" else []
        assert operation in [*names, *runtime], action
