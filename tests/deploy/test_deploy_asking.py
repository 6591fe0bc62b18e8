"""What lmi-deploy asks, on a terminal: nothing happens without the right answer."""

from __future__ import annotations

import os
import pty
import subprocess
import sys

import pytest

from tests.deploy.deploy_cloud import KEYS, MANIFEST, Cloud


def typed(cloud: Cloud, command: str, prompt: bytes, answer: bytes) -> tuple[int, str]:
    """Run a command on a terminal, type `answer` at `prompt`, and return its exit code and what it showed."""
    cloud.file.write_text(MANIFEST)
    ours, theirs = pty.openpty()
    environ = {name.upper(): value for name, value in KEYS.items()} | {"AWS_ENDPOINT_URL": cloud.url, "TERM": "xterm"}
    options = ["--poll", "0", *(["--no-smoke"] if command == "apply" else [])]
    code = "import sys; from deploy.cli import main; main(prog_name='lmi-deploy')"
    process = subprocess.Popen(
        [sys.executable, "-c", code, command, str(cloud.file), *options],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, **environ},
    )
    os.close(theirs)
    shown = b""
    try:
        while data := _read(ours):
            shown += data
            if prompt in shown and answer:
                os.write(ours, answer + b"\n")
                answer = b""
        return process.wait(timeout=60), shown.decode()
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # nobody has it open any more
        return b""


@pytest.mark.parametrize(
    ("answer", "code", "endpoints"),
    [pytest.param(b"y", 0, ["chat"], id="yes"), pytest.param(b"n", 1, [], id="no")],
)
def test_apply_asks_first(cloud: Cloud, answer: bytes, code: int, endpoints: list[str]) -> None:
    ended, shown = typed(cloud, "apply", b"Apply this?", answer)
    assert ended == code, shown
    assert "create endpoint chat" in shown
    assert cloud.edge.sagemaker.names("endpoint") == endpoints


@pytest.mark.parametrize(
    ("answer", "code", "endpoints"),
    [pytest.param(b"chat", 0, [], id="its name"), pytest.param(b"y", 1, ["chat"], id="anything else")],
)
def test_destroy_wants_the_endpoints_name(cloud: Cloud, answer: bytes, code: int, endpoints: list[str]) -> None:
    cloud.apply(MANIFEST)
    ended, shown = typed(cloud, "destroy", b"Type chat to delete it", answer)
    assert ended == code, shown
    assert cloud.edge.sagemaker.names("endpoint") == endpoints
