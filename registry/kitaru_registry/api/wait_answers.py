"""How the requests of wait_requests are answered."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kitaru_registry.api.holdings import Holdings
from kitaru_registry.api.request import Actor
from kitaru_registry.api.wait_requests import AbortWait, AnswerWait, GetWait, ListWaits
from kitaru_registry.errors import KitaruNotFoundError
from kitaru_registry.executions import answering, reading, waits
from kitaru_registry.models import Wait
from kitaru_registry.records.answers import Answered


def list_waits(at: Holdings, asked: ListWaits, by: Actor) -> list[Wait]:
    with at.database.read() as connection:
        found = reading.find_on(connection, asked.exec_id) if asked.exec_id is not None else None
        return waits.waits_on(
            connection, project=asked.project, flow=asked.flow, exec_id=found, pending_only=asked.pending_only
        )


def get(at: Holdings, asked: GetWait, by: Actor) -> Wait:
    with at.database.read() as connection:
        found = reading.find_on(connection, asked.exec_id)
        for wait in waits.waits_on(connection, exec_id=found, pending_only=False):
            if asked.key in (wait.key, wait.name):
                return wait
    raise KitaruNotFoundError(f"execution {found} has no wait {asked.key}", hint=f"kitaru executions get {found}")


def answer(at: Holdings, asked: AnswerWait, by: Actor) -> Answered:
    return answering.answer(at.database, asked.exec_id, asked.wait, asked.value, actor=by.name, door=asked.door)


def abort(at: Holdings, asked: AbortWait, by: Actor) -> Answered:
    return answering.abort(at.database, asked.exec_id, asked.wait, actor=by.name, door=asked.door)


ANSWERS: Mapping[type, Callable[[Holdings, Any, Actor], Any]] = {
    ListWaits: list_waits,
    GetWait: get,
    AnswerWait: answer,
    AbortWait: abort,
}
