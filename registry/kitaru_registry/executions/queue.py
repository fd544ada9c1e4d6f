"""Executions as work: claimed, kept alive, parked.

Every change is one transaction whose WHERE names the state it starts from (states.py) and, for an owner, the attempt.
An attempt that crashes is followed by the next; five in a row that recorded nothing new end the execution.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.engine import Connection

from kitaru_registry.clock import now_us
from kitaru_registry.database.opening import Database, tell_runners
from kitaru_registry.database.tables import executions, waits
from kitaru_registry.executions.ending import (
    FAULT,
    FRUITLESS_LIMIT,
    end_cancelled,
    end_overdue,
    fail_crashed,
    fruitless_after,
    keys_in_flight,
    owned_update,
    wake,
)
from kitaru_registry.executions.journal import fenced
from kitaru_registry.executions.retrying import last_seq
from kitaru_registry.executions.waits import answers, next_deadline_us
from kitaru_registry.models import ExecutionId
from kitaru_registry.records.states import sources_of

LEASE_SECONDS = 30

HELD_SECONDS = 5
"""A process is kept for a time that is due within this."""

CLAIMABLE = 200
"""Pending executions that a runner looks at in one turn."""

SEEN = tuple(
    executions.c[name] for name in ("id", "exec_id", "status", "attempt", "owner_host", "lease_until_us", "needs")
)
"""What is looked at before a claim; not the inputs, which may be large."""


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
    """Of the row; `inputs.load` gives what the flow is called with."""
    inputs_in_parts: bool
    has_journal: bool
    """Whether anything is recorded."""
    entrypoint: str | None = None
    """A flow of the snapshot that is not its own."""
    cache: bool | None = None
    replay: Mapping[str, Any] | None = None
    is_child: bool = False
    variables: tuple[str, ...] = ()
    """Declared ones that whoever made it had: it does not begin without them."""


@dataclass(frozen=True)
class Beat:
    """What an owner learns by renewing: that it was fenced out, or asked to cancel."""

    owned: bool
    cancel_requested: bool
    is_late: bool = False
    """Its `finish_timeout` is over."""


def claimable(database: Database, *, limit: int = CLAIMABLE) -> list[Candidate]:
    """Deployed executions that run, and may have lost their owner; then pending ones that are due.

    Those first that have been due for longest, and of these the oldest: what has to wait for the machine to be mended
    stands behind what can run.
    """
    of_runners = select(*SEEN).where(executions.c.kind == "deployed")
    running = of_runners.where(executions.c.status == "running").order_by(executions.c.id)
    pending = (
        of_runners.where(executions.c.status == "pending", executions.c.not_before_us <= now_us())
        .order_by(executions.c.not_before_us, executions.c.id)
        .limit(limit)
    )
    with database.read() as connection:
        return [as_candidate(row) for wanted in (running, pending) for row in connection.execute(wanted)]


def candidate(database: Database, exec_id: str) -> Candidate:
    with database.read() as connection:
        return as_candidate(connection.execute(select(*SEEN).where(executions.c.exec_id == exec_id)).one())


def as_candidate(row: Any) -> Candidate:
    return Candidate(
        row.id, ExecutionId(row.exec_id), row.status, row.attempt, row.owner_host, row.lease_until_us, row.needs or {}
    )


def is_elsewhere(seen: Any, place: str) -> bool:
    """Whether a running execution is another home's, or another machine's, within its lease.

    Args:
        seen: a row of it, or a candidate.
        place: of this home (home.place_of).
    """
    return seen.owner_host != place and seen.lease_until_us is not None and seen.lease_until_us >= now_us()


def next_due_us(database: Database) -> int | None:
    """When there is something to do next: an execution to claim, or a time that comes. None: never."""
    pending = select(func.min(executions.c.not_before_us)).where(
        executions.c.kind == "deployed", executions.c.status == "pending"
    )
    late = select(func.min(executions.c.finish_by_us)).where(executions.c.status.in_(("pending", "waiting")))
    with database.read() as connection:
        found = [connection.execute(first).scalar_one() for first in (pending, late)]
        found.append(next_deadline_us(connection))
    return min((at for at in found if at is not None), default=None)


def claim(database: Database, seen: Candidate, owner: Owner) -> Claim | None:
    """Own the execution as its next attempt, if it still is as it was seen; else None.

    The caller holds the execution's file lock, so nobody on this host executes it.
    """
    with database.write_if_free(seen.row) as connection:
        if connection is None:
            return None
        row = connection.execute(select(executions).where(executions.c.id == seen.row)).one()
        if (row.status, row.attempt) != (seen.status, seen.attempt) or row.status not in sources_of("running"):
            return None
        if end_overdue(connection, row):
            return None
        fruitless = row.fruitless_attempts
        if row.status == "running":
            fruitless = fruitless_after(connection, row)
            if fruitless >= FRUITLESS_LIMIT:
                fail_crashed(connection, row, fruitless, "its process is gone", keys_in_flight(row))
                return None
        recorded = last_seq(connection, row.id)
        finish_by_us = row.finish_by_us
        if finish_by_us is None and row.finish_seconds is not None:
            finish_by_us = now_us() + int(row.finish_seconds * 1_000_000)
        connection.execute(
            update(executions)
            .where(executions.c.id == row.id)
            .values(
                status="running",
                attempt=row.attempt + 1,
                fruitless_attempts=fruitless,
                attempt_start_seq=recorded,
                started_us=row.started_us or now_us(),
                finish_by_us=finish_by_us,
                lease_until_us=lease_end(owner.lease_seconds),
                owner=owner.name,
                owner_pid=owner.pid,
                owner_host=owner.host,
                status_reason=None,
                in_flight=None,
                **({"needs": without_fault(row.needs)} if FAULT in (row.needs or {}) else {}),
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
        inputs_in_parts=row.inputs_in_parts,
        has_journal=recorded > 0,
        entrypoint=row.entrypoint,
        cache=row.cache,
        replay=row.replay,
        is_child=row.parent is not None,
        variables=tuple((row.needs or {}).get("variables", ())),
    )


def beat(
    database: Database, row: int, attempt: int, in_flight: Sequence[Mapping[str, Any]] | None, *,
    lease_seconds: int = LEASE_SECONDS,
) -> Beat:  # fmt: skip
    """Renew the lease, and note what runs (None: as before)."""
    values: dict[str, Any] = {"lease_until_us": lease_end(lease_seconds)}
    if in_flight is not None:
        values["in_flight"] = list(in_flight) or None
    with database.write(row) as connection:
        renewed = connection.execute(owned_update(row, attempt, "running").values(**values))
        said = connection.execute(
            select(executions.c.cancel_requested_us, executions.c.finish_by_us).where(executions.c.id == row)
        ).one()
        late = said.finish_by_us is not None and said.finish_by_us <= now_us()
        return Beat(renewed.rowcount == 1, said.cancel_requested_us is not None, late)


def park(database: Database, row: int, attempt: int, open_keys: Collection[str]) -> tuple[dict[str, Any], bool]:
    """Let the execution wait, unless an answer has come to a wait that stands open in its process, or is about to.

    One that was to be cancelled ends here.

    Args:
        open_keys: the waits that its process stands at.

    Returns:
        What has come, by key, and whether the execution waits now.

    Raises:
        KitaruFencedError: the attempt is over.
    """
    with database.write(row) as connection:
        unheard = answers(connection, row, open_keys)
        if unheard or is_due_soon(connection, row, open_keys):
            return unheard, False
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
    return {}, True


def unpark(database: Database, row: int, attempt: int) -> bool:
    """A process that stayed goes on with the same attempt, after an answer or a time of its own.

    False: another took over.
    """
    with database.write(row) as connection:
        wake(connection, [row])
        woken = connection.execute(
            owned_update(row, attempt, "pending").values(status="running", lease_until_us=lease_end())
        )
        return woken.rowcount == 1


STANDING = select(executions.c.status, executions.c.cancel_requested_us).where(executions.c.id == bindparam("row"))


def standing(database: Database, row: int) -> tuple[str, bool]:
    """The status, and whether a cancellation was asked for; at a tenth of the price of a compiled statement."""
    found = database.first(STANDING, row)
    assert found is not None  # rows of executions stay
    status, requested_us = found
    return status, requested_us is not None


def is_due_soon(connection: Connection, row: int, open_keys: Collection[str]) -> bool:
    """Whether a time is so near that ending the process and starting another would take as long."""
    due = select(waits.c.key).where(
        waits.c.execution == row,
        waits.c.key.in_(open_keys),
        waits.c.status == "pending",
        # A child may need the very slot that its parent holds.
        waits.c.kind != "child",
        waits.c.deadline_us <= now_us() + HELD_SECONDS * 1_000_000,
    )
    return connection.execute(due.limit(1)).one_or_none() is not None


def without_fault(needs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in needs.items() if name != FAULT}


def fault_of(database: Database, exec_id: str) -> str | None:
    """What the machine lacks to execute a pending execution, and what to do; None where it lacks nothing."""
    wanted = select(executions.c.status, executions.c.status_reason, executions.c.needs)
    with database.read() as connection:
        return fault_in(connection.execute(wanted.where(executions.c.exec_id == exec_id)).one())


def fault_in(row: Any) -> str | None:
    return str(row.status_reason) if row.status == "pending" and FAULT in (row.needs or {}) else None


def faults(database: Database) -> dict[str, list[ExecutionId]]:
    """What the machine lacks, to the pending executions of all projects that wait for it."""
    wanted = select(executions.c.exec_id, executions.c.status_reason, executions.c.needs).where(
        executions.c.status == "pending", executions.c.needs.is_not(None)
    )
    found: dict[str, list[ExecutionId]] = {}
    with database.read() as connection:
        for row in connection.execute(wanted.order_by(executions.c.id)):
            if FAULT in row.needs:
                found.setdefault(str(row.status_reason), []).append(ExecutionId(row.exec_id))
    return found


def make_due(database: Database, exec_id: str) -> None:
    """Let a pending execution be claimed now, whatever pause it was given and for whatever reason."""
    with database.write(exec_id) as connection:
        make_due_on(connection, exec_id)


def make_due_on(connection: Connection, exec_id: str) -> None:
    """`make_due`, within a transaction of the caller's."""
    wanted = select(executions.c.id, executions.c.needs).where(
        executions.c.exec_id == exec_id, executions.c.status == "pending"
    )
    found = connection.execute(wanted).one_or_none()
    if found is None:
        return
    again: dict[str, Any] = {"not_before_us": 0, "status_reason": None}
    if FAULT in (found.needs or {}):
        again["needs"] = without_fault(found.needs)
    connection.execute(update(executions).where(executions.c.id == found.id).values(**again))
    tell_runners(connection)


def could_not_begin(database: Database, exec_id: str, reason: str) -> None:
    """Say of an execution that is still pending why nobody executes it, until somebody sets it going again."""
    with database.write(exec_id) as connection:
        connection.execute(
            update(executions)
            .where(executions.c.exec_id == exec_id, executions.c.status == "pending")
            .values(status_reason=reason)
        )


def lease_end(lease_seconds: int = LEASE_SECONDS) -> int:
    return now_us() + lease_seconds * 1_000_000
