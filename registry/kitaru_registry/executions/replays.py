"""Replays in the record: what is known of an execution, and the one transaction that makes a replay of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Table, select, text
from sqlalchemy.engine import Connection

from kitaru_registry.clock import now_us
from kitaru_registry.database.dialect import Dialect
from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import artifacts, executions, journal, waits
from kitaru_registry.errors import KitaruNotFoundError
from kitaru_registry.executions.creating import NewExecution, create_on
from kitaru_registry.executions.inputs import load as load_inputs
from kitaru_registry.executions.journal import Row, Value, read_rows
from kitaru_registry.executions.replaying import AskedWait, Given, Known, Plan
from kitaru_registry.executions.values import IN_ROW_BYTES, values_of
from kitaru_registry.journal.entries import GIVEN
from kitaru_registry.models import ExecutionId


@dataclass(frozen=True)
class Original:
    """The execution that a replay is made of; its columns, as they are."""

    row: Any
    known: Known
    given: bytes
    """What it was called with, in its codec."""


def read_original(database: Database, exec_id: ExecutionId) -> Original:
    """
    Raises:
        KitaruNotFoundError: its values were deleted.
    """
    with database.read() as connection:
        row = connection.execute(select(executions).where(executions.c.exec_id == exec_id)).one()
        require_values(row)
        wanted = select(waits).where(
            waits.c.execution == row.id, waits.c.kind == "input", waits.c.status.not_in(("early", "used", "refused"))
        )
        asked = connection.execute(wanted.order_by(waits.c.entered_us, waits.c.key)).all()
    return Original(
        row,
        Known(
            exec_id=row.exec_id,
            rows=rows_of(database, row.id),
            waits=tuple(AskedWait(wait.key, wait.name, wait.any_of, wait.schema) for wait in asked),
            failed=tuple((row.error or {}).get("failed", ())) if row.status == "failed" else (),
            running=running_keys(row),
            status=row.status,
            replay=row.replay,
        ),
        load_inputs(database, row),
    )


def require_values(row: Any) -> None:
    if row.deleted_us is not None:
        raise KitaruNotFoundError(
            f"execution {row.exec_id} was deleted: its values are gone", hint=f"kitaru executions get {row.exec_id}"
        )


def rows_of(database: Database, row: int) -> list[Row]:
    with database.holding() as connection:
        return list(read_rows(connection, row))


def running_keys(row: Any) -> tuple[str, ...]:
    """What its process was in; of one that crashed too often, what its error says."""
    crashed = (row.error or {}) if row.status == "failed" and (row.error or {}).get("origin") == "crashed" else {}
    said = [key for key in str(crashed.get("checkpoint") or "").split(", ") if key]
    return (*(call["key"] for call in row.in_flight or ()), *said)


def create_replay(
    database: Database, new: NewExecution, original: Original, plan: Plan, *, values: Mapping[str, Value],
    answers: Mapping[str, Any],
) -> tuple[ExecutionId, bool]:  # fmt: skip
    """Make the execution that begins with what the plan reuses; its id, and whether it is new.

    Args:
        values: of the given outcomes, by key.
        answers: given, by the wait's key, as JSON.

    Raises:
        KitaruNotFoundError: the version, or the original's values, were deleted meanwhile; nothing was written.
        KitaruConflictError: the idempotency key was used for something else.
    """
    said = {**(new.replay or {}), "reused": plan.reused, "copied": len(plan.copied)}
    store = values_of(database)
    with store.naming():
        new = replace(new, replay=said).stored(store)
        return insert_replay(database, new, original, plan, values=values, answers=answers)


def insert_replay(
    database: Database, new: NewExecution, original: Original, plan: Plan, *, values: Mapping[str, Value],
    answers: Mapping[str, Any],
) -> tuple[ExecutionId, bool]:  # fmt: skip
    with database.write(original.row.id, flow=f"{new.project}/{new.flow}") as connection:
        require_values(connection.execute(select(executions).where(executions.c.id == original.row.id)).one())
        exec_id, created = create_on(connection, new)
        if created:
            row = connection.execute(select(executions.c.id).where(executions.c.exec_id == exec_id)).scalar_one()
            copy_journal(database.dialect, connection, original.row.id, row, plan)
            insert_given(connection, row, plan, values)
            copy_waits(database.dialect, connection, original.row.id, row, plan)
            insert_answers(connection, original.row.id, row, answers, actor=new.actor)
        return exec_id, created


def copy_journal(dialect: Dialect, connection: Connection, source: int, row: int, plan: Plan) -> None:
    """The copied rows under new numbers, and what was saved with them. Within the database: there may be very many."""
    numbers = [it.seq if isinstance(it, Row) else None for it in plan.copied]
    names = names_of(journal, without=("execution", "seq", "attempt"))
    # CROSS JOIN keeps SQLite to this order: the other way round it reads all numbers for each row.
    connection.execute(
        text(
            f"INSERT INTO journal (execution, seq, attempt, {names}) "
            f"SELECT :row, numbered.key + 1, 0, {names_of(journal, names, of='source')} "
            f"FROM {dialect.each('numbers', numbers=True)} AS numbered "
            "CROSS JOIN journal AS source WHERE source.execution = :source AND source.seq = numbered.value"
        ),
        {"row": row, "source": source, "numbers": json.dumps(numbers)},
    )
    copy_rows(dialect, connection, artifacts, source, row, [it.key for it in plan.rows if it.kind in "cs"], "key")


def copy_waits(dialect: Dialect, connection: Connection, source: int, row: int, plan: Plan) -> None:
    """The waits whose outcomes were copied, with their answers."""
    keys = [it.key for it in plan.rows if it.kind == "w"]
    copy_rows(dialect, connection, waits, source, row, keys, "key", "any_of")


def copy_rows(
    dialect: Dialect, connection: Connection, table: Table, source: int, row: int, keys: Sequence[str], *columns: str
) -> None:
    names = names_of(table, without=("execution", "id"))
    listed = dialect.each("keys", numbers=False)
    fits = " OR ".join(f"{column} IN (SELECT value FROM {listed} AS listed)" for column in columns)
    connection.execute(
        text(
            f"INSERT INTO {table.name} (execution, {names}) "
            f"SELECT :row, {names} FROM {table.name} WHERE execution = :source AND ({fits})"
        ),
        {"row": row, "source": source, "keys": json.dumps(list(keys))},
    )


def names_of(table: Table, names: str | None = None, *, without: Sequence[str] = (), of: str | None = None) -> str:
    """The columns of a table for a statement: all of them, so that a new one is copied too."""
    found = names.split(", ") if names is not None else [f'"{c.name}"' for c in table.c if c.name not in without]
    return ", ".join(f"{of}.{name}" if of else name for name in found)


def insert_given(connection: Connection, row: int, plan: Plan, values: Mapping[str, Value]) -> None:
    at_us = now_us()
    for number, it in enumerate(plan.copied, start=1):
        if not isinstance(it, Given):
            continue
        value = values[it.key]
        connection.execute(
            journal.insert().values(
                execution=row, seq=number, kind="c", key=it.key, attempt=0, place=it.place, type=it.type,
                name=None if it.key.rpartition("/")[2].partition("#")[0] == it.name else it.name,
                codec=value.codec, data=value.data, value_digest=value.digest, flags=GIVEN,
                metadata=json.dumps({"given": True}), started_us=at_us, ended_us=at_us,
            )
        )  # fmt: skip


def insert_answers(connection: Connection, source: int, row: int, answers: Mapping[str, Any], *, actor: str) -> None:
    """Waits that are answered before they are asked: the flow opens them, and has its answer."""
    at_us = now_us()
    for key, answer in answers.items():
        asked = connection.execute(select(waits).where(waits.c.execution == source, waits.c.key == key)).one()
        connection.execute(
            waits.insert().values(
                **{
                    **asked._mapping, "execution": row, "status": "answered", "answer": {"value": answer},
                    "answered_us": at_us, "answered_by": actor, "door": "replay", "deadline_us": None,
                }
            )
        )  # fmt: skip


def stored(database: Database, codec: str, data: bytes) -> Value:
    """Where the bytes of a given value are to be found; those of a large one are on disk when this returns."""
    if len(data) <= IN_ROW_BYTES:
        return Value(codec, data, None)
    return Value(codec, None, values_of(database).put(data))


def read_value(database: Database, value: Value) -> bytes:
    """The verified bytes of a recorded value."""
    if value.data is not None:
        return value.data
    assert value.digest is not None
    return values_of(database).get(value.digest)
