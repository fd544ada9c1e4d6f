"""What is in flight, and when an execution parks: all that is left then are branches that stand at waits.

In flight is each try, each submitted call from its beginning to its end, and the thread of a synchronous body. A thread
that blocks, at a wait or at an outcome that another brings, steps aside; who ends its standing still counts it again
before it can be missed.
"""

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
        self.pace = engine.pace
        self._halted = threading.Event()
        self._lock = threading.RLock()
        self._condition = threading.Condition(self._lock)
        self._in_flight = 0
        # Threads that are in flight, and may step aside.
        self._owners: set[int] = set()
        # Key of a wait to whether its thread is to be counted again.
        self._standing: dict[str, bool] = {}
        self._answers: dict[str, Answer] = {}
        self._parked_at = -1
        self.activity = 0

    def begin(self) -> None:
        with self._lock:
            self._in_flight += 1
            self.activity += 1

    def end(self) -> None:
        with self._lock:
            self._in_flight -= 1
            self.activity += 1
            if self._standing and not self._in_flight:
                self._condition.notify_all()

    def own(self) -> None:
        """What `begin` counted is this thread."""
        with self._condition:
            self._owners.add(threading.get_ident())

    def disown(self) -> None:
        with self._condition:
            self._owners.discard(threading.get_ident())

    def aside(self) -> Aside:
        """This thread is about to block: until `back`, it does not keep the execution from parking."""
        with self._condition:
            return Aside(self, threading.get_ident(), self._step_aside())

    def back(self, ident: int) -> None:
        """Count a thread again that has stepped aside."""
        with self._condition:
            self._in_flight += 1
            self.activity += 1
            self._owners.add(ident)

    def pause(self, seconds: float) -> None:
        """Let so much time pass, in flight; less where the engine is halted."""
        self.begin()
        try:
            self.hold(seconds)
        finally:
            self.end()

    @property
    def idle(self) -> bool:
        return self._in_flight == 0

    @property
    def is_stood_at(self) -> bool:
        """Whether a thread stands at a wait."""
        return bool(self._standing)

    def answered(self, key: str, answer: Answer) -> None:
        """An answer has come (see protocol.Answers). Again, while nobody took it: that moves nothing."""
        with self._condition:
            if key not in self._answers:
                self.activity += 1
            self._answers[key] = answer
            if self._standing.get(key):
                self._standing[key] = False
                self._in_flight += 1
            self._condition.notify_all()
        side = self._engine.loop_side
        if side is not None:
            side.answered(key)

    def wake(self) -> None:
        """Let whoever stands look again: the engine was halted."""
        self._halted.set()
        with self._condition:
            self._condition.notify_all()

    def hold(self, seconds: float) -> None:
        """Let a time pass in place, unless the engine is halted."""
        self.pace.pause(seconds, self._halted)

    def stand_at(self, key: str) -> Answer:
        """Block this thread until the answer is there; park whenever nothing else is in flight."""
        side = self._engine.loop_side
        # Beside a loop, that decides: its tasks are nothing that is counted here.
        beside_loop = side is not None and side.watch_from_thread()
        with self._condition:
            counted = self._standing[key] = self._step_aside()
        try:
            while True:
                with self._condition:
                    there = partial(self._may_go_on, key, beside_loop)
                    while not there():
                        self.pace.wait(self._condition, there)
                    if key in self._answers:
                        return self._answers.pop(key)
                    self._engine.check_halted()
                    # Once, until something has moved again.
                    self._parked_at = self.activity
                # Not under the condition: the answer that park() waits for may come by another thread.
                self.park()
        finally:
            with self._condition:
                if self._standing.pop(key):
                    self._in_flight += 1
                if counted:
                    self._owners.add(threading.get_ident())

    def _may_go_on(self, key: str, beside_loop: bool) -> bool:
        """Whether there is an answer, or a reason to raise, or to park."""
        return key in self._answers or self._engine.is_halted or (not beside_loop and self._should_park())

    def take(self, key: str) -> Answer | None:
        """The answer, if it has come and nobody took it."""
        with self._condition:
            return self._answers.pop(key, None)

    def park(self) -> None:
        self._engine.park()

    def _should_park(self) -> bool:
        return not self._in_flight and self._parked_at != self.activity

    def _step_aside(self) -> bool:
        ident = threading.get_ident()
        if ident not in self._owners:
            return False
        self._owners.discard(ident)
        self.end()
        return True


class Aside:
    """A thread that has stepped aside, if it was counted; any thread may call it back, once."""

    __slots__ = ("_counted", "_ident", "_parking")

    def __init__(self, parking: Parking, ident: int, counted: bool) -> None:
        self._parking = parking
        self._ident = ident
        self._counted = [None] if counted else []

    def back(self, _: object = None) -> None:
        try:
            self._counted.pop()
        except IndexError:
            return
        self._parking.back(self._ident)
