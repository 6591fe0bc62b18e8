"""Whatever the bytes and variables: a configuration, or ConfigError with at least one problem on one line each."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.config.kinds import kinds
from gateway.config.load import Config, parse
from gateway.config.lora import Adapter
from gateway.config.media import Media
from gateway.config.models import Deployment, Key, Model, ModelsFile, Timeouts
from gateway.config.problems import ConfigError
from gateway.config.settings import Settings

DOCS = Path(__file__).parents[2] / "docs" / "configuration.md"
EXAMPLE = re.search(r"```yaml\n(.*?)```", DOCS.read_text(encoding="utf-8"), re.DOTALL)
assert EXAMPLE is not None
GOOD = EXAMPLE[1]

SECTIONS = (ModelsFile, Settings, Key, Model, Media, Timeouts, Deployment, Adapter)
KEYS = [name for section in SECTIONS for name in kinds(section)]
SCALARS = (
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.binary(max_size=4) | st.dates()
)
TREES = st.recursive(
    SCALARS | st.sampled_from(["lmi", "us-east-1", "sk-lmi-x", "*", "<<"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(KEYS) | SCALARS.filter(bool), inner, max_size=6)
    ),
    max_leaves=20,
)


def outcome(data: bytes, environ: dict[str, str] | None = None) -> Config | ConfigError:
    found: Config | ConfigError
    try:
        found = parse(data, "gateway.yaml", environ or {})
    except ConfigError as error:
        found = error
    if isinstance(found, ConfigError):
        lines = str(found).split("\n")
        assert found.problems
        assert len(lines) == len(found.problems)
        assert all(line.isprintable() for line in lines)
        places = [problem.line for problem in found.problems if problem.source]
        assert places == sorted(places)
    return found


def test_the_example_of_the_documentation_is_good() -> None:
    assert isinstance(outcome(GOOD.encode()), Config)


@given(st.binary(max_size=200))
@example(b"\xef\xbb\xbf")
@example(b"\xff\xfe\x00")
@example(b'"\\U00110000"')
@example(b'"\\UFFFFFFFF"')
@example(b"%YAML 9.9\n--- {}")
@example(b"%TAG ! \n--- !x")
@example(b"models: !<%ff> x")
@example(b"? ? ? x")
@example(b"{<<: {<<: {<<: [x]}}}")
@example(b"&a {*a : *a}")
@example(b"models: &a [<<: *a]")
def test_bytes(data: bytes) -> None:
    outcome(data)


@given(st.text(alphabet="amodelskyn0123456789: -[]{},&*!<>|?#'\"\\%@`~.\n\t", max_size=200))
def test_text_of_yamls_own_characters(text: str) -> None:
    outcome(text.encode())


@given(st.dictionaries(st.sampled_from(["settings", "keys", "models"]), TREES))
def test_trees_with_the_right_keys(tree: object) -> None:
    outcome(yaml.safe_dump(tree, allow_unicode=True).encode("utf-8", "surrogatepass"))


@given(st.data())
def test_the_good_file_with_a_part_replaced(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(GOOD)))
    end = data.draw(st.integers(start, min(len(GOOD), start + 60)))
    middle = data.draw(
        st.text(max_size=6) | st.sampled_from(["*llama", "<<:", "- ", "\n", "!x ", "&b ", "~", "[", "}"])
    )
    outcome((GOOD[:start] + middle + GOOD[end:]).encode())


@given(st.data())
def test_the_good_file_with_lines_moved(data: st.DataObject) -> None:
    lines = GOOD.splitlines(keepends=True)
    at, to = data.draw(st.integers(0, len(lines) - 1)), data.draw(st.integers(0, len(lines) - 1))
    line = lines.pop(at)
    if data.draw(st.booleans()):
        lines.insert(to, line)
    outcome("".join(lines).encode())


VARIABLES = st.sampled_from(
    [f"LMI_GATEWAY_{name.upper()}" for name in kinds(Settings)] + ["AWS_ENDPOINT_URL", "AWS_CA_BUNDLE"]
)


@given(st.dictionaries(VARIABLES | st.text(max_size=8).map("LMI_GATEWAY_".__add__), st.text(max_size=20)))
def test_variables(environ: dict[str, str]) -> None:
    outcome(GOOD.encode(), environ)
