"""Executions as work: created, claimed, kept alive, parked, ended.

Every change is one transaction whose WHERE names the state it starts from (states.py) and, for an owner, the attempt.
An attempt that crashes is followed by the next; five in a row that recorded nothing new end the execution.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import and_, func, or_, select, update
from sqlalchemy.engine import Connection

from kitaru_registry.database import Database, executions, journal, now_us, versions, waits
from kitaru_registry.errors import KitaruConflictError, KitaruNotFoundError
from kitaru_registry.executions.journal import Value, fenced
from kitaru_registry.executions.states import ENDED, sources_of
from kitaru_registry.models import ExecutionId

LEASE_SECONDS = 30
FRUITLESS_LIMIT = 5
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 30.0


@dataclass(frozen=True)
class NewExecution:
    exec_id: ExecutionId
    project: str
    flow: str
    kind: str
    inputs: Mapping[str, Any]
    """As JSON, to show and to filter by."""
    inputs_codec: str
    inputs_data: bytes
    input_digest: str
    actor: str
    version: int | None = None
    digest: str | None = None
    tag: str | None = None
    version_row: int | None = None
    idempotency_key: str | None = None
    needs: Mapping[str, Any] | None = None
    """What a runner must offer: `{"python": "3.11", "platform": "linux-x86_64", "protocol": 1}`."""
    source: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Owner:
    name: str
    pid: int
    host: str
    lease_seconds: int = LEASE_SECONDS


@dataclass(frozen=True)
class Candidate:
    """An execution that may be claimable, as it was seen."""

    row: int
    exec_id: ExecutionId
    status: str
    attempt: int
    owner_host: str | None
    lease_until_us: int | None
    needs: Mapping[str, Any]


@dataclass(frozen=True)
class Claim:
    row: int
    exec_id: ExecutionId
    project: str
    flow: str
    digest: str | None
    attempt: int
    inputs_codec: str
    inputs_data: bytes
    has_journal: bool
    """Whether an earlier attempt recorded anything."""


@dataclass(frozen=True)
class Beat:
    """What an owner learns by renewing: that it was fenced out, or asked to cancel."""

    owned: bool
    cancel_requested: bool


def create(database: Database, new: NewExecution) -> tuple[ExecutionId, bool]:
    """The execution's id, and whether it is new: an idempotency key gives the first one of its flow.

    Raises:
        KitaruConflictError: the key was used with other inputs.
        KitaruNotFoundError: the version was deleted meanwhile.
    """
    with database.write() as connection:
        if new.idempotency_key is not None and (found := find_by_key(connection, new)):
            return ExecutionId(found.exec_id), False
        if new.version_row is not None:
            gone = select(versions.c.deleted_us).where(versions.c.id == new.version_row)
            if connection.execute(gone).scalar_one() is not None:
                raise KitaruNotFoundError(
                    f"v{new.version} of {new.flow} was deleted", hint=f"kitaru versions list {new.flow}"
                )
        values = {name: value for name, value in vars(new).items() if name != "version_row"}
        connection.execute(executions.insert().values(**values, status="pending", created_us=now_us()))
    return new.exec_id, True


def find_by_key(connection: Connection, new: NewExecution) -> Any | None:
    found = connection.execute(
        select(executions.c.exec_id, executions.c.input_digest).where(
            executions.c.project == new.project,
            executions.c.flow == new.flow,
            executions.c.idempotency_key == new.idempotency_key,
        )
    ).one_or_none()
    if found is not None and found.input_digest != new.input_digest:
        raise KitaruConflictError(
            f"the idempotency key {new.idempotency_key!r} was used for {new.flow} with other inputs: {found.exec_id}",
            hint=f"kitaru executions get {found.exec_id}",
        )
    return found


def claimable(database: Database, *, kinds: Sequence[str] = ("deployed",)) -> list[Candidate]:
    """Pending executions that are due, oldest first, and running ones, which may have lost their owner."""
    wanted = (
        select(executions)
        .where(
            executions.c.kind.in_(kinds),
            or_(
                and_(executions.c.status == "pending", executions.c.not_before_us <= now_us()),
                executions.c.status == "running",
            ),
        )
        .order_by(executions.c.id)
        .limit(200)
    )
    with database.read() as connection:
        return [as_candidate(row) for row in connection.execute(wanted)]


def candidate(database: Database, exec_id: str) -> Candidate:
    with database.read() as connection:
        return as_candidate(connection.execute(select(executions).where(executions.c.exec_id == exec_id)).one())


def as_candidate(row: Any) -> Candidate:
    return Candidate(
        row.id, ExecutionId(row.exec_id), row.status, row.attempt, row.owner_host, row.lease_until_us, row.needs or {}
    )


def next_due_us(database: Database) -> int | None:
    """When the next pending execution is due; None where there is none."""
    due = select(func.min(executions.c.not_before_us)).where(
        executions.c.kind == "deployed", executions.c.status == "pending"
    )
    with database.read() as connection:
        found: int | None = connection.execute(due).scalar_one()
        return found


def claim(database: Database, seen: Candidate, owner: Owner) -> Claim | None:
    """Own the execution as its next attempt, if it still is as it was seen; else None.

    The caller holds the execution's file lock, so nobody on this host executes it.
    """
    with database.write() as connection:
        row = connection.execute(select(executions).where(executions.c.id == seen.row)).one()
        if (row.status, row.attempt) != (seen.status, seen.attempt) or row.status not in sources_of("running"):
            return None
        fruitless = row.fruitless_attempts
        if row.status == "running":
            fruitless = fruitless_after(connection, row)
            if fruitless >= FRUITLESS_LIMIT:
                fail_crashed(connection, row, fruitless, "its process is gone", keys_in_flight(row))
                return None
        recorded = last_seq(connection, row.id)
        connection.execute(
            update(executions)
            .where(executions.c.id == row.id)
            .values(
                status="running",
                attempt=row.attempt + 1,
                fruitless_attempts=fruitless,
                attempt_start_seq=recorded,
                started_us=row.started_us or now_us(),
                lease_until_us=lease_end(owner.lease_seconds),
                owner=owner.name,
                owner_pid=owner.pid,
                owner_host=owner.host,
                status_reason=None,
                in_flight=None,
            )
        )
    return Claim(
        row=row.id,
        exec_id=ExecutionId(row.exec_id),
        project=row.project,
        flow=row.flow,
        digest=row.digest,
        attempt=row.attempt + 1,
        inputs_codec=row.inputs_codec,
        inputs_data=row.inputs_data,
        has_journal=recorded > 0,
    )


def beat(
    database: Database, row: int, attempt: int, in_flight: Sequence[Mapping[str, Any]] | None, *,
    lease_seconds: int = LEASE_SECONDS,
) -> Beat:  # fmt: skip
    """Renew the lease, and note what runs (None: as before)."""
    values: dict[str, Any] = {"lease_until_us": lease_end(lease_seconds)}
    if in_flight is not None:
        values["in_flight"] = list(in_flight) or None
    with database.write() as connection:
        renewed = connection.execute(owned_update(row, attempt, "running").values(**values))
        cancel = select(executions.c.cancel_requested_us).where(executions.c.id == row)
        return Beat(renewed.rowcount == 1, connection.execute(cancel).scalar_one() is not None)


def park(database: Database, row: int, attempt: int, heard: Iterable[str]) -> dict[str, Any]:
    """Let the execution wait; or, if an answer came that its process has not heard, nothing but that answer.

    One that was to be cancelled ends here.

    Raises:
        KitaruFencedError: the attempt is over.
    """
    with database.write() as connection:
        unheard = answers(connection, row, heard)
        if unheard:
            return unheard
        parked = connection.execute(
            owned_update(row, attempt, "running").values(
                status="waiting", fruitless_attempts=0, lease_until_us=None, in_flight=None
            )
        )
        if parked.rowcount != 1:
            raise fenced(attempt)
        cancel = connection.execute(
            select(executions.c.cancel_requested_us, executions.c.cancel_actor).where(executions.c.id == row)
        ).one()
        # Its process is about to end, and would not hear of it any more.
        if cancel.cancel_requested_us is not None:
            end_cancelled(connection, row, cancel.cancel_actor)
    return {}


def unpark(database: Database, row: int, attempt: int) -> bool:
    """A process that stayed goes on with the same attempt after an answer. False: another took over."""
    with database.write() as connection:
        woken = connection.execute(
            owned_update(row, attempt, "pending").values(status="running", lease_until_us=lease_end())
        )
        return woken.rowcount == 1


def answers(connection: Connection, row: int, heard: Iterable[str]) -> dict[str, Any]:
    """Key to answer of the answered waits that were not heard of."""
    found = connection.execute(
        select(waits.c.key, waits.c.answer).where(
            waits.c.execution == row, waits.c.status == "answered", waits.c.key.not_in(list(heard))
        )
    )
    return {wait.key: wait.answer for wait in found}


def new_answers(database: Database, row: int, heard: Iterable[str]) -> dict[str, Any]:
    with database.read() as connection:
        return answers(connection, row, heard)


def finish(
    database: Database, row: int, attempt: int, *, result: Value | None, error: Mapping[str, Any] | None
) -> None:
    """End the execution with its result or its error.

    Raises:
        KitaruFencedError: the attempt is over.
    """
    with database.write() as connection:
        ended = connection.execute(
            owned_update(row, attempt, "running").values(
                status="failed" if error is not None else "completed",
                ended_us=now_us(),
                lease_until_us=None,
                in_flight=None,
                error=error,
                result_codec=result.codec if result else None,
                result_data=result.data if result else None,
                result_digest=result.digest if result else None,
            )
        )
        if ended.rowcount != 1:
            raise fenced(attempt)
        close_waits(connection, row)


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
        if found.cancel_requested_us is not None:
            end_cancelled(connection, row, found.cancel_actor)
            return "cancelled"
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
    """The status after: `cancelled`, or `running` where its process has to hear of it first.

    Raises:
        KitaruConflictError: it has ended otherwise.
    """
    with database.write() as connection:
        row = connection.execute(select(executions).where(executions.c.exec_id == exec_id)).one()
        if row.status in ENDED and row.status != "cancelled":
            raise KitaruConflictError(
                f"execution {exec_id} has {row.status} already", hint=f"kitaru executions get {exec_id}"
            )
        if row.status == "running":
            connection.execute(
                update(executions)
                .where(executions.c.id == row.id)
                .values(cancel_requested_us=row.cancel_requested_us or now_us(), cancel_actor=actor)
            )
        elif row.status != "cancelled":
            end_cancelled(connection, row.id, actor)
            return "cancelled"
        return str(row.status)


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


def make_due(database: Database, exec_id: str) -> None:
    """Let a pending execution be claimed now, whatever pause it was given."""
    with database.write() as connection:
        connection.execute(
            update(executions)
            .where(executions.c.exec_id == exec_id, executions.c.status == "pending")
            .values(not_before_us=0)
        )


def owned_update(row: int, attempt: int, status: str) -> Any:
    return update(executions).where(
        executions.c.id == row, executions.c.attempt == attempt, executions.c.status == status
    )


def lease_end(lease_seconds: int = LEASE_SECONDS) -> int:
    return now_us() + lease_seconds * 1_000_000


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


def fail_crashed(connection: Connection, row: Any, attempts: int, reason: str, running: Sequence[str]) -> None:
    error = {
        "type": "Crashed",
        "message": f"{attempts} attempts in a row ended without recording anything; the last: {reason}",
        "origin": "crashed",
        "checkpoint": ", ".join(running) or None,
    }
    connection.execute(
        update(executions)
        .where(executions.c.id == row.id)
        .values(status="failed", ended_us=now_us(), error=error, lease_until_us=None, status_reason=reason)
    )
    close_waits(connection, row.id)


def end_cancelled(connection: Connection, row: int, actor: str | None) -> None:
    connection.execute(
        update(executions)
        .where(executions.c.id == row, executions.c.status.in_(sources_of("cancelled")))
        .values(
            status="cancelled",
            ended_us=now_us(),
            lease_until_us=None,
            in_flight=None,
            status_reason=f"cancelled by {actor}" if actor else "cancelled",
        )
    )
    close_waits(connection, row)


def close_waits(connection: Connection, row: int) -> None:
    connection.execute(
        update(waits).where(waits.c.execution == row, waits.c.status == "pending").values(status="closed")
    )
