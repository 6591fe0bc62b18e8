"""docs/manifest.md and docs/models.md: their tables are those that the code makes, and their examples are taken."""

from __future__ import annotations

import re

import pytest

from deploy.manifest import parse
from deploy.manifestfile import ManifestError
from deploy.reference import PAGES, with_tables
from tests.docs.reading import page


@pytest.mark.parametrize("name", PAGES)
def test_every_table_is_what_the_code_makes(name: str) -> None:
    assert page(name) == with_tables(page(name))


def test_every_section_and_key_is_told_what_it_means() -> None:
    rows = [line for line in page("manifest.md").splitlines() if line.startswith("| `")]
    assert len(rows) > 100
    assert [row for row in rows if row.endswith("|  |")] == []


def test_the_example_is_a_manifest() -> None:
    found = re.search(r"```yaml\n(name: .*?)```", page("manifest.md"), re.DOTALL)
    assert found

    assert parse(found[1].encode(), "llama.yaml").name == "llama-3-3-70b"


def test_the_messages_are_those_that_are_told() -> None:
    found = re.search(r"```yaml\n(name: .*?)```", page("manifest.md"), re.DOTALL)
    assert found
    told = re.findall(r"^llama\.yaml:.*$", page("manifest.md"), re.MULTILINE)

    def problems(text: str) -> list[str]:
        with pytest.raises(ManifestError) as refused:
            parse(text.encode(), "llama.yaml")
        return [str(problem) for problem in refused.value.problems]

    assert problems(found[1].replace("max_model_len", "max_modle_len")) == told[:1]
    assert problems(found[1].replace("2400", "7200")) == told[1:]
