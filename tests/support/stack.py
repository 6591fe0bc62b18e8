"""The whole product on this machine: a local SageMaker in a thread of this process, and the gateway in its own process.

with running_local({"chat": build("lmi27")}) as local, running_gateway(config(local.url)) as gateway:
    OpenAI(base_url=gateway.base_url, api_key=KEY)
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

from deploy.local import DEMO_KEY, Call, Container, Endpoint, LocalSageMaker

T = TypeVar("T")

KEY = "sk-lmi-" + "k" * 43
"""Every model is open to this key."""
NARROW_KEY = "sk-lmi-" + "n" * 43
"""Only the model named first in the configuration is open to this one."""
WAIT_S = 20.0


class Local:
    """A local SageMaker that runs in a thread; what is asked of it is asked on its own loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, server: LocalSageMaker) -> None:
        self._loop = loop
        self.server = server
        self.url = server.url

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(WAIT_S)

    def add_fault(self, *arguments: Any, **options: Any) -> None:
        async def add() -> None:
            self.server.add_fault(*arguments, **options)

        self.run(add())

    def clear_faults(self) -> None:
        async def clear() -> None:
            self.server.clear_faults()

        self.run(clear())

    @property
    def calls(self) -> list[Call]:
        return self.server.calls

    def call_ended(self, n: int, *, timeout_s: float = 10.0) -> Call:
        return self.run(self.server.call_ended(n, timeout_s=timeout_s))

    def call_started(self, n: int, *, timeout_s: float = 10.0) -> Call:
        return self.run(self.server.call_started(n, timeout_s=timeout_s))

    def call_sent_frames(self, n: int, frames: int, *, timeout_s: float = 10.0) -> Call:
        return self.run(self.server.call_sent_frames(n, frames, timeout_s=timeout_s))

    def last_call(self) -> Call:
        """Return the newest call, ended."""
        return self.call_ended(len(self.calls))

    def last_body(self) -> Any:
        """Return what the newest call sent, decoded."""
        return json.loads(self.last_call().body)


@contextlib.contextmanager
def running_local(containers: Mapping[str, Container | Endpoint], **options: Any) -> Iterator[Local]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, name="local sagemaker", daemon=True)
    thread.start()

    async def start() -> LocalSageMaker:
        server = LocalSageMaker(containers, **options)
        await server.start()
        return server

    try:
        server = asyncio.run_coroutine_threadsafe(start(), loop).result(WAIT_S)
        try:
            yield Local(loop, server)
        finally:
            asyncio.run_coroutine_threadsafe(server.aclose(), loop).result(WAIT_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_S)
        loop.close()


class Gateway:
    """A gateway process."""

    def __init__(self, process: subprocess.Popen[str], url: str, lines: list[str], config_path: Path) -> None:
        self.process = process
        self.url = url
        self.base_url = f"{url}/v1"
        self.host, _, port = url.removeprefix("http://").partition(":")
        self.port = int(port)
        self.pid = process.pid
        self.log = lines
        """Everything written to standard error so far, line by line."""
        self.config_path = config_path

    def stop(self, sig: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(sig)
        return self.process.wait(WAIT_S)


@contextlib.contextmanager
def running_gateway(configuration: Mapping[str, Any], **environment: str) -> Iterator[Gateway]:
    """Start `lmi-gateway serve` on a free port and yield it once it listens."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "gateway.yaml")
        path.write_text(json.dumps(configuration))  # JSON is YAML
        process = subprocess.Popen(
            [sys.executable, "-m", "gateway", "serve", "--config", str(path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            env={
                **os.environ,
                "AWS_ACCESS_KEY_ID": DEMO_KEY.id,
                "AWS_SECRET_ACCESS_KEY": DEMO_KEY.secret,
                **environment,
            },
        )
        lines: list[str] = []
        urls: queue.Queue[str] = queue.Queue()
        reader = threading.Thread(target=_follow, args=(process, lines, urls), daemon=True)
        reader.start()
        try:
            url = urls.get(timeout=WAIT_S)
            if not url:
                raise RuntimeError("the gateway did not start:\n" + "".join(lines))
            yield Gateway(process, url, lines, path)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(WAIT_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(WAIT_S)
            reader.join(WAIT_S)
            if process.stderr is not None:
                process.stderr.close()


def _follow(process: subprocess.Popen[str], lines: list[str], urls: queue.Queue[str]) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        lines.append(line)
        if found := re.search(r'"url":"(http[^"]+)"', line):
            urls.put(found[1])
    urls.put("")


def digest(key: str) -> str:
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


def config(sagemaker_url: str, *models: Mapping[str, Any], **settings: Any) -> dict[str, Any]:
    """Return a configuration for `models`, each as in the models file; without any, for the endpoints `lmi` and `vllm`.

    Deployments need not name their region.
    """
    chosen = models or (
        model("lmi", "lmi", "27", context_length=8192, modalities=["text", "image"]),
        model("vllm", "vllm", "0.33", context_length=8192, modalities=["text", "image"]),
    )
    return {
        "settings": {"port": 0, "sagemaker_endpoint_url": sagemaker_url, **settings},
        "keys": [
            {"id": "all", "digest": digest(KEY), "models": ["*"]},
            {"id": "narrow", "digest": digest(NARROW_KEY), "models": [chosen[0]["name"]]},
        ],
        "models": list(chosen),
    }


def model(name: str, container: str, version: str, **options: Any) -> dict[str, Any]:
    """Return a models-file entry for an endpoint called like the model; deployment fields go in `deployment`."""
    deployment = {
        "endpoint": re.sub(r"[^A-Za-z0-9]+", "-", name),
        "region": "us-east-1",
        "container": container,
        "version": version,
        **options.pop("deployment", {}),
    }
    return {"name": name, "deployments": [deployment], **options}
