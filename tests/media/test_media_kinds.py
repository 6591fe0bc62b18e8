"""What bytes are by their beginning, and what hosts may call them."""

from __future__ import annotations

import pytest

from adapters.openai.media import Kind
from gateway.media.kinds import type_may_be, type_of
from tests.support.pictures import GIF, JPEG, PNG_1, WEBP

FTYP = b"\0\0\0\x20ftyp"


@pytest.mark.parametrize(("data", "kind", "media_type"), [
    pytest.param(PNG_1, "image", "image/png", id="png"),
    pytest.param(JPEG, "image", "image/jpeg", id="jpeg"),
    pytest.param(GIF, "image", "image/gif", id="gif"),
    pytest.param(WEBP, "image", "image/webp", id="webp"),
    pytest.param(b"<svg/>", "image", None, id="svg"),
    pytest.param(b"", "image", None, id="no image"),
    pytest.param(b"RIFF\0\0\0\0WAVEfmt ", "audio", "audio/wav", id="wav"),
    pytest.param(b"ID3\4", "audio", "audio/mpeg", id="mp3 with a tag"),
    pytest.param(b"\xff\xfb\x90\x64", "audio", "audio/mpeg", id="mp3"),
    pytest.param(b"\xff\xf3\x40\xc0", "audio", "audio/mpeg", id="mp3 of half the rate"),
    pytest.param(b"\xff\xf1\x50\x80", "audio", "audio/aac", id="aac"),
    pytest.param(b"\xff\xf9\x50\x80", "audio", "audio/aac", id="aac of MPEG 2"),
    pytest.param(b"fLaC\0", "audio", "audio/flac", id="flac"),
    pytest.param(b"OggS\0", "audio", "audio/ogg", id="ogg sound"),
    pytest.param(FTYP + b"M4A ", "audio", "audio/mp4", id="m4a"),
    pytest.param(b"\x1aE\xdf\xa3", "audio", "audio/webm", id="webm sound"),
    pytest.param(b"\xff\xd8\xff\xe0", "audio", None, id="a jpeg is no sound"),
    pytest.param(b"\xff", "audio", None, id="one byte"),
    pytest.param(b"<html>", "audio", None, id="html is no sound"),
    pytest.param(FTYP + b"isom", "video", "video/mp4", id="mp4"),
    pytest.param(FTYP + b"qt  ", "video", "video/quicktime", id="quicktime"),
    pytest.param(b"\0\0\0\x08wide\0\0\0\0mdat", "video", "video/quicktime", id="old quicktime"),
    pytest.param(b"\x1aE\xdf\xa3", "video", "video/webm", id="webm"),
    pytest.param(b"RIFF\0\0\0\0AVI LIST", "video", "video/x-msvideo", id="avi"),
    pytest.param(b"OggS\0", "video", "video/ogg", id="ogg"),
    pytest.param(b"\0\0\1\xba", "video", "video/mpeg", id="mpeg"),
    pytest.param(b"RIFF\0\0\0\0WAVE", "video", None, id="a wav is no film"),
    pytest.param(b"#EXTM3U\n", "video", None, id="a list of other URLs"),
    pytest.param(b"", "video", None, id="no film"),
])  # fmt: skip
def test_the_first_bytes_tell(data: bytes, kind: Kind, media_type: str | None) -> None:
    assert type_of(data, kind) == media_type


@pytest.mark.parametrize(("content_type", "kind", "may"), [
    pytest.param("image/png", "image", True, id="an image"),
    pytest.param("Image/JPEG; charset=x", "image", True, id="with parameters"),
    pytest.param("", "image", True, id="none"),
    pytest.param("binary/octet-stream", "image", True, id="S3's default"),
    pytest.param("application/octet-stream", "video", True, id="bytes"),
    pytest.param("text/html", "image", False, id="html"),
    pytest.param("image/svg+xml", "image", False, id="svg"),
    pytest.param("image/tiff", "image", False, id="tiff"),
    pytest.param("application/json", "image", False, id="json"),
    pytest.param("text/plain", "audio", False, id="text"),
    pytest.param("image/png", "audio", False, id="an image is no sound"),
    pytest.param("audio/mpeg", "image", False, id="a sound is no image"),
    pytest.param("audio/x-m4a", "audio", True, id="a sound"),
    pytest.param("video/mp4", "audio", True, id="a sound by the ending of its file"),
    pytest.param("application/vnd.apple.mpegurl", "video", False, id="a list of other URLs"),
    pytest.param("video/quicktime", "video", True, id="a film"),
])  # fmt: skip
def test_what_a_host_may_call_it(content_type: str, kind: Kind, may: bool) -> None:
    assert type_may_be(content_type, kind) is may
