"""Runs `lmi-bench` as users do, in this process or in one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner, Result

from deploy.bench import cli, runfile
from deploy.bench.runfile import Run

KEY = "sk-canary-5f2c81d0e7"
QUICK = ("--warmup", "0s", "--input-tokens", "8", "--output-tokens", "4")


def bench(*arguments: str, code: int = 0, **environment: str) -> Result:
    """Run a command and return what it printed."""
    result = CliRunner(env={"OPENAI_API_KEY": KEY, **environment}).invoke(cli.main, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def measured(path: Path, url: str, *arguments: str, code: int = 0) -> Run:
    """Measure a URL and return what was written; every option but the necessary ones may be given."""
    file = path / f"run-{len(list(path.iterdir()))}.json"
    bench("run", "--url", url, "--model", "m", *QUICK, *arguments, "--json", str(file), code=code)
    return runfile.read(file)


def started(*arguments: str, **environment: str) -> subprocess.Popen[str]:
    """Start `lmi-bench` in a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "deploy.bench.cli", *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OPENAI_API_KEY": KEY, **environment},
    )
