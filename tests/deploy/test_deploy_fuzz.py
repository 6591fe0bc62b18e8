"""Manifests at random: refused in words, or taken; never an error of Python's, and what is taken can be planned."""

from __future__ import annotations

import contextlib
import copy
import random
from typing import Any

import pytest
import yaml

from deploy import options
from deploy.desired import desired
from deploy.export import export
from deploy.importing import Imported
from deploy.importing_environment import sections
from deploy.manifest import parse
from deploy.manifestfile import ManifestError
from deploy.options import lmi, tgi
from deploy.resources import canonical
from deploy.sections import Container
from tests.deploy.manifests import LEAST, REGION
from tests.deploy.test_deploy_desired import EVERYTHING, SLEEPY

TOKEN = "hf_aaaaaaaaaaaaaaaaaaaaaaaa"
TEXTS = [
    None,
    "",
    "x",
    " ",
    "no",
    "0.10",
    "-1",
    "1e9",
    "9" * 21,
    "[",
    "é",
    "s3://",
    "a/b/c",
    "a\nb",
    "\x7f",
    "{}",
    TOKEN,
]
ODD: list[Any] = [*TEXTS, [], {}, [None], {"": ""}, {"x": None}, [[[]]], True, 0, 1, 8.5, -3]
OTHERS = [{**LEAST, "container": {"kind": kind, "version": of}} for kind, of in (("vllm", "0.25"), ("tgi", "3.3"))]
BASES = [LEAST, EVERYTHING, SLEEPY, *OTHERS]


def places(value: Any, loc: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [loc] if loc else []
    if isinstance(value, dict | list):
        for step, child in value.items() if isinstance(value, dict) else enumerate(value):
            found += places(child, (*loc, step))
    return found


def changed(base: dict[str, Any], chance: random.Random) -> dict[str, Any]:
    values = copy.deepcopy(base)
    for _ in range(chance.randint(1, 3)):
        loc = chance.choice(places(values))
        parent: Any = values
        for step in loc[:-1]:
            parent = parent[step]
        what = chance.random()
        if what < 0.2 and isinstance(parent, dict):
            del parent[loc[-1]]
        elif what < 0.3 and isinstance(parent, dict):
            parent[str(loc[-1])[:-1] or "x"] = parent.pop(loc[-1])
        else:
            parent[loc[-1]] = copy.deepcopy(chance.choice(ODD))
        if not values:
            break
    return values


@pytest.mark.parametrize("seed", range(20))
def test_random_manifests(seed: int) -> None:
    chance = random.Random(seed)
    for base in BASES:
        for _ in range(12):
            values = changed(base, chance)
            text = yaml.safe_dump(values, allow_unicode=True)
            try:
                made = parse(text.encode(), "chat.yaml")
            except ManifestError as error:
                refused = [str(problem) for problem in error.problems]
            else:
                refused = []
                assert canonical([one.spec for one in desired(made, REGION).resources])
                assert export(made, REGION)
            assert [words for words in refused if "\n" in words or TOKEN in words] == [], text


NAMES = [*lmi.OPTIONS, *options.vllm_arguments("engine"), *tgi.ARGUMENTS, "nonsense"]
SAID = [
    "true",
    "False",
    "8",
    "0.90",
    "1e3",
    "",
    "text",
    "a=1,b=2",
    '{"image": 2}',
    "[1, 2]",
    "{broken",
    "none",
    "7k",
    TOKEN,
]


def environment(chance: random.Random) -> dict[str, str]:
    starts = ["OPTION_", "SM_VLLM_", "SERVING_", "HF_", ""]
    made = {
        chance.choice(starts) + chance.choice(NAMES).upper(): chance.choice(SAID) for _ in range(chance.randint(0, 12))
    }
    return {"HF_MODEL_ID": chance.choice(["Qwen/QwQ-32B", "s3://bucket/a", "s3://bucket/a.tar.gz"]), **made}


class TooManyGpus(Exception):
    """The machine that was made up for an environment has too few."""


def taken(text: str) -> None:
    try:
        parse(text.encode(), "imported.yaml")
    except ManifestError as error:
        if all(problem.message.endswith("GPUs there are") for problem in error.problems):
            raise TooManyGpus from None
        raise


@pytest.mark.parametrize("seed", range(20))
def test_random_environments_become_manifests_that_are_right(seed: int) -> None:
    chance = random.Random(seed)
    for kind, version in (("lmi", "15"), ("lmi", "28"), ("vllm", "0.25"), ("tgi", "3.3.4")):
        for _ in range(12):
            container = Container.model_validate({"kind": kind, "version": version})
            given = environment(chance)
            older = chance.choice([None, 14]) if kind == "lmi" else None
            values = {**LEAST, **sections(container, given, None, {}, older).as_dict()}
            values["container"] = {"kind": kind, "version": version}

            text = Imported(values, ()).text()

            assert TOKEN not in text
            with contextlib.suppress(TooManyGpus):
                taken(text)
