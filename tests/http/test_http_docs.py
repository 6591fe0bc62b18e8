"""The OpenAPI document says what the gateway does, and its page can be read by everyone."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from itertools import pairwise
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from adapters.base import Surface
from adapters.openai.fields import KNOWN
from adapters.openai.request import BadRequest, FieldPolicy, check, read
from adapters.openai.rules import RULES
from gateway import app as composition
from gateway.config.load import parse
from gateway.http.docs_document import EXAMPLES, GENERATING, callers_errors
from gateway.http.docs_page import page
from gateway.http.docs_style import STYLE
from gateway.http.docs_tgi import EXAMPLES as TGI_EXAMPLES
from gateway.http.named import NamedRoutes
from gateway.http.protocol import GatewayProtocol
from tests.docs.serving import KEY, MODELS, Served, read_events, served

CONFIG = """
models: [{name: m, deployments: [{endpoint: m, region: us-east-1, container: lmi, version: 27}]}]
keys: [{id: k, digest: "sha256:%s", models: ["*"]}]
""" % ("0" * 64)
OPEN = "settings: {insecure: true, metrics_enabled: false}\n" + CONFIG.partition("keys")[0]


def document_of(config: str = CONFIG) -> dict[str, Any]:
    document: dict[str, Any] = composition.build(parse(config.encode(), "test.yaml", {})).openapi_schema.to_schema()
    return document


DOCUMENT = document_of()


def validator(component: str, document: dict[str, Any] = DOCUMENT) -> Draft202012Validator:
    return Draft202012Validator({"$ref": f"#/components/schemas/{component}", "components": document["components"]})


# --- The document ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("config", [pytest.param(CONFIG, id="with keys"), pytest.param(OPEN, id="open")])
def test_the_document_is_valid(config: str) -> None:
    document = document_of(config)
    validate(document)
    assert ("/metrics" in document["paths"]) is (config == CONFIG)
    assert ({} in document["security"]) is (config == OPEN)


def test_every_route_is_documented() -> None:
    app = composition.build(parse(CONFIG.encode(), "test.yaml", {}))
    routes = {getattr(route, "path_format", route.path) for route in app.routes}
    named = {
        f"{path}{{model}}{ending}"
        for path, folder in GatewayProtocol.frontend.hot_folders.items()
        if isinstance(folder, NamedRoutes)
        for ending in folder.endings
    }
    assert len(named) > 10
    assert {path for path in routes if not path.startswith("/docs")} | named == set(DOCUMENT["paths"])
    assert {path for path in routes if path.startswith("/docs")} == {"/docs", "/docs/openapi.json", "/docs/{path}"}


@pytest.mark.anyio
async def test_every_method_that_is_answered_is_documented_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as gateway:
        for path, item in DOCUMENT["paths"].items():
            url = re.sub(r"\{\w+\}", "lmi", path)
            for method in ("get", "post", "put"):
                answer = await gateway.client.request(method, url, content=b"{}" if method == "post" else None)
                assert (answer.status_code != 405) is (method in item), (method, path)
                if method not in item:
                    answered = {name.strip().lower() for name in answer.headers["allow"].split(",")}
                    assert answered - {"head", "options"} == set(item), path
                elif "tokenize" not in path:
                    assert answer.status_code != 404, path


def test_every_error_is_in_the_document() -> None:
    codes = set(callers_errors())
    assert set(DOCUMENT["components"]["schemas"]["Error"]["properties"]["error"]["properties"]["code"]["enum"]) == codes
    for path, *_ in GENERATING.values():
        responses = DOCUMENT["paths"][path]["post"]["responses"]
        told = {
            code: int(status)
            for status, response in responses.items()
            for code in re.findall(r"^- `(\w+)`: \S", response["description"], re.MULTILINE)
        }
        assert told == {
            code: kind.status
            for code, kind in callers_errors().items()
            if code not in ("route_not_found", "method_not_allowed")
        }
    for code in ("route_not_found", "method_not_allowed"):
        assert f"`{code}`" in DOCUMENT["info"]["description"]


def test_every_error_fits_its_schema() -> None:
    for kind in callers_errors().values():
        validator("Error").validate(json.loads(kind("A sentence.", param="model").body()))
    with pytest.raises(Exception, match="is not one of"):
        validator("Error").validate({"error": {"message": "", "type": "server_error", "param": None, "code": "other"}})


def test_nothing_of_the_document_is_built_before_someone_asks() -> None:
    script = (
        "import sys\nfrom gateway.app import build\nfrom gateway.config.load import parse\n"
        f"app = build(parse({CONFIG.encode()!r}, 'test.yaml', {{}}))\n"
        "print([name for name in sys.modules if name.startswith('gateway.http.docs_')])\n"
        "app.openapi_schema.to_schema()\n"
        "print(sum(name.startswith('gateway.http.docs_') for name in sys.modules) > 0)\n"
    )
    out = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True, timeout=60).stdout
    assert out == "[]\nTrue\n"


# --- The request bodies, against the checks themselves ---------------------------------------------------------------

COMPANIONS: dict[str, dict[str, Any]] = {
    "chat stream_options": {"stream": True},
    "chat top_logprobs": {"logprobs": True},
    "chat tool_choice": {"tools": [{"type": "function", "function": {"name": "f"}}]},
    "completions stream_options": {"stream": True},
    "completions max_tokens": {"echo": True},
}
"""Surface and field → what the field only goes together with."""
WORD = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
VALUES: list[Any] = [
    *(None, True, False, "", "x", "auto", "none", "x" * 256, "x" * 257, "x" * 1024, "x" * 1025, "x" * 8192, "x" * 8193),
    *(
        -2,
        -1,
        0,
        1,
        2,
        16,
        19,
        20,
        21,
        128,
        129,
        0.5,
        1.5,
        -1.5,
        2.5,
        1000000,
        1000001,
        -1000000,
        -1000001,
        2**31,
        2**63 - 1,
    ),
    *(
        [],
        [""],
        ["x"],
        [1],
        [0],
        [-1],
        [2**31 - 1],
        [2**31],
        [1.5],
        [True],
        [[1]],
        [[]],
        [[-1]],
        ["x" * 256],
        ["x" * 257],
    ),
    *(["x"] * 16, ["x"] * 17, ["x"] * 256, ["x"] * 257, ["x"] * 1024, ["x"] * 1025, [1] * 1024, [1] * 1025),
    *({}, {"x": True}, {"x": []}, {"x": {}}, {"x": "y" * 1024}, {"x": "y" * 1025}, {f"x{i}": 1 for i in range(17)}),
    *(
        {"1": -100},
        {"1": -101},
        {"1": 100},
        {"1": 101},
        {"1": "x"},
        {"12345678901": 1},
        {str(i): 1 for i in range(1024)},
    ),
    {str(i): 1 for i in range(1025)},
    *({"include_usage": True}, {"include_usage": None}, {"include_usage": 1}, {"continuous_usage_stats": "x"}),
    *({"type": "text"}, {"type": 1}, {"type": "json_schema"}, {"type": "json_schema", "json_schema": {}}),
    *({"type": "function"}, {"type": "x", "function": {"name": "f"}}, {"type": "function", "function": {"name": ""}}),
    *([WORD], [WORD] * 128, [WORD] * 129, WORD, [{**WORD, "function": {"name": "f", "parameters": []}}]),
    *({name: "x" * length} for name in ("regex", "grammar", "whitespace_pattern") for length in (8192, 8193)),
    *({"choice": ["x"] * 1024}, {"choice": ["x"] * 1025}, {f"x{i}": 1 for i in range(16)}, -2.5),
    *([[0]], [[2**31 - 1]], [[2**31]], [[1]] * 256, [[1]] * 257),
    *({"regex": "x"}, {"regex": 1}, {"regex": "x" * 8193}, {"choice": ["a"]}, {"choice": [""]}, {"choice": "a"}),
    *({"json": {}}, {"json": 1}, {"grammar": "x"}, {"structural_tag": {}}, {"backend": "x"}, {"json_object": True}),
    *({"json_object": False}, {"regex": "x", "grammar": "x"}, {"regex": "x", "json": None}, {"structural_tag": "{}"}),
    *({"whitespace_pattern": "x", "disable_any_whitespace": True, "regex": "x"}, {"json": "[]"}, " {}", "[]", "left"),
    *(
        {"type": "json"},
        {"type": "structural_tag"},
        {"type": "json_schema", "json_schema": {"name": "x", "schema": {}}},
    ),
    *([{"role": "user", "content": "x"}], [{"role": "user"}], [{"content": "x"}], [{"role": 1}]),
    *([{"role": "user", "content": []}], [{"role": "user", "content": [{"type": "text", "text": "x"}]}]),
    *(
        [{"role": "user", "content": ["x"]}],
        [{"role": "user", "content": [{"text": "x"}]}],
        [{"role": "user", "content": 1}],
    ),
]


@pytest.mark.parametrize("surface", list(GENERATING))
def test_the_documented_fields_are_those_that_are_checked(surface: Surface) -> None:
    schema = DOCUMENT["components"]["schemas"][GENERATING[surface][3][0]]
    subject = {Surface.CHAT: "messages", Surface.COMPLETIONS: "prompt"}[surface]
    assert set(schema["properties"]) == set(RULES[surface]) | {"model", "stream", subject}
    assert set(schema["properties"]) <= KNOWN[surface]
    assert schema["required"] == ["model", subject]
    assert all(field.get("description") for field in schema["properties"].values())


@pytest.mark.parametrize(
    ("surface", "name"),
    [
        pytest.param(surface, name, id=f"{surface}-{name}")
        for surface in GENERATING
        for name in DOCUMENT["components"]["schemas"][GENERATING[surface][3][0]]["properties"]
        if name != "model"
    ],
)
def test_a_field_is_documented_as_it_is_checked(surface: Surface, name: str) -> None:
    schema = validator(GENERATING[surface][3][0])
    subject = {"messages": [{"role": "user", "content": "x"}]} if surface is Surface.CHAT else {"prompt": "x"}
    disagreed, accepted = [], 0
    for value in VALUES:
        body = {"model": "m", **subject, **COMPANIONS.get(f"{surface} {name}", {}), name: value}
        try:
            check(read(surface, json.dumps(body).encode()), FieldPolicy())
            passes = True
        except BadRequest:
            passes = False
        accepted += passes
        if schema.is_valid(body) is not passes:
            disagreed.append((value, "is accepted" if passes else "is refused"))
    assert disagreed == []
    assert 0 < accepted < len(VALUES)


# --- What is answered ------------------------------------------------------------------------------------------------


@pytest.mark.anyio
@pytest.mark.parametrize("model", list(MODELS))
async def test_the_examples_are_answered_as_documented(monkeypatch: pytest.MonkeyPatch, model: str) -> None:
    async with served(monkeypatch) as gateway:
        document = (await gateway.client.get("/docs/openapi.json")).json()
        for surface in GENERATING:
            path, _, _, (request, whole, chunk) = GENERATING[surface]
            examples = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]["examples"]
            assert len(examples) == len(EXAMPLES[surface])
            for example in examples.values():
                body = {**example["value"], "model": model}
                validator(request, document).validate(body)
                response = await gateway.client.post(path, json=body)
                assert response.status_code == 200, response.text
                documented = document["paths"][path]["post"]["responses"]["200"]
                assert set(documented["headers"]) <= set(response.headers)
                assert response.headers["content-type"].partition(";")[0] in documented["content"]
                if "stream" not in body:
                    validator(whole, document).validate(response.json())
                    continue
                *events, done = await read_events(response)
                assert done == "[DONE]"
                for event in events:
                    validator(chunk, document).validate(json.loads(event))


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/lmi", "/healthz", "/readyz", "/metrics"])
async def test_litestars_own_routes_answer_as_documented(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    async with served(monkeypatch) as gateway:
        document = (await gateway.client.get("/docs/openapi.json")).json()
        operation = document["paths"][path.replace("/lmi", "/{model_id}")]["get"]
        response = await gateway.client.get(path)
        assert response.status_code == 200
        content = operation["responses"]["200"]["content"]
        media = response.headers["content-type"].partition(";")[0]
        assert media in content
        if media == "application/json":
            schema = {**content[media]["schema"], "components": document["components"]}
            Draft202012Validator(schema).validate(response.json())
        gateway.client.headers.pop("authorization")
        refused = (await gateway.client.get(path)).status_code == 401
        assert refused is (operation.get("security") != [])
        assert ("401" in operation["responses"]) is refused


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/docs/nothing", "/docs/nothing.json", "/docs/a/b", "/docs/openapi.yaml", "/schema"])
async def test_an_unknown_path_is_an_error_like_any_other(monkeypatch: pytest.MonkeyPatch, path: str) -> None:
    async with served(monkeypatch) as gateway:
        response = await gateway.client.get(path)
        assert (response.status_code, response.json()["error"]["code"]) == (404, "route_not_found")


@pytest.mark.anyio
async def test_without_docs_there_is_neither_page_nor_document(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch, settings="{docs_enabled: false}") as gateway:
        for path in ("/docs", "/docs/openapi.json"):
            response = await gateway.client.get(path)
            assert (response.status_code, response.json()["error"]["code"]) == (404, "route_not_found")
        assert (await gateway.client.get("/v1/models")).status_code == 200


@pytest.mark.anyio
async def test_the_page_is_served_to_everyone_and_may_load_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as gateway:
        gateway.client.headers.pop("authorization")
        response = await gateway.client.get("/docs")
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/html; charset=utf-8"
        assert response.headers["content-security-policy"].startswith("default-src 'none'; ")
        assert response.headers["x-content-type-options"] == "nosniff"
        assert (await gateway.client.get("/docs")).content == response.content
        assert (await gateway.client.get("/docs/openapi.json")).headers["content-type"] == "application/json"
        for name in MODELS:
            assert f">{name}<" not in response.text


@pytest.mark.anyio
@pytest.mark.skipif(not shutil.which("curl"), reason="the page's examples are for curl")
async def test_the_printed_commands_work_when_pasted(monkeypatch: pytest.MonkeyPatch) -> None:
    async with served(monkeypatch) as gateway:
        tree = Tree((await gateway.client.get("/docs")).text)
        commands = [text for text in tree.texts("pre") if text.startswith("curl")]
        assert len(commands) == sum(map(len, EXAMPLES.values())) + sum(map(len, TGI_EXAMPLES.values())) + 1
        for command in commands:
            reply = await pasted(gateway, command.replace("YOUR_MODEL", "lmi"))
            assert ('"generated_text"' if "/generate" in command else '"lmi"') in reply
            assert ("[DONE]" in reply) is ("curl -N" in command)


async def pasted(gateway: Served, command: str) -> str:
    environ = {"GATEWAY": str(gateway.client.base_url).rstrip("/"), "KEY": KEY, "PATH": "/usr/bin:/bin"}
    process = await asyncio.create_subprocess_exec(
        "bash", "-c", f"set -e; {command}", env=environ, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    async with asyncio.timeout(20):
        out, _ = await process.communicate()
    assert process.returncode == 0
    return out.decode()


# --- The page --------------------------------------------------------------------------------------------------------

VOID = {"meta", "link", "br", "wbr"}


class Tree(HTMLParser):
    """The page's elements, in order; fails on one that is not closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self._open: list[str] = []
        self._texts: list[tuple[list[str], str]] = []
        self.feed(html)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self._texts.append((list(self._open), data))

    def texts(self, tag: str) -> list[str]:
        return [text for path, text in self._texts if tag in path]

    def values(self, name: str) -> list[str]:
        return [value for _, attributes in self.elements if (value := attributes.get(name)) is not None]


@pytest.fixture(scope="module")
def tree() -> Tree:
    return Tree(page(DOCUMENT, "/docs/openapi.json"))


def test_the_page_needs_nothing_else(tree: Tree) -> None:
    tags = {tag for tag, _ in tree.elements}
    assert not tags & {"script", "iframe", "object", "embed", "form", "img", "base"}
    assert tree.values("src") == []
    assert [link for link in tree.values("href") if not link.startswith("#")] == ["data:,", "/docs/openapi.json"]
    assert not re.search(r"url\(|@import|https?:", STYLE)
    assert not [name for _, attributes in tree.elements for name in attributes if name.startswith("on")]


def test_the_page_can_be_found_ones_way_through(tree: Tree) -> None:
    ids = tree.values("id")
    assert len(ids) == len(set(ids))
    assert {link[1:] for link in tree.values("href") if link.startswith("#")} <= set(ids)
    assert set(tree.values("aria-labelledby")) <= set(ids)
    levels = [int(tag[1]) for tag, _ in tree.elements if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(below <= above + 1 for above, below in pairwise(levels))
    assert ("html", {"lang": "en"}) in tree.elements
    assert [tag for tag, _ in tree.elements if tag in ("nav", "main")] == ["nav", "main"]
    assert all(attributes.get("scope") for tag, attributes in tree.elements if tag == "th")
    tables = sum(tag == "table" for tag, _ in tree.elements)
    assert tables == sum(tag == "caption" for tag, _ in tree.elements) > 10


def test_the_page_shows_every_operation_schema_and_field(tree: Tree) -> None:
    ids = set(tree.values("id"))
    for path, item in DOCUMENT["paths"].items():
        for operation in item.values():
            assert operation["operationId"] in ids, path
    shown = "".join(tree.texts("main"))
    for name, schema in DOCUMENT["components"]["schemas"].items():
        assert f"schema-{name}" in ids
        for field in schema.get("properties", {}):
            assert field in shown
    for code in callers_errors():
        assert code in shown


def test_what_the_document_says_cannot_become_markup() -> None:
    hostile = json.loads(json.dumps(DOCUMENT))
    hostile["info"]["description"] = "<script>alert(1)</script> `<img src=x>`"
    hostile["components"]["schemas"]["Tool"]["description"] = "- <b>\n- \"'&"
    hostile["components"]["schemas"]["Tool"]["properties"]["<i>"] = {"type": "string", "pattern": "<s>"}
    tags = {tag for tag, _ in Tree(page(hostile, "/docs/openapi.json")).elements}
    assert not tags & {"script", "img", "b", "i", "s"}


@pytest.mark.parametrize("dark", [pytest.param(False, id="light"), pytest.param(True, id="dark")])
@pytest.mark.parametrize("colour", ["text", "soft", "link", "get", "post", "need"])
def test_text_stands_out_from_what_it_stands_on(colour: str, dark: bool) -> None:
    light_part, _, dark_part = STYLE.partition("@media(prefers-color-scheme:dark)")
    colours = dict(re.findall(r"--(\w+):#([0-9a-f]{3,6})", (dark_part if dark else light_part).partition("}")[0]))
    for ground in ("page", "pane", "code"):
        # WCAG 2.2, 1.4.3: https://www.w3.org/TR/WCAG22/#contrast-minimum
        assert contrast(colours[colour], colours[ground]) >= 4.5, ground


def contrast(one: str, other: str) -> float:
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def luminance(colour: str) -> float:
    digits = colour if len(colour) == 6 else "".join(digit * 2 for digit in colour)
    red, green, blue = (
        value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4
        for value in (int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4))
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
