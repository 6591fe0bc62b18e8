"""The same tests with openai 1.x, which many callers still use, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.callers import VERSION_VARIABLE

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
TESTS = [
    "test_e2e_openai_chat.py",
    "test_e2e_openai_completions.py",
    "test_e2e_openai_errors.py",
    "test_e2e_openai_formats.py",
    "test_e2e_openai_leaving.py",
    "test_e2e_openai_streams.py::test_clients_read_past_comments",
    "test_e2e_openai_streams.py::test_a_failure_after_the_status_is_an_event_without_done",
    "test_e2e_openai_tools.py",
    "test_e2e_aliases.py",
]
"""What depends on the client; the other tests are about what the gateway does behind its back."""
LEAST_TESTS = 500


@pytest.mark.skipif(VERSION_VARIABLE in os.environ, reason="this is the run with another major version")
def test_everything_holds_for_openai_1(openai1_folder: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *(str(HERE / test) for test in TESTS)]
    environment = {**os.environ, "PYTHONPATH": str(openai1_folder), VERSION_VARIABLE: "1."}
    ran = subprocess.run(
        command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=110
    )
    summary = ran.stdout[-4000:] + ran.stderr[-2000:]
    assert ran.returncode == 0, summary
    passed = re.search(r"(\d+) passed", ran.stdout)
    assert passed is not None, summary
    assert int(passed[1]) > LEAST_TESTS
    assert "skipped" not in ran.stdout, summary
