"""An image made smaller: decoded, turned upright, scaled, and encoded anew. Runs in a thread.

https://pillow.readthedocs.io/en/stable/reference/Image.html. Only the four kinds that callers may send are ever
decoded, each by its own decoder, and only after its header has been found within the limit of pixels.
"""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

from PIL import Image, ImageOps

from adapters.openai.media_images import measure, window_of
from gateway.media.faults import Undecodable

# The limit of pixels is each model's own and is checked before Pillow sees an image.
Image.MAX_IMAGE_PIXELS = None

FORMATS = ("PNG", "JPEG", "GIF", "WEBP")
QUALITIES = (90, 80)
"""Of the first attempt, and of all others."""
MAX_ATTEMPTS = 9
"""At encoding it, the smallest scale included."""
LEAST_SIDE = 16
"""Pixels of the shorter side below which nothing is scaled, unless the image has fewer."""
MAX_SCANS = 100
"""Of a progressive JPEG. Each goes through the whole image once more; programs write about ten."""


@dataclass(frozen=True, slots=True)
class Scaled:
    media_type: str
    data: bytes
    width: int
    height: int


def shrink(data: bytes, most_bytes: int, max_pixels: int) -> Scaled | None:
    """Return an image of at most `most_bytes` that shows the same, or None if it would become too small to see.

    Animations become their first frame, which is all that containers look at. Transparency is kept (as WebP); what has
    none becomes JPEG. Metadata is left out. The same arguments give the same bytes.

    Raises:
        Undecodable: the image is damaged, or has more than `max_pixels`.
    """
    image = _decoded(data, most_bytes, max_pixels)
    form = "WEBP" if image.mode == "RGBA" else "JPEG"
    best: Scaled | None = None
    scale = fitting = too_large = 1.0
    for attempt in range(MAX_ATTEMPTS):
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        if scale < 1.0 and min(size) < min(LEAST_SIDE, *image.size):
            break
        made = _encoded(image if scale == 1.0 else image.resize(size, Image.Resampling.LANCZOS), form, attempt)
        if len(made) <= most_bytes:
            best = Scaled(f"image/{form.lower()}", made, *size)
            if scale == 1.0 or len(made) * 2 > most_bytes:
                break
            fitting = scale
        elif attempt:  # what was too much the first time may be the quality alone
            too_large = scale
        if best is not None:
            # Grain vanishes in a smaller image, so that the estimate was too low: look between what fits and what not.
            if too_large < fitting * 1.1:
                break
            scale = math.sqrt(fitting * too_large)
        elif attempt:
            scale *= min(0.9, math.sqrt(most_bytes / len(made)) * 0.97)
    return best


def _decoded(data: bytes, most_bytes: int, max_pixels: int) -> Image.Image:
    """Return the image upright, with at most the pixels that `most_bytes` could hold, as L, RGB or RGBA."""
    header = measure(window_of(data))
    if header is None or header.pixels > max_pixels:
        raise Undecodable("header")
    if header.media_type == "image/jpeg" and data.count(b"\xff\xda") > MAX_SCANS:
        raise Undecodable("scans")
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
        if image.width * image.height > max_pixels:
            raise Undecodable("size")
        # No image worth looking at takes less than a byte for 16 pixels: a JPEG's decoder can leave out what is more.
        wanted = math.sqrt(min(1.0, most_bytes * 16 / (image.width * image.height)))
        image.draft(image.mode, (round(image.width * wanted), round(image.height * wanted)))
        ImageOps.exif_transpose(image, in_place=True)
        image.load()
        image = _plain(image)
    # Pillow's decoders raise these, and for broken PNG chunks SyntaxError.
    except (OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise Undecodable(type(error).__name__) from error
    image.info.clear()  # comments and profiles, which encoders would write again
    return image


def _plain(image: Image.Image) -> Image.Image:
    """Return the image as L, RGB, or RGBA if something of it is transparent."""
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        image = image.convert("RGBA")
        opaque = image.getchannel("A").histogram()[255] == image.width * image.height
        return image.convert("RGB") if opaque else image
    if image.mode.startswith("I"):  # 16 bits of grey, which a plain conversion would cut off at 255
        return image.convert("I").point(lambda value: value / 257).convert("L")
    return image if image.mode in ("L", "RGB") else image.convert("RGB")


def _encoded(image: Image.Image, form: str, attempt: int) -> bytes:
    out = io.BytesIO()
    quality = QUALITIES[min(attempt, len(QUALITIES) - 1)]
    if form == "JPEG":
        image.save(out, form, quality=quality)
    else:
        image.save(out, form, quality=quality, method=3)
    return out.getvalue()
