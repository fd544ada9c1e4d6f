"""Executions that failed, and go on: at what failed, or with a call that another one was expected for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kitaru.handle import FlowHandle
from kitaru_registry.errors import KitaruStateError, KitaruUsageError
from kitaru_registry.executions import accepting, ending
from kitaru_registry.executions.retried import retry_plan

if TYPE_CHECKING:
    from kitaru.client import KitaruClient
    from kitaru_registry.executions.views import RetryPlan
    from kitaru_registry.models import Execution


def retry(client: KitaruClient, exec_id: str, *, with_edits: bool) -> FlowHandle:
    """See Executions.retry."""
    found = require_retryable(client, exec_id, with_edits=with_edits)
    ending.retry(client.database, found.exec_id, actor=client.actor)
    client.runner.set_going(found.exec_id, with_edits=with_edits)
    return FlowHandle(client, found.exec_id, found.flow)


def plan_retry(client: KitaruClient, exec_id: str) -> RetryPlan:
    """See Executions.plan_retry."""
    found = require_retryable(client, exec_id, with_edits=True)
    return retry_plan(client.database, found.exec_id)


def require_retryable(client: KitaruClient, exec_id: str, *, with_edits: bool) -> Execution:
    """The execution that a retry would go on with.

    Raises:
        KitaruError: what `Executions.retry` would raise.
    """
    found = client.executions.get(exec_id)
    with client.database.read() as connection:
        ending.require_failed(connection, found.exec_id)
    if found.kind == "source":
        from kitaru.sources import require_resumable

        require_resumable(client, found, with_edits=with_edits, command="retry")
    return found


def accept_divergence(client: KitaruClient, exec_id: str, key: str, *, reason: str | None) -> FlowHandle:
    """See Executions.resume."""
    found = client.executions.get(exec_id)
    accepting.require_accepted(client.database, found.exec_id, key)
    if not reason:
        raise KitaruUsageError(
            f"why may execution {found.exec_id} go on with {key}?", hint="give a reason; the journal keeps it: --reason"
        )
    if found.kind == "source" and found.source is None:
        raise KitaruStateError(f"execution {found.exec_id} did not come from a file, so it cannot be started again")
    accepting.accept(client.database, found.exec_id, key, actor=client.actor, reason=reason)
    client.runner.set_going(found.exec_id, with_edits=True)
    return FlowHandle(client, found.exec_id, found.flow)
