"""docs/tgi.md says what TGI's routes do, and its examples work."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from adapters.tgi.parameters import PARAMETERS
from gateway.http.protocol import GatewayProtocol
from tests.docs.reading import page, table
from tests.docs.serving import served
from tests.docs.tables import renewed

PAGE = page("tgi.md")


def test_the_tables_are_current() -> None:
    assert renewed("tgi.md") == PAGE, "run `python -m tests.docs.tables`"
    assert [row[0].strip("`") for row in table(PAGE, "parameters")] == list(PARAMETERS)


@pytest.mark.anyio
async def test_every_route_is_named_and_every_named_one_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = re.search(r"\| URL \| What \|.*?\n\n", PAGE, re.DOTALL)
    assert rows
    named = re.findall(r"`(POST|GET) (/\w*)`", rows[0])
    async with served(monkeypatch) as gateway:
        own = {path for path in GatewayProtocol.frontend.hot_routes if not path.startswith(("/v1/", "/openai/"))}
        assert {path for _, path in named} == own
        for method, path in named:
            for url in (path, f"/models/lmi{path}".removesuffix("/")):
                content = b'{"inputs":"hello","messages":[]}' if method == "POST" else None
                answer = await gateway.client.request(method, url, content=content)
                assert answer.status_code not in (405, 500), (method, url)


@pytest.mark.anyio
async def test_what_is_not_there_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    said = re.search(r"- There are no (.+)\.$", PAGE, re.MULTILINE)
    assert said
    async with served(monkeypatch) as gateway:
        for path in re.findall(r"`(/\w+)`", said[1]):
            assert (await gateway.client.post(path, json={})).status_code == 404


@pytest.mark.anyio
async def test_errors_have_the_shape_that_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    assert '`{"error": text, "error_type": kind}`' in PAGE
    async with served(monkeypatch) as gateway:
        answer = await gateway.client.post("/generate", json={"inputs": "x"})
        assert list(answer.json()) == ["error", "error_type"]
        assert answer.status_code == 422  # two models, and no default


@pytest.mark.anyio
async def test_the_calls_of_the_examples_are_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    assert PAGE.count('"Once upon a time", max_new_tokens=50') == 2
    body: dict[str, Any] = {"inputs": "Once upon a time", "parameters": {"max_new_tokens": 50, "details": True}}
    async with served(monkeypatch) as gateway:
        (answer,) = (await gateway.client.post("/models/lmi", json=body)).json()
        assert answer["details"]["generated_tokens"] <= 50
        stream = await gateway.client.post("/models/lmi", json={**body, "stream": True})
        last = json.loads(stream.text.split("\n\n")[-2].removeprefix("data:"))
        assert last["generated_text"] == answer["generated_text"]
