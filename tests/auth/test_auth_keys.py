"""Keys: made, recognised, digested, and found among headers."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.keys import digest, is_key, new_key, presented_key
from gateway.config.models import Key
from gateway.errors import InvalidKey


def test_a_new_key_is_32_random_bytes_in_our_form() -> None:
    made = {new_key() for _ in range(100)}
    assert len(made) == 100
    for key in made:
        assert is_key(key)
        assert len(key) == 50
        assert len(base64.urlsafe_b64decode(key.removeprefix("sk-lmi-") + "=")) == 32


@pytest.mark.parametrize("text", [
    pytest.param("", id="nothing"),
    pytest.param("sk-lmi-" + "a" * 42, id="short"),
    pytest.param("sk-lmi-" + "a" * 44, id="long"),
    pytest.param("sk-lmi-" + "a" * 42 + "+", id="not the alphabet of URLs"),
    pytest.param("sk-lmi-" + "a" * 43 + "\n", id="line break"),
    pytest.param("sk-proj-" + "a" * 42, id="another scheme"),
])  # fmt: skip
def test_what_is_no_key_of_ours(text: str) -> None:
    assert not is_key(text)


def test_a_digest_is_the_sha_256_of_the_key() -> None:
    # The first test vector of FIPS 180-2.
    assert digest("abc") == "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert digest(b"abc") == digest("abc")


def test_the_configuration_takes_a_digest_as_it_is_made() -> None:
    assert Key(id="k", digest=digest(new_key()), models=("*",)).id == "k"


@pytest.mark.parametrize(("headers", "key"), [
    pytest.param([], None, id="no headers"),
    pytest.param([(b"host", b"x"), (b"x-request-id", b"k")], None, id="no key among them"),
    pytest.param([(b"authorization", b"Bearer k")], b"k", id="bearer"),
    pytest.param([(b"authorization", b"bearer k")], b"k", id="small letters"),
    pytest.param([(b"authorization", b"BEARER k")], b"k", id="capitals"),
    pytest.param([(b"authorization", b" \tBearer \t k \t")], b"k", id="blanks around"),
    pytest.param([(b"authorization", b"Bearer\tk")], b"k", id="a tab between"),
    pytest.param([(b"authorization", b"Bearer")], None, id="scheme alone"),
    pytest.param([(b"authorization", b"Bearer  ")], None, id="scheme and blanks"),
    pytest.param([(b"authorization", b"")], None, id="empty"),
    pytest.param([(b"authorization", b"k")], None, id="no scheme"),
    pytest.param([(b"authorization", b"Bearerk")], None, id="no blank after the scheme"),
    pytest.param([(b"authorization", b"Basic azpr")], None, id="another scheme"),
    pytest.param([(b"authorization", b"Bearer a b")], b"a b", id="a blank inside stays, and matches no key"),
    pytest.param([(b"api-key", b"k")], b"k", id="api-key"),
    pytest.param([(b"x-api-key", b" k ")], b"k", id="x-api-key with blanks"),
    pytest.param([(b"api-key", b"Bearer k")], b"Bearer k", id="no scheme is taken off api-key"),
    pytest.param([(b"x-api-key", b""), (b"authorization", b"Bearer k")], b"k", id="an empty header is none"),
    pytest.param([(b"authorization", b"Basic azpr"), (b"api-key", b"k")], b"k", id="another scheme beside a key"),
    pytest.param([(b"authorization", b"Bearer k"), (b"api-key", b"k"), (b"x-api-key", b"k")], b"k", id="thrice"),
    pytest.param([(b"authorization", b"Bearer \xff\xc3")], b"\xff\xc3", id="bytes that are no text"),
])  # fmt: skip
def test_the_presented_key(headers: list[tuple[bytes, bytes]], key: bytes | None) -> None:
    assert presented_key(headers) == key


@pytest.mark.parametrize("headers", [
    pytest.param([(b"authorization", b"Bearer canary-a"), (b"api-key", b"canary-b")], id="in two headers"),
    pytest.param([(b"authorization", b"Bearer canary-a"), (b"authorization", b"Bearer canary-b")], id="in one header"),
    pytest.param([(b"x-api-key", b"canary-a"), (b"api-key", b"canary-A")], id="differing in case"),
])  # fmt: skip
def test_two_different_keys_are_refused_without_repeating_them(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(InvalidKey) as raised:
        presented_key(headers)
    assert raised.value.message == "The request carries different API keys in its headers; send one."
    assert b"canary" not in raised.value.body().lower()


@given(
    st.lists(st.tuples(st.sampled_from([b"authorization", b"api-key", b"x-api-key", b"host"]), st.binary(max_size=20)))
)
def test_any_headers_give_a_key_none_or_a_refusal(headers: list[tuple[bytes, bytes]]) -> None:
    try:
        key = presented_key(headers)
    except InvalidKey:
        return
    assert key is None or any(key in value for _, value in headers)
