"""A redis-server of a test's own: on a free port of this machine, with no data but its own, gone afterwards."""

from __future__ import annotations

import contextlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from typing import Any

import redis

WAIT_S = 10.0


class RedisServer:
    """A running redis-server."""

    def __init__(self, port: int, arguments: list[str]) -> None:
        self.port = port
        self._arguments = arguments
        self._folder = tempfile.TemporaryDirectory(prefix="redis-")
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        """Return an official client; close it."""
        return redis.Redis(host="127.0.0.1", port=self.port, **options)

    def start(self) -> None:
        """Start it, empty, and return when it answers."""
        binary = shutil.which("redis-server")
        assert binary, "redis-server is missing: scripts/system.sh installs it"
        self.process = subprocess.Popen(
            [
                binary,
                *("--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"),
                *("--dir", self._folder.name, "--daemonize", "no", "--loglevel", "warning"),
                *self._arguments,
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with self.client(socket_connect_timeout=1, socket_timeout=WAIT_S) as client:
            for _ in range(1000):
                try:
                    client.ping()
                except redis.exceptions.BusyLoadingError:
                    continue
                except redis.exceptions.ConnectionError:
                    assert self.process.poll() is None, "redis-server ended at once"
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        self.process.wait(0.01)
                    continue
                return
        raise AssertionError("redis-server does not answer")

    def kill(self) -> None:
        """Kill it as a crash would."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(WAIT_S)
            self.process = None

    def pause(self) -> None:
        """Stop it in its tracks: it takes connections, through the kernel, and says nothing."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        self.kill()
        self._folder.cleanup()


@contextlib.contextmanager
def running_cluster(nodes: int = 3) -> Iterator[list[RedisServer]]:
    """Run a Redis Cluster that shares out its slots evenly and has no replicas."""
    with contextlib.ExitStack() as opened:
        # The usual port between nodes, 10,000 above the other, may be none at all.
        between = [_free_port() for _ in range(nodes)]
        options = "--cluster-enabled yes --cluster-require-full-coverage no --cluster-node-timeout 1000 --cluster-port"
        servers = [opened.enter_context(running_redis(*options.split(), str(port))) for port in between]
        clients = [opened.enter_context(server.client()) for server in servers]
        for at, client in enumerate(clients):
            first, last = 16384 * at // nodes, 16384 * (at + 1) // nodes - 1
            client.execute_command("CLUSTER", "ADDSLOTSRANGE", first, last)
            client.execute_command("CLUSTER", "SET-CONFIG-EPOCH", at + 1)
            for other, port in zip(servers[:at], between[:at], strict=True):
                client.execute_command("CLUSTER", "MEET", "127.0.0.1", other.port, port)
        deadline = time.monotonic() + 3 * WAIT_S
        while not all(f"'cluster_known_nodes': '{nodes}'" in _info(client) for client in clients):
            assert time.monotonic() < deadline, "the nodes do not find one another"
            time.sleep(0.02)
        while not all("'cluster_state': 'ok'" in _info(client) for client in clients):
            assert time.monotonic() < deadline, "the nodes do not agree about their slots"
            time.sleep(0.02)
        yield servers


def _info(client: redis.Redis) -> str:
    return str(client.execute_command("CLUSTER INFO"))  # type: ignore[no-untyped-call]  # redis-py has no types here


@contextlib.contextmanager
def running_redis(*arguments: str) -> Iterator[RedisServer]:
    """Run a redis-server with further arguments of its own."""
    server = RedisServer(_free_port(), list(arguments))
    try:
        server.start()
        yield server
    finally:
        server.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
