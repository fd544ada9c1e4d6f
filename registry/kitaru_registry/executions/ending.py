"""How attempts and executions end: with a result, an error, a cancellation, a crash, or too late.

Every change is one transaction whose WHERE names the state it starts from (states.py) and, for an owner, the attempt.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import and_, select, update
from sqlalchemy.engine import Connection

from kitaru_registry.clock import now_us
from kitaru_registry.database.opening import Database, tell_runners
from kitaru_registry.database.tables import executions, waits
from kitaru_registry.errors import KitaruConflictError
from kitaru_registry.executions.journal import Value, fenced
from kitaru_registry.executions.retrying import WITH_PARENT, begin_anew, last_seq
from kitaru_registry.executions.retrying import require_failed as require_failed
from kitaru_registry.executions.retrying import retry as retry
from kitaru_registry.models import Digest, ExecutionId
from kitaru_registry.records.states import ENDED, Status, sources_of

FRUITLESS_LIMIT = 5
ROWS_AT_ONCE = 500
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0

FAULT = "mended"
"""Among what an execution needs, where its `status_reason` is a fault of the machine: that it is mended."""


def finish(
    database: Database, row: int, attempt: int, *, result: Value | None, error: Mapping[str, Any] | None
) -> bool:
    """End the execution with its result or its error; whether it is to begin anew, by the flow's own retries.

    Raises:
        KitaruFencedError: the attempt is over.
    """
    with database.write(row) as connection:
        found = owned_row(connection, row, attempt)
        if found is None:
            raise fenced(attempt)
        if error is not None and error["origin"] == "user_code" and may_retry(found):
            begin_anew(connection, found, error, actor="the flow's retries", asks_again=False)
            return True
        end(connection, found, status="completed" if error is None else "failed", result=result, error=error)
    return False


def may_retry(row: Any) -> bool:
    return row.retries_used < row.retries and row.cancel_requested_us is None


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
    tell_runners(connection)


def end_attempt(
    database: Database, row: int, attempt: int, *, reason: str, running: Sequence[str] | None = None,
    counts: bool = True,
) -> str | None:  # fmt: skip
    """After its process ended without an outcome: pending again, or failed after five fruitless attempts.

    Args:
        reason: in words: `killed by SIGKILL in research`.
        running: the checkpoints that it was cut short in; by default those of its last heartbeat.
        counts: False where it is not for the attempt that it ended (its runner was stopped): it is due at once.

    Returns:
        The new status; None where somebody else owns the execution by now.
    """
    with database.write(row) as connection:
        found = owned_row(connection, row, attempt)
        if found is None:
            return None
        ended = end_overdue(connection, found)
        if ended is not None:
            return ended
        fruitless = fruitless_after(connection, found) if counts else found.fruitless_attempts
        if fruitless >= FRUITLESS_LIMIT:
            fail_crashed(connection, found, fruitless, reason, keys_in_flight(found) if running is None else running)
            return "failed"
        pause_seconds = pause_after(fruitless) if counts else 0.0
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
        tell_runners(connection)
        return "pending"


def postpone(
    database: Database, row: int, attempt: int, *, reason: str, pause_seconds: float, began: bool,
    alike: Digest | None = None,
) -> str | None:  # fmt: skip
    """After a fault of the machine: pending again, with the reason; what its own attempts are counted by is untouched.

    Args:
        began: whether a process was started. Where none was, the attempt was none, and its number is given out again.
        alike: the snapshot that nothing can be executed of; its other pending executions wait as long.

    Returns:
        The new status; None where somebody else owns the execution by now.
    """
    with database.write(row) as connection:
        found = owned_row(connection, row, attempt)
        if found is None:
            return None
        ended = end_overdue(connection, found)
        if ended is not None:
            return ended
        again = {"not_before_us": now_us() + int(pause_seconds * 1_000_000), "status_reason": reason}
        connection.execute(
            owned_update(row, attempt, "running").values(
                status="pending", lease_until_us=None, in_flight=None, needs=with_fault(found.needs), **again,
                **({} if began else unbegun(found)),
            )
        )  # fmt: skip
        if alike is not None:
            postpone_alike(connection, alike, again)
        return "pending"


def postpone_alike(connection: Connection, digest: Digest, again: Mapping[str, Any]) -> None:
    """Let the due executions of a snapshot wait too; what each needs is its own."""
    waiting_alike = and_(
        executions.c.digest == digest, executions.c.status == "pending", executions.c.not_before_us <= now_us(),
        executions.c.kind == "deployed",
    )  # fmt: skip
    # One that somebody is about to claim is none of them.
    wanted = select(executions.c.id, executions.c.needs).where(waiting_alike).with_for_update(skip_locked=True)
    by_needs: dict[str, list[int]] = {}
    for found in connection.execute(wanted):
        by_needs.setdefault(json.dumps(with_fault(found.needs)), []).append(found.id)
    for needs, rows in by_needs.items():
        for first in range(0, len(rows), ROWS_AT_ONCE):
            some = update(executions).where(executions.c.id.in_(rows[first : first + ROWS_AT_ONCE]))
            connection.execute(some.values(needs=json.loads(needs), **again))


def with_fault(needs: Mapping[str, Any] | None) -> dict[str, Any]:
    return {**(needs or {}), FAULT: True}


def unbegun(row: Any) -> dict[str, Any]:
    """What is taken back of a claim after which nothing was executed."""
    if row.attempt > 1:
        return {"attempt": row.attempt - 1}
    return {"attempt": 0, "started_us": None, "finish_by_us": None}


def request_cancel(database: Database, exec_id: str, *, actor: str) -> str:
    """The status after: `cancelled`, or `running` where its process has to hear of it first. Its open children too.

    Raises:
        KitaruConflictError: it has ended otherwise.
    """
    with database.write(exec_id) as connection:
        row = connection.execute(select(executions).where(executions.c.exec_id == exec_id)).one()
        return request_cancel_on(connection, row, actor=actor)


def request_cancel_on(connection: Connection, row: Any, *, actor: str) -> str:
    """`request_cancel`, within a transaction of the caller's."""
    if row.status in ENDED and row.status != "cancelled":
        raise KitaruConflictError(
            f"execution {row.exec_id} has {row.status} already", hint=f"kitaru executions get {row.exec_id}"
        )
    tell_runners(connection)
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
    with database.read() as connection:
        return cancel_requests_on(connection)


def cancel_requests_on(connection: Connection) -> list[ExecutionId]:
    """`cancel_requests`, within a transaction of the caller's."""
    wanted = select(executions.c.exec_id).where(
        executions.c.status == "running", executions.c.cancel_requested_us.is_not(None)
    )
    return [ExecutionId(found) for found in connection.execute(wanted).scalars()]


def cancel_owned(database: Database, row: int, attempt: int) -> bool:
    """End a running execution whose process has been ended; False where the attempt is over."""
    with database.write(row) as connection:
        found = owned_row(connection, row, attempt)
        if found is None:
            return False
        end_cancelled(connection, row, found.cancel_actor)
        return True


def stop(database: Database, row: int, attempt: int, *, key: str) -> None:
    """End a replay that may use recorded outcomes only, before the call of that key.

    Raises:
        KitaruFencedError: the attempt is over.
    """
    with database.write(row) as connection:
        found = owned_row(connection, row, attempt)
        if found is None:
            raise fenced(attempt)
        end(connection, found, status="cancelled", reason=f"stopped before {key}, which is not recorded")


def owned_row(connection: Connection, row: int, attempt: int) -> Any | None:
    """The execution, while this attempt runs it."""
    owned = (executions.c.id == row, executions.c.attempt == attempt, executions.c.status == "running")
    return connection.execute(select(executions).where(*owned)).one_or_none()


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
        seen = connection.execute(late.with_only_columns(executions.c.id)).scalars().all()
    if not seen:
        return 0
    with database.write(*seen) as connection:
        found = connection.execute(late.where(executions.c.id.in_(seen))).all()
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


def fruitless_after(connection: Connection, row: Any) -> int:
    recorded = last_seq(connection, row.id) > row.attempt_start_seq
    return 0 if recorded else row.fruitless_attempts + 1


def keys_in_flight(row: Any) -> list[str]:
    return [call["key"] for call in row.in_flight or ()]
