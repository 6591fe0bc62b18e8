"""The administration's application: who may come in, and its errors. What it offers are routes made elsewhere.

build_admin(settings, [*key_routes(…), *more], on_start=[…], on_stop=[…]) ─▶ Litestar
"""

from __future__ import annotations

import contextlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from hashlib import sha256
from typing import Any

from litestar import Litestar, Request, Response
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, NotFoundException
from litestar.handlers.base import BaseRouteHandler

from gateway.auth.failures import Failures
from gateway.auth.keys import presented_key, raw_digest
from gateway.config.settings import Settings
from gateway.errors import GatewayError, MissingKey, RouteNotFound
from gateway.http.authenticate import failure
from gateway.http.errors import on_exception, on_gateway_error, on_http_exception, response

MAX_BODY_BYTES = 1 << 16
OPEN = "open"
"""The option of a handler that needs no key."""


def build_admin(
    settings: Settings,
    routes: Sequence[BaseRouteHandler],
    *,
    on_start: Sequence[Callable[[], Awaitable[None]]] = (),
    on_stop: Sequence[Callable[[], Awaitable[None]]] = (),
) -> Litestar:
    """Return the application.

    Args:
        settings: with `admin_key_digest`.
        routes: what it offers; a request reaches them only with the administration's key, unless they are OPEN.
        on_start: begins what the routes use.
        on_stop: closes what the routes use.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: Litestar) -> AsyncIterator[None]:
        for begin in on_start:
            await begin()
        try:
            yield
        finally:
            for close in on_stop:
                await close()

    return Litestar(
        list(routes),
        guards=[AdminOnly(settings.admin_key_digest or "")],
        lifespan=[lifespan],
        openapi_config=None,
        exception_handlers={
            GatewayError: on_gateway_error,
            NotFoundException: _on_not_found,
            HTTPException: on_http_exception,
            Exception: on_exception,
        },
        logging_config=None,
        request_max_body_size=MAX_BODY_BYTES,
    )


class AdminOnly:
    """Lets requests with the administration's key pass."""

    def __init__(self, digest: str) -> None:
        """`digest` as in the setting `admin_key_digest`."""
        self._digest = raw_digest(digest)
        self._failures = Failures()

    def __call__(self, connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        """Check the key of a request.

        Raises:
            MissingKey: there is none.
            InvalidKey: it is another one.
            TooManyFailures: likewise, and it is one of too many from there.
        """
        if handler.opt.get(OPEN):
            return
        key = presented_key(connection.scope["headers"])
        if key is None:
            raise MissingKey("Send the administration's key as `Authorization: Bearer YOUR_KEY`.")
        if not hmac.compare_digest(sha256(key).digest(), self._digest):
            raise failure(self._failures, connection.scope["client"])


def _on_not_found(_: Request[Any, Any, Any], __: Exception) -> Response[bytes]:
    return response(
        RouteNotFound("There is nothing at this URL. The administration is at /admin/keys, its console at /console.")
    )
