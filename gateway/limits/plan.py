"""Which rules a call falls under: those of its key, of the key at this model, of the key's team, and of the model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gateway.config.limits import Limits
from gateway.limits.rules import MICRO, Kind, Rule


def rules_of(name: str, limits: Limits, shadow: Limits) -> tuple[Rule, ...]:
    """Return the rules of one section, those that are enforced and those that are only observed.

    Args:
        name: what is counted: `key:app`, `team:search`, `model:llama`, `key:app@llama`.
    """
    return (*_rules(name, limits, shadow=False), *_rules(name, shadow, shadow=True))


def _rules(name: str, limits: Limits, *, shadow: bool) -> Iterable[Rule]:
    if limits.requests_per_minute:
        burst = limits.requests_burst or limits.requests_per_minute
        yield Rule(name, Kind.REQUESTS, limits.requests_per_minute, burst, shadow)
    if limits.tokens_per_minute:
        burst = limits.tokens_burst or limits.tokens_per_minute
        yield Rule(name, Kind.TOKENS, limits.tokens_per_minute, burst, shadow)
    if limits.concurrent_requests:
        yield Rule(name, Kind.CONCURRENT, limits.concurrent_requests, limits.concurrent_requests, shadow)
    if limits.tokens_per_day:
        yield Rule(name, Kind.TOKENS_PER_DAY, limits.tokens_per_day, limits.tokens_per_day, shadow)
    for kind, money in ((Kind.MONEY_PER_DAY, limits.money_per_day), (Kind.MONEY_PER_MONTH, limits.money_per_month)):
        if money:
            amount = max(1, round(money * MICRO))
            yield Rule(name, kind, amount, amount, shadow)


class Plans:
    """The rules of teams and models, and with a key's own the plan of a call."""

    def __init__(self, teams: Mapping[str, tuple[Rule, ...]], models: Mapping[str, tuple[Rule, ...]]) -> None:
        self._teams = teams
        self._models = models

    def rules(
        self, key: tuple[Rule, ...], at_model: Mapping[str, tuple[Rule, ...]], team: str | None, model: str
    ) -> tuple[Rule, ...]:
        """Return every rule of a call. The order is that in which a refusal names them."""
        return (
            *key,
            *at_model.get(model, ()),
            *(self._teams.get(team, ()) if team is not None else ()),
            *self._models.get(model, ()),
        )
