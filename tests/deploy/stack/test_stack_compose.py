"""compose.yaml: its form, and a first token from what its services run, with this machine in place of Docker.

https://github.com/compose-spec/compose-spec/blob/main/spec.md
"""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from gateway.config.load import load
from gateway.config.settings import Settings
from tests.deploy.stack.containers import environment, exit_code, free_port, running
from tests.deploy.stack.dockerfile import ROOT, Build, Stage
from tests.support.redis_server import running_redis

COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DURATION = re.compile(r"(\d+)s")
# The part of the specification's schema that is used, each attribute with what it must look like.
ATTRIBUTES: dict[str, type | tuple[type, ...]] = {
    "build": dict, "cap_drop": list, "command": list, "depends_on": dict, "environment": dict, "healthcheck": dict,
    "image": str, "init": bool, "mem_limit": str, "pids_limit": int, "ports": list, "read_only": bool, "restart": str,
    "security_opt": list, "stop_grace_period": str, "tmpfs": list, "user": str, "volumes": list,
}  # fmt: skip
HEALTHCHECK = {"test": list, "interval": str, "timeout": str, "retries": int, "start_period": str}


def test_the_file_holds_what_the_specification_knows() -> None:
    assert set(COMPOSE) == {"name", "services", "volumes", "x-hardened"}
    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]*", COMPOSE["name"])
    for service in SERVICES.values():
        assert {name for name, value in service.items() if not isinstance(value, ATTRIBUTES.get(name, ()))} == set()
        check = service["healthcheck"]
        assert {name for name, value in check.items() if not isinstance(value, HEALTHCHECK.get(name, ()))} == set()
        assert check["test"][0] == "CMD"
        assert all(isinstance(word, str) for word in [*check["test"], *service.get("command", [])])
        assert all(isinstance(value, str) for value in service.get("environment", {}).values())
        assert all(DURATION.fullmatch(check[name]) for name in ("interval", "timeout"))
        assert set(service.get("depends_on", {})) <= set(SERVICES)


@pytest.mark.parametrize("name", ["gateway", "redis", "sagemaker"])
def test_every_service_may_do_little(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert service.get("user") != "root"
    assert not {"privileged", "network_mode", "pid", "cap_add", "devices"} & set(service)


def test_what_is_mounted_and_built_exists(dockerfile: dict[str, Stage]) -> None:
    for service in SERVICES.values():
        if "build" in service:
            assert (service["build"]["context"], service["build"]["target"] in dockerfile) == (".", True)
        for volume in service.get("volumes", []):
            source, target, *_ = volume.split(":")
            assert target.startswith("/")
            assert (ROOT / source).exists() if source.startswith(".") else source in COMPOSE["volumes"]


def test_only_this_machine_reaches_the_gateway_and_nobody_the_others() -> None:
    assert SERVICES["gateway"]["ports"] == ["127.0.0.1:8080:8080"]
    assert "ports" not in SERVICES["redis"] | SERVICES["sagemaker"]


def test_the_gateway_has_more_time_to_stop_than_it_takes() -> None:
    assert SERVICES["gateway"]["stop_grace_period"] == "40s"
    assert Settings.model_fields["drain_timeout_s"].default < 40 - 5


def test_the_variables_are_settings_and_the_file_is_a_configuration() -> None:
    variables = SERVICES["gateway"]["environment"]
    source = SERVICES["gateway"]["volumes"][0].partition(":")[0]
    loaded = load(ROOT / source, variables)
    assert loaded.settings.redis_url == "redis://redis:6379/0"
    assert {deployment.endpoint for model in loaded.models for deployment in model.deployments} == {
        word.partition("=")[0] for word in SERVICES["sagemaker"]["command"] if "=" in word
    }


def test_what_the_services_run_gives_a_first_token(image: Build, dockerfile: dict[str, Stage], tmp_path: Path) -> None:
    bin_ = image.folder / "opt/lmi-gateway/bin"
    local = Build(tmp_path, dockerfile["local-sagemaker"])
    ports = {"sagemaker": free_port(), "gateway": free_port()}
    base = dockerfile["base"]
    entry = dockerfile["local-sagemaker"].last("ENTRYPOINT").exec_form()
    assert entry[entry.index("--port") + 1] == "8100"
    entry[entry.index("--port") + 1] = str(ports["sagemaker"])
    entry[0] = str(bin_ / entry[0])
    alone = environment(image, [base], PYTHONPATH=str(local.folder / "opt/lmi-gateway/app"), HOME=str(tmp_path))
    with (
        running_redis() as redis,
        running([*entry, *SERVICES["sagemaker"]["command"]], alone, tmp_path / "sagemaker", "ready"),
    ):
        assert exit_code(probe("sagemaker", ports, bin_), alone) == 0
        where = {"http://sagemaker:8100": f"http://127.0.0.1:{ports['sagemaker']}", "redis://redis:6379/0": redis.url}
        given = {name: where.get(value, value) for name, value in SERVICES["gateway"]["environment"].items()}
        variables = environment(
            image,
            [base, dockerfile["gateway"]],
            **given,
            LMI_GATEWAY_PORT=str(ports["gateway"]),
            LMI_GATEWAY_CONFIG=str(ROOT / SERVICES["gateway"]["volumes"][0].partition(":")[0]),
            HOME=str(tmp_path),
            TMPDIR=str(tmp_path),
        )
        with running([str(bin_ / "lmi-gateway"), "serve"], variables, tmp_path / "gateway", "listening"):
            assert exit_code(probe("gateway", ports, bin_), variables) == 0
            key = subprocess.check_output(
                [bin_ / "lmi-gateway", "keys", "create", "--id", "me"], env=variables, text=True, timeout=60
            ).strip()
            answers = {model: first_event(ports["gateway"], key, model) for model in ("demo-lmi", "demo-vllm")}
    assert {model: (answer["object"], answer["model"]) for model, answer in answers.items()} == {
        "demo-lmi": ("chat.completion.chunk", "demo-lmi"),
        "demo-vllm": ("chat.completion.chunk", "demo-vllm"),
    }


def probe(name: str, ports: dict[str, int], bin_: Path) -> list[str]:
    """Return a service's health check, for where it listens here."""
    _, program, *words = SERVICES[name]["healthcheck"]["test"]
    return [str(bin_ / program), *(word.replace("8100", str(ports["sagemaker"])) for word in words)]


def first_event(port: int, key: str, model: str) -> dict[str, Any]:
    body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "stream": True, "max_tokens": 4}
    with httpx.stream(
        "POST",
        f"http://127.0.0.1:{port}/v1/chat/completions",
        json=body,
        headers={"authorization": f"Bearer {key}"},
        timeout=20,
    ) as reply:
        assert reply.status_code == 200, reply.read()
        found: dict[str, Any] = json.loads(next(reply.iter_lines()).removeprefix("data: "))
        return found
