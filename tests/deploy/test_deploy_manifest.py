"""What a manifest may say: what is refused, in which words and where."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from deploy.desired import desired
from deploy.manifest import load, parse
from deploy.manifestfile import ManifestError
from tests.deploy.manifests import COMPONENT, LEAST, manifest, problems, with_components

SECRET = "hf_SecretOfTheHub1234567890"
VLLM = {"kind": "vllm", "version": "0.25"}
SCALING = {"max": 4, "concurrency_per_copy": 8}


def changed(**changes: Any) -> dict[str, Any]:
    return {**LEAST, **changes}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        pytest.param(changed(modle={"id": "a/b"}), ["modle: unknown key; did you mean 'model'?"], id="misspelt key"),
        pytest.param(
            changed(instances={"type": "ml.g5.12xlarge", "cuont": 2}),
            ["instances.cuont: unknown key; did you mean 'count'?"],
            id="misspelt key within",
        ),
        pytest.param(
            changed(name="-chat"),
            [
                "name: expected at most 63 letters, digits and hyphens, with a letter or digit at both ends,"
                " found '-chat'",
            ],
            id="name",
        ),
        pytest.param(
            changed(container={"kind": "lmi", "version": 14}),
            ["container.version: expected a version of LMI from 15 to 28, found '14'"],
            id="LMI too old",
        ),
        pytest.param(
            changed(container={"kind": "lim", "version": 18}),
            ["container.kind: expected 'lmi', 'vllm' or 'tgi', found 'lim'; did you mean 'lmi'?"],
            id="no such container",
        ),
        pytest.param(
            changed(container={"kind": "vllm", "version": 0.12}),
            [
                "container.version: AWS has no image of vllm 0.12: it has "
                "0.13.0, 0.14.0, 0.15.1, 0.16.0, 0.17.0, 0.17.1, 0.18.0, 0.18.1, 0.19.0, 0.19.1, 0.20.0, 0.20.1, "
                "0.20.2, 0.21.0, 0.22.0, 0.22.1, 0.23.0, 0.24.0, 0.25.0, 0.25.1, 0.26.0, 0.27.1, 0.28.0, 0.29.0, "
                "0.30.0, 0.31.0"
            ],
            id="no image of that version",
        ),
        pytest.param(
            changed(option={"max_modle_len": 8192}),
            ["option.max_modle_len: unknown option; did you mean 'max_model_len'?"],
            id="misspelt option",
        ),
        pytest.param(
            changed(container={"kind": "lmi", "version": 18}, option={"lmcache_auto_config": True}),
            ["option.lmcache_auto_config: unknown to LMI 18: it is there since LMI 19"],
            id="option not yet there",
        ),
        pytest.param(
            changed(engine={"use_v2_block_manager": True}),
            [
                "engine.use_v2_block_manager: unknown to LMI 18, which runs vLLM 0.12.0: last seen in vLLM 0.9.2",
            ],
            id="argument no more there",
        ),
        pytest.param(
            changed(engine={"tensor_parallel_size": 4}),
            ["engine.tensor_parallel_size: LMI calls this option.tensor_parallel_degree"],
            id="LMI has another name",
        ),
        pytest.param(
            changed(option={"model_loading_timeout": 900}),
            ["option.model_loading_timeout: is said by timeouts.loading_s"],
            id="said elsewhere",
        ),
        pytest.param(
            changed(option={"enable_prefix_caching": "perhaps"}),
            ["option.enable_prefix_caching: expected true or false, found 'perhaps'"],
            id="value of another kind",
        ),
        pytest.param(
            changed(option={"tool_call_parser": "hermse"}),
            ["option.tool_call_parser: vLLM has no tool parser 'hermse'; did you mean 'hermes'?"],
            id="misspelt parser",
        ),
        pytest.param(
            changed(container={"kind": "lmi", "version": 15}, option={"reasoning_parser": "qwen3"}),
            ["option.reasoning_parser: vLLM 0.8.4 has no reasoning parser 'qwen3': first seen in vLLM 0.9.2"],
            id="parser of a later release",
        ),
        pytest.param(
            changed(option={"tensor_parallel_degree": 8}),
            ["option.tensor_parallel_degree: is more than the 4 GPUs there are"],
            id="more GPUs than there are",
        ),
        pytest.param(
            changed(timeouts={"startup_s": 1200, "loading_s": 1500}),
            [
                "timeouts.loading_s: is above startup_s, 1200: SageMaker would give up before the container does",
            ],
            id="loading longer than starting",
        ),
        pytest.param(
            changed(timeouts={"startup_s": 30, "download_s": 4000}),
            [
                "timeouts.startup_s: expected greater than or equal to 60, found '30'",
                "timeouts.download_s: expected less than or equal to 3600, found '4000'",
            ],
            id="timeouts out of bounds",
        ),
        pytest.param(
            changed(network={"isolation": True}),
            ["model.id: network.isolation lets nothing be fetched from the hub: put the model into S3"],
            id="isolated from the hub",
        ),
        pytest.param(
            changed(network={"subnets": ["subnet-1"]}),
            ["network: a VPC needs both subnets and security_groups"],
            id="half a VPC",
        ),
        pytest.param(
            changed(routing={"strategy": "kv_aware"}),
            ["routing.strategy: kv_aware works with the vllm container only"],
            id="kv_aware",
        ),
        pytest.param(
            changed(routing={"strategy": "random", "prefix_bytes": 2048}),
            ["routing.prefix_bytes: is for prefix_aware"],
            id="prefix of another strategy",
        ),
        pytest.param(
            changed(scaling={**SCALING, "min": 0}),
            ["scaling.min: only inference components can go down to 0: say the model under components"],
            id="to zero without components",
        ),
        pytest.param(
            changed(schedules=[{"name": "night", "when": "cron(0 20 * * ? *)", "max": 1}]),
            ["schedules: change the bounds of scaling, which the manifest does not have"],
            id="schedule without scaling",
        ),
        pytest.param(
            changed(scaling=SCALING, schedules=[{"name": "night", "when": "20:00", "timezone": "Berlin", "max": 1}]),
            [
                "schedules[0].when: expected cron(…) with six fields, rate(…) or at(YYYY-MM-DDThh:mm:ss)",
                "schedules[0].timezone: is no time zone, such as Europe/Berlin",
            ],
            id="schedule",
        ),
        pytest.param(
            changed(update={"strategy": "canary"}),
            ["update: canary needs either percent or count"],
            id="canary of no size",
        ),
        pytest.param(
            changed(environment={"OPTION_MAX_MODEL_LEN": "8192", "SERVING_FIAL_FAST": "true"}),
            [
                "environment.OPTION_MAX_MODEL_LEN: belongs under option, as max_model_len",
                "environment.SERVING_FIAL_FAST: LMI has no such setting; did you mean 'SERVING_FAIL_FAST'?",
            ],
            id="environment that belongs elsewhere",
        ),
        pytest.param(
            changed(environment={"LONG": "x" * 1025}),
            ["environment.LONG: LONG would have 1025 characters; SageMaker takes 1024"],
            id="value too long",
        ),
        pytest.param(
            changed(environment={f"V{at}": "1" for at in range(100)}),
            [": the container would have 110 environment variables; SageMaker takes 100"],
            id="too many variables",
        ),
        pytest.param(
            changed(model={"id": "s3://bucket/model"}),
            ["model.id: an S3 prefix ends in a slash, an archive in .tar.gz"],
            id="prefix without slash",
        ),
        pytest.param(changed(components=[COMPONENT]), ["model: say either model or components"], id="both"),
        pytest.param(
            with_components({}, scaling=SCALING),
            ["scaling: belongs to a component, where there are components"],
            id="scaling beside components",
        ),
        pytest.param(
            with_components({"accelerators": 8}),
            ["components[0].accelerators: a machine has 4 GPUs"],
            id="component larger than a machine",
        ),
        pytest.param(
            with_components({}, {"gateway": {"model": "other"}}),
            ["components[1].name: the name 'chat-small' is taken"],
            id="two components of a name",
        ),
        pytest.param(
            with_components({}, {"name": "chat-large"}),
            ["components[1].gateway.model: callers know another component as 'qwq-32b': give this one a name"],
            id="two components of a public name",
        ),
        pytest.param(
            with_components({"adapters": [{"name": "legal", "artifact": "s3://bucket/legal.tar.gz"}]}),
            ["components[0].adapters: need option.enable_lora: true"],
            id="adapters without LoRA",
        ),
        pytest.param(
            {key: value for key, value in LEAST.items() if key != "role"},
            ["role: missing"],
            id="no role",
        ),
        pytest.param(
            {key: value for key, value in LEAST.items() if key != "instances"},
            ["instances: missing"],
            id="no instances",
        ),
        pytest.param(b"[]", [": expected a mapping with the keys of a manifest, found none"], id="a list"),
        pytest.param(
            b"name: [",
            [": not valid YAML: while parsing a flow node expected the node content, but found '<stream end>'"],
            id="not YAML",
        ),
        pytest.param(
            b"name: a\nname: b\n", ["instances: missing", "role: missing", "name: is here twice"], id="key twice"
        ),
    ],
)
def test_what_is_refused(values: dict[str, Any] | bytes, told: list[str]) -> None:
    assert sorted(problems(values)) == sorted(told)


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"model": {"id": "a/b", "token": SECRET}}, id="token"),
        pytest.param({"model": {"id": "a/b", "token": {"secert": SECRET}}}, id="misspelt"),
        pytest.param({"environment": {"HF_TOKEN": SECRET}}, id="variable by name"),
        pytest.param({"environment": {"OTHER": SECRET}}, id="variable by value"),
        pytest.param({"environment": {"OTHER": {"value": [SECRET]}}}, id="variable of a wrong kind"),
        pytest.param({"engine": {"api_key": SECRET}, "container": VLLM}, id="argument"),
    ],
)  # fmt: skip
def test_a_secret_in_the_manifest_is_refused_and_not_repeated(changes: dict[str, Any]) -> None:
    told = problems(changed(**changes))

    assert told
    assert "SecretOfTheHub" not in "".join(told)


def test_problems_name_file_and_line() -> None:
    text = b"name: chat\nrole: arn:aws:iam::123456789012:role/a\ninstances:\n  type: ml.g5.12xlarge\n  cuont: 1\n"

    with pytest.raises(ManifestError) as refused:
        parse(text, "chat.yaml")

    assert str(refused.value) == "chat.yaml:5: instances.cuont: unknown key; did you mean 'count'?"


WRITTEN = b"""\
name: chat
role: arn:aws:iam::123456789012:role/a
model:
  id: a/b
  token: {secret: hub}
container: {kind: vllm, version: 0.20}
instances: {type: ml.g5.12xlarge}
"""


def test_a_version_is_what_was_written() -> None:
    made = parse(WRITTEN, "chat.yaml")

    assert made.container is not None
    assert made.container.version == "0.20"


def test_a_recommended_option_can_be_taken_away() -> None:
    assert manifest(option={"async_mode": None}).option == {"async_mode": None}
    assert problems(changed(option={"asinc_mode": None})) == [
        "option.asinc_mode: unknown option; did you mean 'async_mode'?"
    ]


def test_a_file_that_cannot_be_read(tmp_path: Any) -> None:
    with pytest.raises(ManifestError, match="cannot be read: No such file or directory"):
        load(tmp_path / "absent.yaml")


@pytest.mark.parametrize("end", range(0, WRITTEN.index(b"instances"), 5))
def test_a_manifest_cut_anywhere_is_refused_in_words(end: int) -> None:
    assert problems(WRITTEN[:end])


def test_the_manifest_of_the_readme_can_be_planned() -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (block,) = re.findall(r"^```yaml\n(# chat\.yaml\n.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    manifest = parse(block.encode(), "chat.yaml")
    assert [resource.kind for resource in desired(manifest, "us-east-1").resources] == [
        "model",
        "endpoint-config",
        "endpoint",
    ]
