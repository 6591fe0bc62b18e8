"""Answers that are faults themselves, and the two ends at which faults touch good ones: the container and the head."""

from __future__ import annotations

from collections.abc import AsyncIterator

from deploy.local import awserrors, eventstream, faults, presets
from deploy.local.awserrors import Place, Refused
from deploy.local.container import Container, ContainerReply, ContainerRequest
from deploy.local.containerio import ContainerGone, close_body
from deploy.local.faultlist import Plan
from deploy.local.httpreply import Reply
from deploy.local.members import STREAM, Operation

PIECE_BYTES = 64 * 1024


def refusal(fault: faults.Fault, place: Place, access_key_id: str) -> Refused | None:
    """Return the AWS error a fault stands for, or None if it is answered in another way."""
    match fault:
        case faults.Throttle():
            return awserrors.throttling()
        case faults.ServiceUnavailable():
            return awserrors.service_unavailable()
        case faults.InternalFailure():
            return awserrors.internal_failure()
        case faults.InternalDependency():
            return awserrors.internal_dependency()
        case faults.ModelNotReady():
            return awserrors.model_not_ready()
        case faults.AccessDenied():
            return awserrors.access_denied(place, access_key_id)
        case faults.ExpiredToken():
            return awserrors.expired_token()
        case faults.Validation(message=message):
            return awserrors.validation(message) if message else awserrors.endpoint_not_found(place.endpoint)
        case faults.AwsError(status=status, code=code, message=message):
            return Refused(status, code, {"message": message})
        case faults.ModelTimeout():
            return awserrors.model_timeout(place)
        case faults.ModelError(preset=str(preset)):
            answer = presets.find(preset)
            return awserrors.model_error(place, answer.status, answer.body)
        case faults.ModelError(status=int(status), body=body):
            return awserrors.model_error(place, status, body.encode())
        case _:
            return None


async def send(fault: faults.Fault, reply: Reply, plan: Plan, *, operation: Operation, request_id: str) -> int | None:
    """Answer with what is no AWS error; return the status sent, None if nothing was."""
    match fault:
        case faults.Html(status=status, body=body):
            headers = with_head_faults(plan, [("Content-Type", "text/html")])
            reply.send(status, headers, body.encode())
            return status
        case faults.Oversized():
            await _send_oversized(fault, reply, plan, operation=operation, request_id=request_id)
            return 200
        case faults.Reset() | faults.Close():
            await reply.hang_up(reset=isinstance(fault, faults.Reset))
            return None
        case _:
            raise TypeError(f"{fault.kind} is no answer")


async def _send_oversized(
    fault: faults.Oversized, reply: Reply, plan: Plan, *, operation: Operation, request_id: str
) -> None:
    head = [("x-amzn-RequestId", request_id), ("x-Amzn-Invoked-Production-Variant", "AllTraffic")]
    if operation == STREAM:
        head += [("Content-Type", eventstream.CONTENT_TYPE), ("X-Amzn-SageMaker-Content-Type", "application/json")]
    else:
        head += [("Content-Type", "application/json")]
    declared = fault.declared and operation != STREAM
    reply.start(200, with_head_faults(plan, head), length=fault.total_bytes if declared else None)
    for start in range(0, fault.total_bytes, PIECE_BYTES):
        piece = b" " * min(PIECE_BYTES, fault.total_bytes - start)
        await reply.write(eventstream.payload_part(piece) if operation == STREAM else piece)
    reply.end()


def with_head_faults(plan: Plan, headers: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the headers of an answer after all the plan's faults of the head."""
    for fault in plan.faults:
        match fault:
            case faults.ResponseHeader(name=name):
                headers = _with(headers, name, fault.text)
            case faults.RetryAfter(value=value):
                headers = _with(headers, "Retry-After", value)
            case faults.ContentType(outer=outer, container=container):
                if outer is not None:
                    headers = _with(headers, "Content-Type", outer)
                if container is not None:
                    headers = _with(headers, "X-Amzn-SageMaker-Content-Type", container)
    return headers


def _with(headers: list[tuple[str, str]], name: str, value: str) -> list[tuple[str, str]]:
    return [(known, old) for known, old in headers if known.lower() != name.lower()] + [(name, value)]


def container_for(fault: faults.Fault | None, real: Container) -> Container:
    """Return the container that answers a call: the endpoint's own, or one that does what a fault says."""
    match fault:
        case faults.Reply():
            return _Instead(fault)
        case faults.ReplyTail(after_chunks=count):
            return _Cut(real, count, fault.tail)
        case faults.ContainerGone(after_chunks=count):
            return _Cut(real, count, None)
        case _:
            return real


class _Instead:
    """Answers what a fault says, and never reaches the endpoint's container."""

    def __init__(self, fault: faults.Reply) -> None:
        self._fault = fault

    async def ping(self) -> int:
        return 200

    async def invoke(self, request: ContainerRequest) -> ContainerReply:
        return ContainerReply(self._fault.status, {"content-type": self._fault.content_type}, self._chunks())

    async def _chunks(self) -> AsyncIterator[bytes]:
        for piece in self._fault.pieces:
            yield piece

    async def aclose(self) -> None:
        """Nothing is open."""


class _Cut:
    """The endpoint's container, until `count` chunks of its reply are out; then a last text, or it is gone."""

    def __init__(self, real: Container, count: int | None, tail: bytes | None) -> None:
        self._real, self._count, self._tail = real, count, tail

    async def ping(self) -> int:
        return await self._real.ping()

    async def invoke(self, request: ContainerRequest) -> ContainerReply:
        if self._count is None:
            raise ContainerGone("by a fault")
        reply = await self._real.invoke(request)
        return ContainerReply(reply.status, reply.headers, self._chunks(reply.body, self._count))

    async def _chunks(self, body: bytes | AsyncIterator[bytes], count: int) -> AsyncIterator[bytes]:
        try:
            if count and isinstance(body, bytes):
                yield body
            elif count and not isinstance(body, bytes):
                sent = 0
                async for chunk in body:
                    yield chunk
                    sent += 1
                    if sent == count:
                        break
        finally:
            await close_body(body)
        if self._tail is None:
            raise ContainerGone("by a fault")
        yield self._tail

    async def aclose(self) -> None:
        """The endpoint closes its own container."""
