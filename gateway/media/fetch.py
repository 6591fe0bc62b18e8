"""From a URL to bytes of an allowed kind: hop by hop, every hop judged like the first."""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass
from urllib.parse import urljoin

from adapters.openai.media import Kind
from adapters.openai.urls import Remote, UrlPolicy, parse, refusal
from gateway.media.addresses import Network
from gateway.media.faults import FetchFault, Outcome
from gateway.media.hop import Answer, Hop
from gateway.media.kinds import type_may_be, type_of

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_ETAG = re.compile(r'(?:W/)?"[!#-~]{0,256}"')
_DATE = re.compile(r"[A-Za-z0-9 ,:]{1,40}")
_MAX_AGE = re.compile(r"(?:^|[\s,])(?:s-maxage|max-age)\s*=\s*\"?([0-9]{1,9})")
_NOT_KEPT = re.compile(r"(?:^|[\s,])(?:no-store|private)\b")
_NOT_FRESH = re.compile(r"(?:^|[\s,])no-cache\b")


@dataclass(frozen=True, slots=True)
class FetchPolicy:
    """Where a model's media may come from, and how much may. Calls of equal policies share what was fetched."""

    urls: UrlPolicy
    allowed: tuple[Network, ...] = ()
    """Networks that may be connected to besides the public internet."""
    max_bytes: int = 20_971_520
    timeout_s: float = 10.0
    """From the wish to the last byte: waiting for a place, names, redirects and all."""
    max_redirects: int = 3


@dataclass(frozen=True, slots=True)
class Validators:
    """How to ask whether something is still current: the URL that answered, and what it called its answer."""

    url: str
    etag: str | None = None
    modified: str | None = None


@dataclass(frozen=True, slots=True)
class Fetched:
    """What a fetch brought."""

    media_type: str
    """By its bytes; empty if nothing changed."""
    data: bytes
    unchanged: bool
    """The validators still hold; there is no data."""
    validators: Validators | None
    fresh_s: float | None
    """How long the host lets it be kept without asking again, None if it does not say."""
    keep: bool
    """It may be kept at all."""


class Fetcher:
    """Follows redirects and judges answers."""

    def __init__(self, hop: Hop, *, concurrent: int) -> None:
        self._hop = hop
        self._places = asyncio.Semaphore(concurrent)

    async def fetch(self, url: str, kind: Kind, policy: FetchPolicy, validators: Validators | None = None) -> Fetched:
        """Return what is at a URL.

        Raises:
            FetchFault: it could not be fetched, or is nothing of this kind.
        """
        try:
            async with asyncio.timeout(policy.timeout_s), self._places:
                return await self._follow(url, kind, policy, validators)
        except TimeoutError as error:
            raise FetchFault(Outcome.TOO_SLOW, f"not within {policy.timeout_s:g} s") from error

    async def _follow(self, url: str, kind: Kind, policy: FetchPolicy, validators: Validators | None) -> Fetched:
        remote = _judged(url, policy.urls)
        for _ in range(policy.max_redirects + 1):
            asking = validators if validators is not None and validators.url == remote.url else None
            answer = await self._hop.get(
                remote,
                allowed=policy.allowed,
                wanted=lambda answer: _wanted(answer, kind),
                max_bytes=policy.max_bytes,
                conditions=_conditions(asking),
            )
            location = answer.headers.get("location")
            if answer.status in _REDIRECTS and location is not None:
                remote = _judged(_joined(remote.url, location), policy.urls)
            elif answer.status == 304 and asking is not None:
                return _fetched(answer, remote, "", asking)
            elif answer.status == 200:
                media_type = type_of(answer.body, kind)
                if media_type is None:
                    raise FetchFault(Outcome.NOT_MEDIA, "by its first bytes")
                return _fetched(answer, remote, media_type, None)
            else:
                raise FetchFault(Outcome.STATUS, f"status {answer.status}")
        raise FetchFault(Outcome.STATUS, "too many redirects")


def _judged(url: str, policy: UrlPolicy) -> Remote:
    remote = parse(url)
    if remote is None or refusal(remote, policy) is not None:
        raise FetchFault(Outcome.REFUSED, "a URL that may not be fetched")
    return remote


def _joined(url: str, location: str) -> str:
    """Return where a redirect leads. Letters beyond ASCII and blanks get percent signs, which hosts often forget."""
    spelled = re.sub(r"[^!-~]", lambda found: f"%{ord(found[0]):02X}", location)  # one latin-1 letter for each byte
    try:
        return urljoin(url, spelled)
    except ValueError:
        return ""


def _wanted(answer: Answer, kind: Kind) -> bool:
    """Tell whether to read the body; raise if the head says that it is nothing to read."""
    if answer.status != 200:
        return False
    if answer.headers.get("content-encoding", "identity").strip().lower() not in ("", "identity"):
        raise FetchFault(Outcome.NOT_MEDIA, "compressed although nobody asked for that")
    if not type_may_be(answer.headers.get("content-type", ""), kind):
        raise FetchFault(Outcome.NOT_MEDIA, "by its content type")
    return True


def _conditions(validators: Validators | None) -> str:
    if validators is None:
        return ""
    if validators.etag is not None:
        return f"if-none-match: {validators.etag}\r\n"
    return f"if-modified-since: {validators.modified}\r\n" if validators.modified is not None else ""


def _fetched(answer: Answer, remote: Remote, media_type: str, asked: Validators | None) -> Fetched:
    control = answer.headers.get("cache-control", "").lower()
    age = _MAX_AGE.search(control)
    etag, modified = answer.headers.get("etag", ""), answer.headers.get("last-modified", "")
    told = Validators(
        remote.url,
        etag if _ETAG.fullmatch(etag) else None,
        modified if _DATE.fullmatch(modified) else None,
    )
    return Fetched(
        media_type=media_type,
        data=answer.body,
        unchanged=asked is not None,
        validators=told if told.etag or told.modified else asked,
        fresh_s=0.0 if _NOT_FRESH.search(control) else float(age[1]) if age else None,
        keep=not _NOT_KEPT.search(control) and "*" not in answer.headers.get("vary", ""),
    )
