"""Records of keys: what making, rotating, changing and showing them means."""

from __future__ import annotations

import json
from math import inf
from typing import Any

import pytest
from pydantic import ValidationError

from gateway.auth.keys import digest, is_key, raw_digest
from gateway.auth.records import KeyRecord, changed, made, rotated, shown, status, valid

NOW = 1_800_000_000.5


def record(**terms: Any) -> tuple[KeyRecord, str]:
    return made({"id": "app", "models": ["llama"], **terms}, NOW)


def digests(found: KeyRecord) -> dict[bytes, float]:
    return dict(valid(found))


def raw(key: str) -> bytes:
    return raw_digest(digest(key))


def test_a_new_key_is_recorded_as_its_digest_only() -> None:
    found, key = record()
    assert is_key(key)
    assert digests(found) == {raw(key): inf}
    assert (found.created, found.expires, found.disabled) == (1_800_000_000, None, False)
    assert key not in found.model_dump_json()


@pytest.mark.parametrize("terms", [
    pytest.param({"id": "a|b"}, id="an id that would break names"),
    pytest.param({"models": []}, id="no models"),
    pytest.param({"networks": ["10.0.0.1/8"]}, id="a network with bits beyond its prefix"),
    pytest.param({"networks": ["everywhere"]}, id="no network"),
    pytest.param({"limits": {"requests_per_minute": "60"}}, id="a number as text"),
    pytest.param({"limits": {"requests_burst": 60}}, id="a rule between fields"),
    pytest.param({"expires": -1}, id="before all time"),
    pytest.param({"colour": "red"}, id="an unknown field"),
])  # fmt: skip
def test_wrong_terms_make_no_key(terms: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        record(**terms)


def test_after_a_rotation_both_keys_are_valid_for_a_while() -> None:
    before, old = record()
    after, new = rotated(before, 60, NOW)
    assert after.id == "app"
    assert digests(after) == {raw(new): inf, raw(old): 1_800_000_060}


def test_without_overlap_a_rotation_ends_every_earlier_key() -> None:
    first, _ = record()
    second, _ = rotated(first, 60, NOW)
    third, newest = rotated(second, 0, NOW)
    assert digests(third) == {raw(newest): inf}


def test_a_second_rotation_keeps_what_was_valid_no_longer_than_before() -> None:
    first, oldest = record()
    second, older = rotated(first, 60, NOW)
    third, newest = rotated(second, 3600, NOW + 10)
    assert digests(third) == {raw(newest): inf, raw(older): 1_800_003_610, raw(oldest): 1_800_000_060}
    fourth, last = rotated(third, 3600, NOW + 100)
    assert digests(fourth) == {raw(last): inf, raw(newest): 1_800_003_700, raw(older): 1_800_003_610}


def test_many_rotations_keep_few_keys() -> None:
    found, _ = record()
    for _ in range(30):
        found, _ = rotated(found, 3600, NOW)
    assert len(digests(found)) == 9


def test_what_expires_ends_every_key_of_the_record() -> None:
    found, old = record(expires=1_800_000_030)
    found, new = rotated(found, 60, NOW)
    assert digests(found) == {raw(new): 1_800_000_030, raw(old): 1_800_000_030}
    assert [status(found, at) for at in (NOW, NOW + 29, NOW + 30)] == ["active", "active", "expired"]


def test_a_disabled_record_has_no_valid_key() -> None:
    found, _ = record()
    off = found.model_copy(update={"disabled": True})
    assert digests(off) == {}
    assert status(off, NOW) == "disabled"


def test_changes_replace_fields_and_null_takes_them_back() -> None:
    found, key = record(team="search", limits={"requests_per_minute": 60})
    after = changed(found, {"team": None, "limits": {"tokens_per_day": 5}, "networks": ["10.0.0.0/8"]})
    assert (after.team, after.limits.requests_per_minute, after.limits.tokens_per_day) == (None, None, 5)
    assert (after.id, after.networks, digests(after)) == ("app", ("10.0.0.0/8",), {raw(key): inf})
    with pytest.raises(ValidationError):
        changed(found, {"models": None})


def test_what_is_shown_holds_no_digest() -> None:
    found, key = record(limits={"requests_per_minute": 60}, model_limits=[{"model": "llama", "tokens_per_day": 9}])
    found, new = rotated(found, 60, NOW)
    told = json.dumps(shown(found, NOW)) + repr(found)
    for secret in (key, new):
        assert secret not in told
        assert digest(secret).removeprefix("sha256:") not in told
    assert shown(found, NOW) == {
        "object": "key",
        "id": "app",
        "models": ["llama"],
        "team": None,
        "priority": "default",
        "limits": {"requests_per_minute": 60},
        "shadow_limits": {},
        "model_limits": [{"model": "llama", "tokens_per_day": 9}],
        "networks": [],
        "metrics": False,
        "created": 1_800_000_000,
        "expires": None,
        "disabled": False,
        "status": "active",
        "previous_valid_until": 1_800_000_060,
    }
    assert shown(found, NOW + 61)["previous_valid_until"] is None
