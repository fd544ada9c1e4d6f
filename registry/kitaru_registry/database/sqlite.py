"""The record as the home's own file, in SQLite: all of its text that is SQLite's alone.

Every write transaction is BEGIN IMMEDIATE: a deferred one that turns into a write fails with "busy" when another writer
was faster, and no timeout helps. It is alone among all writers, whatever its scope is.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any

from sqlalchemy import create_engine, event
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import QueuePool
from sqlalchemy.schema import CreateColumn

from kitaru_registry.database import sqlite_errors
from kitaru_registry.database.dialect import Health, Scope
from kitaru_registry.database.held import Held
from kitaru_registry.database.tables import SCHEMA_VERSION, metadata
from kitaru_registry.database.types import JsonNumber, JsonText, JsonWritten, LastDigits
from kitaru_registry.errors import KitaruBackendError, KitaruUsageError
from kitaru_registry.home import Home, prepare, why_not_written

BUSY_TIMEOUT_SECONDS = 30

UNWRITABLE = (UnicodeEncodeError, OverflowError, sqlite3.DataError, sqlite3.ProgrammingError, sqlite3.InterfaceError)
"""What is said of text that is no UTF-8, of numbers and bytes that are too large, and of what is neither."""


class Sqlite:
    """See Dialect."""

    is_own = True
    reading: dict[str, Any] = {}  # noqa: RUF012
    writing = {"kitaru_write": True}  # noqa: RUF012

    def __init__(self, home: Home, synchronous: str) -> None:
        self._home = home
        self._synchronous = synchronous
        self.place = str(home.database)

    def engine(self) -> Engine:
        if why_not_written(self._home) is None or not self._home.database.exists():
            prepare(self._home)
            with suppress(FileExistsError):  # whoever else creates it: SQLite's own files are as open as this one
                os.close(os.open(self._home.database, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        # For this URL SQLAlchemy would choose a pool that closes connections which other threads use.
        engine = create_engine(
            "sqlite://", creator=self.connect, poolclass=QueuePool, max_overflow=-1,
            json_deserializer=partial(sqlite_errors.read_json, self._home),
        )  # fmt: skip
        event.listen(engine, "begin", begin_transaction)
        return engine

    def prepare(self, engine: Engine) -> KitaruBackendError | None:
        refused = why_not_written(self._home)
        migrate(self._home, engine, self.connect)
        return refused

    def connect(self) -> sqlite3.Connection:
        if not os.access(self._home.root, os.W_OK):
            return connect_to_read(self._home)
        connection = sqlite3.connect(
            self._home.database, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute(f"PRAGMA synchronous={self._synchronous}")
        except BaseException:
            connection.close()
            raise
        return connection

    def begin(self, connection: sqlite3.Connection) -> None:
        connection.execute("BEGIN IMMEDIATE")

    def is_in_transaction(self, connection: sqlite3.Connection) -> bool:
        return connection.in_transaction

    def scope(self, connection: Connection, scope: Scope | None, *, wait: bool = True) -> bool:
        """It is alone already."""
        return True

    def lock_together(self, held: Held, executions: Sequence[int]) -> set[int]:
        return set(executions)

    def tell(self, connection: Any) -> None:
        """Whoever looks is told by a counter in memory (Commits)."""

    def explained(self) -> AbstractContextManager[None]:
        return sqlite_errors.explained(self._home)

    def explain(self, error: BaseException) -> BaseException:
        if isinstance(error, UNWRITABLE):
            return KitaruUsageError(f"this cannot be recorded: {error}")
        return sqlite_errors.backend_error(self._home, error) if isinstance(error, sqlite3.Error) else error

    def is_of_the_rows(self, error: BaseException) -> bool:
        of_database = isinstance(error, sqlite3.Error) and not isinstance(error, (*UNWRITABLE, sqlite3.IntegrityError))
        return isinstance(error, Exception) and not of_database

    def is_lost(self, error: BaseException) -> bool:
        return False

    def each(self, parameter: str, *, numbers: bool) -> str:
        return f"json_each(:{parameter})"

    def begin_erasing(self, connection: Connection) -> None:
        """Freed pages are overwritten, not only marked as free."""
        connection.exec_driver_sql("PRAGMA secure_delete=ON")

    def end_erasing(self, connection: Connection) -> None:
        connection.exec_driver_sql("PRAGMA secure_delete=OFF")

    def forget_erased(self) -> Sequence[str]:
        """Move what was committed into the database's own file, whose freed pages are overwritten."""
        with self.explained():
            connection = self.connect()
            try:
                connection.execute("PRAGMA busy_timeout=1000")
                (busy, *_) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            finally:
                connection.close()
        return (f"{self._home.database.name}-wal",) if busy else ()

    def changes(self) -> Commits:
        return Commits(self)

    def health(self, connection: Connection) -> Health:
        found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one())
        mode = connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        said = f"schema {SCHEMA_VERSION}, {mode}, synchronous={self._synchronous}, {found}"
        return Health(found == "ok", said, None if found == "ok" else sqlite_errors.damaged(self._home, found).hint)


class Commits:
    """Whether anybody has committed since the last look: told by a counter in memory, no table is read for it."""

    descriptor: int | None = None

    def __init__(self, dialect: Sqlite) -> None:
        self._dialect = dialect
        self._connection: sqlite3.Connection | None = None
        self._seen: object = None

    def have_come(self) -> bool:
        try:
            if self._connection is None:
                with self._dialect.explained():
                    self._connection = self._dialect.connect()
            (found,) = self._connection.execute("PRAGMA data_version").fetchone()
        except (sqlite3.Error, KitaruBackendError):
            return True  # who looks will hear of it
        before, self._seen = self._seen, found
        return bool(before != found)

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


def connect_to_read(home: Home) -> sqlite3.Connection:
    """To a database in a folder that cannot be written, where SQLite can keep no account of who reads."""
    log = home.database.with_name(f"{home.database.name}-wal")
    is_whole = not log.exists() or log.stat().st_size == 0
    return sqlite3.connect(
        f"{home.database.absolute().as_uri()}?{'immutable=1' if is_whole else 'mode=ro'}", uri=True,
        isolation_level=None, check_same_thread=False,
    )  # fmt: skip


def begin_transaction(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("kitaru_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


# The schema


def migrate(home: Home, engine: Engine, connect: Any) -> None:
    with engine.connect() as connection, connection.begin():
        found = schema_version(connection)
    if found == SCHEMA_VERSION:
        return
    if found > SCHEMA_VERSION:
        raise KitaruBackendError(
            f"{home.database} has schema {found}; this Kitaru knows schema {SCHEMA_VERSION}",
            hint="a newer Kitaru wrote it: upgrade this one (pip install --upgrade kitaru)",
        )
    with alone_in(home):
        held = connect()
        try:
            # Where two turn a new database into one with a log, SQLite refuses one of them at once.
            held.execute("PRAGMA journal_mode=WAL")
        finally:
            held.close()
    with engine.connect().execution_options(kitaru_write=True) as connection, connection.begin():
        found = schema_version(connection)
        if found == 0:
            metadata.create_all(connection)
        elif found < SCHEMA_VERSION:
            add_what_is_new(connection)
        connection.exec_driver_sql(f"PRAGMA user_version={SCHEMA_VERSION}")


@contextmanager
def alone_in(home: Home) -> Iterator[None]:
    """Whoever else opens the home for the first time waits."""
    descriptor = os.open(home.root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def add_what_is_new(connection: Connection) -> None:
    """Bring an older schema up to this one: a release adds tables, columns and indexes, and takes none away."""
    metadata.create_all(connection)
    # SQLAlchemy does not see indexes of expressions.
    indexed = {row[0] for row in connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'index'")}
    for table in metadata.sorted_tables:
        there = {row[1] for row in connection.exec_driver_sql(f"PRAGMA table_info({table.name})")}
        for column in table.columns:
            if column.name not in there:
                described = CreateColumn(column).compile(dialect=connection.dialect)
                connection.exec_driver_sql(f"ALTER TABLE {table.name} ADD COLUMN {described}")
        for index in table.indexes:
            if index.name not in indexed:
                index.create(connection)
    # Before there was that column, waits of one moment were in the order of their rows.
    connection.exec_driver_sql("UPDATE waits SET asked_ns = rowid WHERE asked_ns IS NULL")


def schema_version(connection: Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


# What queries say, in SQLite's words


def place_of(path: Sequence[str]) -> str:
    """`$."a"."b"`, as a literal."""
    place = "$." + ".".join(json.dumps(part) for part in path)
    return "'" + place.replace("'", "''") + "'"


@compiles(JsonText, "sqlite")
@compiles(JsonNumber, "sqlite")
def extracted(element: Any, compiler: Any, **given: Any) -> str:
    return f"json_extract({compiler.process(element.clauses, **given)}, {place_of(element.path)})"


@compiles(JsonWritten, "sqlite")
def written(element: Any, compiler: Any, **given: Any) -> str:
    column, place = compiler.process(element.clauses, **given), place_of(element.path)
    # json_extract gives SQL values: true is 1, a number is a number; as text they compare.
    return (
        f"(CASE json_type({column}, {place}) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' "
        f"ELSE json_extract({column}, {place}) || '' END)"
    )


@compiles(LastDigits, "sqlite")
def last_digits(element: Any, compiler: Any, **given: Any) -> str:
    # As the index has it: a bound number would not be that expression.
    return f"substr({compiler.process(element.clauses, **given)}, -{element.count})"
