"""Who a call is made for."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Principal:
    """The holder of an API key, by the key's id; the key and its digest are not part of it."""

    key_id: str
    models: frozenset[str] | None
    """Public model names this principal may use; None for all of them."""

    def may_use(self, name: str) -> bool:
        """Say whether the model of this public name is visible to the principal."""
        return self.models is None or name in self.models
