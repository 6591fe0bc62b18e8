"""Serving the administration: a thread beside whatever serves callers, so that it runs once whatever the workers.

Its event loop is its own: nothing that happens here can hold up a call, or be held up by one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import Awaitable, Callable

import uvicorn
from litestar import Litestar
from litestar.handlers import HTTPRouteHandler

from gateway.admin.app import build_admin
from gateway.admin.keys import key_routes
from gateway.admin.metrics import Scrape, metrics_route
from gateway.admin.usage import usage_routes
from gateway.auth.known import known
from gateway.auth.registry import KeyRegistry
from gateway.config.load import Config
from gateway.limits.usage import InMemory, MemoryBooks
from gateway.limits.usage_redis import RedisBooks

log = logging.getLogger("gateway")

STOP_S = 5.0
"""What running requests get to end in."""


class AdminServer:
    """The administration, listening."""

    def __init__(
        self,
        config: Config,
        listener: socket.socket,
        memory: InMemory = lambda: None,
        scrape: Scrape | None = None,
    ) -> None:
        self._listener = listener
        options = uvicorn.Config(
            admin_app(config, memory, scrape),
            loop="none",
            http="httptools",
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_graceful_shutdown=int(STOP_S),
        )
        self._server = uvicorn.Server(options)
        self._thread = threading.Thread(target=self._run, name="administration", daemon=True)

    def start(self) -> None:
        host, port = self._listener.getsockname()[:2]
        self._listener.listen(128)
        self._thread.start()
        url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
        log.info("administration listening", extra={"admin_url": url})

    def stop(self) -> None:
        """Let running requests end, and end."""
        self._server.should_exit = True
        self._thread.join(STOP_S + 1)
        self._listener.close()

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[self._listener]))
        except Exception as error:
            log.error("unexpected error", exc_info=error)


def admin_app(config: Config, memory: InMemory = lambda: None, scrape: Scrape | None = None) -> Litestar:
    """Return the application with all its routes, for settings with `admin_key_digest`."""
    settings = config.settings
    routes: list[HTTPRouteHandler] = []
    on_stop: list[Callable[[], Awaitable[None]]] = []
    if settings.keys_store == "redis" and settings.redis_url:
        registry = KeyRegistry(settings.redis_url, prefix=settings.redis_prefix, ca_bundle=settings.redis_ca_bundle)
        routes += key_routes(registry, known(config))
        on_stop.append(registry.close)
    if settings.limits_store == "redis" and settings.redis_url:
        ca_file = None if settings.redis_ca_bundle is None else str(settings.redis_ca_bundle)
        routes += usage_routes(RedisBooks(settings.redis_url, prefix=settings.redis_prefix, ca_file=ca_file))
    else:
        routes += usage_routes(MemoryBooks(memory))
    if scrape is not None:
        routes.append(metrics_route(scrape))
    return build_admin(settings, routes, on_stop=on_stop)
