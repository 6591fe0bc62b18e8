"""The gateway's image, as far as it can be made without Docker: once for all tests that look into it."""

from __future__ import annotations

import pytest

from tests.deploy.stack.dockerfile import ROOT, Build, Stage, stages


@pytest.fixture(scope="session")
def dockerfile() -> dict[str, Stage]:
    return stages((ROOT / "Dockerfile").read_text())


@pytest.fixture(scope="session")
def image(dockerfile: dict[str, Stage], tmp_path_factory: pytest.TempPathFactory) -> Build:
    return Build(tmp_path_factory.mktemp("image"), dockerfile["build"])
