"""The configuration's JSON Schema for editors, and the tables of its reference documentation, both from the types.

`python -m gateway.config.schema docs` rewrites docs/models.schema.json and the tables of docs/configuration.md.
https://json-schema.org/draft/2020-12/schema
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

from pydantic.json_schema import GenerateJsonSchema

from gateway.config.callers import Issuer, TokenPlan
from gateway.config.kinds import Section, kinds
from gateway.config.limits import Limits, ModelLimits, Prices, Team, Waiting
from gateway.config.lora import Adapter
from gateway.config.media import Media
from gateway.config.models import Deployment, Key, Model, ModelsFile, Timeouts
from gateway.config.settings import PREFIX, Settings
from gateway.config.tgi import Tgi
from gateway.config.usage import UsageSink

SECTIONS: dict[str, type[Section]] = {
    "file": ModelsFile,
    "settings": Settings,
    "keys": Key,
    "tgi": Tgi,
    "models": Model,
    "media": Media,
    "timeouts": Timeouts,
    "deployments": Deployment,
    "adapters": Adapter,
    "limits": Limits,
    "model_limits": ModelLimits,
    "prices": Prices,
    "waiting": Waiting,
    "teams": Team,
    "issuers": Issuer,
    "plans": TokenPlan,
    "usage_sink": UsageSink,
}
"""Name of each table in the documentation → what it describes."""


def json_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the configuration file."""
    schema = ModelsFile.model_json_schema(mode="validation")
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema, "title": "lmi-gateway configuration"}


def json_schema_text() -> str:
    """Return the schema as it is kept in docs/models.schema.json."""
    return json.dumps(json_schema(), indent=2) + "\n"


def table(name: str) -> str:
    """Return the Markdown table of a section: every key with its type, default and meaning."""
    section = SECTIONS[name]
    settings = section is Settings
    head = ["Key", "Variable", "Type", "Default", "Meaning"] if settings else ["Key", "Type", "Default", "Meaning"]
    rows = [head, ["---"] * len(head)]
    for key, info in section.model_fields.items():
        variable = [f"`{PREFIX}{key.upper()}`"] if settings else []
        meaning = " ".join((info.description or "").split())
        rows.append([f"`{key}`", *variable, _type(section, key), _default(section, key), meaning])
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |\n" for row in rows)


def with_tables(markdown: str) -> str:
    """Return `markdown` with each table between `<!-- table: NAME -->` and `<!-- end -->` made anew."""
    return re.sub(
        r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)",
        lambda found: f"{found[1]}\n{table(found[2])}\n{found[3]}",
        markdown,
        flags=re.DOTALL,
    )


def _type(section: type[Section], key: str) -> str:
    kind = kinds(section)[key]
    if kind.item and kind.item.shape != "mapping":
        return f"{kind.words}, each {kind.item.words}"
    return kind.words


def _default(section: type[Section], key: str) -> str:
    info = section.model_fields[key]
    if info.is_required():
        return "required"
    default = info.default
    if default is None:
        return "none"
    if isinstance(default, Section):
        return "every key's own"
    if isinstance(default, tuple):
        return f"`[{', '.join(default)}]`"
    return (
        f"`{json.dumps(default)}`"
        if isinstance(default, bool)
        else f"`{default:g}`"
        if isinstance(default, float)
        else f"`{default}`"
    )


def main(docs: Path) -> None:
    (docs / "models.schema.json").write_text(json_schema_text(), encoding="utf-8")
    reference = docs / "configuration.md"
    reference.write_text(with_tables(reference.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
