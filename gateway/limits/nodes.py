"""Where a Redis may be found: one address, or the nodes of a cluster, of which one has all keys of a gateway."""

from __future__ import annotations

import random
import re
from collections.abc import Iterable
from typing import Any

from gateway.limits import script
from gateway.limits.wire import Address

MAX_NODES = 64
_MOVED = re.compile(r"MOVED [0-9]+ ([^ ]*):([0-9]{1,5})$")
CLUSTER_SLOTS = script.command([b"CLUSTER", b"SLOTS"])
"""Its answer is for `Nodes.learn`; a Redis that is no cluster answers with an error."""


class Nodes:
    """Addresses, and which one comes next."""

    def __init__(self, addresses: Iterable[Address]) -> None:
        self._addresses = list(addresses)
        self._moved: Address | None = None

    @property
    def moved(self) -> bool:
        """A node has said which other one it is."""
        return self._moved is not None

    def next(self) -> Address:
        """Return where to go: to the node that was named, else to any of them."""
        moved, self._moved = self._moved, None
        return moved or random.choice(self._addresses)  # noqa: S311 - any of them will do

    def note(self, error: Exception) -> None:
        """Go next to where a node of a cluster says that our keys are, if it does: `MOVED 3999 127.0.0.1:6381`."""
        found = _MOVED.match(str(error))
        if found is not None:
            self._moved = self._addresses[0].at(found[1], int(found[2]))

    def learn(self, address: Address, slots: Any) -> None:
        """Keep every node that `address` tells of as a place to begin anew, should it be gone itself."""
        if not isinstance(slots, list):
            return
        known = {(one.host, one.port) for one in self._addresses}
        for _, _, *nodes in slots:
            for host, port, *_ in nodes:
                name = host.decode() if isinstance(host, bytes) else ""
                if name and (name, port) not in known and len(known) < MAX_NODES:
                    known.add((name, port))
                    self._addresses.append(address.at(name, port))
