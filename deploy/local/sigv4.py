"""Signature Version 4, checked from the receiving side.

Written from the specification, without botocore's signer, so that the two can be tested against each other.
https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from deploy.local import awserrors

ALGORITHM = "AWS4-HMAC-SHA256"
MAX_SKEW_S = 300
Headers = Sequence[tuple[str, str]]
"""Names in lower case, in the order sent."""


@dataclass(frozen=True, slots=True)
class AccessKey:
    """A key pair that may sign calls, or one that AWS would refuse for a reason of its own."""

    id: str
    secret: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)
    """Set for temporary credentials: a call must carry exactly this token."""
    expires_at: float | None = None
    """Seconds since the epoch; from then on calls get ExpiredTokenException."""
    denied: bool = False
    """The signature is right, but no policy allows the call."""


@dataclass(frozen=True, slots=True)
class SignedRequest:
    """What the signature covers."""

    method: str
    target: str
    """Path and query as sent."""
    headers: Headers
    body: bytes


class Verifier:
    """Decides whose call a request is."""

    def __init__(
        self,
        keys: Iterable[AccessKey],
        *,
        region: str,
        service: str = "sagemaker",
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.keys: Mapping[str, AccessKey] = {key.id: key for key in keys}
        self._region, self._service, self._clock = region, service, clock

    def verify(self, request: SignedRequest) -> AccessKey:
        """Return the key that signed the request; whether its policy allows the call is not asked here.

        Raises:
            awserrors.Refused: the error with which AWS answers such a request.
        """
        claim = parse_authorization(request.headers)
        signed_at = _first(request.headers, "x-amz-date") or _first(request.headers, "date")
        if signed_at is None:
            raise awserrors.incomplete_signature(
                "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
            )
        self._check_scope(claim, signed_at, request.headers)
        self._check_clock(signed_at)
        key = self._key(claim, request.headers)
        canonical = canonical_request(request, claim.signed_headers)
        to_sign = string_to_sign(signed_at, claim.scope, canonical)
        expected = signature(key.secret, claim.scope, to_sign)
        if not hmac.compare_digest(expected.encode(), claim.signature.encode("utf-8", "replace")):
            raise awserrors.wrong_signature(canonical, to_sign)
        return key

    def _check_scope(self, claim: Claim, signed_at: str, headers: Headers) -> None:
        date, region, service, terminator = claim.scope_parts
        if terminator != "aws4_request":
            raise awserrors.invalid_signature(
                f"Credential should be scoped with a valid terminator: 'aws4_request', not '{terminator}'."
            )
        if region != self._region:
            raise awserrors.invalid_signature(f"Credential should be scoped to a valid region, not '{region}'. ")
        if service != self._service:
            raise awserrors.invalid_signature(f"Credential should be scoped to correct service: '{self._service}'. ")
        if date != signed_at[:8]:
            raise awserrors.invalid_signature(
                "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                f"'{date}' != '{signed_at[:8]}', from '{signed_at}'."
            )
        present = {name for name, _ in headers if name.startswith("x-amz-")}
        if "host" not in claim.signed_headers:
            raise awserrors.invalid_signature(
                "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
            )
        for name in sorted(present.difference(claim.signed_headers)):
            raise awserrors.invalid_signature(f"'{name}' must be a 'SignedHeader' in the AWS Authorization.")

    def _check_clock(self, signed_at: str) -> None:
        moment = _epoch(signed_at)
        if moment is None:
            raise awserrors.incomplete_signature(
                f"Date must be in ISO-8601 'basic format'. Got '{signed_at}'. See http://en.wikipedia.org/wiki/ISO_8601"
            )
        now = self._clock()
        if moment < now - MAX_SKEW_S:
            raise awserrors.invalid_signature(
                f"Signature expired: {signed_at} is now earlier than {_iso(now - MAX_SKEW_S)} ({_iso(now)} - 5 min.)"
            )
        if moment > now + MAX_SKEW_S:
            raise awserrors.invalid_signature(
                f"Signature not yet current: {signed_at} is still later than {_iso(now + MAX_SKEW_S)} "
                f"({_iso(now)} + 5 min.)"
            )

    def _key(self, claim: Claim, headers: Headers) -> AccessKey:
        key = self.keys.get(claim.access_key_id)
        token = _first(headers, "x-amz-security-token")
        if key is None or (token or "") != (key.session_token or ""):
            raise awserrors.unrecognized_client()
        if key.expires_at is not None and self._clock() >= key.expires_at:
            raise awserrors.expired_token()
        return key


@dataclass(frozen=True, slots=True)
class Claim:
    """The Authorization header, taken apart but not believed."""

    access_key_id: str
    scope: str
    signed_headers: tuple[str, ...]
    signature: str

    @property
    def scope_parts(self) -> tuple[str, str, str, str]:
        """Date, region, service, terminator."""
        date, region, service, terminator = self.scope.split("/")
        return date, region, service, terminator


def parse_authorization(headers: Headers) -> Claim:
    """Return what the Authorization header claims.

    Raises:
        awserrors.Refused: there is none, or parts of it are missing.
    """
    value = _first(headers, "authorization") or ""
    scheme, _, rest = value.partition(" ")
    if scheme != ALGORITHM:
        raise awserrors.missing_authentication_token()
    given = dict(part.split("=", 1) for part in re.split(r"[,\s]+", rest) if "=" in part)
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not given.get(name)]
    if missing:
        raise awserrors.incomplete_signature(
            " ".join(f"Authorization header requires '{name}' parameter." for name in missing)
        )
    access_key_id, _, scope = given["Credential"].partition("/")
    if scope.count("/") != 3:
        raise awserrors.incomplete_signature(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term."
        )
    names = tuple(given["SignedHeaders"].lower().split(";"))
    return Claim(access_key_id, scope, names, given["Signature"])


def canonical_request(request: SignedRequest, signed_headers: Sequence[str]) -> str:
    """Return the canonical request over the named headers and the body as received."""
    path, _, query = request.target.partition("?")
    values: dict[str, list[str]] = {}
    for name, value in request.headers:
        values.setdefault(name, []).append(" ".join(value.split()))
    lines = "".join(f"{name}:{','.join(values.get(name, []))}\n" for name in signed_headers)
    return "\n".join(
        (
            request.method,
            _canonical_path(path),
            _canonical_query(query),
            lines,
            ";".join(signed_headers),
            hashlib.sha256(request.body).hexdigest(),
        )
    )


def string_to_sign(signed_at: str, scope: str, canonical: str) -> str:
    """Return the text that the signing key signs."""
    return "\n".join((ALGORITHM, signed_at, scope, hashlib.sha256(canonical.encode()).hexdigest()))


def signature(secret: str, scope: str, to_sign: str) -> str:
    """Return the hex signature; `scope` is date/region/service/aws4_request."""
    key = ("AWS4" + secret).encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    return hmac.digest(key, to_sign.encode(), "sha256").hex()


def _canonical_path(path: str) -> str:
    # Every service but S3 removes dot segments and then encodes the already encoded path once more.
    kept: list[str] = []
    for segment in path.split("/"):
        if segment == "..":
            del kept[-1:]
        elif segment not in ("", "."):
            kept.append(segment)
    slash = "/" if kept and path.endswith(("/", "/.", "/..")) else ""
    return quote("/" + "/".join(kept) + slash, safe="/~")


def _canonical_query(query: str) -> str:
    pairs = [pair.partition("=") for pair in query.split("&") if pair]
    encoded = sorted((quote(unquote(name), safe="~"), quote(unquote(value), safe="~")) for name, _, value in pairs)
    return "&".join(f"{name}={value}" for name, value in encoded)


def _first(headers: Headers, wanted: str) -> str | None:
    return next((value.strip() for name, value in headers if name == wanted), None)


def _epoch(signed_at: str) -> float | None:
    try:
        return calendar.timegm(time.strptime(signed_at, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        return None


def _iso(moment: float) -> str:
    return time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(moment))
