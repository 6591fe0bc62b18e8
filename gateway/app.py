"""The composition root: settings and models in, the Litestar application out.

    Config ─▶ Callers ─▶ Authenticator ───────────────┐
           ─▶ Origins, CredentialStore, Signer ─▶ SageMakerTarget ┐
           ─▶ adapters.make ──────────────────────────────────────┴▶ Lane ─▶ Catalog
           ─▶ Resolver ─▶ Hop ─▶ Fetcher ─▶ Library ─▶ Preparer ──────┐
           ─▶ make_store ─▶ make_admission ────────────────────────────┐
           ─▶ make (telemetry/tracing.py) ─▶ Tracing ────────────────────┐
           ─▶ CallLog, UsageRecords ─▶ Sinks ──────────────────────────┐
           ─▶ PrometheusTelemetry, RetryBudget ─▶ Dispatcher ─▶ GeneratingRoute, with a Face each ─▶ Litestar

Every object is built here, once; nothing else builds one of these.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import time
from collections.abc import AsyncIterator, Iterable, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from litestar import Litestar
from litestar.exceptions import HTTPException
from litestar.handlers import asgi

from adapters.base import Surface
from adapters.registry import make as make_adapter
from adapters.tgi.behind_frames import Stamp
from adapters.tgi.tokenizer import DETOKENIZE_ROUTE, TOKENIZE_ROUTE
from gateway.auth.known import names_of
from gateway.auth.mirror import MirroredKeyStore
from gateway.auth.principals import Principals
from gateway.auth.registry import KeyRegistry
from gateway.auth.store import FileKeyStore, KeysAndTokens, KeyStore
from gateway.config.load import Config
from gateway.config.lora import Adapter
from gateway.config.models import Deployment, Model, with_adapters
from gateway.dispatch import Dispatcher
from gateway.errors import GatewayError
from gateway.http.authenticate import Authenticator
from gateway.http.docs import openapi_config
from gateway.http.errors import on_exception, on_gateway_error, on_http_exception
from gateway.http.face import Face, OpenAIFace
from gateway.http.health import health_routes, metrics_route
from gateway.http.models import routes as models_routes
from gateway.http.named import NamedRoutes, Route
from gateway.http.plain import POST, NothingThere, PlainRoute, by_method
from gateway.http.protocol import Frontend, GatewayProtocol
from gateway.http.route import Complete, GeneratingRoute
from gateway.http.running import Running
from gateway.http.tgi import ModelChoice, TgiFace
from gateway.http.tgi_info import HealthAnswer, InfoAnswer
from gateway.http.tgi_tokenize import ChatTokensFace, TextTokensFace, Tokenizer, Tokenizing
from gateway.limits.setup import is_limited, make_admission, make_store
from gateway.limits.store import LimitStore
from gateway.media.policies import url_policy
from gateway.media.setup import make_media
from gateway.routing.attempts import RetryBudget
from gateway.routing.catalog import Catalog, ServedModel
from gateway.routing.lane import Lane
from gateway.sagemaker.credentials import CredentialStore
from gateway.sagemaker.endpoints import Origins, runtime_url
from gateway.sagemaker.runtime import SageMakerTarget
from gateway.sagemaker.sigv4 import Signer
from gateway.telemetry import tracing as traces
from gateway.telemetry.events import Sink
from gateway.telemetry.log import CallLog
from gateway.telemetry.prometheus import PrometheusTelemetry
from gateway.telemetry.silence import Silence
from gateway.telemetry.spans import Place
from gateway.telemetry.usage_setup import make_usage_records

log = logging.getLogger(__name__)

if TYPE_CHECKING:
    from gateway.auth.tokens import TokenVerifier


class Upstream:
    """Everything between the models file and SageMaker."""

    def __init__(self, config: Config, telemetry: Silence) -> None:
        settings = config.settings
        self._settings = settings
        self._telemetry = telemetry
        self.origins = Origins(ca_bundle=settings.ca_bundle, idle_s=settings.upstream_idle_s)
        self.credentials = CredentialStore(failed=telemetry.credentials_failed)
        self._signers: dict[tuple[str, str | None], Signer] = {}
        self.places: dict[tuple[str, str], Place] = {}
        self.catalog = Catalog(
            self._serve(model, model.deployments, adapter, base)
            for base in config.models
            for model, adapter in with_adapters(base)
        )
        self.tokenizers = {model.name: found for model in config.models if (found := self._tokenizer(model))}

    def _serve(
        self, model: Model, deployments: Iterable[Deployment], adapter: Adapter | None = None, base: Model | None = None
    ) -> ServedModel:
        served_name = adapter.served_name if adapter else None
        lanes = tuple(self._lane(model, deployment, served_name) for deployment in deployments)
        return ServedModel(model, lanes, parent=base.name if adapter and base else None)

    def _tokenizer(self, model: Model) -> Tokenizer | None:
        reached = [deployment for deployment in model.deployments if deployment.tokenizes and deployment.weight]
        if not reached:
            return None
        there, back = (
            self._serve(model, [deployment.routed_to(path) for deployment in reached])
            for path in (TOKENIZE_ROUTE, DETOKENIZE_ROUTE)
        )
        return Tokenizer(there, back)

    def _lane(self, model: Model, deployment: Deployment, adapter_name: str | None) -> Lane:
        settings = self._settings
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
            schema=deployment.schema,
            messages_api=deployment.messages_api,
            image_urls=url_policy(model).of_container if "image" in model.modalities else None,
            new_stamp=_new_stamp,
        )
        address = urlsplit(url)
        port = address.port or (443 if address.scheme == "https" else 80)
        self.places[model.name, target.name] = Place(address.hostname or "", port, deployment.region)
        # AWS' LMI container generates on to the end whoever has left; vLLM and TGI stop.
        return Lane(target, adapter, deployment.weight, stops=deployment.container != "lmi")

    def problems(self) -> list[str]:
        """Return what is missing for serving."""
        return [f"aws credentials: {name}" for name in self.credentials.problems()]

    def measure(self) -> None:
        """Bring the gauges up to date."""
        self._telemetry.upstream(
            self.origins.open_connections,
            {source.name: (source.current() is not None, source.expires_at) for source in self.credentials.sources},
        )


class Callers:
    """Who may call: the keys of the file, those in Redis, and the tokens of identity providers."""

    def __init__(self, config: Config) -> None:
        settings = config.settings
        principals = Principals(names_of(config))
        self.keys: KeyStore | None = None
        """None lets everybody in."""
        self._services: list[MirroredKeyStore | TokenVerifier] = []
        if settings.keys_store == "redis" and settings.redis_url:
            registry = KeyRegistry(settings.redis_url, prefix=settings.redis_prefix, ca_bundle=settings.redis_ca_bundle)
            self.keys = mirror = MirroredKeyStore(registry, config.keys, principals)
            self._services.append(mirror)
        elif config.keys or config.issuers:
            self.keys = FileKeyStore(config.keys, principals)
        if config.issuers and self.keys is not None:
            from gateway.auth.tokens import TokenVerifier  # imported late: most gateways need no JSON Web Tokens

            tokens = TokenVerifier(config.issuers, principals, (team.name for team in config.teams))
            self.keys = KeysAndTokens(self.keys, tokens)
            self._services.append(tokens)

    async def start(self) -> None:
        for service in self._services:
            await service.start()

    async def stop(self) -> None:
        for service in self._services:
            await service.stop()


def make_telemetry(config: Config) -> Silence:
    """Return what measures, if anything is to."""
    return PrometheusTelemetry() if config.settings.telemetry_enabled else Silence()


def build(
    config: Config,
    telemetry: Silence | None = None,
    limits: LimitStore | None = None,
    sinks: Sequence[Sink] = (),
) -> Litestar:
    """Return the application. `limits` is not started yet; `sinks` take the record of every call that has ended."""
    settings = config.settings
    telemetry = telemetry or make_telemetry(config)
    upstream = Upstream(config, telemetry)
    callers = Callers(config)
    authenticate = Authenticator(callers.keys)
    running = Running()
    media = make_media(config, telemetry)
    limits = limits or make_store(config, telemetry.limits)
    admission = make_admission(config, limits, telemetry.limits)
    if settings.workers > 1 and settings.limits_store == "memory" and is_limited(config):
        log.warning("limits are counted in each worker by itself, so they are multiplied: set limits_store to redis")
    dispatcher = Dispatcher(RetryBudget(), telemetry)
    tracing = None
    if traces.is_on(settings, os.environ):
        tracing = traces.make(settings, os.environ, telemetry.traces, upstream.places)
    calls = CallLog(settings.log_calls, telemetry.log_lines_dropped)
    takers: list[Sink] = [calls, *sinks]
    usage = make_usage_records(config, telemetry.usage_records)
    if usage is not None:
        takers.append(usage)
    if tracing is not None:
        takers.append(tracing)

    frontend = GatewayProtocol.frontend = Frontend(
        header_timeout_s=settings.header_timeout_s,
        body_timeout_s=settings.body_timeout_s,
        max_header_bytes=settings.max_header_bytes,
        write_buffer_bytes=settings.stream_buffer_bytes,
        write_timeout_s=settings.write_timeout_s,
        on_shutdown=lambda: running.stop(settings.drain_timeout_s),
        on_force=running.cut,
        cut_calls=lambda: running.cut_calls,
    )

    def generating(face: Face, complete: Complete | None = None) -> GeneratingRoute:
        return GeneratingRoute(
            face,
            authenticate=authenticate,
            dispatcher=dispatcher,
            complete=complete,
            telemetry=telemetry,
            sinks=takers,
            tracing=tracing,
            running=running,
            admission=admission,
            media=media,
            max_body_bytes=settings.max_body_bytes,
            write_timeout_s=settings.write_timeout_s,
        )

    openai = OpenAIFace(Surface.CHAT, upstream.catalog)
    chat, completions = generating(openai), generating(OpenAIFace(Surface.COMPLETIONS, upstream.catalog))
    routes: dict[str, Route] = {
        "/v1/chat/completions": chat,
        "/v1/completions": completions,
        "/openai/v1/chat/completions": chat,
        "/openai/v1/completions": completions,
    }
    below_deployments: dict[str, Route] = {"/chat/completions": chat, "/completions": completions}

    choice = ModelChoice(upstream.catalog, default_model(config))
    compat = TgiFace(choice, config.tgi, stream=None)
    tokenizing = Tokenizing(dispatcher, upstream.tokenizers)
    health = HealthAnswer(authenticate, choice, lambda: not running.stopping and not upstream.problems())
    tgi: dict[str, Route] = {
        "/": by_method(generating(compat), PlainRoute(compat, health, also=POST)),
        "/generate": generating(TgiFace(choice, config.tgi, stream=False)),
        "/generate_stream": generating(TgiFace(choice, config.tgi, stream=True)),
        "/tokenize": generating(TextTokensFace(choice, upstream.tokenizers), tokenizing.complete),
        "/chat_tokenize": generating(ChatTokensFace(choice, upstream.tokenizers), tokenizing.complete),
        "/info": PlainRoute(compat, InfoAnswer(authenticate, choice, config.tgi, settings.workers)),
        "/health": PlainRoute(compat, health),
    }
    routes |= tgi
    # Below a model's URL all is as below a TGI server's: "/" alone is the URL itself.
    below_models = {path.removesuffix("/"): route for path, route in tgi.items()}
    below_models |= {"/v1/chat/completions": chat, "/v1/completions": completions}

    nothing = NothingThere(openai)
    folders = [
        NamedRoutes("/openai/deployments/", below_deployments, nothing),
        NamedRoutes("/models/", below_models, nothing),
    ]
    # The connection knows these paths itself; Litestar's routing is for their other spellings.
    frontend.hot_routes.update(routes)
    frontend.hot_folders.update({folder.path: folder for folder in folders})

    @contextlib.asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        await callers.start()
        await upstream.credentials.start()
        await limits.start()
        if tracing is not None:
            tracing.start()
        if usage is not None:
            usage.start()
        measuring = asyncio.create_task(_measure_often(upstream, telemetry))
        try:
            yield
        finally:
            measuring.cancel()
            calls.flush()
            await media.close()
            await limits.stop()
            await callers.stop()
            await upstream.credentials.stop()
            upstream.origins.close()
            if tracing is not None:
                await asyncio.to_thread(tracing.stop)
            if usage is not None:
                await asyncio.to_thread(usage.close)

    handlers: list[Any] = [
        *[_handler(path, route) for path, route in routes.items()],
        *models_routes(authenticate, upstream.catalog),
        *health_routes(upstream.problems, running),
    ]
    if settings.metrics_enabled and isinstance(telemetry, PrometheusTelemetry):
        handlers.append(metrics_route(telemetry, upstream.measure))
    return Litestar(
        handlers,
        lifespan=[lifespan],
        openapi_config=openapi_config(keys_required=callers.keys is not None) if settings.docs_enabled else None,
        exception_handlers={
            GatewayError: on_gateway_error,
            HTTPException: on_http_exception,
            Exception: on_exception,
        },
        logging_config=None,
        multipart_form_part_limit=1,
        request_max_body_size=settings.max_body_bytes,
    )


def default_model(config: Config) -> str | None:
    """Return the model that TGI's calls mean if they name none, None if there is no such model."""
    wanted = config.tgi.default_model
    if wanted is not None:
        return next((model.name for model in config.models if wanted in model.aliases), wanted)
    return config.models[0].name if len(config.models) == 1 else None


def _handler(path: str, answer: Route) -> Any:
    """Return a handler for Litestar of what a connection can answer itself."""

    @asgi(path, copy_scope=False)
    async def route(scope: Any, receive: Any, send: Any) -> None:
        del send  # answers are written by the connection itself
        relay = await answer(scope, receive)
        if relay is not None:
            await relay.wait()

    return route


def _new_stamp() -> Stamp:
    """Return the id and the time of a reply that its container leaves without."""
    return Stamp(secrets.token_hex(12), int(time.time()))


async def _measure_often(upstream: Upstream, telemetry: Silence) -> None:
    """Other workers' scrapes see this process' gauges and examples as of a few seconds ago."""
    while True:
        upstream.measure()
        if isinstance(telemetry, PrometheusTelemetry):
            try:
                await asyncio.to_thread(telemetry.share_exemplars)
            except OSError as error:  # a full disk is no reason to stop measuring
                log.warning("examples for metrics could not be written", extra={"error": type(error).__name__})
        await asyncio.sleep(5)
