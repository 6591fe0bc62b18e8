"""Pictures in a chat: their headers are read, several are told apart, and what is none gets vLLM's error."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.local.engine import build
from deploy.local.engine.images import Picture, measure
from tests.deploy.test_engine_calls import answer, ask, chunks, said

pytestmark = pytest.mark.anyio


def png(width: int, height: int) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII5B", 13, b"IHDR", width, height, 8, 2, 0, 0, 0)


def gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + b"\x00\x00\x00;"


def jpeg(width: int, height: int, *, progressive: bool = False) -> bytes:
    app0 = b"\xff\xe0" + struct.pack(">H", 16) + b"JFIF\x00\x01\x01\x00\x00\x01\x00\x01\x00\x00"
    # A table has a length to be skipped; its content may look like a frame.
    table = b"\xff\xc4" + struct.pack(">H", 8) + b"\xff\xc0\x00\x11\x08\x00"
    frame = (b"\xff\xc2" if progressive else b"\xff\xc0") + struct.pack(">HBHHB", 11, 8, height, width, 1)
    return b"\xff\xd8" + app0 + table + b"\xff" + frame + b"\xff\xd9"


def webp(kind: bytes, body: bytes) -> bytes:
    chunk = kind + struct.pack("<I", len(body)) + body
    return b"RIFF" + struct.pack("<I", 4 + len(chunk)) + b"WEBP" + chunk


def lossy(width: int, height: int) -> bytes:
    return webp(b"VP8 ", b"\x00\x00\x00\x9d\x01\x2a" + struct.pack("<HH", width, height))


def lossless(width: int, height: int) -> bytes:
    return webp(b"VP8L", b"\x2f" + struct.pack("<I", (width - 1) | (height - 1) << 14))


def extended(width: int, height: int) -> bytes:
    sizes = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return webp(b"VP8X", b"\x00\x00\x00\x00" + sizes)


ONE_PIXEL_PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
ONE_PIXEL_GIF = "R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7"


@pytest.mark.parametrize(
    ("data", "picture"),
    [
        pytest.param(base64.b64decode(ONE_PIXEL_PNG), Picture("image/png", 1, 1), id="a whole PNG"),
        pytest.param(base64.b64decode(ONE_PIXEL_GIF), Picture("image/gif", 1, 1), id="a whole GIF"),
        pytest.param(png(640, 480), Picture("image/png", 640, 480), id="PNG"),
        pytest.param(gif(3, 500), Picture("image/gif", 3, 500), id="GIF"),
        pytest.param(jpeg(300, 200), Picture("image/jpeg", 300, 200), id="JPEG"),
        pytest.param(jpeg(4000, 1), Picture("image/jpeg", 4000, 1), id="JPEG, wide"),
        pytest.param(jpeg(30, 20, progressive=True), Picture("image/jpeg", 30, 20), id="JPEG, progressive"),
        pytest.param(lossy(320, 240), Picture("image/webp", 320, 240), id="WebP"),
        pytest.param(lossless(16384, 7), Picture("image/webp", 16384, 7), id="WebP, lossless"),
        pytest.param(extended(70000, 2), Picture("image/webp", 70000, 2), id="WebP, extended"),
    ],
)
def test_a_header_tells_type_and_size(data: bytes, picture: Picture) -> None:
    assert measure(data) == picture
    for length in range(len(data)):
        assert measure(data[:length]) in (picture, None)


@pytest.mark.parametrize(
    "data",
    [b"", b"nothing", b"\x89PNG\r\n\x1a\n", png(0, 5), b"\xff\xd8\xff\xe0\x00\x10", b"RIFF\x00\x00\x00\x00WAVEfmt "],
)
def test_what_is_no_picture(data: bytes) -> None:
    assert measure(data) is None


STARTS = (b"\xff\xd8", b"GIF89a", png(1, 1)[:16], b"RIFF\x00\x00\x00\x00WEBP")


@given(start=st.sampled_from(STARTS), rest=st.binary(max_size=60))
def test_any_bytes_are_a_picture_or_none(start: bytes, rest: bytes) -> None:
    made = measure(start + rest)
    assert made is None or made.width * made.height > 0


@pytest.mark.parametrize(
    ("size", "count"), [((1, 1), 1), ((28, 28), 1), ((29, 28), 2), ((280, 56), 20), ((1000, 1000), 36 * 36)]
)
def test_a_picture_takes_tokens_by_its_size(size: tuple[int, int], count: int) -> None:
    assert Picture("image/png", *size).tokens == count


# --- In a chat -------------------------------------------------------------------------------------------------------


def data_url(data: bytes, media_type: str = "image/png") -> str:
    return f"data:{media_type};base64,{base64.b64encode(data).decode()}"


def show(*urls: str, text: str = "What is it?") -> dict[str, Any]:
    parts: list[Any] = [{"type": "image_url", "image_url": {"url": url, "detail": "low"}} for url in urls]
    return {"messages": [{"role": "user", "content": [{"type": "text", "text": text}, *parts]}], "temperature": 0}


@pytest.mark.parametrize(
    ("body", "text"),
    [
        pytest.param(show(data_url(png(8, 8))), 'I see 1 image: image/png 8x8. You wrote "What is it?".', id="one"),
        pytest.param(
            show(data_url(png(8, 8)), data_url(gif(5, 6), "image/gif"), data_url(jpeg(300, 200), "image/jpeg")),
            'I see 3 images: image/png 8x8, image/gif 5x6, image/jpeg 300x200. You wrote "What is it?".',
            id="several",
        ),
        pytest.param(show(data_url(lossy(9, 9), "image/png"), text=""), "I see 1 image: image/webp 9x9.", id="no text"),
        pytest.param(
            {"messages": [*show(data_url(png(8, 8)))["messages"], {"role": "user", "content": "hello"}]},
            "Hello! How can I help you today?",
            id="one that was shown before",
        ),
    ],
)
@pytest.mark.parametrize("dialect", ["lmi15", "lmi27", "vllm"])
async def test_an_answer_tells_what_was_seen(dialect: str, body: Any, text: str) -> None:
    assert (await answer(build(dialect), body))["choices"][0]["message"]["content"] == text
    assert said(await chunks(build(dialect), body)) == text


async def test_a_picture_is_part_of_the_prompts_tokens() -> None:
    small = (await answer(build("vllm"), show(data_url(png(28, 28)))))["usage"]["prompt_tokens"]
    large = (await answer(build("vllm"), show(data_url(png(280, 56)))))["usage"]["prompt_tokens"]
    assert large - small == 19


async def test_a_picture_can_be_too_large_for_the_window() -> None:
    reply = await ask(build("vllm"), show(data_url(png(5000, 5000))))
    assert isinstance(reply.body, bytes)
    assert reply.status == 400
    assert "your prompt contains at least 8193 input tokens" in json.loads(reply.body)["error"]["message"]


REFUSED = [
    pytest.param(
        "data:image/png;base64", 400, "Invalid data URL 'data:image/png;base64': missing ',' separator.", id="no comma"
    ),
    pytest.param("data:image/png,abc", 501, "Only base64 data URLs are supported for now.", id="no base64"),
    pytest.param("data:image/png;base64,@@@@", 400, "Non-base64 digit found", id="bad base64"),
    pytest.param("data:image/png;base64,abc", 400, "Incorrect padding", id="short base64"),
    pytest.param(
        data_url(b"nothing"),
        400,
        "Failed to load image: cannot identify image file <_io.BytesIO object>",
        id="no picture",
    ),
    pytest.param(
        "http://example.com/a.png",
        500,
        "Cannot connect to host example.com:80 ssl:default [Network is unreachable]",
        id="http",
    ),
    pytest.param(
        "https://example.com:8443/a.png",
        500,
        "Cannot connect to host example.com:8443 ssl:default [Network is unreachable]",
        id="https",
    ),
    pytest.param(
        "file:///etc/hostname", 400, "Cannot load local files without `--allowed-local-media-path`.", id="a file"
    ),
    pytest.param("ftp://example.com/a", 400, "The URL must be either a HTTP, data or file URL.", id="another scheme"),
    pytest.param("", 400, "The URL must be either a HTTP, data or file URL.", id="no URL"),
]


@pytest.mark.parametrize(("url", "status", "message"), REFUSED)
async def test_a_url_without_a_picture(url: str, status: int, message: str) -> None:
    reply = await ask(build("vllm"), show(url))
    assert isinstance(reply.body, bytes)
    error = json.loads(reply.body)["error"]
    assert (reply.status, error["code"], error["message"]) == (status, status, message)


@pytest.mark.parametrize(
    ("dialect", "url", "status", "body"),
    [
        pytest.param("lmi15", "ftp://x", 400, b'{"error":"The URL must be either', id="15: told"),
        pytest.param("lmi15", "http://example.com/", 424, b'{"code":424,"message":"Async', id="15: not fetched"),
        pytest.param("lmi17", "ftp://x", 424, b'{"code":424,"message":"Async', id="17: not told"),
        pytest.param("lmi18", "ftp://x", 500, b'{"error":"error\\u003dErrorInfo(message', id="18: as a repr"),
        pytest.param("lmi18", "data:,x", 500, b'{"error":"error\\u003dErrorInfo(message', id="18: 501 is unknown"),
        pytest.param("lmi27", "ftp://x", 424, b'{"code":424,"message":"Async', id="27: not told"),
        pytest.param("lmi27", "http://example.com/", 424, b'{"code":424,"message":"Async', id="27: not fetched"),
    ],
)
async def test_a_url_without_a_picture_on_lmi(dialect: str, url: str, status: int, body: bytes) -> None:
    reply = await ask(build(dialect), show(url))
    assert isinstance(reply.body, bytes)
    assert reply.status == status
    assert reply.body.startswith(body)


@pytest.mark.parametrize(
    ("dialect", "status", "body"),
    [
        ("lmi15", 400, b'{"error":"lmi is not a multimodal model","code":400}'),
        (
            "vllm",
            400,
            b'{"error":{"message":"local is not a multimodal model","type":"BadRequestError","param":null,"code":400}}',
        ),
    ],
)
async def test_a_model_without_eyes(dialect: str, status: int, body: bytes) -> None:
    reply = await ask(build(dialect, vision=False), show(data_url(png(8, 8))))
    assert (reply.status, reply.body) == (status, body)


@pytest.mark.parametrize(
    ("part", "kind"),
    [
        ({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}}, "audio"),
        ({"type": "file", "file": {}}, "file"),
    ],
)
async def test_other_media_are_not_taken(part: Any, kind: str) -> None:
    message = f"At most 0 {kind}(s) may be provided in one prompt."
    body = {"messages": [{"role": "user", "content": [part]}]}
    reply = await ask(build("vllm"), body)
    assert isinstance(reply.body, bytes)
    assert (reply.status, json.loads(reply.body)["error"]["message"]) == (400, message)
