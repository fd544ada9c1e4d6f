"""An order of threads, tasks and times that follows from a seed.

One thread of an engine goes on at a time. Wherever it would block, or where the order of threads matters, it hands on:
the seed chooses among the threads that can go on and what may happen outside (an answer comes, a time is reached).
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable, Iterable
from math import ceil
from queue import Empty
from random import Random
from types import FrameType
from typing import Any, Protocol, TypeVar
from uuid import UUID

from kitaru.testing.lines import Line, always, is_users
from kitaru.testing.loops import SeededLoop
from kitaru.testing.own_threads import others_at_work, own_threads, turns
from kitaru_registry.clock import now_us
from kitaru_runner.engine.core.blocking import frames_of_threads
from kitaru_runner.engine.core.calls import current
from kitaru_runner.engine.core.interrupts import Executing
from kitaru_runner.engine.core.pace import Pace
from kitaru_runner.values.failures import ProcessEnded, is_ours

T = TypeVar("T")

MOVE_SHARE = 0.2
"""How often something happens outside although a thread could go on."""

LOOK_SECONDS = 0.05
"""How often those who wait for a turn look whether the one who has it blocks, in the machine's time."""

BLOCKED_SECONDS = 0.25
"""A thread that is in the same place for so long, in the machine's time, blocks, as for a lock: others go on."""

IDLE_SECONDS = 0.001
"""How long all stand still, in the machine's time, until a thread's own time-out is looked at again."""

TURNS = 200_000
"""More than these in one attempt, and it goes round and round."""


class Stuck(AssertionError):
    """Nothing can go on, and nothing that may come would change that; or what goes on comes to no end."""


class World(Protocol):
    """What happens outside of an execution's process."""

    def moves(self) -> list[Callable[[], None]]:
        """What may happen now; in the same order whenever the seed is the same."""

    def next_due_us(self) -> int | None:
        """When the next time comes that somebody waits for."""

    def move_clock(self, to_us: int) -> bool:
        """Let it be that time; whether anything was due."""


class Schedule(Pace):
    """Turns for the threads of one attempt."""

    def __init__(self, random: Random, world: World) -> None:
        self._random = random
        self._world = world
        self._lines: dict[int, Line] = {}
        self._by_thread: dict[threading.Thread, Line] = {}
        self._started = 0
        self._turns = 0
        self._stuck: Stuck | None = None
        self._deciding = threading.Lock()
        self._holder: Line | None = None
        # Where the one that has the turn was when it was looked at, and since when.
        self._seen: tuple[object, float] = (None, 0.0)
        self._body_is_over = False
        self._main = threading.current_thread()
        self._before = frozenset(frames_of_threads())
        # Some seeds let a thread go on for long, others switch at every point.
        self._stays = random.choice((0.0, 0.0, 0.5, 0.9))
        self._move_share = random.choice((0.0, MOVE_SHARE, MOVE_SHARE))
        self._time_share = random.choice((0.0, 0.1, 0.5))
        self.ended = False
        """The process has ended: whoever has its next turn hears so."""
        self.loop_factory = self._loop

    def run(self, body: Callable[[], T]) -> T:
        """Call it in this thread, which takes turns with those that it starts, until all of them have ended."""
        own_threads.begin()
        self._main = threading.current_thread()
        self._before = frozenset(frames_of_threads())
        me = Line("flow")
        me.is_main = True
        self._enlist(threading.get_ident(), me)
        self._holder = me
        try:
            return body()
        finally:
            self._body_is_over = True
            self._until_alone(me)
            self._strike_off(threading.get_ident())
            own_threads.end()
            if self._stuck is not None:
                raise self._stuck

    def end(self) -> None:
        self.ended = True

    # Pace

    def start(self, run: Callable[[], None], name: str, *, daemon: bool = False) -> threading.Thread:
        thread = threading.Thread(target=run, name=name, daemon=daemon)
        self.adopt(thread, thread.start)
        return thread

    def adopt(self, thread: threading.Thread, start: Callable[[], None]) -> None:
        """Start a thread that takes turns with the others from its beginning to its end."""
        self._started += 1
        line = Line(f"{thread.name} {self._started}")
        run = thread.run

        def in_turn() -> None:
            ident = threading.get_ident()
            self._take(line)
            try:
                if not self.ended:
                    run()
            except ProcessEnded:
                pass
            finally:
                self._by_thread.pop(thread, None)
                with self._deciding:
                    has_turn = self._strike_off(ident) and not line.is_away
                if has_turn:
                    self._hand_on(self._choose())

        thread.run = in_turn  # type: ignore[method-assign]
        self._by_thread[thread] = line
        own = self._lines.get(threading.get_ident())
        if own is not None:
            own.is_blind = True
        try:
            start()
        finally:
            if own is not None:
                own.is_blind = False
        assert thread.ident is not None
        self._enlist(thread.ident, line)

    def start_unawaited(self, run: Callable[[], None], name: str) -> None:
        # It waits for its turn anyway.
        self.start(run, name)

    def point(self) -> None:
        self._stand(always)

    def until(self, there: Callable[[], bool], timeout: float | None = None) -> float | None:
        if threading.get_ident() not in self._lines:
            return timeout
        self._stand(there, timeout)
        return None if timeout is None else 0.0

    def until_from_outside(self, there: Callable[[], bool], timeout: float | None, *, outside: bool) -> None:
        """`until`; where nothing else helps, it comes back at once if what it waits for may come from outside."""
        line = self._lines.get(threading.get_ident())
        if line is not None:
            line.outside = outside
            self._stand(there, timeout)
            line.outside = False

    def block(self, line: Line, there: Callable[[], bool], seconds: float | None) -> bool:
        """Let the others go on until that holds, or the machine's time is over; False: wait without this schedule."""
        line.blocks = True
        line.is_idle = is_idle(sys._getframe(1))
        line.machine_due = None if seconds is None else time.monotonic() + seconds
        try:
            self._stand(there)
        finally:
            line.blocks = line.is_idle = False
            line.machine_due = None
        return not line.is_left

    def wait(self, condition: threading.Condition, there: Callable[[], bool], timeout: float | None = None) -> None:
        if threading.get_ident() not in self._lines:
            condition.wait(timeout)
            return
        condition.release()
        try:
            self._stand(there, timeout)
        finally:
            condition.acquire()

    def monotonic(self) -> float:
        return now_us() / 1_000_000

    def pause(self, seconds: float, ended: threading.Event) -> bool:
        self._stand(ended.is_set, seconds)
        return ended.is_set()

    def interrupt(self, thread: threading.Thread, executing: Executing) -> None:
        line = self._by_thread.get(thread)
        if line is not None:
            line.interrupted = True

    def noted(self, name: str, make: Callable[[], Any]) -> Any:
        if name == "random":
            return self._random.random()
        return UUID(int=self._random.getrandbits(128), version=4) if name == "uuid4" else make()

    def stands(self, thread: int) -> bool:
        line = self._lines.get(thread)
        if line is None:
            return super().stands(thread)
        return line.due_us is None and not line.may_go_on()

    def later(self, loop: asyncio.AbstractEventLoop, seconds: float, call: Callable[[], None]) -> None:
        if isinstance(loop, SeededLoop):
            loop.at_rest.append((seconds, call))
        else:  # one that was made before, or elsewhere
            super().later(loop, seconds, call)

    # Turns

    def _stand(self, there: Callable[[], bool], seconds: float | None = None) -> None:
        """Hand on, and come back when it is this thread's turn again, and `there` holds or the time is over."""
        me = self._lines.get(threading.get_ident())
        if me is None:
            return
        with self._deciding:
            has_turn, me.is_away = not me.is_away, False
            me.is_standing = True
            me.there = there
            me.due_us = None if seconds is None else now_us() + ceil(seconds * 1_000_000)
        me.branch = current.get()
        try:
            if has_turn:
                self._stop_endless()
                if self.ended and not me.is_idle:
                    raise ProcessEnded
                following = me if self._random.random() < self._stays and me.may_go_on() else self._choose()
                if following is not me:
                    self._hand_on(following)
                    self._take(me)
            else:
                self._take(me)
        finally:
            me.there, me.due_us, me.is_standing = always, None, False
        if self.ended and not me.is_left:
            raise ProcessEnded
        if me.interrupted:
            me.interrupted = False
            raise TimeoutError

    def _stop_endless(self) -> None:
        self._turns += 1
        if self._turns > TURNS and self._stuck is None:
            self._stuck = Stuck(f"no end after {TURNS} turns: {', '.join(line.name for line in self._lines.values())}")
            self.end()

    def _choose(self) -> Line | None:
        began = time.monotonic()
        while self._lines:
            lines = list(self._lines.values())
            if self.ended:
                self._leave(lambda line: line.is_idle or line.is_away)
                return next(reversed(self._lines.values()), None)
            # First: one that comes back meanwhile is looked at again.
            some_may_come = any(line.machine_due is not None or line.is_away for line in lines)
            ready = [line for line in lines if line.may_go_on()]
            looks = not ready or self._random.random() < self._move_share
            moves = self._world.moves() if looks else []
            if looks and self._random.random() < self._time_share and self._let_time_pass(lines):
                continue
            if moves:
                self._random.choice(moves)()
            elif ready:
                return self._random.choice(ready)
            elif self._let_time_pass(lines):
                continue
            elif outside := [line for line in lines if line.outside]:
                return outside[0]
            elif self._body_is_over and self._leave(lambda line: line.blocks or line.is_away):
                continue
            elif some_may_come or self._waits_for_others(lines, time.monotonic() - began):
                time.sleep(IDLE_SECONDS)
            else:
                said = "; ".join(line.where(ident) for ident, line in list(self._lines.items()))
                self._stuck = Stuck(f"nothing can: {said}")
                self.end()
        return None

    def _waits_for_others(self, lines: list[Line], seconds: float) -> bool:
        """Whether somebody blocks, and threads that take no turns are at work, or may yet begin."""
        blocks = any(line.blocks for line in lines)
        return blocks and (seconds < BLOCKED_SECONDS or others_at_work({*self._by_thread, self._main}, self._before))

    def _let_time_pass(self, lines: list[Line]) -> bool:
        """Go on to the next time that anybody waits for; False: there is none."""
        now = now_us()
        outside = self._world.next_due_us()
        if outside is not None and outside <= now:
            return self._world.move_clock(now)
        dues = [line.due_us for line in lines if line.due_us is not None and line.due_us > now]
        to = min([*dues, *([] if outside is None else [outside])], default=None)
        if to is not None:
            self._world.move_clock(to)
        return to is not None

    def _leave(self, which: Callable[[Line], bool]) -> bool:
        """Let those threads go their own ways; whether there were any."""
        found = [(ident, line) for ident, line in list(self._lines.items()) if which(line) and not line.is_main]
        for ident, line in found:
            self._strike_off(ident)
            line.is_left = True
            line.go.put(None)
        return bool(found)

    def _hand_on(self, line: Line | None) -> None:
        if line is not None:
            self._holder = line
            line.go.put(None)

    def _take(self, me: Line) -> None:
        """Wait for the turn."""
        while True:
            try:
                return me.go.get(timeout=LOOK_SECONDS)
            except Empty:
                self._take_from_blocked()

    def _take_from_blocked(self) -> None:
        """Let another one go on where the one that has the turn blocks, such as for a lock."""
        with self._deciding:
            holder = self._holder
            if holder is None or holder.is_standing or holder.is_away or not self._is_blocked(holder):
                return
            ready = [line for line in self._lines.values() if line is not holder and line.may_go_on()]
            if ready or self.ended:
                holder.is_away = True
                self._hand_on(self._random.choice(ready) if not self.ended else self._choose())

    def _is_blocked(self, holder: Line) -> bool:
        ident = next((ident for ident, line in list(self._lines.items()) if line is holder), 0)
        frame = frames_of_threads().get(ident)
        place = None if frame is None else (id(frame), frame.f_lasti)
        now = time.monotonic()
        if frame is None or place != self._seen[0]:
            self._seen = (place, now)
        return frame is not None and now - self._seen[1] > BLOCKED_SECONDS and not is_ours(frame)

    def _until_alone(self, me: Line) -> None:
        if me.is_away:
            me.is_away = False
            self._take(me)
        while len(self._lines) > 1:
            me.there, me.due_us, me.is_standing = self._is_alone, None, True
            following = self._choose()
            if following is not me:
                self._hand_on(following)
                self._take(me)

    def _is_alone(self) -> bool:
        return len(self._lines) == 1

    def _enlist(self, ident: int, line: Line) -> None:
        self._lines[ident] = line
        turns[ident] = (self, line)

    def _strike_off(self, ident: int) -> bool:
        """Whether that thread took turns here until now."""
        if self._lines.pop(ident, None) is None:
            return False
        del turns[ident]
        return True

    def turns_all(self, threads: Iterable[object]) -> bool:
        """Whether all of these threads take turns here."""
        return all(thread in self._by_thread for thread in threads)

    @property
    def for_loops(self) -> tuple[Schedule, Random]:
        return self, self._random

    def _loop(self) -> asyncio.AbstractEventLoop:
        return SeededLoop(self, self._random)


def is_idle(frame: FrameType | None) -> bool:
    """Whether nothing but the standard library's code is under way, down to where the thread begins."""
    while frame is not None:
        if is_users(frame):
            return False
        frame = frame.f_back
    return True
