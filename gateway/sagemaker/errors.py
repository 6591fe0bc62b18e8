"""What SageMaker's errors mean to a caller of the gateway.

Names and statuses: botocore's service model of sagemaker-runtime, and the common errors of AWS,
https://docs.aws.amazon.com/sagemaker/latest/APIReference/CommonErrors.html
Nothing of AWS' own text reaches a caller: it names accounts, ARNs and log groups.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from gateway.errors import (
    GatewayError,
    ModelNotReady,
    RequestTooLarge,
    UpstreamAuth,
    UpstreamError,
    UpstreamFault,
    UpstreamMisconfigured,
    UpstreamProtocol,
    UpstreamThrottled,
    UpstreamTimeout,
    UpstreamUnavailable,
)
from gateway.sagemaker.eventstream import StreamFailure

MAX_NAME_CHARS = 64
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9.]*")
THROTTLE_RETRY_AFTER_S = 2
CAPACITY_RETRY_AFTER_S = 5
LOADING_RETRY_AFTER_S = 15

# Errors of InvokeEndpoint and InvokeEndpointWithResponseStream, as modelled. ModelError is the container's own answer
# and read by its adapter.
MODELLED: dict[str, type[UpstreamFault]] = {
    "InternalDependencyException": UpstreamUnavailable,
    "InternalFailure": UpstreamError,
    "ModelNotReadyException": ModelNotReady,
    "ServiceUnavailable": UpstreamUnavailable,
    "ValidationError": UpstreamMisconfigured,
    "InternalStreamFailure": UpstreamError,
    "ModelStreamError": UpstreamError,
}
# Errors any AWS service may answer.
COMMON: dict[str, type[UpstreamFault]] = {
    "AccessDenied": UpstreamAuth,
    "AccessDeniedException": UpstreamAuth,
    "ExpiredToken": UpstreamAuth,
    "ExpiredTokenException": UpstreamAuth,
    "IncompleteSignature": UpstreamAuth,
    "IncompleteSignatureException": UpstreamAuth,
    "InvalidClientTokenId": UpstreamAuth,
    "InvalidSignatureException": UpstreamAuth,
    "MissingAuthenticationToken": UpstreamAuth,
    "MissingAuthenticationTokenException": UpstreamAuth,
    "NotAuthorized": UpstreamAuth,
    "OptInRequired": UpstreamAuth,
    "RequestExpired": UpstreamAuth,
    "RequestTimeTooSkewed": UpstreamAuth,
    "SignatureDoesNotMatch": UpstreamAuth,
    "UnrecognizedClientException": UpstreamAuth,
    "RequestLimitExceeded": UpstreamThrottled,
    "RequestThrottled": UpstreamThrottled,
    "RequestThrottledException": UpstreamThrottled,
    "SlowDown": UpstreamThrottled,
    "Throttling": UpstreamThrottled,
    "ThrottlingException": UpstreamThrottled,
    "ThrottledException": UpstreamThrottled,
    "TooManyRequestsException": UpstreamThrottled,
    "InternalServerError": UpstreamError,
    "InternalServerException": UpstreamError,
    "ServiceUnavailableException": UpstreamUnavailable,
    "RequestTimeout": UpstreamTimeout,
    "RequestTimeoutException": UpstreamTimeout,
    "ResourceNotFound": UpstreamMisconfigured,
    "ResourceNotFoundException": UpstreamMisconfigured,
    "ValidationException": UpstreamMisconfigured,
    "UnknownOperationException": UpstreamMisconfigured,
}

_MESSAGES: dict[type[UpstreamFault], str] = {
    UpstreamAuth: "The gateway is not authorised to call the model's endpoint. This is not about your API key.",
    UpstreamError: "The model's endpoint failed while working on the request.",
    UpstreamMisconfigured: "The model is configured in the gateway, but its endpoint cannot be called as configured.",
    UpstreamThrottled: "The model's endpoint is being throttled by its provider. Please retry later.",
    UpstreamTimeout: "The model's endpoint did not answer in time.",
    UpstreamUnavailable: "The model's endpoint has no capacity at the moment. Please retry later.",
    UpstreamProtocol: "The model's endpoint sent a reply that could not be understood.",
    ModelNotReady: "The model is still being loaded. Please retry later.",
}
_RETRY_AFTER_S: dict[type[UpstreamFault], int] = {
    UpstreamThrottled: THROTTLE_RETRY_AFTER_S,
    UpstreamUnavailable: CAPACITY_RETRY_AFTER_S,
    ModelNotReady: LOADING_RETRY_AFTER_S,
}


def fault(
    kind: type[UpstreamFault], detail: str, *, retryable: bool = False, message: str | None = None
) -> UpstreamFault:
    """Return an upstream error with the stable text callers see, or `message`; `detail` goes to the log."""
    return kind(message or _MESSAGES[kind], retry_after_s=_RETRY_AFTER_S.get(kind), detail=detail, retryable=retryable)


class ContainerError(Exception):
    """The container answered an error; its adapter knows what it means."""

    def __init__(self, status: int, body: bytes) -> None:
        super().__init__(status)
        self.status = status
        self.body = body


@dataclass(frozen=True, slots=True)
class _Parsed:
    name: str
    document: dict[str, object]


def map_error(status: int, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> GatewayError | ContainerError:
    """Return what a non-200 answer of SageMaker means."""
    parsed = _parse(headers, body)
    if parsed.name == "ModelError":
        return _model_error(parsed.document)
    if status == 413:
        return RequestTooLarge("The request is larger than the model's endpoint accepts.", detail=parsed.name)
    kind = MODELLED.get(parsed.name) or COMMON.get(parsed.name) or _by_status(status)
    # Only what was refused before any work began: a second try cannot double a generation.
    return fault(kind, f"{status} {parsed.name}", retryable=kind is UpstreamUnavailable)


def map_failure(failure: StreamFailure) -> GatewayError:
    """Return what a failure that SageMaker reported inside a stream means."""
    detail = f"{error_name(failure.name)} {error_name(failure.code or '')}".strip()
    if failure.code == "ModelInvocationTimeExceeded":
        return UpstreamTimeout("The model did not finish its answer in the time its endpoint allows.", detail=detail)
    kind = MODELLED.get(failure.name) or COMMON.get(failure.name) or UpstreamError
    return fault(kind, detail)


def _by_status(status: int) -> type[UpstreamFault]:
    if status == 429:
        return UpstreamThrottled
    if status in (401, 403):
        return UpstreamAuth
    if status == 503:
        return UpstreamUnavailable
    if status in (408, 504):
        return UpstreamTimeout
    return UpstreamError if status >= 500 else UpstreamProtocol if status < 400 else UpstreamMisconfigured


def _model_error(document: dict[str, object]) -> GatewayError | ContainerError:
    status = document.get("OriginalStatusCode")
    message = document.get("Message")
    original = document.get("OriginalMessage")
    text = message if isinstance(message, str) else ""
    if status == 0 or not isinstance(status, int):
        # The container never answered: "Your invocation timed out while waiting for a response from container".
        if "timed out" in text:
            return UpstreamTimeout(
                "The model did not answer within the time its endpoint allows for a whole reply. Ask for a stream.",
                detail="ModelError 0",
            )
        return fault(UpstreamError, f"ModelError {status}")
    return ContainerError(status, original.encode() if isinstance(original, str) else b"")


def _parse(headers: Iterable[tuple[bytes, bytes]], body: bytes) -> _Parsed:
    """Return the error's name, as botocore finds it, and its document."""
    try:
        decoded = msgspec.json.decode(body) if body else {}
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        decoded = {}
    document: dict[str, object] = decoded if isinstance(decoded, dict) else {}
    name = ""
    for key, value in headers:
        if key == b"x-amzn-errortype":
            name = value.decode("latin-1").split(":", 1)[0].strip()
    if not name:
        for field in ("code", "Code", "__type"):
            found = document.get(field)
            if isinstance(found, str) and found:
                name = found.rsplit("#", 1)[-1].split(":", 1)[0]
                break
    return _Parsed(error_name(name), document)


def error_name(text: str) -> str:
    """Return a name as AWS uses them, fit for a log; empty for what is none: it may quote anything."""
    return text if len(text) <= MAX_NAME_CHARS and _NAME.fullmatch(text) else ""
