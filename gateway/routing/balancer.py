"""Weighted choice among a model's deployments: smooth weighted round robin, as nginx does it.

https://github.com/phusion/nginx/commit/27e94984486058d73157038f7950a0a36ecc6e35
"""

from __future__ import annotations

from collections.abc import Sequence

from gateway.routing.lane import Lane


class Balancer:
    """Chooses lanes in proportion to their weights, spread as evenly as can be."""

    def __init__(self, lanes: Sequence[Lane]) -> None:
        self._lanes = [lane for lane in lanes if lane.weight > 0]
        self._current = [0] * len(self._lanes)

    def choose(self, tried: Sequence[Lane]) -> Lane:
        """Return the next lane; one not in `tried`, as long as there is one."""
        lanes = self._lanes
        if len(lanes) == 1:
            return lanes[0]
        open_lanes = [index for index, lane in enumerate(lanes) if lane not in tried] or range(len(lanes))
        best, total = -1, 0
        for index in open_lanes:
            weight = lanes[index].weight
            total += weight
            self._current[index] += weight
            if best < 0 or self._current[index] > self._current[best]:
                best = index
        self._current[best] -= total
        return lanes[best]
