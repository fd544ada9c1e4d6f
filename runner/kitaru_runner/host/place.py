"""What a runner serves executions from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from kitaru_registry.database.opening import Database
from kitaru_registry.errors import KitaruBackendError
from kitaru_registry.executions import queue
from kitaru_registry.executions.attempt_journal import RegistryJournal
from kitaru_registry.executions.journal import JournalWriter
from kitaru_registry.home import Home
from kitaru_registry.stores.layout import OciLayout
from kitaru_runner.host.children import Children
from kitaru_runner.host.faults import Faults
from kitaru_runner.host.variables import Variables


@dataclass(frozen=True)
class Place:
    """Shared by all that one runner serves."""

    home: Home
    database: Database
    writer: JournalWriter
    store: OciLayout
    lease_seconds: int = queue.LEASE_SECONDS
    faults: Faults = field(default_factory=Faults)
    variables: Variables = field(default_factory=Variables)
    ring: Callable[[], None] = lambda: None
    """Lets the runner look: something has changed that it was not told of."""
    tell: Callable[[str], None] = lambda _: None
    """Says in the runner's own log what can be said nowhere else."""

    def variables_of(self, claim: queue.Claim, names: Sequence[str]) -> dict[str, str]:
        """The declared variables that the execution is to see.

        Raises:
            KitaruBackendError: one is missing that whoever made it had.
        """
        whose = (claim.exec_id, claim.digest or "", f"{claim.project}/{claim.flow}")
        found = self.variables.of(whose, names)
        missing = [name for name in claim.variables if name not in found]
        if missing:
            raise KitaruBackendError(
                f"it needs {', '.join(missing)}, which the runner does not have",
                hint=f"{' '.join(f'{name}=...' for name in missing)} kitaru executions resume {claim.exec_id}",
            )
        return found

    def journal_of(self, claim: queue.Claim, code: str) -> RegistryJournal:
        return RegistryJournal(
            self.database, self.writer, claim, stays=False, code=code, children=Children(self.database),
            lease_seconds=self.lease_seconds,
        )  # fmt: skip
