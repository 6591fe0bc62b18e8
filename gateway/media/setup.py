"""What makes prompts' images and the like ready, put together as the configuration says."""

from __future__ import annotations

import ssl

from gateway.config.load import Config
from gateway.config.models import with_adapters
from gateway.media.fetch import Fetcher
from gateway.media.hop import Hop
from gateway.media.library import Library, Shelf
from gateway.media.prepare import Preparer
from gateway.media.resolver import Resolver
from gateway.telemetry.silence import Silence


def make_media(config: Config, telemetry: Silence) -> Preparer:
    """Return what every call with media goes through."""
    settings = config.settings
    fetching = any(model.media.urls == "fetch" and model.modalities != ("text",) for model in config.models)
    # Where nothing is fetched the authorities need not be read; a context without any trusts nobody.
    tls = ssl.create_default_context() if fetching else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    library = Library(
        Fetcher(Hop(tls, Resolver()), concurrent=settings.media_fetches),
        Shelf(settings.media_cache_bytes),
        telemetry,
        fresh_s=settings.media_cache_s,
    )
    return Preparer(
        [model for base in config.models for model, _ in with_adapters(base)],
        library,
        telemetry,
        max_bytes=settings.max_upstream_body_bytes,
        threads=settings.media_threads,
    )
