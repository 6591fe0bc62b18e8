"""Keys to principals. Only digests are held, looked up and compared.

What is compared is the SHA-256 of what came in, so time can tell a caller no more than how its guess hashes, and that
says nothing about how near the guess is.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from hashlib import sha256
from itertools import chain
from typing import Protocol

from gateway.auth.principal import Principal
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

    def __init__(self, keys: Iterable[Key], names: Mapping[str, Iterable[str]]) -> None:
        """`names` maps each word that is no public name itself, such as an alias, to the public names it stands for."""
        self._by_digest: dict[bytes, tuple[bytes, Principal | None]] = {}
        for key in keys:
            raw = bytes.fromhex(key.digest.removeprefix("sha256:"))
            opened = chain.from_iterable(names.get(name, (name,)) for name in key.models)
            models = None if "*" in key.models else frozenset(opened)
            self._by_digest[raw] = (raw, Principal(key.id, models))

    def find(self, presented: bytes) -> Principal | None:
        """Return the principal of this key, None if there is none. Costs one hash and one look-up (about 1 µs)."""
        hashed = sha256(presented).digest()
        known, principal = self._by_digest.get(hashed, _NOBODY)
        return principal if _compare(known, hashed) else None

    def __len__(self) -> int:
        return len(self._by_digest)

    def __repr__(self) -> str:
        return f"FileKeyStore({len(self._by_digest)} keys)"
