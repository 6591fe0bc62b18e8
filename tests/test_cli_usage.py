"""`lmi-gateway usage`: what it prints of a real Redis, and how it fails."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from gateway.cli import main
from gateway.limits.script import Keys
from tests.support.redis_server import RedisServer, running_redis

DAY = 20_513  # 2026-03-01
MODELS = """
models: [{name: llama, deployments: [{endpoint: e, region: us-east-1, container: lmi, version: 27}]}]
"""
MARCH = ("--from", "2026-03-01", "--to", "2026-03-31")


@pytest.fixture(scope="module")
def server() -> Iterator[RedisServer]:
    with running_redis() as running, running.client() as client:
        for prefix, key in (("lmi-gateway", "app"), ("other", "another")):
            books: dict[str, int] = {
                f"{key}|search|llama|requests": 1234,
                f"{key}|search|llama|prompt_tokens": 56_789,
                f"{key}|search|llama|milliseconds": 90_500,
                f"{key}|search|llama|money": 1_500_000,
                f"{key}||llama|requests": 1,
            }
            client.hset(Keys(prefix).books(DAY), mapping=books)
        yield running


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    for name in os.environ:
        if name.startswith("LMI_GATEWAY_"):
            monkeypatch.delenv(name)


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner().invoke(main, ["usage", *arguments], env=environ)


def written(settings: str) -> None:
    Path("gateway.yaml").write_text(f"settings: {{insecure: true, {settings}}}\n{MODELS}")


def test_a_process_prints_a_table(server: RedisServer) -> None:
    command = [sys.executable, "-m", "gateway", "usage", "--redis-url", server.url, *MARCH]
    root = Path(__file__).parent.parent
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=root, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        "DAY         KEY  TEAM    MODEL  REQUESTS  PROMPT  CACHED  COMPLETION  SECONDS     MONEY",
        "2026-03-01  app  -       llama         1       0       0           0    0.000  0.000000",
        "2026-03-01  app  search  llama     1,234  56,789       0           0   90.500  1.500000",
        "TOTAL                              1,235  56,789       0           0   90.500  1.500000",
    ]


def test_csv(server: RedisServer) -> None:
    result = run("--redis-url", server.url, *MARCH, "--csv", "--group-by", "team,model")
    assert (result.exit_code, result.stderr) == (0, "")
    assert list(csv.DictReader(io.StringIO(result.stdout)))[1] == {
        "team": "search",
        "model": "llama",
        "requests": "1234",
        "prompt_tokens": "56789",
        "cached_tokens": "0",
        "completion_tokens": "0",
        "seconds": "90.500",
        "money": "1.500000",
    }


def test_json_of_the_last_30_days(server: RedisServer) -> None:
    before = datetime.now(UTC).date()
    result = run("--redis-url", server.url, "--json")
    found = json.loads(result.stdout)
    assert found["to"] in (str(before), str(before + timedelta(days=1)))
    assert datetime.fromisoformat(found["to"]) - datetime.fromisoformat(found["from"]) == timedelta(days=29)
    assert found["group_by"] == ["day", "key", "team", "model"]


@pytest.mark.parametrize(
    ("filters", "requests"),
    [
        pytest.param([], 1235, id="all"),
        pytest.param(["--key", "app"], 1235, id="key"),
        pytest.param(["--key", "cron"], 0, id="another key"),
        pytest.param(["--team", "search"], 1234, id="team"),
        pytest.param(["--team", ""], 1, id="no team"),
        pytest.param(["--model", "qwen"], 0, id="another model"),
    ],
)
def test_filters(server: RedisServer, filters: list[str], requests: int) -> None:
    result = run("--redis-url", server.url, *MARCH, "--json", *filters)
    assert json.loads(result.stdout)["total"]["requests"] == requests


def test_no_usage_is_said(server: RedisServer) -> None:
    result = run("--redis-url", server.url, "--from", "2026-03-02", "--to", "2026-03-03")
    assert (result.exit_code, result.stdout) == (0, "No usage from 2026-03-02 to 2026-03-03.\n")


def test_what_is_passed_over_is_said(server: RedisServer) -> None:
    with server.client() as client:
        client.hset(Keys("odd").books(DAY), mapping={"hello": "world"})
    result = run("--redis-url", server.url, "--redis-prefix", "odd", *MARCH, "--csv")
    assert (result.exit_code, len(result.stdout.splitlines())) == (0, 1)
    assert result.stderr == "Entries passed over, as no gateway has written them: 1\n"


@pytest.mark.parametrize(
    ("settings", "arguments", "environ", "key"),
    [
        pytest.param("limits_store: redis, redis_url: '{url}'", [], {}, "app", id="the file"),
        pytest.param(
            "limits_store: redis, redis_url: '{url}', redis_prefix: other", [], {}, "another", id="the file's prefix"
        ),
        pytest.param(
            "limits_store: redis, redis_url: 'redis://127.0.0.1:1'",
            [],
            {"LMI_GATEWAY_REDIS_URL": "{url}"},
            "app",
            id="a variable over the file",
        ),
        pytest.param(
            "redis_prefix: other",
            ["--config", "gateway.yaml", "--redis-url", "{url}"],
            {},
            "another",
            id="an option over the file, whose prefix counts",
        ),
        pytest.param("port: x", ["--redis-url", "{url}"], {}, "app", id="an option without the file"),
        pytest.param(
            "limits_store: redis, redis_url: '{url}'",
            ["--redis-prefix", "other"],
            {},
            "another",
            id="a prefix over the file's",
        ),
    ],
)
def test_where_redis_is(
    server: RedisServer, settings: str, arguments: list[str], environ: dict[str, str], key: str
) -> None:
    written(settings.replace("{url}", server.url))
    result = run(
        *(argument.replace("{url}", server.url) for argument in arguments),
        *(*MARCH, "--json", "--group-by", "key"),
        **{name: value.replace("{url}", server.url) for name, value in environ.items()},
    )
    assert [line["key"] for line in json.loads(result.stdout)["usage"]] == [key]


# What goes wrong


def test_usage_in_memory_is_elsewhere() -> None:
    written("redis_url: 'redis://127.0.0.1:1'")
    result = run()
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == (
        "`limits_store: memory` keeps usage inside the gateway's process: read it from GET /admin/usage on the admin"
        " port, or count in Redis with `limits_store: redis`\n"
    )


def test_a_wrong_configuration_is_told() -> None:
    result = run()
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "gateway.yaml: no such file; name one with --config or LMI_GATEWAY_CONFIG\n"


@pytest.mark.parametrize("by_option", [True, False])
def test_redis_that_is_away_is_one_line_without_a_secret(by_option: bool) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"redis://user:secret@127.0.0.1:{unused.getsockname()[1]}/0"
        written(f"limits_store: redis, redis_url: '{url}'")
        result = run(*(["--redis-url", url] if by_option else []))
    source = "--redis-url" if by_option else "settings.redis_url"
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"usage cannot be read from {source}: there is no connection to Redis\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["--from", "yesterday"], "--from: expected a day such as 2026-01-31", id="no day"),
        pytest.param(["--to", "2026-02-30"], "--to: expected a day such as 2026-01-31", id="no such day"),
        pytest.param(
            ["--from", "2026-03-02", "--to", "2026-03-01"],
            "--from: 2026-03-02 is after 2026-03-01, the last day",
            id="backwards",
        ),
        pytest.param(
            ["--group-by", "day,month"],
            "--group-by: expected some of day, key, team, model, each once, with commas between them",
            id="unknown group",
        ),
        pytest.param(["--key", ""], "--key: expected a name, found nothing", id="no key"),
        pytest.param(["--csv", "--json"], "--csv and --json exclude each other", id="two formats"),
        pytest.param(
            ["--redis-url", "http://u:secret@h"],
            "'--redis-url': expected a URL such as redis://127.0.0.1:6379/0, with # / ? and the like percent-encoded in"
            " a password",
            id="no URL of Redis",
        ),
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str], message: str) -> None:
    result = run("--redis-url", "redis://127.0.0.1:1", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.endswith(f"{message}\n")
    assert "secret" not in result.stderr


@pytest.mark.parametrize(
    ("url", "status", "message"),
    [
        ("redis://:se#cret@h", 2, "expected a URL such as"),
        ("redis://:secret/@h", 2, "expected a URL such as"),
        ("redis://u:secret@h/0?colour=red", 2, "expected a URL such as"),
        ("unix:///secret", 1, "usage cannot be read from --redis-url"),
    ],
)
def test_a_url_that_is_wrong_further_on_is_not_repeated(url: str, status: int, message: str) -> None:
    result = run("--redis-url", url)
    assert (result.exit_code, result.stdout) == (status, "")
    assert message in result.stderr
    assert "cret" not in result.stderr
    assert result.exception is None or isinstance(result.exception, SystemExit)
