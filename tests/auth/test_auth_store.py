"""Keys to principals."""

from __future__ import annotations

import logging
import pickle

import pytest

from gateway.auth import store as store_module
from gateway.auth.keys import digest, new_key
from gateway.auth.principal import Principal
from gateway.auth.principals import Principals
from gateway.auth.store import FileKeyStore, KeyStore
from gateway.config.models import Key

ALICE, BOB, CAROL = new_key(), new_key(), new_key()
KEYS = (
    Key(id="alice", digest=digest(ALICE), models=("*",)),
    Key(id="bob", digest=digest(BOB), models=("llama", "fast")),
    Key(id="carol", digest=digest(CAROL), models=("llama", "*")),
)
NAMES = {"fast": ("qwen",), "quick": ("qwen",), "llama:*": ("llama:legal", "llama:poet"), "qwen:*": ()}


@pytest.fixture
def store() -> KeyStore:
    return FileKeyStore(KEYS, Principals(NAMES))


def found(store: KeyStore, key: str) -> tuple[str, frozenset[str] | None]:
    principal = store.find(key.encode())
    assert principal is not None
    return principal.key_id, principal.models


def test_a_known_key_finds_its_principal(store: KeyStore) -> None:
    assert found(store, ALICE) == ("alice", None)
    assert found(store, BOB) == ("bob", frozenset({"llama", "qwen"}))
    assert found(store, CAROL) == ("carol", None)


@pytest.mark.parametrize("presented", [
    pytest.param(b"", id="nothing"),
    pytest.param(ALICE[:-1].encode(), id="all but the last character"),
    pytest.param(ALICE.encode() + b"\n", id="one character more"),
    pytest.param(ALICE.upper().encode(), id="in capitals"),
    pytest.param(digest(ALICE).encode(), id="the digest"),
    pytest.param(bytes.fromhex(digest(ALICE)[7:]), id="the digest's bytes"),
    pytest.param(bytes(32), id="zeros"),
    pytest.param("schlüssel🔑".encode(), id="not ASCII"),
    pytest.param(b"\xff\xfe\x00", id="not text"),
    pytest.param(b"k" * 1_000_000, id="a megabyte"),
])  # fmt: skip
def test_an_unknown_key_finds_nobody(store: KeyStore, presented: bytes) -> None:
    assert store.find(presented) is None


@pytest.mark.parametrize(("key", "name", "may"), [
    pytest.param(ALICE, "anything", True, id="all models"),
    pytest.param(BOB, "llama", True, id="by name"),
    pytest.param(BOB, "qwen", True, id="by alias"),
    pytest.param(BOB, "fast", False, id="asked by public name, not by alias"),
    pytest.param(BOB, "mistral", False, id="another model"),
])  # fmt: skip
def test_models_of_a_principal(store: KeyStore, key: str, name: str, may: bool) -> None:
    principal = store.find(key.encode())
    assert principal is not None
    assert principal.may_use(name) is may


def test_only_digests_are_ever_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time can tell only about hashes: no byte of a key or guess reaches a comparison, and every call makes one."""
    compared: list[tuple[bytes, bytes]] = []

    def recording(known: bytes, presented: bytes) -> bool:
        compared.append((known, presented))
        return known == presented

    monkeypatch.setattr(store_module, "_compare", recording)
    held = FileKeyStore(KEYS, Principals(NAMES))
    guesses = [ALICE.encode(), ALICE[:-1].encode() + b"!", b"", b"x" * 1_000_000]
    for guess in guesses:
        held.find(guess)
    assert [presented for _, presented in compared] == [bytes.fromhex(digest(guess)[7:]) for guess in guesses]
    assert [len(known) for known, _ in compared] == [32, 32, 32, 32]
    pickled = pickle.dumps([getattr(held, name) for name in FileKeyStore.__slots__])
    assert not [key for key in (ALICE, BOB, CAROL) if key.encode() in pickled]


def test_no_text_of_any_object_shows_a_key_or_a_digest(store: KeyStore, caplog: pytest.LogCaptureFixture) -> None:
    principal = store.find(ALICE.encode())
    with caplog.at_level(logging.DEBUG):
        logging.getLogger("test").debug("objects %s %r", store, found, extra={"keys": KEYS})
    shown = " ".join([caplog.text, repr(store), str(store), f"{store}", repr(principal), repr(KEYS), str(KEYS[0])])
    for key in (ALICE, BOB, CAROL):
        for secret in (key, key[7:23], digest(key), digest(key)[7:23], repr(bytes.fromhex(digest(key)[7:]))[2:20]):
            assert secret not in shown
    assert repr(store) == "FileKeyStore(3 keys)"


def test_one_word_may_open_several_models_and_no_more_than_those() -> None:
    key = Key(id="dave", digest=digest(ALICE), models=("llama:*", "qwen:*", "fast"))
    opened = frozenset({"llama:legal", "llama:poet", "qwen"})
    assert found(FileKeyStore([key], Principals(NAMES)), ALICE) == ("dave", opened)


def test_a_store_without_keys_knows_nobody() -> None:
    empty = FileKeyStore((), Principals({}))
    assert len(empty) == 0
    assert empty.find(b"") is None


def test_a_principal_is_a_small_frozen_value() -> None:
    principal = Principal("k", frozenset({"m"}))
    assert not hasattr(principal, "__dict__")
    with pytest.raises(AttributeError):
        principal.key_id = "x"  # type: ignore[misc]  # that it is refused is the point
    assert principal != Principal("k", frozenset({"m"})), "each has rules and rows of its own"
