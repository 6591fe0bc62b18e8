"""`lmi-gateway dev`: a SageMaker on this machine and the gateway in front of it, started and ended together.

Both are processes of their own. The local SageMaker is only a command line here: serving code imports nothing of it.
The standard input of each is a pipe that nobody writes to. The kernel closes the other end even if this process is
killed, so a child whose input ends knows that it is alone: on Linux and macOS, without code between fork and exec.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import runpy
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError

from gateway.auth.keys import digest, new_key
from gateway.config.containers import LMI_VERSIONS
from gateway.config.models import Deployment
from gateway.dev_words import instructions

REGION = "us-east-1"
CONTEXT_LENGTH = 8192
"""Of the built-in engine: tokens of prompt and answer together."""
NEWEST = {"lmi": str(LMI_VERSIONS[-1]), "vllm": "0.33", "tgi": "3.3"}
"""What the dialects `vllm` and `tgi` stand for."""
DIALECTS = f"lmi{LMI_VERSIONS[0]} to lmi{LMI_VERSIONS[-1]}, vllm, tgi, or a release such as vllm-0.11 or tgi-3.0"
READY_S = 30.0
"""Longest wait for each process to be ready."""
STOP_S = 10.0
"""Longest wait for each process to end by itself."""
PING_S = 5.0
"""Longest wait for a container's answer to GET /ping."""
POLL_S = 0.05

LOCAL = (sys.executable, "-m", "gateway.dev", "deploy.local")
GATEWAY = (sys.executable, "-m", "gateway.dev", "gateway", "serve")

T = TypeVar("T")
Command = Sequence[str]


class DemoFailed(Exception):
    """The demo could not start, or one of its processes ended; the message says which and how."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A model of the demo, and the endpoint behind it."""

    name: str
    """The public name."""
    endpoint: str
    dialect: str
    """What the container is, as `container_of` reads it."""
    url: str | None = None
    """Where a real container listens, without a slash at the end; None for the built-in engine."""

    @property
    def entry(self) -> dict[str, Any]:
        """The model's entry in the configuration file."""
        container, version = container_of(self.dialect)
        deployment = {"endpoint": self.endpoint, "region": REGION, "container": container, "version": version}
        facts: dict[str, Any] = {"modalities": ["text", "image"], "context_length": CONTEXT_LENGTH}
        if self.url is not None:
            # What a real model sees and how much it can hold is for its container to say.
            facts = {"modalities": ["text", "image", "audio", "video"]}
        return {"name": self.name, **facts, "deployments": [deployment]}

    @property
    def arguments(self) -> tuple[str, str]:
        """The model's endpoint on the command line of the local SageMaker."""
        if self.url is not None:
            return "--container", f"{self.endpoint}={self.url}"
        return "--endpoint", f"{self.endpoint}={self.dialect},context_length={CONTEXT_LENGTH}"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is shown, and the pace of the built-in engine in seconds."""

    models: tuple[Shown, ...] = (Shown("demo-lmi", "demo-lmi", "lmi27"), Shown("demo-vllm", "demo-vllm", "vllm"))
    first_token_delay_s: float = 0.0
    token_delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Secrets:
    """What one run of the demo makes up: nothing of it is of use anywhere else."""

    key: str = field(default_factory=new_key, repr=False)
    console_key: str = field(default_factory=new_key, repr=False)
    access_key_id: str = field(default_factory=lambda: f"LOCAL{secrets.token_hex(8).upper()}", repr=False)
    secret_access_key: str = field(default_factory=lambda: secrets.token_hex(20), repr=False)


def main(host: str, port: int, out: IO[str], plan: Plan, *, local: Command = LOCAL, gateway: Command = GATEWAY) -> None:
    """Run the demo until SIGINT, SIGTERM or SIGHUP; `out` gets the key and what to paste.

    Raises:
        DemoFailed: see its message.
    """
    asyncio.run(_run(host, port, out, plan, local, gateway))


async def _run(host: str, port: int, out: IO[str], plan: Plan, local: Command, gateway: Command) -> None:
    made = Secrets()
    async with AsyncExitStack() as stack:
        reserved = stack.enter_context(_reserved(host, port))
        port = reserved.getsockname()[1]
        beside = stack.enter_context(_console(host, port))
        console_port = beside.getsockname()[1]
        processes = stack.enter_context(_Processes())
        for container in filter(None, (model.url for model in plan.models)):
            if await processes.unless_over(_check_container(container)) is None:
                return
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="lmi-gateway-dev-")))
        process = await stack.enter_async_context(
            processes.run("local SageMaker", local_command(local, made, plan), stdout=PIPE)
        )
        url = await processes.unless_over(_ready_url(process))
        if url is None:
            return
        config = folder / "gateway.yaml"
        config.write_text(demo_config(host, port, console_port, url, made, plan.models), encoding="utf-8")
        environ = gateway_environment(os.environ, made)
        reserved.close()
        beside.close()
        await stack.enter_async_context(processes.run("gateway", (*gateway, "--config", str(config)), environ=environ))
        if await processes.unless_over(_ready(_base_url(host, port))) is None:
            return
        told = (_base_url(host, port), made.key, _base_url(host, console_port), made.console_key, plan.models)
        print(instructions(*told), file=out, flush=True)
        await processes.unless_over(asyncio.Event().wait(), within_s=None)


class _Processes:
    """The processes of one run, and the signals that end it. The first signal stops them; another kills them."""

    _SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self._stop = asyncio.Event()
        self._kill = asyncio.Event()
        self._ended: dict[str, asyncio.Task[int]] = {}

    def __enter__(self) -> _Processes:
        for number in self._SIGNALS:
            asyncio.get_running_loop().add_signal_handler(number, self._signalled)
        return self

    def __exit__(self, *_: object) -> None:
        for number in self._SIGNALS:
            asyncio.get_running_loop().remove_signal_handler(number)

    def _signalled(self) -> None:
        (self._kill if self._stop.is_set() else self._stop).set()

    @asynccontextmanager
    async def run(
        self, name: str, command: Command, *, environ: Mapping[str, str] | None = None, stdout: int | None = None
    ) -> AsyncIterator[Process]:
        """Run `command` for as long as the context is open."""
        # A session of its own: Ctrl-C in the terminal then reaches only this process, which ends the others in order.
        process = await asyncio.create_subprocess_exec(
            *command, env=environ, stdin=PIPE, stdout=stdout, start_new_session=True
        )
        ended = self._ended[name] = asyncio.create_task(process.wait())
        try:
            yield process
        finally:
            await self._end(process, ended)

    async def _end(self, process: Process, ended: asyncio.Task[int]) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            if ended.done():
                return
            if number == signal.SIGTERM and self._kill.is_set():
                continue
            with suppress(ProcessLookupError):
                # Not Process.terminate(): it may collect the exit code that asyncio is waiting for.
                os.kill(process.pid, number)
            kill = asyncio.create_task(self._kill.wait())
            await asyncio.wait((ended, kill), timeout=STOP_S, return_when=asyncio.FIRST_COMPLETED)
            kill.cancel()
        await ended

    async def unless_over(self, work: Coroutine[Any, Any, T], within_s: float | None = READY_S) -> T | None:
        """Return the result of `work`, or None once a signal has ended the demo.

        Raises:
            DemoFailed: a process ended first, or `within_s` seconds passed.
        """
        working, stopping = asyncio.create_task(work), asyncio.create_task(self._stop.wait())
        try:
            waited_for = (working, stopping, *self._ended.values())
            await asyncio.wait(waited_for, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if self._stop.is_set():
                return None
            for name, ended in self._ended.items():
                if ended.done():
                    raise DemoFailed(f"the {name} ended by itself, with exit code {ended.result()}")
            if not working.done():
                raise DemoFailed(f"the {[*self._ended][-1]} was not ready within {within_s:g} s")
            return working.result()
        finally:
            working.cancel()
            stopping.cancel()


def container_of(dialect: str) -> tuple[str, str]:
    """Return the configuration's words for a dialect: its container and that one's version.

    Raises:
        ValueError: it is none of DIALECTS.
    """
    found = re.fullmatch(r"(lmi)([0-9]+)|(vllm|tgi)(?:-([0-9.]+))?", dialect)
    container = (found[1] or found[3]) if found else ""
    version = (found[2] or found[4] or NEWEST[container]) if found else ""
    try:
        Deployment.model_validate({"endpoint": "e", "region": REGION, "container": container, "version": version})
    except ValidationError:
        raise ValueError(f"expected {DIALECTS}") from None
    return container, version


def local_command(local: Command, made: Secrets, plan: Plan) -> tuple[str, ...]:
    """Return the command line of the local SageMaker, which prints one line of JSON when it is ready."""
    pair = f"{made.access_key_id}:{made.secret_access_key}"
    delays = ("--first-token-delay", f"{plan.first_token_delay_s:g}", "--token-delay", f"{plan.token_delay_s:g}")
    endpoints = [word for model in plan.models for word in model.arguments]
    return (*local, "--port", "0", "--region", REGION, "--access-key", pair, *delays, *endpoints)


def gateway_environment(environ: Mapping[str, str], made: Secrets) -> dict[str, str]:
    """Return `environ` with the demo's key pair in place of every setting of the user's own AWS and gateway."""
    kept = {name: value for name, value in environ.items() if not name.startswith(("AWS_", "LMI_GATEWAY_"))}
    return kept | {
        "AWS_ACCESS_KEY_ID": made.access_key_id,
        "AWS_SECRET_ACCESS_KEY": made.secret_access_key,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def demo_config(host: str, port: int, console_port: int, url: str, made: Secrets, models: Sequence[Shown]) -> str:
    """Return the gateway's configuration file; JSON is YAML, too."""
    settings = {"host": host, "port": port, "drain_timeout_s": 3, "sagemaker_endpoint_url": url}
    settings |= {"admin_host": host, "admin_port": console_port, "admin_key_digest": digest(made.console_key)}
    key = {"id": "demo", "digest": digest(made.key), "models": ["*"]}
    entries = [model.entry for model in models]
    # A client of TGI's names no model: in the demo it gets the first.
    tgi = {"default_model": models[0].name}
    return json.dumps({"settings": settings, "keys": [key], "tgi": tgi, "models": entries}, indent=2)


async def _ready_url(process: Process) -> str:
    assert process.stdout is not None  # noqa: S101  # it is a pipe: `stdout=PIPE`
    line = await process.stdout.readline()
    try:
        url = json.loads(line)["url"]
        if urlsplit(url).port:
            return str(url)
    except (ValueError, KeyError, TypeError):
        pass
    if not line:
        await asyncio.Event().wait()  # it is ending, and its exit code says more
    raise DemoFailed("the local SageMaker did not say where it listens")


async def _ready(base_url: str) -> bool:
    """Return once the gateway says that it can serve."""
    while True:
        with suppress(OSError):
            if await _status(f"{base_url}/readyz") == 200:
                return True
        await asyncio.sleep(POLL_S)


async def _check_container(url: str) -> bool:
    """Return whether a container can serve, which is True.

    Raises:
        DemoFailed: it cannot, or there is none.
    """
    try:
        async with asyncio.timeout(PING_S):
            status = await _status(f"{url}/ping")
    except TimeoutError:
        raise DemoFailed(f"no container answers GET {url}/ping within {PING_S:g} s") from None
    except OSError as error:
        raise DemoFailed(f"no container answers GET {url}/ping: {error}") from None
    if status != 200:
        raise DemoFailed(f"GET {url}/ping is answered with {status}: a container that can serve answers 200")
    return True


async def _status(url: str) -> int:
    """Return the status of a GET.

    Raises:
        OSError: nobody is there, or it is no HTTP server.
    """
    parts = urlsplit(url)
    tls = parts.scheme == "https"
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port or (443 if tls else 80), ssl=tls or None)
    try:
        writer.write(f"GET {parts.path} HTTP/1.1\r\nhost: {parts.netloc}\r\nconnection: close\r\n\r\n".encode())
        found = re.match(rb"HTTP/1\.[01] ([0-9]{3})\b", await reader.read(64))
    finally:
        writer.close()
    if found is None:
        raise ConnectionError("what answers is no HTTP server")
    return int(found[1])


def _base_url(host: str, port: int) -> str:
    """Return where a server that listens on `host` is reached from here."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # compared, not bound
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _reserved(host: str, port: int) -> socket.socket:
    """Return a socket that keeps `port`, or a free one for 0, from everyone else until it is closed.

    Raises:
        DemoFailed: the port is in use, or this machine has no such address.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    reserved = socket.socket(family, socket.SOCK_STREAM)
    try:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        reserved.bind((host, port))
    except OSError as error:
        reserved.close()
        raise DemoFailed(f"cannot listen on {host}:{port}: {error.strerror}; --port chooses another") from None
    return reserved


def _console(host: str, port: int) -> socket.socket:
    """Return a socket that keeps a port for the console: the next one, to be found again, or else a free one."""
    with suppress(DemoFailed):
        return _reserved(host, port + 1 if port < 65_535 else 0)
    return _reserved(host, 0)


def run_child(module: str, arguments: Sequence[str]) -> None:
    """Run `python -m module` in this process, and end it when standard input does: with SIGTERM, then with SIGKILL."""
    threading.Thread(target=_end_with_stdin, daemon=True).start()
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


def _end_with_stdin() -> None:
    with suppress(OSError):
        while os.read(0, 1024):
            pass
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(STOP_S)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    run_child(sys.argv[1], sys.argv[2:])
