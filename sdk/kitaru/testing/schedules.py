"""An order of threads, tasks and times that follows from a seed.

One thread of an engine goes on at a time. Wherever it would block, or where the order of threads matters, it hands on:
the seed chooses among the threads that can go on and what may happen outside (an answer comes, a time is reached).
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import inspect
import selectors
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from math import ceil
from random import Random
from typing import Any, Protocol, TypeVar, TypeVarTuple, Unpack
from uuid import UUID

from kitaru_registry.clock import now_us
from kitaru_runner.context import current
from kitaru_runner.executing import Executing
from kitaru_runner.failures import ProcessEnded
from kitaru_runner.pacing import Pace

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

MOVE_SHARE = 0.2
"""How often something happens outside although a thread could go on."""

LONGEST_REST_SECONDS = 6.0
"""How long a loop at rest is asked to look again before time passes: longer than the engine's own patience."""


OUTSIDE_SECONDS = 0.01
"""How long a loop blocks, in the machine's time, for a thread, a process or a socket before it looks at the rest."""

QUIET_SECONDS = 1.0
"""How long a socket may be quiet, in the machine's time, before the test's passes: one that is kept open is quiet."""


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


class Line:
    """A thread that takes turns with others."""

    __slots__ = ("due_us", "go", "interrupted", "name", "outside", "there")

    def __init__(self, name: str) -> None:
        self.name = name
        self.go = threading.Semaphore(0)
        self.there: Callable[[], bool] = always
        self.due_us: int | None = None
        self.interrupted = False
        self.outside = False
        """What it waits for may come from outside of this process."""

    def may_go_on(self) -> bool:
        return self.interrupted or (self.due_us is not None and now_us() >= self.due_us) or self.there()


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
        # Some seeds let a thread go on for long, others switch at every point.
        self._stays = random.choice((0.0, 0.0, 0.5, 0.9))
        self._move_share = random.choice((0.0, MOVE_SHARE, MOVE_SHARE))
        self._time_share = random.choice((0.0, 0.1, 0.5))
        self.ended = False
        """The process has ended: whoever has its next turn hears so."""
        self.loop_factory = self._loop

    def run(self, body: Callable[[], T]) -> T:
        """Call it in this thread, which takes turns with those that it starts, until all of them have ended."""
        me = self._enlist(threading.get_ident(), "flow")
        try:
            return body()
        finally:
            self._until_alone(me)
            del self._lines[threading.get_ident()]
            if self._stuck is not None:
                raise self._stuck

    def end(self) -> None:
        self.ended = True

    # Pace

    def start(self, run: Callable[[], None], name: str, *, daemon: bool = False) -> threading.Thread:
        self._started += 1
        line = Line(f"{name} {self._started}")

        def in_turn() -> None:
            ident = threading.get_ident()
            line.go.acquire()
            try:
                if not self.ended:
                    run()
            except ProcessEnded:
                pass
            finally:
                del self._lines[ident]
                del self._by_thread[thread]
                self._hand_on(self._choose())

        thread = threading.Thread(target=in_turn, name=line.name, daemon=daemon)
        self._by_thread[thread] = line
        thread.start()
        assert thread.ident is not None
        self._lines[thread.ident] = line
        return thread

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
        assert isinstance(loop, SeededLoop)
        loop.at_rest.append((seconds, call))

    # Turns

    def _stand(self, there: Callable[[], bool], seconds: float | None = None) -> None:
        """Hand on, and come back when it is this thread's turn again, and `there` holds or the time is over."""
        me = self._lines.get(threading.get_ident())
        if me is None:
            return
        if self.ended:
            raise ProcessEnded
        self._turns += 1
        if self._turns > TURNS and self._stuck is None:
            self._stuck = Stuck(f"no end after {TURNS} turns: {', '.join(line.name for line in self._lines.values())}")
            self.end()
            raise ProcessEnded
        me.there = there
        me.due_us = None if seconds is None else now_us() + ceil(seconds * 1_000_000)
        following = me if self._random.random() < self._stays and me.may_go_on() else self._choose()
        if following is not me:
            self._hand_on(following)
            me.go.acquire()
        me.there, me.due_us = always, None
        if self.ended:
            raise ProcessEnded
        if me.interrupted:
            me.interrupted = False
            raise TimeoutError

    def _choose(self) -> Line | None:
        while self._lines:
            lines = list(self._lines.values())
            if self.ended:
                return lines[-1]
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
            else:
                self._stuck = Stuck(f"nothing can go on: {', '.join(line.name for line in lines)}")
                self.end()
        return None

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

    def _hand_on(self, line: Line | None) -> None:
        if line is not None:
            line.go.release()

    def _until_alone(self, me: Line) -> None:
        while len(self._lines) > 1:
            me.there, me.due_us = self._is_alone, None
            following = self._choose()
            if following is not me:
                self._hand_on(following)
                me.go.acquire()

    def _is_alone(self) -> bool:
        return len(self._lines) == 1

    def _enlist(self, ident: int, name: str) -> Line:
        line = self._lines[ident] = Line(name)
        return line

    def _loop(self) -> asyncio.AbstractEventLoop:
        return SeededLoop(self, self._random)


def always() -> bool:
    return True


class SeededLoop(asyncio.SelectorEventLoop):
    """An event loop by the clock of the test, on which a checkpoint's body takes as long as the seed says.

    The flow's own tasks go on as asyncio has them: their order follows from what they are given.
    """

    _ready: Any
    _selector: Any

    def __init__(self, schedule: Schedule, random: Random) -> None:
        self._random = random
        self.at_rest: list[tuple[float, Callable[[], None]]] = []
        """To be called once nothing is ready, as if so many seconds had passed."""
        super().__init__(TurnSelector(self))
        self._schedule = schedule
        self._began_us = now_us()
        self._clock_resolution = 1e-6
        self._rested_seconds = 0.0
        self._looks_again = False
        self._postponed: list[Any] = []
        self._in_threads = 0
        self._processes: list[asyncio.SubprocessTransport] = []
        self._heard_at = time.monotonic()

    def time(self) -> float:
        return (now_us() - self._began_us) / 1_000_000

    def _run_once(self) -> None:
        if not self._schedule.ended:
            self._postpone()
        super()._run_once()  # type: ignore[misc]  # not in typeshed

    def _postpone(self) -> None:
        """Hold back some of the steps within checkpoints, and let others go on that were held back."""
        ready = list(self._ready)
        self._ready.clear()
        back = [handle for handle in self._postponed if self._random.random() < 0.5]
        self._postponed = [handle for handle in self._postponed if handle not in back]
        for handle in ready:
            if is_in_checkpoint(handle) and self._random.random() < 0.5:
                self._postponed.append(handle)
            else:
                self._ready.append(handle)
        self._ready.extend(back)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        if executor is not None:
            future = super().run_in_executor(executor, func, *args)
            self._in_threads += 1
            future.add_done_callback(self._thread_ended)
            return future
        return asyncio.wrap_future(self._in_turn(lambda: func(*args)), loop=self)

    def _in_turn(self, call: Callable[[], T]) -> concurrent.futures.Future[T]:
        """Where `asyncio.to_thread` runs: in a thread that takes turns too."""
        future: concurrent.futures.Future[T] = concurrent.futures.Future()

        def run() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                value = call()
            except ProcessEnded:
                raise
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(value)

        self._schedule.start(run, "executor", daemon=True)
        return future

    def _thread_ended(self, _: object) -> None:
        self._in_threads -= 1

    async def subprocess_exec(self, *args: Any, **kwargs: Any) -> Any:
        transport, protocol = await super().subprocess_exec(*args, **kwargs)
        self._processes.append(transport)
        return transport, protocol

    async def subprocess_shell(self, *args: Any, **kwargs: Any) -> Any:
        transport, protocol = await super().subprocess_shell(*args, **kwargs)
        self._processes.append(transport)
        return transport, protocol

    @property
    def _sockets(self) -> int:
        # The loop itself has one, to be woken by.
        return len(self._selector.get_map()) - 1

    def _is_busy_outside(self) -> bool:
        """Whether threads, processes or sockets of the flow's are at work, for which no time of the test's passes."""
        if self._in_threads or any(process.get_returncode() is None for process in self._processes):
            return True
        return self._sockets > 0 and time.monotonic() - self._heard_at < QUIET_SECONDS

    def heard(self, events: int) -> None:
        """So many sockets have something to say; its own, too."""
        if events:
            self._heard_at = time.monotonic()

    def stand(self, timeout: float | None) -> float:
        """Nothing is ready: let the others go on, until something is. Seconds of the machine's time to block then."""
        if timeout == 0:
            if not self._looks_again:
                self._rested_seconds = 0.0
            self._looks_again = False
        elif self.at_rest and self._rested_seconds < min(LONGEST_REST_SECONDS, timeout or LONGEST_REST_SECONDS):
            self._looks_again = True
            calls, self.at_rest = self.at_rest, []
            for seconds, call in calls:
                self._rested_seconds += seconds
                self.call_soon(call)
        elif self._postponed:
            self._ready.append(self._postponed.pop(self._random.randrange(len(self._postponed))))
        else:
            self._rested_seconds = 0.0
            if self._is_busy_outside():
                self._schedule.point()
                return OUTSIDE_SECONDS
            outside = self._sockets > 0
            self._schedule.until_from_outside(lambda: bool(self._ready), timeout, outside=outside)
            return OUTSIDE_SECONDS if outside and not self._ready else 0.0
        return 0.0

    def close(self) -> None:
        if self._schedule.ended:
            # What a process that ends has not begun yet is nothing to warn of.
            for task in asyncio.all_tasks(self):
                coroutine = task.get_coro()
                if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
                    coroutine.close()
        super().close()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        # Tasks of a process that has ended are just gone.
        if not self._schedule.ended:
            super().call_exception_handler(context)


def is_in_checkpoint(handle: Any) -> bool:
    if not isinstance(getattr(handle._callback, "__self__", None), asyncio.Task):
        return False
    branch = handle._context.get(current)
    return branch is not None and branch.call is not None


class TurnSelector(selectors.DefaultSelector):
    """What a loop waits with."""

    def __init__(self, loop: SeededLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        found = super().select(self._loop.stand(timeout))
        self._loop.heard(len(found))
        return found
