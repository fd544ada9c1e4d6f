"""How long a runner leaves alone what its machine cannot execute: longer with each fault in a row, to a limit."""

from __future__ import annotations

import threading

from kitaru_registry.executions.ending import pause_after


class Faults:
    """Of one runner. What has them is a snapshot, where nothing of it can be executed, or an execution."""

    def __init__(self) -> None:
        self._in_a_row: dict[str, int] = {}
        self._lock = threading.Lock()

    def pause_seconds(self, of: str) -> float:
        """After one more fault: until the next try."""
        with self._lock:
            self._in_a_row[of] = self._in_a_row.get(of, 0) + 1
            return pause_after(self._in_a_row[of])

    def over(self, of: str) -> None:
        """It could be executed."""
        with self._lock:
            self._in_a_row.pop(of, None)
