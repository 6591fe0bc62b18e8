"""The README's own configuration and program, run as they stand there."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from deploy.local.engine import build
from tests.support.stack import KEY, Gateway, digest, running_gateway, running_local

README = (Path(__file__).parent.parent.parent / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def configuration() -> dict[str, Any]:
    (text,) = [block for block in blocks("yaml") if block.startswith("# gateway.yaml")]
    loaded: dict[str, Any] = yaml.safe_load(text)
    return loaded


@pytest.fixture(scope="module")
def readme_gateway(configuration: dict[str, Any]) -> Iterator[Gateway]:
    """The README's gateway: only the key is the tests' own, and SageMaker is this machine."""
    endpoints = {
        deployment["endpoint"]: build(f"{deployment['container']}{deployment['version']}")
        for model in configuration["models"]
        for deployment in model["deployments"]
    }
    keys = [{**key, "digest": digest(KEY)} for key in configuration["keys"]]
    with running_local(endpoints) as local:
        settings = {"port": 0, "sagemaker_endpoint_url": local.url}
        with running_gateway({**configuration, "keys": keys, "settings": settings}) as gateway:
            yield gateway


def test_the_program_prints_an_answer(readme_gateway: Gateway) -> None:
    (program,) = blocks("python")
    program, urls = re.subn(r"http://127\.0\.0\.1:\d+/v1", readme_gateway.base_url, program)
    program, keys = re.subn(r"sk-lmi-…", KEY, program)
    assert (urls, keys) == (1, 1)
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        exec(compile(program, "README.md", "exec"), {})
    assert said.getvalue() == "Hello! How can I help you today?"


def test_every_url_is_there(readme_gateway: Gateway) -> None:
    urls = re.findall(r"`(GET|POST) (/[^`]+)`", README)
    assert len(urls) >= 8
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=readme_gateway.url, headers=headers) as client:
        models = [model["id"] for model in client.get("/v1/models").json()["data"]]
        for method, path in urls:
            reply = client.request(method, path.replace("{id}", models[0]), json={} if method == "POST" else None)
            # A call without a model, or a prompt, is refused for what it lacks, not for where it went.
            refused = 400 if path.startswith("/v1/") else 422
            assert reply.status_code == (refused if method == "POST" else 200), path


def test_aliases_are_models_too(readme_gateway: Gateway, configuration: dict[str, Any]) -> None:
    headers = {"authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=readme_gateway.base_url, headers=headers) as client:
        for model in configuration["models"]:
            for name in (model["name"], *model.get("aliases", ())):
                assert client.get(f"/models/{name}").json()["id"] == model["name"]
