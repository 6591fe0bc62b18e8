"""What a container's fault means to the caller: one table from the adapters' kinds to the gateway's errors."""

from __future__ import annotations

from adapters.errors import ContainerFault, FaultKind
from gateway.errors import (
    ContextLengthExceeded,
    GatewayError,
    InvalidRequest,
    UnsupportedParameterError,
    UpstreamError,
    UpstreamMisconfigured,
    UpstreamRejected,
    UpstreamUnavailable,
)
from gateway.sagemaker.errors import fault as upstream_fault

MAX_MESSAGE_CHARS = 2048
"""SageMaker cuts a container's message here too."""

# Kinds that blame the request: the container's own words are what the caller needs to mend it.
BLAMES_REQUEST: dict[FaultKind, type[GatewayError]] = {
    FaultKind.INVALID_REQUEST: InvalidRequest,
    FaultKind.CONTEXT_LENGTH: ContextLengthExceeded,
    FaultKind.UNSUPPORTED: UnsupportedParameterError,
    FaultKind.REJECTED: UpstreamRejected,
}
# Kinds that blame the deployment: its words name paths and stacks, so callers get a stable text.
BLAMES_DEPLOYMENT = {
    FaultKind.MISCONFIGURED: UpstreamMisconfigured,
    FaultKind.OVERLOADED: UpstreamUnavailable,
    FaultKind.UNAVAILABLE: UpstreamUnavailable,
    FaultKind.FAILED: UpstreamError,
}

_DOWN = "The model's container is down or restarting. Please retry later."


def from_container(fault: ContainerFault) -> GatewayError:
    """Return the error a caller gets for `fault`."""
    blaming = BLAMES_REQUEST.get(fault.kind)
    if blaming is not None:
        return blaming(fault.message[:MAX_MESSAGE_CHARS], param=fault.param)
    return upstream_fault(
        BLAMES_DEPLOYMENT[fault.kind],
        f"container: {fault.kind}",  # its words may quote the request, and are in its own log
        message=_DOWN if fault.kind is FaultKind.UNAVAILABLE else None,
        # Refused for want of room or of a worker: no generation has begun that a second try could double.
        retryable=fault.kind in (FaultKind.OVERLOADED, FaultKind.UNAVAILABLE),
    )
