"""What a key may name: the models and teams of the configuration."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.config.load import Config
from gateway.config.lora import every_adapter, public_name
from gateway.config.models import Key, with_adapters
from gateway.errors import InvalidRequest


@dataclass(frozen=True, slots=True)
class Known:
    """Names that exist."""

    models: frozenset[str]
    """Public names and aliases."""
    groups: frozenset[str]
    """`model:*` for every model that has adapters."""
    teams: frozenset[str]
    file_ids: frozenset[str]
    """Ids of the file's keys, which keys in Redis cannot have."""

    def check(self, key: Key) -> None:
        """Check what a key names.

        Raises:
            InvalidRequest: something does not exist; `param` says where.
        """
        for at, name in enumerate(key.models):
            if name != "*" and name not in self.models and name not in self.groups:
                raise InvalidRequest(f"The model {name!r} does not exist.", param=f"models[{at}]")
        for at, section in enumerate(key.model_limits):
            if section.model not in self.models:
                raise InvalidRequest(f"The model {section.model!r} does not exist.", param=f"model_limits[{at}].model")
        if key.team is not None and key.team not in self.teams:
            raise InvalidRequest(f"The team {key.team!r} does not exist.", param="team")


def known(config: Config) -> Known:
    """Return what the keys of a configuration may name."""

    def names() -> Iterable[str]:
        for base in config.models:
            for model, _ in with_adapters(base):
                yield from (model.name, *model.aliases)

    return Known(
        frozenset(names()),
        frozenset(every_adapter(model.name) for model in config.models if model.adapters),
        frozenset(team.name for team in config.teams),
        frozenset(key.id for key in config.keys),
    )


def names_of(config: Config) -> dict[str, tuple[str, ...]]:
    """Return the words by which keys name models without saying their public names."""
    names: dict[str, tuple[str, ...]] = {
        alias: (model.name,) for base in config.models for model, _ in with_adapters(base) for alias in model.aliases
    }
    for model in config.models:
        adapters = tuple(public_name(model.name, adapter.name) for adapter in model.adapters)
        names[every_adapter(model.name)] = adapters
    return names
