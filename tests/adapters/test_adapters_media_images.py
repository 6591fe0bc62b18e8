"""What an image's header says, by every kind, looked at whole and through base64."""

from __future__ import annotations

import base64
import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from adapters.openai.media_images import MAX_STEPS, Header, measure, window_of, window_of_base64
from tests.support.pictures import GIF, JPEG, PNG_1, WEBP, noise, png_chunk, png_header, saved


def both(data: bytes) -> Header | None:
    """Return the header, which must be the same whichever way the bytes come."""
    direct = measure(window_of(data))
    assert measure(window_of_base64(base64.b64encode(data).decode())) == direct
    return direct


def frame(rows: int, columns: int, marker: int = 0xC0) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">HBHHB", 11, 8, rows, columns, 1) + b"\x01\x11\0"


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


SCREEN = b"GIF89a" + struct.pack("<HHBBB", 4, 4, 0x91, 0, 0) + bytes(12)
"""With a table of four colours."""


def descriptor(left: int, top: int, width: int, height: int) -> bytes:
    return b"," + struct.pack("<HHHH", left, top, width, height) + b"\0"


@pytest.mark.parametrize(("data", "header"), [
    pytest.param(PNG_1, ("image/png", 1, 1), id="png"),
    pytest.param(png_header(30_000, 20_000), ("image/png", 30_000, 20_000), id="the head of a png"),
    pytest.param(png_header(2, 3) + png_chunk(b"tEXt", b"a\0" + b"b" * 5_000) + png_chunk(b"IDAT", b""),
                 ("image/png", 2, 3), id="a png with text"),
    pytest.param(saved(noise(9, 7), "JPEG"), ("image/jpeg", 9, 7), id="jpeg"),
    pytest.param(saved(noise(90, 70), "JPEG", progressive=True), ("image/jpeg", 90, 70), id="progressive jpeg"),
    pytest.param(JPEG, ("image/jpeg", 800, 600), id="a jpeg without pixels"),
    pytest.param(b"\xff\xd8" + segment(0xE1, bytes(60_000)) + segment(0xE2, bytes(65_533)) + frame(5, 6) + b"\xff\xda",
                 ("image/jpeg", 6, 5), id="a jpeg whose size comes late"),
    pytest.param(b"\xff\xd8\xff\xff\xff" + frame(5, 6), ("image/jpeg", 6, 5), id="a jpeg with fill bytes"),
    pytest.param(b"\xff\xd8" + frame(1, 1) + frame(30_000, 30_000) + frame(2, 2) + b"\xff\xda",
                 ("image/jpeg", 30_000, 30_000), id="a jpeg with three sizes"),
    pytest.param(b"\xff\xd8" + frame(3, 4) + b"\xff\xda" + frame(30_000, 30_000), ("image/jpeg", 4, 3),
                 id="a jpeg's pixels are no header"),
    pytest.param(GIF, ("image/gif", 3, 5), id="a gif without frames"),
    pytest.param(saved(noise(6, 4), "GIF"), ("image/gif", 6, 4), id="gif"),
    pytest.param(SCREEN + b"!\xfe\x05hello\x03abc\0" + descriptor(0, 0, 4, 4), ("image/gif", 4, 4), id="a comment"),
    pytest.param(SCREEN + descriptor(1, 2, 30_000, 30_000), ("image/gif", 30_001, 30_002), id="a larger frame"),
    pytest.param(WEBP, ("image/webp", 7, 9), id="lossless webp"),
    pytest.param(saved(noise(11, 12), "WEBP"), ("image/webp", 11, 12), id="webp"),
    pytest.param(saved(noise(11, 12, "RGBA"), "WEBP", lossless=True, exif=b"Exif\0\0II*\0\x08\0\0\0\0\0"),
                 ("image/webp", 11, 12), id="extended webp"),
])  # fmt: skip
def test_kind_and_size_of_an_image(data: bytes, header: tuple[str, int, int]) -> None:
    assert both(data) == Header(*header)


@pytest.mark.parametrize("data", [
    pytest.param(b"", id="nothing"),
    pytest.param(b"\x89PNG\r\n\x1a\n", id="a png's first bytes"),
    pytest.param(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IDAT", b""), id="a png without a header"),
    pytest.param(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", bytes(12)), id="a png's short header"),
    pytest.param(png_header(1, 1) + png_header(30_000, 30_000)[8:], id="a png with two headers"),
    pytest.param(png_header(0, 5), id="a png without width"),
    pytest.param(b"\xff\xd8\xff\xd9", id="a jpeg without size"),
    pytest.param(b"\xff\xd8" + frame(0, 5) + b"\xff\xda", id="a jpeg whose height comes at its end"),
    pytest.param(b"\xff\xd8" + segment(0xE0, b"JFIF") + b"<html>", id="a jpeg that goes on as something else"),
    pytest.param(b"GIF89a\x01", id="a gif cut short"),
    pytest.param(SCREEN + b"<script>", id="a gif that goes on as something else"),
    pytest.param(b"RIFF\0\0\0\0WEBPVP8L", id="a webp cut short"),
    pytest.param(b"RIFF\0\0\0\0WEBPXXXX" + bytes(20), id="a webp of an unknown kind"),
    pytest.param(b"RIFF\0\0\0\0WAVEfmt " + bytes(20), id="a sound"),
    pytest.param(b"BM" + bytes(60), id="bmp"),
    pytest.param(b"\0\0\1\0\1\0" + bytes(60), id="ico"),
    pytest.param(b"II*\0" + bytes(60), id="tiff"),
    pytest.param(b"8BPS" + bytes(60), id="photoshop"),
    pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0", id="postscript"),
    pytest.param(b"\0\0\0\x1cftypavif" + bytes(60), id="avif"),
    pytest.param(b"<svg/>", id="svg"),
])  # fmt: skip
def test_what_is_none_or_damaged_has_no_header(data: bytes) -> None:
    assert both(data) is None


@pytest.mark.parametrize("data", [
    pytest.param(png_header(1, 1) + png_chunk(b"tEXt", b"") * 100_000, id="chunks"),
    pytest.param(b"\xff\xd8" + segment(0xE0, b"") * 100_000, id="segments"),
    pytest.param(b"\xff\xd8" + b"\xff" * 1_000_000, id="fill bytes"),
    pytest.param(SCREEN + b"!\xfe" + b"\x01a" * 1_000_000, id="blocks"),
    pytest.param(SCREEN + b"!\xfe\0" * 1_000_000, id="extensions"),
])  # fmt: skip
def test_a_header_without_end_is_given_up(data: bytes) -> None:
    looked = 0

    def window(offset: int, length: int) -> bytes:
        nonlocal looked
        looked += 1
        return data[offset : offset + length]

    assert measure(window) is None
    assert looked <= MAX_STEPS + 1


@given(st.binary(max_size=200), st.integers(0, 210), st.integers(0, 40))
def test_base64_is_seen_through(data: bytes, offset: int, length: int) -> None:
    assert window_of_base64(base64.b64encode(data).decode())(offset, length) == data[offset : offset + length]


@given(st.sampled_from([PNG_1, JPEG, GIF, WEBP, SCREEN + descriptor(0, 0, 1, 1)]), st.data())
def test_a_damaged_header_raises_nothing(data: bytes, draw: st.DataObject) -> None:
    places = sorted(draw.draw(st.sets(st.integers(0, len(data)), max_size=4)) | {0, len(data)})
    parts = [data[start:end] for start, end in pairwise(places)]
    damaged = b"".join(part + draw.draw(st.binary(max_size=3)) for part in parts)
    found = both(damaged)
    assert found is None or found.pixels > 0
