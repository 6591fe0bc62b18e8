"""What stands in AWS, as values: a resource is the request that would make it, and what it needs to be there first.

    manifest ─▶ Desired ─▶ plan ◀─ Observed ◀─ AWS

The parameters of a resource are those of boto3's create requests, under the same names:
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Operations.html,
https://docs.aws.amazon.com/autoscaling/application/APIReference/API_Operations.html,
https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Kind = Literal[
    "model",
    "endpoint-config",
    "endpoint",
    "inference-component",
    "scalable-target",
    "scaling-policy",
    "scheduled-action",
    "alarm",
]
Key: TypeAlias = tuple[Kind, str]
"""Kind and name: there is one resource of each."""
Spec: TypeAlias = Mapping[str, Any]
"""JSON values, a `SecretRef` wherever a secret goes, and an `ArnOf` where another resource's ARN does."""

IDENTITY: Mapping[Kind, str] = {
    "model": "ModelName",
    "endpoint-config": "EndpointConfigName",
    "endpoint": "EndpointName",
    "inference-component": "InferenceComponentName",
    "scalable-target": "ResourceId",
    "scaling-policy": "PolicyName",
    "scheduled-action": "ScheduledActionName",
    "alarm": "AlarmName",
}
"""The parameter that holds a resource's name."""
IMMUTABLE: frozenset[Kind] = frozenset({"model", "endpoint-config"})
"""What AWS cannot change: a changed one is another one, named after its content."""

OWNER_TAG = "lmi-deploy:manifest"
"""Its value is the name of the manifest that a resource was made from."""
DIGEST_TAG = "lmi-deploy:digest"
"""Its value is the digest of the spec that a resource was last made or changed to."""
SECRET_TAG = "lmi-deploy:secret:"  # noqa: S105 - the beginning of a tag's key, not a secret
"""Before the name of an environment variable: its value says where the variable's secret was read."""

NAME_LIMIT = 63
"""SageMaker's longest name, in characters."""
DIGEST_CHARACTERS = 8


@dataclass(frozen=True, slots=True)
class SecretRef:
    """Where a secret is. What it is is read by `apply` alone, when the request that needs it is made."""

    store: Literal["secretsmanager", "env"]
    name: str
    """Secrets Manager's name or ARN, or an environment variable of the process that applies."""
    json_key: str | None = None
    """The key to take where the secret is a JSON object."""

    def __str__(self) -> str:
        return f"{self.store}:{self.name}" + (f" {self.json_key}" if self.json_key else "")


@dataclass(frozen=True, slots=True)
class ArnOf:
    """Stands in a spec for the ARN of another resource of the manifest, which AWS tells only when that is made.

    An alarm's AlarmActions hold the one of a scaling policy; such an ARN ends in `:policyName/` and the policy's name.
    """

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


@dataclass(frozen=True, slots=True)
class Resource:
    """One thing in AWS."""

    kind: Kind
    name: str
    spec: Spec
    """The create request, with its name, without the tags that lmi-deploy adds by itself."""
    after: tuple[Key, ...] = ()
    """What must be there, and ready, before it is made."""
    secrets: tuple[SecretRef, ...] = field(init=False)
    """The secrets that stand in `spec`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "secrets", tuple(_secrets(self.spec)))
        if self.spec.get(IDENTITY[self.kind]) != self.name:
            raise ValueError(f"the {self.kind} {self.name!r} is called otherwise in its own {IDENTITY[self.kind]}")
        if len(self.secrets) != sum(isinstance(value, SecretRef) for _, value in variables(self.spec)):
            raise ValueError(f"the {self.kind} {self.name!r} has a secret outside of a container's Environment")

    @property
    def key(self) -> Key:
        return self.kind, self.name

    @property
    def digest(self) -> str:
        """What changes whenever the spec does; not with tags, which change in place."""
        return digest(self.spec)


@dataclass(frozen=True, slots=True)
class Desired:
    """What a manifest wants.

    The names of models, configurations, scaling policies, scheduled actions and alarms begin with the manifest's name
    and a hyphen: for some of them there are no tags, so that their names alone say whose they are.
    """

    manifest: str
    """The manifest's name: what resources are tagged with."""
    resources: tuple[Resource, ...]
    region: str | None = None
    """None leaves it to boto3's chain."""

    def of(self, kind: Kind) -> tuple[Resource, ...]:
        return tuple(resource for resource in self.resources if resource.kind == kind)


def content_name(base: str, spec: Spec) -> str:
    """Return `base` and a digest of `spec`, at most 63 characters: the name of a model or configuration.

    `spec` holds no name yet, or an old one: it does not count.
    """
    return f"{base[: NAME_LIMIT - DIGEST_CHARACTERS - 1].rstrip('-')}-{digest(spec)}"


def digest(spec: Spec) -> str:
    """Return 8 hexadecimal digits that say what `spec` is, but for its own name and tags."""
    counted = {key: value for key, value in spec.items() if key not in (*_OWN_NAMES, "Tags")}
    return hashlib.sha256(canonical(counted).encode()).hexdigest()[:DIGEST_CHARACTERS]


def canonical(value: Any) -> str:
    """Return JSON text that is the same for the same value; secrets stand in it as references."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), default=_reference)


def variables(value: Any) -> Iterator[tuple[str, Any]]:
    """Yield the environment variables of every container in a spec."""
    if isinstance(value, Mapping):
        for name, child in value.items():
            if name == "Environment" and isinstance(child, Mapping):
                yield from child.items()
            else:
                yield from variables(child)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from variables(child)


def _reference(value: Any) -> Any:
    if isinstance(value, SecretRef):
        return {"secret": str(value)}
    if isinstance(value, ArnOf):
        return {"arn": str(value)}
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a spec holds JSON values and secrets, not {type(value).__name__}")


_OWN_NAMES = ("ModelName", "EndpointConfigName")
# Of the immutable kinds alone: an endpoint's configuration is what it is, an endpoint's own name never changes.


def _secrets(value: Any) -> Iterator[SecretRef]:
    if isinstance(value, SecretRef):
        yield value
    elif isinstance(value, Mapping):
        for child in value.values():
            yield from _secrets(child)
    elif isinstance(value, list | tuple):
        for child in value:
            yield from _secrets(child)


def in_order(resources: Iterable[Resource]) -> list[Resource]:
    """Return the resources so that each comes after those it needs, otherwise as they were.

    Raises:
        ValueError: two need one another, or two have the same kind and name.
    """
    waiting = {}
    for resource in resources:
        if resource.key in waiting:
            raise ValueError(f"two resources are the {resource.kind} {resource.name!r}")
        waiting[resource.key] = resource
    ordered: list[Resource] = []
    while waiting:
        ready = [resource for resource in waiting.values() if not any(key in waiting for key in resource.after)]
        if not ready:
            raise ValueError(f"these need one another: {', '.join(name for _, name in waiting)}")
        ordered.append(ready[0])
        del waiting[ready[0].key]
    return ordered
