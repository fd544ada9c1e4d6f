"""What a runner serves executions from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from kitaru_registry.database import Database
from kitaru_registry.executions import queue
from kitaru_registry.executions.journal import JournalWriter
from kitaru_registry.home import Home
from kitaru_registry.stores.layout import OciLayout
from kitaru_runner.faults import Faults


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
