"""Waiting for an execution: until it has ended, or stands where only something from outside lets it go on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from kitaru.working import is_abandoned, look_after
from kitaru_registry.api.execution_requests import GetStanding, GetStatus
from kitaru_registry.errors import KitaruStateError
from kitaru_registry.models import ExecutionId
from kitaru_registry.records.states import ENDED, Status

if TYPE_CHECKING:
    from kitaru.session import Session

SHORTEST_POLL_SECONDS = 0.002
LONGEST_POLL_SECONDS = 0.05
POLL_SHARE = 0.05
"""What polling may add to the time that an execution takes."""

LOOK_AFTER_SECONDS = 1.0
"""How often a caller that waits makes sure that somebody works on it."""

LOOKS_WITHOUT_PROCESS = 3
"""After so many nobody is waited for any more: a process that ends or begins needs a moment."""

LOOKS_AT_A_FAULT = 2
"""After so many it is said what the machine lacks: it may be mended in a moment."""

SETTLED: frozenset[Status] = ENDED | {"waiting"}


def until(session: Session, exec_id: ExecutionId, wanted: frozenset[str], timeout: float | None = None) -> str:
    """Its status, once that is wanted, or after `timeout` seconds whatever it is.

    Raises:
        KitaruStateError: its process is gone, and nobody goes on with it.
    """
    deadline = None if timeout is None else time.monotonic() + timeout
    began = looked_at = time.monotonic()
    abandoned = faulty = 0
    while not is_in(session, exec_id, wanted, status := session.ask(GetStatus(exec_id=exec_id))):
        now = time.monotonic()
        if deadline is not None and now >= deadline:
            return status
        if now - looked_at > LOOK_AFTER_SECONDS:
            looked_at = now
            look_after(session, exec_id)
            abandoned = abandoned + 1 if is_abandoned(session, exec_id) else 0
            if abandoned == LOOKS_WITHOUT_PROCESS:
                raise stopped(exec_id)
            faulty = faulty + 1 if wanted == SETTLED and is_at_fault(session, exec_id) else 0
            if faulty == LOOKS_AT_A_FAULT:
                return status
        pause = min(max(SHORTEST_POLL_SECONDS, (now - began) * POLL_SHARE), LONGEST_POLL_SECONDS)
        time.sleep(pause if deadline is None else max(0.0, min(pause, deadline - now)))
    return status


def is_at_fault(session: Session, exec_id: ExecutionId) -> bool:
    return session.ask(GetStanding(exec_id=exec_id)).fault is not None


def is_in(session: Session, exec_id: ExecutionId, wanted: frozenset[str], status: str) -> bool:
    if status != "waiting" or status not in wanted:
        return status in wanted
    return session.ask(GetStanding(exec_id=exec_id)).stands_still


def stopped(exec_id: ExecutionId) -> KitaruStateError:
    return KitaruStateError(
        f"execution {exec_id} has stopped: its process is gone", hint=f"kitaru executions resume {exec_id}"
    )
