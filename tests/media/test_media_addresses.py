"""Which addresses may be connected to."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.media.addresses import may_connect, networks

PUBLIC = [
    "1.1.1.1",
    "8.8.8.8",
    "93.184.216.34",
    "100.63.255.255",
    "100.128.0.0",
    "172.15.255.255",
    "172.32.0.0",
    "192.167.255.255",
    "192.169.0.0",
    "223.255.255.255",
    "2001:4860:4860::8888",
    "2606:4700:4700::1111",
    "2a00:1450:4001:81c::200e",
]
INSIDE = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "10.255.255.255",
    "100.64.0.1",
    "100.100.100.200",
    "100.127.255.255",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "169.254.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.1",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.0.1",
    "198.18.0.1",
    "198.19.255.255",
    "198.51.100.7",
    "203.0.113.7",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::808:808",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "::ffff:0:7f00:1",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::1",
    "100::1",
    "2001::1",
    "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    "2001:2::1",
    "2001:10::1",
    "2001:20::1",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::1",
    "3ffe::1",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%eth0",
    "fec0::1",
    "ff02::1",
    "ff0e::1",
]
NO_ADDRESSES = [
    "",
    "localhost",
    "127.1",
    "2130706433",
    "0x7f.0.0.1",
    "010.0.0.1",
    "1.2.3",
    "[::1]",
    "1.1.1.1 ",
    "::1::",
]


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_may_be_connected_to(address: str) -> None:
    assert may_connect(address)


@pytest.mark.parametrize("address", INSIDE)
def test_nothing_else_may(address: str) -> None:
    assert not may_connect(address)


@pytest.mark.parametrize("text", NO_ADDRESSES)
def test_what_is_no_address_in_its_usual_notation_may_not(text: str) -> None:
    assert not may_connect(text, networks(["0.0.0.0/0", "::/0"]))


@pytest.mark.parametrize(
    ("allowed", "address", "may"),
    [
        pytest.param(["10.1.0.0/16"], "10.1.2.3", True, id="inside it"),
        pytest.param(["10.1.0.0/16"], "10.2.0.1", False, id="beside it"),
        pytest.param(["10.1.0.0/16"], "::ffff:10.1.2.3", False, id="inside it by another notation"),
        pytest.param(["127.0.0.0/8"], "127.0.0.1", True, id="this machine"),
        pytest.param(["::1/128"], "::1", True, id="this machine by IPv6"),
        pytest.param(["127.0.0.0/8"], "::1", False, id="one does not open the other"),
        pytest.param(["fd12::/48"], "fd12::1", True, id="a private network of IPv6"),
        pytest.param(["10.0.0.0/8"], "8.8.8.8", True, id="what is public stays so"),
        pytest.param(["64:ff9b::/96"], "64:ff9b::808:808", True, id="NAT64 to a public address"),
        pytest.param(["64:ff9b::/96"], "64:ff9b::a00:1", False, id="NAT64 to a private one"),
        pytest.param(["64:ff9b::/96", "10.0.0.0/8"], "64:ff9b::a00:1", True, id="both allowed"),
        pytest.param(["64:ff9b::/96"], "64:ff9b::a9fe:a9fe", False, id="NAT64 to metadata"),
        pytest.param(["2002::/16"], "2002:7f00:1::1", False, id="6to4 to this machine"),
        pytest.param(["::ffff:0:0/96"], "::ffff:169.254.169.254", False, id="mapped metadata"),
        pytest.param(["::/96"], "::7f00:1", False, id="compatible with this machine"),
    ],
)
def test_what_the_operator_allows_besides(allowed: list[str], address: str, may: bool) -> None:
    assert may_connect(address, networks(allowed)) is may


@given(st.integers(0, 2**32 - 1).map(IPv4Address) | st.integers(0, 2**128 - 1).map(IPv6Address))
@example(IPv4Address("192.88.99.1"))
def test_no_address_may_that_the_standard_library_knows_as_special(address: IPv4Address | IPv6Address) -> None:
    if may_connect(str(address)):
        assert address.is_global
        special = [address.is_multicast, address.is_reserved, address.is_loopback, address.is_link_local]
        assert special == [False] * 4
        assert not isinstance(address, IPv6Address) or address.ipv4_mapped is None
