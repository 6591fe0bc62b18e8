"""An identity provider on this machine: keys of every kind, signed tokens, and a server of its key set."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
from collections.abc import AsyncIterator
from time import time
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from gateway.config.callers import Issuer

ISSUER = "https://id.example.com/"
AUDIENCE = "lmi-gateway"
RSA = rsa.generate_private_key(public_exponent=65537, key_size=2048)
WEAK_RSA = rsa.generate_private_key(public_exponent=65537, key_size=1024)
EC = ec.generate_private_key(ec.SECP256R1())
EC384 = ec.generate_private_key(ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.generate()
STRANGER = rsa.generate_private_key(public_exponent=65537, key_size=2048)
PUBLIC_PEM = RSA.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

_ALGORITHMS: dict[type, Any] = {
    rsa.RSAPrivateKey: jwt.algorithms.RSAAlgorithm,
    ec.EllipticCurvePrivateKey: jwt.algorithms.ECAlgorithm,
    ed25519.Ed25519PrivateKey: jwt.algorithms.OKPAlgorithm,
}


def jwk(key: Any, kid: str | None, **more: Any) -> dict[str, Any]:
    """Return the public half as an entry of a key set."""
    maker = next(maker for kind, maker in _ALGORITHMS.items() if isinstance(key, kind))
    entry: dict[str, Any] = json.loads(maker.to_jwk(key.public_key()))
    entry.pop("key_ops", None)
    return {**entry, **({} if kid is None else {"kid": kid}), **more}


def key_set(*entries: dict[str, Any]) -> bytes:
    return json.dumps({"keys": list(entries)}).encode()


USUAL = key_set(jwk(RSA, "rsa"), jwk(EC, "ec"), jwk(ED, "ed"))


def claims(**changes: Any) -> dict[str, Any]:
    """Return the claims of a good token; a change to None takes one out."""
    now = int(time())
    usual = {"iss": ISSUER, "aud": AUDIENCE, "sub": "alice", "iat": now, "exp": now + 600}
    return {name: value for name, value in {**usual, **changes}.items() if value is not None}


def token(
    key: Any = RSA,
    algorithm: str = "RS256",
    kid: str | None = "rsa",
    head: dict[str, Any] | None = None,
    **changes: Any,
) -> bytes:
    """Return a signed token."""
    headers = {**({} if kid is None else {"kid": kid}), **(head or {})}
    return jwt.encode(claims(**changes), key, algorithm=algorithm, headers=headers).encode()


def part(value: object) -> bytes:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=")


def by_hand(head: object, body: object, secret: bytes | None = None) -> bytes:
    """Return a token that no library would make: unsigned, or signed with HMAC whatever the secret is."""
    signed = part(head) + b"." + part(body)
    if secret is None:
        return signed + b"."
    signature = hmac.new(secret, signed, hashlib.sha256).digest()
    return signed + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")


class Provider:
    """A server of a key set."""

    def __init__(self) -> None:
        self.document = USUAL
        self.status = 200
        self.fetched = 0
        self.url = ""

    async def answer(self, _: web.Request) -> web.Response:
        self.fetched += 1
        headers = {"location": self.url} if self.status == 302 else {}
        return web.Response(body=self.document, status=self.status, headers=headers, content_type="application/json")

    def issuer(self, **changes: Any) -> Issuer:
        usual: dict[str, Any] = {
            "name": "corp",
            "issuer": ISSUER,
            "audience": (AUDIENCE,),
            "jwks_url": self.url,
            "models": ("*",),
        }
        return Issuer(**{**usual, **changes})


@contextlib.asynccontextmanager
async def serving_keys() -> AsyncIterator[Provider]:
    provider = Provider()
    app = web.Application()
    app.router.add_get("/jwks.json", provider.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    provider.url = f"http://127.0.0.1:{runner.addresses[0][1]}/jwks.json"
    try:
        yield provider
    finally:
        await runner.cleanup()
