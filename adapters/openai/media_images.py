"""What an image's header says: its kind and its pixels, before anything decodes it.

Only the bytes that are needed are looked at, so an image inside a data: URL costs a few small pieces of base64, however
long it is. Sizes are the largest that a decoder could come to: a JPEG's and a PNG's later headers, a GIF's first frame.

PNG: https://www.w3.org/TR/png-3/#5Chunk-layout · JPEG: ITU-T T.81, B.1.1 and B.2.2 ·
GIF: https://www.w3.org/Graphics/GIF/spec-gif89a.txt · WebP: https://developers.google.com/speed/webp/docs/riff_container
"""

from __future__ import annotations

import binascii
import struct
from collections.abc import Callable
from dataclasses import dataclass

MAX_STEPS = 4096
"""Chunks, segments or blocks in front of an image's pixels. No camera or program writes a tenth of it."""
FIRST_BYTES = 32
"""What tells the kinds apart, and holds the sizes of all but JPEGs and some GIFs."""

Window = Callable[[int, int], bytes]
"""Offset and length → the image's bytes there; fewer at its end."""

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD9)})
_JPEG_ENDS = frozenset({0xD9, 0xDA})
"""End of image, and start of scan: what follows are pixels."""


@dataclass(frozen=True, slots=True)
class Header:
    media_type: str
    """`image/png`, `image/jpeg`, `image/gif` or `image/webp`."""
    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height


def window_of(data: bytes) -> Window:
    return lambda offset, length: data[offset : offset + length]


def window_of_base64(text: str) -> Window:
    """Look into base64 that has been checked: padded, of whole groups of four."""

    def window(offset: int, length: int) -> bytes:
        group, skip = divmod(offset, 3)
        data = binascii.a2b_base64(text[group * 4 : (offset + length + 2) // 3 * 4])
        return data[skip : skip + length]

    return window


def measure(window: Window) -> Header | None:
    """Return the header of a PNG, JPEG, GIF or WebP image, or None if it is none or its header is damaged."""
    first = window(0, FIRST_BYTES)
    try:
        if first.startswith(_PNG):
            return _header("png", _png(window))
        if first.startswith(b"\xff\xd8\xff"):
            return _header("jpeg", _jpeg(window))
        if first.startswith((b"GIF87a", b"GIF89a")):
            return _header("gif", _gif(window, first))
        if first.startswith(b"RIFF") and first[8:12] == b"WEBP":
            return _header("webp", _webp(first))
    except (struct.error, IndexError):
        pass
    return None


def _header(kind: str, size: tuple[int, int] | None) -> Header | None:
    return None if size is None or 0 in size else Header(f"image/{kind}", *size)


def _png(window: Window) -> tuple[int, int] | None:
    place = len(_PNG)
    size: tuple[int, int] | None = None
    for _ in range(MAX_STEPS):
        head = window(place, 16)
        if len(head) < 8:  # cut short: what there is of it is what its first chunk says
            return size
        length, kind = struct.unpack_from(">I4s", head)
        if kind == b"IHDR":
            # Pillow takes the last of several, libpng the first.
            if size is not None or length != 13:
                return None
            size = struct.unpack_from(">II", head, 8)
        elif size is None:
            return None
        if kind in (b"IDAT", b"IEND"):
            return size
        place += 12 + length
    return None


def _jpeg(window: Window) -> tuple[int, int] | None:
    place = 2
    width = height = 0
    for _ in range(MAX_STEPS):
        head = window(place, 9)
        if len(head) < 2 or head[0] != 0xFF:
            break
        marker = head[1]
        if marker == 0xFF:  # any number of these may stand before a marker
            place += 1
            continue
        if marker in _JPEG_ENDS:
            return width, height
        if marker in _JPEG_FRAMES:
            rows, columns = struct.unpack_from(">HH", head, 5)
            if rows * columns >= width * height:
                width, height = columns, rows
        place += 2
        if marker not in _JPEG_BARE:
            place += max(2, struct.unpack_from(">H", head, 2)[0])
    else:
        return None
    return (width, height) if width else None


def _gif(window: Window, first: bytes) -> tuple[int, int] | None:
    width, height, flags = struct.unpack_from("<HHB", first, 6)
    place = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    inside = False
    for _ in range(MAX_STEPS):
        head = window(place, 9)
        if not head:
            return width, height
        if inside:  # an extension: blocks of so many bytes, the last one empty
            place += 1 + head[0]
            inside = head[0] > 0
        elif head[0] == 0x21:
            place += 2
            inside = True
        elif head[0] == 0x2C:
            # A frame that is larger than its screen makes decoders enlarge the screen.
            left, top, columns, rows = struct.unpack_from("<HHHH", head, 1)
            return max(width, left + columns), max(height, top + rows)
        else:
            return (width, height) if head[0] == 0x3B else None
    return None


def _webp(first: bytes) -> tuple[int, int] | None:
    chunk = first[12:16]
    if chunk == b"VP8X" and len(first) >= 30:
        return 1 + int.from_bytes(first[24:27], "little"), 1 + int.from_bytes(first[27:30], "little")
    if chunk == b"VP8L" and first[20] == 0x2F:
        (bits,) = struct.unpack_from("<I", first, 21)
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if chunk == b"VP8 " and first[23:26] == b"\x9d\x01\x2a":
        width, height = struct.unpack_from("<HH", first, 26)
        return width & 0x3FFF, height & 0x3FFF
    return None
