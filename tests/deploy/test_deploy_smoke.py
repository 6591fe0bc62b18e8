"""The call at the end of an apply, and the command of the gateway that makes it, against the local SageMaker."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.aws import Aws
from deploy.smoke import through_boto3
from tests.deploy.deploy_cloud import COMPONENTS, MANIFEST, Cloud

KEYS = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
}
MODELS = """\
models:
  - name: demo
    aliases: [other]
    deployments: [{endpoint: chat, region: us-east-1, container: lmi, version: 27}]
"""


@pytest.fixture(scope="module")
def runtime() -> Iterator[str]:
    """Give the URL of a SageMaker Runtime with an endpoint called chat."""
    command = [sys.executable, "-m", "deploy.local", "--endpoint", "chat=lmi27", "--first-token-delay", "0"]
    with subprocess.Popen([*command, "--token-delay", "0"], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = next(match[0] for line in process.stdout if (match := re.search(r"http://127\.0\.0\.1:\d+", line)))
        yield url
        process.terminate()


def call(folder: Path, url: str, *options: str, models: str = MODELS) -> subprocess.CompletedProcess[str]:
    (folder / "gateway.yaml").write_text(models)
    command = [sys.executable, "-m", "gateway", "call", "--config", str(folder / "gateway.yaml"), *options]
    environ = {**os.environ, **KEYS, "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": url}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environ, check=False)


def test_a_call_prints_the_answer_its_first_tokens_time_and_the_deployment(tmp_path: Path, runtime: str) -> None:
    done = call(tmp_path, runtime, "--model", "other", "--max-tokens", "8", "Say hello.")
    assert done.returncode == 0, done
    assert done.stdout.strip()
    assert re.fullmatch(r"first token after \d+\.\d{3} s, \d+\.\d{3} s in all, from chat\S*\n", done.stderr), done


def test_a_call_in_json_says_the_same(tmp_path: Path, runtime: str) -> None:
    told = json.loads(call(tmp_path, runtime, "--json", "Say hello.").stdout)
    assert told["ok"] is True
    assert told["text"]
    assert told["finish_reason"] in ("stop", "length")
    assert 0 < told["first_token_s"] <= told["seconds"]


@pytest.mark.parametrize(
    ("models", "options", "words"),
    [
        pytest.param(MODELS.replace(": chat", ": gone"), (), "upstream_misconfigured", id="no such endpoint"),
        pytest.param(MODELS, ("--model", "none"), "model_not_found", id="no such model"),
        pytest.param("models: []\n", (), "models", id="no model at all"),
    ],
)
def test_a_call_that_fails_says_why(
    tmp_path: Path, runtime: str, models: str, options: tuple[str, ...], words: str
) -> None:
    done = call(tmp_path, runtime, *options, "hello", models=models)
    assert done.returncode == 1
    assert words in done.stderr.lower(), done
    assert "Traceback" not in done.stderr


def test_an_apply_ends_with_a_call_through_the_gateway(cloud: Cloud, runtime: str) -> None:
    ran = cloud.run(MANIFEST, "apply", "--yes", "--poll", "0", AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=runtime)
    assert ran.code == 0, ran
    assert re.search(r"making a call to it\n.+\nfirst token after \d+\.\d{3} s", ran.err, re.DOTALL), ran


def test_without_the_gateway_boto3_makes_the_call(runtime: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME", runtime)
    told = json.loads(through_boto3(Aws("us-east-1"), "chat", ""))
    assert told["choices"][0]["message"]["content"]


def test_an_apply_whose_call_fails_says_so(cloud: Cloud, runtime: str) -> None:
    renamed = MANIFEST.replace("name: chat", "name: absent")
    ran = cloud.run(renamed, "apply", "--yes", "--poll", "0", AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=runtime)
    assert ran.code == 1
    assert "the smoke call failed" in ran.err
    assert cloud.edge.sagemaker.names("endpoint") == ["absent"]


def test_a_component_without_a_copy_is_not_called(cloud: Cloud, runtime: str) -> None:
    alone = COMPONENTS[: COMPONENTS.index("  - name: shared-large")].replace(
        "accelerators: 1", "accelerators: 1\n    copies: 0"
    )
    ran = cloud.run(alone, "apply", "--yes", "--poll", "0", AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME=runtime)
    assert ran.code == 0, ran
    assert "no call to shared-small, which has no copy now" in ran.err
