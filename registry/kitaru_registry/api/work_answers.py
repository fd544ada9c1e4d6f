"""How the requests of work_requests are answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from kitaru_registry.api.holdings import Holdings
from kitaru_registry.api.request import Actor
from kitaru_registry.api.work_requests import (
    AcceptDivergence,
    CancelExecution,
    CheckDatabase,
    FireDue,
    GetNextDue,
    GetOverview,
    GetRoot,
    ListDeletable,
    ListFaults,
    ListOpenDescendants,
    ListUndeleted,
    MakeDue,
    PlanRetry,
    RememberRetention,
    RetryExecution,
    SayCouldNotBegin,
    StopWaiting,
)
from kitaru_registry.clock import as_datetime, now_us
from kitaru_registry.deployments.versions import list_flows
from kitaru_registry.errors import KitaruStateError, KitaruUsageError
from kitaru_registry.executions import accepting, ending, families, queue, reading, remarks, retention, retrying, waits
from kitaru_registry.executions.retried import retry_plan
from kitaru_registry.executions.views import RetryPlan
from kitaru_registry.executions.working import work_of
from kitaru_registry.models import DoctorCheck, ExecutionId
from kitaru_registry.records.answers import Cancelled, Overview, Root, Work

DAY_US = 86_400_000_000


def make_due(at: Holdings, asked: MakeDue, by: Actor) -> Work:
    found = reading.find_id(at.database, asked.exec_id)
    with at.database.write(found) as connection:
        row = reading.row_of(connection, found)
        queue.make_due_on(connection, row.exec_id)
        return work_of(connection, row)


def stop_waiting(at: Holdings, asked: StopWaiting, by: Actor) -> Work:
    found = reading.find_id(at.database, asked.exec_id)
    with at.database.write(found) as connection:
        row = reading.row_of(connection, found)
        families.stop_waiting_on(connection, row.exec_id)
        return work_of(connection, reading.row_of(connection, row.exec_id))


def fire_due(at: Holdings, asked: FireDue, by: Actor) -> int:
    return waits.fire_due(at.database)


def get_root(at: Holdings, asked: GetRoot, by: Actor) -> Root:
    with at.database.read() as connection:
        root = families.root_on(connection, reading.find_row(connection, asked.exec_id))
        return Root(work=work_of(connection, root), waits_for_child=families.waits_for_child_on(connection, root.id))


def list_open_descendants(at: Holdings, asked: ListOpenDescendants, by: Actor) -> dict[ExecutionId, str]:
    with at.database.read() as connection:
        return families.descend(connection, reading.find_row(connection, asked.exec_id).id)


def get_next_due(at: Holdings, asked: GetNextDue, by: Actor) -> datetime | None:
    return as_datetime(queue.next_due_us(at.database))


def say_could_not_begin(at: Holdings, asked: SayCouldNotBegin, by: Actor) -> None:
    queue.could_not_begin(at.database, asked.exec_id, asked.reason)


def cancel(at: Holdings, asked: CancelExecution, by: Actor) -> Cancelled:
    actor = f"{by.name}: {asked.reason}" if asked.reason else by.name
    found = reading.find_id(at.database, asked.exec_id)
    with at.database.write(found) as connection:
        row = reading.row_of(connection, found)
        family = (row.exec_id, *families.descend(connection, row.id))
        status = ending.request_cancel_on(connection, row, actor=actor)
        asked_for = ending.cancel_requests_on(connection)
    unheard = tuple(ExecutionId(found) for found in family if found in asked_for)
    return Cancelled(exec_id=row.exec_id, status=status, unheard=unheard)


def retry(at: Holdings, asked: RetryExecution, by: Actor) -> Work:
    found = reading.find_id(at.database, asked.exec_id)
    with at.database.write(found) as connection:
        row = reading.row_of(connection, found)
        retrying.retry_on(connection, row.exec_id, actor=by.name)
        return work_of(connection, reading.row_of(connection, row.exec_id))


def plan_retry(at: Holdings, asked: PlanRetry, by: Actor) -> RetryPlan:
    return retry_plan(at.database, reading.find_id(at.database, asked.exec_id))


def accept(at: Holdings, asked: AcceptDivergence, by: Actor) -> Work:
    found = reading.find_id(at.database, asked.exec_id)
    with at.database.write(found) as connection:
        row = reading.row_of(connection, found)
        accepting.divergence_of(row, asked.key)
        if not asked.reason:
            raise KitaruUsageError(
                f"why may execution {row.exec_id} go on with {asked.key}?",
                hint="give a reason; the journal keeps it: --reason",
            )
        if row.kind == "source" and row.source is None:
            raise KitaruStateError(
                f"execution {row.exec_id} did not come from a file, so it cannot be started again",
                hint="define the flow in a file",
            )
        accepting.accept_on(connection, row, asked.key, actor=by.name, reason=asked.reason)
        return work_of(connection, reading.row_of(connection, row.exec_id))


def list_undeleted(at: Holdings, asked: ListUndeleted, by: Actor) -> list[ExecutionId]:
    found = [reading.find_id(at.database, given) for given in asked.exec_ids]
    return retention.undeleted(at.database, found)


def list_deletable(at: Holdings, asked: ListDeletable, by: Actor) -> list[ExecutionId]:
    return retention.ended(
        at.database, project=asked.project, flow=asked.flow, status=asked.status, since=asked.since,
        before=asked.before,
    )  # fmt: skip


def remember_retention(at: Holdings, asked: RememberRetention, by: Actor) -> None:
    retention.remember_policy(at.database, asked.project, asked.seconds)


def get_overview(at: Holdings, asked: GetOverview, by: Actor) -> Overview:
    project = asked.project
    return Overview(
        flows=tuple(list_flows(at.database, project=project)),
        counts=reading.count_open(at.database, project=project),
        late=tuple(waits.late(at.database, project=project)),
        warned=remarks.count_completed_with_warnings(at.database, project=project, since_us=now_us() - DAY_US),
    )


def list_faults(at: Holdings, asked: ListFaults, by: Actor) -> dict[str, list[ExecutionId]]:
    return queue.faults(at.database)


def check_database(at: Holdings, asked: CheckDatabase, by: Actor) -> DoctorCheck:
    health = at.database.health()
    return DoctorCheck(name="database", ok=health.ok, message=health.said, hint=health.hint)


ANSWERS: Mapping[type, Callable[[Holdings, Any, Actor], Any]] = {
    MakeDue: make_due,
    StopWaiting: stop_waiting,
    FireDue: fire_due,
    GetRoot: get_root,
    ListOpenDescendants: list_open_descendants,
    GetNextDue: get_next_due,
    SayCouldNotBegin: say_could_not_begin,
    CancelExecution: cancel,
    RetryExecution: retry,
    PlanRetry: plan_retry,
    AcceptDivergence: accept,
    ListUndeleted: list_undeleted,
    ListDeletable: list_deletable,
    RememberRetention: remember_retention,
    GetOverview: get_overview,
    ListFaults: list_faults,
    CheckDatabase: check_database,
}
