"""Deletes ended executions: on demand, and as the projects' retention says, now and then."""

from __future__ import annotations

import time
from collections.abc import Sequence

from kitaru_registry.database.opening import Database
from kitaru_registry.errors import KitaruStateError, KitaruUsageError
from kitaru_registry.executions import ending, queue, retention
from kitaru_registry.models import Deleted, ExecutionId
from kitaru_runner.host.locks import FileLock, execution_lock

PAUSE_SECONDS = 600.0
TOGETHER = 20
"""Executions in one transaction: other writers wait for it."""

TOGETHER_AT_MOST = 200
"""Executions that can be deleted all or none: each holds a lock, and the lock a descriptor."""

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
    return len(delete_each(database, retention.expired(database), actor=ACTOR).exec_ids)


def delete_each(database: Database, exec_ids: Sequence[ExecutionId], *, actor: str) -> Deleted:
    """Delete those that can be deleted, some in each transaction; the others are `left`, and why."""
    done = Deleted(exec_ids=())
    for first in range(0, len(exec_ids), TOGETHER):
        done = both(done, delete_what_can(database, exec_ids[first : first + TOGETHER], actor=actor))
    return done


def delete_what_can(database: Database, exec_ids: Sequence[ExecutionId], *, actor: str) -> Deleted:
    """Delete these together, or, where one cannot be deleted, those that can."""
    try:
        return delete(database, exec_ids, actor=actor)
    except KitaruStateError as error:
        if len(exec_ids) == 1:
            return Deleted(exec_ids=(), left=(error.message,))
    done = Deleted(exec_ids=())
    for exec_id in exec_ids:
        done = both(done, delete_what_can(database, [exec_id], actor=actor))
    return done


def both(one: Deleted, other: Deleted) -> Deleted:
    return Deleted(
        exec_ids=one.exec_ids + other.exec_ids,
        values=one.values + other.values,
        bytes=one.bytes + other.bytes,
        left=tuple(dict.fromkeys(one.left + other.left)),
    )


def delete(database: Database, exec_ids: Sequence[ExecutionId], *, actor: str) -> Deleted:
    """Delete ended executions, all or none.

    Raises:
        KitaruStateError: one has not ended, its process is still there, or an open execution needs it.
        KitaruUsageError: they are more than 200.
    """
    if len(exec_ids) > TOGETHER_AT_MOST:
        raise KitaruUsageError(
            f"{len(exec_ids):,} executions are too many to be deleted all or none",
            hint=f"at most {TOGETHER_AT_MOST} at once; or by a query, each for itself: kitaru executions delete --flow",
        )
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


def end_lost(database: Database, exec_ids: Sequence[ExecutionId]) -> None:
    """End those of these running executions that were to be cancelled, and whose process is gone."""
    for exec_id in exec_ids:
        lock = FileLock.acquire(execution_lock(database.home, exec_id))
        if lock is not None:
            seen = queue.candidate(database, exec_id)
            ending.cancel_owned(database, seen.row, seen.attempt)
            lock.release()
