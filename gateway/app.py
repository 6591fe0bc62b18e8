"""The composition root: settings and models in, the Litestar application out.

    Config ─▶ KeyStore ─▶ Authenticator ──────────────┐
           ─▶ Origins, CredentialStore, Signer ─▶ SageMakerTarget ┐
           ─▶ adapters.make ──────────────────────────────────────┴▶ Lane ─▶ Catalog
           ─▶ PrometheusTelemetry, RetryBudget ─▶ Dispatcher ─▶ OpenAIRoute ×2 ─▶ Litestar

Every object is built here, once; nothing else builds one of these.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from litestar import Litestar
from litestar.exceptions import HTTPException
from litestar.handlers import asgi

from adapters.base import Surface
from adapters.registry import make as make_adapter
from gateway.auth.store import FileKeyStore
from gateway.config.load import Config
from gateway.config.lora import Adapter, every_adapter, public_name
from gateway.config.models import Model, with_adapters
from gateway.dispatch import Dispatcher
from gateway.errors import GatewayError
from gateway.http.authenticate import Authenticator
from gateway.http.docs import openapi_config
from gateway.http.errors import on_exception, on_gateway_error, on_http_exception
from gateway.http.health import health_routes, metrics_route
from gateway.http.models import routes as models_routes
from gateway.http.openai import OpenAIRoute
from gateway.http.protocol import Frontend, GatewayProtocol
from gateway.http.running import Running
from gateway.routing.attempts import RetryBudget
from gateway.routing.catalog import Catalog, ServedModel
from gateway.routing.lane import Lane
from gateway.sagemaker.credentials import CredentialStore
from gateway.sagemaker.endpoints import Origins, runtime_url
from gateway.sagemaker.runtime import SageMakerTarget
from gateway.sagemaker.sigv4 import Signer
from gateway.telemetry.prometheus import PrometheusTelemetry


class Upstream:
    """Everything between the models file and SageMaker."""

    def __init__(self, config: Config, telemetry: PrometheusTelemetry) -> None:
        settings = config.settings
        self._settings = settings
        self._telemetry = telemetry
        self.origins = Origins(ca_bundle=settings.ca_bundle, idle_s=settings.upstream_idle_s)
        self.credentials = CredentialStore()
        self._signers: dict[tuple[str, str | None], Signer] = {}
        self.catalog = Catalog(
            self._serve(model, adapter, base) for base in config.models for model, adapter in with_adapters(base)
        )

    def _serve(self, model: Model, adapter: Adapter | None, base: Model) -> ServedModel:
        served_name = adapter.served_name if adapter else None
        lanes = tuple(self._lane(model, index, served_name) for index in range(len(model.deployments)))
        return ServedModel(model, lanes, parent=base.name if adapter else None)

    def _lane(self, model: Model, index: int, adapter_name: str | None) -> Lane:
        deployment, settings = model.deployments[index], self._settings
        url = deployment.endpoint_url or settings.sagemaker_endpoint_url or runtime_url(deployment.region)
        target = SageMakerTarget(
            deployment,
            model.timeouts,
            origin=self.origins.get(url),
            signer=self._signers.setdefault((deployment.region, deployment.role_arn), Signer(deployment.region)),
            credentials=self.credentials.source(deployment.role_arn, deployment.external_id, deployment.region),
            max_reply_bytes=settings.max_reply_bytes,
            resent=self._telemetry.resent,
        )
        adapter = make_adapter(
            deployment.container,
            deployment.version,
            served_model_name=deployment.served_model_name,
            adapter_name=adapter_name,
            max_event_bytes=settings.max_event_bytes,
            max_reply_bytes=settings.max_reply_bytes,
        )
        return Lane(target, adapter, deployment.weight)

    def problems(self) -> list[str]:
        """Return what is missing for serving."""
        return [f"aws credentials: {name}" for name in self.credentials.problems()]

    def measure(self) -> None:
        """Bring the gauges up to date."""
        self._telemetry.upstream(
            self.origins.open_connections,
            {source.name: source.current() is not None for source in self.credentials.sources},
        )


def build(config: Config) -> Litestar:
    """Return the application."""
    settings = config.settings
    telemetry = PrometheusTelemetry()
    upstream = Upstream(config, telemetry)
    keys = FileKeyStore(config.keys, _names(config)) if config.keys else None
    authenticate = Authenticator(keys)
    running = Running()
    dispatcher = Dispatcher(RetryBudget(), telemetry)

    frontend = GatewayProtocol.frontend = Frontend(
        header_timeout_s=settings.header_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        max_header_bytes=settings.max_header_bytes,
        write_buffer_bytes=settings.stream_buffer_bytes,
        write_timeout_s=settings.write_timeout_s,
        on_shutdown=lambda: running.stop(settings.drain_timeout_s),
        on_force=running.cut,
    )

    def hot_route(path: str, surface: Surface) -> Any:
        answer = OpenAIRoute(
            surface,
            authenticate=authenticate,
            catalog=upstream.catalog,
            dispatcher=dispatcher,
            telemetry=telemetry,
            running=running,
            max_body_bytes=settings.max_body_bytes,
            write_timeout_s=settings.write_timeout_s,
        )

        # The connection knows these paths itself; Litestar's routing is for their other spellings.
        frontend.hot_routes[path] = answer

        @asgi(path, copy_scope=False)
        async def route(scope: Any, receive: Any, send: Any) -> None:
            del send  # answers are written by the connection itself
            relay = await answer(scope, receive)
            if relay is not None:
                await relay.wait()

        return route

    @contextlib.asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await upstream.credentials.start()
        measuring = asyncio.create_task(_measure_often(upstream))
        try:
            yield
        finally:
            measuring.cancel()
            await upstream.credentials.stop()
            upstream.origins.close()

    handlers: list[Any] = [
        hot_route("/v1/chat/completions", Surface.CHAT),
        hot_route("/v1/completions", Surface.COMPLETIONS),
        *models_routes(authenticate, upstream.catalog),
        *health_routes(upstream.problems, running),
    ]
    if settings.metrics_enabled:
        handlers.append(metrics_route(telemetry, upstream.measure))
    return Litestar(
        handlers,
        lifespan=[lifespan],
        openapi_config=openapi_config(keys_required=keys is not None) if settings.docs_enabled else None,
        exception_handlers={
            GatewayError: on_gateway_error,
            HTTPException: on_http_exception,
            Exception: on_exception,
        },
        logging_config=None,
        multipart_form_part_limit=1,
        request_max_body_size=settings.max_body_bytes,
    )


def _names(config: Config) -> dict[str, tuple[str, ...]]:
    """Return the words by which keys name models without saying their public names."""
    names: dict[str, tuple[str, ...]] = {
        alias: (model.name,) for base in config.models for model, _ in with_adapters(base) for alias in model.aliases
    }
    for model in config.models:
        adapters = tuple(public_name(model.name, adapter.name) for adapter in model.adapters)
        names[every_adapter(model.name)] = adapters
    return names


async def _measure_often(upstream: Upstream) -> None:
    """Other workers' scrapes see this process' gauges as of a few seconds ago."""
    while True:
        upstream.measure()
        await asyncio.sleep(5)
