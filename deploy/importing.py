"""A manifest for what stands already: an endpoint in AWS, or an environment in a file.

    describe_* ─▶ Standing ─▶ Imported (a manifest's values, and what they could not say)

Secrets are never written: where one stood, the manifest says where to take it from.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeEndpoint.html
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from deploy import images
from deploy.desired_growth import own_alarms
from deploy.importing_environment import Sections, sections
from deploy.importing_growth import Growth, growth, update
from deploy.resources import SECRET_TAG
from deploy.sections import Container

Described = Mapping[str, Any]
_TOO_OLD = images.LMI_VERSIONS[0]


class CannotImport(Exception):
    """There is something that no manifest can say; the text says what, and what to do."""


@dataclass(slots=True)
class Standing:
    """What AWS says of an endpoint, as its describe calls answer."""

    endpoint: Described
    config: Described
    models: dict[str, Described] = field(default_factory=dict)
    components: list[Described] = field(default_factory=list)
    targets: list[Described] = field(default_factory=list)
    policies: list[Described] = field(default_factory=list)
    actions: list[Described] = field(default_factory=list)
    tags: dict[str, dict[str, str]] = field(default_factory=dict)
    """ARN → tags."""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Imported:
    """A manifest, and what it leaves out."""

    values: dict[str, Any]
    notes: tuple[str, ...]

    def text(self) -> str:
        """Return the manifest as YAML, what it leaves out in comments above."""
        head = "".join(f"# - {note}\n" for note in self.notes)
        intro = "# Imported. What to know before it is applied:\n" if head else ""
        return intro + head + yaml.safe_dump(self.values, sort_keys=False, allow_unicode=True, width=120)


def imported(standing: Standing, container: Container | None = None) -> Imported:
    """Return the manifest for an endpoint.

    Args:
        standing: What AWS says of it.
        container: What its image is, where the image does not tell.

    Raises:
        CannotImport: it is of a kind that manifests do not have.
    """
    return _Importing(standing, container).made()


class _Importing:
    def __init__(self, standing: Standing, container: Container | None) -> None:
        self._standing = standing
        self._container = container
        self._notes: list[str] = []
        self._variant = standing.config["ProductionVariants"][0]
        self._name = str(standing.endpoint["EndpointName"])

    def made(self) -> Imported:
        config, variant = self._standing.config, self._variant
        if "ServerlessConfig" in variant:
            raise CannotImport("a serverless endpoint has no GPU: manifests are for instances")
        values: dict[str, Any] = {"name": self._name, "region": self._standing.region}
        if variant["VariantName"] != "AllTraffic":
            values["variant"] = variant["VariantName"]
        shared = "ModelName" not in variant
        model = None if shared else self._standing.models[variant["ModelName"]]
        values["role"] = (config if model is None else model).get("ExecutionRoleArn") or self._role_of_components()
        if model is None:
            values["components"] = list(self._components())
        else:
            values |= self._served(model, variant, variant["ModelName"])
        values["instances"] = self._instances(variant)
        values |= self._network(model or config)
        values |= self._rest(config, variant)
        for where in ("ExplainerConfig", "AsyncInferenceConfig", "ShadowProductionVariants"):
            if config.get(where):
                self._notes.append(f"the endpoint configuration has {where}, which manifests do not have")
        for name in ("CoreDumpConfig", "EnableSSMAccess", "AcceleratorPartitionLayouts"):
            if variant.get(name):
                self._notes.append(f"the variant has {name}, which manifests do not have")
        others = [str(one["VariantName"]) for one in config["ProductionVariants"][1:]]
        if others:
            self._notes.append(f"left out: the further variants {', '.join(others)}")
        return Imported({key: value for key, value in values.items() if value not in ({}, [])}, tuple(self._notes))

    def _role_of_components(self) -> str:
        roles = {str(model.get("ExecutionRoleArn")) for model in self._standing.models.values()}
        return min(roles, default="")

    def _served(self, model: Described, startup: Described, name: str) -> dict[str, Any]:
        primary = model.get("PrimaryContainer") or model["Containers"][0]
        if len(model.get("Containers") or ()) > 1:
            self._notes.append(f"the model {name} has several containers: only the first is carried along")
        image, environment = primary["Image"], dict(primary.get("Environment") or {})
        container, raised = self._container_of(image, environment)
        source = primary.get("ModelDataSource", {}).get("S3DataSource", {})
        model_id = source.get("S3Uri") or primary.get("ModelDataUrl")
        own = sections(container, environment, model_id, self._origins(model), raised)
        if source.get("ModelAccessConfig", {}).get("AcceptEula"):
            own.model["accept_eula"] = True
        for extra in (
            "AdditionalModelDataSources",
            "InferenceSpecificationName",
            "ModelPackageName",
            "MultiModelConfig",
        ):
            if primary.get(extra):
                self._notes.append(f"the model {name} has {extra}, which manifests do not have")
        self._notes += own.notes
        values = own.as_dict()
        return {
            "model": values.pop("model"),
            "container": self._written(container, image),
            **values,
            **_timeouts(startup, own),
        }

    def _container_of(self, image: str, environment: Mapping[str, str]) -> tuple[Container, int | None]:
        if self._container:
            return self._container, None
        known = images.recognised(image)
        if known is None:
            raise CannotImport(f"what is in the image {image} is not known: say it with --container, such as lmi:18")
        if known.kind == "lmi" and int(known.version) < _TOO_OLD:
            self._notes.append(f"the endpoint runs LMI {known.version}: applying raises it to {_TOO_OLD}, a new image")
            return Container(kind="lmi", version=str(_TOO_OLD)), int(known.version)
        return Container.model_validate({"kind": known.kind, "version": known.version}), None

    def _written(self, container: Container, image: str) -> dict[str, str]:
        found = {"kind": str(container.kind), "version": container.version}
        try:
            usual = images.uri(container.kind, container.version, self._standing.region)
        except images.NoImage:
            usual = ""
        known = images.recognised(image)
        raised = known is not None and known.kind == "lmi" and int(known.version) < _TOO_OLD
        return found if image == usual or raised else {**found, "image": image}

    def _origins(self, model: Described) -> dict[str, dict[str, str]]:
        """Return where secrets were read when lmi-deploy put them there, which its tags say."""
        found = {}
        for key, value in self._standing.tags.get(str(model.get("ModelArn")), {}).items():
            if key.startswith(SECRET_TAG):
                store, _, rest = value.partition(":")
                name, _, json_key = rest.partition(" ")
                origin = {"env": name} if store == "env" else {"secret": name}
                found[key.removeprefix(SECRET_TAG)] = origin | ({"json_key": json_key} if json_key else {})
        return found

    def _components(self) -> Iterator[dict[str, Any]]:
        adapters = [one for one in self._standing.components if _specification(one).get("BaseInferenceComponentName")]
        for component in self._standing.components:
            specification = _specification(component)
            if component in adapters:
                continue
            name = str(component["InferenceComponentName"])
            needs = specification.get("ComputeResourceRequirements", {})
            model = self._model_of(component)
            values = {
                "name": name,
                **self._served(model, specification.get("StartupParameters", {}), name),
                "copies": component.get("RuntimeConfig", {}).get("DesiredCopyCount", 1),
                "memory_mb": needs.get("MinMemoryRequiredInMb"),
                "max_memory_mb": needs.get("MaxMemoryRequiredInMb"),
                "accelerators": _whole(needs.get("NumberOfAcceleratorDevicesRequired")),
                "cpus": needs.get("NumberOfCpuCoresRequired"),
                "placement": specification.get("SchedulingConfig", {}).get("PlacementStrategy", "").lower() or None,
                "cache": specification.get("DataCacheConfig", {}).get("EnableCaching"),
            }
            values = {key: value for key, value in values.items() if value is not None}
            values |= self._growth(f"inference-component/{name}", f"{self._name}-{name}", int(values["copies"]))
            own = [one for one in adapters if _specification(one)["BaseInferenceComponentName"] == name]
            if own:
                values["adapters"] = [
                    {"name": one["InferenceComponentName"], "artifact": _artifact(_specification(one))} for one in own
                ]
            yield values

    def _model_of(self, component: Described) -> Described:
        specification = _specification(component)
        if "ModelName" in specification:
            return self._standing.models[specification["ModelName"]]
        # A component may say its container itself: as manifests have it, a model does.
        own = specification.get("Container", {})
        image = own.get("DeployedImage", {}).get("SpecifiedImage") or own.get("Image")
        primary = {"Image": image, "Environment": own.get("Environment"), "ModelDataUrl": own.get("ArtifactUrl")}
        return {"PrimaryContainer": {key: value for key, value in primary.items() if value}}

    def _instances(self, variant: Described) -> dict[str, Any]:
        pools = sorted(variant.get("InstancePools") or (), key=lambda pool: int(pool["Priority"]))
        found: dict[str, Any] = {"types": [pool["InstanceType"] for pool in pools]} if pools else {}
        if not pools:
            found["type"] = variant.get("InstanceType")
        found["count"] = variant.get("InitialInstanceCount", 1)
        if "VolumeSizeInGB" in variant:
            found["volume_gb"] = variant["VolumeSizeInGB"]
        if "InferenceAmiVersion" in variant:
            found["ami"] = variant["InferenceAmiVersion"]
        managed = variant.get("ManagedInstanceScaling") or {}
        if managed.get("Status") == "ENABLED":
            found["managed"] = {"min": managed.get("MinInstanceCount", 1), "max": managed.get("MaxInstanceCount", 1)}
        if reservation := variant.get("CapacityReservationConfig", {}).get("MlReservationArn"):
            found["reservation"] = reservation
        return found

    def _network(self, source: Described) -> dict[str, Any]:
        vpc = source.get("VpcConfig") or {}
        found = {
            "isolation": True if source.get("EnableNetworkIsolation") else None,
            "subnets": list(vpc.get("Subnets") or ()),
            "security_groups": list(vpc.get("SecurityGroupIds") or ()),
        }
        return {"network": {key: value for key, value in found.items() if value}}

    def _rest(self, config: Described, variant: Described) -> dict[str, Any]:
        values: dict[str, Any] = {"kms_key": config["KmsKeyId"]} if config.get("KmsKeyId") else {}
        tags = self._standing.tags.get(str(self._standing.endpoint.get("EndpointArn")), {})
        values["tags"] = {key: value for key, value in tags.items() if not re.match("aws:|lmi-deploy:", key)}
        if routing := variant.get("RoutingConfig"):
            prefix = routing.get("PrefixAwareRoutingConfig", {})
            names = {"prefix_bytes": "PrefixLength", "concurrency_threshold": "ConcurrencyThreshold"}
            values["routing"] = {
                "strategy": routing["RoutingStrategy"].lower(),
                **{name: prefix[parameter] for name, parameter in names.items() if parameter in prefix},
            }
        capture = config.get("DataCaptureConfig") or {}
        if capture.get("EnableCapture"):
            modes = [str(one["CaptureMode"]).lower() for one in capture["CaptureOptions"]]
            values["capture"] = {
                "to": capture["DestinationS3Uri"],
                "percent": capture["InitialSamplingPercentage"],
                "what": ["input", "output"] if "inputandoutput" in modes else modes,
                **({"kms_key": capture["KmsKeyId"]} if capture.get("KmsKeyId") else {}),
            }
        if deployment := self._standing.endpoint.get("LastDeploymentConfig"):
            values["update"] = self._update(deployment)
        if "ModelName" in variant:
            target = f"endpoint/{self._name}/variant/{variant['VariantName']}"
            values |= self._growth(target, self._name, int(variant.get("InitialInstanceCount", 1)))
        return values

    def _update(self, deployment: Described) -> dict[str, Any]:
        found = update(deployment)
        alarms = found.get("rollback", {}).get("alarms", [])
        made = [name for name in alarms if name in own_alarms(self._name)]
        if made:
            self._notes.append(
                f"left out: the alarms {', '.join(made)}, made from update.rollback's own numbers: say these"
            )
            kept = [name for name in alarms if name not in made]
            found["rollback"] = {"alarms": kept}
            if not kept:
                del found["rollback"]
        return found

    def _growth(self, target: str, prefix: str, first: int) -> dict[str, Any]:
        standing = self._standing
        found: Growth = growth(target, prefix, first, standing.targets, standing.policies, standing.actions)
        self._notes += found.notes
        return found.values


def _specification(component: Described) -> Described:
    found: Described = component.get("Specification") or {}
    return found


def _artifact(specification: Described) -> str:
    return str(specification.get("Container", {}).get("ArtifactUrl", ""))


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _timeouts(startup: Described, own: Sections) -> dict[str, Any]:
    names = {
        "download_s": "ModelDataDownloadTimeoutInSeconds",
        "startup_s": "ContainerStartupHealthCheckTimeoutInSeconds",
    }
    found = {name: startup[parameter] for name, parameter in names.items() if parameter in startup}
    if own.loading_s is not None:
        longest = int(found.get("startup_s", 1800))
        if own.loading_s > longest:
            own.notes.append(
                f"the container may load for {own.loading_s} s, SageMaker waits {longest} s: said as {longest}"
            )
        if min(own.loading_s, longest) != longest - 60:
            found["loading_s"] = min(own.loading_s, longest)
    return {"timeouts": found} if found else {}
