"""Deletion: an ended execution's values go, and a tombstone stays; and the files that no row names any more.

Gone are the journal, artifacts, inputs, result, error, waits and answers, and the execution's folder. The row stays:
id, flow, version, digest, status, times, when it was deleted and by whom; and the idempotency key, so that a repeated
call still finds that it was made.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import time
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Select, bindparam, delete, or_, select, update
from sqlalchemy.engine import Connection

from kitaru_registry.clock import as_microseconds, now_us
from kitaru_registry.database.held import Held
from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import artifacts, executions, input_parts, journal, waits
from kitaru_registry.database.types import json_text
from kitaru_registry.errors import KitaruBackendError, KitaruStateError, KitaruUsageError
from kitaru_registry.executions.values import values_of
from kitaru_registry.models import Deleted, ExecutionId
from kitaru_registry.records.states import ENDED, OPEN, STATUSES
from kitaru_registry.records.values import Deletion, Values

SPARED_SECONDS = 24 * 3600
"""A file that no row names is left alone for so long."""

POLICIES = "retention.json"

AT_ONCE = 200
"""Executions that one go of the retention deletes: it may not keep other writers waiting."""


def ended(
    database: Database, *, project: str, flow: str | None = None, status: str | None = None,
    since: datetime | None = None, before: datetime | None = None, limit: int | None = None,
) -> list[ExecutionId]:  # fmt: skip
    """Executions that can be deleted, oldest first: not those that an open one needs.

    Args:
        since, before: of their end.

    Raises:
        KitaruUsageError: no such status, or not one of an end.
    """
    if status is not None and status not in ENDED:
        known = "an open execution is not deleted: cancel it first" if status in STATUSES else None
        raise KitaruUsageError(f"--status {status} is no end", hint=known or f"one of {', '.join(sorted(ENDED))}")
    open_one = executions.alias()
    open_ones = select(open_one.c.id).where(open_one.c.status.in_(OPEN))
    replayed = select(json_text(open_one.c.replay, "of")).where(
        open_one.c.status.in_(OPEN), open_one.c.replay.is_not(None)
    )
    wanted = select(executions.c.exec_id).where(
        executions.c.project == project,
        executions.c.deleted_us.is_(None),
        executions.c.status.in_(sorted(ENDED)),
        or_(executions.c.parent.is_(None), executions.c.parent.not_in(open_ones)),
        executions.c.exec_id.not_in(replayed),
    )
    for column, value in ((executions.c.flow, flow), (executions.c.status, status)):
        if value is not None:
            wanted = wanted.where(column == value)
    if since is not None:
        wanted = wanted.where(executions.c.ended_us >= as_microseconds(since))
    if before is not None:
        wanted = wanted.where(executions.c.ended_us < as_microseconds(before))
    with database.read() as connection:
        return [ExecutionId(i) for i in connection.execute(wanted.order_by(executions.c.id).limit(limit)).scalars()]


def undeleted(database: Database, exec_ids: Sequence[ExecutionId]) -> list[ExecutionId]:
    """Those of these that a deletion would take: without what was deleted before.

    Raises:
        KitaruStateError: one has not ended, or an open execution needs it.
    """
    found = []
    with database.read() as connection:
        for exec_id in exec_ids:
            row = connection.execute(select(executions).where(executions.c.exec_id == exec_id)).one()
            require_deletable(connection, row)
            if row.deleted_us is None:
                found.append(exec_id)
    return found


def erase(database: Database, exec_ids: Sequence[ExecutionId], *, actor: str) -> Deleted:
    """Delete ended executions' values; one that was deleted before is passed over.

    The caller holds their locks: no process of theirs is left.

    Raises:
        KitaruStateError: one has not ended, or an open execution needs it; none was deleted.
    """
    with database.write(*exec_ids) as connection:
        database.dialect.begin_erasing(connection)
        rows = connection.execute(select(executions).where(executions.c.exec_id.in_(exec_ids))).all()
        digests: set[bytes] = set()
        for row in rows:
            require_deletable(connection, row)
            if row.deleted_us is None:
                digests |= set(named_by(connection, row.id))
                erase_rows(connection, row, actor)
        database.dialect.end_erasing(connection)
    stays = database.dialect.forget_erased()
    left = [f"freed pages stay in {where} until others stop reading: kitaru gc" for where in stays]
    for row in rows:
        shutil.rmtree(database.home.execution(row.exec_id), ignore_errors=True)
    done = tuple(ExecutionId(row.exec_id) for row in rows)
    store = values_of(database)
    gone = delete_unnamed(database, store, digests) if digests else Deletion(0, 0)
    if gone is None:
        left.append(f"{len(digests)} files in values/, while others are written: kitaru gc")
    return Deleted(exec_ids=done, values=gone.files if gone else 0, bytes=gone.size if gone else 0, left=tuple(left))


def require_deletable(connection: Connection, row: Any) -> None:
    if row.status not in ENDED:
        raise KitaruStateError(
            f"execution {row.exec_id} is {row.status}: only an ended one can be deleted",
            hint=f"kitaru executions cancel {row.exec_id}",
        )
    open_ones = executions.c.status.not_in(sorted(ENDED))
    parent = select(executions.c.exec_id).where(executions.c.id == row.parent, open_ones)
    replay = select(executions.c.exec_id).where(
        json_text(executions.c.replay, "of") == row.exec_id, executions.c.replay.is_not(None), open_ones
    )
    for statement, what in ((parent, "its parent"), (replay, "a replay of it")):
        needs = connection.execute(statement.limit(1)).scalar_one_or_none()
        if needs is not None:
            raise KitaruStateError(
                f"execution {row.exec_id} cannot be deleted: {what}, {needs}, is still open",
                hint=f"kitaru executions get {needs}",
            )


def named_by(connection: Connection, row: int) -> Iterable[bytes]:
    """Digests of the files that an execution's rows name."""
    places = (
        (journal.c.value_digest, journal.c.execution),
        (artifacts.c.value_digest, artifacts.c.execution),
        (executions.c.result_digest, executions.c.id),
        (input_parts.c.digest, input_parts.c.execution),
    )
    for digest, execution in places:
        yield from connection.execute(select(digest).where(execution == row, digest.is_not(None))).scalars()


def erase_rows(connection: Connection, row: Any, actor: str) -> None:
    for table in (journal, artifacts, waits, input_parts):
        connection.execute(delete(table).where(table.c.execution == row.id))
    error = {**{name: (row.error or {}).get(name) for name in ("type", "origin")}, "message": "deleted"}
    replay = {name: value for name, value in (row.replay or {}).items() if name in ("of", "from")}
    connection.execute(
        update(executions)
        .where(executions.c.id == row.id)
        .values(
            inputs={}, inputs_codec="json", inputs_data=b"{}", inputs_in_parts=False,
            result_codec=None, result_data=None, result_digest=None,
            error=error if row.error else None, replay=replay or None, cancel_actor=None, in_flight=None,
            status_reason=f"deleted by {actor}", deleted_us=now_us(),
        )
    )  # fmt: skip


# Files

NAMING: tuple[Select[Any], ...] = tuple(
    select(column).where(column == bindparam("digest"))
    for column in (journal.c.value_digest, artifacts.c.value_digest, executions.c.result_digest, input_parts.c.digest)
)


def delete_unnamed(database: Database, store: Values, digests: Iterable[bytes]) -> Deletion | None:
    with database.holding() as held:
        return store.delete(lambda digest: is_named(held, digest), digests)


def is_named(held: Held, digest: bytes) -> bool:
    """Whether a row names the file."""
    return any(held.first(naming, digest) is not None for naming in NAMING)


def collect(database: Database) -> Deleted:
    """Delete files that no row names and nobody has touched for a day, and folders of deleted executions."""
    store = values_of(database)
    oldest = time.time() - SPARED_SECONDS
    store.sweep_partial(SPARED_SECONDS)
    old = [stored.digest for stored in store.names() if stored.touched_at < oldest]
    gone = delete_unnamed(database, store, old) if old else Deletion(0, 0)
    for exec_id in deleted_ids(database):
        shutil.rmtree(database.home.execution(exec_id), ignore_errors=True)
    left = [] if gone is not None else [f"{len(old)} files in values/, while others are written: again in a moment"]
    left += [f"{where}, which others are reading" for where in database.dialect.forget_erased()]
    return Deleted(exec_ids=(), values=gone.files if gone else 0, bytes=gone.size if gone else 0, left=tuple(left))


def deleted_ids(database: Database) -> list[str]:
    """Those whose folder is still there."""
    folder = database.home.root / "executions"
    there = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    found: list[str] = []
    with database.read() as connection:
        for first in range(0, len(there), 500):
            known = executions.c.exec_id.in_(there[first : first + 500])
            found += connection.execute(
                select(executions.c.exec_id).where(known, executions.c.deleted_us.is_not(None))
            ).scalars()
    return found


# What a project's kitaru.toml says, kept in the home for its runner


def remember_policy(database: Database, project: str, seconds: int | None) -> None:
    """Let the home's runner keep a project's ended executions for so long; None: for ever.

    Raises:
        KitaruBackendError: the home cannot be written.
    """
    if read_policies(database).get(project) == seconds:
        return
    database.require_writable()
    file = database.home.root / POLICIES
    try:
        with file.with_suffix(".lock").open("ab") as lock:
            # Read again behind it: other projects' policies stay as they are by now.
            fcntl.flock(lock, fcntl.LOCK_EX)
            changed = {**read_policies(database), project: seconds}
            partial = file.with_suffix(".partial")
            partial.write_text(json.dumps({name: kept for name, kept in changed.items() if kept is not None}))
            partial.replace(file)
    except OSError as error:
        raise KitaruBackendError(
            f"{file} cannot be written: {error.strerror or error}", hint="set KITARU_HOME to a folder that you own"
        ) from error


def read_policies(database: Database) -> dict[str, int]:
    """Project to seconds. What is no such thing is none: nothing is deleted because of it."""
    try:
        found = json.loads((database.home.root / POLICIES).read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {project: seconds for project, seconds in pairs if type(seconds) is int and seconds >= 0}


def expired(database: Database) -> list[ExecutionId]:
    """Executions that a project's policy lets go, at most `AT_ONCE`."""
    found: list[ExecutionId] = []
    for project, seconds in read_policies(database).items():
        before = datetime.fromtimestamp(max(0.0, now_us() / 1_000_000 - seconds)).astimezone()
        found += ended(database, project=project, before=before, limit=AT_ONCE)
    return found[:AT_ONCE]
