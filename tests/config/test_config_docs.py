"""The reference documentation and the JSON Schema say what the types say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml

from gateway.config import schema
from gateway.config.kinds import Kind, Section, kind_of, kinds
from gateway.config.load import parse
from gateway.config.settings import Settings

DOCS = Path(__file__).parents[2] / "docs"
REFERENCE = (DOCS / "configuration.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", REFERENCE, re.DOTALL)
REGENERATE = "run `python -m gateway.config.schema docs`"


def validator() -> jsonschema.Draft202012Validator:
    return jsonschema.Draft202012Validator(schema.json_schema())


def test_the_tables_are_current() -> None:
    assert schema.with_tables(REFERENCE) == REFERENCE, REGENERATE


@pytest.mark.parametrize(("name", "section"), [pytest.param(*entry, id=entry[0]) for entry in schema.SECTIONS.items()])
def test_every_key_has_a_row_with_its_default_and_meaning(name: str, section: type[Section]) -> None:
    found = re.search(rf"<!-- table: {name} -->\n(.*?)<!-- end -->", REFERENCE, re.DOTALL)
    assert found, f"docs/configuration.md has no table {name!r}"
    rows = [[cell.strip() for cell in line.strip("| \n").split(" | ")] for line in found[1].strip().splitlines()[2:]]
    assert [row[0] for row in rows] == [f"`{key}`" for key in section.model_fields]
    for row in rows:
        assert len(row) == (5 if section is Settings else 4)
        assert all(row), row
        assert row[-1].endswith("."), f"{row[0]} has no docstring"


@pytest.mark.parametrize("row", [
    "| `port` | `LMI_GATEWAY_PORT` | a whole number from 0 to 65535 | `8080` |",
    "| `drain_timeout_s` | `LMI_GATEWAY_DRAIN_TIMEOUT_S` | a number from 0 to 3600 | `30` |",
    "| `docs_enabled` | `LMI_GATEWAY_DOCS_ENABLED` | true or false | `true` |",
    "| `modalities` | a list, each one of text, image, audio, video | `[text]` |",
    "| `region` | an AWS Region, such as us-east-1 | required |",
    "| `role_arn` | the ARN of an IAM role, such as arn:aws:iam::123456789012:role/invoke | none |",
    "| `timeouts` | a mapping | every key's own |",
    "| `gap_s` | a number above 0 and at most 86400 | `60` |",
    "| `models` | a list with at least one entry | required |",
])  # fmt: skip
def test_rows_read_like_this(row: str) -> None:
    assert row in REFERENCE


def test_the_example_is_good_in_every_way() -> None:
    assert len(EXAMPLES) == 1
    config = parse(EXAMPLES[0].encode(), "docs/configuration.md", {})
    assert [model.name for model in config.models] == ["llama-3.3-70b", "qwen-vl"]
    validator().validate(yaml.safe_load(EXAMPLES[0]))


def test_the_schema_file_is_current() -> None:
    assert (DOCS / "models.schema.json").read_text(encoding="utf-8") == schema.json_schema_text(), REGENERATE


def test_the_schema_is_a_valid_schema_with_descriptions() -> None:
    document = schema.json_schema()
    jsonschema.Draft202012Validator.check_schema(document)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for definition in (document, *document["$defs"].values()):
        assert definition["description"]
        assert definition["additionalProperties"] is False
        for name, field in definition["properties"].items():
            assert field.get("description"), name


def changed(**changes: Any) -> dict[str, Any]:
    deployment = {"endpoint": "e", "region": "us-east-1", "container": "lmi", "version": 15}
    deployment.update(changes)
    return {"models": [{"name": "m", "deployments": [{k: v for k, v in deployment.items() if v is not ...}]}]}


@pytest.mark.parametrize("document", [
    pytest.param(changed(), id="small"),
    pytest.param(changed(version="0.11", container="vllm"), id="version as text"),
    pytest.param(changed(role_arn=None), id="null where the default is none"),
    pytest.param(changed() | {"settings": {"port": 0, "insecure": True}}, id="settings"),
])  # fmt: skip
def test_the_schema_accepts(document: object) -> None:
    validator().validate(document)
    parse(json.dumps(document).encode(), "gateway.yaml", {})


@pytest.mark.parametrize(("document", "path"), [
    pytest.param(changed(regoin="x"), "$.models[0].deployments[0]", id="unknown key"),
    pytest.param(changed(region=...), "$.models[0].deployments[0]", id="missing key"),
    pytest.param(changed(region="us-east"), "$.models[0].deployments[0].region", id="pattern"),
    pytest.param(changed(container="sglang"), "$.models[0].deployments[0].container", id="choice"),
    pytest.param(changed(weight=1001), "$.models[0].deployments[0].weight", id="bound"),
    pytest.param(changed(weight="1"), "$.models[0].deployments[0].weight", id="quoted number"),
    pytest.param(changed() | {"settings": {"prot": 0}}, "$.settings", id="unknown setting"),
    pytest.param({"models": []}, "$.models", id="no models"),
    pytest.param({}, "$", id="nothing"),
])  # fmt: skip
def test_the_schema_refuses(document: object, path: str) -> None:
    assert [error.json_path for error in validator().iter_errors(document)] == [path]


def test_the_tables_can_be_rewritten(tmp_path: Path) -> None:
    (tmp_path / "configuration.md").write_text("a\n<!-- table: timeouts -->\nold\n<!-- end -->\nb\n")
    schema.main(tmp_path)
    text = (tmp_path / "configuration.md").read_text()
    assert text.startswith("a\n<!-- table: timeouts -->\n\n| Key | Type | Default | Meaning |\n")
    assert "old" not in text
    assert text.endswith("\n<!-- end -->\nb\n")
    assert json.loads((tmp_path / "models.schema.json").read_text())["title"] == "lmi-gateway configuration"


# What messages and tables are made of


def all_kinds() -> list[tuple[str, Kind]]:
    found = [
        (f"{name}.{key}", kind) for name, section in schema.SECTIONS.items() for key, kind in kinds(section).items()
    ]
    return found + [(f"{name}[]", kind.item) for name, kind in found if kind.item]


def test_no_message_shows_a_regular_expression() -> None:
    assert [name for name, kind in all_kinds() if any(sign in kind.words for sign in "^$\\{")] == []


def test_every_text_with_a_pattern_says_what_it_expects() -> None:
    document = schema.json_schema()
    patterned = {
        f"{title}.{key}"
        for title, definition in document["$defs"].items()
        for key, field in definition["properties"].items()
        if "pattern" in field or any("pattern" in option for option in field.get("anyOf", ()))
    }
    assert {"Deployment.region", "Key.digest", "Settings.host"} <= patterned
    said = {
        f"{section.__name__}.{key}": kind.words
        for section in schema.SECTIONS.values()
        for key, kind in kinds(section).items()
    }
    assert [name for name in patterned if said[name].startswith("text")] == []


def test_a_type_no_file_can_hold_is_refused() -> None:
    with pytest.raises(TypeError, match="no configuration value can have the type"):
        kind_of(bytes)
