"""What SageMaker's errors mean to a caller, against botocore's own model of the service."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from botocore.loaders import Loader
from hypothesis import given
from hypothesis import strategies as st

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
from gateway.sagemaker.errors import COMMON, MODELLED, ContainerError, fault, map_error, map_failure
from gateway.sagemaker.eventstream import StreamFailure

MODEL: dict[str, Any] = Loader().load_service_model("sagemaker-runtime", "service-2")
CANARY = "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/canary"


def named(name: str) -> list[tuple[bytes, bytes]]:
    return [(b"x-amzn-requestid", b"1"), (b"x-amzn-errortype", name.encode())]


def kind_of(status: int, name: str) -> type[GatewayError | ContainerError]:
    return type(map_error(status, named(name), b'{"message":null}'))


# --- the service's model -------------------------------------------------------------------------------------------

OPERATIONS = ("InvokeEndpoint", "InvokeEndpointWithResponseStream")
STREAM = MODEL["shapes"][MODEL["operations"][OPERATIONS[1]]["output"]["shape"]]["members"]["Body"]["shape"]


def modelled_errors() -> dict[str, int]:
    """Return every error of both operations, with its HTTP status."""
    names = {error["shape"] for name in OPERATIONS for error in MODEL["operations"][name]["errors"]}
    return {
        name: MODEL["shapes"][name]["error"]["httpStatusCode"] for name in names if "error" in MODEL["shapes"][name]
    }


def stream_exceptions() -> set[str]:
    return {name for name in MODEL["shapes"][STREAM]["members"] if MODEL["shapes"][name].get("exception")}


def test_every_error_of_the_model_is_known_and_no_other_is_called_modelled() -> None:
    assert stream_exceptions() == {"ModelStreamError", "InternalStreamFailure"}
    listed = {error["shape"] for name in OPERATIONS for error in MODEL["operations"][name]["errors"]}
    assert set(MODELLED) == (listed | stream_exceptions()) - {"ModelError"}


@pytest.mark.parametrize(("name", "status", "kind"), [
    ("InternalDependencyException", 530, UpstreamUnavailable),
    ("InternalFailure", 500, UpstreamError),
    ("ModelNotReadyException", 429, ModelNotReady),
    ("ServiceUnavailable", 503, UpstreamUnavailable),
    ("ValidationError", 400, UpstreamMisconfigured),
])  # fmt: skip
def test_a_modelled_error(name: str, status: int, kind: type[UpstreamFault]) -> None:
    assert modelled_errors()[name] == status
    assert kind_of(status, name) is kind


@pytest.mark.parametrize(("failure", "kind", "detail"), [
    pytest.param(
        StreamFailure("ModelStreamError", "ModelInvocationTimeExceeded", CANARY),
        UpstreamTimeout,
        "ModelStreamError ModelInvocationTimeExceeded",
        id="took too long",
    ),
    pytest.param(
        StreamFailure("ModelStreamError", "StreamBroken", CANARY),
        UpstreamError,
        "ModelStreamError StreamBroken",
        id="broken",
    ),
    pytest.param(StreamFailure("ModelStreamError", None, CANARY), UpstreamError, "ModelStreamError", id="no code"),
    pytest.param(
        StreamFailure("InternalStreamFailure", None, CANARY), UpstreamError, "InternalStreamFailure", id="internal"
    ),
    pytest.param(StreamFailure("InternalError", None, CANARY), UpstreamError, "InternalError", id="an error frame"),
    pytest.param(
        StreamFailure("ThrottlingException", None, CANARY), UpstreamThrottled, "ThrottlingException", id="a common one"
    ),
    pytest.param(StreamFailure("x" * 500, "y\n" * 9, CANARY), UpstreamError, "", id="names that are none"),
])  # fmt: skip
def test_a_failure_in_a_stream(failure: StreamFailure, kind: type[UpstreamFault], detail: str) -> None:
    error = map_failure(failure)
    assert (type(error), error.detail, error.retryable) == (kind, detail, False)
    assert CANARY not in error.message


# --- errors of any service -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "status", "kind"), [
    ("AccessDeniedException", 403, UpstreamAuth),
    ("ExpiredTokenException", 403, UpstreamAuth),
    ("ExpiredToken", 400, UpstreamAuth),
    ("IncompleteSignature", 400, UpstreamAuth),
    ("IncompleteSignatureException", 400, UpstreamAuth),
    ("InvalidClientTokenId", 403, UpstreamAuth),
    ("InvalidSignatureException", 403, UpstreamAuth),
    ("MissingAuthenticationToken", 403, UpstreamAuth),
    ("MissingAuthenticationTokenException", 403, UpstreamAuth),
    ("NotAuthorized", 400, UpstreamAuth),
    ("OptInRequired", 403, UpstreamAuth),
    ("RequestExpired", 400, UpstreamAuth),
    ("RequestTimeTooSkewed", 403, UpstreamAuth),
    ("SignatureDoesNotMatch", 403, UpstreamAuth),
    ("UnrecognizedClientException", 403, UpstreamAuth),
    ("ThrottlingException", 400, UpstreamThrottled),
    ("Throttling", 400, UpstreamThrottled),
    ("ThrottledException", 429, UpstreamThrottled),
    ("RequestThrottledException", 400, UpstreamThrottled),
    ("RequestLimitExceeded", 503, UpstreamThrottled),
    ("SlowDown", 503, UpstreamThrottled),
    ("TooManyRequestsException", 429, UpstreamThrottled),
    ("InternalFailure", 500, UpstreamError),
    ("InternalServerException", 500, UpstreamError),
    ("ServiceUnavailableException", 503, UpstreamUnavailable),
    ("RequestTimeoutException", 408, UpstreamTimeout),
    ("ResourceNotFoundException", 404, UpstreamMisconfigured),
    ("UnknownOperationException", 404, UpstreamMisconfigured),
    ("ValidationException", 400, UpstreamMisconfigured),
])  # fmt: skip
def test_a_common_error(name: str, status: int, kind: type[UpstreamFault]) -> None:
    assert kind_of(status, name) is kind


@pytest.mark.parametrize(("status", "kind"), [
    (200, UpstreamProtocol), (204, UpstreamProtocol), (302, UpstreamProtocol), (400, UpstreamMisconfigured),
    (401, UpstreamAuth), (403, UpstreamAuth), (404, UpstreamMisconfigured), (405, UpstreamMisconfigured),
    (408, UpstreamTimeout), (413, RequestTooLarge), (424, UpstreamMisconfigured), (429, UpstreamThrottled),
    (500, UpstreamError), (502, UpstreamError), (503, UpstreamUnavailable), (504, UpstreamTimeout),
    (530, UpstreamError), (599, UpstreamError),
])  # fmt: skip
@pytest.mark.parametrize("name", ["", "NeverHeardOf", "x" * 500, "not\x00a name"])
def test_an_unknown_name_is_judged_by_its_status(status: int, kind: type[GatewayError], name: str) -> None:
    assert kind_of(status, name) is kind


@pytest.mark.parametrize(("headers", "body", "detail"), [
    pytest.param(named("ThrottlingException"), b'{"message":null}', "400 ThrottlingException", id="header"),
    pytest.param(
        named("ThrottlingException:http://internal.amazon.com/coral/com.amazon.coral.availability/"),
        b"{}", "400 ThrottlingException", id="header with an address",
    ),
    pytest.param([], b'{"code":"Throttling"}', "400 Throttling", id="code"),
    pytest.param([], b'{"Code":"Throttling"}', "400 Throttling", id="Code"),
    pytest.param([], b'{"__type":"com.amazon.coral#SlowDown"}', "400 SlowDown", id="type with a namespace"),
    pytest.param([], b'{"__type":"SlowDown:http://x"}', "400 SlowDown", id="type with an address"),
    pytest.param(named("SlowDown"), b'{"__type":"ValidationError"}', "400 SlowDown", id="the header goes first"),
    pytest.param([], b'{"code":7,"__type":"SlowDown"}', "400 SlowDown", id="a code that is no text is passed over"),
])  # fmt: skip
def test_where_the_name_is_found(headers: list[tuple[bytes, bytes]], body: bytes, detail: str) -> None:
    error = map_error(400, headers, body)
    assert isinstance(error, UpstreamThrottled)
    assert error.detail == detail


# --- the container's own errors ------------------------------------------------------------------------------------


def model_error(**members: Any) -> GatewayError | ContainerError:
    return map_error(424, named("ModelError"), json.dumps({"LogStreamArn": CANARY, **members}).encode())


TIMED_OUT = (
    'Received server error (0) from primary with message "Your invocation timed out while waiting for a response from'
    " container primary. Review the latency metrics for each container in Amazon CloudWatch, resolve the issue, and try"
    f' again.". See {CANARY} for more information.'
)


def test_an_answer_of_the_container_is_handed_to_its_adapter() -> None:
    found = model_error(OriginalStatusCode=400, OriginalMessage='{"error":"\u00e9"}', Message=CANARY)
    assert isinstance(found, ContainerError)
    assert (found.status, found.body) == (400, '{"error":"\u00e9"}'.encode())


def test_an_answer_without_a_text_is_handed_on_empty() -> None:
    found = model_error(OriginalStatusCode=500)
    assert isinstance(found, ContainerError)
    assert (found.status, found.body) == (500, b"")


def test_a_container_that_took_too_long_is_a_timeout() -> None:
    found = model_error(OriginalStatusCode=0, OriginalMessage="", Message=TIMED_OUT)
    assert isinstance(found, UpstreamTimeout)
    assert "Ask for a stream" in found.message
    assert not found.retryable


@pytest.mark.parametrize("members", [
    pytest.param({"OriginalStatusCode": 0, "Message": "Received server error (0) from primary"}, id="status 0"),
    pytest.param({"OriginalStatusCode": 0, "Message": None}, id="status 0 and no text"),
    pytest.param({"Message": "x"}, id="no status"),
    pytest.param({"OriginalStatusCode": "400", "Message": "x"}, id="a status in words"),
    pytest.param({"OriginalStatusCode": 4.5}, id="a status that is no integer"),
])  # fmt: skip
def test_a_container_that_said_nothing_failed(members: dict[str, Any]) -> None:
    found = model_error(**members)
    assert type(found) is UpstreamError
    assert not found.retryable


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"<html>", b"\xff", b'{"OriginalStatusCode":400', b"[" * 10_000])
def test_a_container_error_that_cannot_be_read_is_a_failure(body: bytes) -> None:
    assert type(map_error(424, named("ModelError"), body)) is UpstreamError


# --- what holds for all --------------------------------------------------------------------------------------------

ALL_NAMES = sorted(MODELLED.keys() | COMMON.keys())


@pytest.mark.parametrize("name", ["", "NeverHeardOf", "ModelError", *ALL_NAMES])
@pytest.mark.parametrize("status", [400, 403, 404, 413, 424, 429, 500, 503, 530])
def test_nothing_blames_the_caller_and_no_text_of_aws_reaches_one(name: str, status: int) -> None:
    text = f"{CANARY} timed out"
    body = {"Message": text, "message": text, "LogStreamArn": CANARY, "OriginalMessage": CANARY, "ErrorCode": CANARY}
    error = map_error(status, named(name), json.dumps(body).encode())
    assert isinstance(error, GatewayError)
    assert error.status >= 500 or (status, type(error)) == (413, RequestTooLarge)
    assert "canary" not in error.body().decode()
    assert "canary" not in error.event().decode()
    assert "canary" not in (error.detail or "")
    assert error.retryable == isinstance(error, UpstreamUnavailable)


@pytest.mark.parametrize(("name", "status", "retry_after_s"), [
    ("ThrottlingException", 400, 2), ("ServiceUnavailable", 503, 5), ("ModelNotReadyException", 429, 15),
    ("InternalFailure", 500, None), ("AccessDeniedException", 403, None), ("ValidationError", 400, None),
])  # fmt: skip
def test_when_to_come_again(name: str, status: int, retry_after_s: int | None) -> None:
    error = map_error(status, named(name), b"")
    assert isinstance(error, GatewayError)
    assert error.retry_after_s == retry_after_s


def test_every_kind_has_a_text() -> None:
    for kind in {*MODELLED.values(), *COMMON.values(), UpstreamProtocol}:
        assert fault(kind, "detail").message.endswith(".")


KNOWN_STATUSES = {413, 502, 503, 504}


@given(
    status=st.integers(100, 999),
    name=st.one_of(st.just(b"ModelError"), st.sampled_from(ALL_NAMES).map(str.encode), st.binary(max_size=80)),
    body=st.one_of(
        st.binary(max_size=80),
        st.dictionaries(
            st.sampled_from(["code", "Code", "__type", "Message", "OriginalStatusCode", "OriginalMessage"]),
            st.one_of(st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.text(max_size=9), st.lists(st.none())),
        ).map(lambda members: json.dumps(members).encode()),
    ),
)
def test_any_answer_means_something(status: int, name: bytes, body: bytes) -> None:
    found = map_error(status, [(b"x-amzn-errortype", name)], body)
    if isinstance(found, GatewayError):
        assert found.status in KNOWN_STATUSES
        assert msgspec.json.decode(found.body())["error"]["code"] == found.code
        assert len(found.detail or "") < 100
        assert (found.detail or "").isprintable()
    else:
        assert name.split(b":")[0].strip() in (b"ModelError", b"")
