"""Waits and their answers: the first answer wins, and is checked before it is written."""

from __future__ import annotations

import json
from typing import Any

from sqlalchemy import select, update
from sqlalchemy.engine import Connection

from kitaru_registry.database import Database, as_datetime, executions, now_us, waits
from kitaru_registry.errors import KitaruConflictError, KitaruNotFoundError
from kitaru_registry.executions.journal import fenced
from kitaru_registry.models import ExecutionId, Wait


def open_wait(database: Database, row: int, attempt: int, wait: dict[str, Any]) -> Any | None:
    """Make a wait known, once. Its answer's row if it is answered, else None.

    Raises:
        KitaruFencedError: the attempt is over.
    """
    with database.write() as connection:
        owned = select(executions.c.id).where(
            executions.c.id == row, executions.c.attempt == attempt, executions.c.status == "running"
        )
        if connection.execute(owned).one_or_none() is None:
            raise fenced(attempt)
        found = connection.execute(select(waits).where(waits.c.execution == row, waits.c.key == wait["key"]))
        known = found.one_or_none()
        if known is not None:
            return known if known.status == "answered" else None
        connection.execute(waits.insert().values(execution=row, status="pending", **wait))
    return None


def list_waits(
    database: Database, *, project: str | None = None, flow: str | None = None, exec_id: str | None = None,
    pending_only: bool = True,
) -> list[Wait]:  # fmt: skip
    """Waits, newest first; only those of open executions that nobody answered, unless told otherwise."""
    wanted = select(waits, executions.c.exec_id, executions.c.flow).join(
        executions, executions.c.id == waits.c.execution
    )
    if pending_only:
        wanted = wanted.where(waits.c.status == "pending")
    if project is not None:
        wanted = wanted.where(executions.c.project == project)
    if flow is not None:
        wanted = wanted.where(executions.c.flow == flow)
    if exec_id is not None:
        wanted = wanted.where(executions.c.exec_id == exec_id)
    with database.read() as connection:
        return [as_wait(row) for row in connection.execute(wanted.order_by(waits.c.entered_us.desc(), waits.c.key))]


def find_wait(database: Database, exec_id: str, key: str | None) -> Wait:
    """The wait of that key, or the one pending wait of that name, or the only pending one.

    Raises:
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit, or what fits was answered already.
    """
    known = list_waits(database, exec_id=exec_id, pending_only=False)
    fitting = [w for w in known if key in (None, w.key)] or [w for w in known if w.name == key]
    pending = [wait for wait in fitting if wait.status == "pending"]
    if len(pending) == 1:
        return pending[0]
    if pending:
        keys = ", ".join(wait.key for wait in pending)
        raise KitaruConflictError(
            f"execution {exec_id} has {len(pending)} pending waits: {keys}",
            hint=f"kitaru executions input {exec_id} --wait {pending[0].key} --value ...",
        )
    if fitting:
        raise answered_already(fitting[0])
    listed = ", ".join(wait.key for wait in known) or "none"
    raise KitaruNotFoundError(
        f"execution {exec_id} has no wait{f' {key}' if key else ''}; its waits: {listed}",
        hint=f"kitaru waits list --exec {exec_id}",
    )


def answer(database: Database, exec_id: str, key: str, value: Any, *, actor: str, door: str) -> Wait:
    """Write the answer, and let the execution go on. The caller has checked it against the schema.

    Raises:
        KitaruConflictError: it is answered, or the execution has ended.
    """
    with database.write() as connection:
        row = wait_row(connection, exec_id, key)
        if row.status != "pending":
            raise answered_already(as_wait(row))
        connection.execute(
            update(waits)
            .where(waits.c.execution == row.execution, waits.c.key == key)
            .values(status="answered", answer={"value": value}, answered_us=now_us(), answered_by=actor, door=door)
        )
        connection.execute(
            update(executions)
            .where(executions.c.id == row.execution, executions.c.status == "waiting")
            .values(status="pending", not_before_us=0)
        )
        return as_wait(wait_row(connection, exec_id, key))


def wait_row(connection: Connection, exec_id: str, key: str) -> Any:
    return connection.execute(
        select(waits, executions.c.exec_id, executions.c.flow)
        .join(executions, executions.c.id == waits.c.execution)
        .where(executions.c.exec_id == exec_id, waits.c.key == key)
    ).one()


def answered_already(wait: Wait) -> KitaruConflictError:
    if wait.status == "closed":
        return KitaruConflictError(
            f"wait {wait.key} of {wait.exec_id} is closed: the execution has ended",
            hint=f"kitaru executions get {wait.exec_id}",
        )
    return KitaruConflictError(
        f"wait {wait.key} of {wait.exec_id} was answered by {wait.answered_by}: {json.dumps(wait.answer)}",
        hint=f"kitaru executions get {wait.exec_id}",
    )


def as_wait(row: Any) -> Wait:
    return Wait(
        key=row.key,
        name=row.name,
        question=row.question,
        schema_=row.schema,
        metadata=row.metadata,
        entered_at=as_datetime(row.entered_us),
        deadline=as_datetime(row.deadline_us),
        status=row.status,
        answer=row.answer["value"] if row.answer else None,
        answered_at=as_datetime(row.answered_us),
        answered_by=row.answered_by,
        exec_id=ExecutionId(row.exec_id),
        flow=row.flow,
    )
