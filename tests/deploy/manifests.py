"""Manifests for tests: the least that is right, and what is put in place of or beside it."""

from __future__ import annotations

import copy
from typing import Any

import yaml

from deploy.desired import desired
from deploy.manifest import Manifest, parse
from deploy.manifestfile import ManifestError
from deploy.resources import Desired

REGION = "us-east-1"
LEAST: dict[str, Any] = {
    "name": "chat",
    "role": "arn:aws:iam::123456789012:role/sagemaker",
    "model": {"id": "Qwen/QwQ-32B"},
    "container": {"kind": "lmi", "version": 18},
    "instances": {"type": "ml.g5.12xlarge"},
}
COMPONENT: dict[str, Any] = {
    "name": "chat-small",
    "model": {"id": "Qwen/QwQ-32B"},
    "container": {"kind": "lmi", "version": 18},
    "memory_mb": 32_000,
    "accelerators": 4,
}


def with_components(*components: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return a manifest of components; each is the least one with its own keys in place."""
    base = {key: value for key, value in LEAST.items() if key not in ("model", "container")}
    return {**base, "components": [{**COMPONENT, **one} for one in components], **more}


def text_of(values: dict[str, Any]) -> bytes:
    # Copied, or YAML would say with an alias that two parts are one object.
    return yaml.safe_dump(copy.deepcopy(values), sort_keys=False).encode()


def manifest(**changes: Any) -> Manifest:
    return parse(text_of({**LEAST, **changes}), "chat.yaml")


def wanted(values: dict[str, Any]) -> Desired:
    return desired(parse(text_of(values), "chat.yaml"), REGION)


def problems(values: dict[str, Any] | bytes) -> list[str]:
    """Return what is wrong, without the file's name and the line."""
    try:
        parse(values if isinstance(values, bytes) else text_of(values), "chat.yaml")
    except ManifestError as error:
        return [f"{one.path}: {one.message}" for one in error.problems]
    return []
