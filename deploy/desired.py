"""What a manifest wants to stand in AWS: pure, a manifest in and resources out, in the order in which they can be made.

    model ─▶ endpoint-config ─▶ endpoint ─▶ inference-component ─▶ scalable-target ─▶ scaling-policy ─▶ alarm

Names begin with the manifest's, but for those of inference components, which callers use. Models and configurations,
which AWS cannot change, are named after their content: a changed one is another one.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_CreateEndpointConfig.html
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from deploy import images
from deploy.desired_growth import alarms_of_rollback, growth_of
from deploy.environment import environment_of
from deploy.growth import Update
from deploy.manifest import Component, LoraAdapter, Manifest
from deploy.resources import Desired, Key, Resource, content_name
from deploy.sections import Container, Instances, Routing


def desired(manifest: Manifest, region: str) -> Desired:
    """Return the resources of a manifest in a Region.

    Raises:
        images.NoImage: AWS has no image of the container there.
    """
    resources = list(_resources(manifest, region))
    return Desired(manifest.name, tuple(resources), region)


def tags_of(manifest: Manifest) -> list[dict[str, str]]:
    """Return a manifest's own tags, as requests have them."""
    return [{"Key": key, "Value": value} for key, value in sorted(manifest.tags.items())]


def _resources(manifest: Manifest, region: str) -> Iterator[Resource]:
    models = {loc: _model(manifest, served, region) for loc, served in manifest.served}
    yield from {model.name: model for model in models.values()}.values()
    config = _config(manifest, models.get(()), region)
    yield config
    rollback = list(alarms_of_rollback(manifest))
    yield from rollback
    endpoint = _endpoint(manifest, config, rollback)
    yield endpoint
    for loc, served in manifest.served:
        on = endpoint
        if isinstance(served, Component):
            on = _component(manifest, served, models[loc], endpoint)
            yield on
            yield from (_adapter(manifest, served, adapter, on) for adapter in served.adapters)
        yield from growth_of(manifest, served, on)


def image_of(container: Container, region: str) -> str:
    """Return the image of a container: its own, else AWS'.

    Raises:
        images.NoImage: AWS has none in that Region.
    """
    return container.image or images.uri(container.kind, container.version, region)


def _model(manifest: Manifest, served: Manifest | Component, region: str) -> Resource:
    container, model = manifest.container_of(served), served.model
    if container is None or model is None:
        raise ValueError("a manifest that was checked has both")
    primary: dict[str, Any] = {
        "Image": image_of(container, region),
        "Environment": environment_of(manifest, served),
    }
    if model.in_s3:
        archive = model.id.endswith(".tar.gz")
        primary["ModelDataSource"] = {
            "S3DataSource": {
                "S3Uri": model.id,
                "S3DataType": "S3Object" if archive else "S3Prefix",
                "CompressionType": "Gzip" if archive else "None",
                **({"ModelAccessConfig": {"AcceptEula": True}} if model.accept_eula else {}),
            }
        }
    spec = {
        "PrimaryContainer": primary,
        "ExecutionRoleArn": manifest.role,
        **_network(manifest),
        **_tagged(manifest),
    }
    base = manifest.name if isinstance(served, Manifest) else f"{manifest.name}-{served.name}"
    return _named("model", "ModelName", base, spec)


def _config(manifest: Manifest, model: Resource | None, region: str) -> Resource:
    variant: dict[str, Any] = {"VariantName": manifest.variant}
    if model:
        variant |= {
            "ModelName": model.name,
            "ModelDataDownloadTimeoutInSeconds": manifest.timeouts.download_s,
            "ContainerStartupHealthCheckTimeoutInSeconds": manifest.timeouts.startup_s,
        }
    variant |= _machines(manifest.instances)
    if ami := manifest.instances.ami or _ami(manifest, region):
        variant["InferenceAmiVersion"] = ami
    if manifest.routing:
        variant["RoutingConfig"] = _routing(manifest.routing)
    spec: dict[str, Any] = {"ProductionVariants": [variant], **_tagged(manifest)}
    if manifest.components:
        # There is no model to say these, so the configuration does.
        spec |= {"ExecutionRoleArn": manifest.role, **_network(manifest)}
    if manifest.kms_key:
        spec["KmsKeyId"] = manifest.kms_key
    if capture := manifest.capture:
        spec["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": capture.percent,
            "DestinationS3Uri": capture.to,
            "CaptureOptions": [{"CaptureMode": what.capitalize()} for what in capture.what],
            **({"KmsKeyId": capture.kms_key} if capture.kms_key else {}),
        }
    return _named("endpoint-config", "EndpointConfigName", manifest.name, spec, (model.key,) if model else ())


def _machines(instances: Instances) -> dict[str, Any]:
    found: dict[str, Any] = {"InitialInstanceCount": instances.count}
    if instances.types:
        found["InstancePools"] = [
            {"InstanceType": one, "Priority": at} for at, one in enumerate(instances.types, start=1)
        ]
    else:
        found["InstanceType"] = instances.type
    if instances.volume_gb:
        found["VolumeSizeInGB"] = instances.volume_gb
    if managed := instances.managed:
        found["ManagedInstanceScaling"] = {
            "Status": "ENABLED",
            "MinInstanceCount": managed.min,
            "MaxInstanceCount": managed.max,
        }
    if instances.reservation:
        found["CapacityReservationConfig"] = {
            "CapacityReservationPreference": "capacity-reservations-only",
            "MlReservationArn": instances.reservation,
        }
    return found


def _ami(manifest: Manifest, region: str) -> str | None:
    """Return the AMI with the newest driver that any of the images needs."""
    containers = [found for _, served in manifest.served if (found := manifest.container_of(served))]
    needed = {images.ami(image_of(container, region)) for container in containers} - {None}
    return min(filter(None, needed), key=lambda name: not name.startswith("al2023"), default=None)


def _routing(routing: Routing) -> dict[str, Any]:
    found: dict[str, Any] = {"RoutingStrategy": routing.strategy.upper()}
    prefix = {"PrefixLength": routing.prefix_bytes, "ConcurrencyThreshold": routing.concurrency_threshold}
    if given := {name: value for name, value in prefix.items() if value is not None}:
        found["PrefixAwareRoutingConfig"] = given
    return found


def _endpoint(manifest: Manifest, config: Resource, rollback: list[Resource]) -> Resource:
    spec: dict[str, Any] = {
        "EndpointName": manifest.name,
        "EndpointConfigName": config.name,
        **({"DeploymentConfig": _deployment(manifest.update, rollback)} if manifest.update else {}),
        **_tagged(manifest),
    }
    return Resource("endpoint", manifest.name, spec, (config.key, *(alarm.key for alarm in rollback)))


def _deployment(update: Update, rollback: list[Resource]) -> dict[str, Any]:
    size = {"Type": "CAPACITY_PERCENT", "Value": update.percent}
    if update.count is not None:
        size = {"Type": "INSTANCE_COUNT", "Value": update.count}
    found: dict[str, Any]
    if update.strategy == "rolling":
        found = {
            "RollingUpdatePolicy": {
                "MaximumBatchSize": size,
                "WaitIntervalInSeconds": update.wait_s,
                "MaximumExecutionTimeoutInSeconds": update.timeout_s,
            }
        }
    else:
        traffic: dict[str, Any] = {"Type": update.strategy.upper(), "WaitIntervalInSeconds": update.wait_s}
        if update.strategy != "all_at_once":
            traffic["CanarySize" if update.strategy == "canary" else "LinearStepSize"] = size
        found = {
            "BlueGreenUpdatePolicy": {
                "TrafficRoutingConfiguration": traffic,
                "TerminationWaitInSeconds": update.keep_old_s,
                "MaximumExecutionTimeoutInSeconds": update.timeout_s,
            }
        }
    if update.rollback:
        names = [*update.rollback.alarms, *(alarm.name for alarm in rollback)]
        found["AutoRollbackConfiguration"] = {"Alarms": [{"AlarmName": name} for name in names]}
    return found


def _component(manifest: Manifest, component: Component, model: Resource, endpoint: Resource) -> Resource:
    needs: dict[str, Any] = {"MinMemoryRequiredInMb": component.memory_mb}
    if component.max_memory_mb is not None:
        needs["MaxMemoryRequiredInMb"] = component.max_memory_mb
    if component.accelerators is not None:
        needs["NumberOfAcceleratorDevicesRequired"] = component.accelerators
    if component.cpus is not None:
        needs["NumberOfCpuCoresRequired"] = component.cpus
    specification: dict[str, Any] = {
        "ModelName": model.name,
        "StartupParameters": {
            "ModelDataDownloadTimeoutInSeconds": component.timeouts.download_s,
            "ContainerStartupHealthCheckTimeoutInSeconds": component.timeouts.startup_s,
        },
        "ComputeResourceRequirements": needs,
    }
    if component.placement:
        specification["SchedulingConfig"] = {"PlacementStrategy": component.placement.upper()}
    if component.cache is not None:
        specification["DataCacheConfig"] = {"EnableCaching": component.cache}
    spec = {
        "InferenceComponentName": component.name,
        "EndpointName": endpoint.name,
        "VariantName": manifest.variant,
        "Specification": specification,
        "RuntimeConfig": {"CopyCount": component.copies},
        **_tagged(manifest),
    }
    return Resource("inference-component", component.name, spec, (endpoint.key, model.key))


def _adapter(manifest: Manifest, component: Component, adapter: LoraAdapter, on: Resource) -> Resource:
    spec = {
        "InferenceComponentName": adapter.name,
        "EndpointName": manifest.name,
        "Specification": {
            "BaseInferenceComponentName": component.name,
            "Container": {"ArtifactUrl": adapter.artifact},
        },
        **_tagged(manifest),
    }
    return Resource("inference-component", adapter.name, spec, (on.key,))


def _network(manifest: Manifest) -> dict[str, Any]:
    network, found = manifest.network, dict[str, Any]()
    if network.isolation:
        found["EnableNetworkIsolation"] = True
    if network.subnets:
        groups, subnets = list(network.security_groups), list(network.subnets)
        found["VpcConfig"] = {"SecurityGroupIds": groups, "Subnets": subnets}
    return found


def _tagged(manifest: Manifest) -> dict[str, Any]:
    return {"Tags": tags_of(manifest)} if manifest.tags else {}


def _named(kind: Any, identity: str, base: str, spec: Mapping[str, Any], after: tuple[Key, ...] = ()) -> Resource:
    name = content_name(base, spec)
    return Resource(kind, name, {identity: name, **spec}, after)
