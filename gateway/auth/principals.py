"""From what the configuration, Redis or a token says of a caller to the principal that calls are made for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_network
from itertools import chain

from gateway.auth.principal import Principal
from gateway.config.limits import Limits, ModelLimits, Priority
from gateway.config.models import Key
from gateway.limits.plan import rules_of
from gateway.limits.rules import Rule

_NO_LIMITS = Limits()


class Principals:
    """Makes principals."""

    def __init__(self, names: Mapping[str, Iterable[str]]) -> None:
        """`names` maps each word that is no public name itself, such as an alias, to the public names it stands for."""
        self._names = names

    def of_key(self, key: Key) -> Principal:
        """Return the principal of a key."""
        return self.make(
            key.id,
            self.opened(key.models),
            team=key.team,
            priority=key.priority,
            limits=key.limits,
            shadow_limits=key.shadow_limits,
            model_limits=key.model_limits,
            networks=tuple(map(_network, key.networks)),
            measured=key.metrics,
        )

    def make(
        self,
        key_id: str,
        models: frozenset[str] | None,
        *,
        team: str | None,
        priority: Priority = "default",
        limits: Limits = _NO_LIMITS,
        shadow_limits: Limits = _NO_LIMITS,
        model_limits: Iterable[ModelLimits] = (),
        networks: tuple[IPv4Network | IPv6Network, ...] = (),
        measured: bool = False,
    ) -> Principal:
        """Return a principal; `models` are public names, None for all of them."""
        at_model: dict[str, tuple[Rule, ...]] = {}
        for section in model_limits:
            for model in self._names.get(section.model, (section.model,)):
                at_model[model] = rules_of(f"key:{key_id}@{model}", section, _NO_LIMITS)
        return Principal(
            key_id,
            models,
            team=team,
            priority=priority,
            limits=rules_of(f"key:{key_id}", limits, shadow_limits),
            model_limits=at_model,
            networks=networks,
            measured=measured,
        )

    def opened(self, words: Iterable[str]) -> frozenset[str] | None:
        """Return the public names that these words open, None for all there are."""
        words = tuple(words)
        if "*" in words:
            return None
        return frozenset(chain.from_iterable(self._names.get(word, (word,)) for word in words))


@lru_cache(maxsize=1024)
def _network(text: str) -> IPv4Network | IPv6Network:
    return ip_network(text)
