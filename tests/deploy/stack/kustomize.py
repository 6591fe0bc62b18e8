"""Builds what `kubectl kustomize` builds, from the few features that this project's kustomizations use.

https://kubectl.docs.kubernetes.io/references/kustomize/kustomization/
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import yaml

Manifest = dict[str, Any]
KNOWN = {
    "apiVersion", "kind", "namespace", "resources", "components", "images", "configMapGenerator", "patches", "labels",
}  # fmt: skip


def build(folder: Path) -> list[Manifest]:
    """Return the manifests of a kustomization.

    Raises:
        ValueError: it uses something that is not built here.
    """
    found: list[Manifest] = []
    _apply(folder, found)
    return found


def _apply(folder: Path, found: list[Manifest]) -> None:
    text = yaml.safe_load((folder / "kustomization.yaml").read_text())
    if unknown := set(text) - KNOWN:
        raise ValueError(f"{unknown} is not built here")
    for name in text.get("resources", []):
        path = folder / name
        found += build(path) if path.is_dir() else list(yaml.safe_load_all(path.read_text()))
    renamed = {}
    for generator in text.get("configMapGenerator", []):
        data = {name: (folder / name).read_text() for name in generator["files"]}
        suffix = hashlib.sha256(repr(data).encode()).hexdigest()[:10]
        renamed[generator["name"]] = f"{generator['name']}-{suffix}"
        metadata = {"name": renamed[generator["name"]]}
        found.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data})
    for name in text.get("components", []):
        _apply(folder / name, found)
    for patch in text.get("patches", []):
        target = patch["target"]
        touched = [
            each for each in found if (each["kind"], each["metadata"]["name"]) == (target["kind"], target["name"])
        ]
        if len(touched) != 1:
            raise ValueError(f"{target} is not one manifest")
        for change in yaml.safe_load(patch["patch"]):
            _patch(touched[0], change)
    for manifest in found:
        _name(manifest, text, renamed)


def _patch(manifest: Manifest, change: dict[str, Any]) -> None:
    """Apply one `add` of https://www.rfc-editor.org/rfc/rfc6902."""
    if change["op"] != "add":
        raise ValueError(f"{change['op']} is not built here")
    *way, last = change["path"].split("/")[1:]
    node: Any = manifest
    for step in way:
        node = node[int(step)] if isinstance(node, list) else node[step]
    if isinstance(node, list):
        if last != "-":
            raise ValueError("a list can only be added to here")
        node.append(change["value"])
    else:
        node[last] = change["value"]


def _name(manifest: Manifest, text: dict[str, Any], renamed: dict[str, str]) -> None:
    """Fill in namespace, labels, images, and the names of what was generated."""
    metadata = manifest["metadata"]
    if manifest["kind"] != "Namespace" and "namespace" in text:
        metadata["namespace"] = text["namespace"]
    for each in text.get("labels", []):
        metadata["labels"] = metadata.get("labels", {}) | each["pairs"]
    if manifest["kind"] != "Deployment":
        return
    pod = manifest["spec"]["template"]["spec"]
    for container in pod["containers"]:
        for image in text.get("images", []):
            if container["image"] == image["name"]:
                container["image"] = f"{image['newName']}:{image['newTag']}"
    for volume in pod["volumes"]:
        name = volume.get("configMap", {}).get("name")
        if name in renamed:
            volume["configMap"]["name"] = renamed[name]
