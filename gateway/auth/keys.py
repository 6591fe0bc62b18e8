"""API keys: made, recognised, digested, and found among a request's headers.

A key of ours is 32 random bytes, so one SHA-256 is enough: there is nothing to guess that a slow hash would protect.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Iterable

from gateway.errors import InvalidKey

_FORMAT = re.compile(r"sk-lmi-[A-Za-z0-9_-]{43}")
_KEY_HEADERS = frozenset((b"authorization", b"api-key", b"x-api-key"))
_BLANKS = b" \t"


def new_key() -> str:
    """Return a fresh key: `sk-lmi-` and 43 characters, the base64url of 32 random bytes."""
    return f"sk-lmi-{secrets.token_urlsafe(32)}"


def is_key(text: str) -> bool:
    """Say whether `text` has the form of a key made by `new_key`."""
    return _FORMAT.fullmatch(text) is not None


def digest(key: bytes | str) -> str:
    """Return what the configuration keeps of a key: `sha256:` and 64 hexadecimal digits."""
    return f"sha256:{hashlib.sha256(key.encode() if isinstance(key, str) else key).hexdigest()}"


def raw_digest(text: str) -> bytes:
    """Return the 32 bytes of a digest as the configuration has it."""
    return bytes.fromhex(text.removeprefix("sha256:"))


def presented_key(headers: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """Return the key a request presents in `authorization: Bearer …`, `api-key` or `x-api-key`; None if there is none.

    `headers` are raw pairs with names in lower case. The same key in several headers counts once.

    Raises:
        InvalidKey: the headers hold different keys.
    """
    found: bytes | None = None
    for name, value in headers:
        if name not in _KEY_HEADERS:
            continue
        key = _bearer(value) if name == b"authorization" else value.strip(_BLANKS)
        if not key:
            continue
        if found is not None and key != found:
            raise InvalidKey("The request carries different API keys in its headers; send one.")
        found = key
    return found


def _bearer(value: bytes) -> bytes:
    """Return the token of a Bearer credential, whose scheme is case-insensitive (RFC 9110, 11.1); else nothing."""
    value = value.strip(_BLANKS)
    if value[:6].lower() != b"bearer" or value[6:7] not in (b" ", b"\t"):
        return b""
    return value[7:].strip(_BLANKS)
