"""Every SQL write to a journal, and the reading of one.

A write names its attempt inside the statement, so that one whose attempt is over writes nothing. Checkpoints that end
at the same time share a commit: the first to come commits for all that queued behind it, with no thread in between.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from typing import NamedTuple

from kitaru_registry.database import Database
from kitaru_registry.database_errors import backend_error
from kitaru_registry.errors import KitaruFencedError, KitaruUsageError
from kitaru_registry.executions.creating import NewExecution
from kitaru_registry.executions.values import IN_ROW_BYTES, ValueStore

OWNED = "EXISTS (SELECT 1 FROM executions WHERE id = ? AND attempt = ? AND status = 'running')"

RARE = ("value_digest", "name", "error", "tries", "type", "metadata", "cache_key", "parents", "flags")
"""Columns that most checkpoints leave empty."""


def insert_of(columns: Sequence[str]) -> str:
    """The statement that appends these columns, after the row's number; it ends with the attempt's fence."""
    return (
        f"INSERT INTO journal (execution, attempt, seq, {', '.join(columns)}) "
        f"SELECT id, attempt, ?, {', '.join('?' * len(columns))} "
        "FROM executions WHERE id = ? AND attempt = ? AND status = 'running'"
    )


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


class PlainRow(NamedTuple):
    """One row to append, of a call that has a small value and nothing beside it: what most rows are.

    Before it binds what is no number, text or bytearray, sqlite3 looks for an adapter. Of bytes, and of nine columns
    that are None, that takes longer than to insert the row: hence these types, and a statement of these columns alone.
    """

    kind: str
    key: str
    ended_us: int
    codec: str
    data: bytearray
    place: int | None
    inputs: bytearray
    started_us: int | None


INSERT_PLAIN = insert_of(PlainRow._fields)
INSERT = insert_of(PlainRow._fields + RARE)


class Ticket:
    """Rows that wait for a commit."""

    __slots__ = ("attempt", "done", "error", "execution", "last_seq", "recorded", "rows")

    def __init__(
        self, execution: int, attempt: int, rows: Sequence[Row | PlainRow], recorded: Callable[[int], None] | None
    ) -> None:  # fmt: skip
        self.execution = execution
        self.attempt = attempt
        self.rows = rows
        self.recorded = recorded
        self.done = False
        self.last_seq = 0
        self.error: BaseException | None = None


UNWRITABLE = (UnicodeEncodeError, OverflowError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
"""What is said of text that is no UTF-8, of numbers and bytes that are too large, and of what is neither."""


class JournalWriter:
    """Appends to the journals of one home. One for a process; any thread may append."""

    def __init__(self, database: Database) -> None:
        database.require_writable()
        self._home = database.home
        self._connection = database.hold()
        self._cursor = self._connection.cursor()
        self._values = ValueStore(database.home.values)
        # The numbers that attempts have come to: nobody but an attempt's own process appends for it.
        self._last_seqs: dict[tuple[int, int], int] = {}
        self._queue: deque[Ticket] = deque()
        self._commit_lock = threading.Lock()

    def naming(self) -> AbstractContextManager[None]:
        """Around `value` and the write that names it (ValueStore.naming)."""
        return self._values.naming()

    def value(self, codec: str, data: bytes) -> Value:
        """Where the bytes are to be found; those of a large value are on disk when this returns."""
        if len(data) <= IN_ROW_BYTES:
            return Value(codec, data, None)
        return Value(codec, None, self._values.put(data))

    def append(
        self, execution: int, attempt: int, rows: Sequence[Row | PlainRow],
        recorded: Callable[[int], None] | None = None,
    ) -> int:  # fmt: skip
        """Make the rows durable, all or none, in order. The number of the last; they are contiguous.

        Args:
            recorded: is given that number as soon as the rows are durable, by whoever commits them: a hundred threads
                that wake up one after another to hear of it take longer than the commit that they share.

        Raises:
            KitaruFencedError: the attempt is over; nothing was written.
            KitaruUsageError: the rows hold what cannot be written, such as text that is no UTF-8; nothing of them was.
            KitaruBackendError: the disk or the database refused; nothing was written.
        """
        if (
            len(rows) == 1
            and (isinstance(rows[0], PlainRow) or is_alone(rows[0]))
            # Those who wait would have to wait for one more commit.
            and not self._queue
            and self._commit_lock.acquire(blocking=False)
        ):
            # Nobody to share a commit with: one statement is one transaction, and the cheapest there is.
            try:
                last = self._write(execution, attempt, rows)
            except BaseException as error:
                self._roll_back()
                refusal = self._refusal(error)
                if refusal is error:
                    raise
                raise refusal from error
            else:
                if recorded is not None:
                    recorded(last)
                return last
            finally:
                self._commit_lock.release()
        with self._values.naming():
            return self._append_with_others(Ticket(execution, attempt, [self._stored(row) for row in rows], recorded))

    def close(self) -> None:
        with self._commit_lock:
            self._connection.close()

    def _stored(self, row: Row | PlainRow) -> Row | PlainRow:
        """The row; large values of it are on disk when this returns."""
        if isinstance(row, PlainRow):
            return row
        return row._replace(
            value=self._lasting(row.value) if row.value is not None else None,
            artifacts=tuple(replace(artifact, value=self._lasting(artifact.value)) for artifact in row.artifacts),
            child=row.child.stored(self._values) if row.child is not None else None,
        )

    def _lasting(self, value: Value) -> Value:
        return self.value(value.codec, value.data) if value.data is not None else value

    def _append_with_others(self, ticket: Ticket) -> int:
        self._queue.append(ticket)
        with self._commit_lock:
            if not ticket.done:
                batch = []
                while self._queue:
                    batch.append(self._queue.popleft())
                self._commit(batch)
        if ticket.error is not None:
            raise ticket.error
        return ticket.last_seq

    def _commit(self, batch: list[Ticket]) -> None:
        """Every ticket is done: written, or with an error of its own, which costs the others nothing."""
        left = batch
        while left:
            refused = self._write_all(left)
            left = [ticket for ticket in left if ticket is not refused] if refused is not None else []
        for ticket in batch:
            ticket.done = True
            if ticket.error is None and ticket.recorded is not None:
                try:
                    ticket.recorded(ticket.last_seq)
                except BaseException as error:  # of who asked for it, not of who commits
                    ticket.error = error

    def _write_all(self, tickets: Sequence[Ticket]) -> Ticket | None:
        """Write these in one transaction. Where one cannot be written none is, and that one comes back."""
        writing: Ticket | None = None
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            for writing in tickets:
                try:
                    writing.last_seq = self._write(writing.execution, writing.attempt, writing.rows)
                except KitaruFencedError as error:
                    writing.error = error
            writing = None
            self._connection.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            refused = writing if is_of_the_rows(error) else None
            for ticket in tickets if refused is None else (refused,):
                ticket.error = self._refusal(error)
            return refused
        return None

    def _refusal(self, error: BaseException) -> BaseException:
        """What the caller is told."""
        if isinstance(error, UNWRITABLE):
            return KitaruUsageError(f"this cannot be recorded: {error}")
        return backend_error(self._home, error) if isinstance(error, sqlite3.Error) else error

    def _roll_back(self) -> None:
        self._last_seqs.clear()
        if self._connection.in_transaction:
            with suppress(sqlite3.Error):  # what it was to undo has failed, and says why
                self._connection.execute("ROLLBACK")

    def _write(self, execution: int, attempt: int, rows: Sequence[Row | PlainRow]) -> int:
        seq = self._last_seqs.get((execution, attempt))
        if seq is None:
            seq = self._read_last_seq(execution)
        for row in rows:
            if isinstance(row, PlainRow):
                self._cursor.execute(INSERT_PLAIN, (seq + 1, *row, execution, attempt))
            else:
                self._cursor.execute(INSERT, (seq + 1, *columns_of(row), execution, attempt))
            if self._cursor.rowcount != 1:
                # That is the first row: nothing changes within a transaction.
                raise fenced(attempt)
            seq += 1
            if isinstance(row, Row):
                self._write_beside(execution, attempt, row)
        self._last_seqs[execution, attempt] = seq
        return seq

    def _write_beside(self, execution: int, attempt: int, row: Row) -> None:
        """What exists as soon as the row does."""
        if row.child is not None:
            insert_execution(self._connection, row.child)
        for artifact in row.artifacts:
            self._connection.execute(INSERT_ARTIFACT, artifact_row(execution, attempt, row, artifact))

    def _read_last_seq(self, execution: int) -> int:
        if len(self._last_seqs) >= REMEMBERED_ATTEMPTS:
            self._last_seqs.clear()
        return int(self._connection.execute(LAST_SEQ, (execution,)).fetchone()[0])


def columns_of(row: Row) -> tuple[object, ...]:
    codec, data, digest = row.value if row.value is not None else (None, None, None)
    return (
        row.kind, row.key, row.ended_us, codec, data, row.place, row.inputs, row.started_us,
        digest, row.name, row.error, row.tries, row.type, row.metadata, row.cache_key, row.parents, row.flags,
    )  # fmt: skip


def is_of_the_rows(error: BaseException) -> bool:
    """Whether it is about what was to be written, and not about where."""
    of_database = isinstance(error, sqlite3.Error) and not isinstance(error, (*UNWRITABLE, sqlite3.IntegrityError))
    return isinstance(error, Exception) and not of_database


def is_alone(row: Row) -> bool:
    """Whether nothing is to be written with it, in another table or as a file."""
    return not row.artifacts and row.child is None and not (row.value is not None and is_large(row.value.data))


def is_large(data: bytes | None) -> bool:
    return data is not None and len(data) > IN_ROW_BYTES


def fenced(attempt: int) -> KitaruFencedError:
    return KitaruFencedError(f"attempt {attempt} is over: another process owns the execution, or it has ended")


def artifact_row(execution: int, attempt: int, row: Row, artifact: Artifact) -> tuple[object, ...]:
    value = artifact.value
    return (
        execution, row.key, artifact.name, artifact.type, json.dumps(artifact.tags), value.codec, value.data,
        value.digest, row.ended_us, execution, attempt,
    )  # fmt: skip


def read_rows(connection: sqlite3.Connection, execution: int) -> Iterator[Row]:
    """The journal in recorded order, without artifacts."""
    columns = ", ".join(PlainRow._fields + RARE)
    cursor = connection.execute(f"SELECT seq, {columns} FROM journal WHERE execution = ? ORDER BY seq", (execution,))
    for row in cursor:
        (
            seq, kind, key, ended_us, codec, data, place, inputs, started_us,
            digest, name, error, tries, kind_type, metadata, cache_key, parents, flags,
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
    row = connection.execute(
        f"INSERT INTO executions ({names}) VALUES ({', '.join('?' * len(values))})", tuple(values.values())
    ).lastrowid
    connection.executemany(
        "INSERT INTO input_parts (digest, execution) VALUES (?, ?)", [(digest, row) for digest in new.parts]
    )


def as_sql(value: object) -> object:
    return json.dumps(value) if isinstance(value, dict | list | tuple) else value
