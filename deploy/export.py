"""The gateway's models file for a manifest: what was put up here, as the gateway has to know it.

The keys are those of docs/configuration.md. A test reads what is written here with the gateway, which is not imported.
"""

from __future__ import annotations

from typing import Any

import yaml

from deploy import families, images
from deploy.manifest import Component, Manifest
from deploy.manifestfile import ManifestError, Problem, meaning
from deploy.options import tokens

_LENGTHS = ("max_model_len", "max_total_tokens")


def export(manifest: Manifest, region: str | None = None) -> str:
    """Return the models file, as YAML.

    Raises:
        ManifestError: neither the manifest nor `region` says where the endpoint is.
    """
    region = manifest.region or region
    if region is None:
        raise ManifestError([Problem(manifest.name, 0, "region", "missing: the gateway has to know where to call")])
    models = [_entry(manifest, served, region) for _, served in manifest.served]
    text = yaml.safe_dump({"models": models}, sort_keys=False, allow_unicode=True, width=120)
    head = f"# Made by lmi-deploy from the manifest {manifest.name}: add your keys, or merge it into your own file."
    return f"{head}\n{text}"


def public_names(manifest: Manifest) -> list[str]:
    """Return the models' public names, in the order of the manifest, without their adapters'."""
    return [_name(manifest, served) for _, served in manifest.served]


def _name(manifest: Manifest, served: Manifest | Component) -> str:
    if served.gateway.model:
        return served.gateway.model
    own = served.name
    if served.model and not served.model.in_s3:
        own = served.model.id.rsplit("/", 1)[-1]
    return own.lower()


def _entry(manifest: Manifest, served: Manifest | Component, region: str) -> dict[str, Any]:
    container, model = manifest.container_of(served), served.model
    if container is None or model is None:
        raise ValueError("a manifest that was checked has both")
    family = families.of_model(model.known_as)
    entry: dict[str, Any] = {"name": _name(manifest, served)}
    if served.gateway.aliases:
        entry["aliases"] = list(served.gateway.aliases)
    if length := context_length(served):
        entry["context_length"] = length
    # TGI's images take images for few of these models: what they take is for the manifest to say.
    of_family = family.modalities if family and container.kind != "tgi" else ("text",)
    modalities = served.gateway.modalities or of_family
    if modalities != ("text",):
        entry["modalities"] = list(modalities)
    deployment: dict[str, Any] = {
        "endpoint": manifest.name,
        "region": region,
        "container": container.kind,
        "version": _version(container.kind, container.version),
    }
    if isinstance(served, Component):
        deployment["inference_component"] = served.name
    if container.kind == "tgi" and _switched_on(served, "messages_api_enabled"):
        deployment["messages_api"] = True
    entry["deployments"] = [deployment]
    if isinstance(served, Component) and served.adapters:
        entry["adapters"] = [{"name": one.name, "inference_component": one.name} for one in served.adapters]
    return entry


def context_length(served: Manifest | Component) -> int | None:
    """Return the tokens that prompt and answer may have together, None where neither manifest nor family say it."""
    if served.gateway.context_length:
        return served.gateway.context_length
    for options in (served.option, served.engine):
        for name in _LENGTHS:
            length = tokens(options.get(name))
            if length is not None and length > 0:
                return length
    family = families.of_model(served.model.known_as) if served.model else None
    return family.context_length if family else None


def _version(kind: str, version: str) -> str:
    return images.engine_version(kind, version) or version if kind == "vllm" else version


def _switched_on(served: Manifest | Component, name: str) -> bool:
    setting = served.environment.get(name.upper())
    return meaning(served.engine.get(name)) is True or (setting is not None and str(setting.value).lower() == "true")
