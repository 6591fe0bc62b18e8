"""A LiteLLM proxy's configuration as a models file: its SageMaker entries, and a word on all that is left out.

https://docs.litellm.ai/docs/proxy/configs, https://docs.litellm.ai/docs/providers/aws_sagemaker

    text of config.yaml ─▶ converted ─▶ Converted(file, left out) ─▶ written: YAML that `lmi-gateway check` takes

What LiteLLM does not say, which container is behind an endpoint, the caller of this says for all of them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from gateway.config.kinds import kind_of
from gateway.config.limits import Prices
from gateway.config.litellm_entries import PROVIDERS, Entry, Notes, entry_of
from gateway.config.models import Model
from gateway.config.names import PublicName

MAX_ALIASES = 100
MASTER_KEY = "litellm-master"


class Unreadable(Exception):
    """The text is no configuration of LiteLLM's; the message says why."""


@dataclass(frozen=True, slots=True)
class Behind:
    """What is behind the endpoints, which LiteLLM's configuration does not say."""

    container: str
    version: str
    region: str | None = None
    """For entries that name none; without it the environment's, as LiteLLM has it."""


@dataclass(slots=True)
class Converted:
    """A models file, as plain values, and what did not find its way into it."""

    file: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    """What is left out or has to be looked at, one sentence each; no secrets."""


def converted(text: str, behind: Behind, environ: Mapping[str, str]) -> Converted:
    """Return what a configuration's SageMaker entries are here.

    Args:
        environ: for values that LiteLLM takes from variables (`os.environ/NAME`).

    Raises:
        Unreadable: it is no mapping, or holds no entry of SageMaker's that can be served.
    """
    config = _mapping(text)
    notes = Notes({**environ, **dict(_variables(config))})
    entries: dict[str, list[Entry]] = {}
    for at, given in enumerate(_list(config.get("model_list"))):
        entry = entry_of(at, given, behind.container, behind.version, behind.region, notes)
        if entry is not None:
            entries.setdefault(entry.name, []).append(entry)
    router, general = _section(config, "router_settings"), _section(config, "general_settings")
    library = _section(config, "litellm_settings")
    aliases = _aliases(router, entries, notes)
    attempts = _attempts(router, library, notes)
    models = [_model(name, group, aliases.get(name, []), attempts, notes) for name, group in entries.items()]
    if not models:
        raise Unreadable(
            "there is no entry with " + " or ".join(f"`{name}/…`" for name in PROVIDERS) + " in model_list"
        )
    for name in sorted(set(config) - {"model_list", "environment_variables", *_READ}):
        notes.add(f"{name}: left out")
    file: dict[str, Any] = {}
    key = _master_key(general, notes)
    if key is not None:
        file["keys"] = [{"id": MASTER_KEY, "digest": f"sha256:{key}", "models": ["*"]}]
    _leftovers(router, library, general, notes)
    file["models"] = models
    return Converted(file, notes.sentences)


def written(result: Converted, source: str) -> str:
    """Return the file as YAML, what was left out in front of it."""
    lines = [f"# Made from {source} by `lmi-gateway import litellm`. Look through it before you serve it."]
    if result.notes:
        lines += ["#", "# Left out, or to be looked at:"] + [f"# - {note}" for note in result.notes]
    return "\n".join(lines) + "\n\n" + yaml.safe_dump(result.file, sort_keys=False, allow_unicode=True, width=110)


_READ = ("router_settings", "general_settings", "litellm_settings")
_DROPPED = {
    "router_settings": {
        "fallbacks": "calls do not go on to another model",
        "context_window_fallbacks": "calls do not go on to another model",
        "default_fallbacks": "calls do not go on to another model",
        "routing_strategy": "deployments of a model share its calls by weight",
    },
    "litellm_settings": {
        "fallbacks": "calls do not go on to another model",
        "cache": "answers are not cached",
        "drop_params": "fields that a container cannot do are refused by name; see unknown_fields",
        "success_callback": "see the docs on metrics, tracing and usage records",
        "callbacks": "see the docs on metrics, tracing and usage records",
    },
    "general_settings": {
        "database_url": "virtual keys stay behind; their `token` in LiteLLM's table is the SHA-256 that `digest` wants",
    },
}


def _leftovers(router: dict[str, Any], library: dict[str, Any], general: dict[str, Any], notes: Notes) -> None:
    done = {"model_group_alias", "num_retries", "master_key"}
    for section, fields in (("router_settings", router), ("litellm_settings", library), ("general_settings", general)):
        for name in fields:
            if name not in done:
                reason = _DROPPED[section].get(str(name))
                notes.add(f"{section}.{notes.word(name)}: left out" + (f"; {reason}" if reason else ""))


def _model(name: str, group: list[Entry], aliases: list[str], attempts: int | None, notes: Notes) -> dict[str, Any]:
    """Return a model of the file, made of all entries of its name."""
    model: dict[str, Any] = {"name": name}
    if aliases:
        model["aliases"] = aliases
    for fact, of_all in (("context_length", min), ("modalities", min)):
        told = [entry.model[fact] for entry in group if fact in entry.model]
        if told:
            model[fact] = of_all(told, key=len) if fact == "modalities" else of_all(told)
            if len({str(one) for one in told}) > 1:
                notes.add(f"{name}: its entries differ in {fact}; the least is taken")
    prices = [entry.prices for entry in group if entry.prices]
    if prices:
        model["prices"] = _valid_prices(name, prices[0], notes)
        if any(other != prices[0] for other in prices):
            notes.add(f"{name}: its entries differ in prices; those of the first are taken")
    at_once = [entry.at_once for entry in group if entry.at_once]
    if at_once:
        model["limits"] = {"concurrent_requests": sum(at_once)}
        notes.add(f"{name}: max_parallel_requests became concurrent_requests of the model; `waiting` lets calls queue")
    timeouts = {}
    for bound in ("first_byte_s", "total_s"):
        told = [entry.timeouts[bound] for entry in group if bound in entry.timeouts]
        if told:
            timeouts[bound] = max(told)
    if timeouts:
        model["timeouts"] = timeouts
    tries = [entry.attempts for entry in group if entry.attempts] or ([attempts] if attempts else [])
    if tries:
        model["attempts"] = max(tries)
    shares = [entry.share for entry in group]
    weights = _weights(shares) if any(shares) else [1] * len(group)
    if not all(weights):
        notes.add(f"{name}: entries without weight, rpm or tpm get none of its calls (weight 0), as in LiteLLM")
    model["deployments"] = [
        {**entry.deployment, **({"weight": weight} if weight != 1 else {})}
        for entry, weight in zip(group, weights, strict=True)
    ]
    return {key: value for key, value in model.items() if value is not None and key in Model.model_fields}


def _weights(shares: list[float]) -> list[int]:
    """Return whole weights up to 1000 in the proportion of `shares`; an entry without one gets no calls, as there."""
    most = max(shares)
    whole = [round(share * 1000 / most) if most > 1000 or share % 1 else int(share) for share in shares]
    weights = [max(1, weight) if share else 0 for weight, share in zip(whole, shares, strict=True)]
    by = math.gcd(*weights) or 1
    return [weight // by for weight in weights]


def _valid_prices(name: str, prices: dict[str, float], notes: Notes) -> dict[str, float] | None:
    try:
        Prices.model_validate(prices)
    except ValidationError:
        notes.add(f"{name}: its prices are left out, as they are out of range")
        return None
    return prices


def _aliases(router: dict[str, Any], entries: dict[str, list[Entry]], notes: Notes) -> dict[str, list[str]]:
    """Return the aliases of each model."""
    found: dict[str, list[str]] = {}
    given = router.get("model_group_alias") or {}
    for alias, meant in given.items() if isinstance(given, dict) else ():
        target = meant.get("model") if isinstance(meant, dict) else meant
        if target not in entries:
            notes.add(f"alias {notes.word(alias)}: left out; it means no model of SageMaker's")
        elif alias in entries or any(alias in others for others in found.values()):
            notes.add(f"alias {notes.word(alias)}: left out; a model has this name")
        elif not public(alias):
            notes.add(f"alias {notes.word(alias)}: left out; expected {kind_of(PublicName).words}")
        else:
            found.setdefault(str(target), []).append(str(alias))
    return found


def _attempts(router: dict[str, Any], library: dict[str, Any], notes: Notes) -> int | None:
    retries = router.get("num_retries", library.get("num_retries"))
    return notes.attempts("num_retries", retries)


def _master_key(general: dict[str, Any], notes: Notes) -> str | None:
    """Return the SHA-256 of the proxy's own key."""
    given = general.get("master_key")
    if given is None:
        return None
    key = notes.value("general_settings.master_key", given)
    if not isinstance(key, str) or not key:
        return None
    notes.add(f"general_settings.master_key became the key {MASTER_KEY!r}, by its digest: callers may go on using it")
    return hashlib.sha256(key.encode()).hexdigest()


def public(name: object) -> bool:
    """Say whether a name may be a model's."""
    try:
        TypeAdapter(PublicName).validate_python(name, strict=True)
    except ValidationError:
        return False
    return True


# Reading


def _mapping(text: str) -> dict[str, Any]:
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise Unreadable("not valid YAML" + (f" in line {mark.line + 1}" if mark else "")) from None
    except RecursionError:
        raise Unreadable("not valid YAML: too deep") from None
    if not isinstance(config, dict) or not isinstance(config.get("model_list"), list):
        raise Unreadable("expected a mapping with a list model_list")
    return config


def _variables(config: dict[str, Any]) -> Iterator[tuple[str, str]]:
    given = config.get("environment_variables")
    for name, value in given.items() if isinstance(given, dict) else ():
        if isinstance(name, str) and isinstance(value, str):
            yield name, value


def _section(config: dict[str, Any], name: str) -> dict[str, Any]:
    found = config.get(name)
    return found if isinstance(found, dict) else {}


def _list(found: object) -> list[Any]:
    return found if isinstance(found, list) else []
