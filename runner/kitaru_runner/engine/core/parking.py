"""What is in flight, and when an execution parks: all that is left then are branches that stand at waits.

In flight is each try, each submitted call from its beginning to its end, and the thread of a synchronous body. A thread
that blocks, at a wait or at an outcome that another brings, steps aside; who ends its standing still counts it again
before it can be missed. Threads of the flow's own are in flight from their first call on. One of these that waits for
another thread, or runs a loop that rests, keeps nothing from parking: that is seen when it has been so for a while.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

from kitaru_registry.journal.entries import Answer
from kitaru_runner.engine.core.blocking import rests_on_its_loop
from kitaru_runner.engine.core.halting import Halting
from kitaru_runner.engine.core.loops import Loops
from kitaru_runner.engine.core.pace import Pace

REST_SECONDS = 0.05
"""How long threads that wait for others do so before their execution parks."""

LONGEST_LOOK_SECONDS = 1.0


class Parking:
    def __init__(self, halting: Halting, pace: Pace, loops: Loops, park: Callable[[], None]) -> None:
        """
        Args:
            park: tells that nothing can go on; it raises where the process is to end.
        """
        self.pace = pace
        self.park = park
        self._loops = loops
        self._halting = halting
        self._halted = threading.Event()
        self._lock = threading.RLock()
        self._condition = threading.Condition(self._lock)
        self._in_flight = 0
        # Threads that are in flight, and may step aside.
        self._owners: set[int] = set()
        # Those of them that count because they have called.
        self._counted: set[int] = set()
        # Key of a wait to whether its thread is to be counted again.
        self._standing: dict[str, bool] = {}
        self._answers: dict[str, Answer] = {}
        self._parked_at = -1
        # Since when nothing moved, and at which activity.
        self._rested = (-1, 0.0)
        self.activity = 0
        halting.hear(self._wake)

    def begin(self) -> None:
        with self._lock:
            self._in_flight += 1
            self.activity += 1

    def end(self) -> None:
        with self._lock:
            self._in_flight -= 1
            self.activity += 1
            if self._standing and self._in_flight <= len(self._owners):
                self._condition.notify_all()

    def own(self) -> None:
        """What `begin` counted is this thread."""
        with self._condition:
            self._owners.add(threading.get_ident())

    def disown(self) -> None:
        with self._condition:
            self._owners.discard(threading.get_ident())

    def count(self, ident: int) -> None:
        """A thread of the flow's own has called Kitaru: from now on the execution parks only when that stands too."""
        with self._condition:
            if ident not in self._owners:
                self._counted.add(ident)
                self._owners.add(ident)
                self.begin()

    def uncount(self, ident: int) -> None:
        """It has come to its end."""
        with self._condition:
            if ident in self._counted:
                self._counted.discard(ident)
                self._owners.discard(ident)
                self.end()

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
        """Let so much time pass, in flight; less where the attempt is halted."""
        self.begin()
        try:
            self.hold(seconds)
        finally:
            self.end()

    def rests(self) -> bool:
        """Whether nothing is in flight but threads that wait for others, or whose loops rest."""
        with self._lock:
            owners = list(self._owners)
            if self._in_flight != len(owners):
                return False
        of_loops = {side.thread for side in self._loops.running}
        return all(rests_on_its_loop(ident, of_loops) or self.pace.stands(ident) for ident in owners)

    @property
    def is_stood_at(self) -> bool:
        """Whether a thread stands at a wait."""
        return bool(self._standing)

    def answered(self, key: str, answer: Answer) -> None:
        """An answer has come (see journal.interface.Answers). Again, while nobody took it: that moves nothing."""
        with self._condition:
            if key not in self._answers:
                self.activity += 1
            self._answers[key] = answer
            if self._standing.get(key):
                self._standing[key] = False
                self._in_flight += 1
            self._condition.notify_all()
        self._loops.answered(key)

    def _wake(self, _: BaseException) -> None:
        """Let whoever stands look again: the attempt was halted."""
        self._halted.set()
        with self._condition:
            self._condition.notify_all()

    def hold(self, seconds: float) -> None:
        """Let a time pass in place, unless the attempt is halted."""
        self.pace.pause(seconds, self._halted)

    def stand_at(self, key: str) -> Answer:
        """Block this thread until the answer is there; park whenever nothing else is in flight."""
        # Beside a loop, that decides: its tasks are nothing that is counted here.
        beside_loop = False
        for side in self._loops.running:
            if side.thread != threading.get_ident():
                side.watch()
                beside_loop = True
        with self._condition:
            counted = self._standing[key] = self._step_aside()
        try:
            while True:
                with self._condition:
                    there, looks_after = partial(self._may_go_on, key, beside_loop), REST_SECONDS
                    while not there():
                        looks = self._owners and self._parked_at != self.activity
                        self.pace.wait(self._condition, there, looks_after if looks else None)
                        looks_after = min(2 * looks_after, LONGEST_LOOK_SECONDS)
                    if key in self._answers:
                        return self._answers.pop(key)
                    self._halting.check()
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
        return key in self._answers or self._halting.error is not None or (not beside_loop and self._should_park())

    def take(self, key: str) -> Answer | None:
        """The answer, if it has come and nobody took it."""
        with self._condition:
            return self._answers.pop(key, None)

    def _should_park(self) -> bool:
        if self._parked_at == self.activity:
            return False
        if not self._in_flight:
            return True
        now = self.pace.monotonic()
        if not self.rests():
            self._rested = (-1, now)
        elif self._rested[0] != self.activity:
            self._rested = (self.activity, now)
        return self._rested[0] == self.activity and now - self._rested[1] >= REST_SECONDS

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
