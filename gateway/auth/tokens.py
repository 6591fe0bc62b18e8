"""Signed tokens of identity providers (JSON Web Tokens) in place of keys.

    token ─▶ cache by SHA-256 ─▶ principal                      every call but the first
          ─▶ issuer by `iss` ─▶ its key by `kid` ─▶ signature, aud, exp, nbf ─▶ claims ─▶ principal

Which signatures and keys are taken is said by the configuration and the issuer, never by the token.
https://www.rfc-editor.org/rfc/rfc7519, https://www.rfc-editor.org/rfc/rfc8725
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from time import time
from typing import Any

import jwt

from gateway.auth.jwks import WANTED_GAP_S, KeySet
from gateway.auth.principal import Principal
from gateway.auth.principals import Principals
from gateway.config.callers import Issuer, TokenPlan

log = logging.getLogger(__name__)

MAX_TOKEN_BYTES = 8192
MAX_SUBJECT_CHARS = 256
MOST_TOKENS = 10_000
"""Verified tokens remembered, some 10 MB; those used longest ago are forgotten first."""
REMEMBERED_S = 3600.0
"""A token that is valid for longer is verified anew after this."""
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,46}")
_CLEAN_CHARS = 30


@dataclass(frozen=True, slots=True)
class _Terms:
    """An issuer, prepared."""

    issuer: Issuer
    keys: KeySet
    models: frozenset[str] | None
    plans: Mapping[str, TokenPlan]


class TokenVerifier:
    """Finds the principals of tokens."""

    def __init__(
        self,
        issuers: Iterable[Issuer],
        principals: Principals,
        teams: Iterable[str],
        *,
        most: int = MOST_TOKENS,
        clock: Callable[[], float] = time,
        gap_s: float = WANTED_GAP_S,
    ) -> None:
        """`teams` are those that claims may name. `gap_s`: between two fetches of keys that unknown ones cause."""
        self._principals = principals
        self._teams = frozenset(teams)
        self._most = most
        self._clock = clock
        self._verified: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()
        self._by_issuer = {
            issuer.issuer: _Terms(
                issuer,
                KeySet(issuer, self._verified.clear, gap_s=gap_s),
                principals.opened(issuer.models),
                {plan.name: plan for plan in issuer.plans},
            )
            for issuer in issuers
        }

    async def start(self) -> None:
        """Fetch the issuers' keys, and go on doing so. An issuer's absence is no reason not to start."""
        await asyncio.gather(*(terms.keys.start() for terms in self._by_issuer.values()))

    async def stop(self) -> None:
        await asyncio.gather(*(terms.keys.stop() for terms in self._by_issuer.values()))

    def find(self, presented: bytes) -> Principal | None:
        """Return the principal of this token, None if it is not valid. Never raises, whatever the bytes.

        The first call with a token costs about 0.2 ms, each further one one hash and one look-up.
        """
        if len(presented) > MAX_TOKEN_BYTES:
            return None
        digest, now = sha256(presented).digest(), self._clock()
        known = self._verified.get(digest)
        if known is not None:
            principal, until = known
            if now < until:
                self._verified.move_to_end(digest)
                return principal
            del self._verified[digest]
        try:
            principal, ends = self._verify(presented.decode("ascii"))
        except Exception as error:
            # A stranger's bytes have been through three parsers: whatever they make of them, it is no valid token.
            log.debug("token refused", extra={"detail": type(error).__name__})
            return None
        self._verified[digest] = principal, min(ends, now + REMEMBERED_S)
        if len(self._verified) > self._most:
            self._verified.popitem(last=False)
        return principal

    def _verify(self, token: str) -> tuple[Principal, float]:
        """Return the principal of a token and until when it is.

        Raises:
            Exception: it is not valid.
        """
        header = jwt.get_unverified_header(token)
        algorithm = str(header.get("alg"))
        issuer = jwt.decode(token, options={"verify_signature": False}).get("iss")
        terms = self._by_issuer.get(issuer) if isinstance(issuer, str) else None
        if terms is None or "crit" in header or algorithm not in terms.issuer.algorithms:
            raise jwt.InvalidTokenError("not a token of ours")
        key = terms.keys.find(header.get("kid"), algorithm)
        if key is None:
            raise jwt.InvalidTokenError("unknown key")
        claims = jwt.decode(
            token,
            key.value,
            algorithms=[algorithm],
            audience=list(terms.issuer.audience),
            issuer=terms.issuer.issuer,
            leeway=terms.issuer.leeway_s,
            options={"require": ["exp", "iss", "aud"]},
        )
        return self._principal(terms, claims), float(claims["exp"]) + terms.issuer.leeway_s

    def _principal(self, terms: _Terms, claims: Mapping[str, Any]) -> Principal:
        issuer = terms.issuer
        subject = claims.get(issuer.subject_claim)
        if not isinstance(subject, str) or not 0 < len(subject) <= MAX_SUBJECT_CHARS:
            raise jwt.InvalidTokenError("no subject")
        models = terms.models
        if issuer.models_claim is not None:
            claimed = self._principals.opened(_words(claims.get(issuer.models_claim), split=True))
            models = claimed if models is None else models if claimed is None else models & claimed
        team = next((word for word in self._claimed(claims, issuer.team_claim) if word in self._teams), issuer.team)
        default = next(iter(terms.plans.values()), TokenPlan(name="none"))
        named = (word for word in self._claimed(claims, issuer.plan_claim) if word in terms.plans)
        plan = terms.plans.get(next(named, ""), default)
        return self._principals.make(
            key_id(issuer.name, subject),
            models,
            team=team,
            priority=plan.priority,
            limits=plan.limits,
            shadow_limits=plan.shadow_limits,
            model_limits=plan.model_limits,
        )

    @staticmethod
    def _claimed(claims: Mapping[str, Any], claim: str | None) -> Iterable[str]:
        return () if claim is None else _words(claims.get(claim), split=False)


def key_id(issuer: str, subject: str) -> str:
    """Return the key id of a subject: `issuer~subject`, which no key's id can be, at most 64 safe characters.

    A subject with other characters, or a long one, is told by what is safe of it and a part of its hash.
    """
    if _PLAIN.fullmatch(subject):
        return f"{issuer}~{subject}"
    clean = re.sub(r"[^A-Za-z0-9._-]", "_", subject)[:_CLEAN_CHARS]
    return f"{issuer}~{clean}~{sha256(subject.encode('utf-8', 'surrogatepass')).hexdigest()[:16]}"


def _words(value: object, *, split: bool) -> Iterable[str]:
    if isinstance(value, str):
        return value.split() if split else [value]
    return [word for word in value if isinstance(word, str)] if isinstance(value, list) else []
