"""Bringing a record to the schema of this release: `kitaru migrate`."""

from __future__ import annotations

from kitaru_registry.database.postgres import Postgres
from kitaru_registry.database.postgres_schema import create_record


def migrate_postgres(url: str) -> bool:
    """Make, or bring up to date, the record in a PostgreSQL database; whether there was something to do.

    Raises:
        KitaruError: the URL is none, or the database cannot be reached or written.
    """
    dialect = Postgres(url)
    with dialect.explained():
        engine = dialect.engine()
        try:
            with engine.connect() as connection, connection.begin():
                return create_record(connection)
        finally:
            engine.dispose()
