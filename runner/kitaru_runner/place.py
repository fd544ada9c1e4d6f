"""What a runner serves executions from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kitaru_registry.database import Database
from kitaru_registry.executions import queue
from kitaru_registry.executions.journal import JournalWriter
from kitaru_registry.home import Home
from kitaru_registry.stores.layout import OciLayout
from kitaru_runner.children import Children
from kitaru_runner.faults import Faults
from kitaru_runner.recording import RegistryJournal


@dataclass(frozen=True)
class Place:
    """Shared by all that one runner serves."""

    home: Home
    database: Database
    writer: JournalWriter
    store: OciLayout
    lease_seconds: int = queue.LEASE_SECONDS
    faults: Faults = field(default_factory=Faults)
    ring: Callable[[], None] = lambda: None
    """Lets the runner look: something has changed that it was not told of."""
    tell: Callable[[str], None] = lambda _: None
    """Says in the runner's own log what can be said nowhere else."""

    def journal_of(self, claim: queue.Claim, code: str) -> RegistryJournal:
        return RegistryJournal(
            self.database, self.writer, claim, stays=False, code=code, children=Children(self.database),
            lease_seconds=self.lease_seconds,
        )  # fmt: skip
