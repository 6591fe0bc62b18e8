"""Pictures in a prompt: data: URLs are decoded and their headers read; nothing is ever fetched.

PNG: https://www.w3.org/TR/png-3/#11IHDR · JPEG: ITU-T T.81, B.2.2 · GIF: https://www.w3.org/Graphics/GIF/spec-gif89a.txt
· WebP: https://developers.google.com/speed/webp/docs/riff_container. The errors are those of
https://github.com/vllm-project/vllm: vllm/multimodal/media/{connector,image}.py
"""

from __future__ import annotations

import binascii
import math
import re
import struct
from dataclasses import dataclass
from http import HTTPStatus
from urllib.parse import urlsplit

from deploy.local.engine.refusal import Origin, Refusal

_BASE64 = re.compile(r"[A-Za-z0-9+/]*={0,2}")
_PATCH_PIXELS = 28

_JPEG_SIZES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xDA)})


@dataclass(frozen=True, slots=True)
class Picture:
    """What a picture's header says."""

    media_type: str
    width: int
    height: int

    @property
    def tokens(self) -> int:
        """How many tokens of the prompt it takes."""
        return math.ceil(self.width / _PATCH_PIXELS) * math.ceil(self.height / _PATCH_PIXELS)

    def __str__(self) -> str:
        return f"{self.media_type} {self.width}x{self.height}"


def load(url: str) -> Picture:
    """Return the picture of a URL.

    Raises:
        Refusal: it is no picture, or would have to be fetched.
    """
    scheme, _, rest = url.partition(":")
    if scheme == "data":
        return _of_data_url(url, rest)
    if scheme in ("http", "https"):
        address = urlsplit(url)
        port = address.port or (443 if scheme == "https" else 80)
        raise Refusal(
            f"Cannot connect to host {address.hostname}:{port} ssl:default [Network is unreachable]",
            origin=Origin.CRASH,
            status=HTTPStatus.INTERNAL_SERVER_ERROR,
            kind="InternalServerError",
        )
    if scheme == "file":
        raise Refusal("Cannot load local files without `--allowed-local-media-path`.")
    raise Refusal("The URL must be either a HTTP, data or file URL.")


def _of_data_url(url: str, rest: str) -> Picture:
    head, comma, data = rest.partition(",")
    if not comma:
        raise Refusal(f"Invalid data URL {url[:32]!r}: missing ',' separator.")
    if not head.endswith(";base64"):
        raise Refusal(
            "Only base64 data URLs are supported for now.",
            status=HTTPStatus.NOT_IMPLEMENTED,
            kind="NotImplementedError",
        )
    if not _BASE64.fullmatch(data):
        raise Refusal("Non-base64 digit found")
    if len(data) % 4:
        raise Refusal("Incorrect padding")
    picture = measure(binascii.a2b_base64(data))
    if picture is None:
        raise Refusal("Failed to load image: cannot identify image file <_io.BytesIO object>")
    return picture


def measure(data: bytes) -> Picture | None:
    """Return what the header of an image file says, or None if it is none that is known here."""
    try:
        return _measure(data)
    except (struct.error, IndexError):
        return None


def _measure(data: bytes) -> Picture | None:
    size: tuple[int, int] | None = None
    kind = ""
    if data.startswith(b"\x89PNG\r\n\x1a\n") and data[12:16] == b"IHDR":
        kind, size = "png", struct.unpack_from(">II", data, 16)
    elif data.startswith((b"GIF87a", b"GIF89a")):
        kind, size = "gif", struct.unpack_from("<HH", data, 6)
    elif data.startswith(b"\xff\xd8"):
        kind, size = "jpeg", _jpeg_size(data)
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind, size = "webp", _webp_size(data)
    if size is None or 0 in size:
        return None
    return Picture(f"image/{kind}", *size)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    place = 2
    while data[place] == 0xFF:
        marker = data[place + 1]
        if marker in _JPEG_SIZES:
            height, width = struct.unpack_from(">HH", data, place + 5)
            return width, height
        if marker == 0xFF:  # Any number of these may stand before a marker.
            place += 1
            continue
        place += 2
        if marker not in _JPEG_BARE:
            place += max(2, struct.unpack_from(">H", data, place)[0])
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    chunk = data[12:16]
    if chunk == b"VP8X" and len(data) >= 30:
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if chunk == b"VP8L" and data[20] == 0x2F:
        bits = struct.unpack_from("<I", data, 21)[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
