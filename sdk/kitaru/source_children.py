"""Child executions of an execution that runs from source: in the same process, or deployed ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from kitaru.definition import FlowDefinition, called
from kitaru.working import ensure
from kitaru_registry.canonical import sha256_of
from kitaru_registry.errors import KitaruConflictError, KitaruContextError
from kitaru_registry.executions import families, reading
from kitaru_registry.executions.creating import NewExecution
from kitaru_registry.executions.ids import new_execution_id
from kitaru_registry.executions.queue import Claim
from kitaru_registry.journal.entries import ChildRequest, Encoded
from kitaru_registry.models import ExecutionId, Source
from kitaru_registry.records.states import ENDED
from kitaru_runner.host.children import invoked

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from kitaru.session import Session


class Process(Protocol):
    """This process, with the executions that go on in it."""

    def has(self, exec_id: ExecutionId) -> bool:
        """Whether it executes it, and goes on with it if it was retried meanwhile."""

    def start(self, session: Session, flow: FlowDefinition, exec_id: ExecutionId, *, parent: ExecutionId) -> None:
        """Claim the execution for it, and run it in a thread.

        Raises:
            KitaruConflictError: another process executes it.
        """


class SourceChildren:
    """Of one execution in this process (attempt_journal.Children)."""

    def __init__(self, session: Session, parent: ExecutionId, process: Process) -> None:
        self._session = session
        self._parent = parent
        self._process = process

    def prepare(self, parent: Claim, request: ChildRequest) -> NewExecution:
        """See attempt_journal.Children."""
        from kitaru.sources import source_for

        session = self._session
        if request.entrypoint is None:
            return invoked(session.database, parent, request)
        flow = called.get()
        assert flow is not None
        return source_execution(
            session, flow=request.flow, inputs=request.inputs, source=source_for(session, flow),
            options=request.options or {}, actor=families.actor_of(session.database, parent.row),
            project=parent.project, parent=families.Parent(parent.row, request.key),
        )  # fmt: skip

    def begin(self, exec_id: ExecutionId) -> None:
        """Start it in a thread of this process, unless it has ended or is being executed."""
        session, flow = self._session, called.get()
        found = reading.get_outline(session.database, exec_id)
        if found.status in ENDED or self._process.has(exec_id):
            return
        if found.kind == "deployed":
            ensure(session)
            return
        if flow is None:
            raise KitaruContextError(f"the child execution {exec_id} has no flow in this process")
        families.stop_waiting(session.database, exec_id)
        try:
            self._process.start(session, flow, exec_id, parent=self._parent)
        except KitaruConflictError:
            pass  # another process executes it, or it has ended meanwhile


def source_execution(
    session: Session, *, flow: str, inputs: Encoded, source: Source | None, options: Mapping[str, Any],
    actor: str | None = None, project: str | None = None, parent: families.Parent | None = None,
) -> NewExecution:  # fmt: skip
    """An execution of the working tree.

    Args:
        options: `retries`, `cache` and `finish_timeout`, where they are not the defaults.
    """
    return NewExecution(
        exec_id=new_execution_id(),
        project=project or session.project,
        flow=flow,
        kind="source",
        inputs=families.shown_inputs(inputs.codec, inputs.data),
        inputs_codec=inputs.codec,
        inputs_data=inputs.data,
        input_digest=sha256_of(inputs.data),
        actor=actor or session.actor,
        source=source.model_dump(mode="json") if source else None,
        retries=options.get("retries", 0),
        cache=options.get("cache"),
        finish_seconds=options.get("finish_timeout"),
        parent=parent.row if parent else None,
        parent_key=parent.key if parent else None,
    )
