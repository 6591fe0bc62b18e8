"""The public keys of an identity provider: fetched in the background, never while a call waits.

https://www.rfc-editor.org/rfc/rfc7517; which key takes which signature: https://www.rfc-editor.org/rfc/rfc7518#section-6
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Any

import aiohttp
import jwt
import msgspec

from gateway.config.callers import Issuer

log = logging.getLogger(__name__)

FETCH_TIMEOUT_S = 5.0
MAX_BYTES = 1 << 20
MAX_KEYS = 100
RETRY_S = 5.0
"""After a fetch that failed."""
WANTED_GAP_S = 10.0
"""Between two fetches that tokens with unknown keys cause, whoever sends them."""
MIN_RSA_BITS = 2048

_BY_KIND: dict[tuple[object, object], tuple[str, ...]] = {
    ("RSA", None): ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
    ("OKP", "Ed448"): ("EdDSA",),
}


class Unfit(Exception):
    """What came is no set of keys."""


@dataclass(frozen=True, slots=True)
class PublicKey:
    """One key of a set."""

    id: str | None
    algorithms: tuple[str, ...]
    """What it may have signed: by its kind, and narrower if it says so itself."""
    value: Any


class KeySet:
    """The keys of one issuer."""

    def __init__(
        self, issuer: Issuer, on_change: Callable[[], None], *, gap_s: float = WANTED_GAP_S, retry_s: float = RETRY_S
    ) -> None:
        """`on_change` is called when keys have come or gone."""
        self._issuer = issuer
        self._on_change = on_change
        self._gap_s = gap_s
        self._retry_s = retry_s
        self._document: bytes | None = None
        self._keys: tuple[PublicKey, ...] = ()
        self._wanted = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failing = False

    def find(self, id_: str | None, algorithm: str) -> PublicKey | None:
        """Return the key of this id for this signature; without an id, the only one that takes it. None if unknown,
        and then the set is fetched anew soon."""
        found = [key for key in self._keys if algorithm in key.algorithms and (id_ is None or key.id == id_)]
        if len(found) == 1:
            return found[0]
        if not found:
            self._wanted.set()
        return None

    async def start(self) -> None:
        """Fetch the keys, and go on doing so. Their absence is no reason not to start."""
        fetched = await self._fetch()
        self._task = asyncio.create_task(self._follow(fetched))

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self, fetched: bool) -> None:
        while True:
            began = monotonic()
            self._wanted.clear()
            try:
                async with asyncio.timeout(self._issuer.refresh_s if fetched else self._retry_s):
                    await self._wanted.wait()
            except TimeoutError:
                pass
            else:
                await asyncio.sleep(max(0.0, began + self._gap_s - monotonic()))
            fetched = await self._fetch()

    async def _fetch(self) -> bool:
        """Bring the keys up to date and say whether that worked; where it did not, those before stay."""
        try:
            document = await _get(self._issuer.jwks_url)
            if document != self._document:
                self._keys = read_keys(document)
                self._document = document
                self._on_change()
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, Unfit) as error:
            if not self._failing:
                log.error(
                    "keys of a token issuer cannot be fetched",
                    extra={"issuer": self._issuer.name, "detail": type(error).__name__, "known": len(self._keys)},
                )
            self._failing = True
            return False
        if self._failing:
            log.info("keys of a token issuer are current", extra={"issuer": self._issuer.name})
        self._failing = False
        return True


def read_keys(document: bytes) -> tuple[PublicKey, ...]:
    """Return the keys of a JSON Web Key Set that can verify signatures; others are left out.

    Raises:
        Unfit: it is no such set, or holds none.
    """
    try:
        decoded = msgspec.json.decode(document)
    except (msgspec.DecodeError, RecursionError):
        raise Unfit("not JSON") from None
    entries = decoded.get("keys") if isinstance(decoded, dict) else None
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise Unfit("not a set of keys")
    keys = tuple(key for entry in entries if isinstance(entry, dict) and (key := _key(entry)) is not None)
    if not keys:
        raise Unfit("no key that verifies signatures")
    return keys


def _key(entry: Mapping[str, Any]) -> PublicKey | None:
    kind = _BY_KIND.get((str(entry.get("kty")), None if entry.get("kty") == "RSA" else str(entry.get("crv"))), ())
    algorithms = kind if entry.get("alg") is None else tuple(name for name in kind if name == entry["alg"])
    id_ = entry.get("kid")
    # A private key among them is no secret any more, so what it signs proves nothing.
    if not algorithms or "d" in entry or entry.get("use", "sig") != "sig" or not isinstance(id_, str | None):
        return None
    try:
        value = jwt.PyJWK(dict(entry), algorithm=algorithms[0]).key
    except (jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if entry["kty"] == "RSA" and value.key_size < MIN_RSA_BITS:
        return None
    return PublicKey(id_, algorithms, value)


async def _get(url: str) -> bytes:
    timeout = aiohttp.ClientTimeout(total=FETCH_TIMEOUT_S)
    async with aiohttp.ClientSession(timeout=timeout) as session, session.get(url, allow_redirects=False) as response:
        if response.status != 200:
            raise Unfit(f"status {response.status}")
        document = bytearray()
        async for piece in response.content.iter_chunked(65_536):
            document += piece
            if len(document) > MAX_BYTES:
                raise Unfit("too large")
        return bytes(document)
