"""`GET /metrics`: the metrics of all workers, for those who have the administration's key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler

Scrape = Callable[[str], Awaitable[tuple[bytes, str]]]
"""From an Accept header to the text and its content type."""


def metrics_route(scrape: Scrape) -> HTTPRouteHandler:
    """Return the scrape target."""

    @get("/metrics")
    async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        text, content_type = await scrape(request.headers.get("accept", ""))
        return Response(text, media_type=content_type)

    return metrics
