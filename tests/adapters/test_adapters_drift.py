"""What each version of a container gets of each field: by the table, and by calls in every spelling."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from adapters.base import Surface
from adapters.drift.table import Does
from adapters.drift.vllm import VLLM, translator
from adapters.errors import UnsupportedParameter
from adapters.lmi import VLLM_MINOR
from adapters.openai import fields
from adapters.openai.request import FieldPolicy, check, read
from adapters.registry import make
from tests.adapters.calls import HELLO
from tests.adapters.engines import call_of

NAMES = (
    "cache_salt chat_template ec_transfer_params guided_decoding_backend kv_transfer_params logits_processors"
    " media_io_kwargs mm_processor_kwargs priority request_id vllm_xargs"
)
ALLOWED = frozenset(NAMES.split())
FREE = FieldPolicy(allow_fields=ALLOWED)
NEWEST = 33
SAME = object()
"""What the caller says, unchanged."""
TOOL = {"type": "function", "function": {"name": "f"}}
NAMED = {"type": "function", "function": {"name": "f"}}


def sent(minor: int, **given: Any) -> dict[str, Any]:
    """Return the fields that vLLM 0.`minor` gets, without the prompt."""
    call = call_of(policy=FREE, **given)
    body: dict[str, Any] = json.loads(make("vllm", f"0.{minor}").encode(call, stream=call.stream))
    return {name: value for name, value in body.items() if name not in ("messages", "prompt")}


def refusal(minor: int, **given: Any) -> tuple[str, str]:
    with pytest.raises(UnsupportedParameter) as caught:
        sent(minor, **given)
    return caught.value.param, str(caught.value)


# --- The other fields ---

FIELDS: list[tuple[dict[str, Any], dict[int, Any]]] = [
    # (what the caller says, {first version: the fields that are sent, or the name of the one that is refused})
    ({"best_of": 1}, {8: {}}),
    ({"best_of": 2, "n": 2}, {8: {"n": 2}}),
    ({"best_of": 3, "n": 2}, {8: "best_of"}),
    ({"prompt": "a", "best_of": 3}, {8: "best_of"}),
    ({"top_k": 0}, {8: {"top_k": -1}, 10: SAME}),
    ({"top_k": 5}, {8: SAME}),
    ({"truncate_prompt_tokens": -1}, {8: "truncate_prompt_tokens", 10: SAME}),
    ({"truncate_prompt_tokens": 9}, {8: SAME}),
    ({"truncation_side": "right"}, {8: "truncation_side", 22: SAME}),
    ({"truncation_side": "left"}, {8: {}, 22: SAME}),
    ({"max_completion_tokens": 5}, {8: SAME}),
    ({"prompt": "a", "max_completion_tokens": 5}, {8: "max_completion_tokens"}),
    ({"prompt": "a", "suffix": "b"}, {8: "suffix", 31: SAME}),
    ({"prompt": "a", "suffix": ""}, {8: {}, 31: SAME}),
    ({"suffix": "b"}, {8: "suffix"}),
    ({"allowed_token_ids": [1]}, {8: "allowed_token_ids", 9: SAME}),
    ({"prompt": "a", "allowed_token_ids": [1]}, {8: SAME}),
    ({"bad_words": ["a"]}, {8: "bad_words", 9: SAME}),
    ({"prompt": "a", "bad_words": ["a"]}, {8: "bad_words", 26: SAME}),
    ({"prompt": "a", "bad_words": []}, {8: {}, 26: SAME}),
    ({"repetition_detection": {}}, {8: "repetition_detection", 17: SAME}),
    ({"watermarking": True}, {8: "watermarking", 30: SAME}),
    ({"watermarking": False}, {8: {}, 30: SAME}),
    ({"reasoning_effort": "low"}, {8: "reasoning_effort", 10: SAME}),
    ({"reasoning_effort": "none"}, {8: "reasoning_effort", 18: SAME}),
    ({"reasoning_effort": "minimal"}, {8: "reasoning_effort", 21: SAME}),
    ({"reasoning_effort": "xhigh"}, {8: "reasoning_effort", 21: SAME}),
    ({"reasoning_effort": "extreme"}, {8: "reasoning_effort"}),
    ({"prompt": "a", "reasoning_effort": "low"}, {8: "reasoning_effort"}),
    ({"include_reasoning": True}, {8: {}, 10: SAME}),
    ({"include_reasoning": False}, {8: "include_reasoning", 10: SAME}),
    ({"thinking_token_budget": 5}, {8: "thinking_token_budget", 19: SAME}),
    ({"prompt": "a", "thinking_token_budget": 5}, {8: "thinking_token_budget", 22: SAME}),
    ({"return_token_ids": True}, {8: "return_token_ids", 10: SAME}),
    ({"return_token_ids": False}, {8: {}, 10: SAME}),
    ({"return_prompt_text": True}, {8: "return_prompt_text", 21: SAME}),
    ({"return_token_offsets": True}, {8: "return_token_offsets", 25: SAME}),
    (
        {"return_assistant_tokens_mask": True},
        {8: "return_assistant_tokens_mask", 25: SAME, 31: "return_assistant_tokens_mask"},
    ),
    ({"logprob_token_ids": [1]}, {8: "logprob_token_ids", 26: SAME}),
    ({"routed_experts_prompt_start": 1}, {8: "routed_experts_prompt_start", 28: SAME}),
    ({"return_weight_versions": True}, {8: "return_weight_versions", 33: SAME}),
    ({"stream_interval": 3}, {8: SAME}),
    ({"parallel_tool_calls": False, "tools": [TOOL]}, {8: "parallel_tool_calls", 12: SAME}),
    ({"parallel_tool_calls": True, "tools": [TOOL]}, {8: SAME}),
    ({"parallel_tool_calls": False}, {8: SAME}),
    ({"parallel_tool_calls": False, "tools": [TOOL], "tool_choice": NAMED}, {8: SAME}),
    ({"tools": [], "tool_choice": "auto", "parallel_tool_calls": False}, {8: {}}),
    ({"tools": [], "tool_choice": "none", "temperature": 1}, {8: {"temperature": 1}}),
    ({"tools": [TOOL], "tool_choice": "none"}, {8: SAME}),
    ({"prompt": "a", "tools": [TOOL]}, {8: "tools"}),
    ({"functions": [{"name": "f"}]}, {8: "functions"}),
    ({"function_call": "auto"}, {8: "function_call"}),
    ({"modalities": ["text"]}, {8: SAME}),
    ({"modalities": ["text", "audio"]}, {8: "modalities"}),
    ({"audio": {}}, {8: "audio"}),
    ({"moderation": {"model": "m"}}, {8: "moderation"}),
    ({"verbosity": "medium"}, {8: {}}),
    ({"verbosity": "low"}, {8: "verbosity"}),
    ({"web_search_options": {}}, {8: "web_search_options"}),
    ({"user": "u", "store": True, "metadata": {"a": "b"}, "service_tier": "auto", "prompt_cache_key": "k"}, {8: SAME}),
    ({"chat_template_kwargs": {"enable_thinking": True}}, {8: SAME}),
    ({"prompt": "a", "chat_template_kwargs": {"x": 1}}, {8: "chat_template_kwargs"}),
    ({"cache_salt": "s"}, {8: "cache_salt", 9: SAME}),
    ({"prompt": "a", "cache_salt": "s"}, {8: "cache_salt", 10: SAME}),
    ({"guided_decoding_backend": "auto"}, {8: SAME, 12: "guided_decoding_backend"}),
    ({"logits_processors": []}, {8: SAME, 17: "logits_processors"}),
]


@pytest.mark.parametrize(("given", "expected"), FIELDS, ids=[json.dumps(given) for given, _ in FIELDS])
def test_a_field_is_sent_as_the_version_acts_upon_it_or_refused(
    given: dict[str, Any], expected: dict[int, Any]
) -> None:
    for minor in range(8, NEWEST + 1):
        wanted = expected[max(first for first in expected if first <= minor)]
        if wanted is SAME:
            wanted = {name: value for name, value in given.items() if name != "prompt"}
        if isinstance(wanted, str):
            param, message = refusal(minor, **given)
            assert param == wanted
            assert message.startswith("This model's container ")
            assert wanted in message or wanted == "modalities"
        else:
            assert sent(minor, **given) == wanted


def test_newer_versions_than_known_are_taken_for_the_newest() -> None:
    assert sent(99, guided_regex="a", top_k=0) == {"structured_outputs": {"regex": "a"}, "top_k": 0}


@pytest.mark.parametrize("version", VLLM_MINOR)
def test_lmi_translates_as_the_vllm_inside_it(version: int) -> None:
    minor = VLLM_MINOR[version]
    lmi = make("lmi", str(version))
    call = call_of(structured_outputs={"regex": "a"}, best_of=1, truncation_side="left", seed=3)
    assert lmi.encode(call, stream=False) == make("vllm", f"0.{minor}").encode(call, stream=False)


@pytest.mark.parametrize(("minor", "message"), [
    (10, "This model's container knows low, medium, high as reasoning_effort, not 'xhigh'."),
    (18, "This model's container knows none, low, medium, high as reasoning_effort, not 'xhigh'."),
])  # fmt: skip
def test_a_refusal_says_what_would_do(minor: int, message: str) -> None:
    assert refusal(minor, reasoning_effort="xhigh") == ("reasoning_effort", message)
    assert refusal(minor, functions=[]) == (
        "functions",
        "This model's container does not act upon functions. Use tools instead.",
    )


def test_reasoning_cannot_be_left_out_of_an_older_stream() -> None:
    for minor in (10, 25):
        assert refusal(minor, include_reasoning=False, stream=True)[0] == "include_reasoning"
        assert sent(minor, include_reasoning=True, stream=True)["include_reasoning"] is True
    assert sent(26, include_reasoning=False, stream=True)["include_reasoning"] is False


# --- The history ---

THOUGHT = '{"role":"assistant","content":"a", "reasoning_content":"\\u00e9 b"}'
BOTH = '{"role":"assistant","content":"a","reasoning_content":"old","reasoning":"new"}'
NULL = '{"role":"assistant","content":"a","reasoning_content":"b","reasoning":null}'
PLAIN = '{ "role": "user", "content": "hi" }'


@pytest.mark.parametrize("minor", [8, 10, 11, 15, 16, 21, 22, 33])
@pytest.mark.parametrize(
    ("message", "renamed"),
    [
        pytest.param(THOUGHT, '{"role":"assistant","content":"a","reasoning":"\\u00e9 b"}', id="the old name"),
        pytest.param(BOTH, '{"role":"assistant","content":"a","reasoning":"new"}', id="both names"),
        pytest.param(NULL, '{"role":"assistant","content":"a","reasoning":"b"}', id="a null"),
    ],
)
def test_thoughts_of_the_history_have_the_name_that_the_version_reads(minor: int, message: str, renamed: str) -> None:
    body = f'{{"model":"m","messages":[{PLAIN},{message}]}}'.encode()
    encoded = make("vllm", f"0.{minor}").encode(check(read(Surface.CHAT, body), FREE), stream=False).decode()
    if 11 <= minor <= 21:
        assert encoded == f'{{"messages":[{PLAIN},{renamed}]}}'
    else:
        assert encoded == f'{{"messages":[{PLAIN},{message}]}}'


@pytest.mark.parametrize("minor", [8, 11, 21, 33])
def test_a_history_without_the_old_name_keeps_its_bytes(minor: int) -> None:
    messages = [{"role": "assistant", "content": "a", "reasoning": "b"}, *HELLO, {"role": "developer", "content": "c"}]
    call = call_of(messages=messages)
    assert make("vllm", f"0.{minor}").encode(call, stream=False) == b'{"messages":%b}' % bytes(call.raw["messages"])


# --- The table itself ---


@pytest.mark.parametrize("surface", [Surface.CHAT, Surface.COMPLETIONS])
def test_the_table_knows_every_field_once(surface: Surface) -> None:
    names = [row.name for row in VLLM.rows(surface)]
    assert len(set(names)) == len(names)
    assert fields.KNOWN[surface] <= set(names)
    unknown = set(names) - fields.KNOWN[surface]
    assert {name for name in unknown if fields.is_refused(surface, name)} <= ALLOWED
    for name in unknown - ALLOWED:  # fields of the other surface, which would be forwarded in silence
        (row,) = [row for row in VLLM.rows(surface) if row.name == name]
        assert {cell.does for _, cell in row.cells} <= {Does.REFUSED, Does.PASSED}


def test_rows_grow_by_version_and_say_something_new_each_time() -> None:
    for section in VLLM.sections:
        for row in section.rows:
            firsts = [first for first, _ in row.cells]
            assert firsts == sorted(set(firsts)), row.name
            assert firsts[0] == 0
            assert all(first in VLLM.versions for first in firsts[1:]), row.name
            said = [(cell.does, cell.note) for _, cell in row.cells]
            assert all(one != other for one, other in itertools.pairwise(said)), row.name


def test_a_call_that_needs_nothing_is_handed_on_as_it_is() -> None:
    call = call_of(temperature=0.5, max_tokens=5, tools=[TOOL], response_format={"type": "json_object"}, user="u")
    for minor in (9, 22, 33):
        assert translator(minor).translate(call) is call
    kept = call_of(top_k=3, structured_outputs={"regex": "a"})
    assert translator(33).translate(kept) is kept
    before = dict(kept.values)
    assert translator(8).translate(kept) is not kept
    assert kept.values == before
