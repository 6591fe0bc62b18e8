"""The gateway as it is served, in front of a local SageMaker, both on the test's own loop."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx
import pytest
import uvicorn
from litestar import Litestar

from deploy.local import DEMO_KEY, LocalSageMaker
from deploy.local.engine import build as engine
from gateway import app as composition
from gateway.auth.keys import digest
from gateway.config.load import parse
from gateway.http.protocol import GatewayProtocol
from gateway.sagemaker.credentials import Answer, CredentialStore, Question
from gateway.sagemaker.sigv4 import Credentials

KEY = "sk-lmi-" + "k" * 43
MODELS = {"lmi": ("lmi", "27", "lmi27"), "vllm": ("vllm", "0.27", "vllm")}
"""Public name, which is the endpoint's, too → container, version, and the local engine's dialect."""


@dataclass(frozen=True)
class Served:
    client: httpx.AsyncClient
    """Has the gateway's address and a key."""
    app: Litestar
    local: LocalSageMaker


class _Server(uvicorn.Server):
    started_event: asyncio.Event

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.started_event.set()


@asynccontextmanager
async def served(
    monkeypatch: pytest.MonkeyPatch,
    *,
    settings: str = "{}",
    keys: bool = True,
    key: Mapping[str, object] | None = None,
    model: Mapping[str, object] | None = None,
) -> AsyncIterator[Served]:
    """Serve the demo models with `settings`, a YAML flow mapping; without `keys` to everyone.

    `key` and `model` have more fields for the key and for each of the models.
    """

    async def credentials(question: Question) -> Answer:
        return [Credentials(DEMO_KEY.id, DEMO_KEY.secret) for _ in question]

    # In place of a process of its own for each test.
    monkeypatch.setattr(composition, "CredentialStore", partial(CredentialStore, ask=credentials))
    async with LocalSageMaker({name: engine(dialect) for name, (*_, dialect) in MODELS.items()}) as local:
        more = "".join(f"    {field}: {json.dumps(value)}\n" for field, value in (model or {}).items())
        text = f"settings: {settings}\nmodels:\n" + "".join(
            f"  - name: {name}\n{more}    deployments:\n      - {{endpoint: {name}, region: {local.region},"
            f" container: {container}, version: {version}, endpoint_url: {local.url}}}\n"
            for name, (container, version, _) in MODELS.items()
        )
        if keys:
            text += f"keys: [{json.dumps({'id': 'test', 'digest': digest(KEY), 'models': ['*'], **(key or {})})}]\n"
        app = composition.build(parse(text.encode(), "test.yaml", {}))
        listener = socket.create_server(("127.0.0.1", 0))
        options: dict[str, Any] = {"loop": "asyncio", "ws": "none", "log_config": None, "access_log": False}
        server = _Server(uvicorn.Config(app, http=GatewayProtocol, lifespan="on", **options))
        server.started_event = asyncio.Event()
        serving = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            async with asyncio.timeout(10):
                await server.started_event.wait()
            headers = {"authorization": f"Bearer {KEY}"} if keys else {}
            url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            async with httpx.AsyncClient(base_url=url, headers=headers, timeout=20, trust_env=False) as client:
                yield Served(client, app, local)
        finally:
            server.should_exit = True
            await serving


async def read_events(response: httpx.Response) -> list[str]:
    """Return the data of a stream's events."""
    return [line.removeprefix("data: ") async for line in response.aiter_lines() if line.startswith("data: ")]
