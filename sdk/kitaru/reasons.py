"""Why an open execution is where it is, and what makes it go on."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from kitaru_registry.api.execution_requests import GetStanding, ListRunning
from kitaru_registry.errors import KitaruStateError
from kitaru_registry.models import Execution, ExecutionId

if TYPE_CHECKING:
    from kitaru.client import KitaruClient


def with_reason(client: KitaruClient, execution: Execution) -> Execution:
    """Say so where an execution is open and nobody works on it."""
    if execution.status not in ("running", "pending", "waiting"):
        return execution
    held = client.runner.is_executed(execution.exec_id)
    reason = execution.status_reason
    if execution.status == "running" and not held:
        return with_process(execution, [execution.exec_id])
    if execution.status == "waiting":
        reason = why_waiting(client, execution, held=held) or reason
    elif execution.status == "pending" and client.runner.is_starting(execution.exec_id):
        reason = None
    elif execution.status == "pending" and execution.kind == "source" and not held:
        reason = f"{reason or 'not running'}; go on: kitaru executions resume {execution.exec_id}"
    elif execution.status == "pending" and reason is None:
        reason = client.runner.why_pending(execution)
    return execution.model_copy(update={"status_reason": reason})


def gone(client: KitaruClient) -> list[ExecutionId]:
    """Executions of the project that run, as their record says, and whose process has died."""
    asked = ListRunning(project=client.project)
    left = [
        found for found in client.ask(asked) if not found.is_elsewhere and not client.runner.is_executed(found.exec_id)
    ]
    if not left:
        return []
    # What has ended meanwhile, or was taken over, has no process of that attempt either.
    still = {(found.exec_id, found.attempt) for found in client.ask(asked)}
    return [found.exec_id for found in left if (found.exec_id, found.attempt) in still]


def with_process(execution: Execution, gone: Collection[ExecutionId]) -> Execution:
    """Say so where it is one of those that run without a process."""
    if execution.exec_id not in gone:
        return execution
    reason = f"its process is gone; go on: kitaru executions resume {execution.exec_id}"
    return execution.model_copy(update={"status_reason": reason, "process_gone": True})


def why_waiting(client: KitaruClient, execution: Execution, *, held: bool) -> str | None:
    """Until when it sleeps; or what makes it go on, where nobody will by themselves."""
    standing, go_on = (
        client.ask(GetStanding(exec_id=execution.exec_id)),
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
