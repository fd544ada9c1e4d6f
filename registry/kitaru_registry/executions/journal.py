"""Every SQL write to a journal, and the reading of one.

A write names its attempt inside the statement, so that one whose attempt is over writes nothing. Checkpoints that end
at the same time share a commit: the first to come commits for all that queued behind it, with no thread in between.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple

from kitaru_registry.database import Database, backend_error
from kitaru_registry.errors import KitaruError, KitaruFencedError
from kitaru_registry.executions.creating import NewExecution
from kitaru_registry.executions.values import IN_ROW_BYTES, ValueStore

OWNED = "EXISTS (SELECT 1 FROM executions WHERE id = ? AND attempt = ? AND status = 'running')"

COLUMNS = (
    "execution, kind, key, attempt, name, tries, place, type, codec, data, value_digest, "
    "error, metadata, inputs, started_us, ended_us, cache_key, parents, flags"
)
INSERT = f"INSERT INTO journal ({COLUMNS}, seq) SELECT {', '.join('?' * 20)} WHERE {OWNED}"
LAST_SEQ = "SELECT COALESCE(MAX(seq), 0) FROM journal WHERE execution = ?"
REMEMBERED_ATTEMPTS = 1024
INSERT_ARTIFACT = (
    "INSERT INTO artifacts (execution, key, name, type, tags, codec, data, value_digest, at_us) "
    f"SELECT ?, ?, ?, ?, ?, ?, ?, ?, ? WHERE {OWNED}"
)


class Value(NamedTuple):
    codec: str
    data: bytes | None
    digest: bytes | None
    """Of bytes that lie in the value store."""


@dataclass(frozen=True, slots=True)
class Artifact:
    name: str
    type: str
    tags: tuple[str, ...]
    value: Value


class Row(NamedTuple):
    """One row to append; the fields are those of kitaru_runner.protocol.Entry."""

    kind: str
    key: str
    ended_us: int
    name: str | None = None
    value: Value | None = None
    error: str | None = None
    tries: int | None = None
    place: int | None = None
    type: str | None = None
    inputs: bytes | None = None
    started_us: int | None = None
    metadata: str | None = None
    artifacts: tuple[Artifact, ...] = ()
    seq: int = 0
    cache_key: bytes | None = None
    parents: str | None = None
    flags: int | None = None
    child: NewExecution | None = None
    """A child execution, which exists as soon as this row does."""

    @property
    def is_alone(self) -> bool:
        """Whether it writes nothing but itself."""
        return not self.artifacts and self.child is None


class Ticket:
    """Rows that wait for a commit."""

    __slots__ = ("attempt", "done", "error", "execution", "last_seq", "rows")

    def __init__(self, execution: int, attempt: int, rows: Sequence[Row]) -> None:
        self.execution = execution
        self.attempt = attempt
        self.rows = rows
        self.done = False
        self.last_seq = 0
        self.error: KitaruError | None = None


class JournalWriter:
    """Appends to the journals of one home. One for a process; any thread may append."""

    def __init__(self, database: Database) -> None:
        self._home = database.home
        self._connection = database.hold()
        self._values = ValueStore(database.home.values)
        # The numbers that attempts have come to: nobody but an attempt's own process appends for it.
        self._last_seqs: dict[tuple[int, int], int] = {}
        self._queue: list[Ticket] = []
        self._queue_lock = threading.Lock()
        self._commit_lock = threading.Lock()

    def naming(self) -> AbstractContextManager[None]:
        """Around `value` and the write that names it (ValueStore.naming)."""
        return self._values.naming()

    def value(self, codec: str, data: bytes) -> Value:
        """Where the bytes are to be found; those of a large value are on disk when this returns."""
        if len(data) <= IN_ROW_BYTES:
            return Value(codec, data, None)
        return Value(codec, None, self._values.put(data))

    def append(self, execution: int, attempt: int, rows: Sequence[Row]) -> int:
        """Make the rows durable, all or none, in order. The number of the last; they are contiguous.

        Raises:
            KitaruFencedError: the attempt is over; nothing was written.
            KitaruBackendError: the disk or the database refused; nothing was written.
        """
        ticket = Ticket(execution, attempt, rows)
        with self._queue_lock:
            self._queue.append(ticket)
        with self._commit_lock:
            if not ticket.done:
                with self._queue_lock:
                    batch, self._queue = self._queue, []
                self._commit(batch)
        if ticket.error is not None:
            raise ticket.error
        return ticket.last_seq

    def close(self) -> None:
        with self._commit_lock:
            self._connection.close()

    def _commit(self, batch: list[Ticket]) -> None:
        try:
            if len(batch) == 1 and len(batch[0].rows) == 1 and batch[0].rows[0].is_alone:
                # One statement is one transaction, and the cheapest there is.
                self._write(batch[0])
            else:
                self._connection.execute("BEGIN IMMEDIATE")
                for ticket in batch:
                    self._write(ticket)
                self._connection.execute("COMMIT")
        except sqlite3.Error as error:
            self._last_seqs.clear()
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")
            for ticket in batch:
                ticket.error = backend_error(self._home, error)
        for ticket in batch:
            ticket.done = True

    def _write(self, ticket: Ticket) -> None:
        execution, attempt = ticket.execution, ticket.attempt
        seq = self._last_seq(execution, attempt)
        for row in ticket.rows:
            codec, data, digest = (row.value.codec, row.value.data, row.value.digest) if row.value else (None,) * 3
            inserted = self._connection.execute(
                INSERT,
                (
                    execution, row.kind, row.key, attempt, row.name, row.tries, row.place, row.type, codec, data,
                    digest, row.error, row.metadata, row.inputs, row.started_us, row.ended_us, row.cache_key,
                    row.parents, row.flags, seq + 1, execution, attempt,
                ),
            )  # fmt: skip
            if inserted.rowcount != 1:
                # The first row's fence holds for all of a ticket: nothing changes within a transaction.
                ticket.error = fenced(attempt)
                return
            seq += 1
            if row.child is not None:
                insert_execution(self._connection, row.child)
            for artifact in row.artifacts:
                self._connection.execute(INSERT_ARTIFACT, artifact_row(execution, attempt, row, artifact))
        ticket.last_seq = self._last_seqs[execution, attempt] = seq

    def _last_seq(self, execution: int, attempt: int) -> int:
        known = self._last_seqs.get((execution, attempt))
        if known is not None:
            return known
        if len(self._last_seqs) >= REMEMBERED_ATTEMPTS:
            self._last_seqs.clear()
        return int(self._connection.execute(LAST_SEQ, (execution,)).fetchone()[0])


def artifact_row(execution: int, attempt: int, row: Row, artifact: Artifact) -> tuple[object, ...]:
    value = artifact.value
    return (
        execution, row.key, artifact.name, artifact.type, json.dumps(artifact.tags), value.codec, value.data,
        value.digest, row.ended_us, execution, attempt,
    )  # fmt: skip


def fenced(attempt: int) -> KitaruFencedError:
    return KitaruFencedError(f"attempt {attempt} is over: another process owns the execution, or it has ended")


def read_rows(connection: sqlite3.Connection, execution: int) -> Iterator[Row]:
    """The journal in recorded order, without artifacts."""
    cursor = connection.execute(f"SELECT seq, {COLUMNS} FROM journal WHERE execution = ? ORDER BY seq", (execution,))
    for row in cursor:
        (
            seq, _, kind, key, _, name, tries, place, kind_type, codec, data, digest,
            error, metadata, inputs, started_us, ended_us, cache_key, parents, flags,
        ) = row  # fmt: skip
        yield Row(
            kind=kind,
            key=key,
            ended_us=ended_us,
            name=name,
            value=Value(codec, data, digest) if codec else None,
            error=error,
            tries=tries,
            place=place,
            type=kind_type,
            inputs=inputs,
            started_us=started_us,
            metadata=metadata,
            seq=seq,
            cache_key=cache_key,
            parents=parents,
            flags=flags,
        )


def insert_execution(connection: sqlite3.Connection, new: NewExecution) -> None:
    """A pending execution, in the transaction that is open. It takes the place of what its parent had started in the
    same call, which a retry has superseded."""
    if new.parent is not None:
        connection.execute(
            "UPDATE executions SET parent_key = parent_key || '!' || id WHERE parent = ? AND parent_key = ?",
            (new.parent, new.parent_key),
        )
    values = {name: as_sql(value) for name, value in new.columns().items()}
    names = ", ".join(values)
    connection.execute(
        f"INSERT INTO executions ({names}) VALUES ({', '.join('?' * len(values))})", tuple(values.values())
    )


def as_sql(value: object) -> object:
    return json.dumps(value) if isinstance(value, dict | list | tuple) else value
