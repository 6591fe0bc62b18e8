"""Tokens of an identity provider: which are taken, which are not, and whose calls they make."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import logging
from collections.abc import AsyncIterator, Callable
from time import monotonic, time
from typing import Any

import pytest

from gateway.auth.jwks import Unfit, read_keys
from gateway.auth.keys import digest, new_key
from gateway.auth.principal import Principal
from gateway.auth.principals import Principals
from gateway.auth.store import FileKeyStore, KeysAndTokens
from gateway.auth.tokens import TokenVerifier, key_id
from gateway.config.callers import Issuer, TokenPlan
from gateway.config.limits import Limits
from gateway.config.models import Key
from gateway.errors import InvalidKey
from gateway.http.authenticate import Authenticator
from tests.auth.identity import (
    AUDIENCE,
    EC,
    EC384,
    ED,
    ISSUER,
    PUBLIC_PEM,
    RSA,
    STRANGER,
    WEAK_RSA,
    Provider,
    by_hand,
    claims,
    jwk,
    key_set,
    serving_keys,
    token,
)

pytestmark = pytest.mark.anyio
NAMES = {"fast": ("qwen",)}


@contextlib.asynccontextmanager
async def verifying(*issuers: Issuer, teams: tuple[str, ...] = (), **options: Any) -> AsyncIterator[TokenVerifier]:
    verifier = TokenVerifier(issuers, Principals(NAMES), teams, **options)
    await verifier.start()
    try:
        yield verifier
    finally:
        await verifier.stop()


@pytest.fixture
async def provider() -> AsyncIterator[Provider]:
    async with serving_keys() as running:
        yield running


async def comes(wanted: Callable[[], bool], within_s: float = 5) -> bool:
    end = monotonic() + within_s
    while not wanted():
        if monotonic() > end:
            return False
        await asyncio.sleep(0.005)
    return True


GOOD: list[Any] = [
    pytest.param(lambda: token(), id="RS256"),
    pytest.param(lambda: token(EC, "ES256", "ec"), id="ES256"),
    pytest.param(lambda: token(ED, "EdDSA", "ed"), id="EdDSA"),
    pytest.param(lambda: token(kid=None), id="without a key id, where one key fits"),
    pytest.param(lambda: token(aud=["other", AUDIENCE]), id="one audience of several"),
    pytest.param(lambda: token(exp=int(time()) - 20), id="expired within the leeway"),
    pytest.param(lambda: token(nbf=int(time()) + 20), id="not yet valid, within the leeway"),
    pytest.param(lambda: token(head={"typ": "at+jwt"}), id="an access token by its type"),
]


@pytest.mark.parametrize("make", GOOD)
async def test_a_good_token_is_taken(provider: Provider, make: Callable[[], bytes]) -> None:
    async with verifying(provider.issuer()) as verifier:
        principal = verifier.find(make())
    assert principal is not None
    assert principal.key_id == "corp~alice"


def tampered(where: int) -> bytes:
    parts = token().split(b".")
    text = parts[where]
    parts[where] = text[:10] + (b"A" if text[10:11] != b"A" else b"B") + text[11:]
    return b".".join(parts)


def swapped() -> bytes:
    """Another subject under the signature of a good token."""
    head, _, signature = token().split(b".")
    return b".".join([head, token(sub="root").split(b".")[1], signature])


def json_of(text: bytes) -> bytes:
    return base64.urlsafe_b64encode(text).rstrip(b"=")


NOW = int(time())
BAD: list[Any] = [
    pytest.param(lambda: by_hand({"alg": "none", "typ": "JWT"}, claims()), id="alg none"),
    pytest.param(lambda: by_hand({"alg": "NONE", "kid": "rsa"}, claims()), id="alg NONE"),
    pytest.param(lambda: by_hand({"kid": "rsa"}, claims()), id="no alg"),
    pytest.param(lambda: by_hand({"alg": ["RS256"], "kid": "rsa"}, claims()), id="alg a list"),
    pytest.param(lambda: by_hand({"alg": "HS256", "kid": "rsa"}, claims(), PUBLIC_PEM), id="HS256 with the public key"),
    pytest.param(lambda: by_hand({"alg": "HS256"}, claims(), b""), id="HS256 with no secret"),
    pytest.param(lambda: by_hand({"alg": "RS256", "kid": "rsa"}, claims()), id="RS256 unsigned"),
    pytest.param(lambda: token(algorithm="RS512"), id="an algorithm that is not configured"),
    pytest.param(lambda: token(EC384, "ES384", "ec"), id="another curve"),
    pytest.param(lambda: token(kid="ec"), id="the id of a key of another kind"),
    pytest.param(lambda: token(STRANGER), id="signed by a stranger"),
    pytest.param(lambda: token(STRANGER, head={"jwk": jwk(STRANGER, "rsa")}), id="brings its own key"),
    pytest.param(lambda: token(STRANGER, kid="stranger"), id="unknown key id"),
    pytest.param(lambda: token(STRANGER, kid="../../etc/passwd"), id="a key id that is a path"),
    pytest.param(lambda: token(iss="https://evil.example.com/"), id="wrong issuer"),
    pytest.param(lambda: token(iss=None), id="no issuer"),
    pytest.param(lambda: token(iss=ISSUER.rstrip("/")), id="nearly the issuer"),
    pytest.param(lambda: token(aud="other"), id="wrong audience"),
    pytest.param(lambda: token(aud=None), id="no audience"),
    pytest.param(lambda: token(aud=[]), id="an empty audience"),
    pytest.param(lambda: token(exp=NOW - 600), id="expired"),
    pytest.param(lambda: token(exp=None), id="never expires"),
    pytest.param(lambda: token(nbf=NOW + 600), id="not yet valid"),
    pytest.param(lambda: token(iat=NOW + 600), id="from the future"),
    pytest.param(lambda: token(sub=None), id="no subject"),
    pytest.param(lambda: token(sub=""), id="an empty subject"),
    pytest.param(lambda: token(sub="a" * 257), id="a subject too long"),
    pytest.param(lambda: token(head={"crit": ["b64"], "b64": False}), id="a critical extension"),
    pytest.param(lambda: tampered(0), id="tampered header"),
    pytest.param(lambda: tampered(1), id="tampered claims"),
    pytest.param(lambda: tampered(2), id="tampered signature"),
    pytest.param(swapped, id="another's signature"),
    pytest.param(lambda: token()[:-5], id="cut short"),
    pytest.param(lambda: token() + b"A" * 8, id="longer"),
    pytest.param(lambda: token(padding="x" * 7000), id="oversized"),
    pytest.param(lambda: b"..", id="two dots"),
    pytest.param(lambda: b"a.b.c", id="no base64"),
    pytest.param(lambda: b"\xff\xfe.\x00.\x80", id="no text"),
    pytest.param(lambda: json_of(b"[" * 5000) + b"." + json_of(b"{}") + b".AA", id="nested deeply"),
    pytest.param(lambda: json_of(b'{"alg":"RS256"}') + b"." + json_of(b'{"exp":Infinity}') + b".AA", id="no JSON"),
    pytest.param(lambda: json_of(b"[]") + b"." + json_of(b"[]") + b".AA", id="no objects"),
]


@pytest.mark.parametrize("make", BAD)
async def test_a_bad_token_is_a_wrong_key_and_no_more_is_said(
    provider: Provider, make: Callable[[], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    async with verifying(provider.issuer()) as verifier:
        presented = make()
        authenticate = Authenticator(KeysAndTokens(FileKeyStore((), Principals({})), verifier))
        with caplog.at_level(logging.DEBUG), pytest.raises(InvalidKey) as raised:
            authenticate([(b"authorization", b"Bearer " + presented)], ("127.0.0.1", 1))
    assert (raised.value.status, raised.value.code) == (401, "invalid_api_key")
    assert raised.value.message == "Incorrect API key provided."
    assert presented[:40].decode("latin-1") not in caplog.text
    assert "raceback" not in caplog.text


async def test_a_token_within_the_size_limit_is_taken(provider: Provider) -> None:
    async with verifying(provider.issuer()) as verifier:
        assert verifier.find(token(padding="x" * 4000)) is not None


async def test_keys_come_first_and_only_three_parts_are_a_token(provider: Provider) -> None:
    key = new_key()
    keys = FileKeyStore([Key(id="app", digest=digest(key), models=("*",))], Principals({}))
    async with verifying(provider.issuer()) as verifier:
        both = KeysAndTokens(keys, verifier)
        found = [both.find(presented) for presented in (key.encode(), token(), new_key().encode(), b"a.b", b"a.b.c.d")]
    assert [principal and principal.key_id for principal in found] == ["app", "corp~alice", None, None, None]


@pytest.mark.parametrize(("subject", "id_"), [
    pytest.param("alice", "corp~alice", id="plain"),
    pytest.param("9f6c-.A_b", "corp~9f6c-.A_b", id="every plain character"),
    pytest.param("auth0|123", "corp~auth0_123~4043445eadeeeb2a", id="a separator of the books"),
    pytest.param("a@b:c\n{x}", "corp~a_b_c__x_~1eaae7db698c6dce", id="signs of rules, lines and Redis"),
    pytest.param("a_b", "corp~a_b", id="not told as another subject"),
])  # fmt: skip
def test_a_subject_becomes_a_safe_key_id(subject: str, id_: str) -> None:
    made = key_id("corp", subject)
    assert made == id_
    assert len(made) <= 64
    assert not set(made) & set("|@:{}\n ")


def test_different_subjects_have_different_key_ids() -> None:
    subjects = ["a b", "a_b", "a|b", "x" * 250, "x" * 251, "ä", "ö"]
    assert len({key_id("corp", subject) for subject in subjects}) == len(subjects)
    assert all(len(key_id("n" * 16, subject)) <= 64 for subject in subjects)


PLANS = (
    TokenPlan(name="free", limits=Limits(requests_per_minute=3)),
    TokenPlan(name="gold", priority="high", limits=Limits(requests_per_minute=300)),
)


def rates(principal: Principal) -> list[int]:
    return [rule.amount for rule in principal.limits]


@pytest.mark.parametrize(("changes", "models", "team", "rate"), [
    pytest.param({}, frozenset(), None, 3, id="names nothing: no models, no team, the first plan"),
    pytest.param({"m": ["llama"], "t": "search", "p": "gold"}, frozenset({"llama"}), "search", 300, id="names all"),
    pytest.param({"m": "llama fast", "t": ["x", "search"], "p": ["x", "gold"]}, frozenset({"llama", "qwen"}), "search",
                 300, id="lists, words, aliases"),
    pytest.param({"m": ["*"]}, frozenset({"llama", "qwen"}), None, 3, id="all is all of the issuer's"),
    pytest.param({"m": ["llama", "secret"]}, frozenset({"llama"}), None, 3, id="no more than the issuer's"),
    pytest.param({"m": {"a": 1}, "t": 5, "p": ["platinum"]}, frozenset(), None, 3, id="claims of other types"),
])  # fmt: skip
async def test_claims_say_models_team_and_plan(
    provider: Provider, changes: dict[str, Any], models: frozenset[str], team: str | None, rate: int
) -> None:
    issuer = provider.issuer(
        models=("llama", "fast"), models_claim="m", team_claim="t", plan_claim="p", plans=PLANS, subject_claim="email"
    )
    async with verifying(issuer, teams=("search",)) as verifier:
        principal = verifier.find(token(email="alice", **changes))
    assert principal is not None
    assert (principal.key_id, principal.models, principal.team) == ("corp~alice", models, team)
    assert rates(principal) == [rate]
    assert [rule.id for rule in principal.limits] == ["key:corp~alice:requests_per_minute"]


async def test_a_token_is_verified_once_and_no_longer_than_it_is_valid(
    provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time()
    verified: list[str] = []
    async with verifying(provider.issuer(), clock=lambda: now) as verifier:
        verify = verifier._verify

        def counted(text: str) -> tuple[Principal, float]:
            verified.append(text)
            return verify(text)

        monkeypatch.setattr(verifier, "_verify", counted)
        presented = token(exp=int(now) + 60)
        first = verifier.find(presented)
        assert first is not None
        assert verifier.find(presented) is first
        assert len(verified) == 1
        now += 89
        assert verifier.find(presented) is first
        now += 2  # 60 seconds and the leeway are over: it is verified anew
        verifier.find(presented)
        assert len(verified) == 2


async def test_no_more_tokens_than_the_bound_are_remembered(provider: Provider) -> None:
    async with verifying(provider.issuer(), most=5) as verifier:
        for number in range(12):
            assert verifier.find(token(ED, "EdDSA", "ed", jti=str(number))) is not None
        assert len(verifier._verified) == 5


async def test_a_new_key_of_the_issuer_is_fetched_when_a_token_names_it(provider: Provider) -> None:
    provider.document = key_set(jwk(EC, "ec"))
    async with verifying(provider.issuer(), gap_s=0) as verifier:
        assert verifier.find(token()) is None
        provider.document = key_set(jwk(EC, "ec"), jwk(RSA, "rsa"))
        assert await comes(lambda: verifier.find(token()) is not None)


async def test_unknown_keys_cause_one_fetch_in_a_while(provider: Provider) -> None:
    async with verifying(provider.issuer(), gap_s=0.3) as verifier:
        began, before = monotonic(), provider.fetched
        while monotonic() - began < 1.0:
            assert verifier.find(token(STRANGER, kid=f"k{monotonic()}")) is None
            await asyncio.sleep(0.01)
        assert 1 <= provider.fetched - before <= 4


async def test_a_key_the_issuer_withdraws_takes_its_tokens_along(provider: Provider) -> None:
    async with verifying(provider.issuer(), gap_s=0) as verifier:
        presented = token()
        assert verifier.find(presented) is not None
        provider.document = key_set(jwk(EC, "ec"))
        verifier.find(token(STRANGER, kid="new"))
        assert await comes(lambda: verifier.find(presented) is None)


@pytest.mark.parametrize(("status", "document"), [
    pytest.param(500, b"", id="an error"),
    pytest.param(302, b"", id="a redirection is not followed"),
    pytest.param(200, b"<html>", id="no JSON"),
    pytest.param(200, b'{"keys": []}', id="no keys"),
    pytest.param(200, b" " * (2 << 20), id="too large"),
])  # fmt: skip
async def test_while_an_issuer_is_away_its_known_keys_are_good(
    provider: Provider, status: int, document: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    async with verifying(provider.issuer(), gap_s=0) as verifier:
        provider.status, provider.document = status, document
        verifier.find(token(STRANGER, kid="new"))
        assert await comes(lambda: "keys of a token issuer cannot be fetched" in caplog.messages)
        assert verifier.find(token(sub="bob")) is not None


async def test_an_issuer_that_is_away_at_the_start_is_told_and_asked_again(
    provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    provider.status = 503
    async with verifying(provider.issuer(), gap_s=0) as verifier:
        assert "keys of a token issuer cannot be fetched" in caplog.messages
        provider.status = 200
        assert await comes(lambda: verifier.find(token()) is not None)


def ids(*entries: dict[str, Any]) -> list[tuple[str | None, tuple[str, ...]]]:
    return [(key.id, key.algorithms) for key in read_keys(key_set(jwk(ED, "good"), *entries))][1:]


@pytest.mark.parametrize(("entry", "algorithms"), [
    pytest.param(jwk(RSA, "k"), ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), id="RSA"),
    pytest.param(jwk(RSA, "k", alg="RS256"), ("RS256",), id="says its own algorithm"),
    pytest.param(jwk(EC384, "k"), ("ES384",), id="by its curve"),
    pytest.param(jwk(RSA, "k", alg="HS256"), None, id="an algorithm of secrets"),
    pytest.param(jwk(EC, "k", alg="RS256"), None, id="an algorithm of another kind"),
    pytest.param(jwk(RSA, "k", use="enc"), None, id="for encryption"),
    pytest.param(jwk(WEAK_RSA, "k"), None, id="short RSA"),
    pytest.param({"kty": "oct", "kid": "k", "k": "c2VjcmV0"}, None, id="a secret"),
    pytest.param({**jwk(ED, "k"), "d": "c2VjcmV0"}, None, id="a private key"),
    pytest.param({"kty": "RSA", "kid": "k"}, None, id="half a key"),
    pytest.param({"kty": "EC", "crv": "P-256", "x": 1, "y": [], "kid": "k"}, None, id="numbers of other types"),
    pytest.param({**jwk(EC, "k"), "x": "AAAA"}, None, id="no point of its curve"),
    pytest.param(jwk(RSA, None) | {"kid": 5}, None, id="an id that is no text"),
])  # fmt: skip
def test_which_keys_of_a_set_count(entry: dict[str, Any], algorithms: tuple[str, ...] | None) -> None:
    assert ids(entry) == ([] if algorithms is None else [("k", algorithms)])


@pytest.mark.parametrize("document", [b"", b"[]", b"{}", b'{"keys": {}}', b'{"keys": [1]}', b"\xff", b"[" * 100_000])
def test_what_is_no_key_set(document: bytes) -> None:
    with pytest.raises(Unfit):
        read_keys(document)
