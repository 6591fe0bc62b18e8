"""Who a call is made for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING, NamedTuple

from gateway.config.limits import Priority
from gateway.limits.rules import Rule

if TYPE_CHECKING:
    from gateway.limits.script import RuleSet


class Row(NamedTuple):
    """The fields of one key at one model in the books of usage."""

    requests: bytes
    prompt_tokens: bytes
    cached_tokens: bytes
    completion_tokens: bytes
    milliseconds: bytes
    money: bytes


@dataclass(frozen=True, slots=True, eq=False)
class Principal:
    """The holder of an API key, by the key's id; the key and its digest are not part of it."""

    key_id: str
    models: frozenset[str] | None
    """Public model names this principal may use; None for all of them."""
    team: str | None = None
    priority: Priority = "default"
    limits: tuple[Rule, ...] = ()
    model_limits: Mapping[str, tuple[Rule, ...]] = field(default_factory=dict)
    """Public model name → the rules of this key at that model."""
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Where its calls must come from; without any, from anywhere."""
    measured: bool = False
    """Its calls and tokens are counted in metrics of their own."""
    rule_sets: dict[str, RuleSet] = field(default_factory=dict, repr=False)
    """Model → all rules of a call, once one has been made."""
    rows: dict[str, Row] = field(default_factory=dict, repr=False)
    """Model → `row` of it, likewise."""

    def may_use(self, name: str) -> bool:
        """Say whether the model of this public name is visible to the principal."""
        return self.models is None or name in self.models

    def row(self, model: str) -> Row:
        """Return this principal's row for a model in the books of usage: `key|team|model|what`."""
        row = f"{self.key_id}|{self.team or ''}|{model}|".encode()
        fields = self.rows[model] = Row._make(row + name.encode() for name in Row._fields)
        return fields
