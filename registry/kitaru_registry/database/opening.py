"""A record that is open: transactions over whatever database it is in."""

from __future__ import annotations

import functools
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import Pool
from sqlalchemy.sql.expression import ClauseElement

from kitaru_registry.database.dialect import Changes, Dialect, Health, Scope
from kitaru_registry.database.held import Held, Texts
from kitaru_registry.errors import KitaruBackendError
from kitaru_registry.home import Home, prepare
from kitaru_registry.record_url import resolved

TOLD = "kitaru_told"


class Database:
    """A record. Safe to share between threads; a fork opens connections of its own."""

    def __init__(
        self, engine: Engine, home: Home, dialect: Dialect, texts: Texts, *, refused: KitaruBackendError | None = None
    ) -> None:
        """
        Args:
            home: where this machine keeps what is not in the record: locks, logs, environments.
            refused: why nothing may be written; it can be read all the same.
        """
        self.engine = engine
        self._reading = engine.execution_options(**dialect.reading) if dialect.reading else engine
        self._writing = engine.execution_options(**dialect.writing) if dialect.writing else engine
        self.home = home
        self.dialect = dialect
        self._texts = texts
        self._refused = refused
        self._of_parent: list[Pool] = []
        _databases.add(self)
        watch_forks()

    def leave_connections(self) -> None:
        """In a fork: those of its parent are not used, and not closed, which would touch what the parent has open."""
        self._of_parent.append(self.engine.pool)
        self.engine.dispose(close=False)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view.

        Raises:
            KitaruUsageError: what is asked for cannot be there: text that is no UTF-8, a number that is too large.
            KitaruBackendError: the database cannot be read, or is damaged.
        """
        with self.dialect.explained(), self._reading.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self, *executions: int | str, flow: str | None = None) -> Iterator[Connection]:
        """One transaction, alone among writers to these from its first statement on; committed if nothing is raised.

        Args:
            executions: rows or ids that it is about, with their families. Neither these nor a flow: everything.
            flow: that it is about, as `project/name`.

        Raises:
            KitaruUsageError: text that is no UTF-8, or a number that is too large; nothing was written.
            KitaruBackendError: the disk is full, or the database cannot be written; nothing was.
        """
        scope = Scope(executions, flow) if executions or flow is not None else None
        with self._transaction() as connection:
            self.dialect.scope(connection, scope)
            yield connection

    @contextmanager
    def write_if_free(self, execution: int) -> Iterator[Connection | None]:
        """As `write`, where nobody else writes to that execution or its family; else None.

        Raises:
            See write.
        """
        with self._transaction() as connection:
            free = self.dialect.scope(connection, Scope((execution,)), wait=False)
            yield connection if free else None

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        self.require_writable()
        with self.dialect.explained(), self._writing.connect() as connection:
            with connection.begin():
                yield connection
            if connection.info.pop(TOLD, False):
                self.dialect.tell(connection.connection.dbapi_connection)

    def require_writable(self) -> None:
        """
        Raises:
            KitaruBackendError: nothing may be written to it: it is read-only, or others may write to the home.
        """
        if self._refused is not None:
            raise self._refused

    def first(self, statement: ClauseElement, *values: object) -> Any | None:
        """The first row, at a tenth of the price of `read`: for what is asked again and again.

        Raises:
            KitaruBackendError: the database cannot be read, or is damaged.
        """
        with self.dialect.explained():
            connection: Any = self.engine.raw_connection()
            try:
                return Held(connection.dbapi_connection, self._texts).first(statement, *values)
            finally:
                connection.close()

    @contextmanager
    def holding(self) -> Iterator[Held]:
        """As `hold`, for as long as the context lasts.

        Raises:
            KitaruBackendError: the database cannot be used, or is damaged.
        """
        with self.dialect.explained():
            held = self.hold()
            try:
                yield held
            finally:
                held.close()

    def hold(self) -> Held:
        """A connection of the caller's own, for the journal's hot path; close it.

        Raises:
            KitaruBackendError: the database cannot be opened.
        """
        with self.dialect.explained():
            return Held(self.dialect.connect(), self._texts)

    def held(self, connection: Connection) -> Held:
        """The same in a transaction that is open."""
        return Held(connection.connection.dbapi_connection, self._texts)

    def text_of(self, statement: ClauseElement) -> str:
        """As this database's driver takes it."""
        return self._texts.of(statement)

    def changes(self) -> Changes:
        return self.dialect.changes()

    def health(self) -> Health:
        with self.read() as connection:
            return self.dialect.health(connection)

    def close(self) -> None:
        self.engine.dispose()


def tell_runners(connection: Connection) -> None:
    """Something is pending: whoever looks for work hears of it as soon as this transaction is committed."""
    connection.info[TOLD] = True


_databases: weakref.WeakSet[Database] = weakref.WeakSet()


@functools.cache
def watch_forks() -> None:
    os.register_at_fork(after_in_child=leave_connections)


def leave_connections() -> None:
    for database in list(_databases):
        database.leave_connections()


def open_database(home: Home, *, synchronous: str = "FULL") -> Database:
    """The home's record, created where there is none; to be read alone where nothing may be written.

    Raises:
        KitaruUsageError: the database that it is in has no URL that can be had, or its driver is not installed.
        KitaruBackendError: the home cannot hold it, a newer Kitaru wrote it, or the database cannot be reached, holds
            no record, or one of another schema.
    """
    if home.record is None:
        from kitaru_registry.database.sqlite import Sqlite

        return _opened(home, Sqlite(home, synchronous))
    from kitaru_registry.database.postgres import Postgres

    prepare(home)
    return _opened(home, Postgres(resolved(home.record)))


def _opened(home: Home, dialect: Dialect) -> Database:
    with dialect.explained():
        engine = dialect.engine()
        try:
            refused = dialect.prepare(engine)
        except BaseException:
            engine.dispose()
            raise
    return Database(engine, home, dialect, Texts(engine.dialect), refused=refused)
