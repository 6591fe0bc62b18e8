"""The models a caller can name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from adapters.openai.request import FieldPolicy
from gateway.auth.principal import Principal
from gateway.config.models import Model
from gateway.errors import ModelNotFound
from gateway.media.policies import url_policy
from gateway.routing.balancer import Balancer
from gateway.routing.lane import Lane

MAX_SHOWN_NAME = 128


class ServedModel:
    """One public model: its configuration, its lanes, and what its callers may send."""

    __slots__ = ("balancer", "config", "lanes", "name", "parent", "policy")

    def __init__(self, config: Model, lanes: tuple[Lane, ...], *, parent: str | None = None) -> None:
        """`parent` is the public name of the model that this one is an adapter of."""
        self.config = config
        self.name = config.name
        self.parent = parent
        self.lanes = lanes
        self.balancer = Balancer(lanes)
        self.policy = FieldPolicy(
            unknown_fields=config.unknown_fields,
            allow_fields=frozenset(config.allow_fields),
            urls=url_policy(config),
            max_pixels=config.media.max_pixels,
            modalities=config.modalities,
            context_length=config.context_length,
        )


class Catalog:
    """Finds models by public name or alias."""

    def __init__(self, models: Iterable[ServedModel]) -> None:
        self._models = tuple(models)
        self._by_name = {name: model for model in self._models for name in (model.config.name, *model.config.aliases)}

    def find(self, name: str, principal: Principal) -> ServedModel:
        """Return the model of that name.

        Raises:
            ModelNotFound: there is none, or the key may not use it; which of the two, a caller cannot tell.
        """
        model = self._by_name.get(name)
        if model is None or not principal.may_use(model.name):
            raise _not_found(name)
        return model

    def find_adapter(self, base: str, adapter: str, principal: Principal) -> ServedModel:
        """Return an adapter of the model called `base`, or that model, if it is `adapter` that is called so.

        Args:
            adapter: what follows the colon in the adapter's name, or all of the name, or an alias.

        Raises:
            ModelNotFound: there is no such model, or it has no such adapter, or the key may not use it.
        """
        model = self._by_name.get(base)
        if model is not None:
            for name in (f"{model.name}:{adapter}", adapter):
                found = self._by_name.get(name)
                if found is not None and model.name in (found.name, found.parent) and principal.may_use(found.name):
                    return found
            if principal.may_use(model.name):
                raise _not_found(adapter)
        raise _not_found(base)

    def visible(self, principal: Principal) -> list[ServedModel]:
        """Return the models the key may use, in the order of the models file."""
        return [model for model in self._models if principal.may_use(model.name)]

    def __iter__(self) -> Iterator[ServedModel]:
        return iter(self._models)


def _not_found(name: str) -> ModelNotFound:
    return ModelNotFound(
        f"The model `{name[:MAX_SHOWN_NAME]}` does not exist or your key may not use it.", param="model"
    )
