"""The faults that wait for calls, and which of them a call takes."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

from deploy.local.faultbase import Fault, Role
from deploy.local.faults import parse
from deploy.local.members import STREAM, WHOLE, Operation

F = TypeVar("F", bound=Fault)
BESIDE_AN_ANSWER: frozenset[Role] = frozenset({"delay", "head", "then"})
"""The roles that matter to a call whose answer is itself a fault."""


@dataclass(slots=True)
class Waiting:
    """A fault, whom it is for, and how often it still acts."""

    id: int
    fault: Fault
    endpoint: str | None
    operation: Operation | None
    left: int | None
    """None: every call."""
    probability: float
    dice: random.Random

    def fits(self, endpoint: str, operation: Operation) -> bool:
        return (
            self.left != 0
            and self.endpoint in (None, endpoint)
            and self.operation in (None, operation)
            and self.fault.operation in (None, operation)
        )

    def happens(self) -> bool:
        """Throw the dice."""
        return self.probability >= 1 or self.dice.random() < self.probability


@dataclass(frozen=True, slots=True)
class Plan:
    """What goes wrong with one call."""

    faults: tuple[Fault, ...] = ()
    cleared: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the faults are cleared; it lets stalled calls go on."""

    def one(self, role: Role) -> Fault | None:
        """Return the fault of that role, if any."""
        return next((fault for fault in self.faults if fault.role == role), None)

    def first(self, kind: type[F]) -> F | None:
        """Return the fault of that kind, if any."""
        return next((fault for fault in self.faults if isinstance(fault, kind)), None)


class FaultList:
    """Waiting faults, in the order they were added."""

    def __init__(self) -> None:
        self._waiting: list[Waiting] = []
        self._ids = itertools.count(1)
        self._cleared = asyncio.Event()

    def add(
        self,
        fault: Fault | Mapping[str, object],
        *,
        endpoint: str | None = None,
        operation: str | None = None,
        times: int | None = 1,
        probability: float = 1.0,
        seed: int | None = None,
    ) -> int:
        """Let the next `times` fitting calls (None: every one) fail, each with that probability; return an id.

        A call spared by chance does not count; `seed` makes chance repeatable.

        Raises:
            ValueError: an option is unknown or out of its range.
        """
        fault = fault if isinstance(fault, Fault) else parse(fault)
        if operation not in (None, WHOLE, STREAM):
            raise ValueError(f"unknown operation {operation!r}: use {WHOLE} or {STREAM}")
        if operation is not None and fault.operation not in (None, operation):
            raise ValueError(f"{fault.kind} cannot act on {operation}")
        if times is not None and times < 1:
            raise ValueError("times must be at least 1, or null for every call")
        if not 0 < probability <= 1:
            raise ValueError("probability must be above 0 and at most 1")
        chosen = WHOLE if operation == WHOLE else STREAM if operation == STREAM else None
        dice = random.Random(seed)  # noqa: S311 - repeatable, not secret
        waiting = Waiting(next(self._ids), fault, endpoint, chosen, times, probability, dice)
        self._waiting.append(waiting)
        return waiting.id

    def remove(self, fault_id: int) -> bool:
        """Forget one fault; return whether it was there."""
        before = len(self._waiting)
        self._waiting = [waiting for waiting in self._waiting if waiting.id != fault_id]
        return len(self._waiting) < before

    def clear(self) -> None:
        """Forget all faults, and let calls that a fault holds up go on."""
        self._waiting = []
        self._cleared.set()
        self._cleared = asyncio.Event()

    def waiting(self) -> list[Waiting]:
        """Return the faults that may still act."""
        return list(self._waiting)

    def take(self, endpoint: str, operation: Operation) -> Plan:
        """Return what goes wrong with a call, counting it."""
        if not self._waiting:
            return Plan(cleared=self._cleared)
        fitting = [waiting for waiting in self._waiting if waiting.fits(endpoint, operation) and waiting.happens()]
        answer = next((waiting for waiting in fitting if waiting.fault.role == "answer"), None)
        taken: list[Fault] = []
        roles: set[Role] = set()
        for waiting in fitting:
            role = waiting.fault.role
            if role in roles or (answer is not None and waiting is not answer and role not in BESIDE_AN_ANSWER):
                continue
            if waiting.left is not None:
                waiting.left -= 1
            taken.append(waiting.fault)
            if role != "head":
                roles.add(role)
        self._waiting = [waiting for waiting in self._waiting if waiting.left != 0]
        return Plan(tuple(taken), self._cleared)
