"""What Application Auto Scaling and an endpoint's last change say, as the sections of a manifest that say the same."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Described = Mapping[str, Any]
_CONCURRENCY = (
    "SageMakerInferenceComponentConcurrentRequestsPerCopyHighResolution",
    "SageMakerVariantConcurrentRequestsPerModelHighResolution",
)


@dataclass(slots=True)
class Growth:
    """`scaling` and `schedules`, and what they could not say."""

    values: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def growth(
    target: str,
    prefix: str,
    first: int,
    targets: Iterable[Described],
    policies: Iterable[Described],
    actions: Iterable[Described],
) -> Growth:
    """Return what scales a target; `first` is the number of copies it has at first."""
    made = Growth()
    bounds = next((one for one in targets if one["ResourceId"] == target), None)
    if bounds is None:
        return made
    tracking = None
    for policy in (one for one in policies if one["ResourceId"] == target):
        configuration = policy.get("TargetTrackingScalingPolicyConfiguration", {})
        metric = configuration.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType")
        if metric in _CONCURRENCY and tracking is None:
            tracking = configuration
        elif not str(policy["PolicyName"]).endswith("-wake"):
            kind = metric or policy.get("PolicyType")
            made.notes.append(f"left out: the scaling policy {policy['PolicyName']}, which goes by {kind}")
    if tracking is None:
        made.notes.append(f"{target} has bounds of scaling, but no policy that goes by running calls: left out")
        return made
    least, most = int(bounds["MinCapacity"]), int(bounds["MaxCapacity"])
    if not least <= first <= most:
        made.notes.append(
            f"{first} copies are configured at first, outside of the bounds {least} to {most}: change one"
        )
    made.values["scaling"] = {
        "min": least,
        "max": most,
        "concurrency_per_copy": tracking["TargetValue"],
        "scale_out_cooldown_s": tracking.get("ScaleOutCooldown", 300),
        "scale_in_cooldown_s": tracking.get("ScaleInCooldown", 300),
        **({"scale_in": False} if tracking.get("DisableScaleIn") else {}),
    }
    schedules = [_schedule(one, prefix, made) for one in actions if one["ResourceId"] == target]
    if schedules:
        made.values["schedules"] = schedules
    return made


def _schedule(action: Described, prefix: str, made: Growth) -> dict[str, Any]:
    name, to = str(action["ScheduledActionName"]), action.get("ScalableTargetAction", {})
    for when in ("StartTime", "EndTime"):
        if action.get(when):
            made.notes.append(f"the schedule {name} has a {when}, which manifests do not have")
    found = {
        "name": name.removeprefix(f"{prefix}-"),
        "when": action["Schedule"],
        "timezone": action.get("Timezone", "UTC"),
        "min": to.get("MinCapacity"),
        "max": to.get("MaxCapacity"),
    }
    return {key: value for key, value in found.items() if value is not None}


def update(deployment: Described) -> dict[str, Any]:
    """Return how an endpoint was last changed, as a manifest has it."""
    found: dict[str, Any] = {}
    if rolling := deployment.get("RollingUpdatePolicy"):
        size = rolling["MaximumBatchSize"]
        found = {"strategy": "rolling", "wait_s": rolling["WaitIntervalInSeconds"]}
        times = {"timeout_s": rolling.get("MaximumExecutionTimeoutInSeconds")}
    else:
        policy = deployment.get("BlueGreenUpdatePolicy", {})
        traffic = policy.get("TrafficRoutingConfiguration", {})
        size = traffic.get("CanarySize") or traffic.get("LinearStepSize") or {}
        found = {
            "strategy": str(traffic.get("Type", "ALL_AT_ONCE")).lower(),
            "wait_s": traffic.get("WaitIntervalInSeconds"),
        }
        times = {
            "keep_old_s": policy.get("TerminationWaitInSeconds"),
            "timeout_s": policy.get("MaximumExecutionTimeoutInSeconds"),
        }
    if size:
        found["percent" if size["Type"] == "CAPACITY_PERCENT" else "count"] = size["Value"]
    found |= times
    alarms = [one["AlarmName"] for one in deployment.get("AutoRollbackConfiguration", {}).get("Alarms", ())]
    if alarms:
        found["rollback"] = {"alarms": alarms}
    return {key: value for key, value in found.items() if value is not None}
