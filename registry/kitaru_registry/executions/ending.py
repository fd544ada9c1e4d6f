"""How attempts and executions end: with a result, an error, a cancellation, a crash, or too late.

Every change is one transaction whose WHERE names the state it starts from (states.py) and, for an owner, the attempt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, cast

from sqlalchemy import and_, delete, func, or_, select, update
from sqlalchemy.engine import Connection

from kitaru_registry.clock import now_us
from kitaru_registry.database import Database, executions, journal, waits
from kitaru_registry.errors import KitaruConflictError, KitaruStateError
from kitaru_registry.executions.journal import Row, Value, fenced
from kitaru_registry.executions.states import ENDED, Status, sources_of
from kitaru_registry.executions.superseding import BY_SCOPE, Current, current_rows, later_stands
from kitaru_registry.models import ExecutionId

FRUITLESS_LIMIT = 5
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0

WITH_PARENT = ", with its parent"


def finish(
    database: Database, row: int, attempt: int, *, result: Value | None, error: Mapping[str, Any] | None
) -> bool:
    """End the execution with its result or its error; whether it is to begin anew, by the flow's own retries.

    Raises:
        KitaruFencedError: the attempt is over.
    """
    with database.write() as connection:
        found = connection.execute(
            select(executions).where(
                executions.c.id == row, executions.c.attempt == attempt, executions.c.status == "running"
            )
        ).one_or_none()
        if found is None:
            raise fenced(attempt)
        if error is not None and error["origin"] == "user_code" and may_retry(found):
            begin_anew(connection, found, error, actor="the flow's retries", asks_again=False)
            return True
        end(connection, found, status="completed" if error is None else "failed", result=result, error=error)
    return False


def may_retry(row: Any) -> bool:
    return row.retries_used < row.retries and row.cancel_requested_us is None


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
    unconsumed = [*error.get("failed", []), *too_late(connection, row.id, error)]
    stood_at = waits_at(connection, row.id, unconsumed)
    failed = [key for key in unconsumed if asks_again or key not in stood_at]
    for key in stood_at if asks_again else ():
        set_aside(connection, row.id, key, seq)
    superseded = failed + begin_children_anew(connection, row.id, failed, actor=actor, asks_again=asks_again)
    for child in unheard_of(connection, row.id, error):
        connection.execute(delete(waits).where(waits.c.execution == row.id, waits.c.child == child.id))
        begin_child_anew(connection, child, actor=actor, asks_again=asks_again)
    said = {"superseded": superseded, "rules": BY_SCOPE, **({"cut": error["cut"]} if "cut" in error else {})}
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


def begin_children_anew(
    connection: Connection, row: int, keys: Sequence[str], *, actor: str, asks_again: bool
) -> list[str]:  # fmt: skip
    """Let the failed children that were waited for under these keys begin anew, and the waits be opened again.

    Returns:
        The calls that started children which were cancelled: they are to start others.
    """
    cancelled = []
    standing = and_(waits.c.execution == row, waits.c.key.in_(keys), waits.c.kind == "child")
    for stood in connection.execute(select(waits).where(standing)).all():
        child = connection.execute(select(executions).where(executions.c.id == stood.child)).one()
        if child.status == "failed" and child.deleted_us is None:
            begin_child_anew(connection, child, actor=actor, asks_again=asks_again)
        elif child.status == "cancelled" and child.parent == row:
            cancelled.append(child.parent_key)
    connection.execute(delete(waits).where(standing))
    return cancelled


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


def retry(database: Database, exec_id: str, *, actor: str) -> None:
    """Let a failed execution go on at what failed.

    Raises:
        KitaruStateError: it has not failed, or its values were deleted.
    """
    with database.write() as connection:
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


def end(
    connection: Connection, row: Any, *, status: Status, result: Value | None = None,
    error: Mapping[str, Any] | None = None, reason: str | None = None,
) -> None:  # fmt: skip
    """End an open execution: its waits are closed, and a parent that waits for it hears of it.

    Of one that is cancelled what its process was in stays known: a replay may begin there.
    """
    connection.execute(
        update(executions)
        .where(executions.c.id == row.id, executions.c.status.in_(sources_of(status)))
        .values(
            status=status,
            ended_us=now_us(),
            lease_until_us=None,
            in_flight=executions.c.in_flight if status == "cancelled" else None,
            error=error,
            status_reason=reason,
            result_codec=result.codec if result else None,
            result_data=result.data if result else None,
            result_digest=result.digest if result else None,
        )
    )
    connection.execute(
        update(waits).where(waits.c.execution == row.id, waits.c.status == "pending").values(status="closed")
    )
    tell_parent(connection, row.id)


def tell_parent(connection: Connection, row: int) -> None:
    """Answer the waits that stand for this execution's end."""
    standing = select(waits.c.execution).where(waits.c.child == row, waits.c.status == "pending")
    parents = list(connection.execute(standing).scalars())
    if not parents:
        return
    connection.execute(
        update(waits)
        .where(waits.c.child == row, waits.c.status == "pending")
        .values(status="answered", answer={"value": None}, answered_us=now_us(), door="child")
    )
    wake(connection, parents)


def wake(connection: Connection, rows: Sequence[int]) -> None:
    """Let waiting executions be claimed."""
    connection.execute(
        update(executions)
        .where(executions.c.id.in_(rows), executions.c.status == "waiting")
        .values(status="pending", not_before_us=0)
    )


def end_attempt(
    database: Database, row: int, attempt: int, *, reason: str, running: Sequence[str] | None = None,
    counts: bool = True,
) -> str | None:  # fmt: skip
    """After its process ended without an outcome: pending again, or failed after five fruitless attempts.

    Args:
        reason: in words: `killed by SIGKILL in research`.
        running: the checkpoints that it was cut short in; by default those of its last heartbeat.
        counts: False where the attempt never began (no environment could be built).

    Returns:
        The new status; None where somebody else owns the execution by now.
    """
    with database.write() as connection:
        found = connection.execute(
            select(executions).where(
                executions.c.id == row, executions.c.attempt == attempt, executions.c.status == "running"
            )
        ).one_or_none()
        if found is None:
            return None
        ended = end_overdue(connection, found)
        if ended is not None:
            return ended
        fruitless = fruitless_after(connection, found) if counts else found.fruitless_attempts
        if fruitless >= FRUITLESS_LIMIT:
            fail_crashed(connection, found, fruitless, reason, keys_in_flight(found) if running is None else running)
            return "failed"
        pause_seconds = pause_after(fruitless) if counts else LONGEST_PAUSE_SECONDS / 6
        connection.execute(
            owned_update(row, attempt, "running").values(
                status="pending",
                fruitless_attempts=fruitless,
                not_before_us=now_us() + int(pause_seconds * 1_000_000),
                lease_until_us=None,
                in_flight=None,
                status_reason=reason,
            )
        )
        return "pending"


def request_cancel(database: Database, exec_id: str, *, actor: str) -> str:
    """The status after: `cancelled`, or `running` where its process has to hear of it first. Its open children too.

    Raises:
        KitaruConflictError: it has ended otherwise.
    """
    with database.write() as connection:
        row = connection.execute(select(executions).where(executions.c.exec_id == exec_id)).one()
        if row.status in ENDED and row.status != "cancelled":
            raise KitaruConflictError(
                f"execution {exec_id} has {row.status} already", hint=f"kitaru executions get {exec_id}"
            )
        return cancel_all(connection, row, actor)


def cancel_all(connection: Connection, row: Any, actor: str | None) -> str:
    """Cancel an execution and the open ones that it started, down to the last; its own status after."""
    status = str(row.status)
    if status == "running":
        connection.execute(
            update(executions)
            .where(executions.c.id == row.id)
            .values(cancel_requested_us=row.cancel_requested_us or now_us(), cancel_actor=actor)
        )
    elif status not in ENDED:
        end_cancelled(connection, row.id, actor)
        status = "cancelled"
    said = actor if actor is None or actor.endswith(WITH_PARENT) else actor + WITH_PARENT
    for child in connection.execute(select(executions).where(executions.c.parent == row.id)).all():
        if child.status not in ENDED:
            cancel_all(connection, child, said)
    return status


def cancel_requests(database: Database) -> list[ExecutionId]:
    """Running executions whose process has to hear that they are to be cancelled."""
    wanted = select(executions.c.exec_id).where(
        executions.c.status == "running", executions.c.cancel_requested_us.is_not(None)
    )
    with database.read() as connection:
        return [ExecutionId(found) for found in connection.execute(wanted).scalars()]


def cancel_owned(database: Database, row: int, attempt: int) -> bool:
    """End a running execution whose process has been ended; False where the attempt is over."""
    with database.write() as connection:
        found = connection.execute(
            select(executions.c.cancel_actor).where(
                executions.c.id == row, executions.c.attempt == attempt, executions.c.status == "running"
            )
        ).one_or_none()
        if found is None:
            return False
        end_cancelled(connection, row, found.cancel_actor)
        return True


def stop(database: Database, row: int, attempt: int, *, key: str) -> None:
    """End a replay that may use recorded outcomes only, before the call of that key.

    Raises:
        KitaruFencedError: the attempt is over.
    """
    with database.write() as connection:
        found = connection.execute(
            select(executions).where(
                executions.c.id == row, executions.c.attempt == attempt, executions.c.status == "running"
            )
        ).one_or_none()
        if found is None:
            raise fenced(attempt)
        end(connection, found, status="cancelled", reason=f"stopped before {key}, which is not recorded")


def end_overdue(connection: Connection, row: Any) -> str | None:
    """End an execution without a process that was to be cancelled, or is too late; its status then."""
    if row.cancel_requested_us is not None:
        end_cancelled(connection, row.id, row.cancel_actor)
        return "cancelled"
    if is_late(row):
        fail_late(connection, row)
        return "failed"
    return None


def is_late(row: Any) -> bool:
    return row.finish_by_us is not None and row.finish_by_us <= now_us()


def end_late(database: Database) -> int:
    """Fail the waiting and pending executions whose `finish_timeout` is over; how many there were.

    A running one is ended by its owner, which learns of it by its next heartbeat.
    """
    late = select(executions).where(
        executions.c.finish_by_us <= now_us(), executions.c.status.in_(("pending", "waiting"))
    )
    with database.read() as connection:
        if connection.execute(late.limit(1)).one_or_none() is None:
            return 0
    with database.write() as connection:
        found = connection.execute(late).all()
        for row in found:
            fail_late(connection, row)
        return len(found)


def fail_late(connection: Connection, row: Any) -> None:
    message = f"the execution took longer than its finish_timeout of {row.finish_seconds or 0.0:g} s"
    hint = "give it longer: @flow(finish_timeout=...)"
    error = {
        "type": "KitaruTimeoutError",
        "class": "kitaru_registry.errors:KitaruTimeoutError",
        "message": message,
        "origin": "runtime",
        "hint": hint,
        "state": {"message": message, "hint": hint},
    }
    end(connection, row, status="failed", error=error, reason="finish_timeout")
    cancel_all_children(connection, row)


def cancel_all_children(connection: Connection, row: Any) -> None:
    for child in connection.execute(select(executions).where(executions.c.parent == row.id)).all():
        if child.status not in ENDED:
            cancel_all(connection, child, "its parent's end")


def fail_crashed(connection: Connection, row: Any, attempts: int, reason: str, running: Sequence[str]) -> None:
    error = {
        "type": "Crashed",
        "message": f"{attempts} attempts in a row ended without recording anything; the last: {reason}",
        "origin": "crashed",
        "checkpoint": ", ".join(running) or None,
    }
    end(connection, row, status="failed", error=error, reason=reason)


def end_cancelled(connection: Connection, row: int, actor: str | None) -> None:
    found = connection.execute(select(executions).where(executions.c.id == row)).one()
    end(connection, found, status="cancelled", reason=f"cancelled by {actor}" if actor else "cancelled")


def owned_update(row: int, attempt: int, status: str) -> Any:
    return update(executions).where(
        executions.c.id == row, executions.c.attempt == attempt, executions.c.status == status
    )


def pause_after(fruitless: int) -> float:
    """Seconds until the next attempt; none after one that recorded something."""
    return min(FIRST_PAUSE_SECONDS * 2 ** (fruitless - 1), LONGEST_PAUSE_SECONDS) if fruitless else 0.0


def last_seq(connection: Connection, row: int) -> int:
    highest = select(func.coalesce(func.max(journal.c.seq), 0)).where(journal.c.execution == row)
    return int(connection.execute(highest).scalar_one())


def fruitless_after(connection: Connection, row: Any) -> int:
    recorded = last_seq(connection, row.id) > row.attempt_start_seq
    return 0 if recorded else row.fruitless_attempts + 1


def keys_in_flight(row: Any) -> list[str]:
    return [call["key"] for call in row.in_flight or ()]
