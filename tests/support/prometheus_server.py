"""A Prometheus of a test's own: on a free port of this machine, with its data in a folder that goes with it."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

from tests.support.processes import until

WAIT_S = 30.0


def program(name: str) -> str:
    """Return where `prometheus` or `promtool` is."""
    found = shutil.which(name)
    assert found, f"{name} is missing: scripts/system.sh installs it"
    return found


class Prometheus:
    """A running Prometheus."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, trust_env=False, timeout=WAIT_S)

    def close(self) -> None:
        self._client.close()

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the samples that an expression has now.

        Raises:
            AssertionError: Prometheus does not take it.
        """
        answer = self._client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", answer
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def targets(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._client.get("/api/v1/targets").json()["data"]["activeTargets"]
        return found

    def ready(self) -> bool:
        with contextlib.suppress(httpx.TransportError):
            return self._client.get("/-/ready").status_code == 200
        return False


@contextlib.contextmanager
def running_prometheus(jobs: Sequence[Mapping[str, Any]], rules: Sequence[Path] = ()) -> Iterator[Prometheus]:
    """Run one that scrapes five times a second; `jobs` as in `scrape_configs`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    often = {"scrape_interval": "200ms", "scrape_timeout": "200ms", "evaluation_interval": "200ms"}
    with tempfile.TemporaryDirectory(prefix="prometheus-") as folder:
        config = {"global": often, "rule_files": [str(path) for path in rules], "scrape_configs": list(jobs)}
        Path(folder, "prometheus.yml").write_text(json.dumps(config))  # JSON is YAML
        process = subprocess.Popen(
            [
                program("prometheus"),
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address={address}",
                "--log.level=error",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        server = Prometheus(f"http://{address}")
        try:
            assert until(lambda: process.poll() is not None or server.ready(), WAIT_S)
            assert process.poll() is None, "prometheus ended at once"
            yield server
        finally:
            server.close()
            process.terminate()
            process.wait(WAIT_S)
