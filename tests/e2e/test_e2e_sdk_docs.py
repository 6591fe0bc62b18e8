"""The programs in docs/clients.md, run as they stand there, and the versions it names."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tests.support.full_stack import Stack
from tests.support.sdks import CLIENTS, ROOT, Ran, python_path, run, run_node, run_python, why_not_node
from tests.support.stack import KEY

PAGE = (ROOT / "docs" / "clients.md").read_text()
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SECTIONS = {
    section.partition("\n")[0]: dict(BLOCK.findall(section))
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]
}
"""Heading → language → program."""
GREETING = "Hello! How can I help you today?"
PYTHON = {
    "openai": ("sdks", GREETING),
    "LangChain": ("sdks", GREETING),
    "LlamaIndex": ("sdks-openai2", GREETING),
    "Pydantic AI": ("sdks", GREETING),
    "Instructor": ("sdks-instructor", "city='Rome' degrees=21"),
    "LiteLLM": ("sdks-openai2", GREETING),
    "huggingface_hub": ("sdks", GREETING),
}
NODE = ["openai for Node", "AI SDK"]
VERSIONS = {
    "openai": ("requirements-dev.lock", "openai", "requirements-openai1.lock", "openai"),
    "openai for Node": ("node", "openai", "node", "openai-6"),
    "AI SDK": ("node", "ai", "node", "@ai-sdk/openai-compatible", "node", "@ai-sdk/openai"),
    "LangChain": ("requirements-sdks.lock", "langchain-openai"),
    "LlamaIndex": ("requirements-sdks-openai2.lock", "llama-index-llms-openai-like"),
    "Pydantic AI": ("requirements-sdks.lock", "pydantic-ai-slim"),
    "Instructor": ("requirements-sdks-instructor.lock", "instructor"),
    "LiteLLM": ("requirements-sdks-openai2.lock", "litellm"),
    "huggingface_hub": ("requirements-sdks.lock", "huggingface-hub"),
    "llm": ("requirements-sdks.lock", "llm"),
}
"""Heading → lock file and package of each version that its row in the table names."""


def adapted(program: str, stack: Stack) -> str:
    """Return a program with what is a reader's own made the tests' own."""
    for written, own in (
        ("http://127.0.0.1:8080/v1", stack.gateway.base_url),
        ("sk-lmi-…", KEY),
        ("llama-3.3-70b", "lmi27"),
    ):
        program = program.replace(written, own)
    return program


def answered(ran: Ran) -> str:
    assert (ran.exit_code, ran.refused) == (0, []), ran.errors[-4000:]
    return ran.printed.strip()


@pytest.mark.parametrize("heading", PYTHON)
def test_a_program_in_python_answers(stack: Stack, tmp_path: Path, heading: str) -> None:
    folder, said = PYTHON[heading]
    program = adapted(SECTIONS[heading]["python"], stack)
    assert answered(run_python(["-c", program], folder, tmp_path, {})) == said


@pytest.mark.skipif(why_not_node() != "", reason=why_not_node())
@pytest.mark.parametrize("heading", NODE)
def test_a_program_for_node_answers(stack: Stack, tmp_path: Path, heading: str) -> None:
    (tmp_path / "program.mjs").write_text(adapted(SECTIONS[heading]["js"], stack))
    assert answered(run_node(["program.mjs"], tmp_path, {})) == GREETING


def test_the_command_answers(stack: Stack, tmp_path: Path) -> None:
    (tmp_path / "extra-openai-models.yaml").write_text(adapted(SECTIONS["llm"]["yaml"], stack))
    commands = adapted(SECTIONS["llm"]["sh"], stack)
    assert answered(run(["bash", "-euc", commands], tmp_path, python_path("sdks"), cwd=tmp_path)) == GREETING


def test_every_program_is_run() -> None:
    languages = {heading: tuple(sorted(blocks)) for heading, blocks in SECTIONS.items()}
    assert languages == dict.fromkeys(PYTHON, ("python",)) | dict.fromkeys(NODE, ("js",)) | {"llm": ("sh", "yaml")}


@pytest.mark.parametrize("heading", SECTIONS)
def test_the_versions_told_are_those_tested(heading: str) -> None:
    anchor = heading.lower().replace(" ", "-")
    (told,) = re.findall(rf"^\| \[[^]]+\]\(#{anchor}\).*\| ([^|]+) \|$", PAGE, re.MULTILINE)
    sources = VERSIONS[heading]
    locked = [locked_version(lock, package) for lock, package in zip(sources[::2], sources[1::2], strict=True)]
    assert told.split(", ") == [".".join(version.split(".")[:2]) for version in locked]


def locked_version(lock: str, package: str) -> str:
    if lock == "node":
        packages = json.loads((CLIENTS / "package-lock.json").read_text())["packages"]
        return str(packages[f"node_modules/{package}"]["version"])
    (version,) = re.findall(rf"^{re.escape(package)}==(\S+)", (ROOT / lock).read_text(), re.MULTILINE)
    return str(version)
