"""URLs that name a model: `/models/{name}/generate`, `/openai/deployments/{name}/chat/completions`.

A name may hold slashes. So what a URL asks for is read from its end, and all before that is the name, with whatever of
it was percent-encoded decoded.
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from typing import Any, Protocol


class Route(Protocol):
    """A handler of `Frontend.hot_routes` that can be told the model that the URL names."""

    def __call__(self, scope: Any, receive: Any, name: str | None = None, /) -> Coroutine[Any, Any, Any]: ...


class NamedRoutes:
    """The routes below one folder."""

    def __init__(self, folder: str, routes: Mapping[str, Route], otherwise: Route) -> None:
        """`folder` and what follows the name in `routes` begin and end as in a URL: `/models/` and `/generate`."""
        self.path = folder
        self._routes = sorted(routes.items(), key=lambda item: -len(item[0]))  # /chat/completions before /completions
        self._otherwise = otherwise

    @property
    def endings(self) -> list[str]:
        """What may follow a model's name."""
        return [ending for ending, _ in self._routes]

    async def __call__(self, scope: Any, receive: Any) -> Any:
        rest = scope["path"].removeprefix(self.path).removesuffix("/")
        for ending, route in self._routes:
            if len(rest) > len(ending) and rest.endswith(ending):
                return await route(scope, receive, rest[: len(rest) - len(ending)])
        return await self._otherwise(scope, receive)
