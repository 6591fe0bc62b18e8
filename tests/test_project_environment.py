"""scripts/venv.sh: which Python it takes, what it installs, and when it installs nothing."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
INPUTS = [
    "pyproject.toml",
    "requirements-dev.lock",
    "requirements-openai1.lock",
    "requirements-sdks.lock",
    "requirements-sdks-instructor.lock",
    "requirements-sdks-openai2.lock",
    "requirements-sdks-text-generation.lock",
    "scripts/venv.sh",
    "tests/e2e/clients/package.json",
    "tests/e2e/clients/package-lock.json",
    "gateway/__init__.py",
]
TOOLS = ["bash", "cat", "chmod", "cksum", "cp", "dirname", "mkdir", "rm"]

# Runs code as release {version}, makes an environment by copying itself, and writes down what pip is asked.
INTERPRETER = """#!{bash}
case "$1 $2" in
    "--version ") echo "Python {version}" ;;
    "-m venv") rm -rf .venv; mkdir -p .venv/bin; cp "$0" .venv/bin/python ;;
    "-m pip") shift 2; echo "$*" >>"{log}" ;;
    *) exec {real} -c 'import sys
sys.version_info = tuple(map(int, "{version}".split(".")))
if {bare}: sys.modules["ensurepip"] = None
exec(sys.argv[1])' "$2" ;;
esac
"""

PIP = "--quiet --quiet --no-input --disable-pip-version-check install"
LOCKED = [
    f"{PIP} --only-binary :all: --require-hashes -r requirements-dev.lock",
    f"{PIP} --only-binary :all: --require-hashes --no-deps --target .venv/openai-1 -r requirements-openai1.lock",
]
PROJECT = [f"{PIP} --no-deps --no-build-isolation -e ."]
WHEELS = f"{PIP} --no-compile --only-binary :all: --require-hashes --no-deps"
SDKS = [
    f"{WHEELS} --target .venv/{group} -r requirements-{group}.lock"
    for group in ("sdks", "sdks-instructor", "sdks-openai2", "sdks-text-generation")
]
"""Installed side by side, in no certain order."""
NODE_SDKS = ["npm ci --ignore-scripts --no-audit --no-fund --engine-strict=false --loglevel=error in .venv/node"]
SDKS_SAID = "lmi-gateway: installing the SDKs that the tests call the gateway with …\n"
WITHOUT_NODE = "lmi-gateway: there is no node and npm: the tests with SDKs for Node will be skipped\n"


class Checkout:
    """A copy of what the script reads, and a PATH that holds only the tools it needs and made-up interpreters."""

    def __init__(self, folder: Path) -> None:
        self.root, self.bin, self.log = folder / "checkout", folder / "bin", folder / "pip.log"
        self.bin.mkdir()
        for name in TOOLS:
            path = shutil.which(name)
            assert path, name
            (self.bin / name).symlink_to(path)
        for name in INPUTS:
            (self.root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, self.root / name)

    def has(self, name: str, version: str, *, bare: bool = False) -> None:
        """Put an interpreter on the PATH; a bare one lacks ensurepip."""
        program = self.bin / name
        program.write_text(
            INTERPRETER.format(bash=self.bin / "bash", version=version, log=self.log, real=sys.executable, bare=bare)
        )
        program.chmod(0o755)

    def has_node(self, version: str, *, fails: bool = False) -> None:
        """Put a made-up node and npm on the PATH."""
        for name, program in (
            ("node", f"echo {version}"),
            ("npm", f'echo "npm $* in ${{PWD#{self.root}/}}" >>"{self.log}"; exit {int(fails)}'),
        ):
            (self.bin / name).write_text(f"#!{self.bin / 'bash'}\n{program}\n")
            (self.bin / name).chmod(0o755)

    def install(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.bin / "bash"), "scripts/venv.sh", *arguments]
        environment = {"PATH": str(self.bin), **environment}
        return subprocess.run(command, cwd=self.root, env=environment, capture_output=True, text=True, timeout=30)

    def asked_of_pip(self) -> list[str]:
        """Return the calls of pip since the last time this was asked."""
        calls = self.log.read_text().splitlines() if self.log.exists() else []
        self.log.unlink(missing_ok=True)
        return calls


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_a_fresh_checkout_gets_the_locked_packages_then_the_project(checkout: Checkout) -> None:
    checkout.has("python3", "3.12.1")
    done = checkout.install()
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == "lmi-gateway: installing the locked packages into .venv with Python 3.12.1 …\n"
    assert checkout.asked_of_pip() == LOCKED + PROJECT


def test_a_second_run_installs_nothing_and_says_nothing(checkout: Checkout) -> None:
    checkout.has("python3", "3.12.1")
    checkout.install()
    checkout.asked_of_pip()
    done = checkout.install()
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert checkout.asked_of_pip() == []


@pytest.mark.parametrize(
    ("change", "calls"),
    [
        pytest.param(lambda root: edit(root / "requirements-dev.lock"), LOCKED + PROJECT, id="a lock changed"),
        pytest.param(lambda root: edit(root / "pyproject.toml"), PROJECT, id="the project's own metadata changed"),
        pytest.param(lambda root: (root / ".venv/bin/python").unlink(), LOCKED + PROJECT, id="the interpreter is gone"),
        pytest.param(lambda root: (root / ".venv/project.stamp").unlink(), PROJECT, id="interrupted before its end"),
        pytest.param(lambda root: (root / "requirements.lock").touch(), [], id="another file is touched"),
    ],
)
def test_a_later_run_installs(checkout: Checkout, change: Callable[[Path], object], calls: list[str]) -> None:
    checkout.has("python3", "3.12.1")
    checkout.install()
    checkout.asked_of_pip()
    change(checkout.root)
    assert checkout.install().returncode == 0
    assert checkout.asked_of_pip() == calls


@pytest.mark.parametrize(
    ("installed", "taken"),
    [
        pytest.param({"python3": "3.11.7", "python3.13": "3.13.0"}, "3.11.7", id="python3, if it is supported"),
        pytest.param(
            {"python3": "3.10.1", "python3.11": "3.11.2", "python3.12": "3.12.1"},
            "3.12.1",
            id="else the newest supported",
        ),
        pytest.param({"python3": "3.15.0", "python3.11": "3.11.2"}, "3.11.2", id="a supported one before a newer one"),
        pytest.param({"python3": "3.15.0"}, "3.15.0", id="a newer one if there is no other"),
    ],
)
def test_the_interpreter_taken(checkout: Checkout, installed: dict[str, str], taken: str) -> None:
    for name, version in installed.items():
        checkout.has(name, version)
    assert f"with Python {taken} …" in checkout.install().stderr


def test_an_interpreter_asked_for_replaces_the_one_in_use_and_stays(checkout: Checkout) -> None:
    checkout.has("python3", "3.12.1")
    checkout.has("mine", "3.13.0")
    checkout.install()
    assert "with Python 3.13.0 …" in checkout.install(PYTHON="mine").stderr
    assert checkout.install(PYTHON="mine").stderr == ""
    assert checkout.install().stderr == ""


@pytest.mark.parametrize(
    ("installed", "asked", "reason"),
    [
        pytest.param({}, {}, "python3 is not installed", id="none"),
        pytest.param({"python3": "3.9.2"}, {}, "python3 is too old (3.9.2)", id="too old"),
        pytest.param({"python3": "2.7.18"}, {}, "python3 is too old (2.7.18)", id="far too old"),
        pytest.param(
            {"python3": "3.12.1"}, {"PYTHON": "pypy"}, "pypy is not installed", id="the one asked for is missing"
        ),
    ],
)
def test_without_a_usable_python_one_line_says_what_is_needed(
    checkout: Checkout, installed: dict[str, str], asked: dict[str, str], reason: str
) -> None:
    for name, version in installed.items():
        checkout.has(name, version)
    done = checkout.install(**asked)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"lmi-gateway: Python 3.11 or newer is needed, but {reason}. PYTHON=/path/to/python names another.\n"
    )


def test_a_python_without_ensurepip_is_named_with_the_package_it_lacks(checkout: Checkout) -> None:
    checkout.has("python3", "3.11.2", bare=True)
    done = checkout.install()
    assert done.returncode == 1
    assert (
        "but python3 is 3.11.2 without ensurepip (on Debian and Ubuntu: apt-get install python3.11-venv)."
        in done.stderr
    )


# --- The SDKs ---


def test_with_sdks_each_group_gets_a_folder_of_its_own(checkout: Checkout) -> None:
    checkout.has("python3", "3.12.1")
    checkout.has_node("v22.1.0")
    done = checkout.install("sdks")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith(SDKS_SAID)
    calls = checkout.asked_of_pip()
    assert calls[: len(LOCKED + PROJECT)] == LOCKED + PROJECT
    assert sorted(calls[len(LOCKED + PROJECT) :]) == sorted(SDKS + NODE_SDKS)
    for name in ("package.json", "package-lock.json"):
        copied = (checkout.root / ".venv/node" / name).read_text()
        assert copied == (ROOT / "tests/e2e/clients" / name).read_text()


def test_without_node_the_other_sdks_are_installed(checkout: Checkout) -> None:
    checkout.has("python3", "3.12.1")
    checkout.install()
    checkout.asked_of_pip()
    done = checkout.install("sdks")
    assert (done.returncode, done.stderr) == (0, SDKS_SAID + WITHOUT_NODE)
    assert sorted(checkout.asked_of_pip()) == sorted(SDKS)


@pytest.mark.parametrize(
    ("change", "calls"),
    [
        pytest.param(lambda checkout: None, [], id="nothing"),
        pytest.param(lambda checkout: edit(checkout.root / "requirements-sdks.lock"), SDKS + NODE_SDKS, id="a lock"),
        pytest.param(
            lambda checkout: edit(checkout.root / "tests/e2e/clients/package-lock.json"),
            SDKS + NODE_SDKS,
            id="the lock of the SDKs for Node",
        ),
        pytest.param(lambda checkout: checkout.has_node("v24.2.0"), SDKS + NODE_SDKS, id="another Node"),
        pytest.param(lambda checkout: (checkout.bin / "npm").unlink(), SDKS, id="npm is gone"),
        pytest.param(
            lambda checkout: edit(checkout.root / "requirements-dev.lock"),
            LOCKED + PROJECT + SDKS + NODE_SDKS,
            id="the environment they are in",
        ),
        pytest.param(lambda checkout: edit(checkout.root / "pyproject.toml"), PROJECT, id="the project"),
    ],
)
def test_sdks_are_installed_anew_after(
    checkout: Checkout, change: Callable[[Checkout], object], calls: list[str]
) -> None:
    checkout.has("python3", "3.12.1")
    checkout.has_node("v22.1.0")
    checkout.install("sdks")
    checkout.asked_of_pip()
    change(checkout)
    assert checkout.install("sdks").returncode == 0
    assert sorted(checkout.asked_of_pip()) == sorted(calls)


def test_sdks_that_could_not_be_installed_are_tried_again(checkout: Checkout) -> None:
    checkout.has("python3", "3.12.1")
    checkout.has_node("v22.1.0", fails=True)
    done = checkout.install("sdks")
    assert done.returncode == 1
    assert done.stderr.endswith(SDKS_SAID + "lmi-gateway: the SDKs could not be installed.\n")
    checkout.asked_of_pip()
    checkout.has_node("v22.1.0")
    assert checkout.install("sdks").returncode == 0
    assert sorted(checkout.asked_of_pip()) == sorted(SDKS + NODE_SDKS)


def test_who_does_not_ask_for_sdks_gets_none_and_keeps_those_there_are(checkout: Checkout) -> None:
    checkout.has("python3", "3.12.1")
    checkout.install("sdks")
    checkout.asked_of_pip()
    edit(checkout.root / "requirements-sdks.lock")
    assert checkout.install().returncode == 0
    assert checkout.asked_of_pip() == []


def edit(path: Path) -> None:
    with path.open("a") as file:
        file.write("\n# changed\n")
