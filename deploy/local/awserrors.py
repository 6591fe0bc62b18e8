"""The errors SageMaker Runtime answers before a stream starts: status, name, message, body.

    Refused ── one exception; the functions below make the ones AWS has.

The name travels in the x-amzn-ErrorType header, the body is JSON.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html#API_runtime_InvokeEndpoint_Errors
https://docs.aws.amazon.com/sagemaker/latest/APIReference/CommonErrors.html
"""

from __future__ import annotations

import json
from dataclasses import dataclass

ACCOUNT_ID = "111122223333"
"""The account number AWS' own documentation uses; it belongs to nobody."""
MESSAGE_CHARS = 2048
"""`Message` and `OriginalMessage` are modelled with this length; AWS cuts longer ones."""


class Refused(Exception):
    """A call is answered with an AWS error."""

    def __init__(self, status: int, code: str, members: dict[str, str | int | None]) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.members = members

    @property
    def body(self) -> bytes:
        """The JSON body."""
        return json.dumps(self.members, ensure_ascii=False, separators=(",", ":")).encode()


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call went, for the texts that name it."""

    region: str
    endpoint: str
    container: str = "primary"

    @property
    def arn(self) -> str:
        return f"arn:aws:sagemaker:{self.region}:{ACCOUNT_ID}:endpoint/{self.endpoint.lower()}"

    @property
    def log_stream_arn(self) -> str:
        return f"arn:aws:logs:{self.region}:{ACCOUNT_ID}:log-group:/aws/sagemaker/Endpoints/{self.endpoint}"

    @property
    def see_logs(self) -> str:
        return (
            f"See https://{self.region}.console.aws.amazon.com/cloudwatch/home?region={self.region}"
            f"#logEventViewer:group=/aws/sagemaker/Endpoints/{self.endpoint} in account {ACCOUNT_ID} "
            "for more information."
        )


# --- Modelled: the member is `Message` -----------------------------------------------------------------------------


def validation(message: str) -> Refused:
    """A bad parameter, an unknown endpoint, a missing inference component."""
    return Refused(400, "ValidationError", {"Message": message[:MESSAGE_CHARS]})


def endpoint_not_found(endpoint: str) -> Refused:
    """Text: https://github.com/aws/amazon-sagemaker-examples/issues/293"""
    return validation(f"Endpoint {endpoint} of account {ACCOUNT_ID} not found.")


def component_required() -> Refused:
    """Text: https://github.com/aws-samples/amazon-kendra-langchain-extensions/issues/64"""
    return validation(
        "Inference Component Name header is required for endpoints to which you plan to deploy inference components. "
        "Please include Inference Component Name header or consider using SageMaker models."
    )


def component_not_allowed() -> Refused:
    """The beginning of the text is public (LiteLLM's SageMaker tests); its end is a guess."""
    return validation(
        "Inference Component Name header is not allowed for endpoints to which you dont plan to deploy inference "
        "components. Please remove the Inference Component Name header and try again."
    )


def component_not_found(component: str) -> Refused:
    """The text is a guess after that for endpoints."""
    return validation(f"Inference Component {component} of account {ACCOUNT_ID} not found.")


def variant_not_found(endpoint: str, variant: str) -> Refused:
    """The text is a guess."""
    return validation(f"Variant {variant} of endpoint {endpoint} not found.")


def model_not_ready() -> Refused:
    """Modelled for InvokeEndpoint alone."""
    message = "The model is not ready to serve inference requests. Try your request again later."
    return Refused(429, "ModelNotReadyException", {"Message": message})


def service_unavailable() -> Refused:
    return Refused(503, "ServiceUnavailable", {"Message": "The service is currently unavailable. Try your call again."})


def internal_failure() -> Refused:
    return Refused(500, "InternalFailure", {"Message": "An internal failure occurred. Try your call again."})


def internal_dependency() -> Refused:
    """Modelled for InvokeEndpoint alone."""
    message = "Your request caused an exception with an internal dependency. Contact customer support."
    return Refused(530, "InternalDependencyException", {"Message": message})


def model_error(place: Place, status: int, body: bytes, *, whole: bool = True) -> Refused:
    """The container answered other than 2xx, or `status` 0: not at all.

    `whole` is False when the container's body could not be read to its end.
    """
    side = "client" if 400 <= status < 500 else "server"
    original = body.decode("utf-8", "replace")
    said = f'with message "{original}".' if whole else "and could not load the entire response body."
    message = f"Received {side} error ({status}) from {place.container} {said} {place.see_logs}"
    code = "CLIENT_ERROR_FROM_MODEL" if side == "client" else "INTERNAL_FAILURE_FROM_MODEL"
    return Refused(
        424,
        "ModelError",
        {
            "ErrorCode": code,
            "LogStreamArn": place.log_stream_arn,
            "Message": message[:MESSAGE_CHARS],
            "OriginalMessage": original[:MESSAGE_CHARS],
            "OriginalStatusCode": status,
        },
    )


def model_timeout(place: Place) -> Refused:
    """The container took longer than the limit. Text: https://github.com/RamVegiraju/SageMaker-Deployment/issues/3"""
    text = (
        f"Your invocation timed out while waiting for a response from container {place.container}. Review the latency "
        "metrics for each container in Amazon CloudWatch, resolve the issue, and try again."
    )
    return model_error(place, 0, text.encode())


def model_gone(place: Place) -> Refused:
    """The container hung up unasked. Text: https://github.com/aws/amazon-sagemaker-examples/issues/2815"""
    text = (
        f"Amazon SageMaker could not get a response from the {place.endpoint} endpoint. This can occur when CPU or "
        "memory utilization is high. To check your utilization, see Amazon CloudWatch. To fix this problem, use an "
        "instance type with more CPU capacity or memory."
    )
    return model_error(place, 0, text.encode())


# --- Not modelled: the services' common errors, the member is mostly `message` -------------------------------------


def throttling() -> Refused:
    """HTTP 400 without a text. https://github.com/opensearch-project/ml-commons/issues/2429"""
    return Refused(400, "ThrottlingException", {"message": None})


def missing_authentication_token() -> Refused:
    return Refused(403, "MissingAuthenticationTokenException", {"message": "Missing Authentication Token"})


def incomplete_signature(message: str) -> Refused:
    return Refused(403, "IncompleteSignatureException", {"message": message})


def invalid_signature(message: str) -> Refused:
    return Refused(403, "InvalidSignatureException", {"message": message})


def wrong_signature(canonical: str, to_sign: str) -> Refused:
    return invalid_signature(
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access "
        "Key and signing method. Consult the service documentation for details.\n\n"
        f"The Canonical String for this request should have been\n'{canonical}'\n\n"
        f"The String-to-Sign should have been\n'{to_sign}'\n"
    )


def unrecognized_client() -> Refused:
    message = "The security token included in the request is invalid."
    return Refused(403, "UnrecognizedClientException", {"message": message})


def expired_token() -> Refused:
    return Refused(403, "ExpiredTokenException", {"message": "The security token included in the request is expired"})


def access_denied(place: Place, access_key_id: str) -> Refused:
    message = (
        f"User: arn:aws:iam::{ACCOUNT_ID}:user/{access_key_id} is not authorized to perform: sagemaker:InvokeEndpoint "
        f"on resource: {place.arn} because no identity-based policy allows the sagemaker:InvokeEndpoint action"
    )
    return Refused(403, "AccessDeniedException", {"Message": message})


def unknown_operation() -> Refused:
    return Refused(404, "UnknownOperationException", {"message": None})
