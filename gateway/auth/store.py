"""Keys to principals. Only digests are held, looked up and compared.

What is compared is the SHA-256 of what came in, so time can tell a caller no more than how its guess hashes, and that
says nothing about how near the guess is.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable
from hashlib import sha256
from typing import Protocol

from gateway.auth.keys import raw_digest
from gateway.auth.principal import Principal
from gateway.auth.principals import Principals
from gateway.config.models import Key

_compare = hmac.compare_digest
_NOBODY = (bytes(32), None)


class KeyStore(Protocol):
    """Finds the principal a key belongs to."""

    def find(self, presented: bytes) -> Principal | None:
        """Return the principal of this key, None if there is none. Never raises, whatever the bytes."""
        ...


class FileKeyStore:
    """The keys of the configuration file."""

    __slots__ = ("_by_digest",)

    def __init__(self, keys: Iterable[Key], principals: Principals) -> None:
        self._by_digest: dict[bytes, tuple[bytes, Principal | None]] = {}
        for key in keys:
            raw = raw_digest(key.digest)
            self._by_digest[raw] = (raw, principals.of_key(key))

    def find(self, presented: bytes) -> Principal | None:
        """Return the principal of this key, None if there is none. Costs one hash and one look-up (about 1 µs)."""
        hashed = sha256(presented).digest()
        known, principal = self._by_digest.get(hashed, _NOBODY)
        return principal if _compare(known, hashed) else None

    def __len__(self) -> int:
        return len(self._by_digest)

    def __repr__(self) -> str:
        return f"FileKeyStore({len(self._by_digest)} keys)"


class KeysAndTokens:
    """Keys, and the tokens of identity providers."""

    __slots__ = ("_keys", "_tokens")

    def __init__(self, keys: KeyStore, tokens: KeyStore) -> None:
        self._keys = keys
        self._tokens = tokens

    def find(self, presented: bytes) -> Principal | None:
        """Return the principal of this key or token, None if there is none. A token has three parts, with dots."""
        principal = self._keys.find(presented)
        return self._tokens.find(presented) if principal is None and presented.count(b".") == 2 else principal
