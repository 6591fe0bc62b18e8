"""Answers in JSON, and pictures in prompts."""

from __future__ import annotations

import asyncio
import base64
import json
import struct
import zlib
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.support.callers import Caller
from tests.support.stack import Local


class Step(BaseModel):
    explanation: str
    done: bool


class Report(BaseModel):
    """A schema with what schemas have: nesting, lists, references, choices."""

    city: str
    degrees: int
    mood: str | None
    steps: list[Step]


SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string"}, "kind": {"enum": ["sun", "rain"]}},
    "required": ["city", "kind"],
    "additionalProperties": False,
}


def test_json_objects(caller: Caller, dialect: str) -> None:
    choice = caller.chat(dialect, "json", response_format={"type": "json_object"}).only
    assert json.loads(choice.text) == {"city": "Paris", "degrees": 21, "sunny": True}
    assert choice.finish == "stop"


def test_json_by_schema(caller: Caller, dialect: str, local: Local) -> None:
    wanted = {"type": "json_schema", "json_schema": {"name": "weather", "schema": SCHEMA, "strict": True}}
    choice = caller.chat(dialect, "what is it like in Rome?", response_format=wanted, temperature=0).only
    assert json.loads(choice.text) == {"city": "Rome", "kind": "sun"}
    assert local.last_body()["response_format"] == wanted


def test_text_can_be_asked_for(caller: Caller, dialect: str) -> None:
    assert caller.chat(dialect, "repeat: {}", response_format={"type": "text"}).only.text == "{}"


def test_parse_gives_a_pydantic_model(client: openai.OpenAI, dialect: str) -> None:
    parse: Any = client.chat.completions.parse
    messages = [{"role": "user", "content": "what is it like in Rome?"}]
    reply = parse(model=dialect, messages=messages, response_format=Report, temperature=0)
    report = reply.choices[0].message.parsed
    assert isinstance(report, Report)
    assert report.city == "Rome"
    assert Report.model_validate_json(reply.choices[0].message.content) == report


def test_async_parse_gives_a_pydantic_model(
    async_client: openai.AsyncOpenAI, runner: asyncio.Runner, dialect: str
) -> None:
    parse: Any = async_client.chat.completions.parse
    messages = [{"role": "user", "content": "what is it like in Rome?"}]
    reply = runner.run(parse(model=dialect, messages=messages, response_format=Report, temperature=0))
    assert reply.choices[0].message.parsed.city == "Rome"


def test_the_stream_helper_parses_as_it_goes(client: openai.OpenAI, dialect: str) -> None:
    helper: Any = client.chat.completions.stream
    messages = [{"role": "user", "content": "what is it like in Rome?"}]
    with helper(model=dialect, messages=messages, response_format=Report, temperature=0) as stream:
        deltas = [event.delta for event in stream if event.type == "content.delta"]
        final = stream.get_final_completion()
    assert final.choices[0].message.parsed.city == "Rome"
    assert "".join(deltas) == final.choices[0].message.content
    assert len(deltas) > 10


# --- Pictures ---


def png(width: int, height: int) -> bytes:
    """Return a white picture."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\0" + b"\xff" * width for _ in range(height)))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


GIF = b"GIF89a" + struct.pack("<HH", 3, 5) + b"\0\0\0;"
WEBP = b"RIFF\x1a\0\0\0WEBPVP8L\x0e\0\0\0\x2f" + struct.pack("<I", (7 - 1) | (9 - 1) << 14) + bytes(9)
JPEG = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, 600, 800, 1) + b"\x01\x11\0\xff\xd9"


def picture(kind: str, data: bytes, **more: str) -> dict[str, Any]:
    url = f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
    return {"type": "image_url", "image_url": {"url": url, **more}}


def shown(*parts: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"role": "user", "content": [{"type": "text", "text": "What is this?"}, *parts]}]


@pytest.mark.parametrize(
    ("kind", "data", "seen"),
    [
        pytest.param("png", png(64, 48), "image/png 64x48", id="png"),
        pytest.param("jpeg", JPEG, "image/jpeg 800x600", id="jpeg"),
        pytest.param("gif", GIF, "image/gif 3x5", id="gif"),
        pytest.param("webp", WEBP, "image/webp 7x9", id="webp"),
    ],
)
def test_a_picture_is_seen(caller: Caller, dialect: str, kind: str, data: bytes, seen: str) -> None:
    choice = caller.chat(dialect, shown(picture(kind, data, detail="low"))).only
    assert choice.text == f'I see 1 image: {seen}. You wrote "What is this?".'


def test_several_pictures_are_seen_in_order(caller: Caller, dialect: str) -> None:
    messages = shown(picture("gif", GIF), {"type": "text", "text": "and"}, picture("png", png(30, 20)))
    choice = caller.chat(dialect, messages).only
    assert choice.text == 'I see 2 images: image/gif 3x5, image/png 30x20. You wrote "What is this? and".'


def test_a_large_picture_arrives_whole(caller: Caller, local: Local) -> None:
    data = png(1, 1) + bytes(range(256)) * 8192  # 2 MiB; what comes after a picture's end is ignored by readers
    messages = shown(picture("png", data))
    assert "image/png 1x1" in caller.chat("lmi27", messages).only.text
    assert local.last_body()["messages"] == messages


def test_pictures_are_refused_for_a_model_that_takes_text_only(client: openai.OpenAI, local: Local) -> None:
    before = len(local.calls)
    messages: Any = shown(picture("gif", GIF))
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="text-only", messages=messages)
    assert (caught.value.code, caught.value.param) == ("invalid_value", "messages[0].content[1].type")
    assert len(local.calls) == before, "refused before anything was sent"


def test_pictures_the_container_does_not_take_are_the_containers_refusal(client: openai.OpenAI) -> None:
    messages: Any = shown(picture("gif", GIF))
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="blind", messages=messages)
    assert caught.value.code in ("invalid_value", "upstream_rejected")


@pytest.mark.parametrize(
    ("part", "param"),
    [
        pytest.param(
            {"type": "image_url", "image_url": {"url": "https://example.com/a.png"}},
            "messages[0].content[1].image_url.url",
            id="a host that is not allowed",
        ),
        pytest.param(
            {"type": "image_url", "image_url": {"url": "file:///etc/hostname"}},
            "messages[0].content[1].image_url.url",
            id="a file",
        ),
        pytest.param(
            {"type": "image_url", "image_url": {"url": "data:image/png;base64,@@@@"}},
            "messages[0].content[1].image_url.url",
            id="no base64",
        ),
        pytest.param({"type": "image_url", "image_url": {}}, "messages[0].content[1].image_url.url", id="no URL"),
        pytest.param(
            {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}},
            "messages[0].content[1].type",
            id="sound",
        ),
    ],
)
def test_bad_parts_are_refused_with_their_path(client: openai.OpenAI, part: dict[str, Any], param: str) -> None:
    messages: Any = shown(part)
    with pytest.raises(openai.BadRequestError) as caught:
        client.chat.completions.create(model="lmi27", messages=messages)
    assert caught.value.param == param
