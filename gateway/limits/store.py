"""What the gateway asks of a store of limits, whichever it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from gateway.limits.rules import Amounts, Rule, Verdict
from gateway.limits.script import RuleSet

Policy = Literal["open", "closed", "local"]
"""What happens while Redis is away: everybody is served, nobody, or each process admits its share of every limit."""


@dataclass(slots=True)
class Reservation:
    """A store's answer to one call, to be settled if it is admitted."""

    rules: RuleSet
    ask: Amounts
    verdict: Verdict
    shared: bool
    """The verdict is that of all processes; otherwise it is this process' own, because Redis is away."""


class Unavailable(Exception):
    """Nobody can say whether the call is within its limits, and by the policy it then is not served."""


class LimitStore(Protocol):
    """Counts for all limits."""

    def rule_set(self, rules: Sequence[Rule]) -> RuleSet:
        """Prepare the rules of a kind of call; to be kept by the caller."""
        ...

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def reserve(self, rules: RuleSet, ask: Amounts) -> Reservation:
        """Check all limits of a call, and charge them all if it is admitted.

        A caller that is cancelled meanwhile has reserved nothing.

        Raises:
            Unavailable: by the policy for times without Redis.
        """
        ...

    def settle(self, reservation: Reservation, used: Amounts, books: Mapping[bytes, int]) -> None:
        """Put what a call used in the place of what was reserved. To be called once for each that was admitted.

        Args:
            books: what to add to which row of the day's books.
        """
        ...


class StoreObserver(Protocol):
    """Who wants to know how the store is."""

    def redis_latency(self, seconds: float) -> None: ...

    def redis_failed(self, reason: str) -> None:
        """A connection was given up, or not made. `reason` is a word of a short list."""
        ...

    def redis_state(self, up: bool) -> None: ...

    def decided_alone(self) -> None:
        """A call was judged without Redis."""
        ...
