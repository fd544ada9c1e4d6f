"""Why an open execution is where it is, and what makes it go on."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from kitaru.working import is_executed, is_starting, why_pending
from kitaru_registry.api.execution_requests import (
    ExecutionQuery,
    GetBrief,
    GetExecution,
    GetStanding,
    GetStatus,
    ListExecutions,
    ListRunning,
)
from kitaru_registry.errors import KitaruStateError
from kitaru_registry.models import Execution, ExecutionId

if TYPE_CHECKING:
    from kitaru.session import Session


def current(session: Session, exec_id: str) -> Execution:
    """The execution as it is now, with checkpoints, pending waits and result.

    Raises:
        KitaruNotFoundError: there is no such execution.
    """
    found = session.ask(GetExecution(exec_id=exec_id))
    execution = with_reason(session, found)
    # What has gone on meanwhile has no process any more, for another reason.
    is_current = execution.status_reason is None or status_of(session, found.exec_id) == execution.status
    return execution if is_current else current(session, found.exec_id)


def brief(session: Session, exec_id: ExecutionId) -> Execution:
    """As `current`, without checkpoints and metadata: it costs the same however long the journal is."""
    return with_reason(session, session.ask(GetBrief(exec_id=exec_id)))


def status_of(session: Session, exec_id: ExecutionId) -> str:
    return session.ask(GetStatus(exec_id=exec_id))


def listed(session: Session, query: ExecutionQuery, *, limit: int, offset: int = 0) -> list[Execution]:
    """Those of the project that a query finds, newest first, without checkpoints."""
    asked = ListExecutions(project=session.project, query=query, limit=limit, offset=offset)
    found = session.ask(asked)
    if any(execution.status == "running" for execution in found):
        lost = gone(session)
        found = [with_process(execution, lost) for execution in found]
    return found


def with_reason(session: Session, execution: Execution) -> Execution:
    """Say so where an execution is open and nobody works on it."""
    if execution.status not in ("running", "pending", "waiting"):
        return execution
    held = is_executed(session, execution.exec_id)
    reason = execution.status_reason
    if execution.status == "running" and not held:
        return with_process(execution, [execution.exec_id])
    if execution.status == "waiting":
        reason = why_waiting(session, execution, held=held) or reason
    elif execution.status == "pending" and is_starting(session, execution.exec_id):
        reason = None
    elif execution.status == "pending" and execution.kind == "source" and not held:
        reason = f"{reason or 'not running'}; go on: kitaru executions resume {execution.exec_id}"
    elif execution.status == "pending" and reason is None:
        reason = why_pending(session, execution)
    return execution.model_copy(update={"status_reason": reason})


def gone(session: Session) -> list[ExecutionId]:
    """Executions of the project that run, as their record says, and whose process has died."""
    asked = ListRunning(project=session.project)
    left = [found for found in session.ask(asked) if not found.is_elsewhere and not is_executed(session, found.exec_id)]
    if not left:
        return []
    # What has ended meanwhile, or was taken over, has no process of that attempt either.
    still = {(found.exec_id, found.attempt) for found in session.ask(asked)}
    return [found.exec_id for found in left if (found.exec_id, found.attempt) in still]


def with_process(execution: Execution, gone: Collection[ExecutionId]) -> Execution:
    """Say so where it is one of those that run without a process."""
    if execution.exec_id not in gone:
        return execution
    reason = f"its process is gone; go on: kitaru executions resume {execution.exec_id}"
    return execution.model_copy(update={"status_reason": reason, "process_gone": True})


def why_waiting(session: Session, execution: Execution, *, held: bool) -> str | None:
    """Until when it sleeps; or what makes it go on, where nobody will by themselves."""
    standing, go_on = (
        session.ask(GetStanding(exec_id=execution.exec_id)),
        f"kitaru executions resume {execution.exec_id}",
    )
    until = standing.sleeps_until
    if execution.kind == "source" and not held:
        return f"its process is gone; {f'go on: {go_on}' if until else 'an answer starts it again'}"
    if not held and standing.is_late:
        return f"its time has come, and no runner was there; go on: {go_on}"
    return f"sleeps until {until:%Y-%m-%d %H:%M:%S} UTC" if until else None


def not_resumable(execution: Execution) -> KitaruStateError:
    if execution.status == "waiting" and not execution.pending_waits:
        below = [child for child in execution.children if child.status not in ("completed", "failed", "cancelled")]
        what = ", ".join(f"{child.exec_id} of {child.flow}" for child in below) or "a time that has not come"
        return KitaruStateError(
            f"execution {execution.exec_id} waits for {what}", hint=f"kitaru executions get {execution.exec_id}"
        )
    if execution.status == "waiting":
        return KitaruStateError(
            f"execution {execution.exec_id} waits for {', '.join(w.key for w in execution.pending_waits)}",
            hint=f"kitaru executions input {execution.exec_id} --value ...",
        )
    ended = "was cancelled" if execution.status == "cancelled" else f"has {execution.status}"
    return KitaruStateError(f"execution {execution.exec_id} {ended}", hint=f"kitaru executions get {execution.exec_id}")
