"""Which adapter speaks to which container."""

from __future__ import annotations

from adapters.base import Adapter
from adapters.lmi import FIRST_WITH_ADAPTERS, VLLM_MINOR, Lmi
from adapters.vllm import Vllm

DEFAULT_MAX_EVENT_BYTES = 4 * 1024 * 1024
DEFAULT_MAX_REPLY_BYTES = 32 * 1024 * 1024


def make(
    container: str,
    version: str,
    *,
    served_model_name: str | None = None,
    adapter_name: str | None = None,
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
    max_reply_bytes: int = DEFAULT_MAX_REPLY_BYTES,
) -> Adapter:
    """Return the adapter of a container.

    Args:
        container: `lmi` or `vllm`.
        version: of LMI `15` to `28`; of vLLM `0.8` or later, with or without the patch number.
        served_model_name: the name the container knows its model by, None to send none.
        adapter_name: the LoRA adapter that every call asks for in its body, by the container's name for it; None for
            the base model, and for an adapter that SageMaker names to the container.
        max_event_bytes: the longest record of a stream.
        max_reply_bytes: the longest whole reply.

    Raises:
        ValueError: there is no adapter for that container in that version, or the container knows no LoRA adapters.
    """
    if container == "lmi" and version.isdecimal() and int(version) in VLLM_MINOR:
        if adapter_name is not None and int(version) < FIRST_WITH_ADAPTERS:
            raise ValueError(f"LMI {version} has no adapters")
        return Lmi(
            int(version),
            served_model_name=served_model_name,
            adapter_name=adapter_name,
            max_event_bytes=max_event_bytes,
            max_reply_bytes=max_reply_bytes,
        )
    if container == "vllm":
        major, _, rest = version.partition(".")
        minor = rest.partition(".")[0]
        if major == "0" and minor.isdecimal() and int(minor) >= 8:
            return Vllm(
                int(minor),
                served_model_name=served_model_name,
                adapter_name=adapter_name,
                max_event_bytes=max_event_bytes,
                max_reply_bytes=max_reply_bytes,
            )
    raise ValueError(f"no adapter for container {container!r} in version {version!r}")
