"""A deployment to call and a receiver that writes down its stream."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from deploy.local import DEMO_KEY, AccessKey, Container, Endpoint, LocalSageMaker
from deploy.local.eventstream import CONTENT_TYPE, payload_part
from deploy.local.scripted import ScriptedContainer
from gateway.config.models import Deployment, Timeouts
from gateway.errors import GatewayError
from gateway.sagemaker.credentials import CredentialSource
from gateway.sagemaker.errors import ContainerError
from gateway.sagemaker.http1 import Origin
from gateway.sagemaker.runtime import SageMakerTarget
from gateway.sagemaker.sigv4 import Credentials, Signer
from tests.sagemaker.peer import chunk, chunked, within

REGION = "us-east-1"
PATIENT: dict[str, float] = {"connect_s": 5, "first_byte_s": 10, "gap_s": 10, "total_s": 10}


class Listener:
    """A receiver that objects to anything after the end."""

    def __init__(self, then: Callable[[bytes], None] | None = None) -> None:
        self.payloads: list[bytes] = []
        self.ended = False
        self.error: GatewayError | ContainerError | None = None
        self.over = asyncio.Event()
        self.reading = asyncio.Event()
        self._then = then

    @property
    def received(self) -> bytes:
        return b"".join(self.payloads)

    def on_payload(self, data: bytes) -> None:
        assert data
        assert not self.over.is_set()
        self.payloads.append(data)
        self.reading.set()
        if self._then is not None:
            self._then(data)

    def on_end(self) -> None:
        assert not self.over.is_set()
        self.ended = True
        self.over.set()

    def on_failure(self, error: GatewayError | ContainerError) -> None:
        assert not self.over.is_set()
        self.error = error
        self.over.set()


class Called:
    """A target, with what its calls left behind."""

    def __init__(
        self,
        origin: Origin,
        *,
        key: AccessKey | None = DEMO_KEY,
        timeouts: dict[str, float] | None = None,
        max_reply_bytes: int = 2**20,
        **deployment: Any,
    ) -> None:
        self.resent: list[str] = []
        self.credentials = CredentialSource(None, None, REGION)
        if key is not None:
            self.credentials.accepted(Credentials(key.id, key.secret, key.session_token, key.expires_at))
        fields = {"endpoint": "chat", "region": REGION, "container": "lmi", "version": "15"} | deployment
        self.target = SageMakerTarget(
            Deployment(**fields),
            Timeouts(**(PATIENT | (timeouts or {}))),
            origin=origin,
            signer=Signer(REGION),
            credentials=self.credentials,
            max_reply_bytes=max_reply_bytes,
            resent=self.resent.append,
        )

    async def whole(self, body: bytes = b"{}") -> bytes:
        return await within(self.target.invoke(body, "req_1"))

    async def streamed(self, body: bytes = b"{}") -> Listener:
        """Return a stream once it is over, in whichever way."""
        listener = Listener()
        await within(self.target.stream(body, "req_1", listener))
        await within(listener.over.wait())
        return listener

    async def failure(self, operation: str) -> GatewayError | ContainerError | None:
        """Return how a call of either operation fails, None if it does not."""
        if operation == "stream":
            return (await self.streamed()).error
        try:
            await self.whole()
        except (GatewayError, ContainerError) as error:
            return error
        return None


def origin_of(url: str) -> Origin:
    host, _, port = url.removeprefix("http://").partition(":")
    return Origin("http", host, int(port), ssl_context=None, idle_s=60.0)


@asynccontextmanager
async def local(
    container: Container | Endpoint | bytes | list[bytes] = b"{}", **options: Any
) -> AsyncIterator[LocalSageMaker]:
    """Run a local SageMaker with one endpoint, `chat`; given bytes, its container answers with them."""
    if isinstance(container, bytes | list):
        container = ScriptedContainer(container)
    async with LocalSageMaker({"chat": container}, **options) as running:
        yield running


def event_stream(*payloads: bytes, end: bool = True) -> bytes:
    """Return a whole HTTP reply with each payload in a frame and an HTTP chunk of its own."""
    return chunked(*map(payload_part, payloads), headers=(f"Content-Type: {CONTENT_TYPE}",), end=end)


def part(payload: bytes) -> bytes:
    """Return one more chunk of such a reply."""
    return chunk(payload_part(payload))
