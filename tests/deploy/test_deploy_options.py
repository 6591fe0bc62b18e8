"""The tables of options: every name of every version is taken, and what is misspelt, too old or too new is not."""

from __future__ import annotations

import pytest

from deploy import images, options
from deploy.environment import written
from deploy.manifestfile import Bare
from deploy.options import lmi, tgi

VALUES = {"bool": "true", "int": "8", "float": "0.5", "str": "text", "list": [1], "json": {"a": 1}}


@pytest.mark.parametrize("version", images.LMI_VERSIONS)
def test_every_option_of_an_lmi_version_is_taken_and_its_misspelling_named(version: int) -> None:
    names = options.lmi_names(version) - lmi.IN_MANIFEST.keys() - lmi.INSTEAD.keys()
    assert len(names) > 130
    for name in names:
        value = VALUES[str(options.kind_of(name))]
        fitting = Bare(value) if isinstance(value, str) else value
        assert options.lmi_fault(name, fitting, version) is None, name

        misspelt = name[:-2] + name[-1] + name[-2] + "_"
        fault = options.lmi_fault(misspelt, fitting, version)
        assert fault is not None, misspelt
        assert fault.startswith("unknown option; did you mean '"), misspelt


@pytest.mark.parametrize("version", images.LMI_VERSIONS)
def test_the_options_that_a_recommendation_needs_are_there(version: int) -> None:
    needed = {
        "async_mode",
        "rolling_batch",
        "entrypoint",
        "max_model_len",
        "max_rolling_batch_size",
        "tool_call_parser",
    }

    assert needed <= options.lmi_names(version)


@pytest.mark.parametrize("version", options.releases())
def test_every_argument_of_a_release_of_vllm_is_taken(version: str) -> None:
    taken = 0
    for table in ("engine", "server"):
        for name, argument in options.vllm_arguments(table).items():
            if argument.known_to(version) and name not in ("model", "revision", "trust_remote_code"):
                value = VALUES[argument.kind]
                assert options.vllm_fault(name, Bare(value) if isinstance(value, str) else value, version) is None, name
                taken += 1
    assert taken > 120


@pytest.mark.parametrize(
    ("name", "version", "known"),
    [
        pytest.param("guided_decoding_backend", "0.8.4", True, id="guided decoding in 0.8"),
        pytest.param("guided_decoding_backend", "0.12.0", False, id="no more in 0.12"),
        pytest.param("structured_outputs_config", "0.10.2", False, id="structured outputs not in 0.10"),
        pytest.param("structured_outputs_config", "0.11.1", True, id="structured outputs since 0.11"),
        pytest.param("max_num_batched_tokens", "0.15.1", True, id="unread release: both neighbours have it"),
        pytest.param("attention_backend", "0.12.0", False, id="attention_backend not in 0.12"),
        pytest.param("attention_backend", "0.13.0", True, id="attention_backend since 0.13"),
    ],
)
def test_when_vllm_has_an_argument(name: str, version: str, known: bool) -> None:
    assert options.vllm_arguments("engine")[name].known_to(version) is known


@pytest.mark.parametrize(
    ("kind", "name", "version", "known"),
    [
        pytest.param("tool_parsers", "hermes", "0.8.4", True, id="hermes always"),
        pytest.param("tool_parsers", "llama4_pythonic", "0.8.4", False, id="llama4 not in 0.8"),
        pytest.param("tool_parsers", "llama4_pythonic", "0.12.0", True, id="llama4 in 0.12"),
        pytest.param("reasoning_parsers", "deepseek_r1", "0.8.4", True, id="deepseek_r1 always"),
        pytest.param("reasoning_parsers", "qwen3", "0.8.4", False, id="qwen3 not in 0.8"),
    ],
)
def test_when_vllm_has_a_parser(kind: options.ParserKind, name: str, version: str, known: bool) -> None:
    assert (options.parser_fault(kind, name, version) is None) is known


@pytest.mark.parametrize("name", sorted(tgi.ARGUMENTS.keys() - tgi.IN_MANIFEST.keys()))
def test_every_argument_of_tgi_is_taken(name: str) -> None:
    value = VALUES[tgi.ARGUMENTS[name]]

    assert options.tgi_fault(name, Bare(value) if isinstance(value, str) else value) is None


def test_a_misspelt_argument_of_tgi() -> None:
    assert options.tgi_fault("max_totel_tokens", "1") == "unknown argument; did you mean 'max_total_tokens'?"


@pytest.mark.parametrize(
    ("name", "value", "engine", "text"),
    [
        pytest.param("enable_prefix_caching", Bare("True"), "0.12.0", "true", id="truth"),
        pytest.param("gpu_memory_utilization", Bare("0.90"), "0.12.0", "0.9", id="number"),
        pytest.param("limit_mm_per_prompt", {"image": Bare("2")}, "0.12.0", '{"image":2}', id="limits as JSON"),
        pytest.param("limit_mm_per_prompt", {"image": 2, "video": 1}, "0.8.4", "image=2,video=1", id="limits of 0.8"),
        pytest.param("served_model_name", ["a", Bare("1")], "0.12.0", '["a",1]', id="list"),
        pytest.param("tokenizer_revision", "007", "0.12.0", "007", id="text"),
    ],
)  # fmt: skip
def test_how_a_value_is_written(name: str, value: object, engine: str, text: str) -> None:
    assert written(name, value, engine) == text


OLD_AMI, NEW_AMI = "al2-ami-sagemaker-inference-gpu-3-1", "al2023-ami-sagemaker-inference-gpu-4-1"


@pytest.mark.parametrize(
    ("kind", "version", "region", "registry", "image", "ami"),
    [
        pytest.param(
            "lmi",
            "15",
            "us-east-1",
            "763104351884.dkr.ecr.us-east-1.amazonaws.com/",
            "djl-inference:0.33.0-lmi15.0.0-cu128",
            None,
            id="LMI 15",
        ),
        pytest.param(
            "lmi",
            "20",
            "ap-southeast-3",
            "907027046896.dkr.ecr.ap-southeast-3.amazonaws.com/",
            "djl-inference:0.36.0-lmi20.0.0-cu128",
            None,
            id="LMI 20, an account of its own",
        ),
        pytest.param(
            "lmi",
            "24",
            "eu-west-1",
            "763104351884.dkr.ecr.eu-west-1.amazonaws.com/",
            "djl-inference:0.36.0-lmi24.0.0-cu129",
            OLD_AMI,
            id="LMI 24, CUDA 12.9",
        ),
        pytest.param(
            "lmi",
            "28",
            "cn-north-1",
            "727897471807.dkr.ecr.cn-north-1.amazonaws.com.cn/",
            "djl-inference:0.36.0-lmi28.0.0-cu130",
            NEW_AMI,
            id="LMI 28, China, CUDA 13",
        ),
        pytest.param(
            "vllm",
            "0.17",
            "us-west-2",
            "763104351884.dkr.ecr.us-west-2.amazonaws.com/",
            "vllm:0.17.1-gpu-py312-cu129-ubuntu22.04-sagemaker",
            OLD_AMI,
            id="vLLM, the newest patch",
        ),
        pytest.param(
            "vllm",
            "0.31.0",
            "us-west-2",
            "763104351884.dkr.ecr.us-west-2.amazonaws.com/",
            "vllm:0.31.0-gpu-py312-cu130-ubuntu24.04-sagemaker",
            NEW_AMI,
            id="vLLM 0.31",
        ),
        pytest.param(
            "tgi",
            "3.3",
            "us-gov-west-1",
            "442386744353.dkr.ecr.us-gov-west-1.amazonaws.com/",
            "huggingface-pytorch-tgi-inference:2.7.0-tgi3.3.6-gpu-py311-cu124-ubuntu22.04",
            None,
            id="TGI, GovCloud",
        ),
    ],
)
def test_images(kind: str, version: str, region: str, registry: str, image: str, ami: str | None) -> None:
    found = images.uri(kind, version, region)

    assert found == registry + image
    assert images.ami(found) == ami
    known = images.recognised(found)
    assert known is not None
    assert (known.kind, known.region) == (kind, region)
    assert known.version.startswith(version)


def test_a_region_without_images() -> None:
    with pytest.raises(images.NoImage, match=r"no known account in xx-moon-1: name the image with container\.image"):
        images.uri("lmi", "18", "xx-moon-1")
