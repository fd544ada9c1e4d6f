"""The system of record: tables, and transactions over SQLite.

Every write transaction is BEGIN IMMEDIATE: a deferred one that turns into a write fails with "busy" when
another writer was faster, and no timeout helps. Times are integers, microseconds since 1970 UTC.
"""

from __future__ import annotations

import fcntl
import functools
import os
import sqlite3
import weakref
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from functools import partial
from typing import Any, overload

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    UniqueConstraint,
    create_engine,
    event,
    text,
)
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.pool import Pool, QueuePool
from sqlalchemy.schema import CreateColumn

from kitaru_registry.database_errors import closed_on_failure, explained, read_json
from kitaru_registry.errors import KitaruBackendError
from kitaru_registry.home import Home, prepare, why_not_written

SCHEMA_VERSION = 3
BUSY_TIMEOUT_SECONDS = 30

metadata = MetaData()

flows = Table(
    "flows",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("project", String, nullable=False),
    Column("name", String, nullable=False),
    Column("origin", JSON, nullable=False),
    # Counts on when versions are deleted: a number is never given out twice.
    Column("last_version", Integer, nullable=False, default=0),
    Column("created_us", Integer, nullable=False),
    UniqueConstraint("project", "name"),
)

versions = Table(
    "versions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("flow_id", ForeignKey("flows.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("digest", String, nullable=False),
    Column("config", JSON, nullable=False),
    Column("created_us", Integer, nullable=False),
    Column("deleted_us", Integer),
    UniqueConstraint("flow_id", "number"),
)
Index(
    "versions_live_digest", versions.c.flow_id, versions.c.digest, unique=True, sqlite_where=text("deleted_us IS NULL")
)

deploy_events = Table(
    "deploy_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("version_id", ForeignKey("versions.id"), nullable=False, index=True),
    Column("git", JSON(none_as_null=True)),
    Column("actor", String, nullable=False),
    Column("created", Boolean, nullable=False),
    Column("at_us", Integer, nullable=False),
)

tags = Table(
    "tags",
    metadata,
    Column("flow_id", ForeignKey("flows.id"), primary_key=True),
    Column("name", String, primary_key=True),
    # Version name to share in percent; a tag that is here has exactly one route.
    Column("routes", JSON, nullable=False),
    Column("frozen", Boolean, nullable=False, default=False),
    Column("actor", String, nullable=False),
    Column("moved_us", Integer, nullable=False),
)

tag_moves = Table(
    "tag_moves",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("flow_id", ForeignKey("flows.id"), nullable=False),
    Column("tag", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("from_routes", JSON(none_as_null=True)),
    Column("to_routes", JSON(none_as_null=True)),
    Column("frozen", Boolean, nullable=False, default=False),
    Column("actor", String, nullable=False),
    Column("reason", String),
    Column("git_commit", String),
    Column("at_us", Integer, nullable=False),
    Index("tag_moves_of", "flow_id", "tag", "id"),
)

executions = Table(
    "executions",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("exec_id", String, nullable=False, unique=True),
    Column("project", String, nullable=False),
    Column("flow", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("version", Integer),
    Column("digest", String),
    Column("tag", String),
    Column("status", String, nullable=False),
    # JSON for people and filters; the encoded form is what the flow is called with.
    Column("inputs", JSON, nullable=False),
    Column("inputs_codec", String, nullable=False),
    Column("inputs_data", LargeBinary, nullable=False),
    Column("idempotency_key", String),
    Column("input_digest", String, nullable=False),
    Column("actor", String, nullable=False),
    Column("created_us", Integer, nullable=False),
    Column("started_us", Integer),
    Column("ended_us", Integer),
    # The fence: every journal write names the attempt that it belongs to.
    Column("attempt", Integer, nullable=False, default=0),
    Column("fruitless_attempts", Integer, nullable=False, default=0),
    Column("attempt_start_seq", Integer, nullable=False, default=0),
    Column("not_before_us", Integer, nullable=False, default=0),
    Column("lease_until_us", Integer),
    Column("owner", String),
    Column("owner_pid", Integer),
    Column("owner_host", String),
    Column("needs", JSON(none_as_null=True)),
    Column("result_codec", String),
    Column("result_data", LargeBinary),
    Column("result_digest", LargeBinary),
    Column("error", JSON(none_as_null=True)),
    Column("status_reason", String),
    # What runs now, as of the last heartbeat: [{"key", "name", "tries", "started_us"}].
    Column("in_flight", JSON(none_as_null=True)),
    Column("cancel_requested_us", Integer),
    Column("cancel_actor", String),
    Column("source", JSON(none_as_null=True)),
    # A flow of the same snapshot that is not the one it was deployed for: a child flow's.
    Column("entrypoint", String),
    Column("parent", Integer),
    Column("parent_key", String),
    Column("retries", Integer, nullable=False, server_default="0"),
    Column("retries_used", Integer, nullable=False, server_default="0"),
    # NULL: as each checkpoint says.
    Column("cache", Boolean),
    Column("finish_seconds", Float),
    Column("finish_by_us", Integer),
    # Of a replay: {"of": exec_id, "from": key, "reused": seq, "overrides": [...], "only_recorded": bool}.
    Column("replay", JSON(none_as_null=True)),
    # Its values are gone; the row stays.
    Column("deleted_us", Integer),
    # inputs_data names files in values/ (executions/inputs.py).
    Column("inputs_in_parts", Boolean, nullable=False, server_default="0"),
    Index("executions_by_flow", "project", "flow", "id"),
    Index("executions_by_project", "project", "id"),
    Index("executions_by_status", "status", "not_before_us"),
    Index(
        "executions_idempotency", "project", "flow", "idempotency_key",
        unique=True, sqlite_where=text("idempotency_key IS NOT NULL"),
    ),
    Index("executions_children", "parent", "parent_key", unique=True, sqlite_where=text("parent IS NOT NULL")),
    Index("executions_values", "result_digest", sqlite_where=text("result_digest IS NOT NULL")),
    # The eight digits that lists show, and that people type.
    Index("executions_by_end", text("substr(exec_id, -8)")),
    Index("executions_finish_by", "finish_by_us", sqlite_where=text("finish_by_us IS NOT NULL")),
)  # fmt: skip

journal = Table(
    "journal",
    metadata,
    Column("execution", Integer, primary_key=True),
    Column("seq", Integer, primary_key=True),
    # c checkpoint, t failed try, w wait answer, s save, l log, d divergence warning, x child execution, r retry,
    # n noted value (now, random, uuid4), a accepted divergence
    Column("kind", String(1), nullable=False),
    Column("key", String, nullable=False),
    Column("attempt", Integer, nullable=False),
    # Where it is not the key's own last part.
    Column("name", String),
    Column("tries", Integer),
    Column("place", Integer),
    Column("type", String),
    Column("codec", String),
    # NULL with a digest: the bytes are a file in values/.
    Column("data", LargeBinary),
    Column("value_digest", LargeBinary),
    Column("error", String),
    Column("metadata", String),
    Column("inputs", LargeBinary),
    Column("started_us", Integer),
    Column("ended_us", Integer, nullable=False),
    # Of a checkpoint under cache=True: code and inputs.
    Column("cache_key", LargeBinary),
    # JSON list of the keys whose outcomes were passed to this call.
    Column("parents", String),
    # 1: never executed in a replay. 2: the value is its digest alone.
    Column("flags", Integer),
    Index("journal_cache", "cache_key", sqlite_where=text("cache_key IS NOT NULL")),
    # Which files in values/ are named.
    Index("journal_values", "value_digest", sqlite_where=text("value_digest IS NOT NULL")),
    Index("journal_remarks", "kind", "execution", sqlite_where=text("kind = 'd'")),
    # The rows of one execution lie together, in recorded order, with no second index to keep.
    sqlite_with_rowid=False,
)

waits = Table(
    "waits",
    metadata,
    Column("execution", Integer, primary_key=True),
    Column("key", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("question", String),
    Column("schema", JSON(none_as_null=True)),
    Column("metadata", JSON(none_as_null=True)),
    Column("entered_us", Integer, nullable=False),
    Column("deadline_us", Integer),
    # input, sleep, child
    Column("kind", String, nullable=False, server_default="input"),
    # The key under which the first answer to a group of waits is recorded (`wait_any`).
    Column("any_of", String),
    # Row of the child execution that this stands for.
    Column("child", Integer),
    # pending, answered, expired, aborted, closed; early: an answer whose wait is not open yet; superseded: a retry
    # asked anew
    Column("status", String, nullable=False),
    Column("answer", JSON(none_as_null=True)),
    Column("answered_us", Integer),
    Column("answered_by", String),
    Column("door", String),
    Index("waits_deadline", "deadline_us", sqlite_where=text("status = 'pending' AND deadline_us IS NOT NULL")),
    Index("waits_child", "child", sqlite_where=text("child IS NOT NULL")),
)

artifacts = Table(
    "artifacts",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("execution", Integer, nullable=False),
    # The checkpoint that saved it, or the save's own key in the flow's body.
    Column("key", String, nullable=False),
    Column("name", String, nullable=False),
    Column("type", String, nullable=False),
    Column("tags", JSON, nullable=False),
    Column("codec", String, nullable=False),
    Column("data", LargeBinary),
    Column("value_digest", LargeBinary),
    Column("at_us", Integer, nullable=False),
    Index("artifacts_of", "execution", "name"),
    Index("artifacts_values", "value_digest", sqlite_where=text("value_digest IS NOT NULL")),
)

# Files in values/ that hold parts of what executions were given.
input_parts = Table(
    "input_parts",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("execution", Integer, primary_key=True),
    Index("input_parts_of", "execution"),
    sqlite_with_rowid=False,
)


class Database:
    """One home's record. Safe to share between threads; a fork opens connections of its own."""

    def __init__(
        self, engine: Engine, home: Home, *, synchronous: str, refused: KitaruBackendError | None = None
    ) -> None:  # fmt: skip
        """
        Args:
            refused: why nothing may be written; it can be read all the same.
        """
        self.engine = engine
        self.home = home
        self._refused = refused
        self.synchronous = synchronous
        self._of_parent: list[Pool] = []
        _databases.add(self)
        watch_forks()

    def leave_connections(self) -> None:
        """In a fork: those of its parent are not used, and not closed, which would touch the parent's files."""
        self._of_parent.append(self.engine.pool)
        self.engine.dispose(close=False)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A consistent view.

        Raises:
            KitaruUsageError: what is asked for cannot be there: text that is no UTF-8, a number that is too large.
            KitaruBackendError: the database cannot be read, or is damaged.
        """
        with explained(self.home), self.engine.connect() as connection, connection.begin():
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction, alone among writers from its first statement on; committed if nothing is raised.

        Raises:
            KitaruUsageError: text that is no UTF-8, or a number that is too large; nothing was written.
            KitaruBackendError: the disk is full, or the database cannot be written; nothing was.
        """
        self.require_writable()
        with (
            explained(self.home),
            self.engine.connect().execution_options(kitaru_write=True) as connection,
            connection.begin(),
        ):
            yield connection

    def require_writable(self) -> None:
        """
        Raises:
            KitaruBackendError: nothing may be written to its home: it is read-only, or others may write to it.
        """
        if self._refused is not None:
            raise self._refused

    @contextmanager
    def cursor(self) -> Iterator[sqlite3.Cursor]:
        """One of the pool's connections, without what SQLAlchemy adds: for a statement that is asked again and again.

        Raises:
            KitaruBackendError: the database cannot be read, or is damaged.
        """
        with explained(self.home), closing(self.engine.raw_connection()) as connection:
            yield connection.cursor()  # type: ignore[misc]  # the driver is sqlite3

    @contextmanager
    def holding(self) -> Iterator[sqlite3.Connection]:
        """As `hold`, for as long as the context lasts.

        Raises:
            KitaruBackendError: the database cannot be used, or is damaged.
        """
        with explained(self.home), closing(self.hold()) as connection:
            yield connection

    def hold(self) -> sqlite3.Connection:
        """A connection of the caller's own in autocommit mode, for the journal's hot path; close it.

        Raises:
            KitaruBackendError: the database cannot be opened.
        """
        with explained(self.home):
            return connect(self.home, self.synchronous)

    def close(self) -> None:
        self.engine.dispose()


_databases: weakref.WeakSet[Database] = weakref.WeakSet()


@functools.cache
def watch_forks() -> None:
    os.register_at_fork(after_in_child=leave_connections)


def leave_connections() -> None:
    for database in list(_databases):
        database.leave_connections()


def open_database(home: Home, *, synchronous: str = "FULL") -> Database:
    """The home's database, created where there is none; to be read alone where nothing may be written.

    Raises:
        KitaruBackendError: the home cannot hold it, or a newer Kitaru wrote it.
    """
    refused = why_not_written(home) if home.database.exists() else None
    if refused is None:
        prepare(home)
        with suppress(FileExistsError):  # whoever else creates it: SQLite's own files are as open as this one
            os.close(os.open(home.database, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    # For this URL SQLAlchemy would choose a pool that closes the connections of other threads while they are in use.
    engine = create_engine(
        "sqlite://", creator=lambda: connect(home, synchronous), poolclass=QueuePool, max_overflow=-1,
        json_deserializer=partial(read_json, home),
    )  # fmt: skip
    event.listen(engine, "begin", begin)
    database = Database(engine, home, synchronous=synchronous, refused=refused)
    with closed_on_failure(database):
        migrate(database)
    return database


def connect(home: Home, synchronous: str) -> sqlite3.Connection:
    if not os.access(home.root, os.W_OK):
        return connect_to_read(home)
    connection = sqlite3.connect(
        home.database, timeout=BUSY_TIMEOUT_SECONDS, isolation_level=None, check_same_thread=False
    )
    with closed_on_failure(connection):
        connection.execute(f"PRAGMA synchronous={synchronous}")
    return connection


def connect_to_read(home: Home) -> sqlite3.Connection:
    """To a database in a folder that cannot be written, where SQLite can keep no account of who reads."""
    log = home.database.with_name(f"{home.database.name}-wal")
    is_whole = not log.exists() or log.stat().st_size == 0
    return sqlite3.connect(
        f"{home.database.absolute().as_uri()}?{'immutable=1' if is_whole else 'mode=ro'}", uri=True,
        isolation_level=None, check_same_thread=False,
    )  # fmt: skip


def begin(connection: Connection) -> None:
    immediate = connection.get_execution_options().get("kitaru_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def migrate(database: Database) -> None:
    with database.read() as connection:
        found = schema_version(connection)
    if found == SCHEMA_VERSION:
        return
    if found > SCHEMA_VERSION:
        raise KitaruBackendError(
            f"{database.home.database} has schema {found}; this Kitaru knows schema {SCHEMA_VERSION}",
            hint="a newer Kitaru wrote it: upgrade this one (pip install --upgrade kitaru)",
        )
    with alone_in(database.home), database.holding() as held:
        # Where two turn a new database into one with a log, SQLite refuses one of them at once.
        held.execute("PRAGMA journal_mode=WAL")
    with database.write() as connection:
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


def schema_version(connection: Connection) -> int:
    return int(connection.exec_driver_sql("PRAGMA user_version").scalar_one())


@overload
def as_datetime(microseconds: int) -> datetime: ...
@overload
def as_datetime(microseconds: None) -> None: ...
@overload
def as_datetime(microseconds: Any) -> datetime | None: ...
def as_datetime(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else datetime.fromtimestamp(microseconds / 1_000_000, UTC)
