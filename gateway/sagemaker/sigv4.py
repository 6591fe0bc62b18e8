"""Signature Version 4 for one service and region, with everything that can be prepared prepared.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html

The canonical path is the request path encoded once more (only S3 skips that); endpoint names need no encoding, so both
are the same bytes here. The signing key changes once a day and is kept.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from dataclasses import dataclass, field

SERVICE = "sagemaker"


@dataclass(frozen=True, slots=True)
class Credentials:
    """AWS credentials as of now. Secret parts stay out of repr."""

    access_key: str
    secret_key: str = field(repr=False)
    token: str | None = field(default=None, repr=False)
    expires_at: float | None = None
    """Unix seconds, None for keys that do not expire."""


class Signer:
    """Signs requests to one region."""

    __slots__ = ("_date", "_day", "_key", "_scope", "_second", "_secret", "region")

    def __init__(self, region: str) -> None:
        self.region = region
        self._second = -1
        self._date = ""
        self._day = ""
        self._scope = ""
        self._secret = ""
        self._key = b""

    def sign(
        self, credentials: Credentials, path: str, headers: list[tuple[str, str]], body: bytes, now: float
    ) -> tuple[str, str]:
        """Return the values of `x-amz-date` and `authorization` for a POST of `body` to `path`.

        Args:
            headers: every header to sign but x-amz-date, names in lower case and sorted, `host` among them.
            now: Unix seconds.
        """
        second = int(now)
        if second != self._second or credentials.secret_key != self._secret:
            self._turn(second, credentials.secret_key)
        date = self._date
        canonical: list[str] = []
        names: list[str] = []
        pending_date = True
        for name, value in headers:
            if pending_date and name > "x-amz-date":
                canonical.append(f"x-amz-date:{date}\n")
                names.append("x-amz-date")
                pending_date = False
            canonical.append(f"{name}:{value}\n")
            names.append(name)
        if pending_date:
            canonical.append(f"x-amz-date:{date}\n")
            names.append("x-amz-date")
        signed = ";".join(names)
        request = f"POST\n{path}\n\n{''.join(canonical)}\n{signed}\n{hashlib.sha256(body).hexdigest()}"
        to_sign = f"AWS4-HMAC-SHA256\n{date}\n{self._scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
        signature = hmac.digest(self._key, to_sign.encode(), "sha256").hex()
        return date, (
            f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{self._scope},"
            f" SignedHeaders={signed}, Signature={signature}"
        )

    def _turn(self, second: int, secret: str) -> None:
        """Move to another second, day or secret."""
        self._second = second
        self._date = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
        day = self._date[:8]
        if day != self._day or secret != self._secret:
            key = ("AWS4" + secret).encode()
            for part in (day, self.region, SERVICE, "aws4_request"):
                key = hmac.digest(key, part.encode(), "sha256")
            self._key, self._day, self._secret = key, day, secret
            self._scope = f"{day}/{self.region}/{SERVICE}/aws4_request"
