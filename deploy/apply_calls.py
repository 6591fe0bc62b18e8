"""The calls that make, change and delete each kind of resource; making twice and deleting twice is the same as once.

The only place that reads secrets: they go from where they are into the request, and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from botocore.exceptions import ClientError

from deploy.aws import Aws, DeployError, is_missing, is_there_already
from deploy.observe import Observed
from deploy.plan import Step
from deploy.resources import DIGEST_TAG, OWNER_TAG, SECRET_TAG, ArnOf, Kind, Resource, SecretRef, variables

_UNTAGGABLE = re.compile(r"[^\w\s.:/=+\-@]")
"""What a tag's value cannot hold: https://docs.aws.amazon.com/tag-editor/latest/userguide/tagging.html"""


class Calls:
    """Changes AWS."""

    def __init__(self, aws: Aws, manifest: str, observed: Observed) -> None:
        self._aws = aws
        self._manifest = manifest
        self._arns = {key: found.arn for key, found in observed.items()}

    def create(self, resource: Resource) -> bool:
        """Make a resource; return False if it was there already.

        What is there already can only be what this manifest made a moment ago: the plan saw that nothing was there, and
        anything older is a conflict. So it is the work of another apply, or of a call whose answer was lost.

        Raises:
            DeployError: a secret is missing.
            ClientError: AWS refuses.
        """
        request = self._resolved(resource.spec)
        if resource.kind == "scalable-target":
            self._aws.scaling.register_scalable_target(
                **{**request, "Tags": {tag["Key"]: tag["Value"] for tag in self._tags(resource)}}
            )
            return True
        if resource.kind in ("scaling-policy", "scheduled-action"):
            self._put_scaling(resource.kind, request)
            return True
        try:
            self._creator(resource.kind)(**{**request, "Tags": self._tags(resource)})
        except ClientError as error:
            if not is_there_already(error):
                raise
            return False
        return True

    def update(self, step: Step, *, scaled: bool) -> bool:
        """Bring a resource to what is wanted; return whether AWS has begun something that takes time.

        `scaled` keeps an endpoint's numbers of instances: they are autoscaling's, not the configuration's.
        """
        resource, found = step.resource, step.found
        if resource is None or found is None:
            raise ValueError("an update needs what is there and what is wanted")
        # An update without any change puts what AWS may have dropped.
        more_than_tags = not all(change.path.startswith("Tags.") for change in step.changes) or not step.changes
        if more_than_tags:
            self._change(resource, scaled=scaled)
        if resource.kind in ("model", "endpoint-config", "endpoint"):
            if len(step.changes) > more_than_tags:
                self._aws.sagemaker.add_tags(ResourceArn=found.arn, Tags=self._tags(resource))
        elif resource.kind == "inference-component":
            self._aws.sagemaker.add_tags(ResourceArn=found.arn, Tags=self._tags(resource))
        elif resource.kind == "alarm":
            self._aws.cloudwatch.tag_resource(ResourceARN=found.arn, Tags=self._tags(resource))
        return more_than_tags and resource.kind in ("endpoint", "inference-component")

    def delete(self, kind: Kind, name: str, spec: Mapping[str, Any]) -> bool:
        """Delete something; return False if it was gone already."""
        try:
            self._delete(kind, name, spec)
        except ClientError as error:
            if is_missing(error):
                return False
            raise
        return True

    def _change(self, resource: Resource, *, scaled: bool) -> None:
        spec = self._resolved(resource.spec)
        match resource.kind:
            case "endpoint":
                self._aws.sagemaker.update_endpoint(**_picked(spec, _OF_ENDPOINT), RetainAllVariantProperties=scaled)
            case "inference-component":
                # Where copies are scaled, how many there are is not the manifest's to say.
                wanted = _OF_COMPONENT[:2] if scaled else _OF_COMPONENT
                self._aws.sagemaker.update_inference_component(**_picked(spec, wanted))
            case "scalable-target":
                spec.pop("Tags", None)  # accepted only when the target is new
                self._aws.scaling.register_scalable_target(**spec)
            case "scaling-policy" | "scheduled-action":
                self._put_scaling(resource.kind, spec)
            case "alarm":
                spec.pop("Tags", None)
                self._aws.cloudwatch.put_metric_alarm(**spec)
            case _:
                raise DeployError(f"AWS cannot change the {resource.kind} {resource.name}")

    def _creator(self, kind: Kind) -> Callable[..., Any]:
        sagemaker = self._aws.sagemaker
        creators: dict[Kind, Callable[..., Any]] = {
            "alarm": self._aws.cloudwatch.put_metric_alarm,
            "model": sagemaker.create_model,
            "endpoint-config": sagemaker.create_endpoint_config,
            "endpoint": sagemaker.create_endpoint,
            "inference-component": sagemaker.create_inference_component,
        }
        return creators[kind]

    def _put_scaling(self, kind: Kind, request: Mapping[str, Any]) -> None:
        if kind == "scheduled-action":
            self._aws.scaling.put_scheduled_action(**request)
        else:
            self._arns[kind, request["PolicyName"]] = self._aws.scaling.put_scaling_policy(**request)["PolicyARN"]

    def _delete(self, kind: Kind, name: str, spec: Mapping[str, Any]) -> None:
        sagemaker, scaling = self._aws.sagemaker, self._aws.scaling
        match kind:
            case "model":
                sagemaker.delete_model(ModelName=name)
            case "endpoint-config":
                sagemaker.delete_endpoint_config(EndpointConfigName=name)
            case "endpoint":
                sagemaker.delete_endpoint(EndpointName=name)
            case "inference-component":
                sagemaker.delete_inference_component(InferenceComponentName=name)
            case "scalable-target":
                scaling.deregister_scalable_target(**_scalable(spec))
            case "scaling-policy":
                scaling.delete_scaling_policy(PolicyName=name, **_scalable(spec))
            case "scheduled-action":
                scaling.delete_scheduled_action(ScheduledActionName=name, **_scalable(spec))
            case "alarm":
                self._aws.cloudwatch.delete_alarms(AlarmNames=[name])

    def _tags(self, resource: Resource) -> list[dict[str, str]]:
        tags = {tag["Key"]: tag["Value"] for tag in resource.spec.get("Tags", ())}
        tags |= {OWNER_TAG: self._manifest, DIGEST_TAG: resource.digest}
        for variable, value in variables(resource.spec):
            if isinstance(value, SecretRef):
                tags[f"{SECRET_TAG}{variable}"] = _UNTAGGABLE.sub("_", str(value))
        return [{"Key": key, "Value": value} for key, value in tags.items()]

    def _resolved(self, value: Any) -> Any:
        if isinstance(value, SecretRef):
            return self._aws.secret(value)
        if isinstance(value, ArnOf):
            return self._arns[value.kind, value.name]
        if isinstance(value, Mapping):
            return {name: self._resolved(child) for name, child in value.items()}
        if isinstance(value, list | tuple):
            return [self._resolved(child) for child in value]
        return value


_OF_ENDPOINT = ("EndpointName", "EndpointConfigName", "DeploymentConfig")
_OF_COMPONENT = ("InferenceComponentName", "Specification", "RuntimeConfig")


def _scalable(spec: Mapping[str, Any]) -> dict[str, Any]:
    return _picked(spec, ("ServiceNamespace", "ResourceId", "ScalableDimension"))


def _picked(spec: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: spec[name] for name in names if name in spec}
