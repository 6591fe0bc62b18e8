"""Limits as the configuration says them, put together."""

from __future__ import annotations

import time

from gateway.config.load import Config
from gateway.config.models import with_adapters
from gateway.limits.admission import Admission, LimitObserver, ModelTerms
from gateway.limits.memory import MemoryLimits
from gateway.limits.plan import Plans, rules_of
from gateway.limits.redis import RedisLimits
from gateway.limits.rules import Rule
from gateway.limits.store import LimitStore, StoreObserver
from gateway.limits.wire import Address

DAY_S = 86_400


def make_store(config: Config, observer: StoreObserver) -> LimitStore:
    """Return what counts; it is still to be started."""
    settings = config.settings
    if settings.limits_store == "memory" or settings.redis_url is None:
        return MemoryLimits(wall_ms, retention_days=settings.usage_days)
    ca_file = None if settings.redis_ca_bundle is None else str(settings.redis_ca_bundle)
    return RedisLimits(
        [Address(settings.redis_url, ca_file=ca_file)],
        prefix=settings.redis_prefix,
        policy=settings.redis_policy,
        timeout_s=settings.redis_timeout_s,
        lease_s=settings.lease_s,
        retention_s=settings.usage_days * DAY_S,
        clock_ms=wall_ms,
        observer=observer,
    )


def make_admission(config: Config, store: LimitStore, observer: LimitObserver) -> Admission:
    """Return the gate that every call goes through. A model's limits are those of its adapters, too."""
    models: dict[str, tuple[Rule, ...]] = {}
    terms: dict[str, ModelTerms] = {}
    for base in config.models:
        rules = rules_of(f"model:{base.name}", base.limits, base.shadow_limits)
        for model, _ in with_adapters(base):
            models[model.name] = rules
            terms[model.name] = ModelTerms(model.name, model.context_length, model.prices, model.waiting)
    teams = {team.name: rules_of(f"team:{team.name}", team.limits, team.shadow_limits) for team in config.teams}
    return Admission(store, Plans(teams, models), terms, observer)


def is_limited(config: Config) -> bool:
    """Say whether there is any limit at all."""
    sections = [section for key in config.keys for section in (key.limits, key.shadow_limits, *key.model_limits)]
    sections += [section for team in config.teams for section in (team.limits, team.shadow_limits)]
    sections += [section for model in config.models for section in (model.limits, model.shadow_limits)]
    return any(rules_of("", section, section) for section in sections)


def wall_ms() -> int:
    """Return Unix milliseconds."""
    return time.time_ns() // 1_000_000
