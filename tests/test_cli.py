"""The command line, without starting servers: what it prints, where, and its exit codes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

import gateway.http
from gateway.auth.keys import digest, is_key, new_key
from gateway.cli import main
from gateway.config.load import Config, parse
from gateway.config.schema import json_schema_text

DIGEST = "sha256:" + "a1" * 32
MODELS = """
models:
  - name: llama
    aliases: [gpt-4o, fast]
    deployments:
      - {endpoint: llama-lmi, region: us-east-1, container: lmi, version: 27, weight: 3}
      - {endpoint: llama-vllm, region: eu-west-1, container: vllm, version: 0.27.1, weight: 0,
         role_arn: 'arn:aws:iam::123456789012:role/r', endpoint_url: 'http://127.0.0.1:9'}
  - name: qwen
    deployments:
      - {endpoint: qwen, region: us-east-1, container: vllm, version: 0.10, inference_component: ic}
"""
KEYED = f"keys: [{{id: k, digest: '{DIGEST}', models: ['*']}}]\n{MODELS}"


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    before = dict(os.environ)
    yield
    for name in set(os.environ) - set(before):
        del os.environ[name]
    os.environ |= before


def run(*arguments: str, stdin: str | None = None, **environ: str) -> Result:
    return CliRunner().invoke(main, arguments, input=stdin, env=environ)


def written(text: str, name: str = "gateway.yaml") -> Path:
    path = Path(name)
    path.write_text(text)
    return path


# check


def test_check_lists_the_models() -> None:
    written(KEYED)
    result = run("check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "MODEL  ALIASES       CONTAINER    ENDPOINT    REGION     WEIGHT  NOTES",
        "llama  gpt-4o, fast  lmi 27       llama-lmi   us-east-1  3       -",
        "                     vllm 0.27.1  llama-vllm  eu-west-1  0       "
        "weight 0: gets no calls; role arn:aws:iam::123456789012:role/r; at http://127.0.0.1:9",
        "qwen   -             vllm 0.10    qwen        us-east-1  1       component ic",
    ]


def test_check_lists_adapters_under_their_models() -> None:
    adapters = "    adapters: [{name: a, inference_component: a-ic}, {name: b, aliases: [bee], served_name: b-1}]\n"
    written(
        """
settings: {insecure: true}
models:
  - name: llama
    deployments: [{endpoint: e, region: us-east-1, container: lmi, version: 27, inference_component: base}]
"""
        + adapters
    )
    result = run("check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "MODEL    ALIASES  CONTAINER  ENDPOINT  REGION     WEIGHT  NOTES",
        "llama    -        lmi 27     e         us-east-1  1       component base",
        "llama:a  -        lmi 27     e         us-east-1  1       component a-ic",
        "llama:b  bee      lmi 27     e         us-east-1  1       component base; adapter b-1",
    ]


def test_check_tells_what_a_container_does_not_take() -> None:
    written(
        """
settings: {insecure: true}
models:
  - name: m
    deployments:
      - {endpoint: a, region: us-east-1, container: tgi, version: 2.3}
      - {endpoint: b, region: us-east-1, container: tgi, version: 1.4.5, messages_api: true}
      - {endpoint: c, region: us-east-1, container: tgi, version: 2.4}
      - {endpoint: d, region: us-east-1, container: lmi, version: 15, schema: tgi}
      - {endpoint: e, region: us-east-1, container: vllm, version: 0.33, tokenizes: true}
"""
    )
    result = run("check")
    assert (result.exit_code, result.stderr) == (0, "")
    assert [line.split("1       ")[1] for line in result.stdout.splitlines()[1:]] == [
        "texts only", "chats only", "-", "schema tgi", "tokenizes",
    ]  # fmt: skip


def test_check_prints_json() -> None:
    written(KEYED)
    result = run("check", "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["ok"], found["problems"]) == (0, True, [])
    assert found["keys"] == [{"id": "k", "models": ["*"]}]
    assert found["models"][1] == {
        "name": "qwen",
        "aliases": [],
        "deployments": [
            {
                "container": "vllm",
                "version": "0.10",
                "endpoint": "qwen",
                "region": "us-east-1",
                "weight": 1,
                "notes": ["component ic"],
            }
        ],
    }
    assert "a1a1" not in result.stdout


def test_check_tells_every_problem_on_stderr() -> None:
    written("settings: {prot: 1}\nmodels: []\n")
    result = run("check", LMI_GATEWAY_PORT="x")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.splitlines() == [
        "gateway.yaml:1:12: settings.prot: unknown key; did you mean 'port'?",
        "gateway.yaml:2:9: models: expected a list with at least one entry, found an empty list",
        "LMI_GATEWAY_PORT: expected a whole number from 0 to 65535, found 'x'",
    ]


def test_check_prints_problems_as_json_too() -> None:
    written("models: []\n")
    result = run("check", "--json")
    assert result.exit_code == 1
    message = "expected a list with at least one entry, found an empty list"
    assert json.loads(result.stdout) == {
        "ok": False,
        "problems": [{"line": 1, "column": 9, "path": "models", "message": message, "source": "gateway.yaml"}],
    }
    assert result.stderr == f"gateway.yaml:1:9: models: {message}\n"


@pytest.mark.parametrize(
    ("arguments", "environ", "name"),
    [
        pytest.param(["--config", "one.yaml"], {"LMI_GATEWAY_CONFIG": "two.yaml"}, "one", id="option first"),
        pytest.param([], {"LMI_GATEWAY_CONFIG": "two.yaml"}, "two", id="then the variable"),
        pytest.param([], {}, "gateway", id="then gateway.yaml"),
    ],
)
def test_the_file_is_found(arguments: list[str], environ: dict[str, str], name: str) -> None:
    for stem in ("one", "two", "gateway"):
        written(KEYED.replace("qwen", stem), f"{stem}.yaml")
    assert json.loads(run("check", "--json", *arguments, **environ).stdout)["models"][1]["name"] == name


def test_a_missing_file_is_one_line() -> None:
    result = run("check")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "gateway.yaml: no such file; name one with --config or LMI_GATEWAY_CONFIG\n"


def test_check_says_when_there_are_no_keys() -> None:
    written(MODELS)
    assert run("check").stderr == "no API keys are configured: the gateway will serve only with --insecure\n"
    assert run("check", LMI_GATEWAY_INSECURE="true").stderr == ""


# serve


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Config, Path | None, dict[str, str]]]:
    """What the server was started with: configuration, path, and the variables its workers would see."""
    calls: list[tuple[Config, Path | None, dict[str, str]]] = []

    def run_server(config: Config, path: Path | None) -> int:
        calls.append((config, path, {k: v for k, v in os.environ.items() if k.startswith("LMI_GATEWAY_")}))
        return 7 if config.settings.port == 7 else 0

    fake = types.ModuleType("gateway.http.server")
    fake.__dict__["run"] = run_server
    monkeypatch.setitem(sys.modules, "gateway.http.server", fake)
    monkeypatch.setattr(gateway.http, "server", fake, raising=False)
    return calls


def test_options_win_over_variables_and_those_over_the_file(
    served: list[tuple[Config, Path | None, dict[str, str]]],
) -> None:
    path = written(f"settings: {{port: 1, workers: 2, host: 10.0.0.1}}\n{KEYED}", "other.yaml")
    result = run(
        "serve", "--config", str(path), "--port", "0", "--host", "::1", LMI_GATEWAY_PORT="5", LMI_GATEWAY_WORKERS="4"
    )
    assert (result.exit_code, result.output) == (0, "")
    [(config, given, variables)] = served
    assert (config.settings.host, config.settings.port, config.settings.workers) == ("::1", 0, 4)
    assert given == path
    # Workers read the configuration anew and must see the same.
    again = parse(path.read_bytes(), str(path), variables)
    assert again == config


def test_the_servers_status_is_the_exit_code(served: list[tuple[Config, Path | None, dict[str, str]]]) -> None:
    written(KEYED)
    assert run("serve", "--port", "7").exit_code == 7
    assert served[0][1] is None


NO_KEYS = (
    "no API keys are configured: make one with `lmi-gateway keys new --id NAME`,"
    " or allow every caller with --insecure\n"
)


@pytest.mark.parametrize("text", [MODELS, f"settings: {{insecure: false}}\nkeys: []\n{MODELS}"])
def test_without_keys_nothing_is_served(text: str, served: list[tuple[Config, Path | None, dict[str, str]]]) -> None:
    written(text)
    result = run("serve")
    assert (result.exit_code, result.stdout, result.stderr, served) == (1, "", NO_KEYS, [])


@pytest.mark.parametrize(
    ("arguments", "environ", "settings"),
    [
        pytest.param(["--insecure"], {}, "", id="by option"),
        pytest.param([], {"LMI_GATEWAY_INSECURE": "true"}, "", id="by variable"),
        pytest.param([], {}, "settings: {insecure: true}\n", id="by the file"),
    ],
)
def test_without_keys_only_insecure_serves(
    arguments: list[str],
    environ: dict[str, str],
    settings: str,
    served: list[tuple[Config, Path | None, dict[str, str]]],
) -> None:
    written(settings + MODELS)
    assert run("serve", *arguments, **environ).exit_code == 0
    assert served[0][0].settings.insecure


def test_serve_tells_what_is_wrong_with_the_configuration(
    served: list[tuple[Config, Path | None, dict[str, str]]],
) -> None:
    written("models: []\n")
    result = run("serve")
    assert (result.exit_code, result.stdout, served) == (1, "", [])
    assert result.stderr.startswith("gateway.yaml:1:9: models: ")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["serve", "--port", "70000"], id="port out of bounds"),
        pytest.param(["serve", "--port", "http"], id="port no number"),
        pytest.param(["serve", "--workers", "0"], id="no workers"),
        pytest.param(["serve", "--host", "a b"], id="host with a blank"),
        pytest.param(["dev", "--host", ""], id="no host"),
        pytest.param(["serve", "--prot", "1"], id="unknown option"),
        pytest.param(["start"], id="unknown command"),
        pytest.param(["keys", "new"], id="no id"),
        pytest.param(["keys", "new", "--id", "a b"], id="id with a blank"),
        pytest.param(["keys", "new", "--id", "a", "--models", "a b"], id="model with a blank"),
        pytest.param(["keys", "new", "--id", "a", "--models", ","], id="no model"),
        pytest.param(["keys", "digest", "sk-lmi-secret"], id="a key as an argument"),
    ],
)
def test_a_wrong_command_line_exits_with_2(arguments: list[str]) -> None:
    written(KEYED)
    result = run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Error: " in result.stderr


# keys


def test_a_new_key_works_with_the_entry_printed_for_it() -> None:
    result = run("keys", "new", "--id", "no", "--models", "gpt-4o, qwen")
    assert result.exit_code == 0
    key, entry = result.stdout.split("\n", 1)
    assert is_key(key)
    config = parse(f"keys:\n{entry}{MODELS}".encode(), "gateway.yaml", {})
    assert [(found.id, found.digest, found.models) for found in config.keys] == [
        ("no", digest(key), ("gpt-4o", "qwen"))
    ]
    assert result.output.count(key) == 1
    assert key not in result.stderr


def test_a_new_key_may_use_every_model_by_default() -> None:
    assert yaml.safe_load(run("keys", "new", "--id", "k").stdout.split("\n", 1)[1])[0]["models"] == ["*"]


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_the_digest_of_a_key_from_standard_input(ending: str) -> None:
    key = new_key()
    result = run("keys", "digest", stdin=key + ending)
    assert (result.exit_code, result.stdout, result.stderr) == (0, f"{digest(key)}\n", "")


def test_a_long_key_made_elsewhere_is_taken_with_a_warning() -> None:
    key = "another-scheme_0123456789abcdefXYZ"
    result = run("keys", "digest", stdin=key)
    assert (result.exit_code, result.stdout) == (0, f"{digest(key)}\n")
    assert result.stderr == "not made by `lmi-gateway keys new`: make sure that it is random throughout\n"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("canary-short", id="short"),
        pytest.param("canary with blanks that is long enough", id="blanks"),
        pytest.param("canary-but-not-in-ascii-and-long-enough-ü", id="not ASCII"),
        pytest.param("canary-of-the-first-line-that-is-long\ncanary-of-the-second", id="two lines"),
    ],
)
def test_what_is_no_key_is_refused_without_repeating_it(text: str) -> None:
    result = run("keys", "digest", stdin=text)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("not a key: expected sk-lmi- and 43 characters")
    assert "canary" not in result.stderr


# schema, version, module


def test_schema_prints_the_json_schema() -> None:
    result = run("schema")
    assert (result.exit_code, result.stdout) == (0, json_schema_text())


def test_the_module_is_the_command() -> None:
    command = [sys.executable, "-m", "gateway", "--version"]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, f"lmi-gateway {gateway.__version__}\n", "")


def test_commands_other_than_serve_load_neither_the_server_nor_aws() -> None:
    code = (
        "import sys, gateway.cli, gateway.dev; print(*{'uvicorn', 'litestar', 'aioboto3', 'deploy'} & {*sys.modules})"
    )
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, timeout=30)
    assert (ended.returncode, ended.stdout) == (0, "\n")
