"""What a generate call becomes for a container that runs vLLM: the body it gets, by version, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.base import Call
from adapters.errors import UnsupportedParameter
from adapters.lmi import VLLM_MINOR
from adapters.openai.assemble import prefers_stream, streamable
from adapters.openai.request import FieldPolicy
from adapters.openai.urls import UrlPolicy
from adapters.registry import make
from adapters.tgi.parameters import PARAMETERS
from tests.adapters.generating import generate

NEWEST = ("vllm", "0.33")
GREEDY = {"temperature": 0.0, "repetition_penalty": 1.0, "frequency_penalty": 0.0, "presence_penalty": 0.0}
SAMPLED = GREEDY | {"temperature": 1.0, "top_p": 1.0, "top_k": -1, "min_p": 0.0}
PROPERTIES = {"properties": {"a": {"type": "integer"}}}


def body(call: Call, container: tuple[str, str] = NEWEST, *, stream: bool | None = None) -> dict[str, Any]:
    sent = make(*container).encode(call, stream=call.stream if stream is None else stream)
    fields: dict[str, Any] = json.loads(sent)
    return fields


def test_the_prompt_comes_first_and_what_differs_from_call_to_call_last() -> None:
    sent = make(*NEWEST).encode(generate("Hé", do_sample=True, seed=5, max_new_tokens=3), stream=False)
    assert sent.decode() == (
        '{"prompt":"H\\u00e9","frequency_penalty":0.0,"max_tokens":3,"min_p":0.0,"presence_penalty":0.0,'
        '"repetition_penalty":1.0,"temperature":1.0,"top_k":-1,"top_p":1.0,"seed":5}'
    )


@pytest.mark.parametrize("container", [("lmi", "27"), ("vllm", "0.33")], ids=" ".join)
def test_the_model_is_called_what_the_container_calls_it(container: tuple[str, str]) -> None:
    call = generate(adapter_id="lora", max_new_tokens=3)
    assert json.loads(make(*container, served_model_name="base").encode(call, stream=False))["model"] == "base"
    assert "model" not in body(call, container)


@pytest.mark.parametrize(
    ("parameters", "fields"),
    [
        pytest.param({}, GREEDY, id="greedy"),
        pytest.param({"do_sample": True}, SAMPLED, id="sampled: the model's own defaults never apply"),
        pytest.param({"temperature": 0.7}, SAMPLED | {"temperature": 0.7}, id="a temperature samples"),
        pytest.param({"temperature": 1.0}, GREEDY, id="but for 1"),
        pytest.param({"do_sample": True, "temperature": 1}, SAMPLED | {"temperature": 1}, id="temperature 1, sampled"),
        pytest.param({"top_k": 5}, SAMPLED | {"top_k": 5}, id="top_k samples"),
        pytest.param({"top_p": 0.9}, SAMPLED | {"top_p": 0.9}, id="top_p samples"),
        pytest.param({"repetition_penalty": 1.2}, GREEDY | {"repetition_penalty": 1.2}, id="repetition_penalty"),
        pytest.param({"frequency_penalty": -0.5}, GREEDY | {"frequency_penalty": -0.5}, id="frequency_penalty"),
        pytest.param({"seed": 3}, GREEDY, id="a seed of what is not sampled is left out"),
        pytest.param({"do_sample": True, "seed": 3}, SAMPLED | {"seed": 3}, id="seed"),
        pytest.param(
            {"do_sample": True, "seed": 2**64 - 1}, SAMPLED | {"seed": 2**63 - 1}, id="a seed of 64 bits fits into 63"
        ),
        pytest.param({"do_sample": True, "seed": 2**63}, SAMPLED | {"seed": 0}, id="the lowest seed above them"),
        pytest.param(
            {"stop": ["a", "b"]}, GREEDY | {"stop": ["a", "b"], "include_stop_str_in_output": True}, id="stop stays"
        ),
        pytest.param({"stop": []}, GREEDY, id="no stop"),
        pytest.param(
            {"truncate": 7}, GREEDY | {"truncate_prompt_tokens": 7, "truncation_side": "left"}, id="the last tokens"
        ),
        pytest.param({"return_full_text": True}, GREEDY, id="the gateway puts the prompt before"),
        pytest.param({"watermark": False}, GREEDY, id="no watermark"),
        pytest.param(
            {"best_of": 2, "do_sample": True}, SAMPLED | {"n": 2, "logprobs": 1}, id="best_of chooses by logprobs"
        ),
        pytest.param({"best_of": 2, "temperature": 1.0}, GREEDY, id="best of the same"),
        pytest.param(
            {"details": True},
            GREEDY | {"logprobs": 1, "return_token_ids": True, "return_tokens_as_token_ids": False},
            id="details",
        ),
        pytest.param(
            {"details": True, "top_n_tokens": 4},
            GREEDY | {"logprobs": 4, "return_token_ids": True, "return_tokens_as_token_ids": False},
            id="top_n_tokens",
        ),
        pytest.param({"top_n_tokens": 4}, GREEDY, id="which nobody would see"),
        pytest.param(
            {"decoder_input_details": True},
            GREEDY | {"logprobs": 1, "return_token_ids": True, "return_tokens_as_token_ids": False, "echo": True},
            id="decoder_input_details",
        ),
        pytest.param(
            {"grammar": {"type": "json", "value": json.dumps(PROPERTIES)}},
            GREEDY | {"structured_outputs": {"json": PROPERTIES}},
            id="grammar json as text",
        ),
        pytest.param(
            {"grammar": {"type": "json_schema", "value": {"name": "a", "schema": PROPERTIES}}},
            GREEDY | {"structured_outputs": {"json": PROPERTIES}},
            id="grammar json_schema",
        ),
        pytest.param(
            {"grammar": {"type": "regex", "value": "a+"}}, GREEDY | {"structured_outputs": {"regex": "a+"}}, id="regex"
        ),
    ],
)
def test_parameters_become_fields(parameters: dict[str, Any], fields: dict[str, Any]) -> None:
    call = generate(max_new_tokens=9, **parameters)
    assert body(call) == {"prompt": "Hi", "max_tokens": 9} | fields
    assert set(parameters) <= set(PARAMETERS)


def test_a_stream_tells_its_tokens_and_their_number() -> None:
    assert body(generate(stream=True, max_new_tokens=9)) == {"prompt": "Hi", "max_tokens": 9} | GREEDY | {
        "logprobs": 1,
        "return_token_ids": True,
        "return_tokens_as_token_ids": False,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("container", "parameters", "fields"),
    [
        pytest.param(("lmi", "16"), {"grammar": {"type": "regex", "value": "a+"}}, {"guided_regex": "a+"}, id="regex"),
        pytest.param(("vllm", "0.8"), {"grammar": {"type": "json", "value": PROPERTIES}}, {"guided_json": PROPERTIES}),
        pytest.param(
            ("lmi", "17"), {"grammar": {"type": "regex", "value": "a+"}}, {"structured_outputs": {"regex": "a+"}}
        ),
        pytest.param(("lmi", "26"), {"truncate": 7}, {"truncate_prompt_tokens": 7, "truncation_side": "left"}),
        pytest.param(("lmi", "25"), {"truncate": 7}, {"truncate_prompt_tokens": 7}, id="left is the older ones' side"),
        pytest.param(("vllm", "0.23"), {"temperature": 5.0}, SAMPLED | {"temperature": 5.0}, id="hot"),
        pytest.param(("vllm", "0.24"), {"temperature": 2.0}, SAMPLED | {"temperature": 2.0}, id="as hot as it gets"),
        pytest.param(
            ("vllm", "0.9"),
            {"details": True, "top_n_tokens": 2},
            {
                "logprobs": 2,
                "return_tokens_as_token_ids": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            },
            id="before 0.10.2 only a stream has both ids and texts",
        ),
        pytest.param(
            ("vllm", "0.10.2"),
            {"details": True},
            {"logprobs": 1, "return_token_ids": True, "return_tokens_as_token_ids": False},
            id="0.10.2",
        ),
        pytest.param(
            ("lmi", "16"),
            {"details": True},
            {"logprobs": 1, "return_token_ids": True, "return_tokens_as_token_ids": False},
            id="LMI 16 has 0.10.2",
        ),
        pytest.param(("lmi", "15"), {"best_of": 2, "do_sample": True}, SAMPLED | {"n": 2, "logprobs": 1}, id="no ids"),
    ],
)
def test_fields_by_version(container: tuple[str, str], parameters: dict[str, Any], fields: dict[str, Any]) -> None:
    call = generate(max_new_tokens=9, **parameters)
    assert body(call, container) == {"prompt": "Hi", "max_tokens": 9} | GREEDY | fields


@pytest.mark.parametrize(
    ("container", "parameters", "param", "message"),
    [
        (NEWEST, {"typical_p": 0.5}, "typical_p", "`typical_p` is not supported by this model's container"),
        (NEWEST, {"watermark": True}, "watermark", "`watermark` is not supported by this model's container"),
        (NEWEST, {"temperature": 2.5}, "temperature", "`temperature` must be <= 2.0 for this model's container"),
        (("lmi", "28"), {"temperature": 3}, "temperature", "`temperature` must be <= 2.0 for this model's container"),
        (NEWEST, {"stop": ["a", ""]}, "stop", "`stop` sequences cannot be empty for this model's container"),
        (
            ("vllm", "0.10.1"),
            {"decoder_input_details": True},
            "decoder_input_details",
            "`decoder_input_details` == true is not supported by this version of the model's container",
        ),
    ],
)
def test_what_vllm_cannot_do_is_refused(
    container: tuple[str, str], parameters: dict[str, Any], param: str, message: str
) -> None:
    with pytest.raises(UnsupportedParameter) as caught:
        make(*container).encode(generate(**parameters), stream=False)
    assert (caught.value.param, str(caught.value)) == (param, message)


def test_images_in_the_prompt_are_refused() -> None:
    policy = FieldPolicy(modalities=("text", "image"), urls=UrlPolicy("pass", ("a.example",)))
    with pytest.raises(UnsupportedParameter, match="images in `inputs` are not supported by this model's container"):
        make(*NEWEST).encode(generate("![](https://a.example/b.png)", policy=policy), stream=False)
    call = generate("![](https://a.example/b.png)", max_new_tokens=1)
    assert body(call)["prompt"] == "![](https://a.example/b.png)"  # to a model without vision it is text


def test_parameters_that_are_listed_as_unsupported_are_those_that_are_refused() -> None:
    assert {name for name, parameter in PARAMETERS.items() if not parameter.supported} == {"typical_p", "watermark"}


# --- How many tokens, where the caller does not say ------------------------------------------------------------------

OLD, NEW = ("lmi", "28"), ("vllm", "0.32")


@pytest.mark.parametrize(
    ("container", "window", "inputs", "parameters", "tokens"),
    [
        pytest.param(NEW, 4096, "a" * 9000, {}, 4096, id="new: the container takes off the prompt"),
        pytest.param(NEW, None, "a", {}, 1024, id="new: unknown window"),
        pytest.param(OLD, None, "a" * 9000, {}, 1024, id="unknown window"),
        pytest.param(OLD, 4096, "a" * 100, {}, 4096 - 100 - 16, id="a token is a byte or more, and some are added"),
        pytest.param(OLD, 4096, "é" * 50, {}, 4096 - 100 - 16, id="bytes, not characters"),
        pytest.param(OLD, 4096, "a" * 3056, {}, 1024, id="just as certain"),
        pytest.param(OLD, 4096, "a" * 3057, {}, 1024, id="no longer certain"),
        pytest.param(OLD, 4096, "a" * 12000, {}, 91, id="three bytes a token"),
        pytest.param(OLD, 4096, "a" * 90000, {}, 16, id="no room at all: the container will say so"),
        pytest.param(OLD, 4096, "a" * 90000, {"truncate": 1000}, 3096, id="truncated: certain"),
        pytest.param(OLD, 4096, "a" * 100, {"truncate": 4000}, 4096 - 100 - 16, id="nothing to truncate"),
        pytest.param(OLD, 512, "a" * 100, {}, 512 - 100 - 16, id="small window"),
        pytest.param(OLD, 512, "a" * 300, {}, 512 - 105, id="small window, long prompt"),
        pytest.param(OLD, 4096, "a" * 9000, {"max_new_tokens": 5}, 5, id="the caller's own"),
    ],
)
def test_max_tokens(
    container: tuple[str, str], window: int | None, inputs: str, parameters: dict[str, Any], tokens: int
) -> None:
    call = generate(inputs, policy=FieldPolicy(context_length=window), details=False, **parameters)
    assert body(call, container)["max_tokens"] == tokens


@pytest.mark.parametrize(("size", "sent"), [(1, None), (84, None), (85, 100), (500, 100)])
def test_a_prompt_that_is_short_enough_is_not_truncated(size: int, sent: int | None) -> None:
    fields = body(generate("a" * size, truncate=100, policy=FieldPolicy(context_length=512)), OLD)
    assert fields.get("truncate_prompt_tokens") == sent
    assert fields["max_tokens"] + (sent or size) <= 512  # vLLM 0.16 to 0.31 reserve both


@pytest.mark.parametrize("version", sorted(VLLM_MINOR))
def test_a_prompt_whose_tokens_are_bytes_fits_with_what_is_asked_for(version: int) -> None:
    window = 2048
    for size in range(1, window - 1024 - 16, 100):
        call = generate("a" * size, policy=FieldPolicy(context_length=window))
        assert 1024 <= body(call, ("lmi", str(version)))["max_tokens"] <= window - size


# --- Fetching a whole reply as a stream ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "can", "prefers"),
    [
        pytest.param({"max_new_tokens": 100}, True, False, id="short"),
        pytest.param({"max_new_tokens": 101}, True, True, id="long"),
        pytest.param({"details": True}, True, True, id="as long as may be"),
        pytest.param({"best_of": 2, "do_sample": True}, True, True, id="best of two"),
        pytest.param({"decoder_input_details": True}, False, False, id="streams have no details of the prompt"),
    ],
)
def test_whole_replies_that_may_be_fetched_as_streams(parameters: dict[str, Any], can: bool, prefers: bool) -> None:
    call = generate(**parameters)
    assert (streamable(call), prefers_stream(call, 100)) == (can, prefers)
    if can:
        assert body(call, stream=True)["stream"] is True
