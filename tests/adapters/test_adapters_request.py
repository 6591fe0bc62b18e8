"""The caller's body: what is no JSON, what is missing or wrong, what is capped, and what never reaches a container."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import pytest

from adapters.base import Call, Surface
from adapters.openai import caps
from adapters.openai.request import MAX_DEPTH, MAX_FIELDS, BadRequest, FieldPolicy, check, read
from tests.adapters.calls import HELLO, IMAGES, chat, completion


def refusal(surface: Surface, body: bytes, policy: FieldPolicy = IMAGES) -> tuple[str, str | None, str]:
    """Return code, param and message of the error that `body` must raise."""
    with pytest.raises(BadRequest) as caught:
        check(read(surface, body), policy)
    return caught.value.code, caught.value.param, caught.value.message


def refused(policy: FieldPolicy = IMAGES, **fields: Any) -> tuple[str, str | None]:
    """Return code and param of the error that a call with `fields` must raise."""
    surface = Surface.COMPLETIONS if "prompt" in fields and "messages" not in fields else Surface.CHAT
    body = {"model": "m", **({} if surface is Surface.COMPLETIONS else {"messages": HELLO}), **fields}
    return refusal(surface, json.dumps(body).encode(), policy)[:2]


GOOD = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"   ", id="only space"),
        pytest.param(b"hello", id="text"),
        pytest.param(b'"hello"', id="a string"),
        pytest.param(b"[]", id="an array"),
        pytest.param(b"null", id="null"),
        pytest.param(GOOD[:-1], id="truncated"),
        pytest.param(GOOD + b"x", id="trailing text"),
        pytest.param(GOOD + GOOD, id="two objects"),
        pytest.param(GOOD.decode().encode("utf-16"), id="UTF-16"),
        pytest.param(b"\xef\xbb\xbf" + GOOD, id="byte order mark"),
        pytest.param(GOOD.replace(b"hi", b"\xff"), id="not UTF-8"),
        pytest.param(GOOD.replace(b"hi", b"\xc0\xaf"), id="overlong UTF-8"),
        pytest.param(GOOD.replace(b"hi", b"\xed\xa0\x80"), id="a surrogate in UTF-8"),
        pytest.param(GOOD.replace(b"hi", b"\\ud800"), id="a lone high surrogate"),
        pytest.param(GOOD.replace(b"hi", b"\\udc00 x"), id="a lone low surrogate"),
        pytest.param(GOOD.replace(b"hi", b"a\nb"), id="a line break in a string"),
        pytest.param(GOOD.replace(b"hi", b"a\x00b"), id="a NUL in a string"),
        pytest.param(GOOD[:-1] + b',"top_p":NaN}', id="NaN"),
        pytest.param(GOOD[:-1] + b',"top_p":Infinity}', id="Infinity"),
        pytest.param(GOOD[:-1] + b',"top_p":-Infinity}', id="minus Infinity"),
        pytest.param(GOOD[:-1] + b',"top_p":1e400}', id="a number beyond doubles"),
        pytest.param(GOOD[:-1] + b',"seed":' + b"9" * 400_000 + b"}", id="an integer of 400000 digits"),
        pytest.param(GOOD[:-1] + b',"seed":01}', id="a leading zero"),
        pytest.param(GOOD[:-1] + b",}", id="a trailing comma"),
        pytest.param(GOOD.replace(b'"', b"'"), id="single quotes"),
        pytest.param(b'{"model":' + b"[" * 1000 + b"]" * 1000 + b"}", id="1000 arrays deep"),
        pytest.param(b'{"model":' + b"[" * 100_000 + b"]" * 100_000 + b"}", id="100000 arrays deep"),
        pytest.param(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, id="100000 objects deep"),
        pytest.param(b'{"model":"m","x":' + b"[" * MAX_DEPTH + b"]" * MAX_DEPTH + b"}", id="one level too deep"),
        pytest.param(b"{" + b",".join(b'"f%d":1' % n for n in range(MAX_FIELDS + 1)) + b"}", id="too many fields"),
        pytest.param(b"{" + b",".join(b'"f%d":1' % n for n in range(100_000)) + b"}", id="100000 fields"),
    ],
)
def test_what_is_not_one_json_object_is_refused_at_once(body: bytes) -> None:
    started = time.perf_counter()
    code, param, _ = refusal(Surface.CHAT, body)
    assert (code, param) == ("invalid_json", None)
    assert time.perf_counter() - started < 0.5  # 50 ms, on a machine that is not busy with other tests


def test_the_deepest_body_that_passes() -> None:
    inner = b"[" * (MAX_DEPTH - 1) + b"]" * (MAX_DEPTH - 1)
    assert read(Surface.CHAT, b'{"model":"m","x":' + inner + b"}").model == "m"


def test_braces_inside_strings_are_not_depth() -> None:
    assert read(Surface.CHAT, b'{"model":"m","x":"' + b"[{" * 5000 + b'"}').model == "m"


@pytest.mark.parametrize(
    ("body", "name"),
    [
        pytest.param(b'{"model":"a","messages":[],"model":"b"}', "model", id="model"),
        pytest.param(b'{"model":"a","stream":true,"stream":false}', "stream", id="stream"),
        pytest.param(b'{"model":"a","x":1,"x":1}', "x", id="equal values"),
        pytest.param(b'{"model":"a","x":1,"\\u0078":2}', "x", id="spelled differently"),
        pytest.param(b'{ "model" : "a" , "x" : 12 , "x" : 1 , "y" : 1 }', "x", id="one value starts the other"),
        pytest.param(b'{"model":"a","x":"\\"y\\":1,","y":1,"y":1}', "y", id="a value that looks like fields"),
        pytest.param(b'{"x":[],"model":"a","x":{}}', "x", id="far apart"),
        pytest.param(b'{"model":"a",' + b'"x":1,' * 50_000 + b'"y":1}', "x", id="50000 times"),
    ],
)
def test_a_field_that_occurs_twice_is_named(body: bytes, name: str) -> None:
    code, param, message = refusal(Surface.CHAT, body)
    assert (code, param) == ("duplicate_parameter", name)
    assert message == f"The field {name} occurs twice."


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"model":"m"}', id="compact"),
        pytest.param(
            b' {\n\t"model" :\r\n"m" , "x": {"y":1,"y":2} } \n', id="spread out, equal names only inside a value"
        ),
        pytest.param(b'{"model":"m","\\"":1,"\\\\":2,"\\\\\\"":3,"":4}', id="names with quotes and backslashes"),
        pytest.param('{"model":"m","é":1,"e\\u0301":2,"\\u00e8":3}'.encode(), id="names that are not ASCII"),
        pytest.param(b'{"model":"m","a":"}","b":",","c":"{","d":"\\""}', id="values of punctuation"),
    ],
)
def test_a_body_without_equal_names_passes(body: bytes) -> None:
    assert read(Surface.CHAT, body).model == "m"


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        pytest.param(b'{"messages":[]}', "missing_required_parameter", "model", id="no model"),
        pytest.param(b'{"model":null}', "missing_required_parameter", "model", id="model null"),
        pytest.param(b'{"model":""}', "invalid_value", "model", id="model empty"),
        pytest.param(b'{"model":5}', "invalid_type", "model", id="model a number"),
        pytest.param(b'{"model":"m","stream":1}', "invalid_type", "stream", id="stream a number"),
        pytest.param(b'{"model":"m","stream":"true"}', "invalid_type", "stream", id="stream a string"),
    ],
)
def test_model_and_stream_are_checked_before_the_policy_is_known(body: bytes, code: str, param: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read(Surface.CHAT, body)
    assert (caught.value.code, caught.value.param) == (code, param)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"messages": None}, "missing_required_parameter", "messages"),
        ({"messages": []}, "invalid_value", "messages"),
        ({"messages": "hi"}, "invalid_type", "messages"),
        ({"messages": ["hi"]}, "invalid_type", "messages[0]"),
        ({"messages": [{"content": "hi"}]}, "missing_required_parameter", "messages[0].role"),
        ({"messages": [*HELLO, {"role": 1, "content": "hi"}]}, "invalid_type", "messages[1].role"),
        ({"messages": [{"role": "user", "content": 1}]}, "invalid_type", "messages[0].content"),
        ({"messages": [{"role": "user", "content": {"type": "text"}}]}, "invalid_type", "messages[0].content"),
        ({"messages": [{"role": "user", "content": ["hi"]}]}, "invalid_type", "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": 1}]}]}, "invalid_type", "messages[0].content[0].type"),
        (
            {"messages": [{"role": "user", "content": [{"type": "text", "text": 1}]}]},
            "invalid_type",
            "messages[0].content[0].text",
        ),
        ({"n": 0}, "invalid_value", "n"),
        ({"n": 129}, "invalid_value", "n"),
        ({"n": True}, "invalid_type", "n"),
        ({"n": 1.0}, "invalid_type", "n"),
        ({"n": "2"}, "invalid_type", "n"),
        ({"n": 10**30}, "invalid_value", "n"),
        ({"n": 2, "temperature": 0}, "invalid_value", "n"),
        ({"max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"max_tokens": -1}, "invalid_value", "max_tokens"),
        ({"max_tokens": "many"}, "invalid_type", "max_tokens"),
        ({"max_tokens": False}, "invalid_type", "max_tokens"),
        ({"max_completion_tokens": 0}, "invalid_value", "max_completion_tokens"),
        ({"min_tokens": 9, "max_tokens": 8}, "invalid_value", "min_tokens"),
        ({"temperature": -0.1}, "invalid_value", "temperature"),
        ({"temperature": 2.1}, "invalid_value", "temperature"),
        ({"temperature": "hot"}, "invalid_type", "temperature"),
        ({"temperature": True}, "invalid_type", "temperature"),
        ({"top_p": 0}, "invalid_value", "top_p"),
        ({"top_p": 1.1}, "invalid_value", "top_p"),
        ({"presence_penalty": 2.1}, "invalid_value", "presence_penalty"),
        ({"frequency_penalty": -2.1}, "invalid_value", "frequency_penalty"),
        ({"repetition_penalty": 0}, "invalid_value", "repetition_penalty"),
        ({"min_p": 2}, "invalid_value", "min_p"),
        ({"top_k": -2}, "invalid_value", "top_k"),
        ({"seed": 2**63}, "invalid_value", "seed"),
        ({"seed": -(2**63) - 1}, "invalid_value", "seed"),
        ({"seed": 1.5}, "invalid_type", "seed"),
        ({"stop": 5}, "invalid_type", "stop"),
        ({"stop": ""}, "invalid_value", "stop"),
        ({"stop": ["a", 5]}, "invalid_type", "stop[1]"),
        ({"stop": ["a", ""]}, "invalid_value", "stop[1]"),
        ({"user": 5}, "invalid_type", "user"),
        ({"logprobs": 3}, "invalid_type", "logprobs"),
        ({"top_logprobs": 3}, "invalid_value", "top_logprobs"),
        ({"logprobs": False, "top_logprobs": 3}, "invalid_value", "top_logprobs"),
        ({"stream_options": {"include_usage": True}}, "invalid_value", "stream_options"),
        ({"stream": True, "stream_options": []}, "invalid_type", "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "invalid_type", "stream_options.include_usage"),
        ({"stream": True, "prompt_logprobs": 1}, "invalid_value", "prompt_logprobs"),
        ({"tools": {}}, "invalid_type", "tools"),
        ({"tools": [], "tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"tool_choice": "auto"}, "invalid_value", "tool_choice"),
        ({"tools": ["f"]}, "invalid_type", "tools[0]"),
        ({"tools": [{"type": "web_search"}]}, "invalid_value", "tools[0].type"),
        ({"tools": [{"type": "function"}]}, "invalid_type", "tools[0].function"),
        ({"tools": [{"type": "function", "function": {}}]}, "invalid_type", "tools[0].function.name"),
        ({"tools": [{"type": "function", "function": {"name": ""}}]}, "invalid_value", "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "f", "parameters": "{}"}}]},
            "invalid_type",
            "tools[0].function.parameters",
        ),
        ({"tool_choice": "required"}, "invalid_value", "tool_choice"),
        ({"tool_choice": "any"}, "invalid_value", "tool_choice"),
        ({"tool_choice": 1}, "invalid_type", "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools"}}, "invalid_value", "tool_choice.type"),
        (
            {
                "tools": [{"type": "function", "function": {"name": "f"}}],
                "tool_choice": {"type": "function", "function": {"name": "g"}},
            },
            "invalid_value",
            "tool_choice.function.name",
        ),
        ({"response_format": "json"}, "invalid_type", "response_format"),
        ({"response_format": {}}, "invalid_type", "response_format.type"),
        ({"response_format": {"type": "json_schema"}}, "invalid_type", "response_format.json_schema"),
        ({"logit_bias": []}, "invalid_type", "logit_bias"),
        ({"logit_bias": {"x": 1}}, "invalid_value", "logit_bias"),
        ({"logit_bias": {"5": 101}}, "invalid_value", "logit_bias.5"),
        ({"stop_token_ids": [1, -1]}, "invalid_value", "stop_token_ids[1]"),
        ({"parallel_tool_calls": "no"}, "invalid_type", "parallel_tool_calls"),
    ],
)
def test_a_wrong_field_of_a_chat_is_named(fields: dict[str, Any], code: str, param: str) -> None:
    assert refused(**{"messages": HELLO, **fields}) == (code, param)


@pytest.mark.parametrize(
    ("fields", "code", "param"),
    [
        ({"prompt": None}, "missing_required_parameter", "prompt"),
        ({"prompt": ""}, "invalid_value", "prompt"),
        ({"prompt": []}, "invalid_value", "prompt"),
        ({"prompt": 5}, "invalid_type", "prompt"),
        ({"prompt": {}}, "invalid_type", "prompt"),
        ({"prompt": ["a", 1]}, "invalid_type", "prompt[1]"),
        ({"prompt": [1, "a"]}, "invalid_type", "prompt[1]"),
        ({"prompt": [1, True]}, "invalid_type", "prompt[1]"),
        ({"prompt": [1, 1.5]}, "invalid_type", "prompt[1]"),
        ({"prompt": [-1]}, "invalid_value", "prompt[0]"),
        ({"prompt": [[1], []]}, "invalid_value", "prompt[1]"),
        ({"prompt": [[1], ["a"]]}, "invalid_type", "prompt[1][0]"),
        ({"prompt": [[1], 2]}, "invalid_type", "prompt[1]"),
        ({"prompt": [None]}, "invalid_type", "prompt[0]"),
        ({"prompt": "a", "logprobs": True}, "invalid_type", "logprobs"),
        ({"prompt": "a", "logprobs": 21}, "invalid_value", "logprobs"),
        ({"prompt": "a", "max_tokens": 0}, "invalid_value", "max_tokens"),
        ({"prompt": "a", "best_of": 2, "n": 3}, "invalid_value", "best_of"),
        ({"prompt": ["a"] * 129, "n": 2}, "invalid_value", "n"),
    ],
)
def test_a_wrong_field_of_a_completion_is_named(fields: dict[str, Any], code: str, param: str) -> None:
    body = json.dumps({"model": "m", **fields}).encode()
    assert refusal(Surface.COMPLETIONS, body)[:2] == (code, param)


TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}


@pytest.mark.parametrize(
    "fields",
    [
        {"n": 128},
        {"temperature": 0},
        {"temperature": 2, "top_p": 1, "presence_penalty": -2, "frequency_penalty": 2},
        {"stop": "x"},
        {"stop": []},
        {"seed": -(2**63)},
        {"logprobs": True, "top_logprobs": 20},
        {"top_logprobs": 0},
        {"tools": [TOOL], "tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "f"}}},
        {"tool_choice": "none"},
        {"response_format": {"type": "json_object"}},
        {"stream": True, "stream_options": {"include_usage": True, "continuous_usage_stats": True}},
        {"structured_outputs": {"regex": "[a-z]+"}},
        {"chat_template_kwargs": {"enable_thinking": False, "effort": "low", "budget": 5, "x": None}},
        {"top_k": 0, "min_p": 0.1, "repetition_penalty": 1.1, "ignore_eos": True, "stop_token_ids": [1]},
        {"messages": [{"role": "assistant", "content": None, "tool_calls": []}, {"role": "tool", "content": "x"}]},
        {
            "messages": [
                {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]}
            ]
        },
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]}]},
        {"metadata": {"a": "b"}, "store": False, "service_tier": "auto", "unheard_of": [1, {}]},
    ],
)
def test_right_fields_pass_as_they_were_written(fields: dict[str, Any]) -> None:
    call = chat(**fields)
    for name, value in fields.items():
        assert call.values[name] == value
        assert json.loads(bytes(call.raw[name])) == value


SCHEMA = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 9}}, "required": ["city"]}
NAMED_SCHEMA = {"type": "json_schema", "json_schema": {"name": "response", "schema": SCHEMA}}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        pytest.param({"type": "json_object", "value": SCHEMA}, NAMED_SCHEMA, id="as huggingface_hub has it"),
        pytest.param({"type": "json", "value": SCHEMA}, NAMED_SCHEMA, id="as TGI has it"),
        pytest.param({"type": "json", "value": json.dumps(SCHEMA)}, NAMED_SCHEMA, id="in a text"),
        pytest.param({"type": "json_object", "value": json.dumps(SCHEMA)}, NAMED_SCHEMA, id="an object in a text"),
        pytest.param(
            {"type": "json_schema", "value": {"schema": json.dumps(SCHEMA)}}, NAMED_SCHEMA, id="named, a text"
        ),
        pytest.param({"type": "json_object", "value": None}, {"type": "json_object", "value": None}, id="no schema"),
        pytest.param({"type": "regex", "value": "[a-z]"}, {"type": "regex", "value": "[a-z]"}, id="no JSON"),
    ],
)
@pytest.mark.parametrize("build", [chat, completion])
def test_a_schema_in_tgis_spelling_is_sent_in_openais(build: Callable[..., Call], given: Any, sent: Any) -> None:
    call = build(response_format=given, seed=1)
    assert call.values["response_format"] == sent
    assert json.loads(bytes(call.raw["response_format"])) == sent
    assert bytes(call.raw["seed"]) == b"1"


def test_a_schema_in_tgis_spelling_is_held_to_the_same_limits() -> None:
    for value in ({"x": "a" * caps.MAX_SCHEMA_BYTES}, json.dumps({"x": "a" * caps.MAX_SCHEMA_BYTES}), "{", "[]", "1"):
        with pytest.raises(BadRequest, match="response_format"):
            chat(response_format={"type": "json_object", "value": value})


@pytest.mark.parametrize("value", ["{", "[]", "1e"])
def test_a_text_that_is_no_schema_is_the_containers_matter_where_checks_are_lifted(value: str) -> None:
    given = {"type": "json_object", "value": value}
    call = chat(policy=FieldPolicy(allow_fields=frozenset({"response_format"})), response_format=given)
    assert call.values["response_format"] == given


@pytest.mark.parametrize(
    ("prompt", "choices"),
    [("a", 1), (["a"], 1), (["a", "b"], 2), ([1, 2, 3], 1), ([[1, 2], [3]], 2)],
)
def test_choices_count_prompts_times_n(prompt: object, choices: int) -> None:
    assert completion(prompt=prompt).choices == choices
    assert completion(prompt=prompt, n=3).choices == 3 * choices


def test_null_counts_as_absent_and_is_not_sent_on() -> None:
    call = chat(temperature=None, tools=None, stream=None, stream_options=None, unheard_of=None, prompt=None)
    assert set(call.raw) == set(call.values) == {"model", "messages"}
    assert not call.stream


def test_the_cap_on_new_tokens_is_the_newer_field() -> None:
    assert chat().max_tokens is None
    assert chat(max_tokens=5).max_tokens == 5
    assert chat(max_tokens=5, max_completion_tokens=7).max_tokens == 7
    assert chat(max_tokens=5, max_completion_tokens=None).max_tokens == 5
    assert completion(max_tokens=5).max_tokens == 5


def test_an_echoed_completion_may_have_no_new_tokens() -> None:
    assert completion(max_tokens=0, echo=True).max_tokens == 0


@pytest.mark.parametrize(("options", "asked"), [({"include_usage": True}, True), ({}, False), (None, False)])
def test_usage_is_asked_for_by_its_option(options: dict[str, bool] | None, asked: bool) -> None:
    assert chat(stream=True, stream_options=options).include_usage is asked


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        pytest.param({"max_tokens": 100}, "max_tokens", id="as much as the context"),
        pytest.param({"max_completion_tokens": 101}, "max_completion_tokens", id="more than the context"),
    ],
)
def test_an_answer_that_leaves_no_room_for_the_prompt_is_refused(fields: dict[str, int], param: str) -> None:
    policy = FieldPolicy(context_length=100)
    assert refused(policy, **fields) == ("context_length_exceeded", param)
    assert chat(policy=policy, max_tokens=99).max_tokens == 99


CONTROL = ["prompt", "inputs", "prompt_embeds", "requestType", "adapters", "parameters"]
ROUTING = [
    "api_base", "base_url", "endpoint", "endpoint_name", "api_key", "aws_region", "aws_access_key_id",
    "custom_attributes",
    "target_model", "target_variant", "inference_component", "session_id", "extra_headers", "extra_body",
]  # fmt: skip
ENGINE = [
    "chat_template", "audio_embeds", "mm_processor_kwargs", "media_io_kwargs", "kv_transfer_params",
    "ec_transfer_params",
    "vllm_xargs", "request_id", "priority", "cache_salt", "guided_decoding_backend", "logits_processors", "mm_payload",
]  # fmt: skip


@pytest.mark.parametrize("name", [*CONTROL, *ROUTING, *ENGINE])
@pytest.mark.parametrize("value", ["x", 0, {}, [1]], ids=["string", "zero", "object", "array"])
def test_fields_that_control_more_than_the_answer_are_refused(name: str, value: Any) -> None:
    assert refused(messages=HELLO, **{name: value}) == ("parameter_not_allowed", name)


@pytest.mark.parametrize("name", ["messages", "inputs", "prompt_embeds", "requestType", "adapters", "api_base"])
def test_a_completion_has_its_own_fields_of_control(name: str) -> None:
    body = json.dumps({"model": "m", "prompt": "x", name: HELLO}).encode()
    assert refusal(Surface.COMPLETIONS, body)[:2] == ("parameter_not_allowed", name)


@pytest.mark.parametrize("name", ["chat_template", "mm_processor_kwargs", "priority"])
def test_a_model_may_allow_what_is_refused(name: str) -> None:
    assert name in chat(policy=FieldPolicy(allow_fields=frozenset({name})), **{name: "x"}).raw


@pytest.mark.parametrize(
    "name",
    [
        "chat_template", "tokenize", "tools", "documents", "conversation", "messages", "add_generation_prompt",
        "continue_final_message", "return_dict", "return_tensors", "padding", "truncation", "max_length",
    ],
)  # fmt: skip
def test_arguments_of_the_template_call_are_no_template_switches(name: str) -> None:
    assert refused(chat_template_kwargs={"ok": 1, name: 1}) == ("parameter_not_allowed", f"chat_template_kwargs.{name}")
    free = FieldPolicy(allow_fields=frozenset({"chat_template_kwargs"}))
    assert chat(policy=free, chat_template_kwargs={name: [1]}).values["chat_template_kwargs"] == {name: [1]}


@pytest.mark.parametrize("value", [[1], {"a": 1}])
def test_template_switches_are_scalars(value: object) -> None:
    assert refused(chat_template_kwargs={"x": value}) == ("invalid_type", "chat_template_kwargs.x")


def test_structured_outputs_do_not_choose_their_backend() -> None:
    assert refused(structured_outputs={"regex": "a", "_backend": "x"}) == (
        "parameter_not_allowed",
        "structured_outputs._backend",
    )


def deep(levels: int) -> dict[str, Any]:
    schema: dict[str, Any] = {}
    for _ in range(levels - 1):
        schema = {"x": schema}
    return schema


CAPPED = [
    ("n", caps.MAX_N + 1, {}),
    ("top_logprobs", caps.MAX_LOGPROBS + 1, {"logprobs": True}),
    ("top_logprobs", -1, {"logprobs": True}),
    ("prompt_logprobs", caps.MAX_LOGPROBS + 1, {}),
    ("prompt_logprobs", -1, {}),
    ("best_of", caps.MAX_BEST_OF + 1, {}),
    ("logit_bias", {str(n): 1 for n in range(caps.MAX_LOGIT_BIAS + 1)}, {}),
    ("stop", ["x"] * (caps.MAX_STOPS + 1), {}),
    ("stop", "x" * (caps.MAX_STOP_CHARS + 1), {}),
    ("bad_words", ["x"] * (caps.MAX_BAD_WORDS + 1), {}),
    ("stop_token_ids", [1] * (caps.MAX_TOKEN_IDS + 1), {}),
    ("allowed_token_ids", [1] * (caps.MAX_TOKEN_IDS + 1), {}),
    ("tools", [TOOL] * (caps.MAX_TOOLS + 1), {}),
    ("guided_regex", "a" * (caps.MAX_PATTERN_CHARS + 1), {}),
    ("guided_json", deep(caps.MAX_SCHEMA_DEPTH + 1), {}),
    ("response_format", {"type": "x", "y": "a" * caps.MAX_SCHEMA_BYTES}, {}),
]


@pytest.mark.parametrize(
    ("name", "value", "others"), CAPPED, ids=[f"{name}-{n}" for n, (name, _, _) in enumerate(CAPPED)]
)
def test_a_cap_names_its_field_and_can_be_lifted(name: str, value: object, others: dict[str, Any]) -> None:
    code, param = refused(**{name: value, **others})
    assert code == "invalid_value"
    assert param is not None
    assert param.startswith(name)
    lifted = FieldPolicy(allow_fields=frozenset({name}))
    assert chat(policy=lifted, **{name: value, **others}).values[name] == value


@pytest.mark.parametrize(
    ("name", "value", "param"),
    [
        (
            "tools",
            [TOOL, {"type": "function", "function": {"name": "g", "parameters": deep(65)}}],
            "tools[1].function.parameters",
        ),
        ("structured_outputs", {"json": deep(65)}, "structured_outputs.json"),
        ("structured_outputs", {"grammar": "a" * 8193}, "structured_outputs.grammar"),
        ("structured_outputs", {"choice": ["a"] * 1025}, "structured_outputs.choice"),
        ("stop", ["x" * 257], "stop[0]"),
    ],
)
def test_a_cap_inside_a_field_names_the_path(name: str, value: Any, param: str) -> None:
    assert refused(**{name: value}) == ("invalid_value", param)


def test_the_message_of_a_cap_tells_the_number() -> None:
    body = json.dumps({"model": "m", "messages": HELLO, "n": 129}).encode()
    assert refusal(Surface.CHAT, body)[2] == "n must be from 1 to 128, not 129."


def test_unknown_fields_are_forwarded_dropped_or_refused() -> None:
    fields: dict[str, Any] = {"unheard_of": 1, "temperature": 0.5, "top_k": 5, "user": "u"}
    assert "unheard_of" in chat(policy=FieldPolicy(unknown_fields="forward"), **fields).raw
    dropped = chat(policy=FieldPolicy(unknown_fields="drop"), **fields)
    assert set(dropped.raw) == set(dropped.values) == {"model", "messages", "temperature", "top_k", "user"}
    assert refused(FieldPolicy(unknown_fields="refuse"), **fields) == ("unknown_parameter", "unheard_of")
    allowed = FieldPolicy(unknown_fields="refuse", allow_fields=frozenset({"unheard_of"}))
    assert "unheard_of" in chat(policy=allowed, **fields).raw


def test_a_long_name_or_value_does_not_fill_the_message() -> None:
    for fields in ({"temperature": 10**4000}, {"messages": [{"role": "user", "content": [{"type": "x" * 9999}]}]}):
        body = json.dumps({"model": "m", "messages": HELLO, **fields}).encode()
        assert len(refusal(Surface.CHAT, body)[2]) < 300
