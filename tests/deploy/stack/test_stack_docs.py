"""The pages that tell how to run it: their commands, names and numbers are those of the files they tell of."""

from __future__ import annotations

import re
import subprocess

import pytest
import yaml

from deploy.stack.image import AWS_SERVICES, NEVER_IMPORTED
from tests.deploy.stack.dockerfile import ROOT, Build, Stage, size_of
from tests.deploy.stack.template import Template
from tests.deploy.stack.test_stack_cloudformation import GIVEN, TEMPLATE
from tests.deploy.stack.test_stack_kubernetes import RELEASES
from tests.docs.pictures import complaints
from tests.docs.reading import page

PAGES = ["run-docker.md", "run-ecs.md", "run-kubernetes.md", "run-systemd.md"]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)


def words(name: str) -> str:
    return " ".join(page(name).split())


@pytest.mark.parametrize("name", PAGES)
def test_every_command_is_one_a_shell_understands(name: str) -> None:
    scripts = [body for _, language, body in FENCE.findall(page(name)) if language == "sh"]
    assert scripts
    for script in scripts:
        done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", PAGES)
def test_every_page_leads_to_a_first_token_and_says_what_was_not_tried(name: str) -> None:
    headings = re.findall(r"^## (.+)$", page(name), re.MULTILINE)
    assert headings[-1] == "What was not tried"
    assert "/v1/chat/completions" in page(name)
    assert f"(docs/{name})" in (ROOT / "README.md").read_text()


@pytest.mark.parametrize("name", PAGES)
def test_files_named_in_commands_exist(name: str) -> None:
    named = re.findall(r"(?<![\w/])(deploy/stack/[\w./-]+\w)", page(name))
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_the_stack_is_made_with_parameters_it_has_and_all_it_must_have() -> None:
    declared = Template(TEMPLATE, **GIVEN).text["Parameters"]
    command = next(body for _, _, body in FENCE.findall(page("run-ecs.md")) if "--parameter-overrides" in body)
    given = set(re.findall(r"(\w+)=", command.partition("--parameter-overrides")[2]))
    assert given <= set(declared)
    assert {name for name, each in declared.items() if "Default" not in each} <= given


def test_the_times_of_the_ecs_page_are_the_templates() -> None:
    template = Template(TEMPLATE, **GIVEN)
    rows = {
        name: float(seconds)
        for name, seconds in re.findall(r"^\| [^|]*?([`\w ]+)\S* \| (\d+) \|", page("run-ecs.md"), re.MULTILINE)
    }
    balancer = {each["Key"]: each["Value"] for each in template.resources["Balancer"]["LoadBalancerAttributes"]}
    targets = {each["Key"]: each["Value"] for each in template.resources["Targets"]["TargetGroupAttributes"]}
    assert list(rows.values()) == [
        float(balancer["idle_timeout.timeout_seconds"]),
        3600.0,
        float(targets["deregistration_delay.timeout_seconds"]),
        float(template.text["Parameters"]["DrainSeconds"]["Default"]),
        120.0,
    ]
    assert "A stream longer than 400 seconds" in words("run-ecs.md")


def test_the_numbers_of_the_other_pages() -> None:
    manifest = yaml.safe_load((ROOT / "deploy/stack/kubernetes/base/deployment.yaml").read_text())
    kubernetes = words("run-kubernetes.md")
    assert (
        f"`terminationGracePeriodSeconds` is {manifest['spec']['template']['spec']['terminationGracePeriodSeconds']}"
        in (kubernetes)
    )
    assert f"Kubernetes {RELEASES[0]} to {RELEASES[-1]}" in kubernetes
    unit = (ROOT / "deploy/stack/systemd/lmi-gateway.service").read_text()
    stop_s = re.search(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert stop_s
    assert f"`TimeoutStopSec`, {stop_s[1]}" in words("run-systemd.md")


def test_the_image_is_as_large_as_its_page_says(image: Build) -> None:
    said = re.search(r"\| Size \| (\d+) MB", page("run-docker.md"))
    assert said
    assert abs(size_of(image.folder / "opt") / 1e6 - float(said[1])) < 4
    assert (len(AWS_SERVICES), len(NEVER_IMPORTED)) == (7, 7)
    assert "but the seven that credentials come from or usage may go to" in words("run-docker.md")
    assert "seven libraries that Litestar asks for" in words("run-docker.md")


def test_every_build_argument_is_told(dockerfile: dict[str, Stage]) -> None:
    text = (ROOT / "Dockerfile").read_text()
    declared = dict(re.findall(r"^ARG (\w+)=(\S+)$", text, re.MULTILINE))
    told = dict(re.findall(r"^\| `([A-Z_]+)` \| .*?`([\w:.-]+)`", page("run-docker.md"), re.MULTILINE))
    told["BUILD_IMAGE"] = declared["BUILD_IMAGE"] if "`python:3.11-bookworm`" in page("run-docker.md") else ""
    assert told == declared | {"TRACING": "true"}
    assert dockerfile["build"].all("ARG") == ["TRACING=false"]


def test_the_picture_can_be_read_in_light_and_dark_and_by_ear() -> None:
    assert complaints("ecs.svg") == []
    assert "](images/ecs.svg)" in page("run-ecs.md")
