"""`GET /admin/about`: the configuration as the console shows it: models, deployments, where things are counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from gateway import __version__
from gateway.config.load import Config
from gateway.config.models import Deployment, with_adapters


def about_route(config: Config, gateway: Callable[[], str]) -> HTTPRouteHandler:
    """Return the handler. `gateway` gives the URL that callers on this machine use."""
    settings = config.settings
    told = {
        "version": __version__,
        "workers": settings.workers,
        "keys_store": settings.keys_store,
        "limits_store": settings.limits_store,
        "redis_policy": settings.redis_policy,
        "keys_needed": config.keys_possible,
        "models": [
            {
                "name": model.name,
                "aliases": list(model.aliases),
                "modalities": list(model.modalities),
                "context_length": model.context_length,
                "adapter_of": base.name if adapter else None,
                "deployments": [_shown(deployment) for deployment in model.deployments],
            }
            for base in config.models
            for model, adapter in with_adapters(base)
        ],
    }

    @get("/admin/about")
    async def about() -> Response[dict[str, Any]]:
        return Response({**told, "url": gateway()}, headers={"cache-control": "no-store"})

    return about


def _shown(deployment: Deployment) -> dict[str, Any]:
    part = deployment.inference_component or deployment.target_variant
    return {
        # As metrics and records of calls name it.
        "name": f"{deployment.endpoint}/{part}" if part else deployment.endpoint,
        "endpoint": deployment.endpoint,
        "region": deployment.region,
        "container": deployment.container,
        "version": deployment.version,
        "weight": deployment.weight,
        "identity": deployment.role_arn.rsplit("/", 1)[-1] if deployment.role_arn else "default",
    }
