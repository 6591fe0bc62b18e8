"""Small images, written by hand or by Pillow, for tests of what becomes of images."""

from __future__ import annotations

import base64
import io
import random
import struct
import zlib
from typing import Any

from PIL import Image


def png_chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int) -> bytes:
    """Return the first 33 bytes of a PNG."""
    return b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))


PNG_1 = png_header(1, 1) + png_chunk(b"IDAT", zlib.compress(b"\0\xff\xff\xff")) + png_chunk(b"IEND", b"")
GIF = b"GIF89a" + struct.pack("<HH", 3, 5) + b"\0\0\0;"
WEBP = b"RIFF\x1a\0\0\0WEBPVP8L\x0e\0\0\0\x2f" + struct.pack("<I", (7 - 1) | (9 - 1) << 14) + bytes(9)
JPEG = b"\xff\xd8\xff\xc0" + struct.pack(">HBHHB", 11, 8, 600, 800, 1) + b"\x01\x11\0\xff\xd9"


def data_url(subtype: str, data: bytes, kind: str = "image") -> str:
    return f"data:{kind}/{subtype};base64,{base64.b64encode(data).decode()}"


def noise(width: int, height: int, mode: str = "RGB", seed: int = 1) -> Image.Image:
    """Return an image that compresses badly, the same each time."""
    bands = len(Image.new(mode, (1, 1)).getbands())
    return Image.frombytes(mode, (width, height), random.Random(seed).randbytes(width * height * bands))


def photo(width: int, height: int) -> Image.Image:
    """Return an image that compresses as a photograph does: soft shapes and a little noise."""
    soft = noise(max(2, width // 64), max(2, height // 64)).resize((width, height), Image.Resampling.BICUBIC)
    return Image.blend(soft, noise(width, height, seed=2), 0.15)


def saved(image: Image.Image, form: str, **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image
