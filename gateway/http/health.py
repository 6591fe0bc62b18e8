"""`/healthz`: the process lives. `/readyz`: it can serve. `/metrics`: what it has done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from litestar import Request, Response, get
from litestar.handlers import HTTPRouteHandler

from gateway.http.running import Running
from gateway.telemetry.prometheus import PrometheusTelemetry


def health_routes(problems: Callable[[], list[str]], running: Running) -> list[HTTPRouteHandler]:
    """Return the probes. `problems` names what is missing for serving; nothing secret."""

    @get("/healthz", tags=["operations"], summary="Liveness", sync_to_thread=False)
    def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @get("/readyz", tags=["operations"], summary="Readiness", sync_to_thread=False)
    def readyz() -> Response[dict[str, object]]:
        """Everything that serving needs is there: AWS credentials are valid, and the process is not stopping."""
        found = ["stopping"] if running.stopping else problems()
        return Response(
            {"status": "unavailable" if found else "ok", "problems": found}, status_code=503 if found else 200
        )

    return [healthz, readyz]


def metrics_route(telemetry: PrometheusTelemetry, refresh: Callable[[], None]) -> HTTPRouteHandler:
    """Return the scrape target; `refresh` brings gauges up to date."""

    @get("/metrics", tags=["operations"], summary="Prometheus metrics")
    async def metrics(request: Request[Any, Any, Any]) -> Response[bytes]:
        """All metrics, in Prometheus' text format, or in OpenMetrics' for those who accept it."""
        refresh()
        text, content_type = await telemetry.scrape(request.headers.get("accept", ""))
        return Response(text, media_type=content_type)

    return metrics
