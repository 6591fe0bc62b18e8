"""From a request's headers to who is calling, before anything else is read."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from gateway.auth.failures import Failures
from gateway.auth.keys import presented_key
from gateway.auth.principal import Principal
from gateway.auth.store import KeyStore
from gateway.errors import AddressNotAllowed, GatewayError, InvalidKey, MissingKey, TooManyFailures

ANYONE = Principal("anonymous", None)
Peer = tuple[str, int] | None
"""The other end of a connection, as ASGI's `client`; None on a Unix socket. No header has a say in it."""


class Authenticator:
    """Checks API keys; without a store everyone may use everything."""

    def __init__(self, keys: KeyStore | None, failures: Failures | None = None) -> None:
        self._keys = keys
        self._failures = Failures() if failures is None else failures

    def __call__(self, headers: Iterable[tuple[bytes, bytes]], peer: Peer) -> Principal:
        """Return who is calling.

        Raises:
            MissingKey: no key came with the request.
            InvalidKey: the key is none of ours.
            TooManyFailures: likewise, and it is one of too many from there.
            AddressNotAllowed: the key is not valid from there.
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
            raise failure(self._failures, peer)
        if principal.networks and not _within(principal.networks, peer):
            raise AddressNotAllowed("This API key is not valid from your network address.")
        return principal


def failure(failures: Failures, peer: Peer) -> GatewayError:
    """Count a wrong key and return the answer to it."""
    wait_ms = failures.add(peer[0] if peer else None)
    if wait_ms is None:
        return InvalidKey("Incorrect API key provided.")
    return TooManyFailures("Too many incorrect API keys have come from your network address.", wait_ms=wait_ms)


def _within(networks: tuple[IPv4Network | IPv6Network, ...], peer: Peer) -> bool:
    if not peer:
        return False
    try:
        address = ip_address(peer[0])
    except ValueError:
        return False
    if isinstance(address, IPv6Address):  # a socket for both kinds tells IPv4 addresses as IPv6 ones
        address = address.ipv4_mapped or address
    return any(address in network for network in networks)
