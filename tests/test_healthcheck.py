"""`python -m gateway.healthcheck`: what container runtimes ask."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from gateway.healthcheck import main


class Answering(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response({"/healthz": 200, "/readyz": 503}.get(self.path, 404))
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextlib.contextmanager
def answering() -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield str(server.server_address[1])
        server.shutdown()
        thread.join(10)


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        pytest.param([], 0, "", id="alive"),
        pytest.param(["/readyz"], 1, "/readyz answers 503\n", id="not ready"),
        pytest.param(["/nothing"], 1, "/nothing answers 404\n", id="no such path"),
    ],
)
@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", ""])
def test_the_answer_is_the_exit_code(
    capsys: pytest.CaptureFixture[str], host: str, arguments: list[str], code: int, said: str
) -> None:
    with answering() as port:
        assert main(arguments, {"LMI_GATEWAY_HOST": host, "LMI_GATEWAY_PORT": port}) == code
    assert capsys.readouterr().err == said


def test_nobody_there(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
    assert main([], {"LMI_GATEWAY_PORT": port}) == 1
    assert capsys.readouterr().err == "no answer: ConnectionRefusedError\n"


@pytest.mark.parametrize("port", ["tcp://10.0.0.1:80", "99999"])
def test_a_port_that_is_none(capsys: pytest.CaptureFixture[str], port: str) -> None:
    assert main([], {"LMI_GATEWAY_PORT": port}) == 1
    assert capsys.readouterr().err.startswith("no answer: ")
