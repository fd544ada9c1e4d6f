"""How a record comes to be in PostgreSQL, and which one a release serves."""

from __future__ import annotations

from sqlalchemy import Connection, select, text

from kitaru_registry.clock import now_us
from kitaru_registry.database.tables import SCHEMA_VERSION, metadata, schema_versions
from kitaru_registry.errors import KitaruBackendError

MIGRATING = 0x6B697462

KITARU_JSON = r"""
CREATE OR REPLACE FUNCTION kitaru_json(document text) RETURNS jsonb LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN document::jsonb;
EXCEPTION WHEN others THEN
    -- A NUL, or half of a surrogate pair, which jsonb does not hold: to be looked for, not to be given back.
    BEGIN
        RETURN replace(
            regexp_replace(replace(document, '\\', chr(1)), '\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})', '\\ufffd', 'g'),
            chr(1), '\\'
        )::jsonb;
    EXCEPTION WHEN others THEN
        RETURN NULL;
    END;
END $$
"""


def require_served(connection: Connection, place: str) -> None:
    """
    Raises:
        KitaruBackendError: there is no record, or one that this release does not serve.
    """
    if connection.execute(text("SELECT to_regclass('schema_versions')")).scalar_one() is None:
        raise KitaruBackendError(f"there is no record in {place} yet", hint="kitaru migrate")
    newest = select(schema_versions).order_by(schema_versions.c.version.desc()).limit(1)
    found = connection.execute(newest).one()
    if found.version < SCHEMA_VERSION:
        raise KitaruBackendError(
            f"the record in {place} has schema {found.version}; this Kitaru needs schema {SCHEMA_VERSION}",
            hint="kitaru migrate",
        )
    if found.serves_from > SCHEMA_VERSION:
        raise KitaruBackendError(
            f"the record in {place} has schema {found.version}; this Kitaru knows schema {SCHEMA_VERSION}",
            hint="a newer Kitaru migrated it: upgrade this one (pip install --upgrade kitaru)",
        )


def create_record(connection: Connection) -> bool:
    """Make the tables, where there are none; whether there were none."""
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": MIGRATING})
    if connection.execute(text("SELECT to_regclass('schema_versions')")).scalar_one() is not None:
        return False
    metadata.create_all(connection)
    connection.exec_driver_sql(KITARU_JSON.replace("%", "%%"))
    connection.execute(
        schema_versions.insert().values(version=SCHEMA_VERSION, serves_from=SCHEMA_VERSION, at_us=now_us())
    )
    return True
