"""Numbers of a journal, each of which acts in its turn, whichever thread has it."""

from __future__ import annotations

import threading
from collections.abc import Callable

from kitaru_runner.engine.core.pace import MACHINE, Pace


class Turnstile:
    """Lets the holders of contiguous numbers act in order. Who comes early leaves its act behind for its turn."""

    def __init__(self, after: int, pace: Pace = MACHINE) -> None:
        self.passed = after
        """Up to this number all have."""
        self._pace = pace
        self._lock = threading.Lock()
        self._left: dict[int, tuple[int, Callable[[int], None] | None]] = {}
        # Each waits at a gate of its own: a hundred threads that all wake for every number cost more than their work.
        self._gates: dict[int, threading.Lock] = {}

    def pass_through(self, first: int, last: int, act: Callable[[int], None] | None = None) -> None:
        """Act, and pass up to `last`: now, or once all before `first` have passed. Never waits.

        Args:
            act: called with `last`, by whoever passes; no code of the user's, which might wait for another's turn.
        """
        with self._lock:
            if act is None and not self._left and self.passed == first - 1 and not self._gates:
                self.passed = last
                return
            self._left[first] = last, act
            while (following := self._left.pop(self.passed + 1, None)) is not None:
                self.passed, act = following
                if act is not None:
                    act(self.passed)
                gate = self._gates.pop(self.passed, None)
                if gate is not None:
                    gate.release()

    def wait_for(self, last: int) -> None:
        """Wait until that number has passed."""
        if self.passed >= last:
            return
        with self._lock:
            if self.passed >= last:
                return
            gate = self._gates[last] = threading.Lock()
            gate.acquire()
        self._pace.until(lambda: not gate.locked())
        gate.acquire()  # released by whoever lets this number pass
