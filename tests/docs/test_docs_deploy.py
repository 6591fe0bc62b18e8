"""docs/deploy.md names every command and option of lmi-deploy, and its manifest is one."""

from __future__ import annotations

import re
from pathlib import Path

import click
import yaml

from deploy.cli import main
from deploy.manifest import parse

DOC = (Path(__file__).parents[2] / "docs" / "deploy.md").read_text("utf-8")
ELSEWHERE = {"import"}
"""Its options are in docs/manifest.md."""


def test_every_command_has_a_row() -> None:
    assert set(re.findall(r"^\| `lmi-deploy (\w+) ", DOC, re.MULTILINE)) == set(main.commands)


def test_every_option_has_a_row_and_says_whose_it_is() -> None:
    rows = re.findall(r"^\| `(--[\w-]+)[^`]*` \| ([^|]+) \|", DOC, re.MULTILINE)
    written = {(option, command) for option, commands in rows for command in re.findall(r"`(\w+)`", commands)}
    there = {
        (option.opts[0], name)
        for name, command in main.commands.items()
        if name not in ELSEWHERE
        for option in command.params
        if isinstance(option, click.Option) and option.opts[0] != "--region"
    }
    assert written == there


def test_the_manifest_shown_is_one() -> None:
    (text,) = re.findall(r"# chat\.yaml\n(.*?)```", DOC, re.DOTALL)
    assert parse(yaml.safe_dump(yaml.safe_load(text)).encode(), "deploy.md").name == "chat"
