"""Outcomes that other executions may use."""

from __future__ import annotations

from typing import Any

from sqlalchemy import false, not_, or_, select

from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import executions, journal


def find_cached(database: Database, project: str, key: bytes, *, digest: str | None) -> Any | None:
    """The newest outcome that was recorded under a cache key and may be read by code of that snapshot.

    In a home or a record that is not this user's own alone, what is pickled may be where it ran on the same one.
    """
    wanted = (
        select(executions.c.exec_id, journal.c.key, journal.c.codec, journal.c.data, journal.c.value_digest)
        .join(executions, executions.c.id == journal.c.execution)
        .where(journal.c.cache_key == key, executions.c.project == project, journal.c.codec.is_not(None))
        .order_by(journal.c.ended_us.desc())
    )
    if not database.home.is_own:
        is_same = executions.c.digest == digest if digest is not None else false()
        wanted = wanted.where(or_(not_(journal.c.codec.startswith("pickle-")), is_same))
    with database.read() as connection:
        return connection.execute(wanted.limit(1)).one_or_none()
