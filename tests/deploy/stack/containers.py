"""Runs what an image would run, as a process of this machine: its entry point, its variables, and nothing else."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.deploy.stack.dockerfile import Build, Stage

WAIT_S = 20.0


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def environment(image: Build, stage: list[Stage], **more: str) -> dict[str, str]:
    """Return what a process in the image finds in its environment; `stage` are the stages from the base on."""
    found: dict[str, str] = {}
    for each in stage:
        found |= {name: image.inside(value) for name, value in each.environment().items()}
    found["PATH"] = found["PATH"].replace("$PATH", os.environ["PATH"])
    kept = {name: os.environ[name] for name in ("AWS_EC2_METADATA_DISABLED", "NO_PROXY") if name in os.environ}
    return {**found, **kept, **more}


@contextlib.contextmanager
def running(
    command: Sequence[str], variables: Mapping[str, str], folder: Path, ready: str
) -> Iterator[subprocess.Popen[str]]:
    """Start a command and yield it once a line of its output holds `ready`."""
    folder.mkdir(exist_ok=True)
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("w") as written:
        process = subprocess.Popen(
            list(command), env=dict(variables), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:  # ends when the process does
                written.write(line)
                if ready in line:
                    break
            else:
                written.flush()
                raise AssertionError(f"{command} ended with {process.wait(WAIT_S)}:\n{log.read_text()}")
            yield process
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(WAIT_S)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait(WAIT_S)
            process.stdout.close()


def exit_code(words: Sequence[str], variables: Mapping[str, str]) -> int:
    """Run a command to its end, such as a health check; return how it ended."""
    return subprocess.run(list(words), env=dict(variables), capture_output=True, timeout=60).returncode
