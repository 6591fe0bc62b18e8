"""Limits, prices and waiting, as the configuration says them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field, StringConstraints

from gateway.config.kinds import Expected, Loc, Section
from gateway.config.names import PublicName
from gateway.limits.rules import MAX_AMOUNT, MICRO

Amount = Annotated[int, Field(ge=1, le=MAX_AMOUNT)]
Money = Annotated[float, Field(gt=0, le=MAX_AMOUNT // MICRO)]
Price = Annotated[float, Field(ge=0, le=1_000_000)]
Priority = Literal["high", "default", "low"]


class Limits(Section):
    """What may be used; what is absent is not limited."""

    requests_per_minute: Amount | None = None
    """Calls per minute: a bucket that refills all the time. Over any t minutes at most
    requests_burst + requests_per_minute × t calls are admitted."""
    requests_burst: Amount | None = None
    """Calls that may be made at once; by default a minute's worth."""
    tokens_per_minute: Amount | None = None
    """Tokens of prompts and answers per minute. A call's are estimated when it begins and corrected when it ends."""
    tokens_burst: Amount | None = None
    """Tokens that may be taken at once, so the most that one call may need; by default a minute's worth."""
    concurrent_requests: Amount | None = None
    """Calls that may run at the same time, streams until their end."""
    tokens_per_day: Amount | None = None
    """Tokens of prompts and answers per day, in UTC."""
    money_per_day: Money | None = None
    """Money per day, in UTC, by the models' prices; the currency is theirs."""
    money_per_month: Money | None = None
    """Money per calendar month, in UTC, by the models' prices."""

    @classmethod
    def faults(cls, data: dict[str, Any]) -> Iterator[tuple[Loc, str]]:
        for name in ("requests", "tokens"):
            if data.get(f"{name}_burst") is not None and data.get(f"{name}_per_minute") is None:
                yield (f"{name}_burst",), f"{name}_burst needs {name}_per_minute"


class ModelLimits(Limits):
    """Limits of one key at one model."""

    model: PublicName
    """The model's name or alias."""


class Prices(Section):
    """What a model's use costs, in any currency: by tokens, by time, or both."""

    prompt_per_million: Price = 0.0
    """Money per million tokens of prompts."""
    cached_prompt_per_million: Price | None = None
    """Money per million tokens of prompts that came from the container's prefix cache; by default the same."""
    completion_per_million: Price = 0.0
    """Money per million tokens of answers."""
    instance_hour: Price = 0.0
    """Money per hour of the instance; a call pays for the time it ran."""
    calls_per_instance: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Calls that share an instance's time on average: each pays that part of it."""


class Waiting(Section):
    """What happens to calls over a model's `concurrent_requests`: they wait, fairly between keys."""

    most: Annotated[int, Field(ge=0, le=100_000)] = 0
    """Calls that may wait in each process; 0 refuses at once."""
    seconds: Annotated[float, Field(gt=0, le=600)] = 10.0
    """How long a call waits at most."""


class Team(Section):
    """A group of keys with limits of its own."""

    name: Annotated[
        str,
        StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"),
        Expected("a team's name: a letter or digit, then at most 63 letters, digits or . _ -"),
    ]
    """Named by the keys that belong to it."""
    limits: Limits = Limits()
    """What all keys of the team may use together."""
    shadow_limits: Limits = Limits()
    """Limits that are only observed: what they would refuse is counted and served."""
