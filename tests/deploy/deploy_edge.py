"""AWS' edge for lmi-deploy: one server that counts every call, answers SageMaker's itself and hands all others to moto.

What moto does otherwise than AWS is mended here: it keeps the policies of a target that is gone, knows no components
as targets, and says ValidationException where Application Auto Scaling says ObjectNotFoundException.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import multiprocessing
import os
import re
import signal
import sys
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from moto.backends import get_backend
from moto.server import ThreadedMotoServer

from tests.deploy.deploy_sagemaker import ACCOUNT, REGION, Refused, SageMaker

BACKENDS = ("application-autoscaling", "cloudwatch", "logs", "secretsmanager")
READING = ("Describe", "List", "Get", "Filter")
COMPONENTS = b"sagemaker:inference-component:DesiredCopyCount"
VARIANTS = b"sagemaker:variant:DesiredInstanceCount"
SIGNED_FOR = re.compile(r"Credential=[^/]+/\d+/([^/]+)/([^/]+)/aws4_request")


class Edge:
    """AWS for one test."""

    def __init__(self, moto_port: int) -> None:
        self.sagemaker = SageMaker()
        self.calls: list[tuple[str, str]] = []
        """Service and operation of every call, in order."""
        self.bodies: list[bytes] = []
        self.every_call: set[tuple[str, str]] = set()
        """What `forget` keeps."""
        self.pid = 0
        """The process whose calls these are."""
        self.kill_at: int | None = None
        """The number, from 1, of the changing call at which that process is killed."""
        self.kill_with = signal.SIGKILL
        self.after_effect = False
        """Kill it only when the call has been carried out, but before it hears so."""
        self.failing: Callable[[str], tuple[int, str, str] | None] = lambda operation: None
        self._moto_port = moto_port
        self._changing = 0
        self._lock = threading.Lock()

    @property
    def changes(self) -> list[str]:
        return [operation for _, operation in self.calls if not operation.startswith(READING)]

    def forget(self) -> None:
        """Begin to count anew."""
        self.calls.clear()
        self.bodies.clear()
        self._changing, self.kill_at = 0, None

    def left(self) -> list[str]:
        """Return what there still is outside of SageMaker."""
        scaling, watching = backend("application-autoscaling"), backend("cloudwatch")
        targets = [f"target {name}" for kept in scaling.targets.values() for name in kept]
        policies = [f"policy {policy.policy_name}" for policy in scaling.policies.values()]
        actions = [f"action {action.scheduled_action_name}" for action in scaling.scheduled_actions]
        return [*targets, *policies, *actions, *(f"alarm {name}" for name in watching.alarms)]

    def answer(self, handler: BaseHTTPRequestHandler, body: bytes) -> tuple[int, bytes, str] | None:
        """Return status, body and type of a reply, None if its caller is dead."""
        signed = SIGNED_FOR.search(handler.headers.get("Authorization", ""))
        assert signed is not None, "a call is not signed"
        assert signed[1] == REGION
        service, operation = signed[2], _operation(handler, body)
        with self._lock:
            self.calls.append((service, operation))
            self.bodies.append(body)
            self.every_call.add((service, operation))
            if not operation.startswith(READING):
                self._changing += 1
                if self._changing == self.kill_at and not self.after_effect:
                    self._kill()
                    return None
            reply = self._reply(handler, service, operation, body)
            if self._changing == self.kill_at and not operation.startswith(READING):
                self._kill()
                return None
            return reply

    def _kill(self) -> None:
        os.kill(self.pid, self.kill_with)

    def _reply(
        self, handler: BaseHTTPRequestHandler, service: str, operation: str, body: bytes
    ) -> tuple[int, bytes, str]:
        refused = self.failing(operation)
        if refused is not None:
            return refused[0], _error(refused[1], refused[2]), "application/x-amz-json-1.1"
        if service == "sagemaker":
            try:
                return 200, json.dumps(self.sagemaker.call(operation, json.loads(body))).encode(), JSON
            except Refused as error:
                return 400, _error(error.code, str(error)), JSON
        if service == "tagging":
            return 200, json.dumps({"ResourceTagMappingList": self.sagemaker.tagged(json.loads(body))}).encode(), JSON
        return self._forwarded(handler, operation, body)

    def _forwarded(self, handler: BaseHTTPRequestHandler, operation: str, body: bytes) -> tuple[int, bytes, str]:
        scaling = b"sagemaker" in body and operation.endswith(
            ("Target", "Targets", "Policy", "Policies", "Action", "Actions")
        )
        connection = http.client.HTTPConnection("127.0.0.1", self._moto_port, timeout=30)
        with contextlib.closing(connection):
            headers = {name: value for name, value in handler.headers.items() if name.lower() != "content-length"}
            connection.request("POST", handler.path, _without_components(body) if scaling else body, headers)
            reply = connection.getresponse()
            status, data, kind = reply.status, reply.read(), reply.headers.get("Content-Type", JSON)
        if scaling:
            if operation == "DeregisterScalableTarget" and status == 200:
                _forget_what_hangs_on(json.loads(_without_components(body))["ResourceId"])
            if status == 400 and b"No scal" in data:
                return 400, _error("ObjectNotFoundException", "No scalable target found."), JSON
            data = _with_components(data)
        return status, data, kind


JSON = "application/x-amz-json-1.1"


def _operation(handler: BaseHTTPRequestHandler, body: bytes) -> str:
    target = handler.headers.get("X-Amz-Target")
    if target:
        return target.rpartition(".")[2]
    return urllib.parse.parse_qs(body.decode())["Action"][0]


def _error(code: str, message: str) -> bytes:
    return json.dumps({"__type": code, "message": message}).encode()


def _without_components(body: bytes) -> bytes:
    return re.sub(rb'"inference-component/([^"]+)"', rb'"endpoint/\1/variant/component--"', body).replace(
        COMPONENTS, VARIANTS
    )


def _with_components(data: bytes) -> bytes:
    reply = json.loads(re.sub(rb'"endpoint/([^"/]+)/variant/component--"', rb'"inference-component/\1"', data) or b"{}")
    for entries in reply.values():
        for entry in entries if isinstance(entries, list) else ():
            if isinstance(entry, dict) and str(entry.get("ResourceId", "")).startswith("inference-component/"):
                entry["ScalableDimension"] = COMPONENTS.decode()
    return json.dumps({name: value for name, value in reply.items() if value is not None}).encode()


def backend(name: str) -> Any:
    """Return what moto holds of a service."""
    return get_backend(name)[ACCOUNT][REGION]  # type: ignore[call-overload]  # a name, not a literal


def _forget_what_hangs_on(resource: str) -> None:
    scaling = backend("application-autoscaling")
    for key, policy in list(scaling.policies.items()):
        if policy.resource_id == resource:
            del scaling.policies[key]
    scaling.scheduled_actions[:] = [each for each in scaling.scheduled_actions if each.resource_id != resource]


@contextlib.contextmanager
def served(moto_port: int) -> Iterator[tuple[Edge, str]]:
    """Give an AWS with nothing in it, and its URL."""
    edge = Edge(moto_port)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            reply = edge.answer(self, body)
            if reply is None:
                self.close_connection = True
                return
            status, data, kind = reply
            with contextlib.suppress(ConnectionError):
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            """Nobody reads it."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield edge, f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def reset_moto() -> None:
    """Empty moto of all that a test before has left."""
    from moto.core.model_instances import reset_model_data

    for name in BACKENDS:
        get_backend(name).reset()  # type: ignore[call-overload]  # a name, not a literal
    reset_model_data()


@contextlib.contextmanager
def moto_running() -> Iterator[int]:
    """Give the port of a moto server."""
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        yield int(server.get_host_and_port()[1])
    finally:
        server.stop()


class Ran:
    """What a command has printed, and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    def __repr__(self) -> str:
        return f"exit {self.code}\n{self.out}\n{self.err}"


_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["pytest", "tests.deploy.deploy_warm"])


def run(edge: Edge, url: str, folder: Path, *args: str, environ: dict[str, str], timeout_s: float = 60) -> Ran:
    """Run the command line in a process of its own, as the shell would."""
    out, err = folder / "stdout", folder / "stderr"
    environ = {
        "AWS_ENDPOINT_URL": url,
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        **environ,
    }
    process = _processes.Process(target=_child, args=(args, environ, str(out), str(err)))
    process.start()
    edge.pid = process.pid or 0
    process.join(timeout_s)
    assert process.exitcode is not None, f"the command still runs after {timeout_s} s: {err.read_text()}"
    return Ran(process.exitcode, out.read_text(), err.read_text())


def _child(args: tuple[str, ...], environ: dict[str, str], out: str, err: str) -> None:
    os.environ.update(environ)
    from deploy.cli import main
    from tests.deploy import deploy_warm

    deploy_warm.keep()

    with (
        open(os.devnull) as sys.stdin,
        open(out, "w", encoding="utf-8") as sys.stdout,
        open(err, "w", encoding="utf-8") as sys.stderr,
    ):
        main(list(args), prog_name="lmi-deploy")
