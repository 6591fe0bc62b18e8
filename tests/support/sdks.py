"""The SDKs that people call the gateway with: where each is installed, and how a program of theirs is run and judged.

A script of tests/e2e/clients makes its checks once for each model, and prints a line of JSON for each. It runs in a
process of its own, in which nothing but this machine can be reached, and which knows no setting of the developer's.

ran = run_script(Script("langchain", "sdks", checks=(…)), stack, tmp_path)
assert (ran.failed, list(ran.verdicts)) == ([], script.expected)
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import httpx

from tests.support.full_stack import Stack
from tests.support.stack import KEY

ROOT = Path(__file__).parent.parent.parent
CLIENTS = ROOT / "tests" / "e2e" / "clients"
INSTALLED = Path(sys.prefix)
OLDEST_NODE = 20
MODELS = ("lmi15", "lmi27", "vllm")
"""Of the models in the stack those that differ most: the oldest and the newest LMI, and vLLM's own container."""
TIMEOUT_S = 100.0

_KEPT = ("LANG", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TMPDIR")
"""What a script's environment has of this process's."""
_QUIET = {
    "DO_NOT_TRACK": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "NO_PROXY": "*",
}
"""What keeps SDKs from reporting home and from fetching price lists."""


@dataclass(frozen=True, slots=True)
class Script:
    """A program of tests/e2e/clients."""

    name: str
    """Its file, without `.py` or `.mjs`."""
    folder: str
    """Where its SDK is installed, below the environment: see scripts/venv.sh."""
    checks: tuple[str, ...]
    """Those it must make with each model."""
    leaves: int = 0
    """How many of them leave a slow stream before its end."""
    models: tuple[str, ...] = MODELS
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def expected(self) -> list[str]:
        """What there must be a verdict on, in order."""
        return [f"{model}: {check}" for model in self.models for check in self.checks]


@dataclass(slots=True)
class Ran:
    """What a program did."""

    exit_code: int
    verdicts: dict[str, str]
    """By model and check: ok, or what went wrong."""
    refused: list[str]
    """Other hosts that it tried to reach."""
    printed: str
    """Everything else on standard output."""
    errors: str
    left: int = 0
    """Streams of the slow SageMaker that were left before their end."""
    read: int = 0
    """Those that were read to their end."""

    @property
    def failed(self) -> list[str]:
        """The checks that failed, with the end of what each told of it."""
        return [f"{name}\n{verdict[-1500:]}" for name, verdict in self.verdicts.items() if verdict != "ok"]


def run_script(script: Script, stack: Stack, home: Path) -> Ran:
    """Run a script against the stack; `home` is an empty folder for what its SDK keeps."""
    try:
        return _run_script(script, stack, home)
    except Hung as hung:
        # An SDK that stands still by itself, as LiteLLM does once in a while, gets another try. One that waits for an
        # answer of the gateway's does not.
        if hung.waiting or not hung.known:
            raise
    return _run_script(script, stack, home)


def _run_script(script: Script, stack: Stack, home: Path) -> Ran:
    before = len(stack.slow.calls)
    environment = {
        "GATEWAY_URL": stack.gateway.url,
        "GATEWAY_KEY": KEY,
        "GATEWAY_MODELS": " ".join(script.models),
        **script.environment,
    }
    if script.folder == "node":
        for file in CLIENTS.glob("*.mjs"):
            shutil.copy(file, home)
        ran = run_node([f"{script.name}.mjs"], home, environment)
    else:
        ran = run_python(["-m", f"tests.e2e.clients.{script.name}"], script.folder, home, environment)
    # A call that somebody left ends at once, and the others have ended.
    ended = [stack.slow.call_ended(call.n) for call in stack.slow.calls[before:]]
    ran.left = sum(call.hung_up_ms is not None for call in ended)
    ran.read = len(ended) - ran.left
    return ran


def run_python(arguments: Sequence[str], folder: str, home: Path, environment: Mapping[str, str]) -> Ran:
    """Run Python with the SDKs of a folder."""
    return run([sys.executable, *arguments], home, {**environment, **python_path(folder)}, cwd=ROOT)


def python_path(folder: str) -> dict[str, str]:
    """Return the variables that make Python find the SDKs of a folder, and their commands the shell."""
    packages = INSTALLED / folder
    assert packages.is_dir(), f"{packages} is missing: `make sdks` installs requirements-{folder}.lock into it"
    path = os.pathsep.join([str(packages / "bin"), os.environ["PATH"]])
    return {"PYTHONPATH": os.pathsep.join([str(CLIENTS / "guard"), str(packages)]), "PATH": path}


def run_node(arguments: Sequence[str], home: Path, environment: Mapping[str, str]) -> Ran:
    """Run Node in `home`, which gets the SDKs for it."""
    installed = INSTALLED / "node" / "node_modules"
    assert installed.is_dir(), (
        f"{installed} is missing: `make sdks` installs tests/e2e/clients/package-lock.json into it"
    )
    if not (home / "node_modules").exists():
        (home / "node_modules").symlink_to(installed)  # from where Node looks for what a program imports
    return run(["node", "--import", str(CLIENTS / "guard" / "guard.mjs"), *arguments], home, environment, cwd=home)


@cache
def why_not_node() -> str:
    """Say why programs for Node cannot be run here, in nothing if they can."""
    if not (shutil.which("node") and shutil.which("npm")):
        return "there is no node and npm"
    version = subprocess.run(
        ["node", "--version"], capture_output=True, text=True, timeout=30, check=True
    ).stdout.strip()
    old = int(version.removeprefix("v").partition(".")[0]) < OLDEST_NODE
    return f"node is {version}, older than {OLDEST_NODE}" if old else ""


def run(command: Sequence[str], home: Path, environment: Mapping[str, str], *, cwd: Path) -> Ran:
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env={**kept, **_QUIET, "HOME": str(home), "LLM_USER_PATH": str(home), **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        printed, errors = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        known, waiting = _calls_in_flight(environment.get("GATEWAY_URL"))
        process.kill()
        printed, errors = process.communicate()
        raise Hung(f"{command} took {TIMEOUT_S:g} s\n{printed[-2000:]}\n{errors[-2000:]}", known, waiting) from None
    return _judged(subprocess.CompletedProcess(command, process.returncode, printed, errors))


class Hung(Exception):
    """A program did not end."""

    def __init__(self, message: str, known: bool, waiting: float) -> None:
        """`waiting`: calls that the gateway was answering then, if that is `known`."""
        super().__init__(message)
        self.known, self.waiting = known, waiting


def _calls_in_flight(url: str | None) -> tuple[bool, float]:
    if url is None:
        return False, 0.0
    text = httpx.get(f"{url}/metrics", trust_env=False).text
    found = re.search(r"^gateway_calls_in_flight (\S+)$", text, re.MULTILINE)
    return found is not None, float(found[1]) if found else 0.0


def _judged(done: subprocess.CompletedProcess[str]) -> Ran:
    ran = Ran(done.returncode, {}, [], "", done.stderr)
    for line in done.stdout.splitlines(keepends=True):
        told = _object(line)
        if "check" in told:
            name = f"{told['model']}: {told['check']}"
            assert name not in ran.verdicts, f"{name} was checked twice"
            ran.verdicts[name] = told.get("error", "ok")
        elif "refused" in told:
            ran.refused.append(told["refused"])
        else:
            ran.printed += line
    return ran


def _object(line: str) -> dict[str, Any]:
    try:
        told = json.loads(line)
    except ValueError:
        return {}
    return told if isinstance(told, dict) else {}
