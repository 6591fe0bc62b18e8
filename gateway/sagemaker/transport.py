"""The seam between the walk of a call and the way to a container.

The walk knows only this; `runtime.py` speaks to SageMaker's runtime API.
"""

from __future__ import annotations

from typing import Protocol

from gateway.errors import GatewayError
from gateway.sagemaker.errors import ContainerError


class Head:
    """When the head of a reply came, and what it said; of a request that was sent again, the last reply's."""

    __slots__ = ("at", "status")

    def __init__(self) -> None:
        self.at: float | None = None
        """On the monotonic clock."""
        self.status = 0


class Receiver(Protocol):
    """Receives one stream. After `on_end` or `on_failure` nothing more is called."""

    def on_payload(self, data: bytes) -> None:
        """Bytes of the container's stream, cut anywhere, never empty."""

    def on_end(self) -> None:
        """The upstream says the stream is over. Whether the answer is complete, the dialect must tell."""

    def on_failure(self, error: GatewayError | ContainerError) -> None:
        """The stream failed, before its first byte or after."""


class Stream(Protocol):
    """One running upstream stream."""

    def pause(self) -> None:
        """Read no more from the upstream until `resume`."""

    def resume(self) -> None: ...

    def abort(self) -> None:
        """Close the upstream connection at once; the receiver hears nothing more."""


class Target(Protocol):
    """One deployment, prepared for calling."""

    @property
    def name(self) -> str:
        """A label for logs and metrics, from the configuration."""
        ...

    @property
    def streams(self) -> bool:
        """The deployment can answer in a stream at all."""
        ...

    async def invoke(
        self, body: bytes, inference_id: str, head: Head | None = None, traceparent: str | None = None
    ) -> bytes:
        """Return the container's whole reply; `head` takes note of when it began.

        `traceparent` goes along where the deployment is told of traces.

        Raises:
            ContainerError: the container answered an error.
            GatewayError: anything else went wrong.
        """
        ...

    async def stream(
        self,
        body: bytes,
        inference_id: str,
        receiver: Receiver,
        head: Head | None = None,
        traceparent: str | None = None,
    ) -> Stream:
        """Send the request, with what `invoke` sends; the reply goes to `receiver`, `head` notes when it began.

        Raises:
            GatewayError: the request could not be sent.
        """
        ...
