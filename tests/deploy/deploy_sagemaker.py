"""SageMaker's control plane as far as lmi-deploy calls it, and the index of tags: at AWS' edge, for tests.

moto has no UpdateEndpoint, no inference components and no states, and takes only instance types of 2021. Requests are
checked against botocore's own model of the service, errors are worded as SageMaker words them.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Operations.html
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import botocore.session
from botocore.validate import ParamValidator

ACCOUNT, REGION = "123456789012", "us-east-1"
IDENTITIES = {
    "model": "ModelName",
    "endpoint-config": "EndpointConfigName",
    "endpoint": "EndpointName",
    "inference-component": "InferenceComponentName",
}


class Refused(Exception):
    """An error of SageMaker: a ValidationException, which it answers to nearly everything."""

    def __init__(self, message: str, code: str = "ValidationException") -> None:
        super().__init__(message)
        self.code = code


@functools.cache
def service_model() -> Any:
    return botocore.session.get_session().get_service_model("sagemaker")


def shape_of(operation: str) -> Any:
    return service_model().operation_model(operation).input_shape


@dataclass
class Thing:
    """One resource."""

    spec: dict[str, Any]
    tags: dict[str, str]
    arn: str
    status: str = ""
    looks: int = 0
    """How often it is described before it leaves a state that it leaves by itself."""
    then: Callable[[], None] = lambda: None
    reply: dict[str, Any] = field(default_factory=dict)


class SageMaker:
    """The resources, and how they change while somebody looks."""

    def __init__(self) -> None:
        self.things: dict[tuple[str, str], Thing] = {}
        self.looks = 1
        self.failing: dict[str, str] = {}
        """Endpoint or component → the reason why making or updating it fails."""
        self.index_lags = False
        """The index of tags knows nothing yet."""
        self.wrong: list[str] = []
        """What a caller must not do although AWS lets it."""

    def call(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        errors = ParamValidator().validate(request, shape_of(operation))
        if errors.has_errors():
            raise Refused(f"1 validation error detected: {errors.generate_report()}")
        for kind, identity in IDENTITIES.items():
            verb, _, noun = operation.partition(identity.removesuffix("Name"))
            if verb in ("Create", "Describe", "Update", "Delete") and not noun:
                return dict(getattr(self, f"_{verb.lower()}")(kind, request[identity], request))
            if verb == "List" and noun == "s":
                return self._list(kind, identity, operation.removeprefix("List"), request)
        return dict(getattr(self, f"_{operation}")(request))

    def tagged(self, request: dict[str, Any]) -> list[dict[str, Any]]:
        wanted = {(entry["Key"], value) for entry in request["TagFilters"] for value in entry["Values"]}
        found = [] if self.index_lags else [t for t in self.things.values() if wanted <= set(t.tags.items())]
        return [{"ResourceARN": thing.arn, "Tags": _pairs(thing.tags)} for thing in found]

    def names(self, kind: str) -> list[str]:
        return sorted(name for found, name in self.things if found == kind)

    def _get(self, kind: str, name: str) -> Thing:
        try:
            return self.things[kind, name]
        except KeyError:
            words = kind.replace("endpoint-config", "endpoint configuration").replace("-", " ")
            raise Refused(f'Could not find {words} "{_arn(kind, name)}".') from None

    def _create(self, kind: str, name: str, request: dict[str, Any]) -> dict[str, Any]:
        if (kind, name) in self.things:
            raise Refused(f'Cannot create already existing {kind.replace("-", " ")} "{_arn(kind, name)}".')
        tags = {tag["Key"]: tag["Value"] for tag in request.pop("Tags", [])}
        thing = Thing(request, tags, _arn(kind, name))
        if kind == "endpoint-config":
            for variant in request["ProductionVariants"]:
                if "ModelName" in variant:
                    self._get("model", variant["ModelName"])
        if kind == "endpoint":
            self._get("endpoint-config", request["EndpointConfigName"])
        if kind == "inference-component":
            if self._get("endpoint", request["EndpointName"]).status != "InService":
                raise Refused("Inference Components can only be created on InService endpoints.")
            if base := request["Specification"].get("BaseInferenceComponentName"):
                self._get("inference-component", base)
        self.things[kind, name] = thing
        if kind in ("endpoint", "inference-component"):
            self._begin(thing, "Creating", lambda: self._made(thing, name))
        return {f"{IDENTITIES[kind].removesuffix('Name')}Arn": thing.arn}

    def _made(self, thing: Thing, name: str) -> None:
        thing.status = "Failed" if name in self.failing else "InService"
        thing.reply = {"FailureReason": self.failing[name]} if name in self.failing else {}

    def _begin(self, thing: Thing, status: str, then: Callable[[], None]) -> None:
        thing.status, thing.looks, thing.then = status, self.looks, then

    def _update(self, kind: str, name: str, request: dict[str, Any]) -> dict[str, Any]:
        thing = self._get(kind, name)
        if thing.status != "InService":
            raise Refused(f'Cannot update in-progress {kind.replace("-", " ")} "{thing.arn}".')
        if kind == "endpoint":
            config = request["EndpointConfigName"]
            self._get("endpoint-config", config)
            thing.reply = {"PendingDeploymentSummary": {"EndpointConfigName": config}}
            self._begin(thing, "Updating", lambda: self._moved(thing, name, config))
            return {"EndpointArn": thing.arn}
        changed = {key: value for key, value in request.items() if key in ("Specification", "RuntimeConfig")}
        thing.spec |= changed
        self._begin(thing, "Updating", lambda: self._made(thing, name))
        return {"InferenceComponentArn": thing.arn}

    def _moved(self, thing: Thing, name: str, config: str) -> None:
        thing.status = "InService"
        thing.reply = {"FailureReason": self.failing[name]} if name in self.failing else {}
        if name not in self.failing:
            thing.spec["EndpointConfigName"] = config

    def _delete(self, kind: str, name: str, request: dict[str, Any]) -> dict[str, Any]:
        thing = self._get(kind, name)
        if kind in ("endpoint", "inference-component"):
            if thing.status in ("Creating", "Updating"):
                raise Refused(f'Cannot update in-progress {kind.replace("-", " ")} "{thing.arn}".')
            if kind == "endpoint" and any(
                found == "inference-component" and other.spec["EndpointName"] == name
                for (found, _), other in self.things.items()
            ):
                raise Refused("Endpoint has inference components that must be deleted first.")
            self._begin(thing, "Deleting", lambda: self.things.__delitem__((kind, name)))
            return {}
        for (user, other), used in self.things.items():
            text = str(used.spec) + str(used.reply)
            if f"'{name}'" in text and (user, other) != (kind, name):
                self.wrong.append(f"{kind} {name} was deleted while {user} {other} used it")
        del self.things[kind, name]
        return {}

    def _describe(self, kind: str, name: str, request: dict[str, Any]) -> dict[str, Any]:
        thing = self._get(kind, name)
        if thing.status in ("Creating", "Updating", "Deleting"):
            if thing.looks <= 0:
                thing.then()
                thing = self._get(kind, name)
            thing.looks -= 1
        identity = IDENTITIES[kind].removesuffix("Name")
        reply = {**thing.spec, f"{identity}Arn": thing.arn, "CreationTime": time.time(), **thing.reply}
        if thing.status:
            reply |= {f"{identity}Status": thing.status, "LastModifiedTime": time.time()}
        if kind == "endpoint":
            reply["ProductionVariants"] = self._variants(thing)
        if kind == "inference-component":
            reply |= _component(thing)
        return reply

    def _variants(self, endpoint: Thing) -> list[dict[str, Any]]:
        config = self.things.get(("endpoint-config", endpoint.spec["EndpointConfigName"]))
        return [
            {
                "VariantName": variant["VariantName"],
                "CurrentInstanceCount": variant.get("InitialInstanceCount", 0),
                "DesiredInstanceCount": variant.get("InitialInstanceCount", 0),
            }
            for variant in (config.spec["ProductionVariants"] if config else ())
        ]

    def _list(self, kind: str, identity: str, member: str, request: dict[str, Any]) -> dict[str, Any]:
        part, endpoint = request.get("NameContains", ""), request.get("EndpointNameEquals")
        return {
            member: [
                {identity: name, f"{identity.removesuffix('Name')}Arn": thing.arn, "CreationTime": time.time()}
                for (found, name), thing in self.things.items()
                if found == kind and part in name and endpoint in (None, thing.spec.get("EndpointName"))
            ]
        }

    def _ListTags(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - an operation's name
        return {"Tags": _pairs(self._by_arn(request["ResourceArn"]).tags)}

    def _AddTags(self, request: dict[str, Any]) -> dict[str, Any]:  # noqa: N802 - an operation's name
        thing = self._by_arn(request["ResourceArn"])
        thing.tags |= {tag["Key"]: tag["Value"] for tag in request["Tags"]}
        return {"Tags": _pairs(thing.tags)}

    def _by_arn(self, arn: str) -> Thing:
        found = [thing for thing in self.things.values() if thing.arn == arn]
        if not found:
            raise Refused(f"Could not find {arn}.")
        return found[0]


def _component(thing: Thing) -> dict[str, Any]:
    specification = dict(thing.spec["Specification"])
    container = dict(specification.get("Container", {}))
    if image := container.pop("Image", None):
        container["DeployedImage"] = {"SpecifiedImage": image, "ResolvedImage": f"{image}@sha256:0"}
    if container:
        specification["Container"] = container
    copies = thing.spec.get("RuntimeConfig", {}).get("CopyCount")
    runtime = {"RuntimeConfig": {"DesiredCopyCount": copies, "CurrentCopyCount": copies}} if copies is not None else {}
    return {"EndpointArn": _arn("endpoint", thing.spec["EndpointName"]), "Specification": specification, **runtime}


def _arn(kind: str, name: str) -> str:
    return f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:{kind}/{name}"


def _pairs(tags: dict[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]
