"""Every error a caller can see.

    GatewayError
    ├── caller's   InvalidRequest (400) ─ InvalidJson · MissingParameter · ContextLengthExceeded · UpstreamRejected …
    │              MissingKey · InvalidKey (401) · AddressNotAllowed (403) · ModelNotFound · RouteNotFound (404)
    │              MethodNotAllowed (405) · RequestTimeout (408) · RequestTooLarge (413) · UnsupportedMediaType (415)
    │              HeadersTooLarge (431)
    ├── limits     RateLimitExceeded · ConcurrencyLimitExceeded · QuotaExceeded (429) · LimitsUnavailable (503)
    │              TooManyFailures (429)
    ├── admin's    KeyNotFound (404) · KeyExists (409) · KeysUnavailable · UsageUnavailable (503)
    ├── ours       InternalError (500) · GatewayBusy · ShuttingDown (503)
    └── upstream's UpstreamError · UpstreamProtocol · UpstreamAuth · UpstreamTls · UpstreamMisconfigured (502)
                   UpstreamUnavailable · UpstreamThrottled · ModelNotReady (503) · UpstreamTimeout (504)

A class per answer: it fixes status, type and code. The code is the one word that also labels metrics, logs and docs.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

Headers = tuple[tuple[str, str], ...]
USUAL_WAIT_MS = 1000
"""Where it is not known when a call would be admitted."""
_BY_CLASS = -1
MAX_RETRY_AFTER_S = 120
"""Official clients give up on longer waits; then they are told that trying again does not help."""

_encode = msgspec.json.Encoder().encode


class GatewayError(Exception):
    """An answer other than success. `message` is for the caller: a sentence, no internals; `detail` is for the log."""

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str] = "internal_error"
    headers: ClassVar[tuple[tuple[str, str], ...]] = ()

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        retry_after_s: int | None = None,
        detail: str | None = None,
        retryable: bool = False,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_s = retry_after_s
        """Whole seconds for the `retry-after` header, None for no header."""
        self.detail = detail
        self.retryable = retryable
        """Another attempt may succeed and cannot double a generation that is still running."""

    def body(self) -> bytes:
        """Return OpenAI's error envelope as JSON bytes."""
        return _encode({"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}})

    def event(self) -> bytes:
        """Return the envelope as a server-sent event, the last one of a failed stream."""
        return b"data: " + self.body() + b"\n\n"


# The caller's fault: mend the request.


class InvalidRequest(GatewayError):
    """A field is wrong; `param` names it."""

    status, type, code = 400, "invalid_request_error", "invalid_value"


class InvalidJson(InvalidRequest):
    """The body is not one JSON object in UTF-8, or is nested too deeply."""

    code = "invalid_json"


class InvalidType(InvalidRequest):
    """A field has the wrong JSON type."""

    code = "invalid_type"


class MissingParameter(InvalidRequest):
    """A required field is absent."""

    code = "missing_required_parameter"


class DuplicateParameter(InvalidRequest):
    """A field occurs twice, so that two readers of the body could disagree."""

    code = "duplicate_parameter"


class UnknownParameter(InvalidRequest):
    """A field the model's configuration does not forward."""

    code = "unknown_parameter"


class RefusedParameter(InvalidRequest):
    """A field that could control the container beyond this call; the model's configuration may allow it."""

    code = "parameter_not_allowed"


class UnsupportedParameterError(InvalidRequest):
    """A field the container behind the model would ignore or garble."""

    code = "unsupported_parameter"


class ContextLengthExceeded(InvalidRequest):
    """Prompt and requested tokens do not fit the model's window."""

    code = "context_length_exceeded"


class UpstreamRejected(InvalidRequest):
    """The container refused the request but lost the reason."""

    code = "upstream_rejected"


class InvalidImageUrl(InvalidRequest):
    """A URL in the prompt could not be fetched, or leads to something else; OpenAI's word, for sounds and films too."""

    code = "invalid_image_url"


class MissingKey(GatewayError):
    """No API key came with the request."""

    status, type, code = 401, "invalid_request_error", "missing_api_key"
    headers = (("www-authenticate", "Bearer"),)


class InvalidKey(GatewayError):
    """The API key is not one of ours."""

    status, type, code = 401, "invalid_request_error", "invalid_api_key"
    headers = (("www-authenticate", "Bearer"),)


class AddressNotAllowed(GatewayError):
    """The API key is not valid from the address the call comes from."""

    status, type, code = 403, "invalid_request_error", "address_not_allowed"


class ModelNotFound(GatewayError):
    """No model of that name is visible to this key."""

    status, type, code = 404, "invalid_request_error", "model_not_found"


class RouteNotFound(GatewayError):
    """No such URL."""

    status, type, code = 404, "invalid_request_error", "route_not_found"


class MethodNotAllowed(GatewayError):
    """The URL exists, but not for this method."""

    status, type, code = 405, "invalid_request_error", "method_not_allowed"


class RequestTimeout(GatewayError):
    """The request's headers or body took too long to arrive."""

    status, type, code = 408, "invalid_request_error", "request_timeout"


class RequestTooLarge(GatewayError):
    """The body is over the limit, as it came or as it would go to SageMaker."""

    status, type, code = 413, "invalid_request_error", "request_too_large"


class UnsupportedMediaType(GatewayError):
    """The body is not sent as JSON, or is compressed."""

    status, type, code = 415, "invalid_request_error", "unsupported_media_type"


class HeadersTooLarge(GatewayError):
    """The request line or headers are over the limit."""

    status, type, code = 431, "invalid_request_error", "headers_too_large"


class MalformedHttp(GatewayError):
    """The bytes are not an HTTP/1.1 request."""

    status, type, code = 400, "invalid_request_error", "malformed_http"


# The caller's limits.


class LimitError(GatewayError):
    """Base of refusals that say nothing about the request itself: the same call may be served at another time."""

    status, type, code = 429, "requests", "rate_limit_exceeded"
    worth_waiting: ClassVar[bool] = True

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        wait_ms: int | None = _BY_CLASS,
        kind: str | None = None,
        headers: Headers = (),
    ) -> None:
        """`wait_ms`: until the call would be admitted; None where waiting does not help. `kind`: OpenAI's `type`."""
        if wait_ms == _BY_CLASS:
            wait_ms = USUAL_WAIT_MS if self.worth_waiting else None
        if wait_ms is None or wait_ms > MAX_RETRY_AFTER_S * 1000:
            headers = (*headers, ("x-should-retry", "false"))
            wait_ms = None
        else:
            headers = (*headers, ("retry-after-ms", str(wait_ms)))
        super().__init__(message, param=param, retry_after_s=None if wait_ms is None else -(-wait_ms // 1000))
        if kind is not None:
            self.type = kind  # type: ignore[misc]  # the one error of several types
        self.headers = headers  # type: ignore[misc]  # those of the class and those of the moment


class RateLimitExceeded(LimitError):
    """Requests or tokens per minute are used up for the moment."""


class ConcurrencyLimitExceeded(LimitError):
    """As many calls as may run at the same time are running, or the queue for them is full."""

    code = "concurrency_limit_exceeded"


class QuotaExceeded(LimitError):
    """The tokens or the money of this day or month are spent."""

    type, code = "insufficient_quota", "insufficient_quota"
    worth_waiting = False


class TooManyFailures(LimitError):
    """Too many wrong API keys have come from this address."""

    code = "too_many_failed_attempts"


class LimitsUnavailable(GatewayError):
    """The store of limits is away, and by the configuration nobody is served without it."""

    status, code = 503, "limits_unavailable"


# The administration's.


class KeyNotFound(GatewayError):
    """There is no key of this id in Redis."""

    status, type, code = 404, "invalid_request_error", "key_not_found"


class KeyExists(GatewayError):
    """There is a key of this id already."""

    status, type, code = 409, "invalid_request_error", "key_exists"


class KeysUnavailable(GatewayError):
    """Redis does not answer, so keys can be neither shown nor changed."""

    status, code = 503, "keys_unavailable"


class UsageUnavailable(GatewayError):
    """The books of usage cannot be read: Redis does not answer, or they are in another process."""

    status, code = 503, "usage_unavailable"


ADMIN_ONLY = (KeyNotFound, KeyExists, KeysUnavailable, UsageUnavailable)
"""Errors of the administration: no caller of models sees them."""


# Ours.


class InternalError(GatewayError):
    """A defect of the gateway; the log has the traceback."""


class GatewayBusy(GatewayError):
    """The gateway has no room for work that this call needs."""

    status, code = 503, "gateway_busy"


class ShuttingDown(GatewayError):
    """The gateway is stopping and its drain time is over."""

    status, code = 503, "server_shutdown"


# The upstream's: SageMaker, the container, or the way to them.


class UpstreamFault(GatewayError):
    """Base of what is neither the caller's fault nor a defect of the gateway."""

    status, code = 502, "upstream_error"


class UpstreamError(UpstreamFault):
    """The container, or SageMaker itself, failed."""


class UpstreamProtocol(UpstreamFault):
    """The upstream's bytes are not what the protocol promises: bad checksum, truncated, not JSON, empty, too large."""

    code = "upstream_protocol"


class UpstreamAuth(UpstreamFault):
    """AWS refuses the gateway's own credentials, or there are none."""

    code = "upstream_auth"


class UpstreamTls(UpstreamFault):
    """The upstream's TLS certificate cannot be trusted."""

    code = "upstream_tls"


class UpstreamMisconfigured(UpstreamFault):
    """The models file does not match what is deployed: no such endpoint, component, served model or adapter."""

    code = "upstream_misconfigured"


class UpstreamUnavailable(UpstreamFault):
    """No connection, no capacity, or a container that is down or full."""

    status, code = 503, "upstream_unavailable"


class UpstreamThrottled(UpstreamFault):
    """AWS throttles the gateway's calls; the caller's own limits are not involved."""

    status, code = 503, "upstream_throttled"


class ModelNotReady(UpstreamFault):
    """The model is still being loaded."""

    status, code = 503, "model_not_ready"


class UpstreamTimeout(UpstreamFault):
    """The upstream took longer than a time limit, ours or SageMaker's."""

    status, code = 504, "upstream_timeout"
