"""Warnings of executions, without reading their journals: an index of their own leads to them."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from sqlalchemy import and_, func, literal_column, select
from sqlalchemy.engine import Connection

from kitaru_registry.database.opening import Database
from kitaru_registry.database.tables import executions, journal
from kitaru_registry.database.types import json_text

NOBODY = -1


def read_warnings(connection: Connection, rows: Collection[int]) -> dict[int, tuple[str, ...]]:
    """Row of an execution to its warnings, in recorded order; without those that have none."""
    found: dict[int, tuple[str, ...]] = {}
    for row, said in connection.execute(warnings_wanted(rows)):
        found[row] = (*found.get(row, ()), str(said))
    return found


def warnings_wanted(rows: Collection[int]) -> Any:
    said = json_text(journal.c.metadata, "warning")
    # With one row alone SQLite would go through that execution's whole journal.
    of = journal.c.execution.in_([*rows, NOBODY])
    return select(journal.c.execution, said).where(is_remark(), of, said.is_not(None)).order_by(journal.c.seq)


def is_remark() -> Any:
    # As text: with a parameter SQLite does not see that the index, which is of these alone, serves.
    return literal_column("journal.kind = 'd'")


def count_completed_with_warnings(database: Database, *, project: str, since_us: int) -> int:
    """Executions of the project that have completed since then, and have warnings."""
    said = json_text(journal.c.metadata, "warning")
    own = and_(executions.c.project == project, executions.c.status == "completed", executions.c.ended_us >= since_us)
    wanted = select(func.count(journal.c.execution.distinct())).select_from(journal).join(
        executions, executions.c.id == journal.c.execution
    )  # fmt: skip
    with database.read() as connection:
        return int(connection.execute(wanted.where(is_remark(), own, said.is_not(None))).scalar_one())
