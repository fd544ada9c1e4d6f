"""Every SQL write to a journal, and the reading of one.

A write names its attempt inside the statement, so that one whose attempt is over writes nothing. Checkpoints that end
at the same time share a commit: the first to come commits for all that queued behind it, with no thread in between.
"""

from __future__ import annotations

import functools
import json
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from sqlalchemy import String, Table, bindparam, cast, func, literal_column, select, update
from sqlalchemy.sql.expression import ClauseElement

from kitaru_registry.database.held import Held
from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import artifacts, executions, input_parts, journal
from kitaru_registry.errors import KitaruBackendError, KitaruFencedError
from kitaru_registry.executions.creating import NewExecution
from kitaru_registry.executions.values import IN_ROW_BYTES, values_of

RARE = ("value_digest", "name", "error", "tries", "type", "metadata", "cache_key", "parents", "flags")
"""Columns that most checkpoints leave empty."""


def insert_of(table: Table, columns: Sequence[str], *own: str) -> ClauseElement:
    """The statement that adds a row of these columns to an execution, while an attempt owns it.

    Its values are those of the columns, then the execution and the attempt: the fence. Where writers are not alone the
    execution's row is locked, so that the attempt stays the owner until this is committed.

    Args:
        own: columns that are the execution's own, of the same name.
    """
    values = [bindparam(name, type_=table.c[name].type) for name in columns]
    owned = (
        select(executions.c.id, *(executions.c[name] for name in own), *values)
        .where(
            executions.c.id == bindparam("owned"),
            executions.c.attempt == bindparam("owner"),
            executions.c.status == literal_column("'running'"),
        )
        .with_for_update(key_share=True)
    )
    return table.insert().from_select(["execution", *own, *columns], owned, include_defaults=False)


LAST_SEQ = select(func.coalesce(func.max(journal.c.seq), literal_column("0"))).where(
    journal.c.execution == bindparam("execution")
)
LOCK = select(executions.c.id).where(executions.c.id == bindparam("row")).with_for_update(key_share=True)
WRITTEN = select(journal.c.attempt, journal.c.key, journal.c.ended_us).where(
    journal.c.execution == bindparam("execution"), journal.c.seq == bindparam("seq")
)
REMEMBERED_ATTEMPTS = 1024

SETTLE_SECONDS = 8.0
"""How long a write waits for a database that went away to come back."""

SETTLE_PAUSE_SECONDS = 0.05
INSERT_ARTIFACT = insert_of(artifacts, ("key", "name", "type", "tags", "codec", "data", "value_digest", "at_us"))


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
    """One row to append; the fields are those of journal.entries.Entry."""

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


INSERT_PLAIN = insert_of(journal, ("seq", *PlainRow._fields), "attempt")
INSERT = insert_of(journal, ("seq", *PlainRow._fields, *RARE), "attempt")


class Ticket:
    """Rows that wait for a commit."""

    __slots__ = ("attempt", "done", "error", "execution", "first_seq", "last_seq", "recorded", "rows")

    def __init__(
        self, execution: int, attempt: int, rows: Sequence[Row | PlainRow], recorded: Callable[[int], None] | None
    ) -> None:  # fmt: skip
        self.execution = execution
        self.attempt = attempt
        self.rows = rows
        self.recorded = recorded
        self.done = False
        self.last_seq = 0
        self.first_seq: int | None = None
        """The number that its first row was written under; what was written may not be committed."""
        self.error: BaseException | None = None


class JournalWriter:
    """Appends to the journals of one home. One for a process; any thread may append."""

    def __init__(self, database: Database) -> None:
        database.require_writable()
        self._database = database
        self._dialect = database.dialect
        self._use(database.hold())
        self._insert_plain, self._insert = database.text_of(INSERT_PLAIN), database.text_of(INSERT)
        self._values = values_of(database)
        # The numbers that attempts have come to: nobody but an attempt's own process appends for it.
        self._last_seqs: dict[tuple[int, int], int] = {}
        self._trying: int | None = None
        self._queue: deque[Ticket] = deque()
        self._commit_lock = threading.Lock()

    def _use(self, held: Held) -> None:
        self._held, self._connection = held, held.connection
        self._execute, self._cursor = cursor_of(held.connection)

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
                last = self._write_alone(execution, attempt, rows)
            except BaseException as error:
                self._roll_back()
                refusal = self._dialect.explain(error)
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
            self._held.close()

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
            left = self._write_all(left)
        if any(isinstance(row, Row) and row.child is not None for ticket in batch for row in ticket.rows):
            self._dialect.tell(self._connection)
        for ticket in batch:
            ticket.done = True
            if ticket.error is None and ticket.recorded is not None:
                try:
                    ticket.recorded(ticket.last_seq)
                except BaseException as error:  # of who asked for it, not of who commits
                    ticket.error = error

    def _write_all(self, tickets: list[Ticket]) -> list[Ticket]:
        """Write these in one transaction, and give back those that are to be written in another.

        Where one cannot be written none is; all but that one come back. So do those whose executions somebody else has
        locked: who waits for one lock must hold no other.
        """
        writing: Ticket | None = None
        try:
            self._dialect.begin(self._connection)
            free = self._dialect.lock_together(self._held, list({ticket.execution for ticket in tickets}))
            together = [ticket for ticket in tickets if ticket.execution in free] or tickets[:1]
            for writing in together:
                try:
                    writing.last_seq = self._write(writing.execution, writing.attempt, writing.rows)
                    writing.first_seq = writing.last_seq - len(writing.rows) + 1
                except KitaruFencedError as error:
                    writing.error = error
            writing = None
            self._connection.execute("COMMIT")
        except BaseException as error:
            self._roll_back()
            if self._dialect.is_lost(error):
                self._settle(tickets, error)
                return []
            refused = writing if self._dialect.is_of_the_rows(error) else None
            for ticket in tickets if refused is None else (refused,):
                ticket.error = self._dialect.explain(error)
            return [ticket for ticket in tickets if ticket is not refused] if refused is not None else []
        return [ticket for ticket in tickets if ticket not in together]

    def _write_alone(self, execution: int, attempt: int, rows: Sequence[Row | PlainRow]) -> int:
        try:
            return self._write(execution, attempt, rows)
        except BaseException as error:
            if not self._dialect.is_lost(error):
                raise
            ticket = Ticket(execution, attempt, rows, None)
            ticket.first_seq = self._trying
            self._settle([ticket], error)
            if ticket.error is not None:
                raise ticket.error from error
            return ticket.last_seq

    def _settle(self, tickets: Sequence[Ticket], lost: BaseException) -> None:
        """After a connection was lost, over another one: whether each was written, and else write it.

        They stay unwritten where no connection is to be had for `SETTLE_SECONDS`.
        """
        left = [ticket for ticket in tickets if ticket.error is None]
        deadline = time.monotonic() + SETTLE_SECONDS
        while left:
            try:
                with suppress(Exception):
                    self._held.close()
                self._use(self._database.hold())
                while left:
                    self._settle_one(left[0])
                    left.pop(0)
            except BaseException as error:
                self._roll_back()
                cause = error.__cause__ if isinstance(error, KitaruBackendError) else error
                if cause is not None and self._dialect.is_lost(cause) and time.monotonic() < deadline:
                    time.sleep(SETTLE_PAUSE_SECONDS)
                    continue
                left.pop(0).error = self._dialect.explain(error)
                if cause is not None and self._dialect.is_lost(cause):
                    for ticket in left:
                        ticket.error = self._dialect.explain(lost)
                    return

    def _settle_one(self, ticket: Ticket) -> None:
        self._dialect.begin(self._connection)
        # Whatever the lost connection's own process still does with the row is over when it is locked.
        self._held.first(LOCK, ticket.execution)
        first = ticket.rows[0]
        found = self._held.first(WRITTEN, ticket.execution, ticket.first_seq) if ticket.first_seq is not None else None
        if found == (ticket.attempt, first.key, first.ended_us) and ticket.first_seq is not None:
            ticket.last_seq = ticket.first_seq + len(ticket.rows) - 1
        else:
            ticket.last_seq = self._write(ticket.execution, ticket.attempt, ticket.rows)
            ticket.first_seq = ticket.last_seq - len(ticket.rows) + 1
        self._connection.execute("COMMIT")

    def _roll_back(self) -> None:
        self._last_seqs.clear()
        if self._dialect.is_in_transaction(self._connection):
            with suppress(Exception):  # what it was to undo has failed, and says why
                self._connection.execute("ROLLBACK")

    def _write(self, execution: int, attempt: int, rows: Sequence[Row | PlainRow]) -> int:
        seq = self._last_seqs.get((execution, attempt))
        if seq is None:
            self._trying = None
            seq = self._read_last_seq(execution)
        self._trying = seq + 1
        for row in rows:
            if isinstance(row, PlainRow):
                self._execute(self._insert_plain, (seq + 1, *row, execution, attempt))
            else:
                self._execute(self._insert, (seq + 1, *columns_of(row), execution, attempt))
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
            insert_execution(self._held, row.child)
        for artifact in row.artifacts:
            self._held.run(INSERT_ARTIFACT, *artifact_row(execution, attempt, row, artifact))

    def _read_last_seq(self, execution: int) -> int:
        if len(self._last_seqs) >= REMEMBERED_ATTEMPTS:
            self._last_seqs.clear()
        found = self._held.first(LAST_SEQ, execution)
        return int(found[0]) if found is not None else 0


def columns_of(row: Row) -> tuple[object, ...]:
    codec, data, digest = row.value if row.value is not None else (None, None, None)
    return (
        row.kind, row.key, row.ended_us, codec, data, row.place, row.inputs, row.started_us,
        digest, row.name, row.error, row.tries, row.type, row.metadata, row.cache_key, row.parents, row.flags,
    )  # fmt: skip


def cursor_of(connection: Any) -> tuple[Callable[..., Any], Any]:
    """A cursor, and what executes on it: looked up once."""
    cursor = connection.cursor()
    return cursor.execute, cursor


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
        row.key, artifact.name, artifact.type, json.dumps(artifact.tags), value.codec, value.data,
        value.digest, row.ended_us, execution, attempt,
    )  # fmt: skip


ROWS = (
    select(*(journal.c[name] for name in ("seq", *PlainRow._fields, *RARE)))
    .where(journal.c.execution == bindparam("execution"))
    .order_by(journal.c.seq)
)


ATTEMPTS = select(journal.c.attempt).where(journal.c.execution == bindparam("execution")).order_by(journal.c.seq)
"""Of the same rows."""

VALUE = select(journal.c.codec, journal.c.value_digest).where(
    journal.c.execution == bindparam("execution"), journal.c.seq == bindparam("seq")
)
"""Of one row: where a large value is to be found."""


def read_rows(held: Held, execution: int) -> Iterator[Row]:
    """The journal in recorded order, without artifacts."""
    for row in held.rows(ROWS, execution):
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


SET_ASIDE = (
    update(executions)
    .where(executions.c.parent == bindparam("of"), executions.c.parent_key == bindparam("call"))
    .values(parent_key=executions.c.parent_key.concat(literal_column("'!'")).concat(cast(executions.c.id, String)))
)
INSERT_PART = input_parts.insert().values(digest=bindparam("digest"), execution=bindparam("execution"))


@functools.cache
def insert_of_execution(names: tuple[str, ...]) -> ClauseElement:
    """Of these columns, in the order that the table has them in."""
    return executions.insert().values({name: bindparam(name) for name in names}).returning(executions.c.id)


def insert_execution(held: Held, new: NewExecution) -> None:
    """A pending execution, in the transaction that is open. It takes the place of what its parent had started in the
    same call, which a retry has superseded."""
    if new.parent is not None:
        held.run(SET_ASIDE, new.parent, new.parent_key)
    values = new.columns()
    names = tuple(column.name for column in executions.c if column.name in values)
    made = held.first(insert_of_execution(names), *(as_sql(values[name]) for name in names))
    assert made is not None
    for digest in new.parts:
        held.run(INSERT_PART, digest, made[0])


def as_sql(value: object) -> object:
    return json.dumps(value) if isinstance(value, dict | list | tuple) else value
