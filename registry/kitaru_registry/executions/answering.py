"""The answer of a wait: found, checked, and written; the first one wins."""

from __future__ import annotations

from typing import Any

from kitaru_registry.database.opening import Database
from kitaru_registry.errors import KitaruNotFoundError
from kitaru_registry.executions import waits
from kitaru_registry.executions.reading import find_row, row_of
from kitaru_registry.executions.working import work_of
from kitaru_registry.models import Wait
from kitaru_registry.records.answers import Answered


def answer(database: Database, given: str, key: str | None, value: Any, *, actor: str, door: str) -> Answered:
    """Answer the wait of that key or name, or the only pending one; one that is not open yet gets it when it is.

    Raises:
        KitaruNotFoundError: no such execution; or no key was given, and none is pending; or one nearly has that name.
        KitaruConflictError: several fit, or what fits was answered already.
        KitaruWaitValidationError: the value does not fit; the wait stays open.
    """
    with database.read() as connection:
        row = find_row(connection, given)
        found = waits.find_wait_on(connection, row.exec_id, key)
        work = work_of(connection, row)
    if found is None:
        assert key is not None
        early = waits.answer_early(database, row.exec_id, key, value, actor=actor, door=door)
        return Answered(wait=early, work=work)
    if found.schema_ is not None:
        from kitaru_registry.schemas import check_answer

        check_answer(found.schema_, value)
    return end(database, row.exec_id, found, {"value": value}, actor=actor, door=door)


def abort(database: Database, given: str, key: str | None, *, actor: str, door: str) -> Answered:
    """End a wait without an answer; its flow gets KitaruWaitAborted.

    Raises:
        KitaruNotFoundError: there is no such wait.
        KitaruConflictError: several fit, or it was answered already.
    """
    with database.read() as connection:
        exec_id = find_row(connection, given).exec_id
        found = waits.find_wait_on(connection, exec_id, key)
    if found is None:
        raise KitaruNotFoundError(f"execution {exec_id} has no wait {key}", hint=f"kitaru waits list --exec {exec_id}")
    return end(database, exec_id, found, None, actor=actor, door=door)


def end(
    database: Database, exec_id: str, wait: Wait, answer: dict[str, Any] | None, *, actor: str, door: str
) -> Answered:  # fmt: skip
    with database.write(exec_id) as connection:
        ended = waits.end_on(connection, exec_id, wait.key, answer, actor=actor, door=door)
        return Answered(wait=ended, work=work_of(connection, row_of(connection, exec_id)))
