"""The seam between the local SageMaker and the container behind an endpoint.

A container is anything that answers `GET /ping` and `POST /invocations`:
the built-in engine, a real server reached by URL, or a test's own object.
https://docs.aws.amazon.com/sagemaker/latest/dg/your-algorithms-inference-code.html
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class ContainerRequest:
    """What SageMaker hands to a container: body, content type and the X-Amzn-SageMaker-* headers."""

    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""


@dataclass(frozen=True, slots=True)
class ContainerReply:
    """A container's answer. A body that is an iterator arrives in chunks, as the container wrote them."""

    status: int
    headers: Mapping[str, str]
    """Names in lower case; holds at least content-type."""
    body: bytes | AsyncIterator[bytes]


class Container(Protocol):
    async def ping(self) -> int:
        """Return the status of `GET /ping`: 200 when the container can serve."""
        ...

    async def invoke(self, request: ContainerRequest) -> ContainerReply:
        """Answer `POST /invocations`.

        Cancelling the call, or closing the body's iterator, is the caller hanging up.
        """
        ...

    async def aclose(self) -> None:
        """Release what the container holds open."""
        ...
