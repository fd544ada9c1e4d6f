"""How the requests of execution_requests are answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kitaru_registry.api.execution_requests import (
    FindExecution,
    GetBrief,
    GetExecution,
    GetFailure,
    GetOutline,
    GetResult,
    GetStanding,
    GetStatus,
    GetWarnings,
    ListCalls,
    ListExecutions,
    ListRunning,
)
from kitaru_registry.api.holdings import Holdings
from kitaru_registry.api.request import Actor
from kitaru_registry.clock import as_datetime
from kitaru_registry.executions import families, queue, reading, remarks, waits
from kitaru_registry.home import place_of
from kitaru_registry.models import Execution, ExecutionId
from kitaru_registry.records.answers import CallPage, EncodedValue, RunningExecution, Standing


def find(at: Holdings, asked: FindExecution, by: Actor) -> ExecutionId:
    return reading.find_id(at.database, asked.exec_id)


def get_status(at: Holdings, asked: GetStatus, by: Actor) -> str:
    return reading.get_status(at.database, asked.exec_id)


def get_outline(at: Holdings, asked: GetOutline, by: Actor) -> Execution:
    with at.database.read() as connection:
        return reading.outline_on(connection, reading.find_row(connection, asked.exec_id))


def get_brief(at: Holdings, asked: GetBrief, by: Actor) -> Execution:
    with at.database.read() as connection:
        return reading.brief_on(connection, at.values, reading.find_row(connection, asked.exec_id))


def get(at: Holdings, asked: GetExecution, by: Actor) -> Execution:
    with at.database.read() as connection:
        return reading.execution_on(connection, at.values, reading.find_row(connection, asked.exec_id))


def list_calls(at: Holdings, asked: ListCalls, by: Actor) -> CallPage:
    reading.require_limit(asked.limit)
    with at.database.read() as connection:
        calls = list(reading.read_calls(connection, reading.find_row(connection, asked.exec_id)).calls.values())
    begin = 0
    if asked.after is not None:
        begin = next((number for number, call in enumerate(calls, 1) if call.key == asked.after), len(calls))
    page = tuple(calls[begin : begin + asked.limit])
    return CallPage(calls=page, next=page[-1].key if begin + asked.limit < len(calls) else None)


def get_result(at: Holdings, asked: GetResult, by: Actor) -> EncodedValue:
    with at.database.read() as connection:
        row = reading.find_row(connection, asked.exec_id)
        reading.require_values(connection, row.exec_id)
    codec, data = reading.result_of(at.values, row)
    return EncodedValue.model_construct(codec=codec, data=data)


def get_failure(at: Holdings, asked: GetFailure, by: Actor) -> dict[str, Any] | None:
    with at.database.read() as connection:
        found: dict[str, Any] | None = reading.find_row(connection, asked.exec_id).error
    return found


def get_warnings(at: Holdings, asked: GetWarnings, by: Actor) -> tuple[str, ...]:
    with at.database.read() as connection:
        row = reading.find_row(connection, asked.exec_id).id
        return remarks.read_warnings(connection, [row]).get(row, ())


def get_standing(at: Holdings, asked: GetStanding, by: Actor) -> Standing:
    with at.database.read() as connection:
        row = reading.find_row(connection, asked.exec_id)
        elsewhere = is_owned_elsewhere(at, row)
        return Standing(
            status=row.status,
            sleeps_until=as_datetime(waits.sleeping_until_us(connection, row.id)),
            is_late=bool(waits.late_on(connection, exec_id=row.exec_id)),
            stands_still=families.rests(connection, row),
            fault=queue.fault_in(row),
            is_elsewhere=elsewhere,
        )


def is_owned_elsewhere(at: Holdings, row: Any) -> bool:
    return at.home.record is not None and row.status == "running" and queue.is_elsewhere(row, place_of(at.home))


def list_executions(at: Holdings, asked: ListExecutions, by: Actor) -> list[Execution]:
    query = asked.query
    parent, original = (
        None if given is None else reading.find_id(at.database, given) for given in (query.parent, query.replay_of)
    )
    return reading.list_executions(
        at.database, project=asked.project, flow=query.flow, status=query.status, version=query.version,
        since=query.since, where=query.where, parent=parent, tag=query.tag, replay_of=original, limit=asked.limit,
        offset=asked.offset,
    )  # fmt: skip


def list_running(at: Holdings, asked: ListRunning, by: Actor) -> list[RunningExecution]:
    is_shared, place = at.home.record is not None, place_of(at.home)
    return [
        RunningExecution.model_construct(
            exec_id=row.exec_id,
            project=row.project,
            kind=row.kind,
            attempt=row.attempt,
            owner=row.owner,
            is_elsewhere=is_shared and queue.is_elsewhere(row, place),
        )
        for row in reading.running_executions(at.database)
        if asked.project in (None, row.project)
    ]


ANSWERS: Mapping[type, Callable[[Holdings, Any, Actor], Any]] = {
    FindExecution: find,
    GetStatus: get_status,
    GetOutline: get_outline,
    GetBrief: get_brief,
    GetExecution: get,
    ListCalls: list_calls,
    GetResult: get_result,
    GetFailure: get_failure,
    GetWarnings: get_warnings,
    GetStanding: get_standing,
    ListExecutions: list_executions,
    ListRunning: list_running,
}
