"""docs/compatibility.md has every field, as the adapters treat it, and says nothing that no longer holds."""

from __future__ import annotations

import re

import pytest

from adapters.base import Surface
from adapters.drift.table import Does
from adapters.openai import fields
from tests.docs import compatibility
from tests.docs.reading import page, table
from tests.docs.tables import renewed

PAGE = page("compatibility.md")
WORDS = " ".join(PAGE.split())


def test_the_tables_are_current() -> None:
    assert renewed("compatibility.md") == PAGE, "run `python -m tests.docs.tables`"


@pytest.mark.parametrize("title", compatibility.sections())
def test_every_section_has_a_heading_and_its_table(title: str) -> None:
    assert f"## {title}\n" in PAGE
    assert table(PAGE, compatibility.slug(title))


@pytest.mark.parametrize("surface", [Surface.CHAT, Surface.COMPLETIONS])
def test_every_known_field_is_in_some_row(surface: Surface) -> None:
    other = "of completions" if surface is Surface.CHAT else "of chats"
    first_cells = [row[0] for title in compatibility.sections() for row in table(PAGE, compatibility.slug(title))]
    named = {name for cell in first_cells if other not in cell for name in re.findall(r"`(\w+)`", cell)}
    assert fields.KNOWN[surface] <= named


@pytest.mark.parametrize("row", [
    "| `guided_json` | passed | passed | passed | renamed (`structured_outputs.json`) |",
    "| `parallel_tool_calls` of chats | passed (`false` refused) | passed |",
    "| `thinking_token_budget` of chats | refused | refused | refused | passed | passed | passed | passed |",
    "| Field | vLLM 0.8 to 0.11 (LMI 15 to 17) | vLLM 0.12 on (LMI 18 to 28) |",
    "| number of a named tool call, several choices | 0 | 0 | 0 | as it is |",
])  # fmt: skip
def test_rows_read_like_this(row: str) -> None:
    assert row in PAGE.splitlines()


def test_every_word_of_the_tables_is_explained() -> None:
    explained = re.search(r"\| Word \| Means \|.*?\n\n", PAGE, re.DOTALL)
    assert explained
    assert re.findall(r"^\| (\w+) \|", explained[0].partition("---")[2], re.MULTILINE) == [does.value for does in Does]


def test_the_mends_that_the_page_counts_are_those_of_the_code() -> None:
    assert "In five places vLLM breaks OpenAI's schema" in WORDS
    for name in ("annotations", "function_call", "prompt_tokens_details", "completion_tokens_details", "refusal"):
        assert f"`{name}`" in WORDS
