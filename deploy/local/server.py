"""The local SageMaker: a server of its own, built from endpoints, access keys and limits."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Self

from deploy.local.calls import Call
from deploy.local.container import Container
from deploy.local.control import PREFIX, Control
from deploy.local.faults import Fault
from deploy.local.http1 import HttpServer
from deploy.local.httpreply import Reply, Request
from deploy.local.runtime import Endpoint, Limits, Runtime
from deploy.local.sigv4 import AccessKey, Verifier

DEMO_KEY = AccessKey("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
"""The key pair of AWS' documentation: https://docs.aws.amazon.com/IAM/latest/UserGuide/id_credentials_access-keys.html"""
DEFAULT_REGION = "us-east-1"


class LocalSageMaker:
    """SageMaker Runtime on this machine, for boto3 and aioboto3 with `endpoint_url=local.url`.

        async with LocalSageMaker({"chat": container}) as local:
            local.add_fault(faults.Reset(after_frames=3))
            ...
            call = await local.call_ended(1)

    A container given without an Endpoint around it gets an ordinary one. Leaving closes the containers too.
    """

    def __init__(
        self,
        containers: Mapping[str, Container | Endpoint],
        *,
        access_keys: Iterable[AccessKey] = (DEMO_KEY,),
        region: str = DEFAULT_REGION,
        host: str = "127.0.0.1",
        port: int = 0,
        limits: Limits | None = None,
        cut: str = "as-written",
        chunking: str = "frame",
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Raise ValueError if `cut` or `chunking` is no mode of `deploy.local.cutting`; `clock` gives epoch seconds."""
        limits = limits or Limits()
        self.endpoints: dict[str, Endpoint] = {
            name: value if isinstance(value, Endpoint) else Endpoint(value) for name, value in containers.items()
        }
        """By name; endpoints may be added and removed while the server runs."""
        self._verifier = Verifier(access_keys, region=region, clock=clock)
        self._runtime = Runtime(
            self.endpoints, self._verifier, region=region, limits=limits, cut=cut, chunking=chunking
        )
        self._control = Control(self._runtime, lambda: {"open": self.open_connections, "accepted": self.accepted})
        self._http = HttpServer(self._serve, max_body_bytes=limits.max_body_bytes, idle_timeout_s=limits.idle_timeout_s)
        self._host = host
        self.port = port
        self.region = region

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: the address is taken or not of this machine.
        """
        self.port = await self._http.start(self._host, self.port)

    async def aclose(self) -> None:
        """Cut every connection, end every call, close the containers."""
        await self._http.aclose()
        for container in {id(endpoint.container): endpoint.container for endpoint in self.endpoints.values()}.values():
            await container.aclose()

    @property
    def url(self) -> str:
        """The `endpoint_url` for clients."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self.port}"

    def client_options(self, key: AccessKey | None = None) -> dict[str, str]:
        """Return the keyword arguments with which `boto3.client("sagemaker-runtime", …)` comes here.

        Without a key it is the first one accepted.
        """
        key = key or next(iter(self._verifier.keys.values()))
        options = {
            "endpoint_url": self.url,
            "region_name": self.region,
            "aws_access_key_id": key.id,
            "aws_secret_access_key": key.secret,
        }
        return options if key.session_token is None else options | {"aws_session_token": key.session_token}

    def set_access_keys(self, keys: Iterable[AccessKey]) -> None:
        """Accept these keys from now on, and no others."""
        self._verifier.keys = {key.id: key for key in keys}

    # --- faults ---

    def add_fault(
        self,
        fault: Fault | Mapping[str, object],
        *,
        endpoint: str | None = None,
        operation: str | None = None,
        times: int | None = 1,
        probability: float = 1.0,
        seed: int | None = None,
    ) -> int:
        """Let the next `times` fitting calls (None: every one) fail; return an id. See FaultList.add."""
        return self._runtime.faults.add(
            fault, endpoint=endpoint, operation=operation, times=times, probability=probability, seed=seed
        )

    def clear_faults(self) -> None:
        """Forget all faults; calls that one of them holds up go on."""
        self._runtime.faults.clear()

    # --- what callers did ---

    @property
    def calls(self) -> list[Call]:
        """The recorded calls, oldest first."""
        return self._runtime.calls.all()

    async def call_started(self, n: int, *, timeout_s: float = 10.0) -> Call:
        """Return call number `n` (from 1) once it is there, or raise TimeoutError."""
        return await self._runtime.calls.wait(n, lambda call: True, timeout_s)

    async def call_ended(self, n: int, *, timeout_s: float = 10.0) -> Call:
        """Return call number `n` once nothing runs for it any more, or raise TimeoutError."""
        return await self._runtime.calls.wait(n, lambda call: call.ended, timeout_s)

    async def call_sent_frames(self, n: int, frames: int, *, timeout_s: float = 10.0) -> Call:
        """Return call number `n` once so many frames are out, or raise TimeoutError."""
        return await self._runtime.calls.wait(n, lambda call: call.frames_sent >= frames, timeout_s)

    @property
    def open_connections(self) -> int:
        """Connections open now, without those of the control route."""
        return sum(not connection.is_control for connection in self._http.connections)

    @property
    def accepted(self) -> int:
        """Connections ever accepted, without those of the control route."""
        return self._http.accepted

    async def _serve(self, request: Request, reply: Reply) -> None:
        if request.path.startswith(PREFIX):
            await self._control.serve(request, reply)
        else:
            await self._runtime.serve(request, reply)
