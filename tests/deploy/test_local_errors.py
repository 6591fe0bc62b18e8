"""Errors before a stream starts, as boto3 and aioboto3 parse them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import pytest
from botocore.exceptions import ClientError

from deploy.local import Endpoint, Limits, LocalSageMaker, faults
from deploy.local.scripted import ScriptedContainer
from tests.deploy.test_local_clients import LOGS, async_client, parsed, streamed, sync_client, whole

pytestmark = pytest.mark.anyio


UNAVAILABLE = "The service is currently unavailable. Try your call again."
ERRORS = [
    pytest.param({"kind": "throttle"}, 400, "ThrottlingException", None, id="throttle"),
    pytest.param({"kind": "service_unavailable"}, 503, "ServiceUnavailable", UNAVAILABLE, id="service_unavailable"),
    pytest.param(
        {"kind": "internal_failure"},
        500,
        "InternalFailure",
        "An internal failure occurred. Try your call again.",
        id="internal_failure",
    ),
    pytest.param(
        {"kind": "internal_dependency"},
        530,
        "InternalDependencyException",
        "Your request caused an exception with an internal dependency. Contact customer support.",
        id="internal_dependency",
    ),
    pytest.param(
        {"kind": "model_not_ready"},
        429,
        "ModelNotReadyException",
        "The model is not ready to serve inference requests. Try your request again later.",
        id="model_not_ready",
    ),
    pytest.param(
        {"kind": "access_denied"},
        403,
        "AccessDeniedException",
        "User: arn:aws:iam::111122223333:user/AKIAIOSFODNN7EXAMPLE is not authorized to perform: "
        "sagemaker:InvokeEndpoint on resource: arn:aws:sagemaker:us-east-1:111122223333:endpoint/chat because no "
        "identity-based policy allows the sagemaker:InvokeEndpoint action",
        id="access_denied",
    ),
    pytest.param(
        {"kind": "expired_token"},
        403,
        "ExpiredTokenException",
        "The security token included in the request is expired",
        id="expired_token",
    ),
    pytest.param(
        {"kind": "validation"},
        400,
        "ValidationError",
        "Endpoint chat of account 111122223333 not found.",
        id="validation",
    ),
    pytest.param(
        {"kind": "aws_error", "status": 403, "code": "RequestTimeTooSkewed", "message": "too far"},
        403,
        "RequestTimeTooSkewed",
        "too far",
        id="any other",
    ),
]


@pytest.mark.parametrize("operation", [whole, streamed], ids=["whole", "stream"])
@pytest.mark.parametrize(("fault", "status", "code", "message"), ERRORS)
async def test_errors_before_the_container(
    fault: Mapping[str, object], status: int, code: str, message: str | None, operation: Any
) -> None:
    container = ScriptedContainer()
    async with LocalSageMaker({"chat": container}) as local:
        local.add_fault(fault)
        client = sync_client(local)
        with pytest.raises(ClientError) as caught:
            await operation(client)
        assert parsed(caught.value) == (status, code, message)
        assert container.requests == []
        assert (local.calls[0].status, local.calls[0].error) == (status, code)
        await operation(client)  # The fault acted once.


async def test_modelled_errors_are_the_clients_own_classes() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer(b"no", status=400)}) as local:
        client = sync_client(local)
        with pytest.raises(client.exceptions.ModelError):
            await whole(client)
        local.add_fault(faults.InternalDependency())
        with pytest.raises(client.exceptions.InternalDependencyException):
            await whole(client)


ARN = "arn:aws:logs:us-east-1:111122223333:log-group:/aws/sagemaker/Endpoints/chat"
MODEL_ERRORS = [
    pytest.param(400, b'{"error":"bad"}', "client", id="400"),
    pytest.param(424, b"prediction failed", "client", id="424"),
    pytest.param(500, b"oops", "server", id="500"),
    pytest.param(503, b"", "server", id="503 without a body"),
    pytest.param(302, b"moved", "server", id="a redirect"),
]


@pytest.mark.parametrize("operation", [whole, streamed], ids=["whole", "stream"])
@pytest.mark.parametrize(("status", "body", "side"), MODEL_ERRORS)
async def test_the_containers_errors_become_model_errors(status: int, body: bytes, side: str, operation: Any) -> None:
    async with LocalSageMaker({"chat": ScriptedContainer([body] if body else [], status=status)}) as local:
        with pytest.raises(ClientError) as caught:
            await operation(sync_client(local))
    response: Any = caught.value.response
    assert parsed(caught.value)[:2] == (424, "ModelError")
    assert response["Error"]["Message"] == (
        f'Received {side} error ({status}) from primary with message "{body.decode()}". {LOGS}'
    )
    assert response["OriginalStatusCode"] == status
    assert response["OriginalMessage"] == body.decode()
    assert response["LogStreamArn"] == ARN


async def test_long_container_errors_arrive_cut() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer(b"x" * 5000, status=500)}) as local:
        with pytest.raises(ClientError) as caught:
            await whole(sync_client(local))
    response: Any = caught.value.response
    assert response["OriginalMessage"] == "x" * 2048
    assert len(response["Error"]["Message"]) == 2048
    assert response["Error"]["Message"].endswith("xxx")


REFUSED = [
    pytest.param({"EndpointName": "other"}, "Endpoint other of account 111122223333 not found.", id="unknown endpoint"),
    pytest.param(
        {"EndpointName": "a_b"},
        "1 validation error detected: Value 'a_b' at 'endpointName' failed to satisfy constraint: Member must "
        "satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9])*",
        id="no endpoint name",
    ),
    pytest.param(
        {"EndpointName": "a/b c"},
        "1 validation error detected: Value 'a/b c' at 'endpointName' failed to satisfy constraint: Member must "
        "satisfy regular expression pattern: [a-zA-Z0-9](-*[a-zA-Z0-9])*",
        id="a name that must be escaped",
    ),
    pytest.param(
        {"InferenceId": "x" * 65},
        f"1 validation error detected: Value '{'x' * 65}' at 'inferenceId' failed to satisfy constraint: Member must "
        "have length less than or equal to 64",
        id="inference id too long",
    ),
    pytest.param(
        {"CustomAttributes": "y" * 1025},
        f"1 validation error detected: Value '{'y' * 200}' at 'customAttributes' failed to satisfy constraint: Member "
        "must have length less than or equal to 1024",
        id="custom attributes too long",
    ),
    pytest.param({"TargetVariant": "green"}, "Variant green of endpoint chat not found.", id="unknown variant"),
    pytest.param(
        {"InferenceComponentName": "base"},
        "Inference Component Name header is not allowed for endpoints to which you dont plan to deploy inference "
        "components. Please remove the Inference Component Name header and try again.",
        id="a component where there are none",
    ),
]


@pytest.mark.parametrize("operation", [whole, streamed], ids=["whole", "stream"])
@pytest.mark.parametrize(("arguments", "message"), REFUSED)
async def test_bad_calls_are_validation_errors(arguments: Mapping[str, str], message: str, operation: Any) -> None:
    container = ScriptedContainer()
    async with LocalSageMaker({"chat": container}) as local:
        with pytest.raises(ClientError) as caught:
            await operation(sync_client(local), **arguments)
    assert parsed(caught.value) == (400, "ValidationError", message)
    assert container.requests == []


async def test_a_stream_cannot_open_a_session() -> None:
    async with LocalSageMaker({"chat": ScriptedContainer()}) as local:
        with pytest.raises(ClientError) as caught:
            await streamed(sync_client(local), SessionId="NEW_SESSION")
    assert parsed(caught.value)[:2] == (400, "ValidationError")


async def test_an_endpoint_with_components_wants_one_named() -> None:
    container = ScriptedContainer([b"x"])
    endpoint = Endpoint(container, components={"base": None, "polite": "polite-adapter"}, container_name="Kl6NPmsG")
    async with LocalSageMaker({"chat": endpoint}) as local:
        client = sync_client(local)
        for operation in (whole, streamed):
            with pytest.raises(ClientError) as caught:
                await operation(client)
            assert parsed(caught.value) == (
                400,
                "ValidationError",
                "Inference Component Name header is required for endpoints to which you plan to deploy inference "
                "components. Please include Inference Component Name header or consider using SageMaker models.",
            )
            with pytest.raises(ClientError) as caught:
                await operation(client, InferenceComponentName="rude")
            assert parsed(caught.value)[1] == "ValidationError"
            await operation(client, InferenceComponentName="base")
            await operation(client, InferenceComponentName="polite")
        local.add_fault(faults.ModelError(status=500, body="x"))
        with pytest.raises(ClientError, match=r"Received server error \(500\) from Kl6NPmsG with message"):
            await whole(client, InferenceComponentName="base")
    component, adapter = "x-amzn-sagemaker-inference-component", "x-amzn-sagemaker-adapter-identifier"
    assert [dict(request.headers) for request in container.requests[:2]] == [
        {component: "base"},
        {component: "polite", adapter: "polite-adapter"},
    ]


async def test_a_body_over_the_limit_is_a_413_in_plain_text() -> None:
    container = ScriptedContainer()
    async with LocalSageMaker({"chat": container}) as local:
        client = sync_client(local)
        reply, _ = await whole(client, Body=b"x" * 6_291_456)
        assert reply["ResponseMetadata"]["HTTPStatusCode"] == 200
        with pytest.raises(ClientError) as caught:
            await whole(client, Body=b"x" * 6_291_457)
        assert parsed(caught.value) == (413, "413", "HTTP content length exceeded 6291456 bytes.")
        async with async_client(local) as other:
            with pytest.raises(ClientError) as caught:
                await other.invoke_endpoint(EndpointName="chat", Body=io.BytesIO(b"x" * 7_000_000))
        assert parsed(caught.value)[:2] == (413, "413")
        assert len(container.requests) == 1
        assert local.calls[-1].status == 413


async def test_a_container_that_fails_its_ping_gets_no_calls() -> None:
    container = ScriptedContainer([b"x"])
    async with LocalSageMaker({"chat": container}, limits=Limits(ping_interval_s=0)) as local:
        client = sync_client(local)
        container.ping_status = 503
        with pytest.raises(ClientError) as caught:
            await whole(client)
        assert parsed(caught.value)[:2] == (429, "ModelNotReadyException")
        with pytest.raises(ClientError) as caught:
            await streamed(client)
        assert parsed(caught.value)[:2] == (503, "ServiceUnavailable")
        assert container.requests == []
        container.ping_status = 200
        await whole(client)
