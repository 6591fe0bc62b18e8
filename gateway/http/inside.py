"""What the administration, which has a thread of its own, may see of the process that serves, or of its workers."""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client import CollectorRegistry

from gateway.limits.memory import MemoryLimits
from gateway.limits.quick import QuickLedger
from gateway.limits.store import LimitStore
from gateway.telemetry.prometheus import PrometheusTelemetry, scrape_folder


@dataclass(slots=True)
class Inside:
    """Filled in when the application is built; everything in it may be read from another thread."""

    url: str = ""
    """Where callers are served, for callers on this machine."""
    limits: LimitStore | None = None
    """What this process' application counts limits in; None before it is built, and above several workers."""
    registry: CollectorRegistry | None = None
    """Its metrics, likewise."""
    telemetry: PrometheusTelemetry | None = None
    """What counts them, likewise."""
    recent: mmap.mmap | None = None
    """The ring of its last calls, likewise."""
    folder: Path | None = None
    """Where several workers write theirs."""

    def books(self) -> Mapping[int, Mapping[bytes, int]] | None:
        """Return the books that are kept in memory, None if there are none."""
        return self.limits.books if isinstance(self.limits, MemoryLimits) else None

    def ledger(self) -> QuickLedger | None:
        """Return the ledger that is kept in memory, None if there is none."""
        return self.limits.ledger if isinstance(self.limits, MemoryLimits) else None

    async def scrape(self, accept: str) -> tuple[bytes, str]:
        """Return the metrics of this process, or of its workers, and their content type."""
        if self.telemetry is not None:
            return await self.telemetry.scrape(accept)
        return await scrape_folder(self.folder or Path(os.devnull), accept)
