"""Child executions: what one is made of, for whoever keeps its parent's journal."""

from __future__ import annotations

from kitaru_registry.database import Database
from kitaru_registry.errors import KitaruContextError
from kitaru_registry.executions.creating import NewExecution
from kitaru_registry.executions.queue import Claim
from kitaru_registry.models import ExecutionId
from kitaru_runner.presence import wake
from kitaru_runner.protocol import ChildRequest


class Children:
    """Of executions that a runner serves (recording.Children)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def prepare(self, parent: Claim, request: ChildRequest) -> NewExecution:
        """See recording.Children."""
        raise KitaruContextError(f"child flow {request.flow} cannot be started by {parent.exec_id}")

    def begin(self, exec_id: ExecutionId) -> None:
        """A runner of this home claims it."""
        wake(self._database.home)
