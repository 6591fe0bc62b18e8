"""LiteLLM's configurations as models files: what is taken over, what is said of the rest, and that no secret is."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from gateway.cli import main
from gateway.config.litellm import Behind, Converted, Unreadable, converted, written
from gateway.config.load import parse

BEHIND = Behind("lmi", "15")


def entry(name: str = "llama", model: str = "sagemaker_chat/llama-endpoint", *, info: Any = None, **params: Any) -> Any:
    given = {"model_name": name, "litellm_params": {"model": model, "aws_region_name": "eu-west-1", **params}}
    return {**given, **({"model_info": info} if info else {})}


def convert(*entries: Any, environ: dict[str, str] | None = None, **sections: Any) -> Converted:
    text = yaml.safe_dump({"model_list": list(entries), **sections})
    return converted(text, BEHIND, environ or {})


def model(*entries: Any, **sections: Any) -> dict[str, Any]:
    (only,) = convert(*entries, **sections).file["models"]
    assert isinstance(only, dict)
    return only


PLAIN = {"endpoint": "llama-endpoint", "region": "eu-west-1", "container": "lmi", "version": "15"}
ROLE = "arn:aws:iam::123456789012:role/invoke"
MODELS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "messages": ([entry()], {}),
    "texts": ([entry(model="sagemaker/llama-endpoint")], {}),
    "a provider by its own field": ([entry(model="llama-endpoint", custom_llm_provider="sagemaker_chat")], {}),
    "an inference component": ([entry(model_id="copy")], {"deployments": [{**PLAIN, "inference_component": "copy"}]}),
    "a role": (
        [entry(aws_role_name=ROLE, aws_external_id="ext")],
        {"deployments": [{**PLAIN, "role_arn": ROLE, "external_id": "ext"}]},
    ),
    "another URL": (
        [entry(sagemaker_base_url="https://vpce.example.com")],
        {"deployments": [{**PLAIN, "endpoint_url": "https://vpce.example.com"}]},
    ),
    "prices by token": (
        [entry(input_cost_per_token=0.0000015, output_cost_per_token=2e-6)],
        {"prices": {"prompt_per_million": 1.5, "completion_per_million": 2.0}},
    ),
    "prices by time": ([entry(info={"input_cost_per_second": 0.002})], {"prices": {"instance_hour": 7.2}}),
    "what the model can": (
        [entry(info={"supports_vision": True, "max_input_tokens": 8192})],
        {"context_length": 8192, "modalities": ["text", "image"]},
    ),
    "the least of two": (
        [
            entry(info={"supports_vision": True, "max_input_tokens": 8192}),
            entry(info={"max_input_tokens": 4096, "supports_vision": True}),
        ],
        {"context_length": 4096, "modalities": ["text", "image"], "deployments": [PLAIN, PLAIN]},
    ),
    "time limits": ([entry(timeout=300, stream_timeout=20)], {"timeouts": {"first_byte_s": 20.0, "total_s": 300.0}}),
    "shares by requests": (
        [entry(rpm=600), entry(rpm=200)],
        {"deployments": [{**PLAIN, "weight": 3}, PLAIN]},
    ),
    "shares by weight, one of nothing": (
        [entry(weight=2, rpm=1), entry()],
        {"deployments": [PLAIN, {**PLAIN, "weight": 0}]},
    ),
    "uneven shares": (
        [entry(tpm=1_000_000), entry(tpm=1)],
        {"deployments": [{**PLAIN, "weight": 1000}, PLAIN]},
    ),
    "calls at the same time": (
        [entry(max_parallel_requests=20), entry(max_parallel_requests=5)],
        {"limits": {"concurrent_requests": 25}, "deployments": [PLAIN, PLAIN]},
    ),
    "retries": ([entry(num_retries=2)], {"attempts": 3}),
}


@pytest.mark.parametrize("case", MODELS)
def test_what_an_entry_says_is_said_here(case: str) -> None:
    entries, more = MODELS[case]
    assert model(*entries) == {"name": "llama", "deployments": [PLAIN], **more}


SECTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "an alias": ({"router_settings": {"model_group_alias": {"gpt-4": "llama"}}}, {"aliases": ["gpt-4"]}),
    "a hidden alias": (
        {"router_settings": {"model_group_alias": {"gpt-4": {"model": "llama", "hidden": True}}}},
        {"aliases": ["gpt-4"]},
    ),
    "retries of the router": ({"router_settings": {"num_retries": 0}}, {"attempts": 1}),
    "retries of the library, too many": ({"litellm_settings": {"num_retries": 30}}, {"attempts": 5}),
}


@pytest.mark.parametrize("case", SECTIONS)
def test_what_the_proxys_settings_say_of_models(case: str) -> None:
    sections, more = SECTIONS[case]
    assert {
        name: value for name, value in model(entry(), **sections).items() if name not in ("name", "deployments")
    } == (more)


REGIONS = [
    ({}, None, "us-west-2"),
    ({"AWS_REGION": "eu-north-1"}, None, "eu-north-1"),
    ({"AWS_REGION": "eu-north-1", "AWS_REGION_NAME": "eu-west-3"}, None, "eu-west-3"),
    ({"AWS_REGION": "eu-north-1"}, "ap-south-1", "ap-south-1"),
]


@pytest.mark.parametrize(("environ", "region", "expected"), REGIONS)
def test_a_region_comes_from_where_litellm_takes_it(environ: dict[str, str], region: str | None, expected: str) -> None:
    text = "model_list: [{model_name: m, litellm_params: {model: sagemaker/e}}]"
    result = converted(text, Behind("lmi", "15", region), environ)
    assert result.file["models"][0]["deployments"][0]["region"] == expected
    assert any("names no region" in note for note in result.notes) == (expected == "us-west-2")


def test_variables_stand_for_what_they_hold() -> None:
    given = entry(aws_region_name="os.environ/WHERE", model_id="os.environ/NOWHERE")
    result = convert(given, environ={"WHERE": "eu-central-1"})
    assert result.file["models"][0]["deployments"] == [{**PLAIN, "region": "eu-central-1"}]
    assert result.notes == ["model_list[0] (llama).model_id: left out; the variable NOWHERE is not set"]
    ours = convert(given, environment_variables={"WHERE": "eu-south-1"})
    assert ours.file["models"][0]["deployments"][0]["region"] == "eu-south-1"


def test_an_entry_that_gets_no_calls_beside_another_is_told_of() -> None:
    result = convert(entry(rpm=600), entry())
    assert [served.get("weight", 1) for served in result.file["models"][0]["deployments"]] == [1, 0]
    assert result.notes == [
        "model_list[0] (llama).rpm: left out; limits are `limits` of keys, teams and models; "
        "only the share of calls is made of it",
        "llama: entries without weight, rpm or tpm get none of its calls (weight 0), as in LiteLLM",
    ]
    assert convert(entry(), entry()).notes == []


LEFT_OUT: dict[str, tuple[Any, str]] = {
    "another provider": (entry(model="azure/gpt-4o"), "it is not SageMaker's"),
    "a wildcard": (entry("sagemaker/all", "sagemaker/*"), "endpoint: expected an AWS name"),
    "a name that is none": (entry("no\x1b[31m name"), "model_name: expected a model name"),
    "a region that is none": (entry("other", aws_region_name="Europe"), "region: expected an AWS Region"),
    "a URL with a path": (entry("other", api_base="https://h/v1"), "endpoint_url: expected a URL without a path"),
    "an external id for nobody": (entry("other", aws_external_id="ext"), "external_id needs role_arn"),
    "no parameters": ({"model_name": "x"}, "it has no litellm_params"),
    "no mapping": ("text", "it has no litellm_params"),
}


@pytest.mark.parametrize("case", LEFT_OUT)
def test_what_cannot_be_served_is_left_out_with_a_reason(case: str) -> None:
    given, reason = LEFT_OUT[case]
    result = convert(entry(), given)
    assert [served["name"] for served in result.file["models"]] == ["llama"]
    (note,) = result.notes
    assert note.startswith("model_list[1]")
    assert reason in note
    assert note.isprintable()


def test_callers_may_go_on_using_the_proxys_own_key() -> None:
    result = convert(entry(), general_settings={"master_key": "os.environ/MASTER"}, environ={"MASTER": "sk-1234"})
    digest = hashlib.sha256(b"sk-1234").hexdigest()
    assert result.file["keys"] == [{"id": "litellm-master", "digest": f"sha256:{digest}", "models": ["*"]}]


def test_no_secret_is_written_or_told() -> None:
    secrets = ["AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI", "session-token-secret", "sk-master-key", "hunter2", "sk-other"]
    result = convert(
        entry(aws_access_key_id=secrets[0], aws_secret_access_key=secrets[1], aws_session_token="os.environ/TOKEN"),
        entry("other", "openai/x", api_key=secrets[5]),
        environ={"TOKEN": secrets[2]},
        general_settings={"master_key": secrets[3], "database_url": f"postgres://u:{secrets[4]}@h/db"},
        litellm_settings={"cache_params": {"password": secrets[4]}, secrets[5]: 1},
    )
    text = written(result, "config.yaml")
    for secret in secrets[:5]:
        assert secret not in text
    assert "aws_access_key_id: left out" in text


UNREADABLE = {
    "no YAML": ("a: [", "not valid YAML in line 1"),
    "no mapping": ("- a", "expected a mapping with a list model_list"),
    "no list": ("model_list: {}", "expected a mapping with a list model_list"),
    "nothing of SageMaker's": ("model_list: []", "there is no entry with `sagemaker/…` or `sagemaker_chat/…`"),
    "a program": ("!!python/object/apply:os.system ['true']", "not valid YAML"),
    "very deep": ("[" * 100_000, "not valid YAML"),
}


@pytest.mark.parametrize("case", UNREADABLE)
def test_what_is_no_configuration_is_said_to_be_none(case: str) -> None:
    text, reason = UNREADABLE[case]
    with pytest.raises(Unreadable, match=reason.replace("…", ".")):
        converted(text, BEHIND, {})


def run(tmp_path: Path, config: str, *arguments: str) -> Any:
    path = tmp_path / "config.yaml"
    path.write_text(config)
    given = arguments or ("--container", "vllm", "--version", "0.27")
    return CliRunner().invoke(main, ["import", "litellm", str(path), *given])


def test_the_command_prints_a_file_that_the_gateway_takes(tmp_path: Path) -> None:
    config = yaml.safe_dump({"model_list": [entry(temperature=1)], "general_settings": {"master_key": "sk-1"}})
    result = run(tmp_path, config)
    assert result.exit_code == 0, result.stderr
    loaded = parse(result.stdout.encode(), "file", {})
    assert [(model.name, model.deployments[0].container) for model in loaded.models] == [("llama", "vllm")]
    assert "model_list[0] (llama).temperature: left out" in result.stderr
    assert "temperature" in result.stdout.partition("\n\n")[0]


WRONG = {
    "no such file": (("/nowhere.yaml", "--container", "lmi", "--version", "15"), 1, "No such file"),
    "no such version": (("--container", "lmi", "--version", "14"), 2, "a whole number from 15 to 28"),
    "no container": (("--version", "15"), 2, "Missing option '--container'"),
    "no such region": (("--container", "lmi", "--version", "15", "--region", "Mars"), 2, "expected an AWS Region"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_wrong_with_the_command_is_said(tmp_path: Path, case: str) -> None:
    arguments, status, reason = WRONG[case]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump({"model_list": [entry()]}))
    first = () if arguments[0].startswith("/") else (str(path),)
    result = CliRunner().invoke(main, ["import", "litellm", *first, *arguments])
    assert (result.exit_code, result.stdout) == (status, "")
    assert reason in result.stderr
