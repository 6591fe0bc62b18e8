"""Certificates for the tests' web."""

from __future__ import annotations

import pytest

from tests.media.web import Certificates, issue


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issue(tmp_path_factory.mktemp("certificates"))
