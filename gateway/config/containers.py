"""Which containers may serve a model, in which versions, and what can be said of each.

The versions are those the adapters know (adapters/registry.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from gateway.config.kinds import Loc

LMI_VERSIONS = range(15, 29)

_VERSIONS = {
    "lmi": (
        re.compile("|".join(map(str, LMI_VERSIONS))),
        f"a whole number from {LMI_VERSIONS[0]} to {LMI_VERSIONS[-1]}",
    ),
    "vllm": (re.compile(r"0\.([89]|[1-9][0-9])(\.[0-9]{1,3})?"), "0.8 or later, such as 0.11 or 0.27.1"),
    "tgi": (
        re.compile(r"[1-3]\.(0|[1-9][0-9]?)(\.[0-9]{1,3})?"),
        "1.0 to 3, with its minor number, such as 2.4 or 3.3.4",
    ),
}
"""Container → its versions, and what they are called after "expected a version of the … container"."""
_CHATS_OR_TEXTS = re.compile(r"(1\.([4-9]|[1-9][0-9])|2\.[0-3])(\..*)?")
"""Versions of TGI whose `/invocations` takes chats in place of texts if MESSAGES_API_ENABLED is set."""


_TEXTS_AT_FIRST = re.compile(r"(1\.[0-9]+|2\.[0-3])(\..*)?")
"""Versions of TGI whose `/invocations` takes texts and no chats unless that variable is set."""


def completes_only(container: str, version: str, *, messages_api: bool) -> bool:
    """Return whether a container takes texts and no chats."""
    return container == "tgi" and not messages_api and _TEXTS_AT_FIRST.fullmatch(version) is not None


def faults(data: dict[str, Any]) -> Iterator[tuple[Loc, str]]:
    """Yield what is wrong with a deployment's container and what is said of it: where, and a message."""
    container, version = data.get("container"), data.get("version")
    known = version is not None
    if container in _VERSIONS and version is not None:
        versions, wanted = _VERSIONS[container]
        known = versions.fullmatch(version) is not None
        if not known:
            yield ("version",), f"expected a version of the {container} container, {wanted}, found {version!r}"
    if container not in (None, "lmi") and data.get("schema") == "tgi":
        yield ("schema",), f"the {container} container has one schema: schema is for the lmi container"
    if data.get("messages_api"):
        if container not in (None, "tgi"):
            yield ("messages_api",), f"messages_api is for the tgi container, not {container}"
        elif container and known and not _CHATS_OR_TEXTS.fullmatch(str(version)):
            yield ("messages_api",), "messages_api is for versions 1.4 to 2.3: others take texts only, or both always"
