"""What scales, wakes and watches an endpoint, as resources of Application Auto Scaling and CloudWatch.

https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-policy.html,
https://docs.aws.amazon.com/sagemaker/latest/dg/endpoint-auto-scaling-zero-instances.html
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from deploy.manifest import Component, Manifest
from deploy.resources import ArnOf, Resource

NAMESPACE = "AWS/SageMaker"
ASLEEP = "NoCapacityInvocationFailures"
"""Calls that found no copy to answer them."""


def growth_of(manifest: Manifest, served: Manifest | Component, on: Resource) -> Iterator[Resource]:
    """Yield what scales a model: its target first."""
    scaling = served.scaling
    if scaling is None:
        return
    component = served.name if isinstance(served, Component) else None
    prefix = f"{manifest.name}-{component}" if component else manifest.name
    where = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"inference-component/{component}"
        if component
        else f"endpoint/{manifest.name}/variant/{manifest.variant}",
        "ScalableDimension": (
            "sagemaker:inference-component:DesiredCopyCount" if component else "sagemaker:variant:DesiredInstanceCount"
        ),
    }
    bounds = {"MinCapacity": scaling.min, "MaxCapacity": scaling.max}
    target = Resource("scalable-target", where["ResourceId"], {**where, **bounds}, (on.key,))
    yield target
    metric = (
        "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution"
        if component
        else "SageMakerVariantConcurrentRequestsPerModelHighResolution"
    )
    yield _policy(
        f"{prefix}-concurrency",
        where,
        target,
        "TargetTrackingScaling",
        {
            "TargetValue": scaling.concurrency_per_copy,
            "PredefinedMetricSpecification": {"PredefinedMetricType": metric},
            "ScaleInCooldown": scaling.scale_in_cooldown_s,
            "ScaleOutCooldown": scaling.scale_out_cooldown_s,
            **({} if scaling.scale_in else {"DisableScaleIn": True}),
        },
    )
    lowest = [scaling.min, *(schedule.min for schedule in served.schedules if schedule.min is not None)]
    if component and min(lowest) == 0:
        yield from _waking(prefix, component, where, target)
    for schedule in served.schedules:
        name = f"{prefix}-{schedule.name}"
        to = {"MinCapacity": schedule.min, "MaxCapacity": schedule.max}
        spec = {
            "ScheduledActionName": name,
            **where,
            "Schedule": schedule.when,
            "Timezone": schedule.timezone,
            "ScalableTargetAction": {key: value for key, value in to.items() if value is not None},
        }
        yield Resource("scheduled-action", name, spec, (target.key,))


def _waking(prefix: str, component: str, where: dict[str, str], target: Resource) -> Iterator[Resource]:
    """Yield what starts a copy when a call has found none: target tracking cannot, having nothing to divide by."""
    policy = _policy(
        f"{prefix}-wake",
        where,
        target,
        "StepScaling",
        {
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Maximum",
            "Cooldown": 60,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )
    yield policy
    yield _alarm(
        f"{prefix}-asleep",
        f"Wakes the inference component {component}: a call found no copy of it.",
        metric=ASLEEP,
        dimensions={"InferenceComponentName": component},
        extra={
            "AlarmActions": [ArnOf(policy.kind, policy.name)],
            "Statistic": "Maximum",
            "Period": 30,
            "EvaluationPeriods": 1,
            "DatapointsToAlarm": 1,
            "Threshold": 1,
            "ComparisonOperator": "GreaterThanOrEqualToThreshold",
            "TreatMissingData": "missing",
        },
        after=policy,
    )


def own_alarms(manifest: str) -> tuple[str, str]:
    """Return the names of the alarms that a manifest makes for its rollback: errors, and latency."""
    return f"{manifest}-server-errors", f"{manifest}-latency"


def alarms_of_rollback(manifest: Manifest) -> Iterator[Resource]:
    """Yield the alarms that take a change back, of those that the manifest has made."""
    rollback = manifest.update.rollback if manifest.update else None
    if rollback is None:
        return
    errors, latency = own_alarms(manifest.name)
    most = rollback.server_errors_per_minute
    # CloudWatch has latencies in microseconds.
    longest = None if rollback.latency_s is None else round(rollback.latency_s * 1_000_000)
    for name, why, metric, statistic, threshold in (
        (errors, "too many answers of 5xx", "Invocation5XXErrors", "Sum", most),
        (latency, "its model answers too late", "ModelLatency", "Average", longest),
    ):
        if threshold is not None:
            yield _alarm(
                name,
                f"Takes a change of the endpoint {manifest.name} back: {why}.",
                metric=metric,
                dimensions={"EndpointName": manifest.name, "VariantName": manifest.variant},
                extra={**_TWO_MINUTES, "Statistic": statistic, "Threshold": threshold},
            )


_TWO_MINUTES = {
    "Period": 60,
    "EvaluationPeriods": 2,
    "DatapointsToAlarm": 2,
    "ComparisonOperator": "GreaterThanThreshold",
    "TreatMissingData": "notBreaching",
}


def _policy(name: str, where: dict[str, str], target: Resource, kind: str, configuration: dict[str, Any]) -> Resource:
    spec = {"PolicyName": name, **where, "PolicyType": kind, f"{kind}PolicyConfiguration": configuration}
    return Resource("scaling-policy", name, spec, (target.key,))


def _alarm(
    name: str,
    description: str,
    *,
    metric: str,
    dimensions: dict[str, str],
    extra: dict[str, Any],
    after: Resource | None = None,
) -> Resource:
    spec = {
        "AlarmName": name,
        "AlarmDescription": description,
        "Namespace": NAMESPACE,
        "MetricName": metric,
        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
        **extra,
    }
    return Resource("alarm", name, spec, (after.key,) if after else ())
