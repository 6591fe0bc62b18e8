"""A key that is kept in Redis: what is recorded of it, and what making, rotating and showing it means.

No input or output. Times are Unix seconds. Of a key itself only SHA-256 digests are recorded.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field

from gateway.auth.keys import digest, new_key, raw_digest
from gateway.config.kinds import Expected, Section
from gateway.config.models import Key
from gateway.config.settings import Digest

MAX_OVERLAP_S = 31_536_000
MAX_PREVIOUS = 8
"""Earlier keys that may be valid beside the newest one."""
Time = Annotated[int, Field(ge=0, le=253_402_300_799), Expected("Unix seconds")]


class Previous(Section):
    """A key that a rotation has replaced."""

    digest: Annotated[Digest, Field(repr=False)]
    """Its SHA-256."""
    until: Time
    """From then on it is not valid."""


class KeyRecord(Key):
    """One key in Redis."""

    created: Time
    """When it was made."""
    expires: Time | None = None
    """From then on it is not valid; none for never."""
    disabled: bool = False
    """It is not valid for the time being."""
    previous: tuple[Previous, ...] = ()
    """What was valid before rotations and still is, newest first."""


_MADE = frozenset({"digest", "created", "disabled", "previous"})
TERMS = tuple(name for name in KeyRecord.model_fields if name not in _MADE)
"""The fields of a record that are said, not made."""


def made(terms: dict[str, Any], now: float) -> tuple[KeyRecord, str]:
    """Return the record of a new key, and the key itself, which is nowhere kept.

    Raises:
        pydantic.ValidationError: `terms`, fields of TERMS as in JSON, are wrong.
    """
    key = new_key()
    return _validated({**terms, "digest": digest(key), "created": int(now)}), key


def rotated(record: KeyRecord, overlap_s: int, now: float) -> tuple[KeyRecord, str]:
    """Return the record with a new key, and that key; the one before stays valid for `overlap_s` seconds.

    What is still valid of rotations before ends no later than that.
    """
    key, until = new_key(), int(now) + overlap_s
    previous = [Previous(digest=record.digest, until=until)] if overlap_s else []
    previous += [Previous(digest=old.digest, until=min(old.until, until)) for old in record.previous if old.until > now]
    kept = tuple(previous[:MAX_PREVIOUS]) if overlap_s else ()
    return record.model_copy(update={"digest": digest(key), "previous": kept}), key


def changed(record: KeyRecord, changes: dict[str, Any]) -> KeyRecord:
    """Return the record with other terms; what is None falls back to the default.

    Raises:
        pydantic.ValidationError: they are wrong.
    """
    fields = record.model_dump(mode="json", exclude_unset=True) | changes
    return _validated(fields)


def _validated(fields: dict[str, Any]) -> KeyRecord:
    return KeyRecord.model_validate_json(
        msgspec.json.encode({name: value for name, value in fields.items() if value is not None}), strict=True
    )


def status(record: KeyRecord, now: float) -> Literal["active", "disabled", "expired"]:
    """Return whether the key is valid, in a word."""
    if record.expires is not None and record.expires <= now:
        return "expired"
    return "disabled" if record.disabled else "active"


def valid(record: KeyRecord) -> Iterator[tuple[bytes, float]]:
    """Yield the digests under which the key is known, 32 bytes each, and when each ends."""
    if record.disabled:
        return
    end = inf if record.expires is None else record.expires
    yield raw_digest(record.digest), end
    for old in record.previous:
        yield raw_digest(old.digest), min(old.until, end)


def shown(record: KeyRecord, now: float) -> dict[str, Any]:
    """Return what may be seen of a record, as JSON values: everything but digests."""
    fields = record.model_dump(mode="json", exclude={"digest", "previous"})
    for name in ("limits", "shadow_limits"):
        fields[name] = {limit: value for limit, value in fields[name].items() if value is not None}
    fields["model_limits"] = [
        {limit: value for limit, value in section.items() if value is not None} for section in fields["model_limits"]
    ]
    rotating = [old.until for old in record.previous if old.until > now]
    return {
        "object": "key",
        **fields,
        "status": status(record, now),
        "previous_valid_until": max(rotating, default=None),
    }
