"""The gateway's errors in TGI's words."""

from __future__ import annotations

import json

import pytest

from adapters.tgi.refusal import TgiRefusal
from gateway.errors import (
    ConcurrencyLimitExceeded,
    ContextLengthExceeded,
    GatewayError,
    InternalError,
    InvalidJson,
    InvalidKey,
    InvalidRequest,
    MissingKey,
    ModelNotFound,
    ModelNotReady,
    QuotaExceeded,
    RateLimitExceeded,
    RequestTooLarge,
    RouteNotFound,
    ShuttingDown,
    TooManyFailures,
    UnsupportedMediaType,
    UnsupportedParameterError,
    UpstreamAuth,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamProtocol,
    UpstreamRejected,
    UpstreamThrottled,
    UpstreamTimeout,
    UpstreamTls,
    UpstreamUnavailable,
)
from gateway.http.docs_document import errors
from gateway.http.tgi_errors import body_of, event_of, worded

TABLE: list[tuple[type[GatewayError], int, str, str]] = [
    (InvalidRequest, 422, "validation", "Input validation error: No."),
    (UnsupportedParameterError, 422, "validation", "Input validation error: No."),
    (ContextLengthExceeded, 422, "validation", "Input validation error: No."),
    (UpstreamRejected, 422, "validation", "Input validation error: No."),
    (InvalidJson, 400, "validation", "No."),
    (UpstreamError, 424, "generation", "Request failed during generation: No."),
    (UpstreamAuth, 424, "generation", "Request failed during generation: No."),
    (UpstreamTls, 424, "generation", "Request failed during generation: No."),
    (UpstreamMisconfigured, 424, "generation", "Request failed during generation: No."),
    (UpstreamThrottled, 429, "overloaded", "No."),
    (UpstreamUnavailable, 429, "overloaded", "No."),
    (RateLimitExceeded, 429, "overloaded", "No."),
    (ConcurrencyLimitExceeded, 429, "overloaded", "No."),
    (QuotaExceeded, 429, "overloaded", "No."),
    (TooManyFailures, 429, "overloaded", "No."),
    (UpstreamProtocol, 500, "incomplete_generation", "Incomplete generation: No."),
    (UpstreamTimeout, 504, "upstream_timeout", "No."),
    (ModelNotReady, 503, "model_not_ready", "No."),
    (MissingKey, 401, "missing_api_key", "No."),
    (InvalidKey, 401, "invalid_api_key", "No."),
    (ModelNotFound, 404, "model_not_found", "No."),
    (RouteNotFound, 404, "route_not_found", "No."),
    (RequestTooLarge, 413, "request_too_large", "No."),
    (UnsupportedMediaType, 415, "unsupported_media_type", "No."),
    (ShuttingDown, 503, "server_shutdown", "No."),
    (InternalError, 500, "internal_error", "No."),
]


@pytest.mark.parametrize(("kind", "status", "word", "text"), TABLE, ids=lambda value: getattr(value, "__name__", None))
def test_an_error_has_tgis_status_kind_and_text(kind: type[GatewayError], status: int, word: str, text: str) -> None:
    found, body = body_of(kind("No.", param="x"))
    assert (found, body) == (status, json.dumps({"error": text, "error_type": word}, separators=(",", ":")).encode())


def test_no_error_of_the_gateways_makes_tgi_blame_the_caller_for_it() -> None:
    for kind in errors().values():
        status, _ = body_of(kind("No."))
        assert (status in (424, 429) or status >= 500) is (kind.status >= 500 or kind.status == 429), kind


def test_an_event_has_no_space_and_is_not_overloaded_once_it_has_begun() -> None:
    assert event_of(UpstreamError("No.")) == (
        b'data:{"error":"Request failed during generation: No.","error_type":"generation"}\n\n'
    )
    assert event_of(UpstreamUnavailable("No.")) == event_of(UpstreamError("No."))
    assert event_of(ShuttingDown("No.")) == b'data:{"error":"No.","error_type":"server_shutdown"}\n\n'
    assert event_of(UpstreamProtocol('"')) == (
        b'data:{"error":"Incomplete generation: \\"","error_type":"incomplete_generation"}\n\n'
    )


@pytest.mark.parametrize(
    ("refusal", "status", "code"),
    [
        pytest.param(TgiRefusal("Input validation error: x"), 422, "invalid_value", id="validation"),
        pytest.param(TgiRefusal("no JSON", status=400, error_type=None), 400, "invalid_json", id="no json"),
        pytest.param(TgiRefusal("no request", error_type=None), 422, "invalid_value", id="another type"),
    ],
)
def test_tgis_own_words_are_not_changed(refusal: TgiRefusal, status: int, code: str) -> None:
    error = worded(refusal)
    assert (error.code, error.type) == (code, "invalid_request_error")
    assert code in errors()
    found, body = body_of(error)
    assert (found, json.loads(body)) == (status, {"error": refusal.message, "error_type": "validation"})


def test_every_error_is_in_the_table_or_needs_no_word() -> None:
    told = {kind for kind, *_ in TABLE}
    for kind in errors().values():
        if kind not in told and not issubclass(kind, InvalidRequest):
            status, body = body_of(kind("No."))
            assert (status, json.loads(body)["error_type"]) == (kind.status, kind.code)
