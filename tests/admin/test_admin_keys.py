"""The administration's keys over HTTP, on a real socket in front of a real Redis."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from gateway.admin.server import AdminServer
from gateway.auth.keys import digest, is_key, new_key
from gateway.config.load import parse
from tests.support.redis_server import RedisServer, running_redis

ADMIN = new_key()
OPEN = {"authorization": f"Bearer {ADMIN}"}
MODEL = {"endpoint": "e", "region": "us-east-1", "container": "lmi", "version": "27", "inference_component": "c"}


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


def configuration(redis_url: str, **settings: Any) -> bytes:
    return json.dumps(
        {
            "settings": {
                "redis_url": redis_url,
                "keys_store": "redis",
                "admin_port": 0,
                "admin_key_digest": digest(ADMIN),
                **settings,
            },
            "teams": [{"name": "search"}],
            "keys": [{"id": "file", "digest": digest(new_key()), "models": ["*"]}],
            "models": [
                {
                    "name": "llama",
                    "aliases": ["fast"],
                    "deployments": [MODEL],
                    "adapters": [{"name": "legal", "inference_component": "legal"}],
                },
                {"name": "qwen", "deployments": [MODEL]},
            ],
        }
    ).encode()


@pytest.fixture(scope="module")
def url(server: RedisServer) -> Iterator[str]:
    listener = socket.create_server(("127.0.0.1", 0))
    admin = AdminServer(parse(configuration(server.url), "gateway.yaml", {}), listener)
    admin.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    admin.stop()


@pytest.fixture
def client(url: str, server: RedisServer) -> Iterator[httpx.Client]:
    with server.client() as redis:
        redis.flushall()
    with httpx.Client(base_url=url, headers=OPEN, timeout=10) as opened:
        yield opened


def error(answer: httpx.Response) -> tuple[int, str, str | None]:
    found = answer.json()["error"]
    assert set(found) == {"message", "type", "param", "code"}
    return answer.status_code, found["code"], found["param"]


def created(client: httpx.Client, **terms: Any) -> dict[str, Any]:
    answer = client.post("/admin/keys", json={"id": "app", "models": ["llama"], **terms})
    assert answer.status_code == 201, answer.text
    body: dict[str, Any] = answer.json()
    return body


def test_a_key_is_shown_once(client: httpx.Client) -> None:
    answer = client.post(
        "/admin/keys",
        json={
            "id": "app",
            "models": ["llama", "fast", "llama:*"],
            "team": "search",
            "priority": "high",
            "limits": {"requests_per_minute": 60, "money_per_day": 2.5},
            "model_limits": [{"model": "qwen", "tokens_per_day": 1000}],
            "networks": ["10.0.0.0/8"],
            "expires": 4_000_000_000,
        },
    )
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    made = answer.json()
    key = made.pop("key")
    assert is_key(key)
    assert made == client.get("/admin/keys/app").json()
    assert {name: made[name] for name in ("object", "id", "models", "team", "priority", "limits", "status")} == {
        "object": "key",
        "id": "app",
        "models": ["llama", "fast", "llama:*"],
        "team": "search",
        "priority": "high",
        "limits": {"requests_per_minute": 60, "money_per_day": 2.5},
        "status": "active",
    }
    listed = client.get("/admin/keys")
    assert listed.json() == {"object": "list", "data": [made]}
    for text in (listed.text, client.get("/admin/keys/app").text):
        assert key not in text
        assert digest(key).removeprefix("sha256:") not in text


def test_keys_are_listed_by_id(client: httpx.Client) -> None:
    for id_ in ("b", "a", "c"):
        created(client, id=id_)
    assert [key["id"] for key in client.get("/admin/keys").json()["data"]] == ["a", "b", "c"]


def test_a_rotation_shows_the_new_key_once(client: httpx.Client) -> None:
    old = created(client)["key"]
    answer = client.post("/admin/keys/app/rotate", json={"overlap_s": 60})
    assert answer.status_code == 200
    new = answer.json()["key"]
    assert is_key(new)
    assert new != old
    assert answer.json()["previous_valid_until"] is not None
    assert "key" not in client.get("/admin/keys/app").json()
    at_once = client.post("/admin/keys/app/rotate", json={"overlap_s": 0}).json()
    assert at_once["previous_valid_until"] is None
    assert client.post("/admin/keys/app/rotate").json()["previous_valid_until"] is not None, "an hour unless told"


def test_a_key_is_disabled_enabled_changed_and_revoked(client: httpx.Client) -> None:
    created(client, team="search")
    assert client.post("/admin/keys/app/disable").json()["status"] == "disabled"
    assert client.post("/admin/keys/app/enable").json()["status"] == "active"
    changed = client.patch("/admin/keys/app", json={"team": None, "models": ["*"], "expires": 1}).json()
    assert (changed["team"], changed["models"], changed["status"]) == (None, ["*"], "expired")
    answer = client.delete("/admin/keys/app")
    assert (answer.status_code, answer.json()) == (200, {"id": "app", "object": "key", "deleted": True})
    assert error(client.get("/admin/keys/app")) == (404, "key_not_found", None)


@pytest.mark.parametrize(("body", "code", "param"), [
    pytest.param({"id": "x"}, "missing_required_parameter", "models", id="no models"),
    pytest.param({"models": ["*"]}, "missing_required_parameter", "id", id="no id"),
    pytest.param({"id": "a/b", "models": ["*"]}, "invalid_value", "id", id="a wrong id"),
    pytest.param({"id": "x", "models": []}, "invalid_value", "models", id="an empty list"),
    pytest.param({"id": "x", "models": "*"}, "invalid_value", "models", id="text for a list"),
    pytest.param({"id": "x", "models": ["mistral"]}, "invalid_value", "models[0]", id="an unknown model"),
    pytest.param({"id": "x", "models": ["*", "qwen:*"]}, "invalid_value", "models[1]", id="adapters there are none of"),
    pytest.param({"id": "x", "models": ["*"], "team": "sales"}, "invalid_value", "team", id="an unknown team"),
    pytest.param({"id": "x", "models": ["*"], "colour": 1}, "unknown_parameter", "colour", id="an unknown field"),
    pytest.param({"id": "x", "models": ["*"], "digest": "sha256:" + "a" * 64}, "unknown_parameter", "digest",
                 id="a digest is made, not said"),
    pytest.param({"id": "x", "models": ["*"], "disabled": True}, "unknown_parameter", "disabled", id="nor is a state"),
    pytest.param({"id": "x", "models": ["*"], "limits": {"request_per_minute": 1}}, "unknown_parameter",
                 "limits.request_per_minute", id="an unknown limit"),
    pytest.param({"id": "x", "models": ["*"], "limits": {"tokens_per_day": "9"}}, "invalid_value",
                 "limits.tokens_per_day", id="text for a number"),
    pytest.param({"id": "x", "models": ["*"], "limits": {"requests_burst": 9}}, "invalid_value", "limits",
                 id="a rule between limits"),
    pytest.param({"id": "x", "models": ["*"], "networks": ["10.0.0.1/8"]}, "invalid_value", "networks[0]",
                 id="a network"),
    pytest.param({"id": "x", "models": ["*"], "expires": "soon"}, "invalid_value", "expires", id="a time"),
    pytest.param([1], "invalid_json", None, id="a list"),
])  # fmt: skip
def test_wrong_bodies_are_refused_and_make_nothing(
    client: httpx.Client, body: Any, code: str, param: str | None
) -> None:
    assert error(client.post("/admin/keys", json=body)) == (400, code, param)
    assert client.get("/admin/keys").json()["data"] == []


def test_messages_are_in_the_words_of_the_configuration(client: httpx.Client) -> None:
    for body, message in (
        ({"id": "x", "models": ["*"], "prioritty": "high"}, "The field prioritty is unknown. Did you mean 'priority'?"),
        ({"id": "x", "models": ["*"], "priority": "top"}, "priority: expected one of high, default, low."),
        ({"id": "x", "models": ["*"], "limits": {"requests_burst": 1}}, "requests_burst needs requests_per_minute."),
    ):
        assert client.post("/admin/keys", json=body).json()["error"]["message"] == message


@pytest.mark.parametrize(("method", "path", "body", "expected"), [
    pytest.param("POST", "/admin/keys", b'{"id": ', (400, "invalid_json", None), id="no JSON"),
    pytest.param("POST", "/admin/keys", b"\xff", (400, "invalid_json", None), id="no text"),
    pytest.param("POST", "/admin/keys", b'{"id":"' + b"x" * 70_000, (413, "request_too_large", None), id="too large"),
    pytest.param("PATCH", "/admin/keys/app", b'{"id": "other"}', (400, "unknown_parameter", "id"), id="another id"),
    pytest.param("PATCH", "/admin/keys/app", b'{"models": null}', (400, "missing_required_parameter", "models"),
                 id="taking back what is required"),
    pytest.param("PATCH", "/admin/keys/app", b'{"models": ["x"]}', (400, "invalid_value", "models[0]"),
                 id="a stranger"),
    pytest.param("POST", "/admin/keys/app/rotate", b'{"overlap_s": -1}', (400, "invalid_value", "overlap_s"),
                 id="before"),
    pytest.param("POST", "/admin/keys/app/rotate", b'{"overlap_s": true}', (400, "invalid_value", "overlap_s"),
                 id="true"),
    pytest.param("POST", "/admin/keys/app/rotate", b'{"overlap": 1}', (400, "unknown_parameter", "overlap"),
                 id="name"),
    pytest.param("POST", "/admin/keys/app/disable", b'{"now": 1}', (400, "unknown_parameter", "now"), id="no fields"),
    pytest.param("POST", "/admin/keys/none/rotate", b"", (404, "key_not_found", None), id="rotate nothing"),
    pytest.param("POST", "/admin/keys/none/disable", b"", (404, "key_not_found", None), id="disable nothing"),
    pytest.param("PATCH", "/admin/keys/none", b"{}", (404, "key_not_found", None), id="change nothing"),
    pytest.param("DELETE", "/admin/keys/none", b"", (404, "key_not_found", None), id="revoke nothing"),
    pytest.param("POST", "/admin/keys", b'{"id":"app","models":["*"]}', (409, "key_exists", "id"), id="twice"),
    pytest.param("POST", "/admin/keys", b'{"id":"file","models":["*"]}', (409, "key_exists", "id"), id="in the file"),
    pytest.param("GET", "/v1/models", b"", (404, "route_not_found", None), id="callers' URLs are not here"),
    pytest.param("GET", "/docs", b"", (404, "route_not_found", None), id="no documentation page"),
    pytest.param("GET", "/openapi.json", b"", (404, "route_not_found", None), id="no OpenAPI"),
    pytest.param("PUT", "/admin/keys", b"", (405, "method_not_allowed", None), id="another method"),
])  # fmt: skip
def test_refusals(
    client: httpx.Client, method: str, path: str, body: bytes, expected: tuple[int, str, str | None]
) -> None:
    created(client)
    assert error(client.request(method, path, content=body)) == expected


@pytest.mark.parametrize("path", ["/admin/keys", "/admin/keys/app"])
def test_without_its_own_key_nobody_comes_in(url: str, client: httpx.Client, path: str) -> None:
    key = created(client)["key"]
    with httpx.Client(base_url=url) as stranger:
        assert error(stranger.get(path)) == (401, "missing_api_key", None)
        for wrong in (new_key(), key, ADMIN[:-1], digest(ADMIN)):
            answer = stranger.get(path, headers={"authorization": f"Bearer {wrong}"})
            assert error(answer) == (401, "invalid_api_key", None)


def test_guessing_its_key_is_slowed_and_its_holder_passes(server: RedisServer) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    admin = AdminServer(parse(configuration(server.url), "gateway.yaml", {}), listener)
    admin.start()
    with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}") as client:
        answers = [
            client.get("/admin/keys", headers={"api-key": new_key(), "x-forwarded-for": f"10.0.0.{number}"})
            for number in range(30)
        ]
        assert answers[0].status_code == 401
        assert error(answers[-1]) == (429, "too_many_failed_attempts", None)
        assert answers[-1].headers["retry-after"] == "1"
        assert client.get("/admin/keys", headers=OPEN).status_code == 200
    admin.stop()


def test_while_redis_is_away_it_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with running_redis() as server:
        listener = socket.create_server(("127.0.0.1", 0))
        admin = AdminServer(parse(configuration(server.url), "gateway.yaml", {}), listener)
        admin.start()
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", headers=OPEN) as client:
            assert client.get("/admin/keys").status_code == 200
            server.kill()
            answer = client.get("/admin/keys")
            assert error(answer) == (503, "keys_unavailable", None)
            assert str(server.port) not in answer.text
            server.start()
            assert client.get("/admin/keys").status_code == 200
        admin.stop()


def test_the_log_names_ids_and_no_keys(client: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        key = created(client)["key"]
        client.delete("/admin/keys/app")
    told = [vars(record) for record in caplog.records if record.getMessage() == "key changed"]
    assert [(fields["key"], fields["action"]) for fields in told] == [("app", "create"), ("app", "revoke")]
    assert key not in caplog.text
