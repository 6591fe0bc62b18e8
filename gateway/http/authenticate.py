"""From a request's headers to who is calling, before anything else is read."""

from __future__ import annotations

from collections.abc import Iterable

from gateway.auth.keys import presented_key
from gateway.auth.principal import Principal
from gateway.auth.store import KeyStore
from gateway.errors import InvalidKey, MissingKey

ANYONE = Principal("anonymous", None)


class Authenticator:
    """Checks API keys; without a store everyone may use everything."""

    def __init__(self, keys: KeyStore | None) -> None:
        self._keys = keys

    def __call__(self, headers: Iterable[tuple[bytes, bytes]]) -> Principal:
        """Return who is calling.

        Raises:
            MissingKey: no key came with the request.
            InvalidKey: the key is none of ours.
        """
        if self._keys is None:
            return ANYONE
        key = presented_key(headers)
        if key is None:
            raise MissingKey(
                "You didn't provide an API key. Send it as `Authorization: Bearer YOUR_KEY`, `api-key` or `x-api-key`."
            )
        principal = self._keys.find(key)
        if principal is None:
            raise InvalidKey("Incorrect API key provided.")
        return principal
