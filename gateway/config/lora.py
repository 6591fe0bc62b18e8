"""LoRA adapters of a model: what they are called, and by what a container is told which one to use.

SageMaker names the adapter of an adapter inference component to the container in a header (`BaseInferenceComponentName`
in https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_InferenceComponentSpecification.html). LMI reads that
header or `adapters` in the body (djl-serving djl_python/async_utils.py). So does vLLM from 0.11 on, and then puts what
the header says, be it nothing, in place of the body's `model` (aws/model-hosting-container-standards, sagemaker/lora);
before, it goes by the body alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import StringConstraints

from gateway.config.kinds import Expected, Loc, Section
from gateway.config.names import MAX_PUBLIC_NAME, AwsName, PublicName

_VLLM_VERSION = re.compile(r"0\.([0-9]{1,2})(?:\.[0-9]{1,3})?")
_ROUTE = re.compile(r"(?:^|[;,\s])route=(?!/invocations(?:[;,\s]|$))")
"""CustomAttributes by which AWS' vLLM image takes a call past /invocations, and so past what reads the header."""


class Adapter(Section):
    """A LoRA adapter of a model. Callers name it `model:adapter`."""

    name: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._/@+-]{0,63}$"),
        Expected("an adapter's name: a letter or digit, then at most 63 letters, digits or . _ / @ + -"),
    ]
    """What follows the model's name and a colon."""
    aliases: tuple[PublicName, ...] = ()
    """More names for the same adapter, whole: nothing is put before them."""
    inference_component: AwsName | None = None
    """Adapter inference component to call, in place of the deployments' own: InferenceComponentName."""
    served_name: Annotated[str, StringConstraints(min_length=1, max_length=256)] | None = None
    """The name the container knows the adapter by, to be sent in the body."""

    @classmethod
    def faults(cls, data: dict[str, Any]) -> Iterator[tuple[Loc, str]]:
        component, served = data.get("inference_component"), data.get("served_name")
        if component is not None and served is not None:
            yield ("served_name",), "an adapter has an inference_component or a served_name, not both"
        if component is None and served is None:
            yield (), "missing inference_component or served_name: one of them has to say which adapter it is"


def public_name(model: str, adapter: str) -> str:
    """Return the name by which callers call an adapter of a model."""
    return f"{model}:{adapter}"


def every_adapter(model: str) -> str:
    """Return the word that stands in a key's `models` for all adapters of a model."""
    return f"{model}:*"


def faults_of_adapters(data: Mapping[str, Any]) -> Iterator[tuple[Loc, str]]:
    """Yield what is wrong between the adapters of a model and the rest of it, as `Section.faults` does."""
    name = data.get("name")
    for at, adapter in enumerate(data.get("adapters") or ()):
        if not adapter:
            continue
        own = adapter.get("name")
        if name is not None and own is not None and len(public_name(name, own)) > MAX_PUBLIC_NAME:
            yield ("adapters", at, "name"), f"with the model's name this has more than {MAX_PUBLIC_NAME} characters"
        key = _key(adapter)
        if key is None:
            continue
        for index, deployment in enumerate(data.get("deployments") or ()):
            reason = _out_of_reach(key, deployment or {})
            if reason is not None:
                yield ("adapters", at, key), f"{reason} (deployments[{index}])"
                break


def _key(adapter: Mapping[str, Any]) -> str | None:
    given = [key for key in ("inference_component", "served_name") if adapter.get(key) is not None]
    return given[0] if len(given) == 1 else None


def _out_of_reach(key: str, deployment: Mapping[str, Any]) -> str | None:
    """Return why an adapter that is named by `key` would not be what answers; None if nothing is known against it."""
    container, version = deployment.get("container"), deployment.get("version") or ""
    if container == "lmi":
        return "the LMI container has no adapters before version 16" if version == "15" else None
    found = _VLLM_VERSION.fullmatch(version) if container == "vllm" else None
    if found is None:
        return None
    if key == "inference_component":
        if int(found[1]) < 11:
            return "vLLM before 0.11 does not see which component is called: give served_name instead"
        if _ROUTE.search(deployment.get("custom_attributes") or ""):
            return (
                "with route= in custom_attributes vLLM does not see which component is called: give served_name instead"
            )
    elif int(found[1]) >= 11 and not _ROUTE.search(deployment.get("custom_attributes") or ""):
        return "vLLM from 0.11 on overlooks a name in the body of /invocations: give inference_component instead"
    return None
