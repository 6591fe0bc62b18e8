"""`GET /admin/limits`: which limits keys, teams and models have, and what of each is taken now."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Any

from litestar import Response, get
from litestar.handlers import HTTPRouteHandler

from gateway.auth.principals import Principals
from gateway.config.load import Config
from gateway.config.models import Key
from gateway.errors import GatewayError
from gateway.limits.looks import Looks
from gateway.limits.plan import rules_of
from gateway.limits.rules import Rule, Taken
from gateway.limits.usage import Unreadable

MAX_RULES = 2_000
"""Of an answer: Redis is asked for each."""
Keys = Callable[[], Awaitable[Iterable[Key]]]


def limits_route(config: Config, principals: Principals, keys: Keys | None, looks: Looks) -> HTTPRouteHandler:
    """Return the handler. `keys` are those beside the file's; None where there are none."""

    @get("/admin/limits")
    async def limits() -> Response[dict[str, Any]]:
        found, problem = list(config.keys), None
        if keys is not None:
            try:
                found += await keys()
            except GatewayError as error:
                problem = f"Keys in Redis cannot be read: {error}"
        rules = list(_rules(config, principals, found))
        shown = rules[:MAX_RULES]
        taken: list[Taken] | None = None
        try:
            taken = await looks.taken([rule for *_, rule in shown])
        except Unreadable as error:
            problem = f"What is used of limits cannot be told: {error}."
        answer = {
            "limits": [_shown(*rule, None if taken is None else taken[at]) for at, rule in enumerate(shown)],
            "total": len(rules),
            "keys": [{"id": key.id, "team": key.team} for key in found],
            "tokens": bool(config.issuers),
            "problem": problem,
        }
        return Response(answer, headers={"cache-control": "no-store"})

    return limits


def _rules(config: Config, principals: Principals, keys: Iterable[Key]) -> Iterator[tuple[str, str, str | None, Rule]]:
    """Yield whose a rule is: key, team or model; its name; of a key at one model the model; and the rule."""
    for key in keys:
        principal = principals.of_key(key)
        yield from (("key", key.id, None, rule) for rule in principal.limits)
        for at, rules in principal.model_limits.items():
            yield from (("key", key.id, at, rule) for rule in rules)
    for team in config.teams:
        rules = rules_of(f"team:{team.name}", team.limits, team.shadow_limits)
        yield from (("team", team.name, None, rule) for rule in rules)
    for model in config.models:
        rules = rules_of(f"model:{model.name}", model.limits, model.shadow_limits)
        yield from (("model", model.name, None, rule) for rule in rules)


def _shown(scope: str, name: str, model: str | None, rule: Rule, taken: Taken | None) -> dict[str, Any]:
    return {
        "scope": scope,
        "name": name,
        "model": model,
        "limit": rule.kind.word,
        "amount": rule.amount,
        "most": rule.burst,
        "shadow": rule.shadow,
        "taken": None if taken is None else taken.amount,
        "reserved": None if taken is None else taken.reserved,
    }
