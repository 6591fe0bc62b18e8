"""docs/bench.md: its options, columns, kinds of failures and numbers are those of the code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from click import Command

from deploy.bench import amounts, cli, loops, summary
from deploy.bench.records import COLUMNS
from deploy.bench.runfile import SCHEMA

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "bench.md").read_text(encoding="utf-8")


def section(name: str) -> str:
    found = re.search(rf"<!-- {name} -->(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert found, name
    return found[1]


def options(command: Command) -> set[str]:
    return {
        name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts) if "-" in name
    }


def test_every_option_is_in_the_tables_and_no_other() -> None:
    rows = [line.split("|")[1] for line in section("options").splitlines() if line.startswith("| `")]
    assert set(re.findall(r"`(--[\w-]+)`", " ".join(rows))) == options(cli.run) | options(cli.report)


@pytest.mark.parametrize(
    "name",
    [
        "api_key_env",
        "container",
        "api",
        "arrivals",
        "warmup",
        "ramp",
        "input_tokens",
        "image_size",
        "seed",
        "processes",
    ],
)
def test_a_default_is_as_documented(name: str) -> None:
    (parameter,) = (parameter for parameter in cli.run.params if parameter.name == name)
    option = next(opt for opt in parameter.opts if opt.startswith("--"))
    rows = [line.split("|") for line in section("options").splitlines() if line.startswith("| `")]
    (row,) = (row for row in rows if f"`{option}`" in row[1])
    assert str(parameter.default) in row[2]


def test_every_column_is_described_in_order() -> None:
    rows = [line.split("|")[1] for line in section("columns").splitlines() if line.startswith("| `")]
    assert tuple(re.findall(r"`(\w+)`", " ".join(rows))) == COLUMNS


def test_every_kind_of_failure_is_described() -> None:
    kinds = set()
    for path in (ROOT / "deploy" / "bench").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                kinds |= set(
                    re.findall(r"^((?:malformed|timeout|stream|connect|connection|tls)_\w+|oversized)$", node.value)
                )
    kinds -= {"stream_options"}
    assert len(kinds) > 8
    assert sorted(kind for kind in kinds if f"`{kind}`" not in PAGE and not kind.endswith("_s")) == []


def test_numbers_and_names_are_those_of_the_code() -> None:
    assert f"`{SCHEMA}`" in PAGE
    assert f"Above {summary.CPU_LIMIT:.0%} of a core, or {summary.LATE_LIMIT_S * 1000:.0f} ms" in PAGE
    assert f"waits {loops.FAILED_PAUSE_S * 1000:.0f} ms before its next one" in PAGE
    assert all(f"`{name}" in PAGE for name in amounts.SLO_NAMES)
