"""The walk of one call through the local SageMaker Runtime.

    route → size → signature → faults → delay → name, headers, component → health → container → answer

Everything before the container's first byte can still be an HTTP error; after it a stream can only fail in-band.
https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_Operations_Amazon_SageMaker_Runtime.html
"""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from urllib.parse import unquote

from deploy.local import awserrors, cutting, eventstream, faultanswers, faults, members
from deploy.local.awserrors import Place, Refused
from deploy.local.calls import Call, CallLog
from deploy.local.container import Container, ContainerReply, ContainerRequest
from deploy.local.containerio import Health, close_body, container_gone, read_whole
from deploy.local.cutting import Cutter
from deploy.local.faultlist import FaultList, Plan
from deploy.local.httpreply import Reply, Request, Then
from deploy.local.members import STREAM, WHOLE, Operation
from deploy.local.sigv4 import SignedRequest, Verifier
from deploy.local.streaming import FrameWriter, StreamRelay, drip, wait_out

ROUTE = re.compile(r"/endpoints/([^/]+)/(invocations|invocations-response-stream)")
MAX_ERROR_BYTES = 64 * 1024
"""How much of a container's error is read; AWS passes on 2,048 characters."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint InService: the container behind it and what callers must name to reach it."""

    container: Container
    variant: str = "AllTraffic"
    components: Mapping[str, str | None] = field(default_factory=dict)
    """Inference component → identifier of the adapter it stands for, None for the base model itself.
    An endpoint that has any demands one from every caller."""
    container_name: str = "primary"
    """What error texts call the container."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Where SageMaker gives up."""

    invocation_timeout_s: float = 60.0
    """For a whole answer, and for the head of a streamed one."""
    stream_timeout_s: float = 480.0
    """For a streamed answer; both run from the moment the container is called."""
    max_body_bytes: int = 6 * 1024 * 1024
    max_reply_bytes: int = 64 * 1024 * 1024
    """Of a whole answer; a longer one could not be loaded."""
    ping_timeout_s: float = 2.0
    ping_interval_s: float = 5.0
    """How long a good ping is believed; a failed one is repeated at the next call."""
    idle_timeout_s: float = 60.0
    """A connection without a call for so long is closed."""


class Runtime:
    """The data plane: both operations, for a set of endpoints."""

    def __init__(
        self,
        endpoints: MutableMapping[str, Endpoint],
        verifier: Verifier,
        *,
        region: str,
        limits: Limits,
        cut: str,
        chunking: str,
    ) -> None:
        self.endpoints = endpoints
        self.verifier = verifier
        self.calls = CallLog()
        self.faults = FaultList()
        self._region, self._limits = region, limits
        self._cut, self._chunking = cutting.parse_cut(cut), chunking
        cutting.parse_chunking(chunking)
        self._health = Health(timeout_s=limits.ping_timeout_s, interval_s=limits.ping_interval_s)

    async def serve(self, request: Request, reply: Reply) -> None:
        """Answer one request of the data plane, and record it."""
        route = ROUTE.fullmatch(request.path)
        if route is None or request.method != "POST":
            send_error(reply, awserrors.unknown_operation(), request_id=str(uuid.uuid4()), headers=[])
            return
        operation: Operation = STREAM if route[2].endswith("stream") else WHOLE
        call = self.calls.begin(request, unquote(route[1]), operation)
        walk = _Walk(self, call, operation, request, reply)
        try:
            await walk.run()
        finally:
            if reply.client_left_at is not None:
                call.hung_up_ms = call.ms_since_start(reply.client_left_at)
            call.ended_ms = call.ms_since_start()
            self.calls.changed(call)


class _Walk:
    """One call. It is cancelled when its client leaves."""

    def __init__(self, runtime: Runtime, call: Call, operation: Operation, request: Request, reply: Reply) -> None:
        self._runtime, self._call, self._request, self._reply = runtime, call, request, reply
        self._operation: Operation = operation
        self._limits = runtime._limits
        self._plan = Plan()
        known = runtime.endpoints.get(call.endpoint)
        self._place = Place(runtime._region, call.endpoint, known.container_name if known else "primary")

    async def run(self) -> None:
        try:
            if self._request.oversized:
                self._send_too_large()
                return
            self._authenticate()
            self._plan = self._runtime.faults.take(self._call.endpoint, self._operation)
            self._call.faults = tuple(fault.kind for fault in self._plan.faults)
            await self._wait_before_answer()
            answer = self._plan.one("answer")
            if answer is not None:
                await self._send_fault(answer)
            else:
                await self._invoke()
        except Refused as refused:
            self._send_refused(refused)

    def _authenticate(self) -> None:
        request, call = self._request, self._call
        call.access_key_id = claimed_key_id(request.headers)
        key = self._runtime.verifier.verify(
            SignedRequest(request.method, request.target, request.headers, request.body)
        )
        call.verified = True
        if key.denied:
            raise awserrors.access_denied(self._place, key.id)

    async def _wait_before_answer(self) -> None:
        delay = self._plan.first(faults.Delay)
        if delay is not None:
            await wait_out(delay.s, self._plan)
        stale = self._plan.first(faults.CloseIdle)
        if stale is not None:
            on_next: Then = "reset on next" if stale.reset else "close on next"
            self._reply.then = "close" if stale.when == "at_once" else on_next

    # --- the container's answer ---

    async def _invoke(self) -> None:
        endpoint, headers = self._resolve()
        request = ContainerRequest(self._request.body, headers)
        container = faultanswers.container_for(self._plan.one("container"), endpoint.container)
        if container is endpoint.container and not await self._runtime._health.good(container):
            raise awserrors.model_not_ready() if self._operation == WHOLE else awserrors.service_unavailable()
        started = asyncio.get_running_loop().time()
        deadline = started + self._limits.invocation_timeout_s
        answer = await self._head(container, request, deadline)
        try:
            if not 200 <= answer.status < 300:
                body, whole = await self._read(answer, MAX_ERROR_BYTES, deadline)
                raise awserrors.model_error(self._place, answer.status, body, whole=whole)
            head = members.caller_headers(
                self._operation, answer.headers, variant=endpoint.variant, request_id=self._call.request_id
            )
            if self._operation == WHOLE:
                await self._send_whole(answer, head, deadline)
            else:
                await self._send_stream(answer, head, started + self._limits.stream_timeout_s)
        finally:
            await close_body(answer.body)

    def _resolve(self) -> tuple[Endpoint, dict[str, str]]:
        name = self._call.endpoint
        members.check_endpoint_name(name)
        headers = members.container_headers(self._operation, self._request.headers)
        endpoint = self._runtime.endpoints.get(name)
        if endpoint is None:
            raise awserrors.endpoint_not_found(name)
        variant = headers.get(members.VARIANT_HEADER, endpoint.variant)
        if variant != endpoint.variant:
            raise awserrors.variant_not_found(name, variant)
        component = headers.get(members.COMPONENT_HEADER)
        if endpoint.components and component is None:
            raise awserrors.component_required()
        if component is not None:
            if not endpoint.components:
                raise awserrors.component_not_allowed()
            if component not in endpoint.components:
                raise awserrors.component_not_found(component)
            adapter = endpoint.components[component]
            if adapter is not None:
                headers[members.ADAPTER_HEADER] = adapter
        return endpoint, headers

    async def _head(self, container: Container, request: ContainerRequest, deadline: float) -> ContainerReply:
        clock = asyncio.timeout_at(deadline)
        try:
            async with clock:
                return await container.invoke(request)
        except Exception as error:
            if clock.expired():
                raise awserrors.model_timeout(self._place) from None
            self._runtime._health.doubt(container)
            raise awserrors.model_gone(self._place) from container_gone(error)

    async def _read(self, answer: ContainerReply, limit: int, deadline: float) -> tuple[bytes, bool]:
        try:
            return await read_whole(answer.body, limit, deadline)
        except TimeoutError:
            raise awserrors.model_timeout(self._place) from None

    async def _send_whole(self, answer: ContainerReply, head: list[tuple[str, str]], deadline: float) -> None:
        body, whole = await self._read(answer, self._limits.max_reply_bytes, deadline)
        if not whole:
            raise awserrors.model_error(self._place, 0, b"", whole=False)
        head = faultanswers.with_head_faults(self._plan, head)
        reply, broken = self._reply, self._plan.one("body")
        self._call.status = 200
        if isinstance(broken, faults.Breaking):
            reply.start(200, head, length=len(body), body=body[: broken.after_bytes])
            await reply.hang_up(reset=isinstance(broken, faults.Reset))
            return
        slow = self._plan.first(faults.Drip)
        if slow is None:
            reply.send(200, head, body)
            return
        reply.start(200, head, length=len(body))
        await drip(reply, body, slow)
        reply.end()

    async def _send_stream(self, answer: ContainerReply, head: list[tuple[str, str]], deadline: float) -> None:
        head = faultanswers.with_head_faults(self._plan, [("Content-Type", eventstream.CONTENT_TYPE), *head])
        self._call.status = 200
        self._reply.start(200, head, length=None)
        chunking = self._plan.first(faults.Chunking)
        mode = self._runtime._chunking if chunking is None else chunking.mode
        out = FrameWriter(self._reply, self._call, self._runtime.calls, mode, self._plan.first(faults.Drip))
        relay = StreamRelay(self._reply, out, self._call, self._plan, container_name=self._place.container)
        await relay.relay(answer.body, self._cutter(), deadline)

    def _cutter(self) -> Cutter:
        cut = self._plan.first(faults.Cut)
        make: Callable[[], Cutter] = self._runtime._cut if cut is None else cutting.parse_cut(cut.mode)
        return make()

    # --- answers of SageMaker's own ---

    async def _send_fault(self, fault: faults.Fault) -> None:
        refused = faultanswers.refusal(fault, self._place, self._call.access_key_id or "")
        if refused is not None:
            raise refused
        self._call.status = await faultanswers.send(
            fault, self._reply, self._plan, operation=self._operation, request_id=self._call.request_id
        )

    def _send_too_large(self) -> None:
        # A plain text, not JSON: https://github.com/aws/sagemaker-python-sdk/issues/171
        self._call.status = 413
        text = f"HTTP content length exceeded {self._limits.max_body_bytes} bytes."
        headers = [("x-amzn-RequestId", self._call.request_id), ("Content-Type", "text/plain")]
        self._reply.send(413, headers, text.encode())

    def _send_refused(self, refused: Refused) -> None:
        self._call.status, self._call.error = refused.status, refused.code
        headers = faultanswers.with_head_faults(self._plan, [])
        send_error(self._reply, refused, request_id=self._call.request_id, headers=headers)


def claimed_key_id(headers: tuple[tuple[str, str], ...]) -> str | None:
    """Return the access key id in an Authorization header, believed or not."""
    found = re.search(r"Credential=([^/,\s]{1,128})/", dict(headers).get("authorization", ""))
    return found[1] if found else None


def send_error(reply: Reply, refused: Refused, *, request_id: str, headers: list[tuple[str, str]]) -> None:
    """Answer with an AWS error."""
    own = [
        ("x-amzn-RequestId", request_id),
        ("x-amzn-ErrorType", refused.code),
        ("Content-Type", "application/json"),
    ]
    given = {name.lower() for name, _ in headers}
    own = [(name, value) for name, value in own if name.lower() not in given]
    reply.send(refused.status, own + headers, refused.body)
