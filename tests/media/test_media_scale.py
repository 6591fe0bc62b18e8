"""Images made smaller: how small, and what stays the same."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gateway.media.faults import Undecodable
from gateway.media.fit import LEAST_BYTES, most_bytes_each
from gateway.media.scale import LEAST_SIDE, MAX_SCANS, Scaled, shrink
from tests.support.pictures import GIF, JPEG, PNG_1, noise, opened, photo, png_chunk, png_header, saved

PIXELS = 50_000_000
KiB = 1024
MiB = 1024 * 1024

# How small


@pytest.mark.parametrize(("sizes", "room", "most"), [
    pytest.param([9 * MiB], 6 * MiB, 5_284_492, id="one"),
    pytest.param([9 * MiB], 8 * MiB, 8 * MiB, id="a step of the ladder"),
    pytest.param([9 * MiB, 9 * MiB], 6 * MiB, 2_642_246, id="two alike share"),
    pytest.param([MiB, 9 * MiB], 6 * MiB, 4 * MiB, id="what the small one leaves is the large one's"),
    pytest.param([4 * MiB, 9 * MiB], 6 * MiB, 2_642_246, id="both have to become smaller"),
    pytest.param([100] * 50 + [9 * MiB], 6 * MiB, 5_284_492, id="many small ones"),
    pytest.param([9 * MiB] * 64, 6 * MiB, 82_570, id="sixty-four"),
    pytest.param([9 * MiB], LEAST_BYTES, LEAST_BYTES, id="the least"),
    pytest.param([9 * MiB], LEAST_BYTES - 1, None, id="less than the least"),
    pytest.param([9 * MiB] * 64, 64 * LEAST_BYTES - 1, None, id="too many for the room"),
    pytest.param([9 * MiB], -5, None, id="no room at all"),
    pytest.param([], 6 * MiB, 5_284_492, id="no images"),
    pytest.param([], -5, None, id="neither"),
])  # fmt: skip
def test_how_much_each_image_may_have(sizes: list[int], room: int, most: int | None) -> None:
    assert most_bytes_each(sizes, room) == most


@given(st.lists(st.integers(1, 20 * MiB), min_size=1, max_size=64), st.integers(0, 20 * MiB))
def test_together_they_fit_and_no_room_is_given_away(sizes: list[int], room: int) -> None:
    most = most_bytes_each(sizes, room)
    if most is None:
        assert room < LEAST_BYTES * len(sizes)
        return
    assert most >= LEAST_BYTES
    if sum(sizes) > room:
        assert sum(min(size, most) for size in sizes) <= room
        assert sum(min(size, most * 1.3) for size in sizes) > room, "a higher step would have fitted"


def test_a_longer_chat_leaves_the_images_as_they_were() -> None:
    """Each turn adds a little text; the container's caches know images by their bytes."""
    turns = [most_bytes_each([9 * MiB, 300 * KiB], 6 * MiB - 20 * KiB * turn) for turn in range(1, 9)]
    assert set(turns) == {5_284_492}


# What becomes of an image


def likeness(first: Image.Image, second: Image.Image) -> float:
    """Return the mean difference of two images, from 0 to 255, looked at from far away."""
    pairs = [image.convert("RGB").resize((16, 16), Image.Resampling.BOX).tobytes() for image in (first, second)]
    return sum(abs(a - b) for a, b in zip(pairs[0], pairs[1], strict=True)) / len(pairs[0])


@pytest.mark.parametrize(("data", "most", "media_type", "mode"), [
    pytest.param(saved(photo(900, 600), "PNG"), 100 * KiB, "image/jpeg", "RGB", id="png"),
    pytest.param(saved(photo(900, 600), "JPEG", quality=97), 100 * KiB, "image/jpeg", "RGB", id="jpeg"),
    pytest.param(saved(photo(900, 600), "JPEG", quality=97, progressive=True), 50 * KiB, "image/jpeg", "RGB",
                 id="progressive jpeg"),
    pytest.param(saved(photo(900, 600).convert("CMYK"), "JPEG", quality=97), 50 * KiB, "image/jpeg", "RGB", id="cmyk"),
    pytest.param(saved(photo(900, 600).convert("L"), "PNG"), 40 * KiB, "image/jpeg", "L", id="grey"),
    pytest.param(saved(photo(900, 600), "WEBP", lossless=True), 40 * KiB, "image/jpeg", "RGB", id="webp"),
    pytest.param(saved(photo(900, 600), "GIF"), 40 * KiB, "image/jpeg", "RGB", id="gif"),
    pytest.param(saved(photo(900, 600).quantize(200), "PNG"), 40 * KiB, "image/jpeg", "RGB", id="palette"),
    pytest.param(saved(photo(900, 600).convert("1"), "PNG"), 8 * KiB, "image/jpeg", "RGB", id="black and white"),
    pytest.param(saved(photo(900, 600).convert("RGBA"), "PNG"), 40 * KiB, "image/jpeg", "RGB", id="opaque alpha"),
])  # fmt: skip
def test_an_image_shows_the_same_in_fewer_bytes(data: bytes, most: int, media_type: str, mode: str) -> None:
    scaled = shrink(data, most, PIXELS)
    assert scaled is not None
    before, after = opened(data), opened(scaled.data)
    assert (scaled.media_type, after.mode) == (media_type, mode)
    assert most // 3 < len(scaled.data) <= most < len(data)
    assert after.size == (scaled.width, scaled.height)
    assert abs(after.width / after.height - 1.5) < 0.02
    assert likeness(before, after) < 3
    assert shrink(data, most, PIXELS) == scaled, "equal images give equal bytes"


def test_pixels_are_kept_where_quality_alone_will_do() -> None:
    scaled = shrink(saved(photo(900, 600), "PNG"), 400 * KiB, PIXELS)
    assert scaled is not None
    assert (scaled.width, scaled.height) == (900, 600)


def test_what_is_transparent_stays_so() -> None:
    image = photo(600, 600).convert("RGBA")
    image.putalpha(Image.linear_gradient("L").resize((600, 600)))
    scaled = shrink(saved(image, "PNG"), 40 * KiB, PIXELS)
    assert scaled is not None
    after = opened(scaled.data)
    assert (scaled.media_type, after.mode) == ("image/webp", "RGBA")
    ends = after.getchannel("A").resize((1, 8), Image.Resampling.BOX).tobytes()
    assert ends[0] < 40
    assert ends[-1] > 215


@pytest.mark.parametrize("transparency", [0, b"\0" * 5 + b"\xff" * 195])
def test_a_palettes_transparency_stays_too(transparency: int | bytes) -> None:
    data = saved(photo(600, 600).quantize(200), "PNG", transparency=transparency)
    scaled = shrink(data, 40 * KiB, PIXELS)
    assert scaled is not None
    assert opened(scaled.data).mode == "RGBA"


def test_sixteen_bits_of_grey_are_not_cut_off() -> None:
    values = [x * 65_535 // 255 for x in range(256)] * 256
    image = Image.frombytes("I;16", (256, 256), struct.pack(f"<{len(values)}H", *values))
    scaled = shrink(saved(image, "PNG"), 3 * KiB, PIXELS)
    assert scaled is not None
    after = opened(scaled.data).convert("L").resize((5, 1), Image.Resampling.BOX).tobytes()
    assert [abs(value - expected) < 8 for value, expected in zip(after, (25, 76, 127, 178, 229), strict=True)] == [
        True
    ] * 5


@pytest.mark.parametrize("orientation", range(1, 9))
def test_an_image_is_turned_upright(orientation: int) -> None:
    image = Image.new("RGB", (400, 200), "white")
    image.paste("red", (0, 0, 100, 50))
    exif = Image.Exif()
    exif[0x0112] = orientation
    noisy = Image.blend(image, noise(400, 200), 0.2)
    scaled = shrink(saved(noisy, "JPEG", quality=95, exif=exif), 10 * KiB, PIXELS)
    assert scaled is not None
    after = opened(scaled.data).convert("RGB")
    assert (after.width > after.height) is (orientation < 5)
    assert not after.getexif()
    corners = {
        "left top": (0.05, 0.05), "right top": (0.95, 0.05), "right bottom": (0.95, 0.95), "left bottom": (0.05, 0.95)
    }  # fmt: skip
    red = [
        name
        for name, (x, y) in corners.items()
        if _is_red(after.getpixel((int(after.width * x), int(after.height * y))))
    ]
    turned = ["left top", "right top", "right bottom", "left bottom", "left top", "right top", "right bottom",
              "left bottom"]  # fmt: skip
    assert red == [turned[orientation - 1]]


def _is_red(pixel: object) -> bool:
    assert isinstance(pixel, tuple)
    return bool(pixel[0] > 150 and pixel[1] < 120)


def test_metadata_are_left_behind() -> None:
    exif = Image.Exif()
    exif[0x010E] = "where I live"
    data = saved(photo(600, 400), "JPEG", quality=97, exif=exif, icc_profile=b"profile" * 100, comment=b"secret")
    scaled = shrink(data, 30 * KiB, PIXELS)
    assert scaled is not None
    assert not any(word in scaled.data for word in (b"where I live", b"profile", b"secret"))


def test_of_an_animation_the_first_frame_is_shown() -> None:
    frames = [Image.new("RGB", (300, 300), colour) for colour in ("red", "blue")]
    frames = [Image.blend(frame, noise(300, 300, seed=at), 0.3) for at, frame in enumerate(frames)]
    for form in ("GIF", "WEBP", "PNG"):
        data = saved(frames[0], form, save_all=True, append_images=frames[1:])
        scaled = shrink(data, 10 * KiB, PIXELS)
        assert scaled is not None
        red, _, blue = opened(scaled.data).convert("RGB").resize((1, 1), Image.Resampling.BOX).tobytes()
        assert red > blue + 50, form


def test_a_long_thin_image_keeps_its_shape_as_far_as_it_goes() -> None:
    scaled = shrink(saved(noise(6_000, 40), "PNG"), 64 * KiB, PIXELS)
    assert scaled is not None
    assert scaled.height >= LEAST_SIDE
    assert shrink(saved(noise(6_000, 20), "PNG"), 4 * KiB, PIXELS) is None
    assert shrink(saved(noise(6_000, 1), "PNG"), 300, PIXELS) is None


def test_bytes_that_look_like_a_jpegs_are_none_in_a_png() -> None:
    data = png_header(1, 1) + png_chunk(b"tEXt", b"a\0" + b"\xff\xda" * 1_000) + PNG_1[33:]
    assert shrink(data, 2_000, PIXELS) is not None


def test_what_would_be_too_small_to_see_is_not_made() -> None:
    assert shrink(saved(noise(400, 400), "PNG"), 500, PIXELS) is None


@pytest.mark.parametrize("data", [
    pytest.param(b"", id="nothing"),
    pytest.param(PNG_1[:40], id="a png cut in its pixels"),
    pytest.param(png_header(3, 3), id="a png's head"),
    pytest.param(PNG_1.replace(b"IDATx", b"IDATy"), id="a png with broken pixels"),
    pytest.param(JPEG, id="a jpeg without pixels"),
    pytest.param(saved(noise(50, 50), "JPEG")[:900], id="a jpeg cut short"),
    pytest.param(GIF, id="a gif without frames"),
    pytest.param(saved(noise(50, 50), "WEBP")[:400], id="a webp cut short"),
    pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", id="postscript"),
    pytest.param(saved(noise(5, 5), "BMP"), id="bmp"),
    pytest.param(saved(noise(5, 5), "TIFF"), id="tiff"),
    pytest.param(saved(noise(60, 50), "PNG"), id="more pixels than allowed"),
    pytest.param(saved(noise(9, 9), "JPEG") + b"\xff\xda" * (MAX_SCANS + 1), id="a jpeg of many scans"),
])  # fmt: skip
def test_what_cannot_be_decoded(data: bytes) -> None:
    with pytest.raises(Undecodable):
        shrink(data, 100, 2_500)


@given(st.sampled_from(["PNG", "JPEG", "GIF", "WEBP"]), st.data())
def test_a_damaged_image_is_that_or_an_image(form: str, draw: st.DataObject) -> None:
    data = bytearray(saved(noise(24, 20), form))
    for _ in range(draw.draw(st.integers(1, 6))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        scaled = shrink(bytes(data[: draw.draw(st.integers(0, len(data)))]), 2_000, 2_500)
    except Undecodable:
        return
    assert scaled is None or isinstance(scaled, Scaled)
