"""The lock files: every version pinned, every file hashed, no host named, and in step with pyproject.toml."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
BESIDE = {
    "openai1": {"openai"},
    "sdks": set(),
    "sdks-instructor": {"jiter", "openai", "rich"},
    "sdks-openai2": {"openai"},
    "sdks-text-generation": set(),
}
"""Groups that are installed into folders of their own → what the environment holds in another version."""
LOCKS = [f"requirements{each}.lock" for each in ("", "-dev", "-otel", *(f"-{group}" for group in BESIDE))]
NODE_LOCK = ROOT / "tests" / "e2e" / "clients" / "package-lock.json"
PINNED = re.compile(r"(?P<name>[a-z0-9][a-z0-9.-]*)==(?P<version>[\w.!+]+)( ; [^\\]+?)?( --hash=sha256:[0-9a-f]{64})+")
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_pins_and_hashes_every_requirement_and_names_no_host(lock: str) -> None:
    text = (ROOT / lock).read_text()
    assert complaints(text) == []
    assert len(pins(text)) >= 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("--index-url https://packages.example\n", "--index-url https://packages.example", id="an index"),
        pytest.param("--find-links wheels\n", "--find-links wheels", id="a folder of wheels"),
        pytest.param(
            "a==1 --hash=sha256:" + "0" * 64 + "\n# from https://packages.example\n", "://", id="a host in a comment"
        ),
        pytest.param("a==1\n", "a==1", id="no hash"),
        pytest.param("a==1 --hash=sha256:00\n", "a==1 --hash=sha256:00", id="half a hash"),
        pytest.param("a>=1 --hash=sha256:" + "0" * 64, "a>=1 --hash=sha256:" + "0" * 64, id="no exact version"),
        pytest.param("a @ file:///a.whl --hash=sha256:" + "0" * 64, "://", id="a file"),
    ],
)
def test_a_faulty_lock_is_found_out(text: str, complaint: str) -> None:
    assert complaint in complaints(text)


def test_every_runtime_dependency_is_locked_at_a_version_it_allows() -> None:
    assert unmet(PYPROJECT["project"]["dependencies"], "requirements.lock") == []


def test_every_development_and_build_dependency_is_locked_at_a_version_it_allows() -> None:
    wanted = [*PYPROJECT["project"]["dependencies"], *PYPROJECT["build-system"]["requires"], *dependencies("dev")]
    assert unmet(wanted, "requirements-dev.lock") == []


def test_the_extra_for_traces_is_locked_beside_what_serves_at_the_versions_that_are_tested() -> None:
    served, added = pins_of("requirements.lock"), pins_of("requirements-otel.lock")
    assert served.keys() & added.keys() == set()
    assert {name: pins_of("requirements-dev.lock").get(name) for name in added} == added
    assert unmet(PYPROJECT["project"]["optional-dependencies"]["otel"], "requirements-otel.lock") == []


def test_tests_run_on_the_versions_that_are_served() -> None:
    served, tested = pins_of("requirements.lock"), pins_of("requirements-dev.lock")
    assert {name: tested.get(name) for name in served} == served


@pytest.mark.parametrize("group", BESIDE)
def test_a_folder_beside_the_environment_holds_only_what_that_lacks(group: str) -> None:
    beside, environment = pins_of(f"requirements-{group}.lock"), pins_of("requirements-dev.lock")
    assert beside.keys() & environment.keys() == BESIDE[group]
    assert [name for name in BESIDE[group] if beside[name] == environment[name]] == []


@pytest.mark.parametrize("group", BESIDE)
def test_every_sdk_is_locked_at_a_version_its_group_allows(group: str) -> None:
    assert unmet(dependencies(group), f"requirements-{group}.lock") == []


def test_the_majors_of_the_official_client_that_are_tested() -> None:
    locks = ("requirements-openai1.lock", "requirements-sdks-openai2.lock", "requirements-dev.lock")
    assert [pins_of(lock)["openai"].partition(".")[0] for lock in locks] == ["1", "2", "3"]


def test_the_lock_for_node_has_a_hash_for_every_package_and_names_no_host() -> None:
    text = NODE_LOCK.read_text()
    assert "://" not in text
    packages = json.loads(text)["packages"]
    root = packages.pop("")
    assert len(packages) > 10
    unhashed = [name for name, package in packages.items() if not package.get("integrity", "").startswith("sha512-")]
    assert unhashed == []
    assert [name for name, package in packages.items() if "resolved" in package or "link" in package] == []
    assert root["dependencies"] == json.loads((NODE_LOCK.parent / "package.json").read_text())["dependencies"]
    assert [name for name in root["dependencies"] if f"node_modules/{name}" not in packages] == []


def test_the_older_client_is_imported_from_its_folder_and_all_else_from_the_environment(openai1_folder: Path) -> None:
    program = (
        "import httpx, openai; openai.OpenAI(api_key='k'); print(openai.__version__, openai.__file__, httpx.__file__)"
    )
    environment = {**os.environ, "PYTHONPATH": str(openai1_folder)}
    command = [sys.executable, "-W", "error", "-c", program]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    version, client, shared = done.stdout.split()
    assert version == pins_of("requirements-openai1.lock")["openai"]
    assert Path(client).is_relative_to(openai1_folder)
    assert not Path(shared).is_relative_to(openai1_folder)


def complaints(text: str) -> list[str]:
    """Return the requirements that are not pinned with hashes, and `://` if any host is named, comments included."""
    return [line for line in requirements(text) if not PINNED.fullmatch(line)] + ["://"] * ("://" in text)


def requirements(text: str) -> list[str]:
    lines = (line for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [" ".join(line.split()) for line in "\n".join(lines).replace("\\\n", " ").splitlines() if line.strip()]


def pins(text: str) -> dict[str, str]:
    return {match["name"]: match["version"] for line in requirements(text) if (match := PINNED.fullmatch(line))}


def pins_of(lock: str) -> dict[str, str]:
    return pins((ROOT / lock).read_text())


def unmet(wanted: list[str], lock: str) -> list[str]:
    locked = pins_of(lock)
    parsed = [Requirement(line) for line in wanted]
    return [
        str(each)
        for each in parsed
        if not each.specifier.contains(locked.get(canonicalize_name(each.name), "0"), prereleases=False)
    ]


def dependencies(name: str) -> list[str]:
    """Return a dependency group with the groups it includes: https://peps.python.org/pep-0735/."""
    entries = PYPROJECT["dependency-groups"][name]
    return [
        line
        for entry in entries
        for line in ([entry] if isinstance(entry, str) else dependencies(entry["include-group"]))
    ]
