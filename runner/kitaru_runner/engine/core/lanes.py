"""How many calls of a name execute at once: what is above the limit waits in a queue."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kitaru_runner.engine.core.pace import MACHINE, Pace


@dataclass(frozen=True, slots=True)
class Lane:
    """At most `limit` calls of this name execute at once. A call may be in several."""

    name: str
    limit: int


class Lanes:
    """What is above a lane's limit starts when one of it has ended, in order."""

    def __init__(self, pace: Pace = MACHINE) -> None:
        self.pace = pace
        self._lock = threading.Lock()
        self._busy: dict[str, int] = {}
        self._queues: dict[str, deque[Callable[[], None]]] = {}

    def enter(self, lane: Lane, start: Callable[[], None]) -> None:
        """Start now, or as soon as there is room. `leave` has to follow, by whoever was started."""
        with self._lock:
            busy = self._busy.get(lane.name, 0)
            if busy >= lane.limit:
                self._queues.setdefault(lane.name, deque()).append(start)
                return
            self._busy[lane.name] = busy + 1
        start()

    def leave(self, lane: Lane) -> None:
        with self._lock:
            waiting = self._queues.get(lane.name)
            following = waiting.popleft() if waiting else None
            if following is None:
                self._busy[lane.name] -= 1
        if following is not None:
            following()


class Slot:
    """A call's room in all its lanes. A pause between its tries gives that up."""

    def __init__(self, lanes: Lanes, of: Sequence[Lane]) -> None:
        self._lanes = lanes
        self._of = of
        self._held = 0

    def enter(self, start: Callable[[], None]) -> None:
        """Start when there is room in each lane, taken in order."""
        if self._held == len(self._of):
            start()
            return
        lane = self._of[self._held]

        def go_on() -> None:
            self._held += 1
            self.enter(start)

        self._lanes.enter(lane, go_on)

    def enter_again(self) -> None:
        """Wait for room."""
        if self._of:
            room = threading.Event()
            self.enter(room.set)
            self._lanes.pace.until(room.is_set)
            room.wait()

    def leave(self) -> None:
        while self._held:
            self._held -= 1
            self._lanes.leave(self._of[self._held])
