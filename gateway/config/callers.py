"""Callers who bring no key of ours: tokens of identity providers (JSON Web Tokens), and where callers may call from.

https://www.rfc-editor.org/rfc/rfc7519, https://openid.net/specs/openid-connect-core-1_0.html#IDToken
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints

from gateway.config.kinds import Expected, Loc, Section
from gateway.config.limits import Limits, ModelLimits, Priority

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Signatures by a private key only: neither none at all, nor one by a secret that the gateway would have to share."""


def _network(text: str) -> str:
    return str(ip_network(text))  # ValueError for what is none, and for bits set beyond the prefix


def _jwks_url(url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname or parts.port == 0:  # `port` raises ValueError where it is no number up to 65535
        raise ValueError("not a URL")
    if parts.scheme == "http" and parts.hostname != "localhost" and not ip_address(parts.hostname).is_loopback:
        raise ValueError("whoever is on the way could replace the keys")
    return url


Network = Annotated[
    str,
    StringConstraints(pattern=r"^[0-9A-Fa-f.:]+(/[0-9]{1,3})?$"),
    AfterValidator(_network),
    Expected("an IP address or a network such as 10.0.0.0/8 or 2001:db8::/32"),
]
Audience = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Claim = Annotated[str, StringConstraints(min_length=1, max_length=128)]


class TokenPlan(Section):
    """Limits that tokens of an issuer may name."""

    name: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """What the claim says."""
    priority: Priority = "default"
    """Whose calls go first where calls wait for a model."""
    limits: Limits = Limits()
    """What each subject may use."""
    shadow_limits: Limits = Limits()
    """Limits that are only observed: what they would refuse is counted and served."""
    model_limits: tuple[ModelLimits, ...] = ()
    """What each subject may use of single models, besides."""


class Issuer(Section):
    """An identity provider whose signed tokens (JWT) are taken in place of API keys."""

    name: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,15}$"),
        Expected("a name: a letter or digit, then at most 15 letters, digits or . _ -"),
    ]
    """Begins the key id of every subject, in logs and books: `name~subject`."""
    issuer: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    """The claim `iss`, exactly as the tokens have it."""
    audience: Annotated[tuple[Audience, ...], Field(min_length=1)]
    """Tokens must have one of these in the claim `aud`."""
    jwks_url: Annotated[
        str,
        StringConstraints(pattern=r"^https?://[^\s@\\]+$", max_length=2048),
        AfterValidator(_jwks_url),
        Expected("an https URL; http is taken for this machine only"),
    ]
    """Where the issuer publishes its keys, as a JSON Web Key Set."""
    algorithms: Annotated[tuple[Algorithm, ...], Field(min_length=1)] = ("RS256", "ES256", "EdDSA")
    """Signatures that are taken."""
    leeway_s: Annotated[float, Field(ge=0, le=300)] = 30.0
    """Seconds by which the issuer's clock may differ from this one."""
    refresh_s: Annotated[float, Field(ge=1, le=86_400)] = 300.0
    """Seconds after which the keys are fetched anew."""
    subject_claim: Claim = "sub"
    """The claim that names the caller; its limits and usage are counted by it."""
    models: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names or aliases of models that tokens of this issuer may use at most; `model:*` and `*` as for keys."""
    models_claim: Claim | None = None
    """The claim, a list or words with blanks between, that names those of `models` a token may use; without it all."""
    team: str | None = None
    """The team of callers whose token names none."""
    team_claim: Claim | None = None
    """The claim, a text or a list, of which the first that is a configured team is the caller's."""
    plans: tuple[TokenPlan, ...] = ()
    """Limits by name; the first is for tokens that name none of them."""
    plan_claim: Claim | None = None
    """The claim, a text or a list, of which the first that is a plan's name is the caller's plan."""

    @classmethod
    def faults(cls, data: dict[str, Any]) -> Iterator[tuple[Loc, str]]:
        if data.get("plan_claim") is not None and not data.get("plans"):
            yield ("plan_claim",), "plan_claim needs plans"
        names: set[str] = set()
        for at, plan in enumerate(data.get("plans") or ()):
            if plan and plan.get("name") in names:
                yield ("plans", at, "name"), f"the plan {plan['name']!r} is named twice"
            if plan and plan.get("name"):
                names.add(plan["name"])
