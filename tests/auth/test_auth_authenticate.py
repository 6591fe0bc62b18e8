"""Who may come in from where: networks of keys, and what wrong keys are answered."""

from __future__ import annotations

import pytest

from gateway.auth.keys import digest, new_key
from gateway.auth.principals import Principals
from gateway.auth.store import FileKeyStore
from gateway.config.models import Key
from gateway.errors import AddressNotAllowed, GatewayError, InvalidKey, MissingKey, TooManyFailures
from gateway.http.authenticate import Authenticator, Peer

OFFICE, ANYWHERE = new_key(), new_key()
KEYS = [
    Key(id="office", digest=digest(OFFICE), models=("*",), networks=("192.0.2.0/24", "10.1.2.3", "2001:db8::/32")),
    Key(id="anywhere", digest=digest(ANYWHERE), models=("*",)),
]


@pytest.fixture
def authenticate() -> Authenticator:
    return Authenticator(FileKeyStore(KEYS, Principals({})))


def bearer(key: str, *more: tuple[bytes, bytes]) -> list[tuple[bytes, bytes]]:
    return [(b"authorization", f"Bearer {key}".encode()), *more]


@pytest.mark.parametrize(("host", "allowed"), [
    pytest.param("192.0.2.77", True, id="in a network"),
    pytest.param("192.0.3.1", False, id="beside it"),
    pytest.param("10.1.2.3", True, id="a single address"),
    pytest.param("10.1.2.4", False, id="beside the single address"),
    pytest.param("2001:db8:1::1", True, id="IPv6"),
    pytest.param("2001:db9::1", False, id="another IPv6 network"),
    pytest.param("::ffff:192.0.2.77", True, id="IPv4 told as IPv6"),
    pytest.param("not an address", False, id="no address"),
])  # fmt: skip
def test_a_key_with_networks_is_valid_from_there_only(authenticate: Authenticator, host: str, allowed: bool) -> None:
    if allowed:
        assert authenticate(bearer(OFFICE), (host, 1)).key_id == "office"
        return
    with pytest.raises(AddressNotAllowed) as raised:
        authenticate(bearer(OFFICE), (host, 1))
    assert (raised.value.status, raised.value.code) == (403, "address_not_allowed")
    assert host not in raised.value.message


def test_without_an_address_a_key_with_networks_is_refused(authenticate: Authenticator) -> None:
    with pytest.raises(AddressNotAllowed):
        authenticate(bearer(OFFICE), None)
    assert authenticate(bearer(ANYWHERE), None).key_id == "anywhere"


@pytest.mark.parametrize("name", [b"x-forwarded-for", b"forwarded", b"x-real-ip", b"true-client-ip"])
def test_headers_have_no_say_in_the_address(authenticate: Authenticator, name: bytes) -> None:
    spoofed = (name, b"for=192.0.2.77" if name == b"forwarded" else b"192.0.2.77")
    with pytest.raises(AddressNotAllowed):
        authenticate(bearer(OFFICE, spoofed), ("198.51.100.1", 1))


def refusals(authenticate: Authenticator, count: int, peer: Peer, *more: tuple[bytes, bytes]) -> list[GatewayError]:
    found = []
    for _ in range(count):
        with pytest.raises(GatewayError) as raised:
            authenticate(bearer(new_key(), *more), peer)
        found.append(raised.value)
    return found


def test_wrong_keys_are_slowed_and_right_ones_pass(authenticate: Authenticator) -> None:
    peer = ("198.51.100.1", 1)
    assert {type(error) for error in refusals(authenticate, 20, peer)} == {InvalidKey}
    slowed = refusals(authenticate, 1, peer)[0]
    assert isinstance(slowed, TooManyFailures)
    assert (slowed.status, slowed.code, slowed.retry_after_s) == (429, "too_many_failed_attempts", 1)
    assert authenticate(bearer(ANYWHERE), peer).key_id == "anywhere"
    assert isinstance(refusals(authenticate, 1, ("198.51.100.2", 1))[0], InvalidKey), "others are not slowed"


def test_another_address_in_a_header_does_not_help_guessing(authenticate: Authenticator) -> None:
    peer = ("198.51.100.1", 1)
    for number in range(20):
        refusals(authenticate, 1, peer, (b"x-forwarded-for", b"203.0.113.%d" % number))
    assert isinstance(refusals(authenticate, 1, peer, (b"x-forwarded-for", b"203.0.113.99"))[0], TooManyFailures)


def test_a_request_without_a_key_is_no_guess(authenticate: Authenticator) -> None:
    for _ in range(50):
        with pytest.raises(MissingKey):
            authenticate([], ("198.51.100.1", 1))
