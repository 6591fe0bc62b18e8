"""An AWS for tests of lmi-deploy; moto serves a whole run of tests and is emptied between them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.deploy_cloud import Cloud
from tests.deploy.deploy_edge import moto_running, served


@pytest.fixture(scope="session")
def moto_port() -> Iterator[int]:
    with moto_running() as port:
        yield port


@pytest.fixture
def cloud(moto_port: int, tmp_path: Path) -> Iterator[Cloud]:
    with served(moto_port) as (edge, url):
        yield Cloud(edge, url, tmp_path)
