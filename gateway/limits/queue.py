"""Whose turn it is when a model has room again: classes first, and within a class every key gets the same share.

Deficit round robin (Shreedhar and Varghese, SIGCOMM 1995): each round a key may take as much work as any other, and
what it cannot use of that because its next call is larger, it keeps for the following round. So a key with large calls,
or with many, does not push the others back.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Generic, Literal, TypeVar

T = TypeVar("T")
Priority = Literal["high", "default", "low"]
PRIORITIES: tuple[Priority, ...] = ("high", "default", "low")
QUANTUM = 1024
"""Work of one round, in tokens."""


class _Flow(Generic[T]):
    """The waiting calls of one key."""

    __slots__ = ("credit", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[tuple[T, int]] = deque()
        self.credit = 0


class FairQueue(Generic[T]):
    """A bounded queue of waiting calls."""

    def __init__(self, most: int) -> None:
        """`most` calls may wait."""
        self._most = most
        self._classes: dict[Priority, OrderedDict[str, _Flow[T]]] = {name: OrderedDict() for name in PRIORITIES}
        self._size = 0

    def __len__(self) -> int:
        return self._size

    @property
    def full(self) -> bool:
        return self._size >= self._most

    def add(self, item: T, key: str, priority: Priority, cost: int) -> bool:
        """Take a call that waits, at the end of its key's own line; return False if the queue is full.

        Args:
            cost: the work it means, in tokens.
        """
        if self.full:
            return False
        self._classes[priority].setdefault(key, _Flow()).waiting.append((item, max(1, cost)))
        self._size += 1
        return True

    def take(self) -> T | None:
        """Return the call whose turn it is, and let it go; None if none waits."""
        for flows in self._classes.values():
            while flows:
                key, flow = next(iter(flows.items()))
                item, cost = flow.waiting[0]
                if flow.credit < cost:
                    # Whole rounds in which nobody could go are one step: each key gets its share of all of them.
                    self._deal(flows)
                    continue
                flow.credit -= cost
                flow.waiting.popleft()
                self._size -= 1
                if not flow.waiting:
                    del flows[key]
                elif flow.credit < flow.waiting[0][1]:
                    flows.move_to_end(key)
                return item
        return None

    def remove(self, item: T, key: str, priority: Priority) -> bool:
        """Let a call go that does not want to wait any more; return whether it was still waiting."""
        flows = self._classes[priority]
        flow = flows.get(key)
        if flow is None:
            return False
        for entry in flow.waiting:
            if entry[0] is item:
                flow.waiting.remove(entry)
                self._size -= 1
                if not flow.waiting:
                    del flows[key]
                return True
        return False

    def _deal(self, flows: OrderedDict[str, _Flow[T]]) -> None:
        """Go round until the credit of some key suffices, and put the first such key in front."""
        rounds = min(-(-(flow.waiting[0][1] - flow.credit) // QUANTUM) for flow in flows.values())
        for _, flow in flows.items():
            flow.credit += max(0, rounds) * QUANTUM
        for key, flow in list(flows.items()):
            if flow.credit >= flow.waiting[0][1]:
                flows.move_to_end(key, last=False)
                return
