"""A model's configuration as what the parts of this package go by."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.openai.urls import UrlPolicy
from gateway.config.models import Model
from gateway.media.addresses import networks
from gateway.media.fetch import FetchPolicy


def url_policy(model: Model) -> UrlPolicy:
    """Return which URLs the prompts of this model may hold."""
    media = model.media
    return UrlPolicy(media.urls, model.image_hosts, media.allow_http, media.ports)


@dataclass(frozen=True, slots=True)
class MediaPolicy:
    """What happens to the media of one model's calls."""

    model: str
    fetch: FetchPolicy
    max_total_bytes: int
    max_pixels: int
    scale_down: bool
    name_bytes: int
    """The longest served model name of its deployments, as JSON."""


def media_policy(model: Model) -> MediaPolicy:
    media = model.media
    return MediaPolicy(
        model=model.name,
        fetch=FetchPolicy(
            urls=url_policy(model),
            allowed=networks(media.allow_private),
            max_bytes=media.max_fetch_bytes,
            timeout_s=media.fetch_timeout_s,
            max_redirects=media.max_redirects,
        ),
        max_total_bytes=media.max_fetch_total_bytes,
        max_pixels=media.max_pixels,
        scale_down=media.scale_down,
        # In JSON a letter takes six bytes at most.
        name_bytes=max(6 * len(deployment.served_model_name or "") + 12 for deployment in model.deployments),
    )
