"""Child executions: what one is made of, for whoever keeps its parent's journal."""

from __future__ import annotations

import json

from kitaru_registry.database.opening import Database
from kitaru_registry.deployments.refs import parse_ref
from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.executions import families
from kitaru_registry.executions.creating import NewExecution
from kitaru_registry.executions.queue import Claim
from kitaru_registry.journal.entries import ChildRequest
from kitaru_registry.models import ExecutionId
from kitaru_runner.host.presence import wake


class Children:
    """Of executions that a runner serves (attempt_journal.Children)."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def prepare(self, parent: Claim, request: ChildRequest) -> NewExecution:
        """See attempt_journal.Children."""
        if request.entrypoint is None:
            return invoked(self._database, parent, request)
        return families.of_same_snapshot(
            self._database,
            families.Parent(parent.row, request.key),
            flow=request.flow,
            entrypoint=request.entrypoint,
            codec=request.inputs.codec,
            data=request.inputs.data,
            options=request.options or {},
        )

    def begin(self, exec_id: ExecutionId) -> None:
        """A runner of this home claims it."""
        wake(self._database.home)


def invoked(database: Database, parent: Claim, request: ChildRequest) -> NewExecution:
    """A child of a deployed version, in the parent's project unless it names another.

    Raises:
        KitaruNotFoundError, KitaruUsageError: no such version, or the inputs do not fit.
    """
    inputs = json.loads(request.inputs.data) if request.inputs.codec == "json" else None
    if not isinstance(inputs, dict):
        raise KitaruUsageError(f"the inputs of {request.flow} are no JSON object", hint="pass plain data by name")
    return families.invocation(
        database,
        parse_ref(request.flow, tag=request.tag, version=request.version),
        inputs,
        project=parent.project,
        actor=families.actor_of(database, parent.row),
        parent=families.Parent(parent.row, request.key),
    )
