"""docs/architecture.md: the walk is the one that is walked, and the tree the one that is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

from tests.docs.pictures import complaints
from tests.docs.reading import DOCS, page
from tests.docs.serving import served
from tests.docs.tracing import first_calls

ROOT = DOCS.parent
PAGE = page("architecture.md")
STEP = re.compile(r"`((?:gateway|adapters)/[\w/]+)\.py` · `([\w.]+)`")


def section(name: str) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- end -->", PAGE, re.DOTALL)
    assert found, name
    return found[1]


def steps(walk: str) -> list[str]:
    """Return the functions a walk names, as `module:qualified.name`, in its order."""
    items = re.split(r"^\d+\. ", section(f"walk: {walk}"), flags=re.MULTILINE)[1:]
    assert [item for item in items if not STEP.search(item)] == []
    return [f"{path.replace('/', '.')}:{name}" for item in items for path, name in STEP.findall(item)]


@pytest.mark.parametrize("walk", ["stream", "whole"])
def test_every_step_names_a_function_that_exists(walk: str) -> None:
    for step in steps(walk):
        module, _, name = step.partition(":")
        found: object = importlib.import_module(module)
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found), step


@pytest.mark.parametrize("walk", ["stream", "whole"])
def test_the_steps_are_numbered_in_order(walk: str) -> None:
    numbers = [int(number) for number in re.findall(r"^(\d+)\. ", section(f"walk: {walk}"), re.MULTILINE)]
    assert numbers == list(range(1, len(numbers) + 1))


@pytest.mark.anyio
@pytest.mark.parametrize("walk", ["stream", "whole"])
async def test_a_call_takes_the_steps_in_this_order(monkeypatch: pytest.MonkeyPatch, walk: str) -> None:
    body = {"model": "lmi", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 100}
    async with served(monkeypatch) as gateway:
        with first_calls() as walked:
            response = await gateway.client.post("/v1/chat/completions", json=body | {"stream": walk == "stream"})
    assert response.status_code == 200
    assert [step for step in walked if step in set(steps(walk))] == steps(walk)


def test_the_trace_sees_the_order_of_first_calls() -> None:
    keys = importlib.import_module("gateway.auth.keys")
    with first_calls() as walked:
        keys.digest(b"x")
        keys.is_key("x")
        keys.digest(b"x")
    assert walked == ["gateway.auth.keys:digest", "gateway.auth.keys:is_key"]


def paths_of_tree() -> list[Path]:
    paths: list[Path] = []
    for line in section("tree").splitlines():
        name = re.match(r"( *)([\w./]+)", line)
        if name and not line.startswith("```"):
            paths.append(
                Path(name[2]) if not name[1] else next(p for p in reversed(paths) if len(p.parts) == 1) / name[2]
            )
    return paths


def test_everything_in_the_tree_exists() -> None:
    paths = paths_of_tree()
    assert len(paths) > 20
    assert [str(path) for path in paths if not (ROOT / path).exists()] == []


def test_every_folder_of_the_packages_is_in_the_tree() -> None:
    shown = set(paths_of_tree())
    folders = {
        path.parent.relative_to(ROOT)
        for package in ("gateway", "adapters", "deploy")
        for path in (ROOT / package).glob("*/__init__.py")
    }
    assert sorted(str(folder) for folder in folders - shown) == []


def test_the_picture_can_be_read_in_light_and_dark_and_by_ear() -> None:
    assert complaints("architecture.svg") == []
    assert "](images/architecture.svg)" in PAGE
