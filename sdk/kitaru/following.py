"""Following an execution: what it prints while it prints it, when it comes to wait, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kitaru.reasons import brief, status_of
from kitaru.working import is_executed, look_after
from kitaru_registry.api.artifact_requests import LogQuery, ReadLog
from kitaru_registry.api.execution_requests import FindExecution
from kitaru_registry.errors import KitaruUsageError
from kitaru_registry.models import Execution, ExecutionId, LogEntry
from kitaru_registry.records.states import ENDED

if TYPE_CHECKING:
    from kitaru.session import Session

EVERYTHING = LogQuery()

SHORTEST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.25
LOOK_AFTER_SECONDS = 1.0

LOOKS_WITHOUT_PROCESS = 3
"""After so many it is said that nobody executes it: a process that was just started needs a moment."""


def entries(session: Session, exec_id: str, query: LogQuery, offset: int = 0) -> Iterator[LogEntry]:
    """What it has printed so far, from an offset on."""
    before, any_fits = None, False
    # Until nothing more has come: somebody may write to it meanwhile.
    while offset != before:
        page = session.ask(ReadLog(exec_id=exec_id, query=query, offset=offset, must_fit=not any_fits))
        before, offset, any_fits = offset, page.offset, any_fits or bool(page.entries)
        yield from page.entries


def follow(
    session: Session, exec_id: str, wanted: LogQuery = EVERYTHING, *, offset: int = 0,
    interval: float = LONGEST_PAUSE_SECONDS,
) -> Iterator[LogEntry | Execution]:  # fmt: skip
    """See Executions.follow. What is refused is refused now, not with the first line.

    Raises:
        KitaruUsageError: a negative offset, or an interval that is none.
        KitaruNotFoundError: there is no such execution, or it has no such checkpoint.
    """
    if offset < 0 or interval <= 0:
        raise KitaruUsageError("a log is followed from an offset of 0 or more, at intervals above 0 seconds")
    session.ask(ReadLog(exec_id=exec_id, query=wanted, limit=1, must_fit=False))
    found = session.ask(FindExecution(exec_id=exec_id))
    return going_on(session, found, wanted=wanted, offset=offset, interval=interval)


def going_on(
    session: Session, exec_id: ExecutionId, *, wanted: LogQuery, offset: int, interval: float
) -> Iterator[LogEntry | Execution]:
    """Its log from an offset on, live, until it has ended.

    Between two lines comes the execution itself, whenever it has come to a wait, when nobody executes it any more, and
    last of all when it has ended; without its checkpoints, of which there may be very many.
    """
    tail = Tail(session, exec_id, wanted, offset)
    pause, waiting_for, looked_at, without_process = SHORTEST_PAUSE_SECONDS, None, time.monotonic(), 0
    while True:
        # The status first: what was printed before the end is then in the log.
        status = status_of(session, exec_id)
        before = tail.offset
        yield from tail.read(all_of_it=status in ENDED)
        if status in ENDED:
            yield session.shown(brief(session, exec_id))
            return
        if status == "waiting":
            execution = brief(session, exec_id)
            asked = tuple(wait.key for wait in execution.pending_waits)
            if execution.status == "waiting" and asked != waiting_for:
                waiting_for = asked
                yield session.shown(execution)
        else:
            waiting_for = None
        if time.monotonic() - looked_at > LOOK_AFTER_SECONDS:
            looked_at = time.monotonic()
            look_after(session, exec_id)
            is_idle = status != "waiting" and not is_executed(session, exec_id)
            without_process = without_process + 1 if is_idle else 0
            if without_process == LOOKS_WITHOUT_PROCESS and (stopped := brief(session, exec_id)).status_reason:
                yield session.shown(stopped)
        pause = SHORTEST_PAUSE_SECONDS if tail.offset != before else min(pause * 2, interval)
        time.sleep(min(pause, interval))


class Tail:
    """A place in a log that others write to."""

    def __init__(self, session: Session, exec_id: ExecutionId, wanted: LogQuery, offset: int) -> None:
        self.offset = offset
        self._session = session
        self._exec_id = exec_id
        self._wanted = wanted

    def read(self, *, all_of_it: bool) -> Iterator[LogEntry]:
        """What has come since; from the beginning where the file was cut or made anew."""
        is_end = False
        while not is_end:
            page = self._session.ask(
                ReadLog(
                    exec_id=self._exec_id, query=self._wanted, offset=self.offset, all_of_it=all_of_it, must_fit=False
                )
            )
            self.offset, is_end = page.offset, page.is_end
            yield from page.entries
