"""Executions that failed, and go on: at what failed, or with a call that another one was expected for; or that end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru.watching import SETTLED, until
from kitaru.working import let_work, tell_to_end
from kitaru_registry.api.execution_requests import GetOutline
from kitaru_registry.api.work_requests import AcceptDivergence, CancelExecution, PlanRetry, RetryExecution
from kitaru_registry.errors import KitaruConflictError

if TYPE_CHECKING:
    from kitaru.session import Session
    from kitaru_registry.executions.views import RetryPlan
    from kitaru_registry.models import Execution, ExecutionId
    from kitaru_registry.records.answers import Work


def retry(session: Session, exec_id: str, *, with_edits: bool = False) -> Work:
    """See Executions.retry."""
    found = session.ask(GetOutline(exec_id=exec_id))
    if found.status == "failed" and found.deleted_at is None:
        require_files(session, found, with_edits=with_edits)
    work = session.ask(RetryExecution(exec_id=found.exec_id))
    let_work(session, work, with_edits=with_edits)
    return work


def plan_retry(session: Session, exec_id: str) -> RetryPlan:
    """See Executions.plan_retry."""
    plan = session.ask(PlanRetry(exec_id=exec_id))
    require_files(session, session.ask(GetOutline(exec_id=plan.exec_id)), with_edits=True)
    return plan


def require_files(session: Session, found: Execution, *, with_edits: bool) -> None:
    """
    Raises:
        KitaruStateError: it is a source execution that came from no file.
        KitaruConflictError: its files have changed, and not `with_edits`.
    """
    if found.kind == "source":
        from kitaru.sources import require_resumable

        require_resumable(session, found, with_edits=with_edits, command="retry")


def accept_divergence(session: Session, exec_id: str, key: str, *, reason: str | None) -> Work:
    """See Executions.resume."""
    work = session.ask(AcceptDivergence(exec_id=exec_id, key=key, reason=reason))
    let_work(session, work, with_edits=True)
    return work


def cancel(session: Session, exec_id: str, *, reason: str | None = None) -> ExecutionId:
    """See Executions.cancel; the whole id of what has ended."""
    cancelled = session.ask(CancelExecution(exec_id=exec_id, reason=reason))
    found = cancelled.exec_id
    tell_to_end(session, cancelled.unheard)
    if cancelled.status == "running":
        status = until(session, found, SETTLED, 10.0)
        if status in ("completed", "failed"):
            raise KitaruConflictError(
                f"execution {found} {status} before it could be cancelled", hint=f"kitaru executions get {found}"
            )
    return found
