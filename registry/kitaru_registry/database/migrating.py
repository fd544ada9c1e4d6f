"""Bringing a record to the schema of this release: `kitaru migrate`."""

from __future__ import annotations

from kitaru_registry.database.opening import open_database
from kitaru_registry.database.postgres import Postgres
from kitaru_registry.database.postgres_schema import create_record
from kitaru_registry.database.tables import SCHEMA_VERSION
from kitaru_registry.home import Home
from kitaru_registry.record_url import resolved
from kitaru_registry.records.migrated import Migrated


def migrate(home: Home) -> Migrated:
    """Make the home's record, or bring it up to date. One in its own file is brought so by whoever opens it.

    Raises:
        KitaruError: the database cannot be reached or written, or a newer Kitaru wrote it.
    """
    if home.record is None:
        opened = open_database(home)
        opened.close()
        return Migrated(place=opened.dialect.place, schema_version=SCHEMA_VERSION, created=False)
    dialect = Postgres(resolved(home.record))
    created = migrate_postgres(dialect)
    return Migrated(place=dialect.place, schema_version=SCHEMA_VERSION, created=created)


def migrate_postgres(dialect: Postgres) -> bool:
    """Whether there was no record yet."""
    with dialect.explained():
        engine = dialect.engine()
        try:
            with engine.connect() as connection, connection.begin():
                return create_record(connection)
        finally:
            engine.dispose()
