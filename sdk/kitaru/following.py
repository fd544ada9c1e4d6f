"""Following an execution: what it prints while it prints it, when it comes to wait, and how it ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from kitaru_registry.api.artifact_requests import LogQuery, ReadLog
from kitaru_registry.models import Execution, ExecutionId, LogEntry

if TYPE_CHECKING:
    from kitaru.client import KitaruClient

ENDED = frozenset({"completed", "failed", "cancelled"})

SHORTEST_PAUSE_SECONDS = 0.01
LONGEST_PAUSE_SECONDS = 0.25
LOOK_AFTER_SECONDS = 1.0

LOOKS_WITHOUT_PROCESS = 3
"""After so many it is said that nobody executes it: a process that was just started needs a moment."""


def follow(
    client: KitaruClient, exec_id: ExecutionId, *, wanted: LogQuery, offset: int, interval: float
) -> Iterator[LogEntry | Execution]:
    """Its log from an offset on, live, until it has ended.

    Between two lines comes the execution itself, whenever it has come to a wait, when nobody executes it any more, and
    last of all when it has ended; without its checkpoints, of which there may be very many.
    """
    tail = Tail(client, exec_id, wanted, offset)
    pause, waiting_for, looked_at, without_process = SHORTEST_PAUSE_SECONDS, None, time.monotonic(), 0
    while True:
        # The status first: what was printed before the end is then in the log.
        status = client.executions.status(exec_id)
        before = tail.offset
        yield from tail.read(all_of_it=status in ENDED)
        if status in ENDED:
            yield client.executions.brief(exec_id)
            return
        if status == "waiting":
            execution = client.executions.brief(exec_id)
            asked = tuple(wait.key for wait in execution.pending_waits)
            if execution.status == "waiting" and asked != waiting_for:
                waiting_for = asked
                yield execution
        else:
            waiting_for = None
        if time.monotonic() - looked_at > LOOK_AFTER_SECONDS:
            looked_at = time.monotonic()
            client.look_after(exec_id)
            is_idle = status != "waiting" and not client.runner.is_executed(exec_id)
            without_process = without_process + 1 if is_idle else 0
            if without_process == LOOKS_WITHOUT_PROCESS and (stopped := client.executions.brief(exec_id)).status_reason:
                yield stopped
        pause = SHORTEST_PAUSE_SECONDS if tail.offset != before else min(pause * 2, interval)
        time.sleep(min(pause, interval))


class Tail:
    """A place in a log that others write to."""

    def __init__(self, client: KitaruClient, exec_id: ExecutionId, wanted: LogQuery, offset: int) -> None:
        self.offset = offset
        self._client = client
        self._exec_id = exec_id
        self._wanted = wanted

    def read(self, *, all_of_it: bool) -> Iterator[LogEntry]:
        """What has come since; from the beginning where the file was cut or made anew."""
        is_end = False
        while not is_end:
            page = self._client.ask(
                ReadLog(
                    exec_id=self._exec_id, query=self._wanted, offset=self.offset, all_of_it=all_of_it, must_fit=False
                )
            )
            self.offset, is_end = page.offset, page.is_end
            yield from page.entries
