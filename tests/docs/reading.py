"""Reads what docs/ says."""

from __future__ import annotations

import re
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs"


def page(name: str) -> str:
    return (DOCS / name).read_text(encoding="utf-8")


def table(text: str, name: str) -> list[list[str]]:
    """Return the rows, without the head, of the table between `<!-- table: NAME -->` and `<!-- end -->`."""
    found = re.search(rf"<!-- table: {name} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    assert found, f"there is no table {name!r}"
    _, _, *lines = found[1].strip().splitlines()
    assert lines
    return [[cell.strip() for cell in line.strip().removeprefix("|").removesuffix("|").split(" | ")] for line in lines]
