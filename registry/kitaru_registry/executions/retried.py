"""What a retry would execute again, and what it would use, as people read it before they make it."""

from __future__ import annotations

from typing import Any

from kitaru_registry.database.opening import Database
from kitaru_registry.executions.journal import read_rows
from kitaru_registry.executions.planned import KINDS, as_planned, summed
from kitaru_registry.executions.replaying import is_inner
from kitaru_registry.executions.retrying import (
    cancelled_of,
    children_at,
    require_failed,
    said_of,
    stands_behind,
    unconsumed_of,
)
from kitaru_registry.executions.superseding import current_rows, without
from kitaru_registry.executions.views import RetryPlan
from kitaru_registry.models import ExecutionId


def retry_plan(database: Database, exec_id: str) -> RetryPlan:
    """
    Raises:
        KitaruStateError: the execution has not failed, or its values were deleted.
    """
    with database.read() as connection:
        row: Any = require_failed(connection, exec_id)
        superseded = unconsumed_of(connection, row.id, row.error)
        superseded += cancelled_of(children_at(connection, row.id, superseded), row.id)
        superseded += stands_behind(connection, row.id, said_of(row.error, superseded))
        current, _ = current_rows(list(read_rows(database.held(connection), row.id)), row.replay)
    left = {c.row.seq: c.soft for c in without(current, said_of(row.error, superseded))}
    shown = {c.row.key: c for c in current if c.row.kind in KINDS}
    kept = {c.row.key for c in current if c.row.seq in left}
    calls = tuple(
        as_planned(c.row, "executes" if key not in kept else "stays" if left.get(c.row.seq, True) else "reused")
        for key, c in shown.items()
        if not is_inner(key, shown)
    )
    again = [call for call in calls if call.does == "executes"]
    return RetryPlan(
        exec_id=ExecutionId(row.exec_id),
        flow=row.flow,
        version=f"v{row.version}" if row.version is not None else "source",
        calls=calls,
        seconds=sum(call.seconds or 0.0 for call in again),
        usage=summed(call.usage for call in again),
    )
