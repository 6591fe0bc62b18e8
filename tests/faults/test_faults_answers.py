"""SageMaker or the container answers, but not with success: what a caller gets, and who tries again."""

from __future__ import annotations

import json

import pytest

from deploy.local import faults
from tests.faults.talk import DIALECTS, events_of, records, says, written
from tests.faults.wire import CHAT, Answer, chat, request
from tests.faults.world import MAX_REPLY_BYTES, World

STREAMS = pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
both = pytest.mark.parametrize("dialect", DIALECTS)

INTERNAL = ("arn:aws", "111122223333", "cloudwatch", "/opt/", "Traceback", "us-east-1", "Endpoint ", "primary")
"""What AWS and containers say among themselves."""
FAILED = "The model's endpoint failed while working on the request."
NO_CAPACITY = "The model's endpoint has no capacity at the moment. Please retry later."


def assert_nothing_internal(answer: Answer) -> None:
    shown = answer.body.decode() + repr(answer.headers)
    assert [word for word in INTERNAL if word in shown] == []


def wrapped(message: str, kind: str, code: int, param: str | None = None) -> str:
    return json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}})


@both
@STREAMS
def test_u25_a_refusal_of_the_container_is_400_in_its_own_words(world: World, dialect: str, stream: bool) -> None:
    body = wrapped("temperature must be non-negative, got -1.0.", "BadRequestError", 400, "temperature")
    world.fault(faults.ModelError(status=400, body=body))
    answer = world.ask(chat(dialect, stream=stream))
    assert answer.status == 400
    assert answer.error == {
        "message": "temperature must be non-negative, got -1.0.",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": "invalid_value",
    }
    assert len(world.calls()) == 1


@pytest.mark.parametrize(
    ("preset", "status", "code"),
    [
        pytest.param("lmi27.bad_sampling", 400, "upstream_rejected", id="the reason is lost"),
        pytest.param("lmi27.context_too_long", 400, "upstream_rejected", id="the context's, too"),
        pytest.param("lmi22.context_too_long", 400, "context_length_exceeded", id="the reason is kept"),
        pytest.param("lmi27.malformed_json", 400, "invalid_value", id="the body could not be read"),
        pytest.param("lmi27.unknown_model", 502, "upstream_misconfigured", id="no such served model"),
        pytest.param("lmi27.unknown_adapter", 502, "upstream_misconfigured", id="no such adapter"),
        pytest.param("lmi27.engine_died", 503, "upstream_unavailable", id="the engine is dead"),
    ],
)
def test_u26_a_failed_prediction_of_lmi_is_judged_by_its_cause(
    world: World, preset: str, status: int, code: str
) -> None:
    world.fault(faults.ModelError(preset=preset), times=None)
    answer = world.ask(chat("lmi"))
    assert (answer.status, answer.code) == (status, code)
    assert_nothing_internal(answer)
    if status < 500:
        assert len(world.calls()) == 1


@both
@STREAMS
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(wrapped("CUDA error: device-side assert in /opt/x.py", "InternalServerError", 500), id="JSON"),
        pytest.param("Traceback (most recent call last):\n  File '/opt/x.py'", id="a stack"),
        pytest.param("", id="nothing"),
    ],
)
def test_u27_a_failure_of_the_container_is_502_without_its_words(
    world: World, dialect: str, stream: bool, body: str
) -> None:
    before = world.counted("gateway_upstream_attempts_total", model=dialect, code="upstream_error")
    world.fault(faults.ModelError(status=500, body=body))
    answer = world.ask(chat(dialect, stream=stream))
    assert (answer.status, answer.code, answer.error["message"]) == (502, "upstream_error", FAILED)
    assert_nothing_internal(answer)
    assert len(world.calls()) == 1  # it may have been at work
    assert world.counted("gateway_upstream_attempts_total", model=dialect, code="upstream_error") == before + 1


@STREAMS
@pytest.mark.parametrize(
    ("dialect", "full"),
    [
        pytest.param("vllm", faults.ModelError(status=503, body="busy"), id="vllm"),
        pytest.param("lmi", faults.ModelError(preset="lmi27.queue_full"), id="lmi"),
    ],
)
def test_u28_a_full_container_is_tried_again_and_then_503(
    world: World, dialect: str, full: faults.Fault, stream: bool
) -> None:
    world.earn_retries()
    world.fault(full)
    assert world.ask(chat(dialect, stream=stream)).status == 200
    assert len(world.calls()) == 2
    world.fault(full, times=None)
    answer = world.ask(chat(dialect, stream=stream))
    assert (answer.status, answer.code, answer.error["message"]) == (503, "upstream_unavailable", NO_CAPACITY)
    assert answer.header("retry-after") == "5"
    assert len(world.calls()) == 4


ENDPOINT_MISSING = faults.Validation()
OTHERS = [
    pytest.param(faults.Throttle(), 503, "upstream_throttled", "2", 1, id="u29-throttled"),
    pytest.param(ENDPOINT_MISSING, 502, "upstream_misconfigured", None, 1, id="u30-no-such-endpoint"),
    pytest.param(
        faults.Validation(message="Inference Component Name header is required for arn:aws:sagemaker:us-east-1"),
        502,
        "upstream_misconfigured",
        None,
        1,
        id="u30-no-component",
    ),
    pytest.param(faults.ServiceUnavailable(), 503, "upstream_unavailable", "5", 2, id="u31-service-unavailable"),
    pytest.param(faults.InternalDependency(), 503, "upstream_unavailable", "5", 2, id="u31-internal-dependency"),
    # It may have been at work: a second attempt could be a second generation.
    pytest.param(faults.InternalFailure(), 502, "upstream_error", None, 1, id="u31-internal-failure"),
    pytest.param(faults.ModelNotReady(), 503, "model_not_ready", "15", 1, id="u32-model-not-ready"),
    pytest.param(faults.AccessDenied(), 502, "upstream_auth", None, 1, id="u37-access-denied"),
    pytest.param(faults.ExpiredToken(), 502, "upstream_auth", None, 1, id="u37-expired"),
    pytest.param(
        faults.AwsError(status=403, code="UnrecognizedClientException", message="The security token is invalid."),
        502,
        "upstream_auth",
        None,
        1,
        id="u37-unknown-client",
    ),
    pytest.param(faults.ModelTimeout(), 504, "upstream_timeout", None, 1, id="u31-model-took-too-long"),
]


@both
@STREAMS
@pytest.mark.parametrize(("fault", "status", "code", "retry_after", "attempts"), OTHERS)
def test_u30_u31_u32_u37_an_error_of_sagemaker(
    world: World,
    dialect: str,
    stream: bool,
    fault: faults.Fault,
    status: int,
    code: str,
    retry_after: str | None,
    attempts: int,
) -> None:
    if attempts > 1:
        world.earn_retries()
    before = world.counted("gateway_upstream_attempts_total", model=dialect, code=code)
    world.fault(fault, times=None)
    answer = world.ask(chat(dialect, stream=stream))
    assert (answer.status, answer.code, answer.header("retry-after")) == (status, code, retry_after)
    assert answer.error["type"] == "server_error"
    assert answer.header("www-authenticate") is None
    assert_nothing_internal(answer)
    assert len(world.calls()) == attempts
    assert world.counted("gateway_upstream_attempts_total", model=dialect, code=code) - before == attempts


@both
@pytest.mark.parametrize("fault", [faults.ServiceUnavailable(), faults.InternalDependency()], ids=lambda f: f.kind)
def test_u31_an_error_that_passes_is_not_noticed(world: World, dialect: str, fault: faults.Fault) -> None:
    world.earn_retries()
    world.fault(fault)
    assert world.ask(chat(dialect, stream=True)).events[-1] == b"[DONE]"
    assert [call.error for call in world.calls()] == [
        {"service_unavailable": "ServiceUnavailable", "internal_dependency": "InternalDependencyException"}[fault.kind],
        None,
    ]


@both
@STREAMS
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        pytest.param(faults.Html(status=200), "upstream_protocol", id="a page with 200"),
        pytest.param(faults.Html(status=502), "upstream_error", id="a page with 502"),
        pytest.param(faults.Html(status=302, body=""), "upstream_protocol", id="a redirect"),
        pytest.param(faults.Html(status=204, body=""), "upstream_protocol", id="no content"),
    ],
)
def test_u42_a_page_from_something_between_is_502(
    world: World, dialect: str, stream: bool, fault: faults.Html, code: str
) -> None:
    world.fault(fault)
    answer = world.ask(chat(dialect, stream=stream))
    assert (answer.status, answer.code) == (502, code)
    assert b"<" not in answer.body
    assert len(world.calls()) == 1


@both
def test_u42_a_stream_under_another_content_type_is_502(world: World, dialect: str) -> None:
    world.fault(faults.ContentType(outer="text/html"))
    answer = world.ask(chat(dialect, stream=True))
    assert (answer.status, answer.code) == (502, "upstream_protocol")


@both
@pytest.mark.parametrize("declared", [True, False], ids=["declared", "chunked"])
def test_u43_a_whole_reply_without_end_is_cut_at_the_limit(world: World, dialect: str, declared: bool) -> None:
    before = world.rss_bytes()
    world.fault(faults.Oversized(total_bytes=1 << 30, declared=declared))
    answer = world.ask(chat(dialect))
    assert (answer.status, answer.code) == (502, "upstream_protocol")
    (call,) = world.calls()
    assert world.local.call_ended(call.n).status is None  # it never came to the end of its answer
    assert world.rss_bytes() - before < 8 * MAX_REPLY_BYTES


@both
@pytest.mark.parametrize("name", ["", "-assembled"], ids=["stream", "assembled"])
def test_u43_a_stream_without_a_record_is_cut_at_the_limit(world: World, dialect: str, name: str) -> None:
    before = world.rss_bytes()
    world.fault(faults.Oversized(total_bytes=1 << 30))
    answer = world.ask(chat(f"{dialect}{name}", stream=not name))
    assert (answer.status, answer.code) == (502, "upstream_protocol")
    (call,) = world.calls()
    assert world.local.call_ended(call.n).status is None  # it never came to the end of its answer
    assert world.rss_bytes() - before < 40 * 1024 * 1024  # a record may hold 8 MiB


X_EVIL = "x-evil"


@pytest.mark.parametrize(
    ("header", "whole", "streamed"),
    [
        pytest.param(faults.ResponseHeader(name=X_EVIL, value="a\r\nset-cookie: b=c"), 200, 200, id="CR LF"),
        pytest.param(faults.ResponseHeader(name=X_EVIL, value="a\nset-cookie: b=c"), 502, 502, id="LF"),
        # The head ends early, and the rest of the reply, which has no length then, is not what it should be.
        pytest.param(faults.ResponseHeader(name=X_EVIL, value="a\r\n\r\nHTTP/1.1 200 OK"), 504, 502, id="split"),
        pytest.param(faults.ResponseHeader(name=X_EVIL, value_bytes=60_000), 200, 200, id="60 KB"),
        pytest.param(faults.ResponseHeader(name=X_EVIL, value_bytes=300_000), 502, 502, id="300 KB"),
        pytest.param(faults.ResponseHeader(name="set-cookie", value="evil=1"), 200, 200, id="a cookie"),
        pytest.param(faults.ResponseHeader(name="x-request-id", value="evil"), 200, 200, id="the request's id"),
        pytest.param(
            faults.ResponseHeader(name="X-Amzn-SageMaker-Custom-Attributes", value="evil"), 200, 200, id="attributes"
        ),
    ],
)
@both
@STREAMS
def test_u48_no_header_of_the_upstream_reaches_a_caller(
    world: World, dialect: str, stream: bool, header: faults.ResponseHeader, whole: int, streamed: int
) -> None:
    world.fault(header)
    answer = world.ask(chat(f"{dialect}-hasty", stream=stream))
    assert answer.status == (streamed if stream else whole)
    expected = {"date", "content-type", "x-request-id", "openai-processing-ms", "server-timing"}
    if stream and answer.status == 200:
        expected |= {"cache-control", "x-accel-buffering", "transfer-encoding"}
    else:
        expected.add("content-length")
    assert {name for name, _ in answer.headers} == expected
    assert "evil" not in repr(answer.headers)
    assert b"set-cookie" not in answer.body


@both
def test_a_caller_reads_on_after_an_error(world: World, dialect: str) -> None:
    """A failed stream ends properly, so that its connection serves the next call."""
    with world.caller() as caller:
        for _ in range(3):
            world.fault(says(written(dialect, records(["one"]))), faults.CrcFlipped(frame=2))
            caller.send(request("POST", CHAT, chat(dialect, stream=True)))
            failed = caller.answer()
            assert failed.events[:-1] == events_of(dialect, ["one"])[:2]
            assert failed.last_error["code"] == "upstream_protocol"
            caller.send(request("POST", CHAT, chat(dialect)))
            assert caller.answer().status == 200
