"""Which addresses the gateway may connect to for a caller: the public internet, and what the operator allows besides.

https://www.iana.org/assignments/iana-ipv4-special-registry and …/iana-ipv6-special-registry
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Network = IPv4Network | IPv6Network

_INSIDE_4 = tuple(
    IPv4Network(network)
    for network in (
        "0.0.0.0/8",  # this network: Linux takes 0.0.0.0 for itself
        "10.0.0.0/8",
        "100.64.0.0/10",  # carriers' NAT; Alibaba Cloud's metadata
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's platform address, public by its number only
        "169.254.0.0/16",  # link-local: metadata and credentials of every cloud
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",  # multicast, reserved, broadcast
    )
)
_GLOBAL_6 = IPv6Network("2000::/3")
"""All that is given out for global unicast. Loopback, mapped, NAT64, private and link-local addresses lie outside."""
_INSIDE_6 = tuple(
    IPv6Network(network)
    for network in (
        "2001::/23",  # protocol assignments: Teredo, benchmarks, ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4
        "3ffe::/16",
        "3fff::/20",
    )
)
_CARRIERS = (
    (IPv6Network("::ffff:0:0/96"), 0),  # IPv4-mapped
    (IPv6Network("::/96"), 0),  # IPv4-compatible
    (IPv6Network("64:ff9b::/96"), 0),  # NAT64
    (IPv6Network("2002::/16"), 80),  # 6to4
)
"""Networks whose addresses stand for an IPv4 address, and how many bits follow that."""


def networks(texts: Iterable[str]) -> tuple[Network, ...]:
    """Return the networks that `texts` name, such as `10.1.0.0/16`.

    Raises:
        ValueError: one of them is none.
    """
    return tuple(ip_network(text) for text in texts)


def may_connect(text: str, allowed: tuple[Network, ...] = ()) -> bool:
    """Tell whether an address, in its usual notation, is public or in one of the networks `allowed`.

    An address that carries another one inside must be allowed, and so must be the other.
    """
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return False
    if not any(address in network for network in allowed) and not _is_public(address):
        return False
    inner = _carried(address)
    return inner is None or _is_public(inner) or any(inner in network for network in allowed)


def _carried(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that an IPv6 address stands for."""
    if isinstance(address, IPv6Address) and not address.is_loopback:
        for network, bits in _CARRIERS:
            if address in network:
                return IPv4Address(int(address) >> bits & 0xFFFF_FFFF)
    return None


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv4Address):
        return not any(address in network for network in _INSIDE_4)
    return address in _GLOBAL_6 and not any(address in network for network in _INSIDE_6)
