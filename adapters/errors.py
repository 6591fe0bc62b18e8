"""What an adapter can say went wrong, and whose fault it was.

    AdapterError
    ├── UnsupportedParameter   the caller asked for what this container cannot do
    └── MalformedReply         the container's bytes are not what its dialect promises

A container's own error reply is a value, not an exception: `ContainerFault`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class AdapterError(Exception):
    """Base of everything the adapters raise."""


class UnsupportedParameter(AdapterError):
    """The container cannot honour `param`; the caller can mend it."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class MalformedReply(AdapterError):
    """The container's reply breaks its dialect: not JSON, too large, or cut short."""


class FaultKind(StrEnum):
    """Why a container refused or failed, independent of how its dialect words it."""

    INVALID_REQUEST = "invalid_request"
    """A field of the request is wrong; the message says which."""
    CONTEXT_LENGTH = "context_length"
    """Prompt and requested tokens do not fit the model's window."""
    UNSUPPORTED = "unsupported"
    """The container is not set up for what the request asks of it; `param` names the field."""
    REJECTED = "rejected"
    """Refused because of the request, but the container lost the reason."""
    MISCONFIGURED = "misconfigured"
    """The configuration does not match the container: unknown served model or adapter, model not loaded."""
    OVERLOADED = "overloaded"
    """The container has no room now; the same call may succeed later."""
    UNAVAILABLE = "unavailable"
    """The container is up, but its engine or worker is down or restarting."""
    FAILED = "failed"
    """The container failed while working on the request."""


@dataclass(frozen=True, slots=True)
class ContainerFault:
    """A container's error reply, or an error record inside its stream."""

    kind: FaultKind
    message: str
    """The container's own words, unwrapped; for the caller where the kind blames the request. They may quote it."""
    param: str | None = None
