"""How often the gateway may try again, over all calls.

Retries are what turns an upstream's hiccup into its outage; so they are a fixed share of the work, as in Envoy's retry
budget: https://www.envoyproxy.io/docs/envoy/latest/api-v3/config/cluster/v3/circuit_breaker.proto
"""

from __future__ import annotations

import random

FIRST_PER_FURTHER = 10
"""First attempts that allow one further attempt, in the long run: retries are a tenth of the work."""
RESERVE = 3
"""Further attempts that are possible at once after a quiet time."""
BACKOFF_S = 0.2


class RetryBudget:
    """A bucket that every first attempt fills by one token; a further attempt costs `FIRST_PER_FURTHER`."""

    def __init__(self) -> None:
        self._tokens = RESERVE * FIRST_PER_FURTHER

    def first_attempt(self) -> None:
        if self._tokens < RESERVE * FIRST_PER_FURTHER:
            self._tokens += 1

    def spend(self) -> bool:
        """Take one further attempt, or return False."""
        if self._tokens < FIRST_PER_FURTHER:
            return False
        self._tokens -= FIRST_PER_FURTHER
        return True


def backoff_s(attempt: int) -> float:
    """Return how long to wait before attempt number `attempt` (2, 3, …): exponential, with full jitter."""
    return random.uniform(0.0, BACKOFF_S * 2 ** (attempt - 2))  # noqa: S311 - jitter, not secrecy
