"""InvokeEndpoint and InvokeEndpointWithResponseStream, one generation per attempt.

https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpoint.html
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_runtime_InvokeEndpointWithResponseStream.html

A request is repeated here in one case only: a kept-alive connection that the upstream had already closed when the
request went out, and on which not one byte came back. Every other failure is the walk's to judge.
"""

from __future__ import annotations

import asyncio
import logging
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from time import monotonic

from gateway.config.models import Deployment, Timeouts
from gateway.errors import GatewayError, UpstreamAuth, UpstreamError, UpstreamProtocol, UpstreamTimeout, UpstreamTls
from gateway.errors import UpstreamUnavailable as Unavailable
from gateway.sagemaker.credentials import CredentialSource
from gateway.sagemaker.errors import ContainerError, fault, map_error, map_failure
from gateway.sagemaker.eventstream import EventStreamDecoder, FramingError
from gateway.sagemaker.http1 import BadReply, ConnectFailed, Connection, ConnectionDropped, Origin, TlsFailed
from gateway.sagemaker.operation import INFERENCE_ID, Operation
from gateway.sagemaker.sigv4 import Signer
from gateway.sagemaker.transport import Head, Receiver
from gateway.sagemaker.watchdog import Watchdog

log = logging.getLogger(__name__)

EVENT_STREAM = b"application/vnd.amazon.eventstream"
MAX_ERROR_BYTES = 256 * 1024


class SageMakerTarget:
    """One deployment on SageMaker."""

    def __init__(
        self,
        deployment: Deployment,
        timeouts: Timeouts,
        *,
        origin: Origin,
        signer: Signer,
        credentials: CredentialSource,
        max_reply_bytes: int,
        resent: Callable[[str], None],
    ) -> None:
        parts = (deployment.endpoint, deployment.inference_component or deployment.target_variant)
        self.name = "/".join(part for part in parts if part)
        self.streams = deployment.target_model is None  # the streaming operation knows no TargetModel
        self.origin = origin
        self.credentials = credentials
        self.timeouts = timeouts
        self.max_reply_bytes = max_reply_bytes
        self._signer = signer
        self._whole = Operation(deployment, origin.authority, stream=False)
        self._stream = Operation(deployment, origin.authority, stream=True)
        self._resent = resent

    async def invoke(
        self, body: bytes, inference_id: str, head: Head | None = None, traceparent: str | None = None
    ) -> bytes:
        request = self._request(self._whole, body, inference_id, traceparent)
        for fresh in (False, True):
            exchange = _WholeExchange(self, await self._connection(fresh=fresh), head)
            exchange.send(request, body)
            try:
                return await exchange.reply
            except _Stale:
                self._resent(self.name)
            finally:
                exchange.release()
        raise fault(UpstreamError, "connection dropped", retryable=True)

    async def stream(
        self,
        body: bytes,
        inference_id: str,
        receiver: Receiver,
        head: Head | None = None,
        traceparent: str | None = None,
    ) -> StreamExchange:
        request = self._request(self._stream, body, inference_id, traceparent)
        exchange = StreamExchange(self, await self._connection(fresh=False), receiver, request, body, head)
        exchange.send()
        return exchange

    async def reconnect(self) -> Connection:
        """Return a connection that was never used before."""
        self._resent(self.name)
        return await self._connection(fresh=True)

    def _request(self, operation: Operation, body: bytes, inference_id: str, traceparent: str | None) -> bytes:
        credentials = self.credentials.current()
        if credentials is None:
            raise fault(UpstreamAuth, "no valid aws credentials")
        headers = list(operation.front)
        if credentials.token:
            headers.append(("x-amz-security-token", credentials.token))
        if traceparent is not None and operation.traced:
            headers += operation.before_id_with(traceparent)
        else:
            headers += operation.before_id
        headers.append((INFERENCE_ID, inference_id))
        headers += operation.after_id
        date, authorization = self._signer.sign(credentials, operation.path, headers, body, time.time())
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        return (
            f"POST {operation.path} HTTP/1.1\r\n{lines}x-amz-date: {date}\r\nauthorization: {authorization}\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        ).encode("latin-1")

    async def _connection(self, *, fresh: bool) -> Connection:
        connection = None if fresh else self.origin.take()
        if connection is not None:
            return connection
        try:
            return await self.origin.connect(self.timeouts.connect_s)
        except ConnectFailed as error:
            raise fault(Unavailable, f"connect: {error}", retryable=True) from error
        except TlsFailed as error:
            raise UpstreamTls(
                "The connection to the model's endpoint is not secure and was refused.", detail=str(error)
            ) from error


class _Stale(Exception):
    """The connection was closed before the request reached anyone."""


class _Exchange(ABC):
    """What whole and streamed exchanges share: the head, errors, and time."""

    __slots__ = ("_connection", "_errors", "_headers", "_noted", "_size", "_status", "_target", "_watchdog")

    def __init__(self, target: SageMakerTarget, connection: Connection, noted: Head | None) -> None:
        self._target = target
        self._noted = noted
        self._connection: Connection | None = connection
        self._status = 0
        self._size = 0
        self._errors: list[bytes] = []
        self._headers: list[tuple[bytes, bytes]] = []
        self._watchdog = Watchdog(target.timeouts, self._expired, connection.loop)

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        self._status, self._headers = status, headers
        noted = self._noted
        if noted is not None:
            noted.at, noted.status = monotonic(), status

    def release(self) -> None:
        """Let go of the connection; it is closed unless its reply was read to the end."""
        self._watchdog.stop()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.abort()

    def _expired(self, which: str) -> None:
        self.release()
        self._fail(UpstreamTimeout("The model's endpoint did not answer in time.", detail=f"timeout {which}"))

    def _error_body(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= MAX_ERROR_BYTES:
            self._errors.append(data)
            return
        self.release()
        self._fail(self._error())  # by its status and headers

    def _error(self) -> GatewayError | ContainerError:
        error = map_error(self._status, self._headers, b"".join(self._errors))
        if isinstance(error, UpstreamAuth):
            self._target.credentials.refused()
        return error

    def _dropped(self, error: Exception) -> GatewayError:
        if isinstance(error, ConnectionDropped):
            # Nothing was delivered, so the caller may be given another generation; a reply that began may not.
            return fault(UpstreamError, "connection dropped", retryable=not error.began)
        return fault(UpstreamProtocol, f"bad http: {error}" if isinstance(error, BadReply) else type(error).__name__)

    @abstractmethod
    def _fail(self, error: GatewayError | ContainerError) -> None:
        """Report the exchange's one failure."""


class _WholeExchange(_Exchange):
    __slots__ = ("_parts", "reply")

    def __init__(self, target: SageMakerTarget, connection: Connection, noted: Head | None) -> None:
        super().__init__(target, connection, noted)
        self.reply: asyncio.Future[bytes] = connection.loop.create_future()
        self._parts: list[bytes] = []

    def send(self, head: bytes, body: bytes) -> None:
        assert self._connection is not None  # noqa: S101 - held from the start
        self._connection.send(head, body, self)

    def on_body(self, data: bytes) -> None:
        self._watchdog.touch()
        if self._status != 200:
            self._error_body(data)
            return
        self._size += len(data)
        if self._size > self._target.max_reply_bytes:
            self.release()
            self._fail(fault(UpstreamProtocol, "reply over the size limit"))
            return
        self._parts.append(data)

    def on_end(self) -> None:
        self._connection = None
        self._watchdog.stop()
        if self._status != 200:
            self._fail(self._error())
        elif not self.reply.done():
            parts = self._parts
            self.reply.set_result(parts[0] if len(parts) == 1 else b"".join(parts))

    def on_error(self, error: Exception) -> None:
        self._connection = None
        self._watchdog.stop()
        stale = isinstance(error, ConnectionDropped) and error.stale
        if not self.reply.done():
            self.reply.set_exception(_Stale() if stale else self._dropped(error))

    def _fail(self, error: GatewayError | ContainerError) -> None:
        if not self.reply.done():
            self.reply.set_exception(error)


class StreamExchange(_Exchange):
    """One running InvokeEndpointWithResponseStream."""

    __slots__ = ("_body", "_decoder", "_head", "_over", "_paused", "_receiver", "_reconnecting")

    def __init__(
        self,
        target: SageMakerTarget,
        connection: Connection,
        receiver: Receiver,
        head: bytes,
        body: bytes,
        noted: Head | None,
    ) -> None:
        super().__init__(target, connection, noted)
        self._receiver = receiver
        self._decoder = EventStreamDecoder()
        self._head = head
        self._body = body
        self._over = False
        self._paused = False
        self._reconnecting: asyncio.Task[None] | None = None

    def send(self) -> None:
        assert self._connection is not None  # noqa: S101 - held from the start
        self._connection.send(self._head, self._body, self)

    def pause(self) -> None:
        if not self._paused:
            self._paused = True
            self._watchdog.pause()
            if self._connection is not None:
                self._connection.pause()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._watchdog.resume()
            if self._connection is not None:
                self._connection.resume()

    def abort(self) -> None:
        self._over = True
        self.release()

    def release(self) -> None:
        if self._reconnecting is not None:
            self._reconnecting.cancel()
        super().release()

    def on_head(self, status: int, headers: list[tuple[bytes, bytes]]) -> None:
        super().on_head(status, headers)
        self._head = self._body = b""  # nothing is sent again from here on
        if status == 200 and not any(
            name == b"content-type" and value.startswith(EVENT_STREAM) for name, value in headers
        ):
            self.release()
            self._fail(fault(UpstreamProtocol, "not an event stream"))
        elif status == 200:
            self._headers = []

    def on_body(self, data: bytes) -> None:
        self._watchdog.touch()
        if self._over:
            return
        if self._status != 200:
            self._error_body(data)
            return
        try:
            payloads = self._decoder.feed(data)
        except FramingError as error:
            before = b"".join(error.args[1])
            if before:
                self._receiver.on_payload(before)
            self.release()
            self._fail(fault(UpstreamProtocol, error.args[0]))
            return
        if payloads:
            self._receiver.on_payload(payloads[0] if len(payloads) == 1 else b"".join(payloads))
        if self._decoder.failure is not None and not self._over:
            self.release()
            self._fail(map_failure(self._decoder.failure))

    def on_end(self) -> None:
        self._connection = None
        self._watchdog.stop()
        if self._over:
            return
        if self._status != 200:
            self._fail(self._error())
        elif not self._decoder.between_messages:
            self._fail(fault(UpstreamProtocol, "stream cut inside a message"))
        else:
            self._over = True
            try:
                self._receiver.on_end()
            except Exception as error:
                # The connection has let go of this exchange: nobody else would tell the receiver.
                log.error("unexpected error", exc_info=error)
                self._receiver.on_failure(fault(UpstreamProtocol, "the end of the stream could not be read"))

    def on_error(self, error: Exception) -> None:
        self._connection = None
        if self._over:
            self._watchdog.stop()
        elif isinstance(error, ConnectionDropped) and error.stale and self._reconnecting is None:
            self._reconnecting = asyncio.get_running_loop().create_task(self._again())
        else:
            self._watchdog.stop()
            self._fail(self._dropped(error))

    async def _again(self) -> None:
        try:
            self._connection = await self._target.reconnect()
        except GatewayError as error:
            self._watchdog.stop()
            self._fail(error)
            return
        self.send()
        if self._paused:
            self._connection.pause()

    def _fail(self, error: GatewayError | ContainerError) -> None:
        if not self._over:
            self._over = True
            self._receiver.on_failure(error)
