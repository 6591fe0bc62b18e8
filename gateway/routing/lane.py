"""One way to a model: a deployment, prepared for calling, and the adapter for what runs there."""

from __future__ import annotations

from dataclasses import dataclass

from adapters.base import Adapter
from gateway.sagemaker.transport import Target


@dataclass(frozen=True, slots=True, eq=False)
class Lane:
    target: Target
    adapter: Adapter
    weight: int
    stops: bool = False
    """The container stops generating when its caller leaves."""
