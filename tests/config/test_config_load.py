"""What a good file and a good environment mean."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import certifi
import pytest
from pydantic import ValidationError

from gateway.config.load import Config, load, parse
from gateway.config.models import Deployment, Key, Model, ModelsFile
from gateway.config.problems import ConfigError
from gateway.config.settings import Settings
from gateway.limits.wire import Address

DEPLOYMENT = "{endpoint: e, region: us-east-1, container: lmi, version: 15}"
SMALL = f"models: [{{name: m, deployments: [{DEPLOYMENT}]}}]\n"
DIGEST = "sha256:" + "a1" * 32


def parsed(text: str, environ: dict[str, str] | None = None) -> Config:
    return parse(text.encode(), "gateway.yaml", environ or {})


def problems(text: str, environ: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(ConfigError) as raised:
        parsed(text, environ)
    return str(raised.value).split("\n")


def deployment(**changes: object) -> Deployment:
    values: dict[str, Any] = {"endpoint": "e", "region": "us-east-1", "container": "lmi", "version": "15"}
    return Deployment(**values | changes)


def test_a_small_file_gets_every_default() -> None:
    config = parsed(SMALL)
    assert config == Config(Settings(), (), (Model(name="m", deployments=(deployment(),)),))
    assert config.settings.model_dump() == {
        "host": "127.0.0.1",
        "port": 8080,
        "workers": 1,
        "log_level": "info",
        "log_calls": "all",
        "max_body_bytes": 6291456,
        "max_upstream_body_bytes": 6291456,
        "max_header_bytes": 65536,
        "header_timeout_s": 10.0,
        "body_timeout_s": 30.0,
        "idle_timeout_s": 75.0,
        "write_timeout_s": 30.0,
        "stream_buffer_bytes": 65536,
        "max_event_bytes": 8388608,
        "max_reply_bytes": 33554432,
        "drain_timeout_s": 30.0,
        "media_fetches": 32,
        "media_threads": 2,
        "media_cache_bytes": 67108864,
        "media_cache_s": 60.0,
        "traces_exporter": "none",
        "trace_content": False,
        "trace_content_chars": 4096,
        "docs_enabled": True,
        "metrics_enabled": True,
        "telemetry_enabled": True,
        "sagemaker_endpoint_url": None,
        "upstream_idle_s": 55.0,
        "ca_bundle": None,
        "limits_store": "memory",
        "redis_url": None,
        "redis_ca_bundle": None,
        "redis_prefix": "lmi-gateway",
        "redis_timeout_s": 0.05,
        "redis_policy": "local",
        "lease_s": 10.0,
        "usage_days": 400,
        "keys_store": "file",
        "admin_host": "127.0.0.1",
        "admin_port": None,
        "admin_key_digest": None,
        "insecure": False,
    }


@pytest.mark.parametrize(("written", "version"), [
    pytest.param("{container: vllm, version: 0.10}", "0.10", id="not the number 0.1"),
    pytest.param("{container: vllm, version: '0.10'}", "0.10", id="quoted"),
    pytest.param("{container: vllm, version: 0.27.1}", "0.27.1", id="with a patch number"),
    pytest.param("{container: lmi, version: 15}", "15", id="whole number"),
    pytest.param("{container: lmi, version: \"28\"}", "28", id="quoted whole number"),
])  # fmt: skip
def test_a_version_is_taken_as_written(written: str, version: str) -> None:
    config = parsed(f"models: [{{name: m, deployments: [{{endpoint: e, region: us-east-1, {written[1:]}]}}]")
    assert config.models[0].deployments[0].version == version


@pytest.mark.parametrize("name", ["no", "on", "yes", "true", "1e3", "0x10", "1_000", "12:30:45", "2024-01-01", "0o7"])
def test_words_that_yaml_1_1_reads_otherwise_are_names_here(name: str) -> None:
    config = parsed(f"models: [{{name: {name}, aliases: [a{name}], deployments: [{DEPLOYMENT}]}}]")
    assert (config.models[0].name, config.models[0].aliases) == (name, ("a" + name,))


@pytest.mark.parametrize(("written", "value"), [
    pytest.param("keep_alive_s: 0", 0.0, id="whole"),
    pytest.param("keep_alive_s: 0.5", 0.5, id="fraction"),
    pytest.param("keep_alive_s: .5", 0.5, id="no leading digit"),
    pytest.param("keep_alive_s: 1e2", 100.0, id="exponent, a text to YAML 1.1"),
])  # fmt: skip
def test_numbers(written: str, value: float) -> None:
    assert parsed(f"models: [{{name: m, {written}, deployments: [{DEPLOYMENT}]}}]").models[0].keep_alive_s == value


@pytest.mark.parametrize(("written", "value"), [("true", True), ("True", True), ("FALSE", False), ("false", False)])
def test_switches(written: str, value: bool) -> None:
    assert parsed(f"settings: {{docs_enabled: {written}}}\n{SMALL}").settings.docs_enabled is value


@pytest.mark.parametrize("text", [
    pytest.param(f"settings:\nkeys:\n{SMALL}", id="empty"),
    pytest.param(f"settings: ~\nkeys: null\n{SMALL}", id="null"),
    pytest.param(f"settings: {{}}\nkeys: []\n{SMALL}", id="spelled out"),
    pytest.param(f"\ufeff{SMALL}", id="with a byte order mark"),
    pytest.param(f"---\n{SMALL}...\n", id="with document marks"),
    pytest.param(f"models: [{{name: m, context_length: null, timeouts:, deployments: [{DEPLOYMENT}]}}]", id="inside"),
])  # fmt: skip
def test_emptiness_is_the_default(text: str) -> None:
    assert parsed(text) == parsed(SMALL)


def test_anchors_and_merges() -> None:
    config = parsed("""
models:
  - &a
    name: a
    attempts: 1
    timeouts: &t {gap_s: 5}
    deployments:
      - &d {endpoint: one, region: us-east-1, container: lmi, version: 15}
      - {endpoint: two, <<: *d, weight: 3}
  - <<: [{name: b, attempts: 4}, *a]
    timeouts: {<<: *t, total_s: 9}
  - <<: *a
    name: c
    deployments: [*d]
""")
    a, b, c = config.models
    assert [(d.endpoint, d.weight) for d in a.deployments] == [("one", 1), ("two", 3)]
    assert (b.name, b.attempts, b.deployments) == ("b", 4, a.deployments)
    assert (b.timeouts.gap_s, b.timeouts.total_s) == (5, 9)
    assert (c.name, c.attempts, c.deployments) == ("c", 1, (a.deployments[0],))


def test_keys_may_name_models_and_aliases() -> None:
    text = f"""
keys: [{{id: k, digest: '{DIGEST}', models: [m, alias, '*']}}]
models: [{{name: m, aliases: [alias], deployments: [{DEPLOYMENT}]}}]
"""
    assert parsed(text).keys == (Key(id="k", digest=DIGEST, models=("m", "alias", "*")),)


def test_where_a_models_own_name_is_wrong_keys_are_not_blamed_for_it() -> None:
    text = f"""
keys: [{{id: k, digest: '{DIGEST}', models: [m]}}]
models: [{{nmae: m, deployments: [{DEPLOYMENT}]}}]
"""
    assert problems(text) == ["gateway.yaml:3:11: models[0].nmae: unknown key; did you mean 'name'?"]


# The environment


@pytest.mark.parametrize(("environ", "field", "value"), [
    pytest.param({"LMI_GATEWAY_PORT": "0"}, "port", 0, id="whole number"),
    pytest.param({"LMI_GATEWAY_IDLE_TIMEOUT_S": "2.5"}, "idle_timeout_s", 2.5, id="number"),
    pytest.param({"LMI_GATEWAY_INSECURE": "true"}, "insecure", True, id="switch"),
    pytest.param({"LMI_GATEWAY_LOG_LEVEL": "debug"}, "log_level", "debug", id="choice"),
    pytest.param({"LMI_GATEWAY_HOST": "::1"}, "host", "::1", id="text"),
    pytest.param({"LMI_GATEWAY_PORT": ""}, "port", 9000, id="empty is not set"),
    pytest.param({"LMI_GATEWAY_PORT": "tcp://10.0.0.1:80"}, "port", 9000, id="Kubernetes' service link"),
    pytest.param({"LMI_GATEWAY_SERVICE_HOST": "10.0.0.1", "LMI_GATEWAY_SERVICE_PORT_HTTP": "80",
                  "LMI_GATEWAY_PORT_80_TCP_ADDR": "10.0.0.1", "LMI_GATEWAY_PORT_80_TCP": "tcp://10.0.0.1:80"},
                 "port", 9000, id="Kubernetes' other service links"),
    pytest.param({"LMI_GATEWAY_CONFIG": "elsewhere.yaml"}, "port", 9000, id="the file's name is no setting"),
    pytest.param({"AWS_ENDPOINT_URL": "http://127.0.0.1:1/"}, "sagemaker_endpoint_url", "http://127.0.0.1:1",
                 id="AWS for all services"),
    pytest.param({"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "http://127.0.0.1:2"},
                 "sagemaker_endpoint_url", "http://127.0.0.1:2", id="AWS for this service wins"),
    pytest.param({"AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "http://127.0.0.1:2",
                  "LMI_GATEWAY_SAGEMAKER_ENDPOINT_URL": "http://127.0.0.1:3"},
                 "sagemaker_endpoint_url", "http://127.0.0.1:3", id="ours wins"),
    pytest.param({"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "TRUE"},
                 "sagemaker_endpoint_url", None, id="AWS' own switch ignores both"),
])  # fmt: skip
def test_a_variable_wins_over_the_file(environ: dict[str, str], field: str, value: object) -> None:
    config = parsed(f"settings: {{port: 9000, log_level: error}}\n{SMALL}", environ)
    assert getattr(config.settings, field) == value
    assert config.settings.log_level == environ.get("LMI_GATEWAY_LOG_LEVEL", "error")


def test_the_files_endpoint_wins_over_the_variables_of_aws() -> None:
    text = f"settings: {{sagemaker_endpoint_url: 'http://127.0.0.1:3'}}\n{SMALL}"
    environ = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_ENDPOINT_URL_SAGEMAKER_RUNTIME": "nonsense"}
    assert parsed(text, environ).settings.sagemaker_endpoint_url == "http://127.0.0.1:3"


@pytest.mark.parametrize(("environ", "problem"), [
    pytest.param({"LMI_GATEWAY_PORT": "abc"},
                 "LMI_GATEWAY_PORT: expected a whole number from 0 to 65535, found 'abc'", id="no number"),
    pytest.param({"LMI_GATEWAY_PORT": "65536"},
                 "LMI_GATEWAY_PORT: expected a whole number from 0 to 65535, found 65536", id="out of bounds"),
    pytest.param({"LMI_GATEWAY_INSECURE": "1"},
                 "LMI_GATEWAY_INSECURE: expected true or false, found '1'", id="no switch"),
    pytest.param({"LMI_GATEWAY_LOG_LEVEL": "warn"},
                 "LMI_GATEWAY_LOG_LEVEL: expected one of debug, info, warning, error, critical, found 'warn'; "
                 "did you mean 'warning'?", id="no choice"),
    pytest.param({"LMI_GATEWAY_WORKER": "2"},
                 "LMI_GATEWAY_WORKER: unknown variable; did you mean LMI_GATEWAY_WORKERS?", id="nearly a name"),
    pytest.param({"LMI_GATEWAY_CONFGI": "x"},
                 "LMI_GATEWAY_CONFGI: unknown variable; did you mean LMI_GATEWAY_CONFIG?", id="nearly the file"),
    pytest.param({"LMI_GATEWAY_port": "1"},
                 "LMI_GATEWAY_port: unknown variable; did you mean LMI_GATEWAY_PORT?", id="in small letters"),
    pytest.param({"LMI_GATEWAY_ZZZ": "x"}, "LMI_GATEWAY_ZZZ: unknown variable", id="no name at all"),
    pytest.param({"AWS_ENDPOINT_URL": "127.0.0.1:80"},
                 "AWS_ENDPOINT_URL: expected a URL without a path, such as "
                 "https://runtime.sagemaker.eu-west-1.amazonaws.com, found '127.0.0.1:80'", id="AWS' endpoint"),
    pytest.param({"LMI_GATEWAY_SAGEMAKER_ENDPOINT_URL": "https://me:hunter2@example.com"},
                 "LMI_GATEWAY_SAGEMAKER_ENDPOINT_URL: expected a URL without a path, such as "
                 "https://runtime.sagemaker.eu-west-1.amazonaws.com, found 'https://…@example.com'", id="a password"),
    pytest.param({"AWS_CA_BUNDLE": "/nonexistent/ca.pem"},
                 "AWS_CA_BUNDLE: '/nonexistent/ca.pem' cannot be read: No such file or directory", id="no bundle"),
    pytest.param({"LMI_GATEWAY_HOST": "\udcff"},
                 "LMI_GATEWAY_HOST: expected a host name or an IP address, such as 0.0.0.0, found '\\udcff'",
                 id="bytes that are no text"),
])  # fmt: skip
def test_a_wrong_variable_is_named(environ: dict[str, str], problem: str) -> None:
    assert problems(SMALL, environ) == [problem]


def test_every_wrong_variable_is_told() -> None:
    assert [line.partition(":")[0] for line in problems(SMALL, {"LMI_GATEWAY_PORT": "x", "LMI_GATEWAY_X": "y"})] == [
        "LMI_GATEWAY_PORT",
        "LMI_GATEWAY_X",
    ]


@pytest.mark.parametrize("variable", ["LMI_GATEWAY_CA_BUNDLE", "AWS_CA_BUNDLE"])
def test_a_ca_bundle_must_hold_certificates(tmp_path: Path, variable: str) -> None:
    path = tmp_path / "ca.pem"
    path.write_text("no certificate")
    assert problems(SMALL, {variable: str(path)}) == [
        f"{variable}: expected a PEM file of certificates, found other contents in {str(path)!r}"
    ]
    assert parsed(SMALL, {variable: certifi.where()}).settings.ca_bundle == Path(certifi.where())


# Finding the file


def test_the_file_is_found_by_argument_then_variable_then_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, port in (("argument.yaml", 1), ("variable.yaml", 2), ("gateway.yaml", 3)):
        Path(name).write_text(f"settings: {{port: {port}}}\n{SMALL}")
    environ = {"LMI_GATEWAY_CONFIG": "variable.yaml"}
    found = [load(Path("argument.yaml"), environ), load(None, environ), load(None, {})]
    assert [config.settings.port for config in found] == [1, 2, 3]


# The types by themselves keep the same rules


@pytest.mark.parametrize(("build", "message"), [
    pytest.param(lambda: deployment(version="14"), "a whole number from 15 to 28, found '14'", id="version"),
    pytest.param(lambda: deployment(version="29"), "a whole number from 15 to 28, found '29'", id="version to come"),
    pytest.param(lambda: deployment(container="vllm", version="0.7"), "0.8 or later", id="vllm version"),
    pytest.param(lambda: deployment(version="1\u0665"), "a whole number from 15 to 28", id="digits of another script"),
    pytest.param(lambda: deployment(version="15\n"), "a whole number from 15 to 28", id="line break"),
    pytest.param(lambda: deployment(external_id="abc"), "external_id needs role_arn", id="external id"),
    pytest.param(lambda: Model(name="m", deployments=(deployment(weight=0),)), "weight 0", id="no weight"),
    pytest.param(lambda: ModelsFile(models=(Model(name="m", aliases=("m",), deployments=(deployment(),)),)),
                 "the name 'm' is already taken", id="names"),
    pytest.param(lambda: Settings(port="80"), "valid integer", id="settings are strict"),  # type: ignore[arg-type]  # the wrong type is the point
])  # fmt: skip
def test_types_refuse_what_the_file_may_not_hold(build: Any, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        build()


def test_values_are_frozen() -> None:
    config = parsed(SMALL)
    with pytest.raises(ValidationError):
        config.settings.port = 1
    with pytest.raises(AttributeError):
        config.keys = ()  # type: ignore[misc]  # that it is refused is the point


def test_no_repr_and_no_error_shows_a_digest() -> None:
    config = parsed(f"keys: [{{id: k, digest: '{DIGEST}', models: [m]}}]\n{SMALL}")
    with pytest.raises(ValidationError) as raised:
        Key(id="k", digest=DIGEST + "0", models=("m",))
    for shown in (repr(config), str(config), repr(config.keys[0]), str(raised.value), repr(raised.value)):
        assert "a1a1a1a1" not in shown


def test_no_repr_shows_the_password_of_redis() -> None:
    config = parsed(f"settings: {{redis_url: 'redis://u:hunter2@127.0.0.1:1'}}\n{SMALL}")
    assert config.settings.redis_url == "redis://u:hunter2@127.0.0.1:1"
    assert "hunter2" not in repr(config) + str(config.settings)


@pytest.mark.parametrize("url", [
    "redis://127.0.0.1:6379/0", "redis://h", "redis://h/", "redis://u:p%23w@h:1/15", "redis://:p@w@h", "redis://h?db=2",
    "rediss://[::1]:6380", "unix:///run/redis.sock", "unix:///run/redis.sock?db=2&password=p",
])  # fmt: skip
def test_a_url_of_redis_is_one_that_the_client_reads(url: str) -> None:
    assert Settings(redis_url=url).redis_url == url
    assert Address(url).database in (0, 2, 15)


@pytest.mark.parametrize("url", [
    pytest.param("redis://:hunter2#hunter3@h:1", id="number sign in the password"),
    pytest.param("redis://:hunter2/hunter3@h:1", id="slash in the password"),
    pytest.param("redis://u:12/hunter2@h:1", id="what looks like a port before a slash"),
    pytest.param("redis://u:12?hunter2@h:1", id="what looks like a port before a question mark"),
    pytest.param("redis://:hunter2[@h:1", id="bracket in the password"),
    pytest.param("redis://:hunter2@h:65536", id="port out of range"),
    pytest.param("redis://:hunter2@h/first", id="database that is no number"),
    pytest.param("redis://:hunter2@h?db=first", id="likewise as an option"),
    pytest.param("redis://:hunter2@h?colour=red", id="unknown option"),
    pytest.param(f"redis://:hunter2@{'h' * 64}", id="host that cannot be looked up"),
    pytest.param("redis://:hunter2@:6379", id="no host"),
    pytest.param("redis://:hunter2\N{FULLWIDTH COLON}@h", id="character that another one is normalized to"),
    pytest.param("unix://hunter2", id="socket without a path"),
])  # fmt: skip
def test_another_url_is_refused_without_being_shown(url: str) -> None:
    expected = (
        "expected a URL such as redis://127.0.0.1:6379/0, with # / ? and the like percent-encoded in a password, found"
        f" other text ({len(url)} characters)"
    )
    assert problems(SMALL, {"LMI_GATEWAY_REDIS_URL": url}) == [f"LMI_GATEWAY_REDIS_URL: {expected}"]
    assert [problem.endswith(expected) for problem in problems(f"settings: {{redis_url: '{url}'}}\n{SMALL}")] == [True]
    with pytest.raises(ValidationError) as raised:
        Settings(redis_url=url)
    assert "hunter" not in str(raised.value) + repr(raised.value.__cause__)


@pytest.mark.parametrize(("settings", "environ", "problem"), [
    pytest.param("limits_store: redis", {}, "gateway.yaml: settings.limits_store: limits_store: redis needs redis_url",
                 id="limits in no Redis"),
    pytest.param("keys_store: redis", {}, "gateway.yaml: settings.keys_store: keys_store: redis needs redis_url",
                 id="keys in no Redis"),
    pytest.param("port: 1", {"LMI_GATEWAY_LIMITS_STORE": "redis"},
                 "LMI_GATEWAY_LIMITS_STORE: limits_store: redis needs redis_url", id="said by a variable"),
    pytest.param("admin_port: 1", {}, "gateway.yaml: settings.admin_port: admin_port needs admin_key_digest",
                 id="an open administration"),
])  # fmt: skip
def test_settings_at_odds_with_each_other(settings: str, environ: dict[str, str], problem: str) -> None:
    assert problems(f"settings: {{{settings}}}\n{SMALL}", environ) == [problem]


def test_file_and_environment_together_may_say_what_neither_says_alone() -> None:
    config = parsed(f"settings: {{limits_store: redis}}\n{SMALL}", {"LMI_GATEWAY_REDIS_URL": "redis://127.0.0.1:1"})
    assert (config.settings.limits_store, config.settings.redis_url) == ("redis", "redis://127.0.0.1:1")
    config = parsed(f"settings: {{redis_url: 'redis://127.0.0.1:1'}}\n{SMALL}", {"LMI_GATEWAY_KEYS_STORE": "redis"})
    assert config.settings.keys_store == "redis"
