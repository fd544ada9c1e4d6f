"""What there is to do for an execution, for whoever lets it be executed."""

from __future__ import annotations

from typing import Any

from sqlalchemy import select
from sqlalchemy.engine import Connection

from kitaru_registry.database.tables import versions
from kitaru_registry.models import Digest, ExecutionId
from kitaru_registry.records.answers import Work
from kitaru_registry.records.states import OPEN


def work_of(connection: Connection, row: Any) -> Work:
    is_open = row.kind == "deployed" and row.status in OPEN
    return Work(
        exec_id=ExecutionId(row.exec_id),
        project=row.project,
        flow=row.flow,
        kind=row.kind,
        status=row.status,
        digest=Digest(row.digest) if row.digest else None,
        variables=declared_by(connection, row.digest) if is_open else (),
    )


def declared_by(connection: Connection, digest: str | None) -> tuple[str, ...]:
    """Names of environment variables that the executions of a snapshot, or of all of them, may see."""
    wanted = select(versions.c.config).where(versions.c.deleted_us.is_(None))
    if digest is not None:
        wanted = wanted.where(versions.c.digest == digest)
    found = connection.execute(wanted).scalars().all()
    return tuple(sorted({name for config in found for name in config["options"].get("env", ())}))
