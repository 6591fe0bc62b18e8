"""docs/media.md and what is said elsewhere about media: kinds, formats, versions, limits, outcomes."""

from __future__ import annotations

import re

import pytest

from adapters.drift.parts import FIRST
from adapters.openai import content
from adapters.openai.caps import MAX_MEDIA_PARTS
from gateway.config.media import Media
from gateway.media.addresses import may_connect, networks
from gateway.media.faults import Outcome
from gateway.media.prepare import FETCHES_PER_CALL
from gateway.media.scale import QUALITIES
from tests.docs.reading import page

PAGE = " ".join(page("media.md").split())
NUMBERS = {8: "eight", 64: "64"}


def test_every_media_part_has_a_row_with_its_kind() -> None:
    rows = dict(re.findall(r'^\| `\{"type": "(\w+)".*?\}` \| `(\w+)` \|', page("media.md"), re.MULTILINE))
    assert rows == content._MEDIA


def test_formats_and_details_are_those_that_pass() -> None:
    row = next(line for line in page("media.md").splitlines() if "input_audio" in line)
    assert set(re.findall(r"`(\w+)`", row.rpartition("| base64 of")[2])) == content._AUDIO_FORMATS
    assert "`detail` may be `auto`, `low` or `high`." in PAGE
    assert content._DETAILS == ("auto", "low", "high")


@pytest.mark.parametrize(
    ("words", "types"),
    [
        ("`thinking` and `input_text` (0.10)", {"thinking": 10, "input_text": 10}),
        ("`output_text` (0.12)", {"output_text": 12}),
        ("`tool_reference` (0.21)", {"tool_reference": 21}),
        ("vLLM from 0.10 on", {"input_image": 10}),
    ],
)
def test_versions_are_those_that_are_checked(words: str, types: dict[str, int]) -> None:
    assert words in PAGE
    assert types.items() <= FIRST.items()


def test_limits_are_those_that_hold() -> None:
    assert f"All messages together hold at most {MAX_MEDIA_PARTS} of these parts" in PAGE
    assert f"Up to {NUMBERS[FETCHES_PER_CALL]} URLs of a call are fetched at the same time" in PAGE
    assert "at full size with a quality of {}, then smaller with a quality of {}".format(*QUALITIES) in PAGE
    for name in re.findall(r"`((?:max|fetch|allow)_\w+)`", PAGE):
        known = set(Media.model_fields) | {"max_body_bytes", "max_upstream_body_bytes", "allow_fields"}
        assert name in known


def test_every_outcome_of_a_fetch_is_explained() -> None:
    row = next(line for line in page("metrics.md").splitlines() if line.startswith("| `outcome` |"))
    assert set(re.findall(r"`(\w+)`", row.partition("Of a fetch: ")[2])) == set(Outcome)
    assert re.search(rf"`gateway_media_fetches_total` \| counter \| `outcome` \| {len(Outcome)} \|", page("metrics.md"))


def test_the_network_to_allow_for_nat64_is_the_one_that_works() -> None:
    assert "allow `64:ff9b::/96`: the address inside must then be public, too" in " ".join(page("security.md").split())
    allowed = networks(["64:ff9b::/96"])
    assert may_connect("64:ff9b::808:808", allowed)
    assert not may_connect("64:ff9b::a00:1", allowed)
