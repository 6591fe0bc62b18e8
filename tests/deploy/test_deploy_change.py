"""lmi-deploy when something is not as it was: a new manifest, another hand or apply, an endpoint that fails."""

from __future__ import annotations

import json
import signal
import time
from datetime import UTC, datetime, timedelta

import pytest

from tests.deploy.deploy_cloud import CANARY, COMPONENTS, MANIFEST, Cloud
from tests.deploy.deploy_sagemaker import Thing

LARGER = MANIFEST.replace("Qwen/Qwen3-4B", "Qwen/Qwen3-8B")
REASON = "The primary container for production variant AllTraffic did not pass the ping health check."


def only(cloud: Cloud, kind: str) -> Thing:
    (name,) = cloud.edge.sagemaker.names(kind)
    return cloud.edge.sagemaker.things[kind, name]


def write_log(cloud: Cloud, group: str, *lines: str) -> None:
    logs = cloud.client("logs")
    logs.create_log_group(logGroupName=group)
    logs.create_log_stream(logGroupName=group, logStreamName="AllTraffic/i-1")
    now = int(time.time() * 1000)
    events = [{"timestamp": now - 1000 + at, "message": line} for at, line in enumerate(lines)]
    logs.put_log_events(logGroupName=group, logStreamName="AllTraffic/i-1", logEvents=events)


def test_another_model_moves_the_endpoint_and_leaves_nothing_of_the_old_one(cloud: Cloud) -> None:
    cloud.apply(MANIFEST)
    (old,) = cloud.edge.sagemaker.names("model")
    cloud.edge.forget()

    changed = cloud.apply(LARGER)

    assert changed.code == 0, changed
    assert cloud.edge.changes == [
        "CreateModel",
        "CreateEndpointConfig",
        "UpdateEndpoint",
        "DeleteEndpointConfig",
        "DeleteModel",
    ]
    assert old not in cloud.edge.sagemaker.names("model")
    assert only(cloud, "model").spec["PrimaryContainer"]["Environment"]["HF_MODEL_ID"] == "Qwen/Qwen3-8B"
    update = json.loads(next(body for body in cloud.edge.bodies if b"DeploymentConfig" in body))
    alarms = update["DeploymentConfig"]["AutoRollbackConfiguration"]["Alarms"]
    assert alarms == [{"AlarmName": "chat-server-errors"}]
    assert update["RetainAllVariantProperties"] is True
    assert 'PrimaryContainer.Environment.HF_MODEL_ID: "Qwen/Qwen3-4B" → "Qwen/Qwen3-8B"' in changed.out


def test_what_was_changed_in_place_is_updated_alone(cloud: Cloud) -> None:
    cloud.apply(MANIFEST)
    cloud.edge.forget()
    changed = cloud.apply(MANIFEST.replace("max: 4", "max: 6").replace("minute: 5", "minute: 9"))
    assert changed.code == 0, changed
    assert cloud.edge.changes == ["PutMetricAlarm", "TagResource", "RegisterScalableTarget"]


def test_components_are_changed_in_place_and_unneeded_ones_deleted(cloud: Cloud) -> None:
    cloud.apply(COMPONENTS)
    cloud.edge.forget()
    smaller = COMPONENTS[: COMPONENTS.index("  - name: shared-large")].replace("memory_mb: 4096", "memory_mb: 5000")

    changed = cloud.apply(smaller)

    assert changed.code == 0, changed
    assert cloud.edge.changes == ["UpdateInferenceComponent", "AddTags", "DeleteInferenceComponent", "DeleteModel"]
    assert cloud.edge.sagemaker.names("inference-component") == ["shared-small", "shared-small-law"]


def test_what_somebody_else_changed_is_called_drift_and_undone(cloud: Cloud) -> None:
    cloud.apply(COMPONENTS)
    component = cloud.edge.sagemaker.things["inference-component", "shared-large"]
    component.spec["RuntimeConfig"] = {"CopyCount": 3}

    seen = cloud.run(COMPONENTS, "plan", "--json", "--detailed-exitcode")

    assert seen.code == 2, seen
    (step,) = [step for step in json.loads(seen.out)["steps"] if step["action"] != "none"]
    assert (step["name"], step["action"], step["drift"]) == ("shared-large", "update", True)
    assert step["changes"] == [{"path": "RuntimeConfig.CopyCount", "before": 3, "after": 1}]
    assert "changed by somebody else" in cloud.run(COMPONENTS, "status").out
    cloud.apply(COMPONENTS)
    assert component.spec["RuntimeConfig"] == {"CopyCount": 1}


def test_what_scaling_has_changed_is_no_drift(cloud: Cloud) -> None:
    cloud.apply(COMPONENTS)
    cloud.edge.sagemaker.things["inference-component", "shared-small"].spec["RuntimeConfig"] = {"CopyCount": 2}
    assert cloud.run(COMPONENTS, "plan", "--detailed-exitcode").code == 0


def test_what_others_made_is_neither_changed_nor_deleted(cloud: Cloud) -> None:
    cloud.edge.sagemaker.call("CreateModel", {"ModelName": "chat-00000000", "Tags": []})
    cloud.client("cloudwatch").put_metric_alarm(
        AlarmName="chat-mine",
        EvaluationPeriods=1,
        ComparisonOperator="GreaterThanThreshold",
        Threshold=1,
        Namespace="AWS/SageMaker",
        MetricName="Invocations",
        Period=60,
        Statistic="Sum",
    )
    assert cloud.apply(MANIFEST).code == 0
    assert cloud.destroy(MANIFEST).code == 0
    assert cloud.edge.sagemaker.names("model") == ["chat-00000000"]
    assert cloud.edge.left() == ["alarm chat-mine"]


def test_an_endpoint_of_somebody_else_is_in_the_way(cloud: Cloud) -> None:
    cloud.apply(MANIFEST)
    only(cloud, "endpoint").tags.clear()
    cloud.edge.forget()
    refused = cloud.apply(LARGER)
    assert refused.code == 1
    assert "the endpoint chat is there already and was not made from the manifest chat" in refused.err
    assert cloud.edge.changes == []


def test_an_endpoint_that_fails_is_told_with_its_reason_and_log_and_made_anew_next_time(cloud: Cloud) -> None:
    cloud.edge.sagemaker.failing["chat"] = REASON
    write_log(cloud, "/aws/sagemaker/Endpoints/chat", "INFO starting", f"CUDA out of memory, token {CANARY}\x1b[2J")

    failed = cloud.apply(MANIFEST)

    assert failed.code == 1
    assert f"the endpoint chat is Failed: {REASON}" in failed.err
    assert "CUDA out of memory, token (secret)?[2J" in failed.err
    cloud.edge.sagemaker.failing.clear()
    again = cloud.apply(MANIFEST)
    assert again.code == 0, again
    assert f"replace endpoint chat (is Failed: {REASON})" in again.out
    assert only(cloud, "endpoint").status == "InService"


def test_a_change_that_is_rolled_back_is_told_and_leaves_the_old_generation(cloud: Cloud) -> None:
    cloud.apply(MANIFEST)
    old = only(cloud, "endpoint").spec["EndpointConfigName"]
    cloud.edge.sagemaker.failing["chat"] = "One or more configured alarms are in ALARM."

    failed = cloud.apply(LARGER)

    assert failed.code == 1
    assert f"was rolled back: it serves with {old} again" in failed.err
    assert "One or more configured alarms are in ALARM." in failed.err
    assert only(cloud, "endpoint").spec["EndpointConfigName"] == old
    assert old in cloud.edge.sagemaker.names("endpoint-config")
    # Back to what it was: the generation that failed goes.
    cloud.edge.sagemaker.failing.clear()
    assert cloud.apply(MANIFEST).code == 0
    assert cloud.edge.sagemaker.names("endpoint-config") == [old]


def test_another_apply_that_is_running_is_noticed(cloud: Cloud) -> None:
    cloud.apply(MANIFEST)
    cloud.edge.sagemaker.looks = 1000
    cloud.edge.forget()
    cloud.edge.kill_at, cloud.edge.after_effect = 3, True
    assert cloud.apply(LARGER).code == -signal.SIGKILL
    cloud.edge.forget()

    other = cloud.apply(MANIFEST)

    assert other.code == 1
    assert "is Updating, on its way to" in other.err
    assert "another apply is running" in other.err
    assert cloud.edge.changes == []


def test_ctrl_c_says_how_to_go_on(cloud: Cloud) -> None:
    cloud.edge.sagemaker.looks = 3
    cloud.edge.kill_at, cloud.edge.after_effect = 4, True
    cloud.edge.kill_with = signal.SIGINT

    stopped = cloud.apply(MANIFEST)

    assert stopped.code == 130, stopped
    assert "interrupted: AWS goes on" in stopped.err
    cloud.edge.forget()
    assert cloud.apply(MANIFEST).code == 0
    assert "CreateEndpoint" not in cloud.edge.changes


@pytest.mark.parametrize(
    ("code", "status", "words"),
    [
        pytest.param("ExpiredTokenException", 400, "the AWS credentials have expired", id="expired"),
        pytest.param("AccessDeniedException", 400, "not allowed to call DescribeEndpoint: no", id="not allowed"),
        pytest.param("UnrecognizedClientException", 400, "AWS does not accept these credentials", id="unknown key"),
        pytest.param("ValidationException", 400, "DescribeEndpoint failed (ValidationException): no", id="other"),
    ],
)
def test_errors_of_aws_are_sentences(cloud: Cloud, code: str, status: int, words: str) -> None:
    cloud.edge.failing = lambda operation: (status, code, "no") if operation == "DescribeEndpoint" else None
    ran = cloud.run(MANIFEST, "plan")
    assert ran.code == 1
    assert ran.err.startswith(words), ran


def test_a_throttled_call_is_made_again(cloud: Cloud) -> None:
    left = [2]

    def throttled(operation: str) -> tuple[int, str, str] | None:
        if operation == "CreateModel" and left[0]:
            left[0] -= 1
            return 400, "ThrottlingException", "Rate exceeded"
        return None

    cloud.edge.failing = throttled
    assert cloud.apply(MANIFEST).code == 0
    assert cloud.edge.changes.count("CreateModel") == 3


def test_a_secret_that_aws_repeats_in_an_error_is_not_shown(cloud: Cloud) -> None:
    cloud.edge.failing = lambda operation: (
        (400, "ValidationException", f"Value '{CANARY}' is too long") if operation == "CreateModel" else None
    )
    ran = cloud.apply(MANIFEST)
    assert ran.code == 1
    assert "Value '(secret)' is too long" in ran.err


def test_secrets_reach_aws_and_nothing_else(cloud: Cloud) -> None:
    cloud.apply(MANIFEST)
    assert only(cloud, "model").spec["PrimaryContainer"]["Environment"]["HF_TOKEN"] == CANARY
    assert only(cloud, "model").tags["lmi-deploy:secret:HF_TOKEN"] == "secretsmanager:hub"
    renamed = MANIFEST.replace("{secret: hub}", "{env: HUB}")

    seen = cloud.run(renamed, "plan")
    refused = cloud.apply(renamed)

    assert 'HF_TOKEN: "(secret secretsmanager:hub)" → "(secret env:HUB)"' in seen.out
    assert "these secrets are not there: env:HUB" in refused.err
    assert cloud.apply(renamed, HUB=CANARY).code == 0


def test_nobody_to_ask_is_an_error(cloud: Cloud) -> None:
    for command in ("apply", "destroy"):
        ran = cloud.run(MANIFEST, command)
        assert (ran.code, cloud.edge.changes) == (1, [])
        assert "add --yes" in ran.err


def test_no_credentials_is_a_sentence(cloud: Cloud) -> None:
    ran = cloud.run(MANIFEST, "plan", AWS_ACCESS_KEY_ID="", AWS_SECRET_ACCESS_KEY="")
    assert ran.code == 1
    assert ran.err.startswith("no AWS credentials were found")


def test_status_tells_sizes_scaling_failures_and_differences(cloud: Cloud) -> None:
    assert "nothing is there" in cloud.run(MANIFEST, "status").out
    cloud.apply(MANIFEST)
    cloud.client("cloudwatch").put_metric_data(
        Namespace="AWS/SageMaker",
        MetricData=[
            {
                "MetricName": "Invocation5XXErrors",
                "Dimensions": [
                    {"Name": "EndpointName", "Value": "chat"},
                    {"Name": "VariantName", "Value": "AllTraffic"},
                ],
                "Timestamp": datetime.now(UTC) - timedelta(minutes=2),
                "Value": 3,
            }
        ],
    )

    shown = cloud.run(MANIFEST.replace("max: 4", "max: 6"), "status").out
    told = json.loads(cloud.run(MANIFEST, "status", "--json").out)

    assert "endpoint   chat        InService" in shown
    assert "AllTraffic             1/1 instances  1 to 4" in shown
    assert "0, 0 refused, 3 failed" in shown
    assert "alarm chat-server-errors: " in shown
    assert "is not as in the manifest (an apply would update it): MaxCapacity" in shown
    assert (told["in_service"], told["differences"]) == (True, [])


def test_logs_are_printed_since_then_and_followed(cloud: Cloud) -> None:
    assert cloud.run(MANIFEST, "logs").out == ""
    write_log(cloud, "/aws/sagemaker/Endpoints/chat", "first", "second")
    printed = cloud.run(MANIFEST, "logs", "--since", "5m")
    assert [line.split(" ", 2)[1:] for line in printed.out.splitlines()] == [["chat", "first"], ["chat", "second"]]
    assert "expected a time such as 90s" in cloud.run(MANIFEST, "logs", "--since", "soon").err
