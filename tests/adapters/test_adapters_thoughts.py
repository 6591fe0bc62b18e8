"""Thoughts under both names: in whole replies and in every chunk, whichever one the container writes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.openai.thoughts import both_names, has_thoughts
from adapters.registry import make
from tests.adapters.calls import HELLO, chat, pieces, relayed
from tests.adapters.engines import DIALECTS, assembled, streamed, whole

THINKING: dict[str, Any] = {"messages": HELLO, "chat_template_kwargs": {"enable_thinking": True}, "temperature": 0}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_callers_find_thoughts_under_both_names(dialect: str) -> None:
    messages = [reply(dialect, **THINKING)["choices"][0]["message"] for reply in (whole, assembled)]
    for message in messages:
        assert message["reasoning"] == message["reasoning_content"] != ""
    chunks = streamed(dialect, **THINKING)
    deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
    thinking = [delta for delta in deltas if delta.get("reasoning") is not None]
    assert len(thinking) > 3
    assert all(delta["reasoning_content"] == delta["reasoning"] for delta in thinking)
    assert all(delta.get("reasoning_content") is None for delta in deltas if delta not in thinking)
    assert "".join(delta["reasoning"] for delta in thinking) == messages[0]["reasoning"]


@pytest.mark.parametrize("dialect", DIALECTS)
def test_without_thoughts_no_name_is_added(dialect: str) -> None:
    reply = json.dumps(whole(dialect, messages=HELLO)["choices"])
    assert '"reasoning": "' not in reply
    assert '"reasoning_content": "' not in reply
    for chunk in streamed(dialect, messages=HELLO):
        for choice in chunk["choices"]:
            assert (choice["delta"].get("reasoning"), choice["delta"].get("reasoning_content")) == (None, None)


@pytest.mark.parametrize("dialect", ["lmi16", "lmi27", "vllm-0.33"])
def test_a_caller_who_wants_no_thoughts_gets_none_in_a_gathered_reply(dialect: str) -> None:
    for reply in (
        whole(dialect, **THINKING, include_reasoning=False),
        assembled(dialect, **THINKING, include_reasoning=False),
    ):
        message = reply["choices"][0]["message"]
        assert (message.get("reasoning"), message.get("reasoning_content")) == (None, None)
        assert message["content"].strip() == "Hello! How can I help you today?"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"reasoning":"a"}', '{"reasoning":"a","reasoning_content":"a"}'),
        ('{"reasoning_content":"a\\"}","x":1}', '{"reasoning_content":"a\\"}","reasoning":"a\\"}","x":1}'),
        ('{"reasoning" : "é\\\\"}', '{"reasoning" : "é\\\\","reasoning_content":"é\\\\"}'),
        ('{"reasoning":""}', '{"reasoning":"","reasoning_content":""}'),
        ('{"reasoning":"a","reasoning_content":"a"}', None),
        ('{"reasoning":null}', None),
        ('{"reasoning":null,"reasoning_content":null}', None),
        ('{"reasoning":["a"]}', None),
        ('{"content":"\\"reasoning\\":\\"a\\""}', None),
        ('{"content":"reasoning","reasoning_tokens":"5"}', None),
        ('[{"reasoning":"a"},{"reasoning":null},{"reasoning":"b"}]',
         '[{"reasoning":"a","reasoning_content":"a"},{"reasoning":null},{"reasoning":"b","reasoning_content":"b"}]'),
    ],
)  # fmt: skip
def test_the_other_name_is_added_and_nothing_else(text: str, expected: str | None) -> None:
    assert both_names(text.encode()).decode() == (text if expected is None else expected)


@given(st.text(), st.text())
def test_any_text_keeps_its_value(thought: str, content: str) -> None:
    text = json.dumps({"content": content, "reasoning": thought, "more": content}).encode()
    assert has_thoughts(text)
    assert json.loads(both_names(text)) == {
        "content": content,
        "reasoning": thought,
        "reasoning_content": thought,
        "more": content,
    }
    assert both_names(json.dumps({"content": content}).encode()) == json.dumps({"content": content}).encode()


HEAD = b'{"id":"chatcmpl-1","object":"chat.completion.chunk","created":1,"model":"lmi","choices":[{"index":0,"delta":'
PUBLIC = HEAD.replace(b'"lmi"', b'"public"')
TAIL = b',"logprobs":null,"finish_reason":null}]}'


@pytest.mark.parametrize("size", [1, 50, 4096])
def test_chunks_of_thoughts_are_passed_on_like_any_other(size: int) -> None:
    deltas = [
        (b'{"role":"assistant","content":""}',) * 2,
        (b'{"reasoning":"I"}', b'{"reasoning":"I","reasoning_content":"I"}'),
        (b'{"reasoning":" th\xc3\xadnk"}', b'{"reasoning":" th\xc3\xadnk","reasoning_content":" th\xc3\xadnk"}'),
        (b'{"content":"So"}',) * 2,
        (b'{"content":"!","reasoning":"."}', b'{"content":"!","reasoning":".","reasoning_content":"."}'),
    ]
    last = HEAD + b"{}" + TAIL.replace(b"null}", b'"stop"}')
    decoder = make("lmi", "27").stream_decoder(chat(stream=True))
    data = b"".join(HEAD + sent + TAIL + b"\n" for sent, _ in deltas) + last + b"\n\n"
    events = relayed(decoder, pieces(data, size))
    assert events[:-2] == [b"data: " + PUBLIC + wanted + TAIL + b"\n\n" for _, wanted in deltas]
    assert decoder.chunks == 6
