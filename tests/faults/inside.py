"""The gateway on a thread of the test's own process, where what no caller can see is at hand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pytest
import uvicorn

from deploy.local import DEMO_KEY
from gateway import app as composition
from gateway.config.load import parse
from gateway.http.protocol import GatewayProtocol
from gateway.sagemaker.credentials import Answer, Ask, CredentialStore, Question
from gateway.sagemaker.sigv4 import Credentials

WAIT_S = 20.0


async def demo_credentials(question: Question) -> Answer:
    """Answer every question with the key the local SageMaker knows."""
    return [Credentials(DEMO_KEY.id, DEMO_KEY.secret) for _ in question]


class Inside:
    """A gateway in this process."""

    def __init__(self, port: int, loop: asyncio.AbstractEventLoop) -> None:
        self.port = port
        self._loop = loop

    def tasks(self) -> int:
        """Return how many tasks there are on the gateway's loop, but for the one that counts."""

        async def count() -> int:
            return len(asyncio.all_tasks()) - 1

        return asyncio.run_coroutine_threadsafe(count(), self._loop).result(WAIT_S)


class _Server(uvicorn.Server):
    def __init__(self, options: uvicorn.Config, ready: threading.Event) -> None:
        super().__init__(options)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:  # signals belong to the main thread
        yield


@contextlib.contextmanager
def running_inside(
    monkeypatch: pytest.MonkeyPatch, configuration: Mapping[str, Any], ask: Ask = demo_credentials
) -> Iterator[Inside]:
    """Serve `configuration`; `ask` is where its AWS credentials come from."""
    monkeypatch.setattr(composition, "CredentialStore", partial(CredentialStore, ask=ask))
    app = composition.build(parse(json.dumps(configuration).encode(), "test.yaml", {}))
    listener = socket.create_server(("127.0.0.1", 0))
    ready = threading.Event()
    options: dict[str, Any] = {"loop": "none", "ws": "none", "log_config": None, "access_log": False}
    server = _Server(uvicorn.Config(app, http=GatewayProtocol, lifespan="on", **options), ready)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_until_complete, args=(server.serve([listener]),), daemon=True)
    thread.start()
    try:
        assert ready.wait(WAIT_S)
        yield Inside(listener.getsockname()[1], loop)
    finally:
        server.should_exit = True
        thread.join(WAIT_S)
        listener.close()
        loop.close()
