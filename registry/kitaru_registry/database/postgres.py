"""The record in PostgreSQL, for several machines: all of its text that is PostgreSQL's alone. psycopg is imported here.

Nobody is alone here as a writer to SQLite is. A write first locks what it is about (`scope`): the family of an
execution, so that nothing happens to a parent while its child ends, and the execution's own row, on which appends to
its journal wait; or a flow's name. A transaction locks all that it will need at its beginning, families in their order,
so that no two wait for each other. An append locks its execution's row alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from typing import Any

from sqlalchemy import create_engine, make_url, text
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.compiler import compiles

from kitaru_registry.clock import clock
from kitaru_registry.database.dialect import Health, Scope
from kitaru_registry.database.postgres_schema import require_served
from kitaru_registry.database.tables import SCHEMA_VERSION
from kitaru_registry.database.types import JsonNumber, JsonText, JsonWritten, LastDigits
from kitaru_registry.errors import KitaruBackendError, KitaruUsageError

OLDEST_SERVER = 13

CONNECT_SECONDS = 5
LOCK_SECONDS = 8
CHANNEL = "kitaru"
LOOK_SECONDS = 5.0
"""A listener is told to look so often though nobody has called: a call may be lost with a connection."""

SETTINGS = {
    # Whoever is stopped within a transaction keeps its locks no longer than this.
    "idle_in_transaction_session_timeout": f"{LOCK_SECONDS + 2}s",
    "lock_timeout": f"{LOCK_SECONDS}s",
    "client_encoding": "utf8",
}

# Advisory locks: one for everything, one for each family and each flow's name.
ALL, FAMILY, FLOW = 0x6B697461, 0x6B69, 0x6B6A

LOCK_FAMILIES = """
WITH RECURSIVE up(id, parent) AS (
    SELECT id, parent FROM executions WHERE id = ANY(%(rows)s) OR exec_id = ANY(%(ids)s)
    UNION SELECT e.id, e.parent FROM executions e JOIN up ON e.id = up.parent
)
SELECT {lock}(%(family)s, (root.id %% 2147483647)::int)
FROM (SELECT id FROM up WHERE parent IS NULL ORDER BY id) AS root
"""
LOCK_ROWS = """
SELECT id FROM executions WHERE id = ANY(%(rows)s) OR exec_id = ANY(%(ids)s) ORDER BY id FOR NO KEY UPDATE {skip}
"""


class Postgres:
    """See Dialect."""

    is_own = False
    reading = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}  # noqa: RUF012
    writing: dict[str, Any] = {}  # noqa: RUF012

    def __init__(self, url: str) -> None:
        """
        Args:
            url: `postgresql://[USER[:PASSWORD]@]HOST[:PORT]/DATABASE`.

        Raises:
            KitaruUsageError: it is none, or psycopg is not installed.
        """
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise KitaruUsageError(
                "the database of the record is no URL", hint="postgresql://user@host/database"
            ) from None
        if parsed.drivername not in ("postgresql", "postgresql+psycopg", "postgres"):
            raise KitaruUsageError(
                f"the record cannot be in a database of the kind {parsed.drivername}",
                hint="postgresql://user@host/database; without [registry] database it is the home's own file",
            )
        if find_spec("psycopg") is None:
            raise KitaruUsageError(
                "the record is in PostgreSQL, and psycopg is not installed", hint="pip install 'kitaru[postgres]'"
            )
        self._url = parsed.set(drivername="postgresql+psycopg")
        self.place = f"{parsed.host or 'localhost'}:{parsed.port or 5432}/{parsed.database or ''}"
        self._arguments: dict[str, Any] = {}

    def engine(self) -> Engine:
        options = " ".join(f"-c {name}={value}" for name, value in SETTINGS.items())
        given = self._url.query.get("options")
        extra = {
            "connect_timeout": CONNECT_SECONDS, "application_name": "kitaru", "tcp_user_timeout": LOCK_SECONDS * 1_000,
            "keepalives_idle": 5, "keepalives_interval": 2, "keepalives_count": 3,
            "options": f"{given} {options}" if given else options,
        }  # fmt: skip
        engine = create_engine(
            self._url.difference_update_query(["options"]), connect_args=extra, pool_pre_ping=True, max_overflow=-1,
            paramstyle="format",
        )  # fmt: skip
        _, named = engine.dialect.create_connect_args(self._url.difference_update_query(["options"]))
        self._arguments = {**named, **extra}
        return engine

    def prepare(self, engine: Engine) -> KitaruBackendError | None:
        with engine.connect() as connection, connection.begin():
            self._require_server(connection)
            require_served(connection, self.place)
            self._learn_time(connection)
            return self._why_not_written(connection)

    def _require_server(self, connection: Connection) -> None:
        number, encoding = connection.exec_driver_sql(
            "SELECT current_setting('server_version_num')::int, current_setting('server_encoding')"
        ).one()
        if number // 10_000 < OLDEST_SERVER:
            raise KitaruBackendError(
                f"{self.place} is PostgreSQL {number // 10_000}; the record needs {OLDEST_SERVER} or newer",
                hint="upgrade the server, or name another one",
            )
        if encoding != "UTF8":
            raise KitaruBackendError(
                f"{self.place} keeps text as {encoding}; the record needs UTF8",
                hint="createdb --encoding=UTF8 --template=template0 NAME",
            )

    def _why_not_written(self, connection: Connection) -> KitaruBackendError | None:
        may, read_only = connection.exec_driver_sql(
            "SELECT has_table_privilege('executions', 'INSERT'), current_setting('transaction_read_only') = 'on'"
        ).one()
        if may and not read_only:
            return None
        why = "it is read-only" if read_only else f"the role {self._url.username or 'that connects'} may only read it"
        return KitaruBackendError(
            f"nothing can be written to {self.place}: {why}", hint="connect as a role that may: kitaru migrate --help"
        )

    def _learn_time(self, connection: Connection) -> None:
        """Let this process's time be the server's: leases and deadlines are compared by several machines."""
        before = time.time_ns() // 1000
        there = connection.exec_driver_sql("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint")
        server_us, after = int(there.scalar_one()), time.time_ns() // 1000
        # Nearer than the way there and back it cannot be told.
        clock.offset_us = 0 if before <= server_us <= after else server_us - (before + after) // 2

    def connect(self) -> Any:
        import psycopg

        return psycopg.connect(**self._arguments, autocommit=True)

    def begin(self, connection: Any) -> None:
        connection.execute("BEGIN")

    def is_in_transaction(self, connection: Any) -> bool:
        return bool(connection.info.transaction_status)

    def scope(self, connection: Connection, scope: Scope | None, *, wait: bool = True) -> bool:
        raw: Any = connection.connection.dbapi_connection
        with raw.cursor() as cursor:
            if scope is None:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", (ALL,))
                return True
            cursor.execute("SELECT pg_advisory_xact_lock_shared(%s)", (ALL,))
            if scope.flow is not None:
                cursor.execute("SELECT pg_advisory_xact_lock(%s, hashtext(%s))", (FLOW, scope.flow))
            if not scope.executions:
                return True
            wanted = {
                "rows": [row for row in scope.executions if isinstance(row, int)],
                "ids": [row for row in scope.executions if isinstance(row, str)],
                "family": FAMILY,
            }
            lock = "pg_advisory_xact_lock" if wait else "pg_try_advisory_xact_lock"
            cursor.execute(LOCK_FAMILIES.format(lock=lock), wanted)
            if not all(held is not False for (held,) in cursor.fetchall()):
                return False
            cursor.execute(LOCK_ROWS.format(skip="" if wait else "SKIP LOCKED"), wanted)
            return wait or bool(cursor.fetchall())

    def lock_together(self, held: Any, executions: Sequence[int]) -> set[int]:
        if len(executions) == 1:
            return set(executions)
        cursor = held.connection.execute(
            "SELECT id FROM executions WHERE id = ANY(%s) FOR NO KEY UPDATE SKIP LOCKED", (list(executions),)
        )
        return {row for (row,) in cursor.fetchall()}

    def tell(self, connection: Any) -> None:
        # Not in the transaction: commits with a call in them wait for each other.
        with suppress(Exception):  # whoever did not hear of it looks in some seconds
            connection.execute(f"NOTIFY {CHANNEL}")
            if not connection.autocommit:
                connection.commit()

    @contextmanager
    def explained(self) -> Iterator[None]:
        from kitaru_registry.database.postgres_errors import explain

        try:
            yield
        except (UnicodeEncodeError, OverflowError, SQLAlchemyError) as error:
            raise explain(error, self.place) from error
        except Exception as error:
            found = explain(error, self.place)
            if found is error:
                raise
            raise found from error

    def explain(self, error: BaseException) -> BaseException:
        from kitaru_registry.database.postgres_errors import explain

        return explain(error, self.place, doing="recorded")

    def is_of_the_rows(self, error: BaseException) -> bool:
        from kitaru_registry.database.postgres_errors import is_of_the_rows

        return is_of_the_rows(error)

    def is_lost(self, error: BaseException) -> bool:
        from kitaru_registry.database.postgres_errors import is_lost

        return is_lost(error)

    def each(self, parameter: str, *, numbers: bool) -> str:
        value = "CAST(value AS BIGINT)" if numbers else "value"
        return (
            f"(SELECT place - 1 AS key, {value} AS value FROM json_array_elements_text(CAST(:{parameter} AS json)) "
            "WITH ORDINALITY AS listed(value, place))"
        )

    def begin_erasing(self, connection: Connection) -> None:
        """The server frees the pages in its own time (VACUUM)."""

    def end_erasing(self, connection: Connection) -> None:
        """See begin_erasing."""

    def forget_erased(self) -> Sequence[str]:
        return ()

    def changes(self) -> Calls:
        return Calls(self)

    def health(self, connection: Connection) -> Health:
        version = connection.execute(text("SHOW server_version")).scalar_one()
        return Health(True, f"PostgreSQL {version} at {self.place}, schema {SCHEMA_VERSION}")


class Calls:
    """Whether a writer has called since the last look: over a connection of its own, which only listens."""

    def __init__(self, dialect: Postgres) -> None:
        self._dialect = dialect
        self._connection: Any = None
        self._look_at = 0.0

    @property
    def descriptor(self) -> int | None:
        return self._connection.fileno() if self._connection is not None else None

    def have_come(self) -> bool:
        now = time.monotonic()
        if self._connection is None:
            return self._listen()
        try:
            # To its end: who leaves that generator early loses what else has come.
            called = len(list(self._connection.notifies(timeout=0))) > 0
        except Exception:
            self.close()
            return True
        if called or now >= self._look_at:
            self._look_at = now + LOOK_SECONDS
            return True
        return False

    def _listen(self) -> bool:
        """Anew; what was called meanwhile is not known, so whoever asks is to look."""
        try:
            self._connection = self._dialect.connect()
            self._connection.execute(f"LISTEN {CHANNEL}")
        except Exception:
            self.close()
        return True

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(Exception):
                connection.close()


# What queries say, in PostgreSQL's words


def place_of(path: Sequence[str]) -> str:
    """An array of its parts, as a literal in a statement whose parameters are `%s`."""
    parts = ("'" + part.replace("'", "''").replace("%", "%%") + "'" for part in path)
    return f"ARRAY[{', '.join(parts)}]"


@compiles(JsonText, "postgresql")
@compiles(JsonWritten, "postgresql")
def extracted(element: Any, compiler: Any, **given: Any) -> str:
    return f"(kitaru_json({compiler.process(element.clauses, **given)}) #>> {place_of(element.path)})"


@compiles(JsonNumber, "postgresql")
def number(element: Any, compiler: Any, **given: Any) -> str:
    return f"CAST({extracted(element, compiler, **given)} AS BIGINT)"


@compiles(LastDigits, "postgresql")
def last_digits(element: Any, compiler: Any, **given: Any) -> str:
    return f"right({compiler.process(element.clauses, **given)}, {element.count})"
