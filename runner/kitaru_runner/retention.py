"""Deletes ended executions: on demand, and as the projects' retention says, now and then."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kitaru_registry.database import Database
from kitaru_registry.errors import KitaruStateError
from kitaru_registry.executions import retention
from kitaru_registry.models import Deleted, ExecutionId
from kitaru_runner.locks import FileLock, execution_lock

PAUSE_SECONDS = 600.0
TOGETHER = 20
"""Executions in one transaction."""

ACTOR = "retention"


class Retention:
    """Of one runner: looks at most every ten minutes, and deletes a few hundred at once."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._next_at = 0.0

    def apply(self) -> int:
        """Delete what has expired, if it is time to look; how many executions."""
        if time.monotonic() < self._next_at:
            return 0
        self._next_at = time.monotonic() + PAUSE_SECONDS
        return apply(self._database)


def apply(database: Database) -> int:
    """Delete what the projects' policies let go; how many executions. What cannot go now is left for later."""
    found = retention.expired(database)
    return sum(delete_what_can(database, found[first : first + TOGETHER]) for first in range(0, len(found), TOGETHER))


def delete_what_can(database: Database, exec_ids: Sequence[ExecutionId]) -> int:
    """Delete these together, or, where one cannot be deleted, those that can."""
    try:
        return len(delete(database, exec_ids, actor=ACTOR).exec_ids)
    except KitaruStateError:
        if len(exec_ids) == 1:
            return 0
    return sum(delete_what_can(database, [exec_id]) for exec_id in exec_ids)


def delete(database: Database, exec_ids: Sequence[ExecutionId], *, actor: str) -> Deleted:
    """Delete ended executions, all or none.

    Raises:
        KitaruStateError: one has not ended, its process is still there, or an open execution needs it.
    """
    locks: list[FileLock] = []
    try:
        for exec_id in exec_ids:
            path = execution_lock(database.home, exec_id)
            if not path.parent.is_dir():
                continue
            lock = FileLock.acquire(path)
            if lock is None:
                raise KitaruStateError(
                    f"execution {exec_id} cannot be deleted: its process has not ended yet",
                    hint=f"kitaru executions get {exec_id}",
                )
            locks.append(lock)
        return retention.erase(database, exec_ids, actor=actor)
    finally:
        for lock in locks:
            lock.release()
