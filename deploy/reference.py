"""The tables of docs/manifest.md and docs/models.md, made of what the code knows.

python -m deploy.reference docs
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

from pydantic.fields import FieldInfo

import deploy.endpoints
from deploy import images
from deploy.environment import environment_of
from deploy.export import context_length
from deploy.manifest import Manifest, load
from deploy.sections import PATTERNS, Section

PAGES = ("manifest.md", "models.md")
_BLOCK = re.compile(r"(<!-- made: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
_BOUNDS = {"minimum": "at least {}", "exclusiveMinimum": "above {}", "maximum": "at most {}", "maxItems": "at most {}"}


def with_tables(markdown: str) -> str:
    """Return a page with everything between `<!-- made: NAME -->` and `<!-- end -->` made anew."""
    return _BLOCK.sub(lambda found: f"{found[1]}\n{MAKERS[found[2]]()}\n{found[3]}", markdown)


def _rows(head: str, rows: Iterable[Iterable[str]]) -> str:
    titles = head.split(" | ")
    lines = [titles, ["---"] * len(titles), *(list(row) for row in rows)]
    return "".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |\n" for line in lines)


def _manifest() -> str:
    schema = Manifest.model_json_schema()
    parts = []
    for name, section in _sections(Manifest):
        own = schema if section is Manifest else schema["$defs"][section.__name__]
        rows = (
            (f"`{key}`", _words(own["properties"][key]), _default(info), " ".join((info.description or "").split()))
            for key, info in _own_first(section)
        )
        about = " ".join((section.__doc__ or "").split())
        title = "The file" if section is Manifest else f"`{name}`"
        parts.append(f"### {title}\n\n{about}\n\n{_rows('Key | Value | Default | Meaning', rows)}")
    return "\n".join(parts)


def _sections(root: type[Section]) -> Iterator[tuple[str, type[Section]]]:
    """Yield every section once: the key it is met by first, and the section."""
    queue, met = [("manifest", root)], {root}
    while queue:
        name, section = queue.pop(0)
        yield name, section
        for key, info in section.model_fields.items():
            for inner in _inner(info.annotation):
                if inner not in met:
                    met.add(inner)
                    queue.append((key, inner))


def _own_first(section: type[Section]) -> list[tuple[str, FieldInfo]]:
    return sorted(section.model_fields.items(), key=lambda field: field[0] not in section.__annotations__)


def _inner(annotation: Any) -> Iterator[type[Section]]:
    if isinstance(annotation, type) and issubclass(annotation, Section):
        yield annotation
    for part in getattr(annotation, "__args__", ()):
        yield from _inner(part)


def _words(schema: dict[str, Any]) -> str:
    """Return what a value may be."""
    choices = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    if choices:
        return _words(choices[0])
    if "$ref" in schema:
        return "a mapping"
    if "enum" in schema:
        return ", ".join(f"`{one}`" for one in schema["enum"])
    if "const" in schema:
        return f"`{schema['const']}`"
    if "pattern" in schema and schema["pattern"] in PATTERNS:
        return PATTERNS[schema["pattern"]]
    kind = schema.get("type")
    if kind == "array":
        return ", ".join([f"a list: {_words(schema.get('items', {}))}", *_bounds(schema)])
    if kind == "object":
        return "a mapping of names" + (f": {inner}" if (inner := _values(schema)) else "")
    words = {"integer": "a whole number", "number": "a number", "boolean": "`true` or `false`", "string": "text"}
    return ", ".join([words.get(str(kind), "a value"), *_bounds(schema)])


def _values(schema: dict[str, Any]) -> str:
    inner = schema.get("additionalProperties") or next(iter(schema.get("patternProperties", {}).values()), None)
    return _words(inner) if isinstance(inner, dict) and inner else ""


def _bounds(schema: dict[str, Any]) -> list[str]:
    return [words.format(f"{schema[bound]:g}") for bound, words in _BOUNDS.items() if bound in schema]


def _default(info: FieldInfo) -> str:
    if info.is_required():
        return "required"
    value = info.get_default(call_default_factory=True)
    if value is None or value == () or value == {}:
        return "none"
    if isinstance(value, Section):
        return "every key's own"
    if isinstance(value, bool):
        return f"`{value}`".lower()
    return f"`{', '.join(value) if isinstance(value, tuple) else value}`"


def _containers() -> str:
    shown = [("lmi", str(version)) for version in images.LMI_VERSIONS]
    shown += [("vllm", "0.19"), ("vllm", images.VLLM_IMAGES[-1]), ("tgi", "3.3")]
    rows = []
    for kind, version in shown:
        image = images.uri(kind, version, "us-east-1").rpartition("/")[2]
        engine = images.engine_version(kind, version) or "–"
        rows.append((f"`{kind}` {version}", engine, f"`{image}`", images.ami(image) or "SageMaker's own"))
    return _rows("Container | vLLM | Image | AMI", rows)


def _families() -> str:
    folder = Path(str(deploy.endpoints.__file__)).parent
    rows = []
    for path in sorted(folder.glob("*.yaml")):
        made = load(path)
        environment, model = environment_of(made, made), made.model
        parsers = [environment.get(f"OPTION_{kind}_PARSER", "–") for kind in ("TOOL_CALL", "REASONING")]
        rows.append(
            (
                f"[{path.stem}](../deploy/endpoints/{path.name})",
                f"{model.id if model else ''}{', gated' if model and model.token else ''}",
                str(made.instances.type),
                f"{context_length(made) or 0:,}",
                *(f"`{name}`" if name != "–" else "–" for name in map(str, parsers)),
            )
        )
    return _rows("Manifest | Model | Machine | Tokens | Tools | Thoughts", rows)


MAKERS: dict[str, Callable[[], str]] = {"manifest": _manifest, "containers": _containers, "families": _families}


def main(docs: Path) -> None:
    for name in PAGES:
        page = docs / name
        page.write_text(with_tables(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
