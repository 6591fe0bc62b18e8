"""The distribution: the wheel holds every file of the packages and nothing else, and starts the command."""

from __future__ import annotations

import tarfile
import zipfile
from pathlib import Path

import pytest
from hatchling.build import build_sdist, build_wheel

from gateway import __version__

ROOT = Path(__file__).parent.parent
PACKAGES = ["adapters", "deploy", "gateway"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)  # a build backend runs in the project's folder: https://peps.python.org/pep-0517/
        return zipfile.ZipFile(folder / build_wheel(str(folder)))


def test_the_wheel_holds_every_file_of_the_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    expected = {
        path.relative_to(ROOT).as_posix()
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc" and not path.name.startswith(".")
    }
    packed = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert packed == expected


def test_the_wheel_names_the_version_the_command_and_the_license(wheel: zipfile.ZipFile) -> None:
    info = f"lmi_gateway-{__version__}.dist-info"
    assert wheel.read(f"{info}/entry_points.txt").decode() == (
        "[console_scripts]\nlmi-bench = deploy.bench.cli:main\nlmi-deploy = deploy.cli:main\n"
        "lmi-gateway = gateway.cli:main\n"
    )
    metadata = wheel.read(f"{info}/METADATA").decode().splitlines()
    assert {
        "Name: lmi-gateway",
        f"Version: {__version__}",
        "License-Expression: Apache-2.0",
        "Requires-Python: >=3.11",
    } <= set(metadata)
    assert wheel.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()


def test_the_source_archive_holds_what_it_takes_to_build_and_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    with tarfile.open(tmp_path / build_sdist(str(tmp_path))) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {
        "LICENSE",
        "Makefile",
        "pyproject.toml",
        "requirements-dev.lock",
        "gateway/py.typed",
        "tests/conftest.py",
    } <= names
    assert not {name for name in names if name.startswith((".venv", ".git/", "dist"))}
