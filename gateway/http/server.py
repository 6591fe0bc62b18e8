"""Serving: one process, or several workers under uvicorn's supervisor."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import math
import os
import shutil
import socket
import sys
import tempfile
from pathlib import Path

import uvicorn
from litestar import Litestar

from gateway.app import build, make_telemetry
from gateway.config.load import Config, load
from gateway.http.inside import Inside
from gateway.http.processes import OnlyServer, Workers
from gateway.http.protocol import GatewayProtocol
from gateway.limits.setup import make_store
from gateway.telemetry import log as logs
from gateway.telemetry.prometheus import PrometheusTelemetry
from gateway.telemetry.recent import RecentCalls, ring_path
from gateway.telemetry.shared import MULTIPROCESS_VARIABLE

BACKLOG = 4096
CUT_GRACE_S = 2
"""What the last error events and their connections get after the drain time."""
CONFIG_PATH_VARIABLE = "_GATEWAY_CONFIG_PATH"
"""Hands the configuration's path to spawned workers, which read it anew."""


def run(config: Config, path: Path | None = None) -> int:
    """Serve until told to stop; return the process' exit status. `path` is where `config` came from."""
    settings = config.settings
    logs.configure(settings.log_level, shared=settings.workers > 1)
    if settings.traces_exporter != "none":
        from gateway.telemetry.tracing import fault_of  # imported late: most gateways make no traces

        if fault := fault_of(settings, os.environ):
            print(fault, file=sys.stderr)
            return 1
    try:
        listener = _bind(settings.host, settings.port)
    except OSError as error:
        told = _not_bound(error, "--port")
        print(f"cannot listen on {settings.host}:{settings.port}: {told}", file=sys.stderr)
        return 1
    admin, inside = None, Inside(_url(listener))
    if settings.admin_port is not None:
        from gateway.admin.server import AdminServer  # imported late: most gateways have no administration

        try:
            admin = AdminServer(config, _bind(settings.admin_host, settings.admin_port), inside)
        except OSError as error:
            listener.close()
            where = f"{settings.admin_host}:{settings.admin_port}"
            told = _not_bound(error, "admin_port")
            print(f"cannot listen on {where} for the administration: {told}", file=sys.stderr)
            return 1
        admin.start()
    try:
        return _serve(config, path, listener, inside)
    finally:
        if admin is not None:
            admin.stop()


def _not_bound(error: OSError, chooser: str) -> str:
    """Say why there is no listener, and what chooses another port if that helps."""
    hint = f"; {chooser} chooses another" if error.errno == errno.EADDRINUSE else ""
    return f"{error.strerror}{hint}"


def _serve(config: Config, path: Path | None, listener: socket.socket, inside: Inside) -> int:
    """Serve callers on a bound socket until told to stop."""
    settings = config.settings
    url = _url(listener)
    several = settings.workers > 1
    options = uvicorn.Config(
        "gateway.http.server:create_app" if several else create(config, inside),
        factory=several,
        loop="uvloop",
        http=GatewayProtocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        workers=settings.workers,
        backlog=BACKLOG,
        timeout_keep_alive=math.ceil(settings.idle_timeout_s),
        timeout_graceful_shutdown=math.ceil(settings.drain_timeout_s) + CUT_GRACE_S,
    )
    if not several:
        server = OnlyServer(options, url)
        server.run(sockets=[listener])
        return 0 if server.started else 1
    metrics_folder = tempfile.mkdtemp(prefix="lmi-gateway-metrics-")
    inside.folder = Path(metrics_folder)
    os.environ[MULTIPROCESS_VARIABLE] = metrics_folder
    os.environ[CONFIG_PATH_VARIABLE] = str(path or "")
    os.set_inheritable(listener.fileno(), True)
    try:
        Workers(options, [listener], url, Path(metrics_folder)).run()
    finally:
        shutil.rmtree(metrics_folder, ignore_errors=True)
    return 0


def create_app() -> Litestar:
    """Return the application, in a worker process."""
    path = os.environ.get(CONFIG_PATH_VARIABLE)
    config = load(Path(path) if path else None, os.environ)
    if not config.keys_possible and not config.settings.insecure:
        raise RuntimeError("the configuration has lost its keys since the gateway was started")
    logs.configure(config.settings.log_level)
    return create(config)


def create(config: Config, inside: Inside | None = None) -> Litestar:
    """Return the application, and tell `inside` what it is made of."""
    telemetry = make_telemetry(config)
    limits = make_store(config, telemetry.limits)
    recent = None
    if config.settings.admin_port is not None:  # nobody else reads them
        folder = os.environ.get(MULTIPROCESS_VARIABLE)
        recent = RecentCalls(None if folder is None else ring_path(Path(folder)))
    if inside is not None:
        inside.limits = limits
        if isinstance(telemetry, PrometheusTelemetry):
            inside.telemetry, inside.registry = telemetry, telemetry.registry
        inside.recent = None if recent is None else recent.memory
    app = build(config, telemetry, limits, () if recent is None else (recent,))
    # What exists now lives as long as the process: collections need not look at it again.
    gc.collect()
    gc.freeze()
    _trim()
    return app


def _trim() -> None:
    """Give back to the system what importing and building left unused, where the C library can."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _bind(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.setblocking(False)
    except OSError:
        listener.close()
        raise
    return listener
