"""What only shows on a terminal, over TLS, or when a process dies."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from deploy.bench.amounts import distribution
from deploy.bench.plan import Load, Plan, Prompts, Stage, Target
from deploy.bench.workers import Processes, WorkerFailed
from tests.deploy.bench.fake_openai import Script, fake_openai
from tests.deploy.bench.running import KEY, QUICK, measured
from tests.media.web import issue

WAIT_S = 20.0


def test_a_terminal_shows_a_bar_and_the_table_alone_is_printed() -> None:
    controller, terminal = pty.openpty()
    with fake_openai(Script(0.05)) as fake:
        arguments = ("run", "--url", fake.url, "--model", "m", *QUICK, "--concurrency", "2", "--duration", "600ms")
        process = subprocess.Popen(
            [sys.executable, "-m", "deploy.bench.cli", *arguments],
            stdout=subprocess.PIPE,
            stderr=terminal,
            text=True,
            env={**os.environ, "OPENAI_API_KEY": KEY, "TERM": "xterm", "COLUMNS": "140"},
        )
        os.close(terminal)
        shown = b""
        while True:
            try:
                shown += os.read(controller, 65536)
            except OSError:  # the other end is closed: https://man7.org/linux/man-pages/man4/pts.4.html
                break
        out, _ = process.communicate(timeout=WAIT_S)
    os.close(controller)
    assert process.returncode == 0, shown
    plain = re.sub(rb"\x1b\[[0-9;?]*[A-Za-z]", b"", shown).decode()
    assert "1/1 concurrency 2" in plain
    assert re.search(r"\d+ calls ended, 0 of them failed, 2 under way", plain)
    assert out.startswith("m @ 127.0.0.1:")
    assert "\x1b" not in out


def test_a_process_that_dies_ends_the_run() -> None:
    async def die(url: str) -> None:
        target = Target("openai", url.removesuffix("/v1"), "/v1/chat/completions", "m")
        stage = Stage(0, "closed", 2)
        plan = Plan(target, Prompts(distribution("5"), distribution("5")), Load(30.0, None, 0, 0), (stage,))
        workers = await Processes.start(plan, 2)
        running = asyncio.create_task(workers.stage(stage))
        assert await asyncio.to_thread(fake.reached.wait, WAIT_S)
        workers.processes[1].kill()
        with pytest.raises(WorkerFailed, match="a generating process ended by itself"):
            await asyncio.wait_for(running, WAIT_S)
        await workers.aclose()
        assert [process.returncode for process in workers.processes] == [0, -9]

    with fake_openai(Script(0.01)) as fake:
        fake.calls_wanted = 4
        asyncio.run(die(fake.url))


def test_a_server_that_goes_down_is_not_flooded(tmp_path: Path) -> None:
    with fake_openai(Script(status=503)) as fake:
        options = ("--concurrency", "2", "--duration", "500ms", "--no-ask-first")
        run = measured(tmp_path, fake.url, *options, code=1)
    assert 2 <= run.summaries[0].failed <= 2 * (500 / 50 + 1)


def test_more_connections_are_made_than_a_shell_lets_open_at_first() -> None:
    with fake_openai(Script(0.2)) as fake:
        arguments = ("run", "--url", fake.url, "--model", "m", *QUICK, "--concurrency", "60", "--requests", "60")
        command = [sys.executable, "-m", "deploy.bench.cli", *arguments]
        script = f"ulimit -Sn 40 && exec {shlex.join(command)}"
        done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, timeout=WAIT_S)
    assert done.returncode == 0, done.stderr
    assert fake.most_active > 40
    assert "failed" not in done.stdout


def test_certificates_are_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "certificates"
    folder.mkdir()
    certificates = issue(folder)
    options = ("--concurrency", "1", "--requests", "2", "--no-ask-first")
    with fake_openai(Script(), certificates.server("good")) as fake:
        unknown = measured(tmp_path, fake.url, *options, code=1)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(folder / "authority.pem"))
        known = measured(tmp_path, fake.url, *options)
    assert unknown.summaries[0].errors == {"tls_failed": 2}
    assert (known.summaries[0].succeeded, known.summaries[0].errors) == (2, {})
    assert len(fake.bodies) == 2
