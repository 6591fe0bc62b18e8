"""Serving the administration: a thread beside whatever serves callers, so that it runs once whatever the workers.

Its event loop is its own: nothing that happens here can hold up a call, or be held up by one.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
import time
from collections.abc import Awaitable, Callable

import uvicorn
from litestar import Litestar
from litestar.handlers.base import BaseRouteHandler

from gateway.admin.about import about_route
from gateway.admin.app import build_admin
from gateway.admin.chat import chat_route
from gateway.admin.keys import key_routes
from gateway.admin.live import Live, live_routes
from gateway.admin.metrics import metrics_route
from gateway.admin.pages import Assets, page_routes
from gateway.admin.standing import Keys, limits_route
from gateway.admin.usage import usage_routes
from gateway.auth.known import known, names_of
from gateway.auth.principals import Principals
from gateway.auth.registry import KeyRegistry
from gateway.config.load import Config
from gateway.http.inside import Inside
from gateway.limits.looks import Looks, MemoryLooks, RedisLooks
from gateway.limits.setup import wall_ms
from gateway.limits.usage import Books, InMemory, MemoryBooks
from gateway.limits.usage_redis import RedisBooks

log = logging.getLogger("gateway")

STOP_S = 5.0
"""What running requests get to end in."""


class AdminServer:
    """The administration, listening."""

    def __init__(self, config: Config, listener: socket.socket, inside: Inside | None = None) -> None:
        self._listener = listener
        options = uvicorn.Config(
            admin_app(config, inside=inside),
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


def admin_app(config: Config, memory: InMemory | None = None, inside: Inside | None = None) -> Litestar:
    """Return the application with all its routes, for settings with `admin_key_digest`.

    Args:
        memory: the books of a process that counts by itself, if not those of `inside`.
        inside: what is known of the process that serves; without it the console has nothing to show.
    """
    settings, inside = config.settings, inside or Inside()
    live = Live(inside, time.time)

    def gateway() -> str:
        return reached(inside.url)

    routes: list[BaseRouteHandler] = [
        *page_routes(Assets()),
        *live_routes(live),
        about_route(config, gateway),
        chat_route(gateway, settings.max_body_bytes),
    ]
    on_stop: list[Callable[[], Awaitable[None]]] = [live.stop]
    more_keys: Keys | None = None
    if settings.keys_store == "redis" and settings.redis_url:
        registry = KeyRegistry(settings.redis_url, prefix=settings.redis_prefix, ca_bundle=settings.redis_ca_bundle)
        routes += key_routes(registry, known(config))
        more_keys = registry.all
        on_stop.append(registry.close)
    # The books of a gateway with one process are in that process; those of several are in Redis.
    books: Books = MemoryBooks(memory or inside.books)
    looks: Looks = MemoryLooks(inside.ledger, wall_ms)
    if settings.limits_store == "redis" and settings.redis_url:
        ca_file = None if settings.redis_ca_bundle is None else str(settings.redis_ca_bundle)
        books = RedisBooks(settings.redis_url, prefix=settings.redis_prefix, ca_file=ca_file)
        looks = RedisLooks(settings.redis_url, prefix=settings.redis_prefix, ca_file=ca_file)
    routes += usage_routes(books)
    routes.append(limits_route(config, Principals(names_of(config)), more_keys, looks))
    if settings.telemetry_enabled:
        routes.append(metrics_route(inside.scrape))
    return build_admin(settings, routes, on_start=[live.start], on_stop=on_stop)


def reached(url: str) -> str:
    """Return where a server that listens at `url` is reached from this machine."""
    return url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:")
