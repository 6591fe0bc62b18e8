"""What is in AWS of a manifest: looked up by name, by what its endpoints hold, and by the tags that lmi-deploy leaves.

Tags are found through an index that lags behind, so models and configurations, which are left over whenever an apply is
cut short, are listed by name as well.
https://docs.aws.amazon.com/resourcegroupstagging/latest/APIReference/API_GetResources.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore.exceptions import ClientError

from deploy.aws import Aws, if_there, is_missing, pages
from deploy.resources import DIGEST_TAG, OWNER_TAG, SECRET_TAG, Desired, Key, Kind, Spec, variables

BUSY = frozenset({"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting"})
"""States that an endpoint or component leaves by itself."""
SECRET_NAME = re.compile(r"token|secret|password|passwd|credential|api_?key|access_?key", re.IGNORECASE)
HIDDEN = "(hidden)"
"""Stands for a value that may be a secret and that no tag tells of."""
TAGGED_TYPES = (
    "sagemaker:endpoint",
    "sagemaker:endpoint-config",
    "sagemaker:model",
    "sagemaker:inference-component",
    "cloudwatch:alarm",
)
SCALABLE_IDS = 50
"""DescribeScalableTargets takes as many ids at once."""


@dataclass(frozen=True, slots=True)
class Found:
    """One thing that is in AWS, as the request that would make it."""

    kind: Kind
    name: str
    spec: Spec
    """Without secrets: in their place stands where they came from, or "(hidden)"."""
    owned: bool
    """Made from this manifest."""
    arn: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)
    status: str = ""
    """AWS' word for an endpoint's or component's state; empty for what is simply there."""
    failure: str | None = None
    pending: str | None = None
    """The configuration that an endpoint is on its way to."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """What `status` tells beside it: the variants of an endpoint, the copies of a component, the state of an alarm."""

    @property
    def key(self) -> Key:
        return self.kind, self.name

    @property
    def busy(self) -> bool:
        return self.status in BUSY

    @property
    def digest(self) -> str | None:
        return self.tags.get(DIGEST_TAG)


Observed = Mapping[Key, Found]


def observe(desired: Desired, aws: Aws) -> Observed:
    """Return what is there, of this manifest or in its way."""
    return _Observer(desired, aws).everything()


class _Observer:
    def __init__(self, desired: Desired, aws: Aws) -> None:
        self._desired = desired
        self._aws = aws
        self._found: dict[Key, Found] = {}
        self._tagged = self._everything_tagged()

    def everything(self) -> Observed:
        for name in self._names("endpoint"):
            self._endpoint(name)
        components = self._names("inference-component")
        for _, endpoint in [key for key in self._found if key[0] == "endpoint"]:
            summaries = pages(
                self._aws.sagemaker, "list_inference_components", "InferenceComponents", EndpointNameEquals=endpoint
            )
            components |= dict.fromkeys(summary["InferenceComponentName"] for summary in summaries)
        for name in components:
            self._component(name)
        self._generations()
        self._scaling()
        self._alarms()
        return self._found

    def _names(self, kind: Kind) -> dict[str, None]:
        names = dict.fromkeys(resource.name for resource in self._desired.of(kind))
        keys = [key for arn in self._tagged if (key := _key_of_arn(arn))]
        return names | dict.fromkeys(name for tagged, name in keys if tagged == kind)

    def _everything_tagged(self) -> dict[str, Mapping[str, str]]:
        filters = [{"Key": OWNER_TAG, "Values": [self._desired.manifest]}]
        mappings = pages(
            self._aws.tagging,
            "get_resources",
            "ResourceTagMappingList",
            TagFilters=filters,
            ResourceTypeFilters=list(TAGGED_TYPES),
        )
        return {mapping["ResourceARN"]: _as_dict(mapping.get("Tags", [])) for mapping in mappings}

    def _endpoint(self, name: str) -> None:
        sagemaker = self._aws.sagemaker
        reply = if_there(sagemaker.describe_endpoint, EndpointName=name)
        if reply is None:
            return
        # What AWS calls it, here and below: names that were read from an ARN may have lost their capitals.
        self._add(
            "endpoint",
            reply["EndpointName"],
            _as_request(sagemaker, "CreateEndpoint", reply),
            reply["EndpointArn"],
            status=reply["EndpointStatus"],
            failure=reply.get("FailureReason"),
            pending=reply.get("PendingDeploymentSummary", {}).get("EndpointConfigName"),
            details={"variants": reply.get("ProductionVariants", [])},
        )

    def _component(self, name: str) -> None:
        sagemaker = self._aws.sagemaker
        reply = if_there(sagemaker.describe_inference_component, InferenceComponentName=name)
        if reply is None:
            return
        runtime = reply.get("RuntimeConfig", {})
        spec = _as_request(sagemaker, "CreateInferenceComponent", reply)
        image = reply.get("Specification", {}).get("Container", {}).get("DeployedImage", {}).get("SpecifiedImage")
        if image:
            spec["Specification"]["Container"]["Image"] = image
        if runtime:
            spec["RuntimeConfig"] = {"CopyCount": runtime.get("DesiredCopyCount")}
        self._add(
            "inference-component",
            reply["InferenceComponentName"],
            spec,
            reply["InferenceComponentArn"],
            status=reply["InferenceComponentStatus"],
            failure=reply.get("FailureReason"),
            details={"copies": runtime.get("CurrentCopyCount"), "wanted": runtime.get("DesiredCopyCount")},
        )

    def _generations(self) -> None:
        """Add the configurations and models, today's and those of the past."""
        sagemaker, prefix = self._aws.sagemaker, f"{self._desired.manifest}-"
        in_use = [found.spec["EndpointConfigName"] for found in self._found.values() if found.kind == "endpoint"]
        in_use += [found.pending for found in self._found.values() if found.pending]
        listed = pages(sagemaker, "list_endpoint_configs", "EndpointConfigs", NameContains=prefix)
        configs = self._names("endpoint-config") | dict.fromkeys(in_use)
        configs |= dict.fromkeys(_starting(prefix, (entry["EndpointConfigName"] for entry in listed)))
        for name in configs:
            reply = if_there(sagemaker.describe_endpoint_config, EndpointConfigName=name)
            if reply is not None:
                spec = _as_request(sagemaker, "CreateEndpointConfig", reply)
                self._add("endpoint-config", reply["EndpointConfigName"], spec, reply["EndpointConfigArn"])
        listed = pages(sagemaker, "list_models", "Models", NameContains=prefix)
        models = self._names("model") | dict.fromkeys(_starting(prefix, (entry["ModelName"] for entry in listed)))
        for name in models:
            reply = if_there(sagemaker.describe_model, ModelName=name)
            if reply is not None:
                spec = _as_request(sagemaker, "CreateModel", reply)
                self._add("model", reply["ModelName"], spec, reply["ModelArn"])

    def _scaling(self) -> None:
        scaling = self._aws.scaling
        ids = dict.fromkeys(resource.name for resource in self._desired.of("scalable-target"))
        for (kind, name), found in self._found.items():
            if kind == "endpoint":
                variants = found.details["variants"]
                ids |= dict.fromkeys(f"endpoint/{name}/variant/{variant['VariantName']}" for variant in variants)
            elif kind == "inference-component":
                ids[f"inference-component/{name}"] = None
        wanted = list(ids)
        for at in range(0, len(wanted), SCALABLE_IDS):
            batch = wanted[at : at + SCALABLE_IDS]
            targets = pages(
                scaling, "describe_scalable_targets", "ScalableTargets", ServiceNamespace="sagemaker", ResourceIds=batch
            )
            for target in list(targets):
                self._target(target)

    def _target(self, target: Mapping[str, Any]) -> None:
        scaling, owner = self._aws.scaling, self._desired.manifest
        which = {"ServiceNamespace": "sagemaker", "ResourceId": target["ResourceId"]}
        policies = list(pages(scaling, "describe_scaling_policies", "ScalingPolicies", **which))
        actions = list(pages(scaling, "describe_scheduled_actions", "ScheduledActions", **which))
        names = [policy["PolicyName"] for policy in policies] + [action["ScheduledActionName"] for action in actions]
        ours = [name.startswith(f"{owner}-") for name in names]
        # Nothing here holds a tag: it is another's where the endpoint or component is, and a target also where all that
        # hangs on it is.
        host = self._found.get(host_of(target["ResourceId"]))
        may_be_ours = host is None or host.owned
        self._put(
            Found(
                "scalable-target",
                target["ResourceId"],
                _as_request(scaling, "RegisterScalableTarget", target),
                owned=may_be_ours and (any(ours) or not names),
                details={"others": not all(ours)},
            )
        )
        for policy in policies:
            spec = _as_request(scaling, "PutScalingPolicy", policy)
            owned = may_be_ours and policy["PolicyName"].startswith(f"{owner}-")
            self._put(Found("scaling-policy", policy["PolicyName"], spec, owned, policy["PolicyARN"]))
        for action in actions:
            spec = _as_request(scaling, "PutScheduledAction", action)
            owned = may_be_ours and action["ScheduledActionName"].startswith(f"{owner}-")
            self._put(Found("scheduled-action", action["ScheduledActionName"], spec, owned))

    def _alarms(self) -> None:
        cloudwatch = self._aws.cloudwatch
        for alarm in pages(cloudwatch, "describe_alarms", "MetricAlarms", AlarmNamePrefix=f"{self._desired.manifest}-"):
            name, arn = alarm["AlarmName"], alarm["AlarmArn"]
            tags = _as_dict(cloudwatch.list_tags_for_resource(ResourceARN=arn)["Tags"])
            details = {"state": alarm.get("StateValue"), "reason": alarm.get("StateReason")}
            owned = tags.get(OWNER_TAG) == self._desired.manifest
            spec = _as_request(cloudwatch, "PutMetricAlarm", alarm)
            self._put(Found("alarm", name, spec, owned, arn, tags, details=details))

    def _add(self, kind: Kind, name: str, spec: dict[str, Any], arn: str, **rest: Any) -> None:
        try:
            # Not those of the index: a digest of yesterday would have a component changed once more, for nothing.
            tags = _as_dict(pages(self._aws.sagemaker, "list_tags", "Tags", ResourceArn=arn))
        except ClientError as error:
            if not is_missing(error):
                raise
            return  # gone between two calls
        owned = tags.get(OWNER_TAG) == self._desired.manifest
        self._put(Found(kind, name, _masked(spec, tags, self._plain_variables()), owned, arn, tags, **rest))

    def _plain_variables(self) -> frozenset[tuple[str, str]]:
        everything = (variable for resource in self._desired.resources for variable in variables(resource.spec))
        return frozenset((name, value) for name, value in everything if isinstance(value, str))

    def _put(self, found: Found) -> None:
        self._found[found.key] = found


def host_of(resource_id: str) -> Key:
    """Return what a scalable target scales."""
    parts = resource_id.split("/")
    return ("endpoint", parts[1]) if parts[0] == "endpoint" else ("inference-component", parts[1])


def _masked(spec: Any, tags: Mapping[str, str], known: frozenset[tuple[str, str]]) -> Any:
    """Return `spec` without secrets: what a tag calls one, and what looks like one and is not in the manifest."""
    if isinstance(spec, list):
        return [_masked(child, tags, known) for child in spec]
    if not isinstance(spec, dict):
        return spec
    masked = {}
    for name, value in spec.items():
        if name == "Environment" and isinstance(value, dict):
            masked[name] = {variable: _shown(variable, text, tags, known) for variable, text in value.items()}
        else:
            masked[name] = _masked(value, tags, known)
    return masked


def _shown(variable: str, text: str, tags: Mapping[str, str], known: frozenset[tuple[str, str]]) -> str:
    origin = tags.get(f"{SECRET_TAG}{variable}")
    if origin is not None:
        return f"(secret {origin})"
    return HIDDEN if SECRET_NAME.search(variable) and (variable, text) not in known else text


def _as_request(client: Any, operation: str, reply: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parts of a description that the request which makes the thing has, too."""
    shape = client.meta.service_model.operation_model(operation).input_shape
    picked = _picked(shape, reply)
    return picked if isinstance(picked, dict) else {}


def _picked(shape: Any, value: Any) -> Any:
    if shape.type_name == "structure":
        return {name: _picked(shape.members[name], child) for name, child in value.items() if name in shape.members}
    if shape.type_name == "list":
        return [_picked(shape.member, child) for child in value]
    if shape.type_name == "timestamp":
        return value.isoformat()
    return value


def _as_dict(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in tags}


def _starting(prefix: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(prefix)]


_ARN_KINDS: Mapping[str, Kind] = {
    "endpoint": "endpoint",
    "endpoint-config": "endpoint-config",
    "model": "model",
    "inference-component": "inference-component",
}


def _key_of_arn(arn: str) -> Key | None:
    service, _, resource = arn.split(":", 2)[2].partition(":")
    resource = resource.split(":", 2)[2]
    if service == "cloudwatch":
        return "alarm", resource.removeprefix("alarm:")
    kind = _ARN_KINDS.get(resource.partition("/")[0])
    return None if kind is None else (kind, resource.partition("/")[2])
