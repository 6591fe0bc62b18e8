"""GET /admin/usage: the question in the query string, the answer as JSON or CSV, from Redis and from memory."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import httpx
import pytest

from gateway.admin.app import build_admin
from gateway.admin.server import admin_app
from gateway.admin.usage import MAX_LINES, usage_routes
from gateway.auth.keys import digest, new_key
from gateway.config.load import parse
from gateway.config.settings import Settings
from gateway.limits.script import Keys
from gateway.limits.usage import Books, InMemory, MemoryBooks
from gateway.limits.usage_redis import RedisBooks
from tests.support.redis_server import running_redis

KEY = new_key()
DAY = 20_513  # 2026-03-01
BOOKS = {
    DAY: {
        b"app|search|llama|requests": 3,
        b"app|search|llama|money": 1_500_000,
        b"cron||llama|requests": 4,
        b"cron||llama|milliseconds": 250,
    }
}
MARCH = {"from": "2026-03-01", "to": "2026-03-31"}


def ask(app: Any, query: Any = None, *, key: str = KEY) -> httpx.Response:
    async def main() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=("127.0.0.1", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://admin") as client:
            return await client.get("/admin/usage", params=query, headers={"authorization": f"Bearer {key}"})

    return asyncio.run(main())


def application(books: Books | None = None) -> Any:
    return build_admin(Settings(admin_key_digest=digest(KEY)), usage_routes(books or MemoryBooks(lambda: BOOKS)))


def configured(settings: str, memory: InMemory = lambda: None) -> Any:
    text = f"""
settings: {{admin_port: 0, admin_key_digest: '{digest(KEY)}', {settings}}}
models: [{{name: llama, deployments: [{{endpoint: e, region: us-east-1, container: lmi, version: 27}}]}}]
"""
    return admin_app(parse(text.encode(), "gateway.yaml", {}), memory)


def test_json() -> None:
    response = ask(application(), MARCH | {"group_by": "team"})
    assert (response.status_code, response.headers["content-type"]) == (200, "application/json")
    assert response.headers["cache-control"] == "no-store"
    nothing = {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0}
    assert response.json() == {
        "from": "2026-03-01",
        "to": "2026-03-31",
        "group_by": ["team"],
        "usage": [
            {"team": None, "requests": 4, **nothing, "seconds": 0.25, "money": 0},
            {"team": "search", "requests": 3, **nothing, "seconds": 0, "money": 1.5},
        ],
        "total": {"requests": 7, **nothing, "seconds": 0.25, "money": 1.5},
        "skipped": 0,
    }


def test_csv_is_a_file() -> None:
    response = ask(application(), MARCH | {"format": "csv", "key": "app"})
    assert (response.status_code, response.headers["content-type"]) == (200, "text/csv; charset=utf-8")
    assert response.headers["content-disposition"] == 'attachment; filename="usage-2026-03-01-to-2026-03-31.csv"'
    assert response.text == (
        "day,key,team,model,requests,prompt_tokens,cached_tokens,completion_tokens,seconds,money\n"
        "2026-03-01,app,search,llama,3,0,0,0,0.000,1.500000\n"
    )


@pytest.mark.parametrize(
    ("query", "requests"),
    [
        pytest.param({"key": "app"}, 3, id="key"),
        pytest.param({"team": ""}, 4, id="no team"),
        pytest.param({"team": "search"}, 3, id="team"),
        pytest.param({"model": "qwen"}, 0, id="another model"),
        pytest.param({"from": "2026-03-02"}, 0, id="later"),
    ],
)
def test_filters(query: dict[str, str], requests: int) -> None:
    assert ask(application(), MARCH | query).json()["total"]["requests"] == requests


@pytest.mark.parametrize(
    ("query", "code", "param", "message"),
    [
        pytest.param(
            {"from": "march"}, "invalid_value", "from", "from: expected a day such as 2026-01-31.", id="no day"
        ),
        pytest.param(
            {"group_by": "hour"},
            "invalid_value",
            "group_by",
            "group_by: expected some of day, key, team, model, each once, with commas between them.",
            id="unknown group",
        ),
        pytest.param({"format": "xml"}, "invalid_value", "format", "format: expected one of json, csv.", id="format"),
        pytest.param(
            {"modle": "llama"},
            "unknown_parameter",
            "modle",
            "There is no such parameter; expected from, to, key, team, model, group_by, format. Did you mean 'model'?",
            id="unknown parameter",
        ),
        pytest.param(
            [("key", "a"), ("key", "b")],
            "duplicate_parameter",
            "key",
            "The parameter key is there twice.",
            id="twice",
        ),
    ],
)
def test_a_wrong_question_is_400(query: Any, code: str, param: str, message: str) -> None:
    response = ask(application(), query)
    assert response.status_code == 400
    assert response.json() == {
        "error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    }


def test_an_answer_that_is_too_long_is_refused_with_advice() -> None:
    books = {DAY: {f"key-{n}||llama|requests".encode(): 1 for n in range(MAX_LINES + 1)}}
    app = application(MemoryBooks(lambda: books))
    response = ask(app, MARCH)
    assert (response.status_code, response.json()["error"]["param"]) == (400, "group_by")
    assert "more than 50000 lines" in response.json()["error"]["message"]
    assert ask(app, MARCH | {"group_by": "model"}).json()["total"]["requests"] == MAX_LINES + 1


def test_only_the_administration_may_read() -> None:
    assert ask(application(), MARCH, key=new_key()).status_code == 401


def test_the_configured_redis_is_read() -> None:
    with running_redis() as server, server.client() as client:
        client.hset(Keys("mine").books(DAY), mapping={b"app||llama|requests": 5})
        app = configured(f"limits_store: redis, redis_url: '{server.url}', redis_prefix: mine")
        assert ask(app, MARCH).json()["total"]["requests"] == 5


def test_the_memory_of_the_process_is_read() -> None:
    assert ask(configured("limits_store: memory", lambda: BOOKS), MARCH).json()["total"]["requests"] == 7


@pytest.mark.parametrize(
    ("books", "reason"),
    [
        pytest.param(
            MemoryBooks(lambda: None),
            "each worker process keeps its own; count in Redis (`limits_store: redis`)",
            id="kept by others",
        ),
        pytest.param(None, "there is no connection to Redis", id="Redis is away"),
    ],
)
def test_books_that_cannot_be_read_are_503(books: Books | None, reason: str) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        away = RedisBooks(f"redis://u:secret@127.0.0.1:{unused.getsockname()[1]}/0", prefix="x")
        response = ask(application(books or away), MARCH)
    assert (response.status_code, response.headers["retry-after"]) == (503, "1")
    assert response.json()["error"] == {
        "message": f"Usage cannot be read: {reason}.",
        "type": "server_error",
        "param": None,
        "code": "usage_unavailable",
    }
