"""Why a URL could not be fetched, or an image not scaled. What a caller learns of it is less: see `prepare.py`."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """How a fetch ended; a metric label."""

    OK = "ok"
    UNCHANGED = "unchanged"
    """The host said that what the cache holds is still current."""
    REFUSED = "refused"
    """The URL, or one it redirects to, leads where this model may not fetch from."""
    UNREACHABLE = "unreachable"
    """No such host, no connection, or no whole answer."""
    STATUS = "status"
    """The host answered with an error, or with too many redirects."""
    NOT_MEDIA = "not_media"
    """What came is not of the kind the part is for."""
    TOO_LARGE = "too_large"
    TOO_SLOW = "too_slow"
    CANCELLED = "cancelled"
    """Every caller who waited for it has left."""


class FetchFault(Exception):
    """A fetch that failed; `detail` is for operators."""

    def __init__(self, outcome: Outcome, detail: str) -> None:
        super().__init__(detail)
        self.outcome = outcome
        self.detail = detail


class Undecodable(Exception):
    """The image is damaged."""
