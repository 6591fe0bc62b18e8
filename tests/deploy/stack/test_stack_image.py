"""The Dockerfile: what its commands make, how large it is, and that a gateway runs from it.

Not covered, as it takes Docker: the base image, fetching by pip, and the commands of the stage `base`.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import botocore.session
import httpx
import pytest

from deploy.local import DEMO_KEY
from deploy.local.engine import build as engine
from deploy.stack.image import AWS_SERVICES, NEVER_IMPORTED
from tests.deploy.stack.containers import WAIT_S, environment, exit_code, free_port, running
from tests.deploy.stack.dockerfile import ROOT, Build, Stage, context, locked, size_of, stages
from tests.support.stack import KEY, config, running_local

MAX_UNPACKED_BYTES = 90_000_000
"""Of what is added to the base image, which has about 125 MB of its own."""


def run_stages(dockerfile: dict[str, Stage]) -> list[Stage]:
    return [dockerfile["base"], dockerfile["gateway"]]


def packages(image: Build) -> Path:
    (found,) = image.folder.glob("opt/lmi-gateway/lib/python3*/site-packages")
    return found


def command(stage: Stage) -> list[str]:
    return [*stage.last("ENTRYPOINT").exec_form(), *stage.last("CMD").exec_form()]


def test_the_linter_finds_nothing() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, "--no-color", ROOT / "Dockerfile"], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_exactly_what_the_lock_names_is_installed(image: Build) -> None:
    assert image.installed == {each.name for each in locked(ROOT / "requirements.lock")}
    described = {path.name.partition("-")[0].lower() for path in packages(image).glob("*.dist-info")}
    assert described == {name.replace("-", "_") for name in image.installed - set(NEVER_IMPORTED)}


def test_tracing_adds_what_its_lock_names(dockerfile: dict[str, Stage], tmp_path: Path) -> None:
    installing = Stage("build", "", [step for step in dockerfile["build"].steps if "image.py" not in step.text])
    built = Build(tmp_path, installing, TRACING="true")
    added = {each.name for each in locked(ROOT / "requirements-otel.lock")}
    assert {"opentelemetry-sdk", "opentelemetry-exporter-otlp-proto-http"} <= added
    assert built.installed == added | {each.name for each in locked(ROOT / "requirements.lock")}


def test_the_image_holds_the_gateway_and_the_adapters_and_no_code_but_theirs(image: Build) -> None:
    app = image.folder / "opt/lmi-gateway/app"
    assert sorted(path.name for path in app.iterdir()) == ["adapters", "gateway"]
    found = {path.relative_to(app) for path in app.rglob("*") if path.is_file() and path.suffix != ".pyc"}
    expected = {
        path.relative_to(ROOT)
        for package in ("adapters", "gateway")
        for path in (ROOT / package).rglob("*")
        if path.is_file() and path.suffix != ".pyc"
    }
    assert found == expected
    assert sorted(path.name for path in packages(image).glob("pip*")) == []
    assert {path.parts[0] for path in context((ROOT / ".dockerignore").read_text())} == {
        "adapters", "deploy", "gateway", "requirements-otel.lock", "requirements.lock",
    }  # fmt: skip


def test_the_gateways_stage_copies_from_the_building_stage_only(dockerfile: dict[str, Stage]) -> None:
    assert list(dockerfile)[-1] == "gateway"
    assert dockerfile["gateway"].base == "base"
    assert dockerfile["gateway"].all("COPY") == ["--from=build /opt/lmi-gateway /opt/lmi-gateway"]
    assert dockerfile["base"].all("COPY") == dockerfile["gateway"].all("RUN") == []


def test_it_is_small(image: Build) -> None:
    assert size_of(image.folder / "opt") < MAX_UNPACKED_BYTES


def test_descriptions_of_other_services_are_gone_and_those_in_use_are_there(image: Build) -> None:
    data = packages(image) / "botocore" / "data"
    # `signin` came with a later release of botocore.
    assert {path.name for path in data.iterdir() if path.is_dir()} == AWS_SERVICES - {"signin"}
    assert (data / "endpoints.json").is_file()
    # Credentials and usage: what is left is enough for clients of all of them.
    session = botocore.session.Session({"data_path": ("data_path", None, None, None)})
    session.get_component("data_loader").search_paths[:] = [str(data)]
    for service in ("sts", "sso", "sso-oidc", "sagemaker-runtime", "s3", "firehose"):
        client = session.create_client(
            service, region_name="us-east-1", aws_access_key_id=DEMO_KEY.id, aws_secret_access_key=DEMO_KEY.secret
        )
        assert client.meta.service_model.service_name == service


def test_every_module_is_compiled_as_it_cannot_be_later(image: Build) -> None:
    app = image.folder / "opt/lmi-gateway/app"
    missing = [
        path
        for path in app.rglob("*.py")
        if not (path.parent / "__pycache__" / f"{path.stem}.{sys.implementation.cache_tag}.pyc").is_file()
    ]
    assert missing == []


def test_it_runs_as_nobody_in_particular_and_is_told_to_stop_by_a_signal(dockerfile: dict[str, Stage]) -> None:
    base = dockerfile["base"]
    assert base.last("USER").text == "10001:10001"
    assert base.last("STOPSIGNAL").text == "SIGTERM"
    assert command(dockerfile["gateway"]) == ["lmi-gateway", "serve"]
    assert "USER" not in {step.word for step in dockerfile["gateway"].steps}


@pytest.mark.parametrize("workers", [1, 2])
def test_a_call_is_answered_and_nothing_but_the_temporary_folder_written(
    image: Build, dockerfile: dict[str, Stage], tmp_path: Path, workers: int
) -> None:
    configuration = tmp_path / "gateway.yaml"
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with running_local({"lmi": engine("lmi27"), "vllm": engine("vllm")}) as local:
        text = config(local.url, workers=workers)
        del text["settings"]["port"]  # which the image sets
        configuration.write_text(json.dumps(text))  # JSON is YAML
        variables = environment(
            image,
            run_stages(dockerfile),
            LMI_GATEWAY_CONFIG=str(configuration),
            LMI_GATEWAY_PORT=str(free_port()),
            HOME=str(temporary),
            TMPDIR=str(temporary),
            AWS_ACCESS_KEY_ID="AKIAIOSFODNN7EXAMPLE",
            AWS_SECRET_ACCESS_KEY="wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        )
        assert variables["LMI_GATEWAY_HOST"] == "0.0.0.0"
        before = listed(image.folder)
        url = f"http://127.0.0.1:{variables['LMI_GATEWAY_PORT']}"
        with running(found(command(dockerfile["gateway"]), image), variables, tmp_path / "cwd", "listening") as process:
            assert httpx.get(f"{url}/readyz").status_code == 200
            assert httpx.get(f"{url}/docs").status_code == 200
            assert "gateway_build_info" in httpx.get(f"{url}/metrics").text
            body = {"model": "lmi", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 5}
            reply = httpx.post(f"{url}/v1/chat/completions", json=body, headers={"authorization": f"Bearer {KEY}"})
            assert reply.status_code == 200, reply.text
            check = found(dockerfile["gateway"].last("HEALTHCHECK").exec_form(), image)
            assert exit_code(check, variables) == 0
            assert exit_code([*check, "/readyz"], variables) == 0
            assert exit_code([*check, "/nothing-here"], variables) == 1
            assert bool(list(temporary.glob("lmi-gateway-metrics-*"))) == (workers > 1)
            process.send_signal(signal.SIGTERM)
            assert process.wait(WAIT_S) == 0
        assert exit_code(check, variables) == 1
    assert listed(image.folder) == before
    assert list(temporary.iterdir()) == list((tmp_path / "cwd").glob("*.db")) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--version"], "lmi-gateway 0.1.0", id="version"),
        pytest.param(["check"], "demo-lmi", id="check"),
        pytest.param(["keys", "new", "--id", "me"], "sk-lmi-", id="a new key"),
    ],
)
def test_its_command_takes_every_subcommand(
    image: Build, dockerfile: dict[str, Stage], arguments: list[str], said: str
) -> None:
    configuration = str(ROOT / "deploy/stack/compose/gateway.yaml")
    variables = environment(image, run_stages(dockerfile), LMI_GATEWAY_CONFIG=configuration)
    entry = found(dockerfile["gateway"].last("ENTRYPOINT").exec_form(), image)
    done = subprocess.run([*entry, *arguments], env=variables, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert said in done.stdout


def test_what_litestar_asks_for_and_nothing_imports_is_not_imported(image: Build) -> None:
    absent = [name.replace("-py", "").replace("-", "_") for name in NEVER_IMPORTED]
    program = f"import importlib.util as u; print([n for n in {absent} if u.find_spec(n)])"
    python = image.folder / "opt/lmi-gateway/bin/python"
    assert subprocess.check_output([python, "-P", "-c", program], text=True, timeout=60) == "[]\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("FROM a AS b\nRUN x \\\n  && y\n", [("RUN", "x && y")], id="a continued line"),
        pytest.param("FROM a AS b\n# why\nUSER 1\n", [("USER", "1")], id="a comment"),
        pytest.param("ARG A=1\nFROM a AS b\n", [], id="before every stage"),
    ],
)
def test_the_dockerfile_is_read_as_docker_does(text: str, words: list[tuple[str, str]]) -> None:
    assert [(step.word, step.text) for step in stages(text)["b"].steps] == words


def found(words: list[str], image: Build) -> list[str]:
    """Return a command of the image with its program by its whole path, as PATH would find it there."""
    return [str(image.folder / "opt/lmi-gateway/bin" / words[0]), *words[1:]]


def listed(folder: Path) -> dict[str, int]:
    """Return every file below a folder with the time it was written."""
    return {
        str(Path(root, name)): os.stat(Path(root, name), follow_symlinks=False).st_mtime_ns
        for root, _, names in os.walk(folder)
        for name in names
    }
