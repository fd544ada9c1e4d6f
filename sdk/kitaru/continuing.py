"""Executions that failed, and go on: at what failed, or with a call that another one was expected for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru.handle import FlowHandle
from kitaru_registry.api.execution_requests import GetOutline
from kitaru_registry.api.work_requests import AcceptDivergence, PlanRetry, RetryExecution

if TYPE_CHECKING:
    from kitaru.client import KitaruClient
    from kitaru_registry.executions.views import RetryPlan
    from kitaru_registry.models import Execution


def retry(client: KitaruClient, exec_id: str, *, with_edits: bool) -> FlowHandle:
    """See Executions.retry."""
    found = client.ask(GetOutline(exec_id=exec_id))
    if found.status == "failed" and found.deleted_at is None:
        require_files(client, found, with_edits=with_edits)
    work = client.ask(RetryExecution(exec_id=found.exec_id))
    client.runner.let_work(work, with_edits=with_edits)
    return FlowHandle(client, found.exec_id, found.flow)


def plan_retry(client: KitaruClient, exec_id: str) -> RetryPlan:
    """See Executions.plan_retry."""
    plan = client.ask(PlanRetry(exec_id=exec_id))
    require_files(client, client.ask(GetOutline(exec_id=plan.exec_id)), with_edits=True)
    return plan


def require_files(client: KitaruClient, found: Execution, *, with_edits: bool) -> None:
    """
    Raises:
        KitaruStateError: it is a source execution that came from no file.
        KitaruConflictError: its files have changed, and not `with_edits`.
    """
    if found.kind == "source":
        from kitaru.sources import require_resumable

        require_resumable(client, found, with_edits=with_edits, command="retry")


def accept_divergence(client: KitaruClient, exec_id: str, key: str, *, reason: str | None) -> FlowHandle:
    """See Executions.resume."""
    work = client.ask(AcceptDivergence(exec_id=exec_id, key=key, reason=reason))
    client.runner.let_work(work, with_edits=True)
    return FlowHandle(client, work.exec_id, work.flow)
