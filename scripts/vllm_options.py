"""Reads vLLM's source releases and writes deploy/options/vllm.json: which arguments each version has.

    python scripts/vllm_options.py FOLDER

FOLDER/VERSION/ is an unpacked source release of vLLM (https://github.com/vllm-project/vllm). From each are read: the
fields of EngineArgs (vllm/engine/arg_utils.py), the arguments of the server alone (cli_args.py below vllm/entrypoints),
and the names of its tool and reasoning parsers. Nothing is imported, so vLLM need not be installed.
"""

from __future__ import annotations

import ast
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

OUT = Path(__file__).resolve().parent.parent / "deploy" / "options" / "vllm.json"
KINDS = ("tool_parsers", "reasoning_parsers")


def main(folder: Path) -> None:
    versions = sorted((child.name for child in folder.iterdir() if (child / "vllm").is_dir()), key=_ordered)
    tables: dict[str, dict[str, dict[str, str]]] = {
        "engine": {},
        "server": {},
        "tool_parsers": {},
        "reasoning_parsers": {},
    }
    for version in versions:
        source = folder / version / "vllm"
        found = {
            "engine": dict(_fields(source / "engine" / "arg_utils.py", "EngineArgs")),
            "server": dict(_server(source / "entrypoints")),
            "tool_parsers": dict.fromkeys(_parsers(source, "tool"), ""),
            "reasoning_parsers": dict.fromkeys(_parsers(source, "reasoning"), ""),
        }
        for kind, names in found.items():
            if not names:
                raise SystemExit(f"{version}: no {kind} found")
            for name, words in names.items():
                tables[kind].setdefault(name, {})[version] = words
    out: dict[str, object] = {"versions": versions}
    for kind, names_of in tables.items():
        if kind in KINDS:
            out[kind] = {name: _spans(versions, of) for name, of in sorted(names_of.items())}
        else:
            out[kind] = {
                name: [of[max(of, key=_ordered)], *_spans(versions, of)] for name, of in sorted(names_of.items())
            }
    OUT.write_text(_compact(out))


def _ordered(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _spans(versions: list[str], of: dict[str, str]) -> list[list[str]]:
    """Return the runs of versions that know a name: first and last."""
    spans: list[list[str]] = []
    before = ""
    for version in versions:
        if version in of:
            if not before:
                spans.append([version, version])
            spans[-1][1] = version
        before = version if version in of else ""
    return spans


def _fields(path: Path, class_name: str) -> Iterator[tuple[str, str]]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ClassDef) and node.name == class_name:
            for field in node.body:
                named = isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name)
                if named and not field.target.id.startswith("_"):
                    yield field.target.id, _kind(ast.unparse(field.annotation))


def _server(entrypoints: Path) -> Iterator[tuple[str, str]]:
    """Yield the server's own arguments: fields of classes since 0.10, calls of add_argument before."""
    for path in sorted(entrypoints.rglob("cli_args.py")):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.ClassDef) and node.name.endswith("Args"):
                yield from _fields(path, node.name)
        for flag, rest in re.findall(r'add_argument\(\s*"--([a-z0-9-]+)",(.{0,200})', text, re.DOTALL):
            yield flag.replace("-", "_"), "bool" if "store_true" in rest else "str"


def _kind(annotation: str) -> str:
    """Return how a value is written: bool, int, float, str, list or json."""
    words = set(re.findall(r"[A-Za-z_.]+", annotation)) - {"None", "Optional", "Union"}
    if re.search(r"\b(dict|Dict|Mapping|HfOverrides)\b|Config\b", annotation):
        return "json"
    if re.match(r"(Optional\[)?(list|List|tuple|Tuple|Sequence)\[", annotation):
        return "list"
    for kind in ("bool", "int", "float"):
        if words <= {kind, *(("int",) if kind == "float" else ())}:
            return kind
    return "str"


def _parsers(source: Path, kind: str) -> Iterator[str]:
    folders = {"tool": ("tool_parsers", "entrypoints/openai/tool_parsers"), "reasoning": ("reasoning",)}[kind]
    for folder in folders:
        for path in sorted((source / folder).glob("*.py")):
            text = path.read_text()
            for names in re.findall(r"ParserManager\.register_module\(\s*(?:name=)?(\[[^\]]*\]|\"[^\"]+\")", text):
                yield from re.findall(r'"([^"]+)"', names)
            for table in re.findall(r"_PARSERS_TO_REGISTER\b[^=]*= \{(.*?)^\}", text, re.DOTALL | re.MULTILINE):
                yield from re.findall(r'^    "([^"]+)":', table, re.MULTILINE)


def _compact(out: dict[str, object]) -> str:
    """Return JSON with one line for each name, so that a change is one line of a diff."""
    parts = []
    for key, value in out.items():
        if isinstance(value, dict):
            lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(entry)}" for name, entry in value.items())
            parts.append(f"{json.dumps(key)}: {{\n{lines}\n}}")
        else:
            parts.append(f"{json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
