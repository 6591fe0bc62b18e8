"""`lmi-gateway keys`: the keys in Redis from the command line."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from gateway.auth.keys import digest, is_key
from gateway.cli import main
from tests.support.redis_server import RedisServer, running_redis

MODELS = """
teams: [{name: search}]
keys: [{id: file, digest: 'sha256:%s', models: ['*']}]
models:
  - name: llama
    aliases: [fast]
    deployments: [{endpoint: e, region: us-east-1, container: lmi, version: 27}]
""" % ("a1" * 32)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as running:
        yield running


@pytest.fixture(autouse=True)
def _alone(server: RedisServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    with server.client() as client:
        client.flushall()


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["keys", *arguments])


def told(*arguments: str) -> Any:
    result = run(*arguments, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_a_key_is_printed_once_and_then_looked_after(server: RedisServer) -> None:
    there = ("--redis-url", server.url)
    made = run("create", "--id", "app", "--models", "llama,qwen", "--team", "search", *there)
    assert made.exit_code == 0, made.output
    assert made.stderr == "The key, shown this once:\n"
    key = made.stdout.strip()
    assert is_key(key)

    listed = run("list", *there)
    head, row = listed.stdout.splitlines()
    assert head.split() == ["ID", "STATUS", "MODELS", "TEAM", "CREATED", "EXPIRES"]
    assert re.fullmatch(r"app +active +llama, qwen +search +\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ +-", row)

    shown = run("show", "app", *there)
    assert 'models                ["llama", "qwen"]' in shown.stdout
    assert run("disable", "app", *there).exit_code == 0
    assert told("show", "app", *there)["status"] == "disabled"
    assert told("enable", "app", *there)["status"] == "active"

    rotated = run("rotate", "app", "--overlap", "15m", *there)
    assert is_key(rotated.stdout.strip())
    assert rotated.stdout.strip() != key
    until = told("show", "app", *there)["previous_valid_until"]
    assert 890 <= until - time.time() <= 901

    assert run("revoke", "app", *there).stdout == "revoked app\n"
    assert told("list", *there) == {"object": "list", "data": []}
    for result in (listed, shown):
        assert key not in result.output
        assert digest(key).removeprefix("sha256:") not in result.output


def test_everything_that_can_be_said_of_a_key(server: RedisServer) -> None:
    arguments = [
        *("create", "--id", "app", "--models", "*", "--priority", "low", "--expires", "2030-12-31"),
        *("--metrics", "--network", "10.0.0.0/8", "--network", "192.0.2.1"),
        *("--limit", "requests_per_minute=60", "--limit", "money_per_day=2.5", "--shadow-limit", "tokens_per_day=9"),
        *("--model-limit", "llama,tokens_per_minute=5", "--model-limit", "llama,tokens_burst=6"),
        *("--redis-url", server.url),
    ]
    made = told(*arguments)
    assert is_key(made.pop("key"))
    created = made.pop("created")
    assert abs(created - time.time()) < 60
    assert made == {
        "object": "key",
        "id": "app",
        "models": ["*"],
        "team": None,
        "priority": "low",
        "limits": {"requests_per_minute": 60, "money_per_day": 2.5},
        "shadow_limits": {"tokens_per_day": 9},
        "model_limits": [{"tokens_per_minute": 5, "tokens_burst": 6, "model": "llama"}],
        "networks": ["10.0.0.0/8", "192.0.2.1/32"],
        "metrics": True,
        "expires": 1924905600,
        "disabled": False,
        "status": "active",
        "previous_valid_until": None,
    }


@pytest.mark.parametrize(("text", "seconds"), [
    pytest.param("90d", 7_776_000, id="days"),
    pytest.param("12h", 43_200, id="hours"),
    pytest.param("30s", 30, id="seconds"),
])  # fmt: skip
def test_a_key_may_expire_some_time_from_now(server: RedisServer, text: str, seconds: int) -> None:
    made = told("create", "--id", "app", "--expires", text, "--redis-url", server.url)
    assert abs(made["expires"] - made["created"] - seconds) <= 1


@pytest.mark.parametrize(("arguments", "status", "message"), [
    pytest.param(["show", "none"], 1, "There is no key 'none' in Redis.", id="no such key"),
    pytest.param(["revoke", "none"], 1, "There is no key 'none' in Redis.", id="revoke nothing"),
    pytest.param(["create", "--id", "a/b"], 1,
                 "id: expected a key id: a letter or digit, then at most 63 letters, digits or . _ -", id="a wrong id"),
    pytest.param(["create", "--id", "x", "--models", ""], 1, "models: expected a list with at least one entry",
                 id="none"),
    pytest.param(["create", "--id", "x", "--network", "all"], 1,
                 "networks[0]: expected an IP address or a network such as 10.0.0.0/8 or 2001:db8::/32", id="network"),
    pytest.param(["create", "--id", "x", "--limit", "tokens_burst=5"], 1,
                 "limits: tokens_burst needs tokens_per_minute", id="a rule between limits"),
    pytest.param(["create", "--id", "x", "--limit", "speed=5"], 2, "expected NAME=NUMBER with one of", id="no limit"),
    pytest.param(["create", "--id", "x", "--limit", "tokens_per_day=many"], 2,
                 "expected a number after tokens_per_day=", id="no number"),
    pytest.param(["create", "--id", "x", "--expires", "soon"], 2, "expected a time from now such as 90d", id="no time"),
    pytest.param(["rotate", "x", "--overlap", "1"], 2, "expected a time up to 365d", id="no unit"),
    pytest.param(["rotate", "x", "--overlap", "366d"], 2, "expected a time up to 365d", id="too long"),
    pytest.param(["list", "--redis-prefix", "{x}"], 2, "expected 1 to 64 letters, digits or . _ -",
                 id="a wrong prefix"),
])  # fmt: skip
def test_refusals(server: RedisServer, arguments: list[str], status: int, message: str) -> None:
    result = run(*arguments, "--redis-url", server.url)
    assert result.exit_code == status
    assert message in " ".join(result.stderr.split())
    assert not result.stdout


def test_a_url_that_is_none_is_not_repeated() -> None:
    result = run("list", "--redis-url", "http://user:hunter2@127.0.0.1")
    assert result.exit_code == 2
    assert "expected a URL such as redis://127.0.0.1:6379/0" in " ".join(result.stderr.split())
    assert "hunter2" not in result.output


def test_a_redis_that_is_away_is_one_line() -> None:
    result = run("list", "--redis-url", "redis://:hunter2@127.0.0.1:9/0")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "Redis does not answer. Please retry later. (ConnectionError)\n"


def test_two_keys_cannot_share_an_id(server: RedisServer) -> None:
    assert run("create", "--id", "app", "--redis-url", server.url).exit_code == 0
    again = run("create", "--id", "app", "--redis-url", server.url)
    assert (again.exit_code, again.stderr) == (1, "There is a key 'app' already.\n")


def test_prefixes_keep_gateways_apart(server: RedisServer) -> None:
    told("create", "--id", "app", "--redis-url", server.url, "--redis-prefix", "one")
    assert told("list", "--redis-url", server.url, "--redis-prefix", "two")["data"] == []
    assert len(told("list", "--redis-url", server.url, "--redis-prefix", "one")["data"]) == 1


def configured(server: RedisServer, store: str = "redis") -> None:
    Path("gateway.yaml").write_text(f"settings: {{redis_url: '{server.url}', keys_store: {store}}}\n{MODELS}")


def test_the_configuration_says_where_and_what_may_be_named(server: RedisServer) -> None:
    configured(server)
    assert is_key(told("create", "--id", "app", "--models", "fast", "--team", "search")["key"])
    for arguments, message in (
        (("--id", "x", "--models", "gpt"), "models[0]: The model 'gpt' does not exist.\n"),
        (("--id", "x", "--team", "sales"), "team: The team 'sales' does not exist.\n"),
        (("--id", "file"), "There is a key 'file' in the configuration file.\n"),
    ):
        result = run("create", *arguments)
        assert (result.exit_code, result.stderr) == (1, message)


def test_it_is_told_when_no_gateway_would_look(server: RedisServer) -> None:
    configured(server, store="file")
    assert "looks for no keys in Redis" in run("list").stderr
    Path("gateway.yaml").write_text(MODELS)
    without = run("list")
    assert (without.exit_code, without.stderr) == (
        1,
        "the configuration has no redis_url: name one with --redis-url\n",
    )


def test_a_configured_gateway_needs_no_key_in_its_file() -> None:
    text = f"settings: {{redis_url: 'redis://127.0.0.1:9', keys_store: redis}}\n{MODELS}".replace("keys: [{id", "#")
    Path("gateway.yaml").write_text(text)
    result = CliRunner().invoke(main, ["check"])
    assert (result.exit_code, result.stderr) == (0, "")
