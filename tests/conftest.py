"""What every test runs with: one async backend, a bounded Hypothesis, and an environment that is nobody's own."""

from __future__ import annotations

import ipaddress
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# The default: the same examples in every run, so that a red build is red again. No deadline, as shared machines pause.
settings.register_profile(
    "ci",
    derandomize=True,
    max_examples=100,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
# HYPOTHESIS_PROFILE=explore looks for new examples; a failure prints the blob that reproduces it.
settings.register_profile("explore", settings.get_profile("ci"), derandomize=False, max_examples=5_000)
PROFILE = os.environ.get("HYPOTHESIS_PROFILE", "ci")
settings.load_profile(PROFILE)

# A developer's credentials, profiles, proxies and settings must change no result. Subprocesses inherit what is left.
for name in set(os.environ) - {"OPENAI_OPENAPI"}:  # which is the tests' own: tests/support/openai_schema.py
    if name.startswith(("AWS_", "LMI_GATEWAY_", "OPENAI_", "OTEL_", "PROMETHEUS_")) or name.lower().endswith("_proxy"):
        del os.environ[name]
os.environ |= {
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    "AWS_EC2_METADATA_DISABLED": "true",
    "NO_PROXY": "*",
}


def pytest_report_header() -> str:
    """Say which examples Hypothesis tries; the ci profile's are fixed by the tests themselves, so no seed is needed."""
    profile = settings.get_profile(PROFILE)
    return f"hypothesis: profile {PROFILE}, derandomize={profile.derandomize}, max_examples={profile.max_examples}"


@pytest.fixture(scope="session")
def openai1_folder() -> Path:
    """Return the folder that makes a process import openai 1.x, not the newest, if it is first on its PYTHONPATH."""
    folder = Path(sys.prefix, "openai-1")
    assert folder.is_dir(), f"{folder} is missing: scripts/venv.sh installs requirements-openai1.lock into it"
    return folder


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Every test marked `anyio` runs on asyncio, the only loop the gateway runs on."""
    return "asyncio"


def _refuse_other_hosts(event: str, arguments: tuple[object, ...]) -> None:
    """Fail what would leave this machine: https://docs.python.org/3/library/audit_events.html."""
    if event == "socket.getaddrinfo":
        host = arguments[0]
    elif event in ("socket.connect", "socket.sendto"):
        address = arguments[1]
        host = address[0] if isinstance(address, tuple) else None  # a path, for a Unix socket
    else:
        return
    if host and not _is_local(host.decode() if isinstance(host, bytes) else str(host)):
        # No OSError: the code under test would take it for a refused connection.
        raise RuntimeError(f"tests contact this machine only, not {host!r}")


def _is_local(host: str) -> bool:
    if host == "localhost" or host.endswith((".localhost", ".invalid")):
        return True
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


sys.addaudithook(_refuse_other_hosts)
