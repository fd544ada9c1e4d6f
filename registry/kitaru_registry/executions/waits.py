"""Waits and their answers: the first answer wins, and is checked before it is written."""

from __future__ import annotations

import json
from collections.abc import Collection
from time import time_ns
from typing import Any

from sqlalchemy import and_, case, func, literal, null, or_, select, update
from sqlalchemy.engine import Connection

from kitaru_registry.clock import as_datetime, now_us
from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import executions, waits
from kitaru_registry.errors import (
    KitaruConflictError,
    KitaruNotFoundError,
    KitaruWaitValidationError,
)
from kitaru_registry.executions.ending import wake
from kitaru_registry.executions.journal import fenced
from kitaru_registry.models import ExecutionId, Wait
from kitaru_registry.names import nearest
from kitaru_registry.records.states import ENDED

LATE_SECONDS = 2
"""How long after its time an execution goes on at the latest that somebody sees to."""

CHILD_OVER = {"status": "answered", "answer": {"value": None}, "door": "child"}
"""Of the wait for a child execution that has ended."""

CAME = ("answered", "expired", "aborted")
"""What ends a wait for the flow."""


def open_wait(database: Database, row: int, attempt: int, wait: dict[str, Any]) -> dict[str, Any] | None:
    """Make a wait known, once. What has come for it (see `outcome_of`), else None.

    An answer that came before is its own, if it fits.

    Raises:
        KitaruFencedError: the attempt is over.
    """
    with database.write(row) as connection:
        owned = select(executions.c.id).where(
            executions.c.id == row, executions.c.attempt == attempt, executions.c.status == "running"
        )
        if connection.execute(owned).one_or_none() is None:
            raise fenced(attempt)
        key = wait["key"]
        known = connection.execute(select(waits).where(waits.c.execution == row, waits.c.key == key)).one_or_none()
        if known is None:
            child = wait.pop("child", None)
            values = {**wait, "child": child_row(connection, child), "status": "pending", "asked_ns": time_ns()}
            if child is not None and has_ended(connection, child):
                values |= CHILD_OVER
            connection.execute(waits.insert().values(execution=row, **values))
            take_early(connection, row, key, wait)
        elif known.status == "closed" and not group_has_answer(connection, known):
            # The execution had ended, and was retried. Its child may have ended meanwhile.
            over = known.kind == "child" and has_ended(connection, wait["child"])
            again = CHILD_OVER if over else {"status": "pending"}
            connection.execute(update(waits).where(waits.c.execution == row, waits.c.key == key).values(**again))
        return answers(connection, row, [key]).get(wait.get("any_of") or key)


def group_has_answer(connection: Connection, wait: Any) -> bool:
    if wait.any_of is None:
        return False
    came = select(waits.c.key).where(
        waits.c.execution == wait.execution, waits.c.any_of == wait.any_of, waits.c.status.in_(CAME)
    )
    return connection.execute(came.limit(1)).one_or_none() is not None


def child_row(connection: Connection, exec_id: str | None) -> int | None:
    if exec_id is None:
        return None
    return int(connection.execute(select(executions.c.id).where(executions.c.exec_id == exec_id)).scalar_one())


def has_ended(connection: Connection, exec_id: str) -> bool:
    status = connection.execute(select(executions.c.status).where(executions.c.exec_id == exec_id)).scalar_one()
    return status in ENDED


def early_key(name: str) -> str:
    return f"{name}!early"


def take_early(connection: Connection, row: int, key: str, wait: dict[str, Any]) -> None:
    """Give a wait the answer that was kept for its name. One that does not fit is marked so, and stays to be seen."""
    kept = connection.execute(
        select(waits).where(waits.c.execution == row, waits.c.key == early_key(wait["name"]), waits.c.status == "early")
    ).one_or_none()
    if kept is None or wait["kind"] != "input":
        return
    this_one = update(waits).where(waits.c.execution == row, waits.c.key == kept.key)
    if wait["schema"] is not None:
        from kitaru_registry.schemas import check_answer

        try:
            check_answer(wait["schema"], kept.answer["value"])
        except KitaruWaitValidationError:
            connection.execute(this_one.values(status="refused"))
            return
    connection.execute(this_one.values(status="used"))
    answer_row(connection, row, key, kept.answer, at_us=kept.answered_us, actor=kept.answered_by, door=kept.door)


def answers(connection: Connection, row: int, keys: Collection[str]) -> dict[str, Any]:
    """What has come to these waits: key to outcome; the key of its group for one of a group."""
    found = connection.execute(
        select(waits).where(waits.c.execution == row, waits.c.key.in_(keys), waits.c.status.in_(CAME))
    )
    return {wait.any_of or wait.key: outcome_of(wait) for wait in found}


def outcome_of(wait: Any) -> dict[str, Any]:
    """`{"outcome": "answered" | "expired" | "aborted", "value": ...}`; of a group, the value says which was first."""
    value = wait.answer["value"] if wait.answer else None
    if wait.any_of is not None and wait.status == "answered":
        value = {"name": wait.name, "value": value}
    return {"outcome": wait.status, "value": value}


def new_answers(database: Database, row: int, keys: Collection[str]) -> dict[str, Any]:
    with database.read() as connection:
        return answers(connection, row, keys)


def next_deadline_us(connection: Connection, row: int | None = None) -> int | None:
    """When the next sleep or wait is over, or the next execution late."""
    due = select(func.min(waits.c.deadline_us)).where(waits.c.status == "pending", waits.c.deadline_us.is_not(None))
    late = select(func.min(executions.c.finish_by_us)).where(
        executions.c.finish_by_us.is_not(None), executions.c.status.in_(("pending", "running", "waiting"))
    )
    if row is not None:
        due, late = due.where(waits.c.execution == row), late.where(executions.c.id == row)
    found = (connection.execute(due).scalar_one(), connection.execute(late).scalar_one())
    return min((at for at in found if at is not None), default=None)


def deadline_of(database: Database, row: int, key: str) -> int | None:
    with database.read() as connection:
        found: int | None = connection.execute(
            select(waits.c.deadline_us).where(waits.c.execution == row, waits.c.key == key)
        ).scalar_one()
        return found


def sleeps_until_us(database: Database, exec_id: str) -> int | None:
    """When an execution goes on that waits for a time and for nobody."""
    with database.read() as connection:
        row = connection.execute(select(executions.c.id).where(executions.c.exec_id == exec_id)).scalar_one()
        return sleeping_until_us(connection, row)


def sleeping_until_us(connection: Connection, row: int) -> int | None:
    """`sleeps_until_us`, within a transaction of the caller's."""
    standing = select(waits.c.kind, waits.c.deadline_us).where(waits.c.execution == row, waits.c.status == "pending")
    found = connection.execute(standing).all()
    if not found or any(wait.kind != "sleep" for wait in found):
        return None
    return min(int(wait.deadline_us) for wait in found)


def late(database: Database, *, project: str | None = None, exec_id: str | None = None) -> list[ExecutionId]:
    """Open executions of which a time has come, and which nobody has let go on, or end."""
    with database.read() as connection:
        return late_on(connection, project=project, exec_id=exec_id)


def late_on(connection: Connection, *, project: str | None = None, exec_id: str | None = None) -> list[ExecutionId]:
    """`late`, within a transaction of the caller's."""
    before_us = now_us() - LATE_SECONDS * 1_000_000
    came = select(waits.c.execution).where(waits.c.status == "pending", waits.c.deadline_us < before_us)
    wanted = select(executions.c.exec_id).where(
        or_(executions.c.id.in_(came), executions.c.finish_by_us < before_us),
        executions.c.status.in_(("pending", "waiting")),
    )
    if project is not None:
        wanted = wanted.where(executions.c.project == project)
    if exec_id is not None:
        wanted = wanted.where(executions.c.exec_id == exec_id)
    return [ExecutionId(found) for found in connection.execute(wanted.order_by(executions.c.id)).scalars()]


def fire_due(database: Database) -> int:
    """End the sleeps and waits whose time has come, and let their executions go on; how many there were."""
    due = and_(waits.c.status == "pending", waits.c.deadline_us <= now_us())
    with database.read() as connection:
        seen = sorted(set(connection.execute(select(waits.c.execution).where(due)).scalars()))
    if not seen:
        return 0
    with database.write(*seen) as connection:
        due = and_(due, waits.c.execution.in_(seen))
        rows = sorted(set(connection.execute(select(waits.c.execution).where(due)).scalars()))
        ended = connection.execute(
            update(waits)
            .where(due)
            .values(
                status=case((waits.c.kind == "sleep", "answered"), else_="expired"),
                answer=case((waits.c.kind == "sleep", literal({"value": None}, waits.c.answer.type)), else_=null()),
                answered_us=now_us(),
                door="timer",
            )
        )
        wake(connection, rows)
        return int(ended.rowcount)


def list_waits(
    database: Database, *, project: str | None = None, flow: str | None = None, exec_id: str | None = None,
    pending_only: bool = True,
) -> list[Wait]:  # fmt: skip
    """Waits, newest first; only those of open executions that nobody answered, unless told otherwise."""
    with database.read() as connection:
        return waits_on(connection, project=project, flow=flow, exec_id=exec_id, pending_only=pending_only)


def waits_on(
    connection: Connection, *, project: str | None = None, flow: str | None = None, exec_id: str | None = None,
    pending_only: bool = True,
) -> list[Wait]:  # fmt: skip
    """`list_waits`, within a transaction of the caller's."""
    wanted = select(waits, executions.c.exec_id, executions.c.flow).join(
        executions, executions.c.id == waits.c.execution
    )
    wanted = wanted.where(waits.c.kind == "input")
    if pending_only:
        wanted = wanted.where(waits.c.status == "pending")
    if project is not None:
        wanted = wanted.where(executions.c.project == project)
    if flow is not None:
        wanted = wanted.where(executions.c.flow == flow)
    if exec_id is not None:
        wanted = wanted.where(executions.c.exec_id == exec_id)
    # Those of one moment, such as a wait_any's, in the order of asking too.
    newest_first = wanted.order_by(waits.c.entered_us.desc(), waits.c.asked_ns.desc())
    return [as_wait(row) for row in connection.execute(newest_first)]


def find_wait(database: Database, exec_id: str, key: str | None) -> Wait | None:
    """See find_wait_on."""
    with database.read() as connection:
        return find_wait_on(connection, exec_id, key)


def find_wait_on(connection: Connection, exec_id: str, key: str | None) -> Wait | None:
    """The wait of that key, or the one pending wait of that name, or the only pending one.

    None: no wait of that name was opened yet; an answer is to be kept for it.

    Raises:
        KitaruNotFoundError: no key was given, and none is pending; or one nearly has that name.
        KitaruConflictError: several fit, or what fits was answered already.
    """
    known = [w for w in waits_on(connection, exec_id=exec_id, pending_only=False) if w.status != "superseded"]
    fitting = [w for w in known if key in (None, w.key)] or [w for w in known if w.name == key]
    pending = [wait for wait in fitting if wait.status == "pending"]
    if len(pending) == 1:
        return pending[0]
    if pending:
        keys = [wait.key for wait in reversed(pending)]
        raise KitaruConflictError(
            f"execution {exec_id} has {len(pending)} pending waits: {', '.join(keys)}",
            hint=f"kitaru executions input {exec_id} --wait {keys[0]} --value ...",
        )
    if fitting:
        raise answered_already(answered_instead(fitting[0], known))
    if key is None:
        raise KitaruNotFoundError(
            f"execution {exec_id} waits for nothing now",
            hint=f"to answer ahead of a wait, name it: kitaru executions input {exec_id} --wait NAME --value ...",
        )
    near = nearest(key, [wait.name for wait in known if wait.status != "early"])
    if near is not None:
        listed = ", ".join(wait.key for wait in known)
        raise KitaruNotFoundError(
            f"execution {exec_id} has no wait {key}; its waits: {listed}", hint=f"did you mean {near}?"
        )
    return None


def answer(database: Database, exec_id: str, key: str, value: Any, *, actor: str, door: str) -> Wait:
    """Write the answer, and let the execution go on. The caller has checked it against the schema.

    Raises:
        KitaruConflictError: it is answered, or the execution has ended.
    """
    return end_wait(database, exec_id, key, {"value": value}, actor=actor, door=door)


def abort(database: Database, exec_id: str, key: str, *, actor: str, door: str) -> Wait:
    """End the wait without an answer; the flow gets KitaruWaitAborted.

    Raises:
        KitaruConflictError: it is answered, or the execution has ended.
    """
    return end_wait(database, exec_id, key, None, actor=actor, door=door)


def end_wait(
    database: Database, exec_id: str, key: str, answer: dict[str, Any] | None, *, actor: str, door: str
) -> Wait:  # fmt: skip
    with database.write(exec_id) as connection:
        return end_on(connection, exec_id, key, answer, actor=actor, door=door)


def end_on(
    connection: Connection, exec_id: str, key: str, answer: dict[str, Any] | None, *, actor: str, door: str
) -> Wait:  # fmt: skip
    """Give a pending wait its answer, or none, within a transaction of the caller's; its execution may be claimed."""
    row = wait_row(connection, exec_id, key)
    if row.status != "pending":
        raise answered_already(as_wait(row))
    answer_row(connection, row.execution, key, answer, at_us=now_us(), actor=actor, door=door)
    wake(connection, [row.execution])
    return as_wait(wait_row(connection, exec_id, key))


def answer_row(
    connection: Connection, row: int, key: str, answer: dict[str, Any] | None, *, at_us: int, actor: str, door: str
) -> None:
    """Answer a wait, or abort it (None), and close the others of its group."""
    group = connection.execute(
        update(waits)
        .where(waits.c.execution == row, waits.c.key == key)
        .values(
            status="answered" if answer is not None else "aborted", answer=answer, answered_us=at_us,
            answered_by=actor, door=door,
        )
        .returning(waits.c.any_of)
    ).scalar_one()  # fmt: skip
    if group is not None:
        connection.execute(
            update(waits)
            .where(waits.c.execution == row, waits.c.any_of == group, waits.c.status == "pending")
            .values(status="closed")
        )


def close(database: Database, row: int, key: str) -> None:
    """Nobody stands at a wait, or a group of them, any more."""
    with database.write(row) as connection:
        connection.execute(
            update(waits)
            .where(waits.c.execution == row, or_(waits.c.key == key, waits.c.any_of == key))
            .where(waits.c.status == "pending")
            .values(status="closed")
        )


def answer_early(database: Database, exec_id: str, name: str, value: Any, *, actor: str, door: str) -> Wait:
    """Keep an answer for the first wait of that name.

    Raises:
        KitaruConflictError: one is kept already, or the execution has ended.
    """
    with database.write(exec_id) as connection:
        row = connection.execute(
            select(executions.c.id, executions.c.status).where(executions.c.exec_id == exec_id)
        ).one()
        if row.status in ENDED:
            raise KitaruConflictError(
                f"execution {exec_id} has {row.status}, and waits for nothing any more",
                hint=f"kitaru executions get {exec_id}",
            )
        # A wait may have been opened since the caller looked.
        opened = select(waits.c.key).where(
            waits.c.execution == row.id, waits.c.name == name, waits.c.status != "superseded"
        )
        there = connection.execute(opened.limit(1)).scalar_one_or_none()
        if there is not None:
            raise answered_already(as_wait(wait_row(connection, exec_id, there)))
        at_us = now_us()
        connection.execute(
            waits.insert().values(
                execution=row.id, key=early_key(name), name=name, status="early", kind="input", entered_us=at_us,
                answer={"value": value}, answered_us=at_us, answered_by=actor, door=door, asked_ns=time_ns(),
            )
        )  # fmt: skip
        return as_wait(wait_row(connection, exec_id, early_key(name)))


def wait_row(connection: Connection, exec_id: str, key: str) -> Any:
    return connection.execute(
        select(waits, executions.c.exec_id, executions.c.flow)
        .join(executions, executions.c.id == waits.c.execution)
        .where(executions.c.exec_id == exec_id, waits.c.key == key)
    ).one()


def answered_instead(wait: Wait, known: Collection[Wait]) -> Wait:
    """The answered question of the same `wait_any`, whose answer has closed this one; else the wait itself."""
    if wait.status != "closed" or wait.any_of is None:
        return wait
    return next((other for other in known if other.any_of == wait.any_of and other.status == "answered"), wait)


def answered_already(wait: Wait) -> KitaruConflictError:
    if wait.status in ("pending", "expired", "aborted"):
        said = {"pending": "is open by now", "expired": "has expired", "aborted": f"was aborted by {wait.answered_by}"}
        return KitaruConflictError(
            f"wait {wait.key} of {wait.exec_id} {said[wait.status]}", hint=f"kitaru executions get {wait.exec_id}"
        )
    if wait.status == "closed":
        return KitaruConflictError(
            f"wait {wait.key} of {wait.exec_id} is closed: its flow does not stand at it any more",
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
        any_of=row.any_of,
        answer=row.answer["value"] if row.answer else None,
        answered_at=as_datetime(row.answered_us),
        answered_by=row.answered_by,
        door=row.door,
        exec_id=ExecutionId(row.exec_id),
        flow=row.flow,
    )
