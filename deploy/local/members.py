"""Which headers pass between a caller and a container, and under which names.

SageMaker drops every request header its model does not list: a container never sees Authorization or a trace id.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpointWithResponseStream.html
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from deploy.local import awserrors

Operation = Literal["InvokeEndpoint", "InvokeEndpointWithResponseStream"]
WHOLE: Operation = "InvokeEndpoint"
STREAM: Operation = "InvokeEndpointWithResponseStream"

NAME = r"[a-zA-Z0-9](-*[a-zA-Z0-9])*"
ASCII = r"[\x00-\x7f]*"
PRINTABLE = r"\S[ -~]*"
ENDPOINT_NAME_CHARS = 63
ADAPTER_HEADER = "x-amzn-sagemaker-adapter-identifier"
SESSION_HEADER = "x-amzn-sagemaker-session-id"
COMPONENT_HEADER = "x-amzn-sagemaker-inference-component"
VARIANT_HEADER = "x-amzn-sagemaker-target-variant"


@dataclass(frozen=True, slots=True)
class Member:
    """A header of the request, with the limits the service's model sets."""

    header: str
    name: str
    max_chars: int
    pattern: str
    min_chars: int = 0
    stream: str | None = "same"
    """The header's name on the streaming operation; None when that operation has no such member."""


MEMBERS = (
    Member("content-type", "contentType", 1024, ASCII),
    Member("accept", "accept", 1024, ASCII, stream="x-amzn-sagemaker-accept"),
    Member("x-amzn-sagemaker-custom-attributes", "customAttributes", 1024, ASCII),
    Member("x-amzn-sagemaker-target-model", "targetModel", 1024, PRINTABLE, min_chars=1, stream=None),
    Member(VARIANT_HEADER, "targetVariant", 63, NAME),
    Member("x-amzn-sagemaker-target-container-hostname", "targetContainerHostname", 63, NAME),
    Member("x-amzn-sagemaker-inference-id", "inferenceId", 64, PRINTABLE, min_chars=1),
    Member("x-amzn-sagemaker-enable-explanations", "enableExplanations", 64, r".*", min_chars=1, stream=None),
    Member(COMPONENT_HEADER, "inferenceComponentName", 63, r"[a-zA-Z0-9]([\-a-zA-Z0-9]*[a-zA-Z0-9])?"),
    Member(SESSION_HEADER, "sessionId", 256, NAME),
    Member("x-amzn-sagemaker-prefix-aware-id", "prefixAwareId", 64, PRINTABLE, min_chars=1),
)


def check_endpoint_name(name: str) -> None:
    """Refuse what cannot be an endpoint's name.

    Raises:
        awserrors.Refused: ValidationError, naming the constraint.
    """
    _check("endpointName", name, ENDPOINT_NAME_CHARS, NAME, 0)


def container_headers(operation: Operation, headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return what the container gets of a request's headers; names in lower case.

    Raises:
        awserrors.Refused: ValidationError, naming the member and its constraint.
    """
    given = dict(headers)
    passed: dict[str, str] = {}
    for member in MEMBERS:
        sent_as = member.header if operation == WHOLE or member.stream == "same" else member.stream
        if sent_as is None or sent_as not in given:
            continue
        value = given[sent_as]
        new_session = member.header == SESSION_HEADER and operation == WHOLE and value == "NEW_SESSION"
        if not new_session:
            _check(member.name, value, member.max_chars, member.pattern, member.min_chars)
        passed[member.header] = value
    return passed


def caller_headers(
    operation: Operation, reply: Mapping[str, str], *, variant: str, request_id: str
) -> list[tuple[str, str]]:
    """Return the head of a successful answer, without what frames the body."""
    headers = [("x-amzn-RequestId", request_id), ("x-Amzn-Invoked-Production-Variant", variant)]
    attributes = reply.get("x-amzn-sagemaker-custom-attributes")
    if attributes is not None:
        headers.append(("X-Amzn-SageMaker-Custom-Attributes", attributes))
    content_type = reply.get("content-type")
    if operation == STREAM:
        if content_type is not None:
            headers.append(("X-Amzn-SageMaker-Content-Type", content_type))
        return [(name, _one_line(value)) for name, value in headers]
    if content_type is not None:
        headers.append(("Content-Type", content_type))
    # Containers announce a session under either name: LMI under the request's, others under the answer's.
    # https://github.com/deepjavalibrary/djl-serving/blob/master/serving/docs/stateful_sessions.md
    opened = reply.get("x-amzn-sagemaker-new-session-id") or reply.get(SESSION_HEADER)
    closed = reply.get("x-amzn-sagemaker-closed-session-id")
    if opened is not None:
        headers.append(("X-Amzn-SageMaker-New-Session-Id", opened))
    if closed is not None:
        headers.append(("X-Amzn-SageMaker-Closed-Session-Id", closed))
    return [(name, _one_line(value)) for name, value in headers]


def _check(name: str, value: str, max_chars: int, pattern: str, min_chars: int) -> None:
    if len(value) > max_chars:
        failed = f"Member must have length less than or equal to {max_chars}"
    elif len(value) < min_chars:
        failed = f"Member must have length greater than or equal to {min_chars}"
    elif (value or not min_chars) and not re.fullmatch(pattern, value):
        failed = f"Member must satisfy regular expression pattern: {pattern}"
    else:
        return
    raise awserrors.validation(
        f"1 validation error detected: Value '{value[:200]}' at '{name}' failed to satisfy constraint: {failed}"
    )


def _one_line(value: str) -> str:
    # A container's header may hold anything when the container is an object of a test.
    return re.sub(r"[\x00-\x08\x0a-\x1f\x7f]", "", value)
