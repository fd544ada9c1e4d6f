"""Executions as their users see them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import and_, bindparam, case, exists, func, or_, select
from sqlalchemy.engine import Connection

from kitaru_registry.clock import as_datetime, as_microseconds
from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import SHOWN_DIGITS, executions, journal
from kitaru_registry.database.types import json_text, json_written, last_digits
from kitaru_registry.errors import KitaruConflictError, KitaruNotFoundError, KitaruStateError, KitaruUsageError
from kitaru_registry.executions.inputs import shown as shown_inputs
from kitaru_registry.executions.remarks import read_warnings
from kitaru_registry.executions.superseding import KEPT, Current, is_cancellation, kept_rows, without
from kitaru_registry.executions.values import values_of
from kitaru_registry.executions.waits import waits_on
from kitaru_registry.journal.display import as_json
from kitaru_registry.journal.entries import DIGEST_CODEC
from kitaru_registry.journal.metadata import merge_metadata
from kitaru_registry.models import (
    AcceptedDivergence,
    CheckpointCall,
    ChildExecution,
    Digest,
    ErrorDetail,
    Execution,
    ExecutionId,
    ReplayOf,
    Source,
    Wait,
)
from kitaru_registry.names import check_text, told
from kitaru_registry.records.states import ENDED, STATUSES
from kitaru_registry.records.values import Values

SHOWN_BYTES = 1 << 20
"""A result above this is shown by its size in `executions get`; `handle.get()` gives it."""


def find_id(database: Database, given: str) -> ExecutionId:
    """The execution's id, from the id or a unique beginning or end of it.

    Raises:
        KitaruUsageError: it is no text.
        KitaruNotFoundError: there is none.
        KitaruConflictError: several fit.
    """
    with database.read() as connection:
        return find_on(connection, given)


def find_row(connection: Connection, given: str) -> Any:
    """The execution's row, from the id or a unique beginning or end of it; raises as `find_id`."""
    return row_of(connection, find_on(connection, given))


def find_on(connection: Connection, given: str) -> ExecutionId:
    if not isinstance(given, str):
        raise KitaruUsageError(f"{told(given)} is no id of an execution", hint="give handle.exec_id, or enough of it")
    check_text("the id of an execution", given)
    found = fitting_ids(connection, given) if given else []
    if len(found) == 1:
        return ExecutionId(found[0])
    if found:
        raise KitaruConflictError(f"several executions fit {given}: {', '.join(found)}", hint="give more of the id")
    raise no_execution(given)


def no_execution(given: str) -> KitaruNotFoundError:
    return KitaruNotFoundError(f"there is no execution {given}", hint="kitaru executions list")


def row_of(connection: Connection, exec_id: str) -> Any:
    """
    Raises:
        KitaruNotFoundError: there is no execution of that whole id.
    """
    row = connection.execute(select(executions).where(executions.c.exec_id == exec_id)).one_or_none()
    if row is None:
        raise no_execution(exec_id)
    return row


def fitting_ids(connection: Connection, given: str) -> Sequence[str]:
    """At most three: the id itself; else those that begin with it, or whose last digits do or are it.

    Each look but the last, for an ending shorter than what lists show, costs the same however many there are.
    """
    name, shown = executions.c.exec_id, last_digits(executions.c.exec_id, SHOWN_DIGITS)
    looks = [name == given, or_(begins(name, given), begins(shown, given[:SHOWN_DIGITS]))]
    if len(given) > SHOWN_DIGITS:
        looks[1] = or_(begins(name, given), and_(shown == given[-SHOWN_DIGITS:], ends(name, given)))
    else:
        looks.append(ends(name, given))
    for fits in looks:
        if found := connection.execute(select(name).where(fits).limit(3)).scalars().all():
            return found
    return []


def begins(column: Any, text: str) -> Any:
    """As a range, for which an index serves: `LIKE` ignores case, and so reads every row."""
    return and_(column >= text, column < text + "\U0010ffff")


def ends(column: Any, text: str) -> Any:
    return last_digits(column, len(text)) == text


STATUS = select(executions.c.status).where(executions.c.exec_id == bindparam("exec_id"))


def get_status(database: Database, exec_id: ExecutionId) -> str:
    """At a tenth of the price of a compiled statement: a caller that waits asks again and again."""
    found = database.first(STATUS, exec_id)
    if found is None:
        raise no_execution(exec_id)
    return str(found[0])


def recorded_error(database: Database, exec_id: ExecutionId) -> dict[str, Any] | None:
    """How a failed execution ended, as its attempt described it."""
    with database.read() as connection:
        found: dict[str, Any] | None = row_of(connection, exec_id).error
        return found


def get_execution(database: Database, exec_id: ExecutionId) -> Execution:
    """The execution with its checkpoints, pending waits and result."""
    with database.read() as connection:
        return execution_on(connection, values_of(database), row_of(connection, exec_id))


def execution_on(connection: Connection, values: Values, row: Any) -> Execution:
    """`get_execution`, within a transaction of the caller's."""
    read = read_calls(connection, row)
    return as_execution(
        row,
        **shown_values(values, row),
        **read_family(connection, row),
        metadata=read.logged,
        checkpoints=tuple(read.calls.values()),
        accepted=tuple(read.accepted),
        warnings=tuple(read.warnings),
        pending_waits=pending_waits(connection, row),
    )


def brief_on(connection: Connection, values: Values, row: Any) -> Execution:
    """The execution with its pending waits and result; nothing of its journal is read, which may be very long."""
    return as_execution(
        row,
        **shown_values(values, row),
        **read_family(connection, row),
        pending_waits=pending_waits(connection, row),
        warnings=read_warnings(connection, [row.id]).get(row.id, ()),
    )


def outline_on(connection: Connection, row: Any) -> Execution:
    """The execution without its checkpoints, waits and result: as cheap, however long its journal is."""
    return as_execution(row, children=read_children(connection, row.id))


def get_outline(database: Database, exec_id: ExecutionId) -> Execution:
    """See outline_on."""
    with database.read() as connection:
        return outline_on(connection, row_of(connection, exec_id))


def pending_waits(connection: Connection, row: Any) -> tuple[Wait, ...]:
    """Oldest first."""
    return tuple(reversed(waits_on(connection, exec_id=row.exec_id))) if row.status != "cancelled" else ()


def shown_values(values: Values, row: Any) -> dict[str, Any]:
    """Its inputs and its result, as JSON."""
    return {"result": shown_result(values, row), "inputs": shown_inputs(values, row, limit=SHOWN_BYTES)}


def read_family(connection: Connection, row: Any) -> dict[str, Any]:
    """Who started it, and what it has started."""
    parents = parents_of(connection, [row])
    return {"parent": parents.get(row.parent), "children": read_children(connection, row.id)}


def parents_of(connection: Connection, rows: Sequence[Any]) -> dict[int, ExecutionId]:
    """Row to id, of the executions that started these."""
    wanted = {row.parent for row in rows if row.parent is not None}
    if not wanted:
        return {}
    found = select(executions.c.id, executions.c.exec_id).where(executions.c.id.in_(wanted))
    return {row.id: ExecutionId(row.exec_id) for row in connection.execute(found)}


def read_children(connection: Connection, row: int) -> tuple[ChildExecution, ...]:
    wanted = select(executions).where(executions.c.parent == row).order_by(executions.c.id)
    return tuple(
        ChildExecution(
            exec_id=ExecutionId(child.exec_id), flow=child.flow, key=child.parent_key.partition("!")[0],
            status=child.status,
        )
        for child in connection.execute(wanted)
    )  # fmt: skip


def get_source(database: Database, row: int) -> Source | None:
    """What a source execution runs on."""
    with database.read() as connection:
        found = connection.execute(select(executions.c.source).where(executions.c.id == row)).scalar_one()
    return Source.model_validate(found) if found else None


def list_executions(
    database: Database, *, project: str, flow: str | None = None, status: str | None = None, version: int | None = None,
    since: datetime | None = None, where: Mapping[str, str] | None = None, parent: ExecutionId | None = None,
    tag: str | None = None, replay_of: str | None = None, limit: int = 50, offset: int = 0,
) -> list[Execution]:  # fmt: skip
    """Executions, newest first, without their checkpoints.

    Args:
        where: input or logged metadata names to values, compared as text; `a.b` reaches into a mapping.
        parent: only what this execution started.
        tag: that the version was found by.
        replay_of: the whole id of the execution that they are replays of.

    Raises:
        KitaruUsageError: no such status, or a limit below 1.
    """
    require_limit(limit)
    if status is not None and status not in STATUSES:
        raise KitaruUsageError(f"there is no status {status}", hint=f"one of {', '.join(STATUSES)}")
    wanted = select(executions).where(executions.c.project == project)
    for column, value in (
        (executions.c.flow, flow), (executions.c.status, status), (executions.c.version, version),
        (executions.c.tag, tag), (json_text(executions.c.replay, "of"), replay_of),
    ):  # fmt: skip
        if value is not None:
            wanted = wanted.where(column == value)
    if since is not None:
        wanted = wanted.where(executions.c.created_us >= as_microseconds(since))
    if parent is not None:
        started_by = executions.alias()
        wanted = wanted.where(
            executions.c.parent == select(started_by.c.id).where(started_by.c.exec_id == parent).scalar_subquery()
        )
    for name, text in (where or {}).items():
        wanted = wanted.where(has_value(name, text))
    with database.read() as connection:
        rows = connection.execute(wanted.order_by(executions.c.id.desc()).limit(limit).offset(offset)).all()
        parents, warnings = parents_of(connection, rows), read_warnings(connection, [row.id for row in rows])
    values = values_of(database)
    return [
        as_execution(
            row, result=shown_result(values, row), parent=parents.get(row.parent), warnings=warnings.get(row.id, ())
        )
        for row in rows
    ]


def require_limit(limit: int | None) -> None:
    """
    Raises:
        KitaruUsageError: nothing fits within it.
    """
    if limit is not None and limit < 1:
        raise KitaruUsageError(f"a limit of {limit} finds nothing", hint="a limit of 1 or more")


def has_value(name: str, text: str) -> Any:
    path = name.split(".")
    in_inputs = json_written(executions.c.inputs, *path) == text
    in_metadata = exists(
        select(journal.c.seq).where(
            journal.c.execution == executions.c.id,
            journal.c.metadata.is_not(None),
            json_written(journal.c.metadata, *path) == text,
        )
    )
    return or_(in_inputs, in_metadata)


def count_open(database: Database, *, project: str) -> dict[str, int]:
    """Number of executions by status."""
    wanted = (
        select(executions.c.status, func.count()).where(executions.c.project == project).group_by(executions.c.status)
    )
    with database.read() as connection:
        return {row.status: row[1] for row in connection.execute(wanted)}


def running_executions(database: Database) -> Sequence[Any]:
    """Rows of all projects that are running, with their owners."""
    with database.read() as connection:
        return connection.execute(select(executions).where(executions.c.status == "running")).all()


def shown_result(values: Values, row: Any) -> Any:
    if row.result_codec is None:
        return None
    data = row.result_data
    if data is None:
        size = values.size(row.result_digest)
        if size > SHOWN_BYTES:
            return as_json(row.result_codec, None, size)
        data = values.get(row.result_digest)
    return as_json(row.result_codec, data)


@dataclass
class ReadJournal:
    calls: dict[str, CheckpointCall] = field(default_factory=dict)
    """In recorded order; what runs now last."""
    logged: dict[str, Any] = field(default_factory=dict)
    """By the flow's body."""
    accepted: list[AcceptedDivergence] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    kept: dict[str, CheckpointCall] = field(default_factory=dict)
    """Of a replay: outcomes that it uses where the flow comes to their calls, which it has not."""
    _counted: list[Current] = field(default_factory=list)
    """What counts so far."""

    def add(self, entry: Any, *, reused: bool = False, kept: bool = False) -> None:
        self._counted.append(Current(entry))
        if entry.kind in "ct":
            calls = self.kept if kept else self.calls
            before = calls.get(entry.key)
            # Of a call that failed, and whose caller gave up before it heard of that, the failure says more.
            if not (before is not None and before.status == "failed" and is_cancellation(entry)):
                calls[entry.key] = as_call(entry, tries=entry.tries or 1, reused=reused)
        elif entry.kind == "d":
            self.add_remark(entry.key, json.loads(entry.metadata))
        elif entry.kind == "l":
            # `log()` without anything is an entry without metadata.
            self.logged = merge_metadata(self.logged, json.loads(entry.metadata or "{}"))
        elif entry.kind == "r":
            self._counted = without(self._counted, json.loads(entry.metadata))
            last: dict[str, Any] = {c.row.key: c.row for c in self._counted if c.row.kind in "ct"}
            # Where its caller had given up, the outcome counts that it did not get.
            self.calls = {
                key: as_call(last[key], tries=last[key].tries or 1, reused=call.reused)
                for key, call in self.calls.items()
                if key in last
            }
        elif entry.kind == "a":
            said = {**json.loads(entry.metadata), "at": as_datetime(entry.ended_us)}
            self.accepted.append(AcceptedDivergence.model_validate(said))

    def add_remark(self, key: str, said: Mapping[str, Any]) -> None:
        if "warning" in said:
            self.warnings.append(said["warning"])
        call = key.removesuffix(KEPT)
        if call != key and call in self.kept:
            self.calls[call] = self.kept.pop(call)

    def add_running(self, running: Mapping[str, Any]) -> None:
        before = self.calls.get(running["key"])
        if before is None or before.status == "retrying":
            self.calls[running["key"]] = CheckpointCall(
                key=running["key"],
                name=running["name"],
                status="running",
                attempts=running["tries"],
                started_at=as_datetime(running["started_us"]),
                ended_at=None,
            )


def read_calls(connection: Connection, row: Any) -> ReadJournal:
    columns = ("seq", "kind", "key", "name", "tries", "type", "error", "metadata", "started_us", "ended_us")
    unkept = case((journal.c.codec == DIGEST_CODEC, journal.c.data)).label("unkept")
    wanted = select(*(journal.c[name] for name in columns), unkept).where(journal.c.execution == row.id)
    copied, kept = row.replay["copied"] if row.replay else 0, kept_rows(row.replay)
    read = ReadJournal()
    for entry in connection.execute(wanted.order_by(journal.c.seq)):
        read.add(entry, reused=entry.seq <= copied, kept=entry.seq in kept)
    for running in (row.in_flight or ()) if row.status not in ENDED else ():
        read.add_running(running)
    return read


def as_call(entry: Any, *, tries: int, reused: bool) -> CheckpointCall:
    error = json.loads(entry.error) if entry.error else None
    done = "completed" if error is None else "passed" if error.get("passed") else "failed"
    return CheckpointCall(
        key=entry.key,
        name=entry.name or name_of(entry.key),
        status="retrying" if entry.kind == "t" else done,
        attempts=tries,
        started_at=as_datetime(entry.started_us),
        ended_at=as_datetime(entry.ended_us),
        type=entry.type,
        error=ErrorDetail.model_validate(error) if error else None,
        metadata=json.loads(entry.metadata) if entry.metadata else {},
        output_digest=Digest(f"sha256:{entry.unkept.hex()}") if entry.unkept else None,
        reused=reused,
    )


def name_of(key: str) -> str:
    """The checkpoint's name, from its key: `map[3]/fetch#2` is `fetch`."""
    return key.rpartition("/")[2].partition("#")[0]


def as_execution(row: Any, **more: Any) -> Execution:
    more = {"inputs": row.inputs, "result": None, **more}
    # What the database says needs no validator, which would take 10 ms to build.
    return Execution.model_construct(
        exec_id=ExecutionId(row.exec_id),
        project=row.project,
        kind=row.kind,
        flow=row.flow,
        version=row.version,
        digest=Digest(row.digest) if row.digest else None,
        tag=row.tag,
        status=row.status,
        status_reason=row.status_reason,
        error=ErrorDetail.model_validate(row.error) if row.error else None,
        attempt=row.attempt,
        created_at=as_datetime(row.created_us),
        started_at=as_datetime(row.started_us),
        ended_at=as_datetime(row.ended_us),
        actor=row.actor,
        source=Source.model_validate(row.source) if row.source else None,
        deleted_at=as_datetime(row.deleted_us),
        original_exec_id=row.replay["of"] if row.replay else None,
        replay_of=ReplayOf.model_validate(row.replay) if row.replay else None,
        **more,
    )


def require_values(connection: Connection, exec_id: str) -> int:
    """The row of an execution whose values are there.

    Raises:
        KitaruNotFoundError: they were deleted.
    """
    wanted = select(executions.c.id, executions.c.deleted_us, executions.c.status_reason)
    found = connection.execute(wanted.where(executions.c.exec_id == exec_id)).one_or_none()
    if found is None:
        raise no_execution(exec_id)
    if found.deleted_us is not None:
        raise KitaruNotFoundError(
            f"the values of execution {exec_id} are gone: {found.status_reason} at "
            f"{as_datetime(found.deleted_us):%Y-%m-%d %H:%M} UTC",
            hint="kitaru executions list",
        )
    return int(found.id)


def is_of_digest(database: Database, exec_id: ExecutionId, digest: str | None) -> bool:
    """Whether the execution ran on that snapshot."""
    with database.read() as connection:
        found = connection.execute(select(executions.c.digest).where(executions.c.exec_id == exec_id)).scalar_one()
    return digest is not None and found == digest


def result_bytes(database: Database, exec_id: ExecutionId) -> tuple[str, bytes]:
    """Codec and verified bytes of a completed execution's result.

    Raises:
        KitaruNotFoundError: they were deleted.
    """
    with database.read() as connection:
        require_values(connection, exec_id)
        row = row_of(connection, exec_id)
    return result_of(values_of(database), row)


def result_of(values: Values, row: Any) -> tuple[str, bytes]:
    """
    Raises:
        KitaruStateError: the execution has no result.
    """
    if row.result_codec is None:
        raise KitaruStateError(
            f"execution {row.exec_id} is {row.status}, and has no result", hint=f"kitaru executions get {row.exec_id}"
        )
    return row.result_codec, row.result_data if row.result_data is not None else values.get(row.result_digest)
