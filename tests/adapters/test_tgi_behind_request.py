"""Text completions and TGI's own calls, as TGI containers are asked for them: by version, taken, renamed or refused."""

from __future__ import annotations

from typing import Any

import pytest

from adapters.openai.request import FieldPolicy
from adapters.registry import make
from adapters.tgi import behind_table
from adapters.tgi.behind_table import Fate
from tests.adapters.behind import asked
from tests.adapters.calls import completion
from tests.adapters.generating import generate

NEW, OLD = make("tgi", "3.3.4"), make("tgi", "1.4")
SCHEMA = {"type": "object", "properties": {"a": {"type": "string"}}}
ALWAYS = {"details": True, "do_sample": True, "max_new_tokens": 16, "return_full_text": False}
"""What every text completion asks of generate."""


def parameters(**fields: Any) -> Any:
    """Return what the newest version is asked for in a stream, besides ALWAYS, or a refusal."""
    body = asked(NEW, completion(stream=True, **fields), stream=True)
    if isinstance(body, tuple):
        return body
    return {name: value for name, value in body["parameters"].items() if ALWAYS.get(name) != value}


def test_a_stream_is_asked_of_generate_with_every_default_said() -> None:
    body = b'{"inputs":"Hi","parameters":{"details":true,"do_sample":true,"max_new_tokens":16,"return_full_text":false}'
    assert NEW.encode(completion(), stream=True) == body + b',"stream":true}'
    assert OLD.encode(completion(), stream=True) == body + b',"stream":true}'


def test_what_varies_from_call_to_call_comes_last() -> None:
    body = NEW.encode(completion(seed=7, top_k=3), stream=True)
    assert body.endswith(b'"top_k":3,"seed":7},"stream":true}')
    assert NEW.encode(completion(top_k=3, seed=7), stream=True) == body


@pytest.mark.parametrize(("fields", "expected"), [
    pytest.param({"max_tokens": 5}, {"max_new_tokens": 5}, id="max_tokens"),
    pytest.param({"temperature": 0.7}, {"temperature": 0.7}, id="temperature"),
    pytest.param({"temperature": 0}, {"do_sample": False}, id="greedy"),
    pytest.param({"temperature": 0, "top_p": 0.5, "top_k": 3, "typical_p": 0.2}, {"do_sample": False},
                 id="greedy, so nothing that would switch sampling on"),
    pytest.param({"top_p": 1, "top_k": -1, "repetition_penalty": 1.0, "frequency_penalty": 0}, {}, id="switched off"),
    pytest.param({"top_p": 0.9, "top_k": 5, "typical_p": 0.3, "repetition_penalty": 1.1, "frequency_penalty": -1},
                 {"top_p": 0.9, "top_k": 5, "typical_p": 0.3, "repetition_penalty": 1.1, "frequency_penalty": -1},
                 id="the same names"),
    pytest.param({"seed": 7}, {"seed": 7}, id="seed"),
    pytest.param({"seed": -1}, {"seed": 2**64 - 1}, id="a negative seed"),
    pytest.param({"stop": "x"}, {"stop": ["x"]}, id="stop, a string"),
    pytest.param({"stop": ["a", "b", "c", "d"]}, {"stop": ["a", "b", "c", "d"]}, id="as many stops as TGI takes"),
    pytest.param({"logprobs": 0}, {}, id="logprobs, of the tokens alone"),
    pytest.param({"logprobs": 5}, {"top_n_tokens": 5}, id="logprobs, as many as TGI tells"),
    pytest.param({"truncate_prompt_tokens": 9}, {"truncate": 9}, id="truncate"),
    pytest.param({"echo": True}, {}, id="echo, which the gateway does"),
    pytest.param({"include_stop_str_in_output": True}, {}, id="the stop string kept, which the gateway does"),
    pytest.param({"watermark": True}, {"watermark": True}, id="watermark"),
    pytest.param({"response_format": {"type": "text"}}, {}, id="plain text"),
    pytest.param({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA}}},
                 {"grammar": {"type": "json", "value": SCHEMA}}, id="a schema"),
    pytest.param({"response_format": {"type": "json_object", "value": SCHEMA}},
                 {"grammar": {"type": "json", "value": SCHEMA}}, id="a schema as TGI writes it"),
    pytest.param({"response_format": {"type": "regex", "value": "a+"}},
                 {"grammar": {"type": "regex", "value": "a+"}}, id="a regex as TGI writes it"),
    pytest.param({"n": 1, "best_of": 1, "presence_penalty": 0, "logit_bias": {}, "suffix": "", "user": "u"}, {},
                 id="fields that ask for nothing"),
    pytest.param({"stream_options": {"include_usage": True}}, {}, id="usage, which details tell"),
])  # fmt: skip
def test_a_completion_in_generates_terms(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    assert parameters(**fields) == expected


@pytest.mark.parametrize(("fields", "param", "message"), [
    pytest.param({"n": 2}, "n", "This model's container does not act upon n. Make a call for each choice.", id="n"),
    pytest.param({"best_of": 2}, "best_of", "This model's container does not act upon best_of.", id="best_of"),
    pytest.param({"presence_penalty": 0.1}, "presence_penalty",
                 "This model's container does not act upon presence_penalty.", id="presence_penalty"),
    pytest.param({"logit_bias": {"5": 1}}, "logit_bias", "This model's container does not act upon logit_bias.",
                 id="logit_bias"),
    pytest.param({"suffix": "x"}, "suffix", "This model's container does not act upon suffix.", id="suffix"),
    pytest.param({"min_p": 0.1}, "min_p", "This model's container does not act upon min_p.", id="min_p"),
    pytest.param({"ignore_eos": True}, "ignore_eos", "This model's container does not act upon ignore_eos.",
                 id="a switch"),
    pytest.param({"guided_json": SCHEMA}, "guided_json",
                 "This model's container does not act upon guided_json. Use response_format instead.", id="vLLM's own"),
    pytest.param({"made_up": 1}, "made_up", "This model's container does not act upon made_up.", id="unknown"),
    pytest.param({"prompt": ["a", "b"]}, "prompt", "This model's container takes one prompt: make a call for each.",
                 id="several prompts"),
    pytest.param({"prompt": [1, 2]}, "prompt", "This model's container takes a prompt as text, not as token ids.",
                 id="token ids"),
    pytest.param({"prompt": [[1, 2]]}, "prompt", "This model's container takes a prompt as text, not as token ids.",
                 id="a list of token ids"),
    pytest.param({"stop": ["a", "b", "c", "d", "e"]}, "stop",
                 "This model's container takes at most 4 stop strings, not 5.", id="too many stops"),
    pytest.param({"logprobs": 6}, "logprobs", "This model's container tells at most 5 likely tokens, not 6.",
                 id="too many logprobs"),
    pytest.param({"echo": True, "logprobs": 1}, "echo",
                 "This model's container tells no log probabilities of the prompt: leave out echo or logprobs.",
                 id="the prompt's logprobs"),
    pytest.param({"echo": True, "max_tokens": 0}, "max_tokens",
                 "This model's container generates at least one token.", id="nothing to generate"),
    pytest.param({"truncate_prompt_tokens": -1}, "truncate_prompt_tokens",
                 "This model's container truncates a prompt to a number of tokens above 0.", id="truncated to -1"),
    pytest.param({"response_format": {"type": "json_object"}}, "response_format",
                 "This model's container makes JSON only by a schema: name one in response_format.", id="any JSON"),
    pytest.param({"response_format": {"type": "structural_tag"}}, "response_format.type",
                 "This model's container does not act upon response_format.type. Use json_schema.", id="a tag"),
    pytest.param({"stream_options": {"include_usage": True, "continuous_usage_stats": True}}, "stream_options",
                 "This model's container tells the usage at the end of a stream only: leave out"
                 " continuous_usage_stats.", id="usage in every chunk"),
])  # fmt: skip
def test_what_generate_cannot_do_is_refused(fields: dict[str, Any], param: str, message: str) -> None:
    assert parameters(**fields) == (param, message)


def test_a_list_with_one_prompt_is_a_prompt() -> None:
    assert asked(NEW, completion(prompt=["Hey"]), stream=True)["inputs"] == "Hey"


@pytest.mark.parametrize(("version", "fields", "since"), [
    pytest.param("1.0", {"logprobs": 1}, "1.1", id="likely tokens"),
    pytest.param("1.3", {"frequency_penalty": 1}, "1.4", id="frequency_penalty"),
    pytest.param("1.3", {"response_format": {"type": "regex", "value": "a"}}, "1.4", id="grammars"),
])  # fmt: skip
def test_what_came_with_a_version_is_refused_before(version: str, fields: dict[str, Any], since: str) -> None:
    (name,) = fields
    refusal = (name, f"This model's container takes {name} from version {since} on only.")
    assert asked(make("tgi", version), completion(**fields)) == refusal
    assert isinstance(asked(make("tgi", since), completion(**fields)), dict)


@pytest.mark.parametrize(("version", "expected"), [
    pytest.param("1.0", {"inputs": "Hi", "parameters": {**ALWAYS, "decoder_input_details": True}}, id="1.0"),
    pytest.param("2.3.1", {"inputs": "Hi", "parameters": {**ALWAYS, "decoder_input_details": True}}, id="2.3"),
    pytest.param("2.4", {"prompt": "Hi", "max_tokens": 16}, id="2.4 has completions"),
    pytest.param("3.3", {"prompt": "Hi", "max_tokens": 16}, id="3.3 has completions"),
])  # fmt: skip
def test_a_whole_completion_is_asked_so_that_the_prompts_tokens_are_told(version: str, expected: object) -> None:
    assert asked(make("tgi", version), completion()) == expected


@pytest.mark.parametrize(("fields", "as_completion"), [
    pytest.param({"stop": "x", "seed": 1, "top_p": 0.5, "temperature": 1.5, "frequency_penalty": 1}, True, id="all"),
    pytest.param({"stream": False, "user": "u", "n": 1, "echo": True}, True, id="nothing to send"),
    pytest.param({"logprobs": 0}, False, id="logprobs"),
    pytest.param({"top_k": 3}, False, id="top_k"),
    pytest.param({"truncate_prompt_tokens": 3}, False, id="truncate"),
    pytest.param({"response_format": {"type": "regex", "value": "a"}}, False, id="grammar"),
])  # fmt: skip
def test_a_whole_completion_goes_to_completions_if_these_know_every_field(
    fields: dict[str, Any], as_completion: bool
) -> None:
    assert ("prompt" in asked(NEW, completion(**fields))) is as_completion


def test_completions_get_their_fields_as_they_take_them() -> None:
    call = completion(stop="x", seed=-1, top_p=0.5, temperature=0, max_tokens=3, repetition_penalty=2)
    assert asked(NEW, call) == {
        "prompt": "Hi",
        "max_tokens": 3,
        "repetition_penalty": 2,
        "stop": ["x"],
        "temperature": 0,
        "seed": 2**64 - 1,
    }


def test_from_3_0_on_the_prompts_tokens_are_not_asked_for() -> None:
    assert "decoder_input_details" not in asked(NEW, completion(top_k=3))["parameters"]
    assert asked(make("tgi", "2.4"), completion(top_k=3))["parameters"]["decoder_input_details"] is True


def test_an_adapter_is_named_in_either_schema() -> None:
    adapted = make("tgi", "3.3", served_model_name="my-lora")
    assert asked(adapted, completion())["model"] == "my-lora"
    assert asked(adapted, completion(), stream=True)["parameters"]["adapter_id"] == "my-lora"
    assert asked(adapted, generate())["parameters"]["adapter_id"] == "my-lora"


# TGI's own calls


def test_parameters_go_as_they_were_given() -> None:
    call = generate("Hi", temperature=0.50, top_k=3, stop=["a"], seed=2**64 - 1)
    assert NEW.encode(call, stream=False) == (
        b'{"inputs":"Hi","parameters":{"details":true,"return_full_text":false,"stop":["a"],"temperature":0.5,"top_k":3,'
        b'"seed":18446744073709551615}}'
    )


def test_without_parameters_a_call_samples_as_it_does_at_a_tgi_server() -> None:
    assert asked(NEW, generate(), stream=True) == {
        "inputs": "Hi",
        "parameters": {"details": True, "do_sample": True, "return_full_text": False},
        "stream": True,
    }
    assert asked(NEW, generate(max_new_tokens=3))["parameters"] == {
        "details": True,
        "max_new_tokens": 3,
        "return_full_text": False,
    }


def test_a_prompt_is_repeated_only_if_the_call_says_so() -> None:
    assert asked(NEW, generate(return_full_text=True))["parameters"]["return_full_text"] is True


@pytest.mark.parametrize(("version", "stream", "asked_for"), [
    pytest.param("2.4", False, True, id="whole"),
    pytest.param("2.4", True, None, id="streams refuse it"),
    pytest.param("3.0", False, None, id="from 3.0 on it tells nothing"),
])  # fmt: skip
def test_the_prompts_tokens_are_listed_to_be_counted(version: str, stream: bool, asked_for: bool | None) -> None:
    body = asked(make("tgi", version), generate(), stream=stream)
    assert body["parameters"].get("decoder_input_details") is asked_for


def test_a_caller_may_ask_for_the_prompts_tokens_in_any_version() -> None:
    assert asked(NEW, generate(decoder_input_details=True))["parameters"]["decoder_input_details"] is True
    fetched_as_a_stream = asked(NEW, generate(decoder_input_details=True), stream=True)
    assert "decoder_input_details" not in fetched_as_a_stream["parameters"]


def test_every_spelling_of_a_grammar_is_one_that_all_versions_take() -> None:
    value = {"name": "n", "schema": SCHEMA}
    for grammar in ({"type": "json_object", "value": SCHEMA}, {"type": "json_schema", "value": value}):
        body = asked(OLD, generate(grammar=grammar))
        assert body["parameters"]["grammar"] == {"type": "json", "value": SCHEMA}


@pytest.mark.parametrize(("version", "given"), [
    pytest.param("1.0", {"top_n_tokens": 2, "details": True}, id="top_n_tokens"),
    pytest.param("1.3", {"frequency_penalty": 0.5}, id="frequency_penalty"),
    pytest.param("1.3", {"grammar": {"type": "regex", "value": "a"}}, id="grammar"),
])  # fmt: skip
def test_a_parameter_that_a_version_would_ignore_is_refused(version: str, given: dict[str, Any]) -> None:
    param, message = asked(make("tgi", version), generate(**given))
    assert param == next(iter(given))
    assert message.startswith(f"This model's container takes {param} from version ")


# Which schemas a version takes


@pytest.mark.parametrize("version", ["1.3", "1.4", "2.3"])
def test_before_2_4_a_container_takes_texts_or_chats(version: str) -> None:
    texts, chats = make("tgi", version), make("tgi", version, messages_api=True)
    assert isinstance(asked(texts, completion()), dict)
    assert asked(chats, completion()) == ("prompt", "This model only chats: its container completes no texts.")
    assert asked(chats, generate()) == ("inputs", "This model only chats: its container completes no texts.")


def test_an_unknown_version_has_no_adapter() -> None:
    for version in ("0.9", "4.0", "3", "three"):
        with pytest.raises(ValueError, match="no adapter for container 'tgi'"):
            make("tgi", version)


# The tables


@pytest.mark.parametrize("table", [behind_table.COMPLETIONS, behind_table.CHAT, behind_table.GENERATE])
def test_a_row_says_what_it_is_sent_as(table: dict[str, behind_table.Row]) -> None:
    for row in table.values():
        assert bool(row.becomes) is (row.fate is Fate.SENT)
        assert row.fate is Fate.SENT or row.since == behind_table.OLDEST


def test_every_neutral_value_is_let_through() -> None:
    for name, row in behind_table.COMPLETIONS.items():
        for value in row.neutral:
            allowed = FieldPolicy(allow_fields=frozenset({name}))
            assert isinstance(asked(OLD, completion(policy=allowed, **{name: value})), dict), (name, value)
