"""The values of TGI's parameters: which pass, which are refused, and in the words of TGI's validation."""

from __future__ import annotations

import json
from typing import Any, Literal

import pytest

from adapters.openai.caps import MAX_STOP_CHARS
from adapters.openai.request import FieldPolicy
from adapters.openai.urls import UrlPolicy
from adapters.tgi.parameters import samples
from adapters.tgi.request import TgiLimits, TgiRefusal, check, read
from tests.adapters.generating import generate

WINDOW = FieldPolicy(context_length=100)


def refusal(body: bytes, stream: bool | None = False) -> TgiRefusal:
    with pytest.raises(TgiRefusal) as caught:
        check(read(body, stream), model="m", policy=WINDOW, limits=TgiLimits())
    return caught.value


PROPERTIES = {"properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"best_of": 3, "do_sample": True}, "`best_of` must be > 0 and <= 2. Given: 3"),
        ({"best_of": 2}, "you must use sampling when `best_of` is > 1"),
        ({"best_of": 2, "do_sample": True, "seed": 1}, "`seed` must not be set when `best_of` > 1"),
        ({"temperature": 0}, "`temperature` must be strictly positive"),
        ({"temperature": -0.5}, "`temperature` must be strictly positive"),
        ({"temperature": 1e-50}, "`temperature` must be strictly positive"),  # 32 bits make 0 of it
        ({"repetition_penalty": 0.0}, "`repetition_penalty` must be strictly positive"),
        ({"frequency_penalty": 2.1}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
        ({"frequency_penalty": -2.1}, "`frequency_penalty` must be >= -2.0 and <= 2.0"),
        ({"top_p": 1}, "`top_p` must be > 0.0 and < 1.0"),
        ({"top_p": 0.0}, "`top_p` must be > 0.0 and < 1.0"),
        ({"top_p": 0.99999999999}, "`top_p` must be > 0.0 and < 1.0"),  # 32 bits make 1 of it
        ({"typical_p": 1.0}, "`typical_p` must be > 0.0 and < 1.0"),
        ({"top_k": 0}, "`top_k` must be strictly positive"),
        ({"top_k": -1}, "`top_k` must be strictly positive"),
        ({"max_new_tokens": 0}, "`max_new_tokens` must be strictly positive"),
        ({"max_new_tokens": 100}, "`max_new_tokens` must be <= 99. Given: 100"),
        ({"stop": list("abcde")}, "`stop` supports up to 4 stop sequences. Given: 5"),
        ({"stop": ["a" * 257]}, "`stop` sequences must hold at most 256 characters. Given: 257"),
        ({"top_n_tokens": 6}, "`top_n_tokens` must be >= 0 and <= 5. Given: 6"),
        ({"truncate": 0}, "`truncate` must be strictly positive and less than 99. Given: 0"),
        ({"truncate": 100}, "`truncate` must be strictly positive and less than 99. Given: 100"),
        ({"grammar": {"type": "json", "value": 1}}, "grammar is not supported"),
        ({"grammar": {"type": "json", "value": "{"}}, "grammar is not valid: Input data was truncated"),
        ({"grammar": {"type": "json", "value": "1"}}, "grammar is not valid: Grammar must have a 'properties' field"),
        ({"grammar": {"type": "json", "value": {}}}, "grammar is not valid: Grammar must have a 'properties' field"),
        (
            {"grammar": {"type": "json_schema", "value": {"schema": {"type": "object"}}}},
            "grammar is not valid: Grammar must have a 'properties' field",
        ),
        (
            {"grammar": {"type": "regex", "value": "a" * 8193}},
            "grammar is not valid: grammar.value must hold at most 8192 characters, not 8193.",
        ),
        (
            {"grammar": {"type": "json", "value": {"properties": {"a": {"const": "x" * 262_144}}}}},
            "grammar is not valid: grammar must hold at most 262144 bytes, not 262177.",
        ),
    ],
)
def test_values_are_refused_in_the_words_of_tgi(parameters: dict[str, Any], message: str) -> None:
    error = refusal(json.dumps({"inputs": "a", "parameters": parameters}).encode())
    assert (error.status, error.error_type) == (422, "validation")
    assert error.message == f"Input validation error: {message}"


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"best_of": 2, "do_sample": True}, "`best_of` != 1 is not supported when streaming tokens"),
        ({"best_of": 0}, "`best_of` != 1 is not supported when streaming tokens"),
        (
            {"decoder_input_details": True, "temperature": 0},
            "`decoder_input_details` == true is not supported when streaming tokens",
        ),
    ],
)
def test_streams_have_one_answer_and_no_details_of_the_prompt(parameters: dict[str, Any], message: str) -> None:
    error = refusal(json.dumps({"inputs": "a", "parameters": parameters}).encode(), True)
    assert error.message == f"Input validation error: {message}"


def test_an_empty_prompt_is_refused_after_wrong_parameters() -> None:
    assert refusal(b'{"inputs":""}').message == "Input validation error: `inputs` cannot be empty"
    first = refusal(b'{"inputs":"","parameters":{"top_k":0}}')
    assert first.message == "Input validation error: `top_k` must be strictly positive"


@pytest.mark.parametrize(
    ("limits", "parameters", "message"),
    [
        (
            TgiLimits(max_best_of=1),
            {"best_of": 2, "do_sample": True},
            "`best_of` != 1 is not allowed for this endpoint",
        ),
        (TgiLimits(max_best_of=4), {"best_of": 5, "do_sample": True}, "`best_of` must be > 0 and <= 4. Given: 5"),
        (TgiLimits(max_stop_sequences=0), {"stop": ["a"]}, "`stop` supports up to 0 stop sequences. Given: 1"),
        (TgiLimits(max_top_n_tokens=0), {"top_n_tokens": 1}, "`top_n_tokens` must be >= 0 and <= 0. Given: 1"),
    ],
)
def test_limits_are_configurable(limits: TgiLimits, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(TgiRefusal) as caught:
        generate(limits=limits, **parameters)
    assert caught.value.message == f"Input validation error: {message}"


def test_a_model_may_lift_caps_of_this_project_but_not_those_of_tgi() -> None:
    policy = FieldPolicy(allow_fields=frozenset({"stop", "grammar"}))
    stop, pattern = ["a" * (MAX_STOP_CHARS + 1)], "a" * 8193
    call = generate(policy=policy, stop=stop, grammar={"type": "regex", "value": pattern})
    assert call.values["parameters"]["stop"] == stop
    with pytest.raises(TgiRefusal, match="supports up to 4"):
        generate(policy=policy, stop=list("abcde"))


def test_a_model_may_refuse_parameters_that_tgi_ignores() -> None:
    with pytest.raises(TgiRefusal, match=r"^Input validation error: unknown parameter `min_p`$"):
        generate(policy=FieldPolicy(unknown_fields="refuse"), min_p=0.1)


@pytest.mark.parametrize(
    "grammar",
    [
        {"type": "json", "value": PROPERTIES},
        {"type": "json_object", "value": PROPERTIES},
        {"type": "json", "value": json.dumps(PROPERTIES)},
        {"type": "json_schema", "value": {"name": "a", "schema": PROPERTIES}},
        {"type": "json_schema", "value": {"name": None, "schema": PROPERTIES}},
        {"type": "regex", "value": r"\d+"},
    ],
)
def test_grammars_that_pass(grammar: dict[str, Any]) -> None:
    assert generate(grammar=grammar).values["parameters"]["grammar"] == grammar


@pytest.mark.parametrize(
    ("parameters", "sampled"),
    [
        ({}, False),
        ({"do_sample": True}, True),
        ({"do_sample": False}, False),
        ({"temperature": 1.0}, False),
        ({"temperature": 1}, False),
        ({"temperature": 1.000000001}, False),  # 32 bits make 1 of it
        ({"temperature": 0.5}, True),
        ({"top_k": 1}, True),
        ({"top_p": 0.5}, True),
        ({"typical_p": 0.5}, True),
        ({"seed": 1, "repetition_penalty": 1.5}, False),
    ],
)
def test_when_tgi_samples(parameters: dict[str, Any], sampled: bool) -> None:
    assert samples(parameters) is sampled


@pytest.mark.parametrize(
    ("parameters", "seed"),
    [
        pytest.param({"details": True, "do_sample": True}, 7, id="told with the details"),
        pytest.param({"decoder_input_details": True, "top_k": 2}, 7, id="which those of the prompt imply"),
        pytest.param({"details": True, "do_sample": True, "seed": 3}, 3, id="the caller's own"),
        pytest.param({"details": True}, None, id="nothing is sampled"),
        pytest.param({"do_sample": True}, None, id="not told"),
        pytest.param({"details": True, "do_sample": True, "best_of": 2}, None, id="one for each of several answers"),
    ],
)
def test_a_seed_is_drawn_for_answers_that_tell_it(parameters: dict[str, Any], seed: int | None) -> None:
    call = generate(drawn_seed=7, **parameters)
    assert call.values["parameters"].get("seed") == seed
    assert json.loads(bytes(call.raw["parameters"])).get("seed") == seed


# --- Images ----------------------------------------------------------------------------------------------------------

SIGHTED = FieldPolicy(modalities=("text", "image"), urls=UrlPolicy("pass", ("images.example.com",)))


def test_an_image_in_the_prompt_of_a_text_model_is_text() -> None:
    assert "images" not in generate("![](http://169.254.169.254/)").values


def test_images_of_a_vision_model_are_those_the_model_may_fetch() -> None:
    url = "https://images.example.com/a.png"
    assert generate(f"what is ![]({url})?", policy=SIGHTED).values["images"] == [url]
    with pytest.raises(TgiRefusal, match=r"^Input validation error: inputs must be"):
        generate("![](http://169.254.169.254/latest)", policy=SIGHTED)


@pytest.mark.parametrize("mode", ["off", "fetch"])
def test_images_in_a_prompt_are_never_fetched_by_the_gateway(mode: Literal["off", "fetch"]) -> None:
    policy = FieldPolicy(modalities=("text", "image"), urls=UrlPolicy(mode))
    with pytest.raises(TgiRefusal, match=r"images in `inputs` must be data: URLs.*not fetched$"):
        generate("what is ![](https://images.example.com/a.png)?", policy=policy)


def test_images_of_a_vision_model_are_counted() -> None:
    with pytest.raises(TgiRefusal, match=r"`inputs` must hold at most 64 images. Given: 65$"):
        generate("![](https://images.example.com/a)" * 65, policy=SIGHTED)
