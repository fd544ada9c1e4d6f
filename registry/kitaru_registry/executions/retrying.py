"""Letting a failed execution begin anew: what a retry supersedes, and what of it is asked, slept and started again."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.engine import Connection

from kitaru_registry.clock import now_us
from kitaru_registry.database.opening import Database, tell_runners
from kitaru_registry.database.tables import executions, journal, waits
from kitaru_registry.errors import KitaruStateError
from kitaru_registry.executions.journal import Row
from kitaru_registry.executions.superseding import BY_SCOPE, Current, current_rows, later_stands
from kitaru_registry.records.states import sources_of

WITH_PARENT = ", with its parent"


def retry(database: Database, exec_id: str, *, actor: str) -> None:
    """Let a failed execution go on at what failed.

    Raises:
        KitaruStateError: it has not failed, or its values were deleted.
    """
    with database.write(exec_id) as connection:
        retry_on(connection, exec_id, actor=actor)


def retry_on(connection: Connection, exec_id: str, *, actor: str) -> None:
    """`retry`, within a transaction of the caller's."""
    row = require_failed(connection, exec_id)
    begin_anew(connection, row, row.error, actor=actor, asks_again=True)
    forget_deadline(connection, row.id)


def require_failed(connection: Connection, exec_id: str) -> Any:
    """The row of an execution that can be retried.

    Raises:
        KitaruStateError: it has not failed, or its values were deleted.
    """
    row = connection.execute(select(executions).where(executions.c.exec_id == exec_id)).one()
    if row.deleted_us is not None:
        raise KitaruStateError(
            f"execution {exec_id} was deleted: its values are gone", hint=f"kitaru executions get {exec_id}"
        )
    if row.status != "failed":
        raise KitaruStateError(
            f"execution {exec_id} is {row.status}: only a failed one can be retried",
            hint=f"kitaru executions get {exec_id}",
        )
    return row


def begin_anew(
    connection: Connection, row: Any, error: Mapping[str, Any], *, actor: str, asks_again: bool
) -> None:  # fmt: skip
    """Let a failed execution begin anew: the failures that nothing in the flow consumed are superseded.

    So do the children whose failures they were, and those that failed and were never waited for.

    Args:
        asks_again: whether waits that expired, or were aborted, or had an answer that the flow refused, are asked anew
            where that is among these failures. A flow's own retries do not: somebody has decided.
    """
    seq = last_seq(connection, row.id) + 1
    unconsumed = unconsumed_of(connection, row.id, error)
    stood_at = waits_at(connection, row.id, unconsumed)
    failed = [key for key in unconsumed if asks_again or key not in stood_at]
    for key in stood_at if asks_again else ():
        set_aside(connection, row.id, key, seq)
    superseded = failed + begin_children_anew(connection, row.id, failed, actor=actor, asks_again=asks_again)
    for child in unheard_of(connection, row.id, error):
        connection.execute(delete(waits).where(waits.c.execution == row.id, waits.c.child == child.id))
        begin_child_anew(connection, child, actor=actor, asks_again=asks_again)
    said = said_of(error, superseded)
    for key in stands_behind(connection, row.id, said):
        set_aside(connection, row.id, key, seq)
        superseded.append(key)
    connection.execute(
        journal.insert().values(
            execution=row.id,
            seq=seq,
            kind="r",
            key="retry",
            attempt=row.attempt,
            metadata=json.dumps({**said, "actor": actor, "error": shortened(error)}),
            ended_us=now_us(),
        )
    )
    let_go_on(connection, row, retries_used=executions.c.retries_used + 1)


def said_of(error: Mapping[str, Any], superseded: Sequence[str]) -> dict[str, Any]:
    """What a retry of an execution that ended with this error says of the journal (superseding.without)."""
    return {"superseded": superseded, "rules": BY_SCOPE, **({"cut": error["cut"]} if "cut" in error else {})}


def unconsumed_of(connection: Connection, row: int, error: Mapping[str, Any]) -> list[str]:
    """The keys of the recorded failures that nothing in the flow has consumed, when this error ended it."""
    return [*error.get("failed", []), *too_late(connection, row, error)]


def too_late(connection: Connection, row: int, error: Mapping[str, Any]) -> list[str]:
    """The failures that were recorded when the flow's body had ended, beside it."""
    if error.get("until") is None:
        return []
    late = select(journal.c.key).where(
        journal.c.execution == row, journal.c.seq > error["until"], journal.c.kind == "c", journal.c.error.is_not(None)
    )
    return [key for key in connection.execute(late).scalars() if key not in error.get("failed", [])]


def stands_behind(connection: Connection, row: int, said: Mapping[str, Any]) -> list[str]:
    """The sleeps, and the waits for children, that the flow came to because of what is superseded.

    Waits for input are none of them: what somebody answered stays.
    """
    standing = select(waits.c.key).where(waits.c.execution == row, waits.c.kind.in_(("sleep", "child")))
    stood = set(connection.execute(standing).scalars())
    return [key for key in later_stands(current_of(connection, row), said) if key in stood] if stood else []


def current_of(connection: Connection, row: int) -> list[Current]:
    """As much of the rows that count as says what they are."""
    columns = ("seq", "kind", "key", "error", "metadata", "started_us", "ended_us")
    read = select(*(journal.c[name] for name in columns)).where(journal.c.execution == row).order_by(journal.c.seq)
    return current_rows(cast(Sequence[Row], connection.execute(read).all()))[0]


def waits_at(connection: Connection, row: int, keys: Sequence[str]) -> set[str]:
    """Those of the keys at which somebody was asked: a wait's, or that of several."""
    asked = and_(waits.c.execution == row, waits.c.kind == "input")
    one = select(waits.c.key).where(asked, waits.c.key.in_(keys))
    several = select(waits.c.any_of).where(asked, waits.c.any_of.in_(keys))
    return {str(key) for query in (one, several) for key in connection.execute(query).scalars()}


def set_aside(connection: Connection, row: int, key: str, seq: int) -> None:
    """Keep what was asked under a key, and what came of it, as it was before a retry, which has this number."""
    connection.execute(
        update(waits)
        .where(waits.c.execution == row, or_(waits.c.key == key, waits.c.any_of == key))
        .values(key=waits.c.key + f"!{seq}", any_of=waits.c.any_of + f"!{seq}", status="superseded")
    )


def let_go_on(connection: Connection, row: Any, **more: Any) -> None:
    """Make an execution that ended pending again, as if it had never ended."""
    connection.execute(
        update(executions)
        .where(executions.c.id == row.id, executions.c.status.in_(sources_of("pending")))
        .values(
            status="pending", fruitless_attempts=0, not_before_us=0, lease_until_us=None, in_flight=None,
            status_reason=None, error=None, ended_us=None, cancel_requested_us=None, **more,
        )
    )  # fmt: skip
    tell_runners(connection)


def begin_children_anew(
    connection: Connection, row: int, keys: Sequence[str], *, actor: str, asks_again: bool
) -> list[str]:  # fmt: skip
    """Let the failed children that were waited for under these keys begin anew, and the waits be opened again.

    Returns:
        The calls that started children which were cancelled: they are to start others.
    """
    children = children_at(connection, row, keys)
    for child in children:
        if child.status == "failed" and child.deleted_us is None:
            begin_child_anew(connection, child, actor=actor, asks_again=asks_again)
    connection.execute(delete(waits).where(waits.c.execution == row, waits.c.key.in_(keys), waits.c.kind == "child"))
    return cancelled_of(children, row)


def children_at(connection: Connection, row: int, keys: Sequence[str]) -> Sequence[Any]:
    """The children that were waited for under these keys."""
    stood = select(waits.c.child).where(waits.c.execution == row, waits.c.key.in_(keys), waits.c.kind == "child")
    return connection.execute(select(executions).where(executions.c.id.in_(stood)).order_by(executions.c.id)).all()


def cancelled_of(children: Sequence[Any], row: int) -> list[str]:
    """The calls that started those of them that were cancelled."""
    return [child.parent_key for child in children if child.status == "cancelled" and child.parent == row]


def begin_child_anew(connection: Connection, child: Any, *, actor: str, asks_again: bool) -> None:
    by = actor.removesuffix(WITH_PARENT) + WITH_PARENT
    begin_anew(connection, child, child.error, actor=by, asks_again=asks_again)
    forget_deadline(connection, child.id)


def unheard_of(connection: Connection, row: int, error: Mapping[str, Any]) -> Sequence[Any]:
    """The failed children of whose end their parent has recorded nothing, when it ended with this error."""
    failed = select(executions).where(
        executions.c.parent == row, executions.c.status == "failed", executions.c.deleted_us.is_(None)
    )
    children = connection.execute(failed).all()
    if not children:
        return []
    heard = select(waits.c.child).where(waits.c.execution == row, waits.c.status == "answered")
    told = set(connection.execute(heard).scalars()) if error.get("until") is None else set()
    ends = [c.row.error for c in current_of(connection, row) if c.row.kind in "wn" and c.row.error is not None]
    return [child for child in children if child.id not in told and not any(child.exec_id in end for end in ends)]


def forget_deadline(connection: Connection, row: int) -> None:
    """Its `finish_timeout` begins anew, too."""
    connection.execute(update(executions).where(executions.c.id == row).values(finish_by_us=None))


def shortened(error: Mapping[str, Any]) -> dict[str, Any]:
    return {name: error.get(name) for name in ("type", "message", "checkpoint")}


def last_seq(connection: Connection, row: int) -> int:
    highest = select(func.coalesce(func.max(journal.c.seq), 0)).where(journal.c.execution == row)
    return int(connection.execute(highest).scalar_one())
