"""The tree itself: packages complete, modules short, nothing left over, every local link in the docs alive."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from urllib.parse import unquote

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
PACKAGES = ["adapters", "deploy", "gateway"]
LONGEST_MODULE_LINES = 400
LONGER_ON_PURPOSE: dict[str, str] = {}
"""Path of a module that is longer → why it holds one idea all the same."""

# Each pattern is written so that it does not match itself.
LEFT_OVER = re.compile(r"\b(?:TO[D]O|FIX[M]E|XX[X])\b")
SOMEBODYS_FOLDER = re.compile(r"(?<![\w.\-}])/(?:work|tmp/w|root|home/\w+|Users/\w+)/")

EXEMPTION = re.compile(r"#\s*(?:ty[p]e: ignore|no[q]a)(?P<rest>.*)")
"""A line that a linter or the type checker is told to let pass."""
REASONED = re.compile(r"(?:\[[a-z, -]+\]|: [A-Z]+\d+(?:, ?[A-Z]+\d+)*)\s*[#:,;–—-]+\s*\w.{3,}")

LINK = re.compile(r"(?<!!)\[[^\]\n]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|!\[[^\]\n]*\]\(\s*<?([^)\s>]+)>?[^)]*\)")
FENCE = re.compile(r"^(```|~~~).*?^\1\s*$", re.MULTILINE | re.DOTALL)


@cache
def files() -> list[Path]:
    """Return the paths of all files that are or could be committed; without git, of all that are no cache."""
    try:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
        paths = [Path(name) for name in listed.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        hidden = {".git", ".venv", ".hypothesis", "__pycache__", "build", "dist"}
        paths = [path.relative_to(ROOT) for path in ROOT.rglob("*") if not hidden & set(path.relative_to(ROOT).parts)]
        paths = [path for path in paths if not any(part.endswith("_cache") for part in path.parts)]
    return sorted(path for path in paths if (ROOT / path).is_file())


def modules() -> list[Path]:
    return [path for path in files() if path.suffix == ".py"]


def text_of(path: Path) -> str:
    return (ROOT / path).read_text(encoding="utf-8", errors="replace")


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_ships_its_types(package: str) -> None:
    assert Path(package, "py.typed") in files()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_folder_with_modules_is_a_package(package: str) -> None:
    folders = {path.parent for path in modules() if path.parts[0] == package}
    assert folders
    assert sorted(str(folder) for folder in folders if folder / "__init__.py" not in modules()) == []


def test_no_module_grows_past_the_length_of_one_idea() -> None:
    shipped = [path for path in modules() if path.parts[0] != "tests"]
    longer = {str(path): len(text_of(path).splitlines()) for path in shipped}
    assert {
        name: lines for name, lines in longer.items() if lines > LONGEST_MODULE_LINES and name not in LONGER_ON_PURPOSE
    } == {}
    assert [name for name in LONGER_ON_PURPOSE if longer.get(name, 0) <= LONGEST_MODULE_LINES] == []


@pytest.mark.parametrize(
    "pattern", [pytest.param(LEFT_OVER, id="left over"), pytest.param(SOMEBODYS_FOLDER, id="somebody's folder")]
)
def test_no_file_holds(pattern: re.Pattern[str]) -> None:
    found = [f"{path}: {match[0]}" for path in files() if (match := pattern.search(text_of(path)))]
    assert found == []


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        pytest.param(LEFT_OVER, "# {}DO: later".format("TO"), id="a task"),
        pytest.param(SOMEBODYS_FOLDER, "open('/{}me/ann/models.yaml')".format("ho"), id="a home"),
        pytest.param(SOMEBODYS_FOLDER, "cd /{}ot/lmi-gateway".format("ro"), id="root's home"),
    ],
)
def test_what_no_file_holds_would_be_found(pattern: re.Pattern[str], text: str) -> None:
    assert pattern.search(text)


def test_every_exemption_names_its_rule_and_its_reason() -> None:
    found = [
        f"{path}: {match[0]}"
        for path in modules()
        for match in EXEMPTION.finditer(text_of(path))
        if not REASONED.match(match["rest"])
    ]
    assert found == []


@pytest.mark.parametrize(
    ("rest", "reasoned"),
    [
        pytest.param("", False, id="everything, for no reason"),
        pytest.param("[override]", False, id="no reason"),
        pytest.param("  # as uvicorn has it", False, id="no rule"),
        pytest.param("[override]  # as uvicorn has it", True, id="a type and a reason"),
        pytest.param(": S101 - held from the start", True, id="a rule and a reason"),
        pytest.param(": S101, S311 - made up", True, id="two rules and a reason"),
    ],
)
def test_a_reason_is_told_from_none(rest: str, reasoned: bool) -> None:
    assert bool(REASONED.match(rest)) is reasoned


def test_every_third_party_import_is_a_declared_dependency() -> None:
    project = tomllib.loads(text_of(Path("pyproject.toml")))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    declared = {canonicalize_name(Requirement(line).name) for line in project["dependencies"] + extras}
    distributions = packages_distributions()
    undeclared = {
        f"{path}: {name}"
        for path in modules()
        if path.parts[0] in PACKAGES
        for name in imported(path)
        if name not in sys.stdlib_module_names and name not in PACKAGES
        if not declared & {canonicalize_name(each) for each in distributions.get(name, [])}
    }
    assert sorted(undeclared) == []


def test_every_local_link_in_the_docs_leads_somewhere() -> None:
    documents = [path for path in files() if path.suffix == ".md"]
    assert documents
    assert [f"{path}: {link}" for path in documents for link in dead_links(ROOT / path)] == []


def test_a_dead_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "other.md").write_text("# Other\n\n## The `first` part\n")
    page = tmp_path / "page.md"
    page.write_text(
        "# Page\n[a](other.md) [b](other.md#the-first-part) [c](#page) [d](https://example.com/x) ![e](other.md)\n"
        "[f](gone.md) [g](other.md#gone) [h](#gone) ![i](gone.png)\n```\n[j](gone-too.md)\n```\n"
    )
    assert dead_links(page) == ["gone.md", "other.md#gone", "#gone", "gone.png"]


def test_the_changelog_opens_with_what_is_unreleased() -> None:
    headings = re.findall(r"^## (.+)$", text_of(Path("CHANGELOG.md")), re.MULTILINE)
    assert headings[0] == "Unreleased"


@pytest.mark.parametrize("script", [".ci/run", "scripts/lock.sh", "scripts/venv.sh"])
def test_a_script_can_be_run(script: str) -> None:
    assert os.access(ROOT / script, os.X_OK)


def imported(path: Path) -> set[str]:
    """Return the top-level names a module imports from outside its own package."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(text_of(path))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
            names.add(node.module.partition(".")[0])
    return names


def dead_links(page: Path) -> list[str]:
    """Return the page's links to files or headings that do not exist; links to other sites are not followed."""
    links = [first or second for first, second in LINK.findall(FENCE.sub("", page.read_text()))]
    return [link for link in links if not re.match(r"[a-z]+:", link) and not _leads_somewhere(page, link)]


def _leads_somewhere(page: Path, link: str) -> bool:
    name, _, heading = unquote(link).partition("#")
    target = page.parent / name if name else page
    if not target.exists():
        return False
    return not heading or target.suffix != ".md" or heading in _anchors(target)


def _anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+?)\s*$", FENCE.sub("", page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
