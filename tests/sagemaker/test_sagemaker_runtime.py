"""Calls of both operations: what arrives at SageMaker, how often, and what its answers mean."""

from __future__ import annotations

import asyncio
import ssl
from typing import Any

import pytest
from botocore.loaders import Loader

from deploy.local import AccessKey, Endpoint, faults
from deploy.local.faults import Fault
from deploy.local.scripted import ScriptedContainer
from gateway.errors import (
    GatewayError,
    ModelNotReady,
    RequestTooLarge,
    UpstreamAuth,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamProtocol,
    UpstreamThrottled,
    UpstreamTimeout,
    UpstreamTls,
    UpstreamUnavailable,
)
from gateway.sagemaker import runtime
from gateway.sagemaker.errors import ContainerError
from gateway.sagemaker.http1 import Origin
from gateway.sagemaker.operation import CONFIGURED_HEADERS
from tests.sagemaker.peer import Peer, PeerConnection, anyio_backend, chunk, chunked, reply, until, within
from tests.sagemaker.target import Called, Listener, event_stream, local, origin_of

__all__ = ["anyio_backend"]  # the fixture: both event loops

pytestmark = pytest.mark.anyio

WHOLE, STREAM = "InvokeEndpoint", "InvokeEndpointWithResponseStream"
BOTH = pytest.mark.parametrize("operation", ["whole", "stream"])


async def answer(called: Called, operation: str) -> bytes:
    """Return what a call of either operation brings."""
    if operation == "whole":
        return await called.whole()
    listener = await called.streamed()
    assert listener.error is None
    return listener.received


# --- what arrives --------------------------------------------------------------------------------------------------

ALL: dict[str, Any] = {
    "custom_attributes": "a=1;b=two  words",
    "enable_explanations": "`true`",
    "inference_component": "base",
    "prefix_aware_id": "group/1",
    "session_id": "session-1",
    "target_container_hostname": "second",
    "target_model": "model.tar.gz",
    "target_variant": "AllTraffic",
}
ARRIVES = {
    "x-amzn-sagemaker-custom-attributes": "a=1;b=two words",  # as the canonical form of the signature has it
    "x-amzn-sagemaker-enable-explanations": "`true`",
    "x-amzn-sagemaker-inference-component": "base",
    "x-amzn-sagemaker-prefix-aware-id": "group/1",
    "x-amzn-sagemaker-session-id": "session-1",
    "x-amzn-sagemaker-target-container-hostname": "second",
    "x-amzn-sagemaker-target-model": "model.tar.gz",
    "x-amzn-sagemaker-target-variant": "AllTraffic",
}
WHOLE_ONLY = {"x-amzn-sagemaker-enable-explanations", "x-amzn-sagemaker-target-model"}
KEYS = [
    pytest.param(AccessKey("AKIALASTING", "secret"), id="without a token"),
    pytest.param(AccessKey("ASIATEMPORARY", "secret", session_token="token/with+signs=="), id="with a token"),
]


def configured(headers: tuple[tuple[str, str], ...]) -> dict[str, str]:
    """Return the headers that a deployment's configuration decides."""
    own = {"x-amzn-sagemaker-accept", "x-amzn-sagemaker-inference-id"}
    return {name: value for name, value in headers if name.startswith("x-amzn-sagemaker-") and name not in own}


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("fields", [
    pytest.param([], id="none"), *[pytest.param([name], id=name) for name in ALL], pytest.param(list(ALL), id="all")
])  # fmt: skip
async def test_every_configured_header_arrives_under_a_good_signature(fields: list[str], key: AccessKey) -> None:
    expected = {name: ARRIVES[name] for name in ARRIVES if name[17:].replace("-", "_") in fields}
    components = {"base": None} if "inference_component" in fields else {}
    container = ScriptedContainer(b"{}")
    async with local(Endpoint(container, components=components), access_keys=[key]) as sagemaker:
        called = Called(origin_of(sagemaker.url), key=key, **{name: ALL[name] for name in fields})
        assert await called.whole(b'{"a": "\xc3\xa9"}') == b"{}"
        assert (await called.streamed(b'{"b": 2}')).received == b"{}"
        whole, stream = sagemaker.calls
        assert (whole.operation, whole.verified, whole.body) == (WHOLE, True, b'{"a": "\xc3\xa9"}')
        assert (stream.operation, stream.verified, stream.body) == (STREAM, True, b'{"b": 2}')
        assert configured(whole.headers) == expected
        assert configured(stream.headers) == {k: v for k, v in expected.items() if k not in WHOLE_ONLY}
        for call in (whole, stream):
            assert call.header("content-type") == "application/json"
            assert call.header("x-amzn-sagemaker-inference-id") == "req_1"
        assert (whole.header("accept"), whole.header("x-amzn-sagemaker-accept")) == ("application/json", None)
        assert (stream.header("accept"), stream.header("x-amzn-sagemaker-accept")) == (None, "application/json")
        assert container.requests[0].headers["x-amzn-sagemaker-inference-id"] == "req_1"


def test_every_member_of_the_operations_that_is_a_header_can_be_configured() -> None:
    model: dict[str, Any] = Loader().load_service_model("sagemaker-runtime", "service-2")
    ours = {"accept", "content-type", "x-amzn-sagemaker-accept", "x-amzn-sagemaker-inference-id"}
    for operation, streams in ((WHOLE, False), (STREAM, True)):
        members = model["shapes"][model["operations"][operation]["input"]["shape"]]["members"].values()
        known = {member["locationName"].lower() for member in members if member.get("location") == "header"} - ours
        sent = {header for _, header, both in CONFIGURED_HEADERS if both or not streams}
        # Newer than this release of botocore's model: its changelog names it for 1.43.117.
        assert sent == known | {"x-amzn-sagemaker-prefix-aware-id"}


@BOTH
async def test_a_request_is_one_post_with_the_length_of_its_body_and_the_address_it_goes_to(operation: str) -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(event_stream(b"{}") if operation == "stream" else reply(b"{}"))

    async with Peer(script) as peer:
        await answer(Called(peer.origin()), operation)
        (request,) = peer.requests
        suffix = "invocations-response-stream" if operation == "stream" else "invocations"
        assert request.line == f"POST /endpoints/chat/{suffix} HTTP/1.1"
        assert (request.headers["host"], request.headers["content-length"]) == (f"127.0.0.1:{peer.port}", "2")


async def test_all_calls_share_one_connection_whatever_comes_of_them() -> None:
    async with local([b"one", b"two"]) as sagemaker:
        called = Called(origin_of(sagemaker.url))
        for fault in (None, faults.Throttle(), faults.ModelError(status=400), faults.Html(), None):
            if fault is not None:
                sagemaker.add_fault(fault, times=2)
            await called.failure("whole")
            await called.failure("stream")
        assert await called.whole() == b"onetwo"
        assert (await called.streamed()).received == b"onetwo"
        assert (len(sagemaker.calls), sagemaker.accepted, called.resent) == (12, 1, [])


@BOTH
@pytest.mark.parametrize("size", [0, 1, 65_536, 3_000_000])
async def test_bodies_and_replies_of_any_size(operation: str, size: int) -> None:
    container = ScriptedContainer(b"x" * size if size else b"")
    async with local(container) as sagemaker:
        called = Called(origin_of(sagemaker.url), max_reply_bytes=3_000_000)
        assert await answer(called, operation) == b"x" * size
        body = b"y" * size
        assert await within(called.target.invoke(body, "req_2")) == b"x" * size
        assert container.requests[1].body == body


# --- credentials ---------------------------------------------------------------------------------------------------


@BOTH
@pytest.mark.parametrize("key", [
    pytest.param(None, id="none"), pytest.param(AccessKey("ASIAOLD", "secret", "token", expires_at=1.0), id="expired")
])  # fmt: skip
async def test_without_valid_credentials_nothing_is_sent(operation: str, key: AccessKey | None) -> None:
    async with local() as sagemaker:
        called = Called(origin_of(sagemaker.url), key=key)
        call = called.whole() if operation == "whole" else called.streamed()
        with pytest.raises(UpstreamAuth) as caught:
            await call
        assert (caught.value.status, caught.value.detail) == (502, "no valid aws credentials")
        assert sagemaker.accepted == 0


@BOTH
@pytest.mark.parametrize("key", [
    pytest.param(AccessKey("AKIAUNKNOWN", "secret"), id="unknown"),
    pytest.param(AccessKey("AKIAIOSFODNN7EXAMPLE", "wrong"), id="wrong secret"),
])  # fmt: skip
async def test_refused_credentials_are_reported_and_looked_for_anew(operation: str, key: AccessKey) -> None:
    async with local() as sagemaker:
        called = Called(origin_of(sagemaker.url), key=key)
        error = await called.failure(operation)
        assert isinstance(error, UpstreamAuth)
        assert "not about your API key" in error.message
        assert called.credentials.refused_since is not None


# --- SageMaker's own errors ----------------------------------------------------------------------------------------

ERRORS = [
    pytest.param(faults.Throttle(), UpstreamThrottled, "400 ThrottlingException", id="throttled"),
    pytest.param(faults.ServiceUnavailable(), UpstreamUnavailable, "503 ServiceUnavailable", id="unavailable"),
    pytest.param(faults.InternalFailure(), UpstreamError, "500 InternalFailure", id="internal failure"),
    pytest.param(
        faults.InternalDependency(), UpstreamUnavailable, "530 InternalDependencyException", id="internal dependency"
    ),
    pytest.param(faults.ModelNotReady(), ModelNotReady, "429 ModelNotReadyException", id="model not ready"),
    pytest.param(faults.AccessDenied(), UpstreamAuth, "403 AccessDeniedException", id="access denied"),
    pytest.param(faults.ExpiredToken(), UpstreamAuth, "403 ExpiredTokenException", id="expired token"),
    pytest.param(faults.AwsError(403, "RequestTimeTooSkewed"), UpstreamAuth, "403 RequestTimeTooSkewed", id="skew"),
    pytest.param(faults.Validation(), UpstreamMisconfigured, "400 ValidationError", id="no such endpoint"),
    pytest.param(faults.ModelTimeout(), UpstreamTimeout, "ModelError 0", id="the container took too long"),
    pytest.param(faults.ModelError(status=0), UpstreamError, "ModelError 0", id="the container said nothing"),
    pytest.param(faults.Html(status=502), UpstreamError, "502 ", id="a page from something between"),
    pytest.param(faults.Html(status=413), RequestTooLarge, "", id="a page that says too large"),
    pytest.param(faults.Html(status=403), UpstreamAuth, "403 ", id="a page that says forbidden"),
]


@BOTH
@pytest.mark.parametrize(("fault", "kind", "detail"), ERRORS)
async def test_an_error_of_sagemaker_after_one_request(
    operation: str, fault: Fault, kind: type[GatewayError], detail: str
) -> None:
    async with local() as sagemaker:
        sagemaker.add_fault(fault)
        called = Called(origin_of(sagemaker.url))
        error = await called.failure(operation)
        assert isinstance(error, GatewayError)
        assert (type(error), error.detail) == (kind, detail)
        assert error.retryable is (kind is UpstreamUnavailable)
        assert (called.credentials.refused_since is not None) is (kind is UpstreamAuth)
        assert len(sagemaker.calls) == 1
        assert await answer(called, operation) == b"{}"


@BOTH
async def test_an_answer_of_the_container_is_left_to_its_adapter(operation: str) -> None:
    container = ScriptedContainer(b'{"error":"\xc3\xa9","code":400}', status=400)
    async with local(container) as sagemaker:
        error = await Called(origin_of(sagemaker.url)).failure(operation)
        assert isinstance(error, ContainerError)
        assert (error.status, error.body) == (400, b'{"error":"\xc3\xa9","code":400}')
        assert len(sagemaker.calls) == 1


@BOTH
async def test_an_error_without_end_is_judged_by_its_head(operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "MAX_ERROR_BYTES", 100_000)
    gone = asyncio.Event()

    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(chunked(headers=("x-amzn-ErrorType: ServiceUnavailable",), end=False, status="503 x"))
        try:
            while True:
                await peer.send(chunk(b"x" * 10_000))
        except ConnectionError:
            gone.set()

    async with Peer(script) as peer:
        error = await Called(peer.origin()).failure(operation)
        assert type(error) is UpstreamUnavailable
        await within(gone.wait())


# --- replies that are none -----------------------------------------------------------------------------------------


async def test_a_reply_over_the_limit_is_cut_off() -> None:
    async with local() as sagemaker:
        for declared in (True, False):
            sagemaker.add_fault(faults.Oversized(2**30, declared=declared))
            called = Called(origin_of(sagemaker.url), max_reply_bytes=100_000)
            error = await called.failure("whole")
            assert isinstance(error, UpstreamProtocol)
            assert (error.detail, error.retryable) == ("reply over the size limit", False)
            call = await sagemaker.call_ended(len(sagemaker.calls))
            assert call.hung_up_ms is not None
        assert len(sagemaker.calls) == 2


@pytest.mark.parametrize(("size", "fits"), [(99_999, True), (100_000, True), (100_001, False)])
async def test_the_limit_of_a_reply(size: int, fits: bool) -> None:
    async with local(b"x" * size) as sagemaker:
        error = await Called(origin_of(sagemaker.url), max_reply_bytes=100_000).failure("whole")
        assert (error is None) is fits


@pytest.mark.parametrize("fault", [
    pytest.param(faults.Html(status=200), id="a page"),
    pytest.param(faults.ContentType(outer="application/json"), id="JSON"),
    pytest.param(faults.ContentType(outer="application/vnd.amazon.eventstrea"), id="nearly"),
])  # fmt: skip
async def test_a_stream_that_is_no_event_stream_is_refused_at_its_head(fault: Fault) -> None:
    async with local([b"one"]) as sagemaker:
        sagemaker.add_fault(fault)
        listener = await Called(origin_of(sagemaker.url)).streamed()
        assert isinstance(listener.error, UpstreamProtocol)
        assert (listener.error.detail, listener.received) == ("not an event stream", b"")


BAD_HTTP = [
    pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="another protocol"),
    pytest.param(b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", id="a bad length"),
    pytest.param(b"\x00" * 100, id="zeros"),
]


@BOTH
@pytest.mark.parametrize("garbage", BAD_HTTP)
async def test_garbage_is_a_protocol_error_after_one_request(operation: str, garbage: bytes) -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(garbage)
        await peer.gone()

    async with Peer(script) as peer:
        error = await Called(peer.origin()).failure(operation)
        assert isinstance(error, UpstreamProtocol)
        assert not error.retryable
        assert (error.detail or "").startswith("bad http: ")
        assert len(peer.requests) == 1


@BOTH
@pytest.mark.parametrize(("before", "retryable"), [
    pytest.param(b"", True, id="before any byte"),
    pytest.param(b"HTTP/1.1 200 O", False, id="inside the head"),
    pytest.param(reply(b"hel", length=9), False, id="inside the body"),
])  # fmt: skip
async def test_a_dropped_connection_may_be_tried_again_only_if_nothing_came(
    operation: str, before: bytes, retryable: bool
) -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(
            before.replace(b"200 OK\r\n", b"200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\n")
        )
        peer.close()

    async with Peer(script) as peer:
        called = Called(peer.origin())
        error = await called.failure(operation)
        assert isinstance(error, UpstreamError)
        assert (error.detail, error.retryable) == ("connection dropped", retryable)
        assert (len(peer.requests), called.resent) == (1, [])


# --- no connection -------------------------------------------------------------------------------------------------


@BOTH
async def test_no_connection_is_unavailable_and_may_be_tried_again(operation: str) -> None:
    async with Peer(PeerConnection.gone) as peer:
        origin = peer.origin()
    called = Called(origin)
    call = called.whole() if operation == "whole" else called.streamed()
    with pytest.raises(UpstreamUnavailable) as caught:
        await call
    assert caught.value.retryable
    assert (caught.value.status, caught.value.retry_after_s) == (503, 5)
    assert caught.value.detail == "connect: ConnectionRefusedError"


@BOTH
async def test_a_peer_that_cannot_be_trusted_is_an_error_of_its_own_and_not_tried_again(operation: str) -> None:
    async def script(peer: PeerConnection) -> None:
        await peer.send(reply(b"plain"))
        assert b"POST" not in await peer.gone()

    async with Peer(script) as peer:
        called = Called(peer.origin(tls=ssl.create_default_context()))
        call = called.whole() if operation == "whole" else called.streamed()
        with pytest.raises(UpstreamTls) as caught:
            await call
        assert (caught.value.status, caught.value.retryable) == (502, False)
        assert peer.accepted == 1


# --- leaving -------------------------------------------------------------------------------------------------------


async def test_a_cancelled_call_closes_its_connection_at_once() -> None:
    gone = asyncio.Event()

    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.gone()
        gone.set()

    async with Peer(script) as peer:
        called = Called(origin := peer.origin())
        calling = asyncio.ensure_future(called.whole())
        await peer.request_arrived(1)
        calling.cancel()
        await within(gone.wait(), 0.1)
        with pytest.raises(asyncio.CancelledError):
            await calling
        assert (origin.open_connections, origin.take()) == (0, None)


async def test_an_aborted_stream_closes_its_connection_at_once_and_is_heard_no_more() -> None:
    gone = asyncio.Event()

    async def script(peer: PeerConnection) -> None:
        await peer.request()
        await peer.send(event_stream(b"one", end=False))
        await peer.gone()
        gone.set()

    async with Peer(script) as peer:
        called, listener = Called(origin := peer.origin()), Listener()
        stream = await called.target.stream(b"{}", "req_1", listener)
        await within(listener.reading.wait())
        stream.abort()
        assert stream._watchdog._handle is None  # or it would hold the stream until its limits
        await within(gone.wait(), 0.1)
        await until(lambda: origin.open_connections == 0)
        stream.abort()
        stream.pause()
        stream.resume()
        assert (listener.received, listener.over.is_set()) == (b"one", False)


async def test_the_container_hears_of_an_abort_within_a_tenth_of_a_second() -> None:
    container = ScriptedContainer([b"one", b"two"], pause_after=1)
    async with local(container) as sagemaker:
        called, listener = Called(origin_of(sagemaker.url)), Listener()
        stream = await called.target.stream(b"{}", "req_1", listener)
        await within(listener.reading.wait())
        stream.abort()
        await within(container.hung_up.wait(), 0.1)
        assert (await sagemaker.call_ended(1)).hung_up_ms is not None


# --- names ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("fields", "name", "streams"), [
    pytest.param({}, "chat", True, id="endpoint"),
    pytest.param({"inference_component": "base"}, "chat/base", True, id="component"),
    pytest.param({"target_variant": "blue"}, "chat/blue", True, id="variant"),
    pytest.param({"inference_component": "base", "target_variant": "blue"}, "chat/base", True, id="both"),
    pytest.param({"target_model": "m.tar.gz"}, "chat", False, id="a model of several, which cannot stream"),
])  # fmt: skip
def test_what_a_target_says_of_itself(fields: dict[str, Any], name: str, streams: bool) -> None:
    target = Called(Origin("http", "127.0.0.1", 1, ssl_context=None, idle_s=60.0), **fields).target
    assert (target.name, target.streams) == (name, streams)
