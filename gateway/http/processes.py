"""uvicorn's server and its supervisor of workers, as a service manager wants them.

They say when they can serve and when they stop, end with a status rather than by a signal, end streams that have to be
cut with an error event, and tell about workers that die.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from time import monotonic
from types import FrameType

import uvicorn
from uvicorn.supervisors import multiprocess
from uvicorn.supervisors.multiprocess import Multiprocess, Process

from gateway.http.protocol import GatewayProtocol
from gateway.telemetry.departed import Departed

log = logging.getLogger("gateway")


class GatewayServer(uvicorn.Server):
    """One serving process."""

    _loop: asyncio.AbstractEventLoop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop = asyncio.get_running_loop()
        await super().startup(sockets)
        if not self.should_exit:
            self.announce()

    def announce(self) -> None:
        """Say that this process can serve."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("gateway stopping", extra={"pid": os.getpid()})
        began = monotonic()
        await super().shutdown(sockets)
        # What still runs although it was told to stop is cut off now.
        cut = GatewayProtocol.frontend.cut_calls() + sum(not task.done() for task in self.server_state.tasks)
        log.info("gateway drained", extra={"pid": os.getpid(), "seconds": round(monotonic() - began, 3), "cut": cut})
        if self.force_exit:
            await self.lifespan.shutdown()  # which uvicorn then leaves out, to be torn down with a traceback
        self._captured_signals.clear()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if self.should_exit:
            self.force_exit = True
            self._loop.call_soon_threadsafe(GatewayProtocol.frontend.on_force)
        super().handle_exit(sig, frame)


class OnlyServer(GatewayServer):
    """The serving process where there is one."""

    def __init__(self, config: uvicorn.Config, url: str) -> None:
        super().__init__(config)
        self._url = url

    def announce(self) -> None:
        log.info("gateway listening", extra={"url": self._url, "pid": os.getpid()})


class Worker(Process):
    """One of several serving processes."""

    @property
    def server(self) -> uvicorn.Server:
        if self._server is None:
            self._server = GatewayServer(self.config)
        return self._server


class Workers(Multiprocess):
    """Starts the workers, and replaces those that die."""

    def __init__(self, config: uvicorn.Config, sockets: list[socket.socket], url: str, metrics: Path) -> None:
        """`metrics` is the folder of the workers' numbers."""
        super().__init__(config, sockets)
        self._url = url
        self._departed = Departed(metrics)
        self._announced = False

    def init_processes(self) -> None:
        # The supervisor makes its processes from this name, in several places.
        multiprocess.Process = Worker  # type: ignore[misc]  # a name, to mypy a type
        with _interrupts_ignored():
            super().init_processes()

    def keep_subprocess_alive(self) -> None:
        dead = [process for process in self.processes if not process.process.is_alive()]
        for process in dead:
            log.error("worker died", extra={"pid": process.pid, "exit_status": process.exitcode})
        before = list(self.processes)
        with _interrupts_ignored() if dead else nullcontext():
            super().keep_subprocess_alive()
        replaced = [process for process in before if process not in self.processes]
        for process in self.processes:
            if process not in before:
                log.info("worker started", extra={"pid": process.pid})
        if replaced:  # the dead, and any that had to be killed because it no longer answered
            try:
                self._departed.take(*(process.pid for process in replaced if process.pid is not None))
            except OSError as error:  # a full disk is no reason to leave the workers alone
                log.error("metrics of dead workers could not be kept", extra={"error": type(error).__name__})
        if not self._announced and any(process.is_ready() for process in self.processes):
            self._announced = True
            log.info("gateway listening", extra={"url": self._url, "workers": len(self.processes)})

    def terminate_all(self) -> None:
        log.info("gateway stopping", extra={"pid": os.getpid()})
        for listener in self.sockets:  # else callers would still be let in, and wait for nobody
            listener.close()
        super().terminate_all()


@contextmanager
def _interrupts_ignored() -> Iterator[None]:
    """Keep Ctrl-C from processes that are only starting: they inherit what is ignored, and then decide themselves."""
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
