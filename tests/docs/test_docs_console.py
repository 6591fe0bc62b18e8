"""docs/console.md says what is so."""

from __future__ import annotations

import re

import pytest
from PIL import Image

from gateway.admin import live
from gateway.telemetry import recent
from tests.docs.reading import DOCS, page

PAGE = page("console.md")
WORDS = " ".join(PAGE.split())
HEALTH = (DOCS.parent / "gateway" / "admin" / "console" / "health.js").read_text(encoding="utf-8")


def test_the_numbers_are_those_of_the_code() -> None:
    assert f"Each worker keeps its last {recent.SLOTS} calls" in WORDS
    assert recent.SLOTS * recent.SLOT_BYTES == 1 << 20
    assert "a mapped file of 1 MiB" in WORDS
    assert "a sample each five seconds of the last five minutes" in WORDS
    assert (live.SAMPLE_S, live.HISTORY_S) == (5.0, 300.0)
    assert f"at most {live.MAX_CALLS} in the page" in WORDS


def test_health_is_judged_as_told() -> None:
    numbers = dict(re.findall(r"const (\w+) = (\d+);", HEALTH))
    assert numbers == {"LATELY_S": "10", "ENOUGH": "5", "LONG_S": "300"}
    assert "The last 10 seconds count if there were at least five attempts in them, else the last five minutes" in WORDS
    table = PAGE.partition("| Health | When |\n")[2].partition("\n\n")[0]
    told = set(re.findall(r"^\| (\w[\w ]*) \| ", table, re.MULTILINE))
    assert told == set(re.findall(r"'(Healthy|Failing|Unsteady|No calls)'", HEALTH))


@pytest.mark.parametrize("name", sorted(set(re.findall(r"images/(console-[\w-]+\.png)", PAGE))))
def test_a_picture_is_small_and_of_a_window(name: str) -> None:
    path = DOCS / "images" / name
    assert path.stat().st_size < 150_000
    with Image.open(path) as picture:
        assert picture.size == (1280, 860)


def test_there_are_pictures_in_light_and_in_dark() -> None:
    with (
        Image.open(DOCS / "images" / "console-overview.png") as light,
        Image.open(DOCS / "images" / "console-overview-dark.png") as dark,
    ):
        assert light.convert("L").getpixel((5, 400)) == 246
        assert dark.convert("L").getpixel((5, 400)) == 19
