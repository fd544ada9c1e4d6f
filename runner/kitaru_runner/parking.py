"""What is in flight, and when an execution parks: all that is left then are branches that stand at waits."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from kitaru_runner.protocol import Answer

if TYPE_CHECKING:
    from kitaru_runner.engine import Engine


class Parking:
    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._condition = threading.Condition()
        self._in_flight = 0
        self._standing: set[str] = set()
        self._answers: dict[str, Answer] = {}
        self.activity = 0

    def begin(self) -> None:
        with self._condition:
            self._in_flight += 1
            self.activity += 1

    def end(self) -> None:
        with self._condition:
            self._in_flight -= 1
            self.activity += 1
            if self._standing and not self._in_flight:
                self._condition.notify_all()

    @property
    def idle(self) -> bool:
        return self._in_flight == 0

    def answered(self, key: str, answer: Answer) -> None:
        """An answer has come (see protocol.Answers)."""
        with self._condition:
            self._answers[key] = answer
            self._condition.notify_all()
        side = self._engine.loop_side
        if side is not None:
            side.answered(key)

    def wake(self) -> None:
        """Let whoever stands look again: the engine was halted."""
        with self._condition:
            self._condition.notify_all()

    def stand_at(self, key: str) -> Answer:
        """Block this thread until the answer is there; park whenever nothing else is in flight."""
        parked_at = -1
        with self._condition:
            self._standing.add(key)
        try:
            while True:
                with self._condition:
                    there = partial(self._may_go_on, key, parked_at)
                    while not there():
                        self._engine.pace.wait(self._condition, there)
                    if key in self._answers:
                        return self._answers.pop(key)
                    self._engine.check_halted()
                    # Once, until something has moved again.
                    parked_at = self.activity
                # Not under the condition: the answer that park() waits for may come by another thread.
                self.park()
        finally:
            with self._condition:
                self._standing.discard(key)

    def _may_go_on(self, key: str, parked_at: int) -> bool:
        """Whether there is an answer, or a reason to raise, or to park."""
        moved = not self._in_flight and parked_at != self.activity
        return key in self._answers or self._engine.is_halted or moved

    def take(self, key: str) -> Answer | None:
        """The answer, if it has come and nobody took it."""
        with self._condition:
            return self._answers.pop(key, None)

    def park(self) -> None:
        self._engine.park()
