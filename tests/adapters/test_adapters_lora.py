"""LoRA adapters named in the body: what each container gets, and what becomes of an answer that another model gave."""

from __future__ import annotations

import json
from typing import Any

import pytest

from adapters.base import Adapter, Call, Surface, Whole
from adapters.errors import ContainerFault, FaultKind, UnsupportedParameter
from adapters.openai.request import FieldPolicy, check, read
from adapters.registry import make
from tests.adapters.calls import chat, completion, relayed, whole_reply

POET = {
    "lmi": make("lmi", "27", adapter_name="poet"),
    "lmi of old": make("lmi", "16", served_model_name="base", adapter_name="poet"),
    "vllm": make("vllm", "0.27", served_model_name="base", adapter_name="poet"),
}
CONTAINERS = pytest.mark.parametrize("adapter", [pytest.param(made, id=name) for name, made in POET.items()])
CHUNK: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1}
MESSAGE: dict[str, Any] = {"role": "assistant", "content": "Roses"}


def reply(model: str | None) -> bytes:
    choice = {"index": 0, "message": MESSAGE, "finish_reason": "stop"}
    named = {} if model is None else {"model": model}
    return json.dumps(
        {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, **named, "choices": [choice]},
        separators=(",", ":"),
    ).encode()


def stream(adapter: Adapter, *models: str | None) -> bytes:
    """Return a stream, each chunk of the model of that name: the last one has the finish reason."""
    records = []
    for at, model in enumerate(models):
        finish = "stop" if at == len(models) - 1 else None
        named = {} if model is None else {"model": model}
        choices = [{"index": 0, "delta": {"content": f"{at}"}, "finish_reason": finish}]
        records.append(json.dumps({**CHUNK, **named, "choices": choices}, separators=(",", ":")).encode())
    if adapter is POET["vllm"]:
        return b"".join(b"data: " + record + b"\n\n" for record in (*records, b"[DONE]"))
    return b"".join(record + b"\n" for record in (*records, b""))


# What the container gets


@pytest.mark.parametrize(("container", "version", "sent"), [
    pytest.param("lmi", "16", b'{"messages":[1],"adapters":"po\\"et","temperature":1}', id="lmi16"),
    pytest.param("lmi", "28", b'{"messages":[1],"adapters":"po\\"et","temperature":1}', id="lmi28"),
    pytest.param("vllm", "0.8", b'{"messages":[1],"model":"po\\"et","temperature":1}', id="vllm-0.8"),
    pytest.param("vllm", "0.33", b'{"messages":[1],"model":"po\\"et","temperature":1}', id="vllm-0.33"),
])  # fmt: skip
def test_the_body_names_the_adapter(container: str, version: str, sent: bytes) -> None:
    adapter = make(container, version, adapter_name='po"et')
    message = b'{"role":"user","content":"hi"}'
    body = b'{"model":"base:poet","temperature":1,"messages":[%b]}' % message
    call = check(read(Surface.CHAT, body), FieldPolicy())
    assert adapter.encode(call, stream=False) == sent.replace(b"[1]", b"[%b]" % message)


@CONTAINERS
@pytest.mark.parametrize("call", [pytest.param(chat(), id="chat"), pytest.param(completion(), id="completion")])
@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
def test_the_adapter_is_named_once_in_every_kind_of_call(adapter: Adapter, call: Call, streamed: bool) -> None:
    body = adapter.encode(call, stream=streamed)
    assert body.count(b'"poet"') == 1
    assert body.startswith((b'{"messages":', b'{"prompt":'))
    assert json.loads(body).get("stream", False) is streamed


def test_the_base_model_is_sent_without_any() -> None:
    assert b"adapters" not in make("lmi", "27").encode(chat(), stream=False)


def test_a_caller_who_may_choose_adapters_cannot_choose_one_for_an_adapter() -> None:
    call = chat(policy=FieldPolicy(allow_fields=frozenset({"adapters"})), adapters="other")
    assert json.loads(make("lmi", "27").encode(call, stream=False))["adapters"] == "other"
    with pytest.raises(UnsupportedParameter, match="This model is an adapter itself") as caught:
        POET["lmi"].encode(call, stream=False)
    assert caught.value.param == "adapters"


def test_lmi_15_has_no_adapters() -> None:
    with pytest.raises(ValueError, match="LMI 15 has no adapters"):
        make("lmi", "15", adapter_name="poet")


# What becomes of the answer


@CONTAINERS
@pytest.mark.parametrize("said", ["poet", None])
def test_an_adapters_answer_has_the_public_name(adapter: Adapter, said: str | None) -> None:
    call = chat(model="base:poet")
    assert json.loads(whole_reply(adapter, call, reply(said)).body)["model"] == "base:poet"
    events = relayed(adapter.stream_decoder(call), [stream(adapter, said, said, said)])
    assert [json.loads(event[6:])["model"] for event in events[:-1]] == ["base:poet"] * 3
    assert events[-1] == b"data: [DONE]\n\n"
    assembler = adapter.assembler(call)
    assembler.feed(stream(adapter, said, said))
    gathered = assembler.end()
    assert isinstance(gathered, Whole)
    assert json.loads(gathered.body)["model"] == "base:poet"


@CONTAINERS
@pytest.mark.parametrize("said", ["lmi", "base:poet", "poet2", ""])
def test_the_answer_of_another_model_is_none_of_an_adapters(adapter: Adapter, said: str) -> None:
    call, fault = (
        chat(model="base:poet"),
        ContainerFault(FaultKind.MISCONFIGURED, "Another model than 'poet' has answered."),
    )
    assert adapter.decode_whole(call, reply(said)) == fault
    decoder = adapter.stream_decoder(call)
    assert relayed(decoder, [stream(adapter, said, said)]) == []
    assert decoder.fault == fault
    assembler = adapter.assembler(call)
    assembler.feed(stream(adapter, said, said))
    assert (assembler.over, assembler.end(), assembler.fault) == (True, None, fault)


def test_every_model_is_welcome_where_no_adapter_is_named() -> None:
    for adapter in (make("lmi", "27"), make("vllm", "0.27", served_model_name="base")):
        assert json.loads(whole_reply(adapter, chat(model="public"), reply("any")).body)["model"] == "public"
