"""What a model's configuration says about images, sounds and films in prompts."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from gateway.config.kinds import Expected, Section


def _network(text: str) -> str:
    ip_network(text)  # raises ValueError
    return text


class Media(Section):
    """What may be fetched for a model's prompts, and what is done so that it fits."""

    urls: Literal["off", "pass", "fetch"] = "fetch"
    """URLs besides data: URLs. `fetch`: the gateway fetches them and sends on what it got. `pass`: the container gets
    them as they are; needs `image_hosts`. `off`: they are refused."""
    allow_http: bool = False
    """Fetch plain http URLs too."""
    ports: tuple[Annotated[int, Field(ge=1, le=65_535)], ...] = ()
    """Ports that may be fetched from besides 443 and 80."""
    allow_private: tuple[
        Annotated[str, AfterValidator(_network), Expected("a network, such as 10.1.0.0/16 or fd12::/48")], ...
    ] = ()
    """Networks that may be fetched from although they are not public."""
    max_fetch_bytes: Annotated[int, Field(ge=1024, le=1 << 30)] = 20_971_520
    """Most bytes that one URL may lead to."""
    max_fetch_total_bytes: Annotated[int, Field(ge=1024, le=1 << 32)] = 52_428_800
    """Most bytes that the URLs of one call may lead to together."""
    fetch_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 10.0
    """For one URL, from the wish to the last byte."""
    max_redirects: Annotated[int, Field(ge=0, le=20)] = 3
    """Redirects that are followed."""
    max_pixels: Annotated[int, Field(ge=1, le=1 << 31)] = 50_000_000
    """Most pixels of one image, by its header."""
    scale_down: bool = True
    """Scale images down where a call is over `max_upstream_body_bytes`; otherwise it is refused."""
