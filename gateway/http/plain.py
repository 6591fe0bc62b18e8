"""A URL that is answered at once, on the connection itself, from what the gateway knows."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any

from gateway.errors import GatewayError, InternalError, MethodNotAllowed, RouteNotFound
from gateway.http.authenticate import Peer
from gateway.http.errors import INTERNAL
from gateway.http.face import JSON_HEADERS, Face
from gateway.http.named import Route
from gateway.http.protocol import connection_of
from gateway.http.request import read_head
from gateway.telemetry.events import CallRecord

log = logging.getLogger(__name__)

Headers = Iterable[tuple[bytes, bytes]]
READ_ONLY = frozenset({"GET", "HEAD"})
POST = frozenset({"POST"})


class PlainRoute:
    """Answers GET and HEAD."""

    def __init__(
        self,
        face: Face,
        answer: Callable[[Headers, Peer, str | None], tuple[int, bytes]],
        *,
        also: frozenset[str] = frozenset(),
    ) -> None:
        """`answer` gives status and JSON, or raises a GatewayError, which `face` words.

        `also` names the methods that something else answers at the same URL.
        """
        self._face = face
        self._answer = answer
        self._allow = f"allow: {', '.join(sorted(READ_ONLY | also))}\r\n".encode()

    async def __call__(self, scope: Any, receive: Any, name: str | None = None) -> None:
        """Answer; never raises. `name` is the model, where the URL names it."""
        headers = scope["headers"]
        record = CallRecord(self._face.surface, read_head(headers).request_id, monotonic())
        try:
            if scope["method"] not in READ_ONLY:
                raise MethodNotAllowed("This URL does not answer this method.")
            status, body = self._answer(headers, scope["client"], name)
            lines = b"%bx-request-id: %b\r\n" % (JSON_HEADERS if body else b"", record.request_id.encode())
        except GatewayError as error:
            status, lines, body = self._face.refusal(error, record)
            if status == 405:
                lines += self._allow
        except Exception as error:
            log.error("unexpected error", exc_info=error, extra={"request_id": record.request_id})
            status, lines, body = self._face.refusal(InternalError(INTERNAL), record)
        connection_of(scope).answer(status, lines, body)


class NothingThere:
    """Answers any method with `route_not_found`, in the words of a face."""

    def __init__(self, face: Face) -> None:
        self._face = face

    async def __call__(self, scope: Any, receive: Any, name: str | None = None) -> None:
        record = CallRecord(self._face.surface, read_head(scope["headers"]).request_id, monotonic())
        answer = self._face.refusal(RouteNotFound("There is nothing at this URL."), record)
        connection_of(scope).answer(*answer)


def by_method(posted: Route, other: Route) -> Route:
    """Return a route that hands POST to the one and every other method to the other."""

    async def route(scope: Any, receive: Any, name: str | None = None) -> Any:
        return await (posted if scope["method"] == "POST" else other)(scope, receive, name)

    return route
