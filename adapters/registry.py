"""Which adapter speaks to which container."""

from __future__ import annotations

from adapters.base import Adapter
from adapters.lmi import FIRST_WITH_ADAPTERS, VLLM_MINOR, Lmi
from adapters.lmi_inputs import LmiInputs
from adapters.openai.urls import UrlPolicy
from adapters.tgi.behind_frames import NewStamp, Stamp
from adapters.tgi.container import Tgi
from adapters.tgi.face import GenerateFace
from adapters.vllm import Vllm

DEFAULT_MAX_EVENT_BYTES = 4 * 1024 * 1024
DEFAULT_MAX_REPLY_BYTES = 32 * 1024 * 1024


def no_stamp() -> Stamp:
    """Return the same for every reply, for those who look at no ids."""
    return Stamp("0", 0)


def make(
    container: str,
    version: str,
    *,
    served_model_name: str | None = None,
    adapter_name: str | None = None,
    max_event_bytes: int = DEFAULT_MAX_EVENT_BYTES,
    max_reply_bytes: int = DEFAULT_MAX_REPLY_BYTES,
    schema: str = "openai",
    messages_api: bool = False,
    image_urls: UrlPolicy | None = None,
    new_stamp: NewStamp = no_stamp,
) -> Adapter:
    """Return the adapter of a container.

    Args:
        container: `lmi`, `vllm` or `tgi`.
        version: of LMI `15` to `28`; of vLLM `0.8` or later, of TGI `1.0` or later, both with or without the patch
            number.
        served_model_name: the name the container knows its model by, None to send none.
        adapter_name: the LoRA adapter that every call asks for in its body, by the container's name for it; None for
            the base model, and for an adapter that SageMaker names to the container.
        max_event_bytes: the longest record of a stream.
        max_reply_bytes: the longest whole reply.
        schema: `openai`, or `tgi` for an LMI container that is asked for texts by `inputs` and `parameters`.
        messages_api: a TGI container before 2.4 takes chats, and no texts.
        image_urls: URLs that images in a text may have, None if the model takes no images; for TGI.
        new_stamp: makes up the id and the time of a reply whose container gives it none.

    Raises:
        ValueError: there is no adapter for that container in that version, or the container knows no LoRA adapters.
    """
    if container == "lmi" and version.isdecimal() and int(version) in VLLM_MINOR:
        if adapter_name is not None and int(version) < FIRST_WITH_ADAPTERS:
            raise ValueError(f"LMI {version} has no adapters")
        if schema == "tgi":
            return LmiInputs(
                int(version),
                served_model_name=served_model_name,
                adapter_name=adapter_name,
                max_event_bytes=max_event_bytes,
                max_reply_bytes=max_reply_bytes,
                new_stamp=new_stamp,
            )
        lmi = Lmi(
            int(version),
            served_model_name=served_model_name,
            adapter_name=adapter_name,
            max_event_bytes=max_event_bytes,
            max_reply_bytes=max_reply_bytes,
        )
        return GenerateFace(lmi, VLLM_MINOR[int(version)], max_reply_bytes=max_reply_bytes)
    major, _, rest = version.partition(".")
    minor = rest.partition(".")[0]
    if container == "tgi" and major in ("1", "2", "3") and minor.isdecimal():
        return Tgi(
            (int(major), int(minor)),
            messages_api=messages_api,
            adapter=adapter_name or served_model_name,
            image_urls=image_urls,
            max_event_bytes=max_event_bytes,
            max_reply_bytes=max_reply_bytes,
            new_stamp=new_stamp,
        )
    if container == "vllm" and major == "0" and minor.isdecimal() and int(minor) >= 8:
        vllm = Vllm(
            int(minor),
            served_model_name=served_model_name,
            adapter_name=adapter_name,
            max_event_bytes=max_event_bytes,
            max_reply_bytes=max_reply_bytes,
        )
        # 0.10.2 came with ids for tokens; LMI has no earlier 0.10.
        token_ids = False if int(minor) == 10 and rest.partition(".")[2] in ("", "0", "1") else None
        return GenerateFace(vllm, int(minor), token_ids=token_ids, max_reply_bytes=max_reply_bytes)
    raise ValueError(f"no adapter for container {container!r} in version {version!r}")
