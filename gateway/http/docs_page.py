"""The OpenAPI document as one HTML page: readable without a script, a stylesheet or a font from anywhere.

It knows nothing of this API but what the document says, and of OpenAPI and CommonMark as much as this document uses.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from gateway.http.docs_style import STYLE

Schema = dict[str, Any]

_METHODS = ("get", "post")
_REF = "#/components/schemas/"
_LINE_CHARS = 88


def page(document: dict[str, Any], json_url: str) -> str:
    """Return the page; `json_url` is where the document itself is."""
    info, schemas = document["info"], document["components"]["schemas"]
    title, url = escape(info["title"]), escape(json_url)
    operations = list(_operations(document))
    parts = [
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title} API</title>',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<meta name="color-scheme" content="light dark"><link rel="icon" href="data:,"><style>{STYLE}</style></head>',
        '<body><a class="skip" href="#main">Skip to the content</a>',
        _navigation(title, document, operations),
        f'<main id="main"><header><h1>{title} <span class="version">{escape(info["version"])}</span></h1>',
        _text(info["description"]),
        f'<p>This page as a program reads it: <a href="{url}">{url}</a> (OpenAPI 3.1).</p></header>',
        _start(document),
        *(_tag(tag, [each for each in operations if tag["name"] in each[2]["tags"]]) for tag in document["tags"]),
        '<section aria-labelledby="schemas"><h2 id="schemas">Schemas</h2>',
        *(_component(name, schema) for name, schema in schemas.items()),
        "</section></main></body></html>\n",
    ]
    return "".join(parts)


def _operations(document: dict[str, Any]) -> Iterator[tuple[str, str, Schema]]:
    for path, item in document["paths"].items():
        for method in _METHODS:
            if method in item:
                yield method, path, item[method]


def _navigation(title: str, document: dict[str, Any], operations: list[tuple[str, str, Schema]]) -> str:
    links = ['<li><a href="#start">Getting started</a></li>']
    for method, path, operation in operations:
        label = f"{_badge(method)} <code>{_breakable(path)}</code>"
        links.append(f'<li><a href="#{escape(operation["operationId"])}">{label}</a></li>')
    names = "".join(
        f'<li><a href="#schema-{escape(name)}">{escape(name)}</a></li>' for name in document["components"]["schemas"]
    )
    links.append(f'<li><a href="#schemas">Schemas</a><ul>{names}</ul></li>')
    return f'<nav aria-label="Contents"><p class="title">{title}</p><ul>{"".join(links)}</ul></nav>'


def _start(document: dict[str, Any]) -> str:
    schemes = "".join(
        f"<li>{_inline(scheme['description'])}</li>" for scheme in document["components"]["securitySchemes"].values()
    )
    key = (
        "<p>This gateway is open: it serves without a key.</p>"
        if {} in document["security"]
        else f"<p>A key goes into one of these headers:</p><ul>{schemes}</ul>"
    )
    client = (
        "from openai import OpenAI\n\n"
        'client = OpenAI(base_url="https://THIS_HOST/v1", api_key="YOUR_KEY")\n'
        "for model in client.models.list():\n    print(model.id)"
    )
    return (
        '<section aria-labelledby="start"><h2 id="start">Getting started</h2>'
        f"{_code(client, 'The models of a key, with the OpenAI client for Python')}{key}"
        "<p>The examples below are for a shell in which <code>GATEWAY</code> is this host’s address, such as "
        "<code>https://THIS_HOST</code>, and <code>KEY</code> a key.</p></section>"
    )


def _tag(tag: Schema, operations: list[tuple[str, str, Schema]]) -> str:
    name = escape(tag["name"])
    heading = escape(tag.get("x-heading", tag["name"].capitalize()))
    return (
        f'<section aria-labelledby="tag-{name}"><h2 id="tag-{name}">{heading}</h2>{_text(tag["description"])}'
        + "".join(_operation(*operation) for operation in operations)
        + "</section>"
    )


def _operation(method: str, path: str, operation: Schema) -> str:
    name = escape(operation["operationId"])
    parts = [
        f'<article aria-labelledby="{name}"><h3 id="{name}">{_badge(method)} <code>{_breakable(path)}</code></h3>',
        f'<p class="summary">{_inline(operation["summary"])}</p>',
        _text(operation.get("description", "")),
    ]
    if operation.get("parameters"):
        rows = [
            (
                _name(parameter["name"], required=parameter.get("required", False)),
                f"{escape(parameter['in'])}, {_kind(parameter['schema'])}",
                _inline(parameter.get("description", "")),
            )
            for parameter in operation["parameters"]
        ]
        parts.append(_table("Parameters", ("Name", "Type", "Meaning"), rows))
    if "requestBody" in operation:
        content = operation["requestBody"]["content"]["application/json"]
        parts.append(f"<h4>Body</h4><p>{_kind(content['schema'])}, as JSON.</p>")
        for example in content.get("examples", {}).values():
            parts.append(_code(_curl(path, example["value"]), example["summary"]))
    elif path == "/v1/models":
        parts.append(_code(f'curl "$GATEWAY{path}" -H "Authorization: Bearer $KEY"', "The models"))
    rows = [
        (f"<code>{escape(status)}</code>", _contents(response), _text(response["description"]))
        for status, response in operation["responses"].items()
    ]
    parts.append(_table("Replies", ("Status", "Body", "When"), rows))
    return "".join(parts) + "</article>"


def _contents(response: Schema) -> str:
    return "<br>".join(
        f"<code>{escape(media)}</code> {_inline(content['schema'].get('description', '')) or _kind(content['schema'])}"
        for media, content in response["content"].items()
    )


def _component(name: str, schema: Schema) -> str:
    rows = [
        (_name(path, required=required), _kind(field), _meaning(field)) for path, field, required in _fields(schema)
    ]
    label = escape(name)
    return (
        f'<article aria-labelledby="schema-{label}"><h3 id="schema-{label}">{label}</h3>'
        + _text(schema.get("description", ""))
        + _table(f"Fields of {name}", ("Field", "Type", "Meaning"), rows)
        + "</article>"
    )


def _fields(schema: Schema, prefix: str = "") -> Iterator[tuple[str, Schema, bool]]:
    """Yield every field: its path, its schema, and whether it must be there. What lies in a field follows it."""
    required = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        yield f"{prefix}{name}", field, name in required
        yield from _fields(field, f"{prefix}{name}.")
        yield from _fields(field.get("items", {}), f"{prefix}{name}[].")


def _kind(schema: Schema) -> str:
    """Say in a few words what a value must be; that it may be null as well goes without saying."""
    if "$ref" in schema:
        name = escape(schema["$ref"].removeprefix(_REF))
        return f'<a href="#schema-{name}">{name}</a>'
    if "enum" in schema:
        return "one of " + ", ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_kind(each) for each in schema[several] if each != {"type": "null"})
    kinds = schema.get("type", "any")
    words = " or ".join(kind for kind in ([kinds] if isinstance(kinds, str) else kinds) if kind != "null")
    if "items" in schema:
        words += f" of {_kind(schema['items'])}"
    return words + "".join(f", {limit}" for limit in _limits(schema))


def _limits(schema: Schema) -> Iterator[str]:
    low, above, high = schema.get("minimum"), schema.get("exclusiveMinimum"), schema.get("maximum")
    words = [f"at least {low:,}" if low is not None else "", f"above {above:,}" if above is not None else ""]
    words.append(f"at most {high:,}" if high is not None else "")
    if low is not None and high is not None:
        words = [f"{low:,} to {high:,}"]
    yield from filter(None, words)
    for least, most, unit in (
        ("minLength", "maxLength", "characters"),
        ("minItems", "maxItems", "entries"),
        ("minProperties", "maxProperties", "entries"),
    ):
        if schema.get(most) is not None:
            yield f"at most {schema[most]:,} {unit}"
        elif schema.get(least):
            yield "not empty"
    if "pattern" in schema:
        yield f"<code>{escape(schema['pattern'])}</code>"


def _meaning(schema: Schema) -> str:
    return _inline(schema.get("description", ""))


def _curl(path: str, body: Schema) -> str:
    stream = "-N " if body.get("stream") else ""
    text = _json(body, "  ").replace("'", "'\\''")
    path = path.replace("{model}", "YOUR_MODEL")
    return (
        f'curl {stream}"$GATEWAY{path}" \\\n  -H "Authorization: Bearer $KEY" -H "Content-Type: application/json" \\\n'
        f"  -d '{text}'"
    )


def _json(value: Any, indent: str) -> str:
    """Return JSON that breaks lines where one would be too long."""
    line = json.dumps(value, ensure_ascii=False)
    if len(indent) + len(line) <= _LINE_CHARS or not isinstance(value, dict | list):
        return line
    inner = indent + "  "
    if isinstance(value, list):
        return "[\n" + ",\n".join(inner + _json(each, inner) for each in value) + f"\n{indent}]"
    fields = (f"{inner}{json.dumps(name)}: {_json(each, inner)}" for name, each in value.items())
    return "{\n" + ",\n".join(fields) + f"\n{indent}}}"


def _table(caption: str, head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    columns = "".join(f'<th scope="col">{name}</th>' for name in head)
    lines = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>' for first, *rest in rows
    )
    # It can be wider than a small screen: then it scrolls by itself, by keyboard, too.
    label = escape(caption)
    return (
        f'<div class="table" role="region" aria-label="{label}" tabindex="0"><table><caption>{label}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{lines}</tbody></table></div>"
    )


def _code(text: str, caption: str) -> str:
    code = f'<pre tabindex="0"><code>{escape(text)}</code></pre>'
    return f"<figure><figcaption>{_inline(caption)}</figcaption>{code}</figure>"


def _name(name: str, *, required: bool) -> str:
    return f"<code>{_breakable(name)}</code>" + (' <span class="required">required</span>' if required else "")


def _badge(method: str) -> str:
    return f'<span class="method {method}">{method.upper()}</span>'


def _breakable(name: str) -> str:
    """Allow a line break after each step of a path."""
    return re.sub(r"([/.\]_])", r"\1<wbr>", escape(name))


def _text(markdown: str) -> str:
    """Return paragraphs and lists as HTML."""
    blocks = []
    for block in filter(None, markdown.split("\n\n")):
        if block.startswith("- "):
            blocks.append("<ul>" + "".join(f"<li>{_inline(line[2:])}</li>" for line in block.split("\n")) + "</ul>")
        else:
            blocks.append(f"<p>{_inline(block)}</p>")
    return "".join(blocks)


def _inline(markdown: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(markdown))
