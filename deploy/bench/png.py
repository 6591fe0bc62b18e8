"""PNG pictures of any size, made up from a seed: https://www.w3.org/TR/png-3/."""

from __future__ import annotations

import random
import struct
import zlib


def picture(width: int, height: int, chance: random.Random) -> bytes:
    """Return a picture of `width` × `height` pixels in RGB; no two draws of `chance` look the same."""
    # A stripe of colours, moved on by some pixels from row to row: quick to make, and small when compressed.
    stripe = chance.randbytes(3 * 64) * (width // 64 + 2)
    step = 3 * chance.randint(1, 63)
    rows = b"".join(b"\0" + stripe[at : at + 3 * width] for at in (row * step % 192 for row in range(height)))
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zlib.compress(rows, 1)) + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(data, zlib.crc32(kind)))
