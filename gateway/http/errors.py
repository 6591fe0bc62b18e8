"""Errors as OpenAI's envelope, wherever they come from: our own, the adapters', or Litestar's."""

from __future__ import annotations

import logging
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException

from adapters.openai.request import BadRequest
from gateway.errors import (
    ContextLengthExceeded,
    DuplicateParameter,
    GatewayError,
    InternalError,
    InvalidJson,
    InvalidRequest,
    InvalidType,
    MethodNotAllowed,
    MissingParameter,
    RefusedParameter,
    RequestTooLarge,
    RouteNotFound,
    UnknownParameter,
    UnsupportedMediaType,
)

log = logging.getLogger(__name__)

BAD_REQUESTS: dict[str, type[GatewayError]] = {
    kind.code: kind
    for kind in (
        InvalidRequest,
        InvalidJson,
        InvalidType,
        MissingParameter,
        DuplicateParameter,
        UnknownParameter,
        RefusedParameter,
        ContextLengthExceeded,
    )
}
_LITESTAR: dict[int, tuple[type[GatewayError], str]] = {
    404: (
        RouteNotFound,
        "There is nothing at this URL. The API is at /v1/chat/completions, /v1/completions and /v1/models.",
    ),
    405: (MethodNotAllowed, "This URL does not answer this method."),
    413: (RequestTooLarge, "The request is too large."),
    415: (UnsupportedMediaType, "This media type is not supported."),
}
INTERNAL = "The gateway failed on this request."


def from_adapter(error: BadRequest) -> GatewayError:
    """Return the answer to a request that the parser refused."""
    return BAD_REQUESTS[error.code](error.message, param=error.param)


def headers_of(error: GatewayError) -> list[tuple[str, str]]:
    """Return the headers that go with an error."""
    pairs = list(error.headers)
    if error.retry_after_s is not None:
        pairs.append(("retry-after", str(error.retry_after_s)))
    return pairs


def response(error: GatewayError) -> Response[bytes]:
    """Return an error as Litestar's response, for the routes that are Litestar's."""
    return Response(
        error.body(), status_code=error.status, media_type="application/json", headers=dict(headers_of(error))
    )


def on_gateway_error(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    assert isinstance(error, GatewayError)  # noqa: S101 - registered for this class only
    return response(error)


def on_http_exception(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """Litestar's own refusals."""
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    if error.status_code >= 500:
        return on_exception(_, error)
    kind, text = _LITESTAR.get(error.status_code, (InvalidRequest, "The request is not valid."))
    answer = response(kind(text))
    for name, value in (error.headers or {}).items():
        if name.lower() == "allow":
            answer.headers["allow"] = value
    return answer


def on_exception(_: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """A defect of ours."""
    log.error("unexpected error", exc_info=error)
    return response(InternalError(INTERNAL))
